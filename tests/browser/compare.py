#!/usr/bin/env python3
"""The page of `eyekern compare`, rendered: compares evaluations with hostile, empty and long predictions, and with
hostile names.

    python3 tests/browser/compare.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import json
import re
import sys

import browser
from browser import NO_POLICY, OUTSIDE, SMUGGLED, eyekern

HOSTILE = "</pre></section><script>smuggled = 1<!--<img src=x onerror=alert(1)>"
# chrF++ of each row by arm; the names are those of folders
ARMS = {
    "base": [10.0, 20.0, 30.0, 40.0],
    "<img src=x onerror=alert(1)> and a long name": [12.0, 24.0, 31.0, 45.0],
    "worse": [8.0, 20.0, 25.0, 39.0],
}
TEXTS = {"base": ["int a;", "int b;", "x" * 900, ""], "worse": [HOSTILE, "int b;", "y" * 900, "int\nd;"]}

# What must not go unnoticed: a name, what to replace in the page, and by what.
BREAKAGES = [
    ("a difference is elsewhere", re.compile(r'(<svg.*?<circle cx=)"[\d.]+"', re.S), r'\1"300"'),
    ("an interval is lost", re.compile(r"(<svg.*?)<circle", re.S), r"\1<g"),
    ("a plot is missing", re.compile(r"<svg.*?</svg>", re.S), ""),
    ("long lines widen the page", "white-space: pre-wrap; overflow-wrap: anywhere;", "white-space: pre;"),
    ("the table widens the page", '<div class="scroll"><table>', "<div><table>"),
    ("an arm is missing", re.compile(r"(<section id=\"arms\">.*?)<tr><td>worse</td>.*?</tr>", re.S), r"\1"),
    ("a prediction is missing", re.compile(r'<section class="row"><h3>Row 1:.*?</section>', re.S), ""),
    SMUGGLED,
    OUTSIDE,
    NO_POLICY,
]


def build(binary, work):
    """The page of the arms."""
    for name, values in ARMS.items():
        folder = work / name
        folder.mkdir(exist_ok=True)
        lines = [f"{row},{value}" for row, value in enumerate(values, 1)]
        (folder / "contributions.csv").write_text("\n".join(["row,chrf", *lines]) + "\n")
        scores = {"metrics": {"chrf": sum(values) / 4}, "scales": {"chrf": 100}, "generation": {}}
        (folder / "scores.json").write_text(json.dumps(scores))
        texts = TEXTS.get(name, ["int a;"] * 4)
        lines = [json.dumps({"row": i, "prediction": text, "target": "int a;"}) for i, text in enumerate(texts, 1)]
        (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    page, arms = work / "page.html", [work / name for name in ARMS]
    eyekern(binary, "compare", *arms, "--baseline", "base", "--primary", "chrf", "--html", page)
    differences = [sum(values) / 4 - sum(ARMS["base"]) / 4 for name, values in ARMS.items() if name != "base"]
    yield "arms", page.read_text(), {"differences": differences, "arms": list(ARMS), "rows": 3}


PAGE = browser.Page("compare", build, BREAKAGES)


if __name__ == "__main__":
    sys.exit(browser.main(PAGE, __doc__))
