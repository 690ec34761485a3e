// Looks at a laid-out page of `eyekern attention`.
// window.wanted has the pooled figures by name, the values of each map in the order of the page, and the texts of answers.
checked((check, all) => {
  const lines = all(".figures tr").slice(1), names = Object.keys(wanted.figures);
  check(lines.length === names.length, "figures:", lines.length);
  lines.forEach((line, i) => {
    const [name, , ...cells] = [...line.cells].map((cell) => cell.textContent);
    check(name === names[i] && cells.length === 3, "line", i, "is", name);
    wanted.figures[name]?.forEach((mean, j) => {
      check(Math.abs(parseFloat(cells[j]) - mean) <= 6e-5, name, "is", cells[j], "and not", mean);
      check(/\[-?[\d.]+, -?[\d.]+\]$/.test(cells[j]), name, "has no interval:", cells[j]);
    });
  });
  check(all("#heads svg").length === 10, "maps of heads:", all("#heads svg").length);
  // cells of a map as colours, by the outlines of the picture: [row][column]
  const cells = (svg) => {
    const steps = [], grid = [];
    const runs = all("path", svg).flatMap((path) => {
      const colour = path.getAttribute("fill") + "/" + (path.getAttribute("fill-opacity") ?? 1);
      steps.push(colour);
      return [...path.getAttribute("d").matchAll(/M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z/g)].map((m) => [...m.slice(1).map(Number), colour]);
    });
    const left = Math.min(...runs.map((r) => r[0])), top = Math.min(...runs.map((r) => r[1])), edge = runs[0]?.[3];
    for (const [x, y, width, , colour] of runs)
      for (let i = 0; i < Math.round(width / edge); i++) (grid[Math.round((y - top) / edge)] ??= [])[Math.round((x - left) / edge) + i] = colour;
    return [grid, steps];
  };
  const examples = all(".example");
  check(examples.length === wanted.examples.length, "examples:", examples.length);
  examples.forEach((example, e) => {
    const { answer, maps } = wanted.examples[e] ?? { maps: [] };
    const shown = example.querySelector("pre.answer");
    check(shown?.textContent === answer, "the answer is", shown?.textContent.slice(0, 80));
    const panels = all(".panel", example);
    check(panels.length === 3, "maps of example", e, ":", panels.length);
    panels.forEach((panel, p) => {
      const svg = panel.querySelector("svg"), { width, height } = svg.viewBox.baseVal, name = panel.querySelector("figcaption").textContent;
      check(svg.getBoundingClientRect().height > 150, name, "is not to be seen");
      for (const shape of all("path, rect, text", svg)) {
        const box = shape.tagName === "text" ? null : shape.getBBox();
        const page = shape.getBoundingClientRect(), frame = svg.getBoundingClientRect();
        const inside = page.left >= frame.left - 1 && page.right <= frame.right + 1 && page.top >= frame.top - 1 && page.bottom <= frame.bottom + 1;
        check(inside && (!box || (box.x >= -1 && box.x + box.width <= width + 1 && box.y + box.height <= height + 1)), name, "has something outside:", shape.outerHTML.slice(0, 100));
      }
      const bold = all('text[font-weight="600"]', svg).length, bars = all('rect[height="3"]', svg).length;
      check(bars > 0 && bars === bold, name, "marks", bars, "columns and has", bold, "bold ones");
      const [grid, steps] = cells(svg), values = maps[p];
      const counts = [grid.length, grid[0]?.length], sizes = [values.length, values[0].length];
      check(String(counts) === String(sizes), name, "has", counts, "cells and not", sizes);
      const texts = all("text", svg).filter((text) => text.getAttribute("font-size") === "9.5").length;
      check(texts === sizes[0] + sizes[1], name, "has", texts, "texts beside rows and columns");
      if (String(counts) !== String(sizes)) return;
      // a larger value has no earlier step of the scale; equal colours are close
      const flat = values.flatMap((row, i) => row.map((x, j) => [x, steps.indexOf(grid[i][j]), grid[i][j]])).sort((a, b) => a[0] - b[0]);
      for (let i = 1; i < flat.length; i++) check(flat[i][1] >= flat[i - 1][1], name, "has a larger value in a smaller colour:", flat[i - 1], flat[i]);
      check(new Set(flat.map((c) => c[1])).size > 3, name, "has", new Set(flat.map((c) => c[1])).size, "colours");
      if (p === 2) for (const [x, , colour] of flat) check(x === 1 || colour.startsWith(x < 1 ? "#0072b2" : "#d55e00"), "a ratio of", x, "is", colour);
    });
    check(panels[0]?.querySelector("figcaption").textContent.startsWith("baseline"), "the first map is not the baseline's");
  });
});
