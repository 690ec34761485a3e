// Looks at a laid-out page of `eyekern score`.
// window.wanted has the pairs of predictions and references.
checked((check, all) => {
  const lines = all(".metrics tr");
  check(lines.length === 7, "lines of the table:", lines.length);
  check(all(".metrics .best").length === 1 && lines[1].className === "best", "the headline is not marked");
  const won = all(".metrics .alert").map((line) => line.cells[0].textContent);
  check(won.length === 1 && won[0] === "parse_valid", "marked as won by a constant:", won);
  const rows = all(".row");
  check(rows.length === wanted.pairs.length, "rows:", rows.length);
  const numbers = rows.map((row) => Number(row.querySelector("h3").textContent.split(" ")[1]));
  check(numbers[0] === 2 && numbers.at(-1) === 1, "the worst is not the first, or the best not the last:", numbers);
  const paper = getComputedStyle(document.querySelector(".pair pre")).backgroundColor;
  rows.forEach((row, i) => {
    const [hyp, reference] = wanted.pairs[numbers[i] - 1];
    const shown = all("pre", row), text = (pre) => pre.textContent.replaceAll("↵", "");
    check(shown.length === 2 && shown.every((pre) => pre.getBoundingClientRect().height > 10), "texts of row", numbers[i]);
    check(text(shown[0]) === (hyp || "empty"), "the prediction of row", numbers[i], "is", shown[0].textContent.slice(0, 80));
    check(text(shown[1]) === reference, "the reference of row", numbers[i], "is", shown[1].textContent.slice(0, 80));
    const [left, right] = shown.map((pre) => pre.getBoundingClientRect());
    check(innerWidth < 1000 || left.right <= right.left, "prediction and reference of row", numbers[i], "are not side by side");
    // what is left without the marks is common to both
    const common = shown.map((pre) => [...pre.childNodes].filter((n) => !["INS", "DEL", "I"].includes(n.nodeName)).map((n) => n.textContent).join(""));
    check(common[0] === common[1], "what is not marked in row", numbers[i], "differs");
    const marks = all("ins, del", row);
    check((marks.length > 0) === (hyp !== reference), "marks in row", numbers[i], ":", marks.length);
    marks.forEach((mark) => check(![paper, "rgba(0, 0, 0, 0)"].includes(getComputedStyle(mark).backgroundColor), "a mark without a colour"));
  });
});
