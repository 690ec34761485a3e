#!/usr/bin/env python3
"""The page of `eyekern inspect`, rendered: builds it from rows.jsonl.

    python3 tests/browser/inspect.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import re
import sys

import browser
from browser import DARK, HERE, LIGHT, OUTSIDE, ROOT, SMUGGLED, eyekern

ARROW = {LIGHT: (0xB3, 0x40, 0x0A), DARK: (0xFF, 0x9A, 0x5C)}

# What must not go unnoticed: a name, what to replace in the page, and by what.
BREAKAGES = [
    ("arrows end beside their tokens", "const y2 = b.top - box.top;", "const y2 = b.top - box.top - 40;"),
    ("arrows start at the wrong token", "arrow(stops[i], stop, box)", "arrow(stops[0], stop, box)"),
    ("no arrows", "querySelector(\"svg\").replaceChildren(...drawn)", "querySelector(\"svg\").replaceChildren()"),
    ("long lines run out of the window", "white-space: pre-wrap; overflow-wrap: anywhere;", "white-space: pre;"),
    ("cards are empty", "card.replaceChildren(list);", ""),
    ("cards leave the window", "innerWidth - card.offsetWidth - 8", "innerWidth - 8"),
    ("an error in the script", "\"use strict\";", "\"use strict\"; setTimeout(() => missing());"),
    SMUGGLED,
    OUTSIDE,
    ("no policy", "default-src 'none'", "default-src *; script-src-elem 'unsafe-inline'"),
    ("numbers are lost", "content: attr(data-n);", "content: \"\";"),
    ("one colour for every weight", re.compile(r"--h\d: #\w+"), "--none: #000000"),
    ("the cut is not marked", "class=\"cut\"", ""),
    ("the arrow keys are dead", "next.focus();", ""),
]


def drawn(counts, paper):
    """What is wrong with the picture of the rows."""
    wrong, arrows = [], counts[ARROW[paper]]
    if len(counts) < 200:
        wrong.append(f"the picture has {len(counts)} colours")
    if arrows < 200:
        wrong.append(f"{arrows} pixels in the colour of arrows and underlines")
    return wrong


def build(binary, work):
    page, keys = work / "page.html", ("data.task=translation", "salience.condition=combined", "data.max_length=400")
    sets = (word for key in keys for word in ("--set", key))
    eyekern(binary, "inspect", HERE / "rows.jsonl", "--tokenizer", ROOT / "assets" / "demo", "--html", page, *sets)
    yield "rows", page.read_text(), None


# the first screen is enough, if it begins with the rows
PICTURE = browser.Picture("#summary, #histogram { display: none; }", 900, 700, drawn)
PAGE = browser.Page("inspect", build, BREAKAGES, PICTURE, own_script=True)


if __name__ == "__main__":
    sys.exit(browser.main(PAGE, __doc__))
