#!/usr/bin/env python3
"""The page of `eyekern compare`, rendered: compares evaluations with hostile, empty and long predictions and hostile names,
lays the page out in headless Chromium and looks at what came of it (study.js). Then it breaks the page in several ways and
wants each to be noticed.

    python3 tests/browser/study.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Standard library only. Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import browser

ROOT = Path(__file__).resolve().parent.parent.parent
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
    ("a difference is elsewhere", re.compile(r'<circle cx="[\d.]+"'), '<circle cx="300"'),
    ("an interval is lost", re.compile(r'(<circle)'), r"<g"),
    ("a plot is missing", re.compile(r"<svg.*?</svg>", re.S), ""),
    ("long lines widen the page", "white-space: pre-wrap; overflow-wrap: anywhere;", "white-space: pre;"),
    ("the table widens the page", '<div class="scroll"><table>', "<div><table>"),
    ("an arm is missing", re.compile(r"(<section id=\"arms\">.*?)<tr><td>worse</td>.*?</tr>", re.S), r"\1"),
    ("a prediction is missing", re.compile(r'<section class="row"><h3>Row 1:.*?</section>', re.S), ""),
    ("text becomes an element", "&lt;img src=x", "<img src=x"),
    ("an address outside", "<main>", '<main><a href="https://example.org/">x</a>'),
    ("no policy", "script-src 'nonce-checks'", "script-src 'unsafe-inline'"),
]


def build(eyekern, work):
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
    page = work / "page.html"
    command = [eyekern, "compare", *(work / name for name in ARMS), "--baseline", "base", "--primary", "chrf"]
    done = subprocess.run([*map(str, command), "--html", str(page)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return page.read_text()


def faults(page, work, program, width, dark):
    """What is wrong with a page: a list of sentences."""
    differences = [sum(values) / 4 - sum(ARMS["base"]) / 4 for name, values in ARMS.items() if name != "base"]
    told = {"differences": differences, "arms": list(ARMS), "rows": 3, "wide": width > 1000}
    return browser.faults(page, "study.js", work, program, width, dark, browser.wanted(told))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave the page in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print("no Chromium, so the page of `eyekern compare` is not rendered (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work, bad = given.keep or Path(folder), 0
        work.mkdir(exist_ok=True)
        page = build(given.eyekern, work)
        if "default-src 'none';" not in page or "script-src" in page:
            sys.exit("the page has another policy than expected")
        page = page.replace("default-src 'none';", "default-src 'none'; script-src 'nonce-checks';", 1)
        for dark, width in ((False, 1400), (False, 480), (True, 900)):
            wrong = faults(page, work, given.chromium, width, dark)
            print(f"{'dark' if dark else 'light'}, {width} wide: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        for name, old, new in BREAKAGES if not bad else []:
            broken = old.sub(new, page, count=1) if isinstance(old, re.Pattern) else page.replace(old, new)
            widths = (1400, 480) if broken != page else ()
            wrong = [fault for width in widths for fault in faults(broken, work, given.chromium, width, False)]
            print(f"broken on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("the page is well" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
