#!/usr/bin/env python3
"""The page of `eyekern score`, rendered: scores hostile, long, empty and equal predictions.

    python3 tests/browser/score.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import json
import re
import sys

import browser
from browser import DARK, LIGHT, NO_POLICY, OUTSIDE, SMUGGLED, eyekern

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
    SMUGGLED,
    OUTSIDE,
    NO_POLICY,
]


def drawn(counts, paper):
    """What is wrong with the picture of the predictions."""
    marks = zip(("more", "less"), MARKS[paper])
    return [f"{counts[mark]} pixels in the colour of what is {name}" for name, mark in marks if counts[mark] < 500]


def build(binary, work):
    """The page of the pairs. A constant wins parse_valid, because empty code is valid."""
    for name, side in (("hyp", 0), ("ref", 1)):
        lines = [json.dumps({name: pair[side]}) for pair in PAIRS]
        (work / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    page, metrics = work / "page.html", "strict_exact,edit_similarity,parse_valid,codebleu,chrf,bleu"
    eyekern(binary, "score", "--hyp", work / "hyp.jsonl", "--ref", work / "ref.jsonl", "--task", "completion",
            "--lang", "java", "--metrics", metrics, "--html", page)
    yield "predictions", page.read_text(), {"pairs": PAIRS}


PICTURE = browser.Picture("#metrics { display: none; }", 1200, 900, drawn)
PAGE = browser.Page("score", build, BREAKAGES, PICTURE)


if __name__ == "__main__":
    sys.exit(browser.main(PAGE, __doc__))
