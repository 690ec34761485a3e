#!/usr/bin/env python3
"""The page of `eyekern score`, rendered: scores hostile, long, empty and equal predictions, lays the page out in headless
Chromium and looks at what came of it (score.js), and at its picture. Then it breaks the page in several ways and wants each
to be noticed.

    python3 tests/browser/score.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

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
from browser import chromium, pixels, scheme

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIGHT, DARK = (0xFD, 0xFD, 0xFB), (0x14, 0x17, 0x1B)
# the colours of what one text has and the other lacks
MARKS = {LIGHT: ((0xFF, 0xD7, 0xB5), (0xCF, 0xE3, 0xFF)), DARK: ((0x5C, 0x33, 0x10), (0x17, 0x3A, 0x66))}
HOSTILE = "</pre></section><script>smuggled = 1</script><img src=x onerror=alert(1)>"

# Prediction and reference of each row.
PAIRS = [
    ("int a = b;", "int a = b;"),
    ("", "int c = f(x);"),
    ("public int Twice(int n) { return 2 * n; }", "public int Thrice(int n) { return 3 * n; }"),
    (HOSTILE, "int d;"),
    ("x" * 400 + "(y)" * 300, "x" * 401 + "(y)" * 300),
    ("first\nsecond\n", "first\nthird\n"),
]

# What must not go unnoticed: a name, what to replace in the page, and by what.
BREAKAGES = [
    ("differences are not marked", re.compile("<ins>(.*?)</ins>", re.S), r"\1"),
    ("what is missing is not marked", re.compile("<del>(.*?)</del>", re.S), r"\1"),
    ("the marks have no colour", "ins { background: var(--more);", "ins {"),
    ("the texts are one above the other on a wide screen", "display: grid;", "display: block;"),
    ("long lines widen the page", "white-space: pre-wrap; overflow-wrap: anywhere;", "white-space: pre;"),
    ("the table widens the page", '<div class="scroll"><table class="metrics">', '<div><table class="metrics">'),
    ("a row is missing", re.compile(r'<section class="row"><h3>Row 1</h3>.*?</section>', re.S), ""),
    ("the best come first", re.compile(r'(<section class="row">.*)(<section class="row"><h3>Row 1</h3>.*?</section>)', re.S), r"\2\1"),
    ("the headline is not marked", '<tr class="best">', '<tr class="">'),
    ("a constant's win is not marked", '<tr class="alert">', '<tr class="">'),
    ("an empty prediction shows nothing", "<i>empty</i>", ""),
    ("text becomes an element", "&lt;img src=x", "<img src=x"),
    ("an address outside", "<main>", '<main><a href="https://example.org/">x</a>'),
    ("no policy", "script-src 'nonce-checks'", "script-src 'unsafe-inline'"),
]


def faults(page, work, program, width, dark):
    """What is wrong with a page: a list of sentences."""
    told = browser.wanted({"pairs": PAIRS, "wide": width > 1000})
    return browser.faults(page, "score.js", work, program, width, dark, told)


def picture(page, work, program, dark):
    """What is wrong with the picture of the predictions."""
    paper = DARK if dark else LIGHT
    file, shot = work / "shot.html", work / f"score-{'dark' if dark else 'light'}.png"
    file.write_text(page.replace("</style>", "#metrics { display: none; }</style>", 1))
    chromium(program, "--window-size=1200,900", scheme(dark), f"--screenshot={shot}", f"file://{file}")
    rows = pixels(shot.read_bytes())
    counts = {}
    for row in rows:
        for pixel in row:
            counts[pixel] = counts.get(pixel, 0) + 1
    wrong = [] if rows[0][0] == paper else [f"the paper is {rows[0][0]}, not {paper}"]
    for name, mark in zip(("more", "less"), MARKS[paper]):
        if counts.get(mark, 0) < 500:
            wrong.append(f"{counts.get(mark, 0)} pixels in the colour of what is {name}")
    return wrong


def build(eyekern, work):
    """The page of the pairs. A constant wins parse_valid, because empty code is valid."""
    for name, side in (("hyp", 0), ("ref", 1)):
        lines = [json.dumps({name: pair[side]}) for pair in PAIRS]
        (work / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    page = work / "page.html"
    command = [eyekern, "score", "--hyp", work / "hyp.jsonl", "--ref", work / "ref.jsonl", "--task", "completion"]
    command += ["--lang", "java", "--metrics", "strict_exact,edit_similarity,parse_valid,codebleu,chrf,bleu"]
    done = subprocess.run([*map(str, command), "--html", str(page)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return page.read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave page and pictures in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print("no Chromium, so the page of `eyekern score` is not rendered (Debian: apt-get install chromium)")
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
        for dark in (False, True):
            wrong = picture(page, work, given.chromium, dark)
            print(f"{'dark' if dark else 'light'} picture: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        for name, old, new in BREAKAGES if not bad else []:
            broken = old.sub(new, page) if isinstance(old, re.Pattern) else page.replace(old, new)
            # grids show on a wide screen, overflows on a narrow one
            widths = (1400, 480) if broken != page else ()
            wrong = [fault for width in widths for fault in faults(broken, work, given.chromium, width, False)]
            print(f"broken on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("the page is well" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
