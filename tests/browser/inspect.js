// Looks at a laid-out page of `eyekern inspect`, behind the page's own script.
checked((check, all) => {
  const near = (point, rects) =>
    [...rects].some((r) => point.x > r.left - 2 && point.x < r.right + 2 && point.y > r.top - 4 && point.y < r.bottom + 4);

  // arrows: one from each token of a path to the next, starting and ending on them
  let arrows = 0;
  for (const code of all(".code")) {
    const stops = all(".t.p", code), hops = all("path.hop", code);
    check(hops.length === Math.max(0, stops.length - 1), "arrows:", hops.length, "for", stops.length, "stops");
    check(all("path.tip", code).length === hops.length, "arrowheads:", all("path.tip", code).length);
    hops.forEach((hop, i) => {
      const [from, to] = [stops[i], stops[i + 1]];
      check(hop.dataset.from === from.id && hop.dataset.to === to.id, "arrow", i, "joins", hop.dataset.from, hop.dataset.to);
      const at = (length) => hop.getPointAtLength(length).matrixTransform(hop.getScreenCTM());
      check(near(at(0), from.getClientRects()), "arrow", i, "does not start on", from.id);
      check(near(at(hop.getTotalLength()), to.getClientRects()), "arrow", i, "does not end on", to.id);
      const run = from.dataset.s === to.dataset.s;
      check(hop.classList.contains("run") === run, "arrow", i, "is not of its segment");
    });
    arrows += hops.length;
    const numbers = all("b[data-n]", code).map((b) => getComputedStyle(b, "::before").content.replaceAll('"', ""));
    check(numbers.every((n, i) => Number(n) === i + 1), "numbers:", numbers);
  }
  check(arrows > 20, "arrows in all:", arrows);

  // every token within the width of the page
  for (const token of all(".t")) {
    for (const r of token.getClientRects()) {
      if (r.left < 0 || r.right > innerWidth + 1) check(false, "outside the window:", token.textContent);
    }
  }

  // cards, by mouse and by keyboard
  const card = document.getElementById("card"), learned = all(".row > pre .t");
  check(card.hidden, "a card is open before anything is pointed at");
  check(learned.length > 50 && learned.every((t) => t.dataset.card && !t.title), "tokens without a card");
  const on = learned.find((t) => t.classList.contains("p"));
  on.scrollIntoView();
  on.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
  check(!card.hidden, "no card where the mouse is");
  for (const name of ["token id", "bytes", "weight", "label", "scan path", "n-gram"]) {
    check(all("dt", card).some((dt) => dt.textContent === name), "the card lacks", name);
  }
  check(/^[\d.]+ = [\d.]+ base \+ [\d.]+ rarity \+ [\d.]+ semantic$/.test(all("dd", card)[2].textContent), "parts:", all("dd", card)[2].textContent);
  const box = card.getBoundingClientRect();
  check(box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight, "the card is outside the window");
  check(document.getElementById(on.dataset.like).classList.contains("hit"), "the token behind the subword is not marked");
  on.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
  check(card.hidden && !document.querySelector(".hit"), "the card stays");
  for (const token of learned) {
    token.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
    const { left, right } = card.getBoundingClientRect();
    if (left < 0 || right > innerWidth) check(false, "the card leaves the window at", token.textContent);
    token.dispatchEvent(new MouseEvent("mouseout", { bubbles: true }));
  }
  const first = learned.find((t) => t.tabIndex === 0);
  first.focus();
  check(document.activeElement === first && !card.hidden, "no card where the focus is");
  first.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  check(document.activeElement === first.nextElementSibling, "the arrow key does not go on");
  document.activeElement.blur();

  // what is meant as text is text, what is meant as a mark is there
  check(learned.map((t) => t.textContent).join("").includes("<\/script><img src=x onerror=alert(1)>"), "hostile text is not shown");
  check(all(".cut").length === 1 && all(".cut + s")[0]?.textContent.length > 10, "the cut is not marked");
  check(all(".row > pre .end").length === all(".row").length - 1, "EOS marks:", all(".row > pre .end").length);
  check(all("details").every((d) => !d.open) && all("details .m").length > 50, "prompts are not folded away");
  check(all("#histogram rect").length > 20, "histogram:", all("#histogram rect").length);
  const colours = new Set(learned.map((t) => getComputedStyle(t).backgroundColor));
  check(colours.size >= 4, "colours:", ...colours);

  // arrows can be put away
  document.getElementById("arrows").click();
  check(all(".code svg").every((svg) => getComputedStyle(svg).display === "none"), "arrows stay");
  document.getElementById("arrows").click();
});
