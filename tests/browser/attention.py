#!/usr/bin/env python3
"""The page of `eyekern attention`, rendered: measures a demo model and its adapter on rows with hostile code.

    python3 tests/browser/attention.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import json
import re
import sys

import browser
from browser import DARK, LIGHT, NO_POLICY, OUTSIDE, eyekern

# behind the cells of a map
BACK = {LIGHT: (0xFD, 0xFD, 0xFC), DARK: (0x1A, 0x1E, 0x23)}
HOSTILE = "// </pre></section><script>smuggled = 1</script><img src=x onerror=alert(1)>"
CODE = "int size(int n) {\n    if (n < 0) { return count; }\n    return items(n);\n}"

# What must not go unnoticed: a name, what to replace in the page, and by what.
BREAKAGES = [
    ("a map widens the page", '<div class="scroll"><svg', "<div><svg"),
    ("a map is missing", re.compile(r'<figure class="panel"><figcaption>model</figcaption>.*?</figure>', re.S), ""),
    ("the maps are exchanged", re.compile(r"<figcaption>(baseline, reading the answer of the model|model)</figcaption>"),
     lambda m: "<figcaption>" + ("baseline, reading the answer of the model" if m[1] == "model" else "model") + "</figcaption>"),
    ("a colour of the scale is another's", re.compile(r'(<path d="[^"]*" shape-rendering="crispEdges" fill=")#[0-9a-f]{6}'), r"\1#00224e"),
    ("a row of cells is moved", re.compile(r'(<path d="M[\d.]+ )([\d.]+)'), r"\g<1>20"),
    ("the marks are missing", re.compile(r'<rect [^>]*height="3"[^>]*/>'), ""),
    ("the texts of columns are missing", re.compile(r'<text [^>]*rotate[^>]*>[^<]*</text>\n'), ""),
    ("an interval is missing", re.compile(r"(<td>gaze_nll_gap</td><td>\d+</td><td>-?[\d.]+) \[[^\]]*\]"), r"\1"),
    ("a figure is missing", re.compile(r"<tr><td>avg_focus</td>.*?</tr>", re.S), ""),
    ("an answer is another", re.compile(r'(<pre class="answer">)'), r"\1x"),
    OUTSIDE,
    NO_POLICY,
]


def drawn(counts, paper):
    """What is wrong with the picture of the first maps."""
    wrong, back = [], counts[BACK[paper]]
    if back < 100_000:
        wrong.append(f"{back} pixels in the colour behind a map")
    # large areas of one colour are cells: a map has many of them
    colours = [pixel for pixel, n in counts.items() if n > 400]
    if len(colours) < 12:
        wrong.append(f"{len(colours)} colours that fill an area")
    return wrong


def build(binary, work):
    """The page of a demo model and its adapter, and what it has to show."""
    demo, looks, page, rows = work / "demo", work / "looks", work / "page.html", work / "rows.jsonl"
    eyekern(binary, "demo", "--steps", 40, "--output-dir", demo)
    codes = [CODE, f"{HOSTILE}\n{CODE}", CODE.replace("size", "total").replace("n", "m")]
    rows.write_text("".join(json.dumps({"code": code, "content": code}) + "\n" for code in codes))
    sets = ["train.max_steps=4", "train.learning_rate=0.05", f"train.output_dir={work / 'out'}"]
    eyekern(binary, "train", demo / "recipe.toml", *(part for s in sets for part in ("--set", s)))
    eyekern(binary, "attention", "--model", demo / "model", "--adapter", work / "out", "--baseline-model", demo / "model",
            "--data", rows, "--task", "translation", "--set", "salience.condition=reading", "--max-new-tokens", 20,
            "--examples", 2, "-o", looks, "--html", page)
    report = json.loads((looks / "attention.json").read_text())
    figures = {name: [figure[side]["mean"] for side in ("model", "baseline", "difference")]
               for name, figure in report["pooled"].items()}
    lines = [[json.loads(line) for line in (looks / f"{name}.jsonl").read_text().splitlines()]
             for name in ("model", "baseline")]
    examples = []
    for model, baseline in list(zip(*lines))[:2]:
        prompt = len(model["map"]["rows"][0])
        own, other = ([row[:prompt] for row in line["map"]["rows"]] for line in (model, baseline))
        ratio = [[a / b for a, b in zip(*rows)] for rows in zip(own, other)]
        kept = list(range(prompt)) if prompt <= 256 else [0, *range(prompt - 255, prompt)]
        maps = [[[row[j] for j in kept] for row in values[:48]] for values in (other, own, ratio)]
        examples.append({"answer": model["text"], "maps": maps})
    yield "answers", page.read_text(), {"figures": figures, "examples": examples}


LIGHT_MAP = ("a light map on a dark page", 'svg [fill="#fdfdfc"] { fill: #1a1e23; }', "")
PICTURE = browser.Picture("#figures, #heads, .answer { display: none; }", 1200, 1400, drawn, LIGHT_MAP)
PAGE = browser.Page("attention", build, BREAKAGES, PICTURE)


if __name__ == "__main__":
    sys.exit(browser.main(PAGE, __doc__))
