// Looks at a laid-out page of `eyekern compare`.
// window.wanted has the differences of the arms, their names, and how many predictions differ.
checked((check, all) => {
  const cells = (id) => all(`#${id} tr`).slice(1).map((row) => all("td", row).map((cell) => cell.textContent));
  check(cells("arms").map((row) => row[0]).join() === wanted.arms.join(), "the arms are", cells("arms").map((row) => row[0]).join());
  check(cells("comparisons").length === wanted.differences.length, "comparisons:", cells("comparisons").length);
  const plots = all("#forest svg");
  check(plots.length === 1, "forest plots:", plots.length);
  for (const svg of plots) {
    const { width, height } = svg.viewBox.baseVal;
    for (const shape of all("circle, text, line", svg)) {
      const box = shape.getBBox();
      if (box.x < -1 || box.y < -1 || box.x + box.width > width + 1 || box.y + box.height > height + 1)
        check(false, "the plot is left by", shape.outerHTML.slice(0, 120));
    }
    // the place of a difference by the numbers of the axis
    const axis = all("text[text-anchor=middle]", svg).map((text) => [Number(text.textContent), text.x.baseVal[0].value]);
    const [low, high] = [axis[0], axis.at(-1)];
    const value = (x) => low[0] + ((x - low[1]) / (high[1] - low[1])) * (high[0] - low[0]);
    const points = all("circle", svg).map((circle) => value(circle.cx.baseVal.value));
    check(points.length === wanted.differences.length, "differences in the plot:", points.length);
    points.forEach((point, i) => check(Math.abs(point - wanted.differences[i]) < 0.1, "the difference of arm", i + 1, "is drawn at", point));
  }
  const rows = all("#rows .row");
  check(rows.length === wanted.rows, "predictions that differ:", rows.length);
  rows.forEach((row) => check(all("pre", row).length === 3 && all("pre", row).every((pre) => pre.getBoundingClientRect().height > 10), "texts of a row"));
  const [left, right] = rows.length ? all("pre", rows[0]).map((pre) => pre.getBoundingClientRect()) : [];
  check(innerWidth < 1000 || !left || left.right <= right.left, "the predictions are not side by side");
});
