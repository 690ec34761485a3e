// Looks at a laid-out page of `eyekern report`.
// window.wanted has what the run was: losses by step, evaluations, how many steps go to a point.
checked((check, all) => {
  check(all("#evaluations tr").length === (wanted.evaluations ? wanted.evaluations + 1 : 0), "evaluations:", all("#evaluations tr").length);
  check(all("#evaluations .best").length === Math.min(1, wanted.evaluations), "the best evaluation is not marked");
  check(all("#recipe pre")[0]?.textContent.includes(wanted.recipe) ?? !wanted.recipe, "the recipe is not shown");
  const charts = all(".charts svg");
  check(charts.length === wanted.charts, "charts:", charts.length);
  for (const svg of charts) {
    const { width, height } = svg.viewBox.baseVal, name = svg.querySelector("title").textContent;
    check(svg.getBoundingClientRect().height > 150, name, "is not to be seen");
    for (const shape of all("polyline, polygon, circle, text, line", svg)) {
      const box = shape.getBBox();
      if (box.x < -1 || box.y < -1 || box.x + box.width > width + 1 || box.y + box.height > height + 1)
        check(false, name, "leaves the picture:", shape.outerHTML.slice(0, 120));
    }
    const texts = all("text", svg).map((text) => [text.getBBox(), text.textContent]);
    texts.forEach(([a, one], i) => texts.slice(i + 1).forEach(([b, other]) => {
      const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
      check(apart, name, "has texts upon one another:", one, "and", other);
    }));
  }
  // the curve is that of the losses, by the numbers of its axis
  const loss = charts[0], axis = all("text[text-anchor=end]", loss ?? document).filter((t) => t.textContent !== "step");
  if (wanted.losses) {
    const [low, high] = [axis[0], axis.at(-1)].map((t) => [Number(t.textContent), t.y.baseVal[0].value - 4]);
    const value = (y) => low[0] + ((y - low[1]) / (high[1] - low[1])) * (high[0] - low[0]);
    const points = [...(all('polyline[stroke="#0072b2"]', loss)[0]?.points ?? [])];
    check(points.length === wanted.losses.length, "points of the loss:", points.length);
    const room = (Math.max(...wanted.losses) - Math.min(...wanted.losses)) / 100;
    points.forEach((p, i) => {
      if (!(Math.abs(value(p.y) - wanted.losses[i]) <= room)) check(false, "the loss of point", i + 1, "is", value(p.y), "not", wanted.losses[i]);
    });
    check(all("circle", loss).length === wanted.evaluations, "dots of evaluations:", all("circle", loss).length);
    check(all('line[stroke="#d55e00"]', charts[wanted.gradient]).length === wanted.clipped, "marks of clipped steps:", all('line[stroke="#d55e00"]', charts[wanted.gradient]).length);
  }
  check(document.querySelector("main").textContent.includes("steps to a point") === wanted.together, "the page does not say what it puts together");
});
