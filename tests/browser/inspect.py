#!/usr/bin/env python3
"""The page of `eyekern inspect`, rendered: builds it from rows.jsonl, lays it out in headless Chromium and looks at what
came of it (checks.js), at its picture and at its addresses. Then it breaks the page in several ways and wants each to be
noticed.

    python3 tests/browser/inspect.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Standard library only. Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import argparse
import os
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
    ("text becomes an element", "&lt;img src=x", "<img src=x"),
    ("an address outside", "<main>", "<main><a href=\"https://example.org/\">x</a>"),
    ("no policy", "default-src 'none'", "default-src *; script-src-elem 'unsafe-inline'"),
    ("numbers are lost", "content: attr(data-n);", "content: \"\";"),
    ("one colour for every weight", re.compile(r"--h\d: #\w+"), "--none: #000000"),
    ("the cut is not marked", "class=\"cut\"", ""),
    ("the arrow keys are dead", "next.focus();", ""),
]


def faults(page, work, program, width, dark):
    """What is wrong with a page: a list of sentences."""
    nonce = re.search(r"script-src 'nonce-(\w+)'", page).group(1)
    first = "window.violations = 0; addEventListener('securitypolicyviolation', () => { violations += 1; });"
    return browser.faults(page, "checks.js", work, program, width, dark, first, nonce)


def picture(page, work, program, dark):
    """What is wrong with the picture of the rows."""
    paper = DARK if dark else LIGHT
    nonce = re.search(r"style-src 'nonce-(\w+)'", page).group(1)
    # the first screen is enough, if it begins with the rows
    hidden = f'<style nonce="{nonce}">#summary, #histogram {{ display: none; }}</style></head>'
    file, shot = work / "shot.html", work / f"{'dark' if dark else 'light'}.png"
    file.write_text(page.replace("</head>", hidden, 1))
    chromium(program, "--window-size=900,700", scheme(dark), f"--screenshot={shot}", f"file://{file}")
    rows = pixels(shot.read_bytes())
    counts = {}
    for row in rows:
        for pixel in row:
            counts[pixel] = counts.get(pixel, 0) + 1
    wrong = []
    if rows[0][0] != paper:
        wrong.append(f"the paper is {rows[0][0]}, not {paper}")
    if len(counts) < 200:
        wrong.append(f"the picture has {len(counts)} colours")
    if counts.get(ARROW[paper], 0) < 200:
        wrong.append(f"{counts.get(ARROW[paper], 0)} pixels in the colour of arrows and underlines")
    return wrong


def build(eyekern, work):
    file = work / "page.html"
    command = [eyekern, "inspect", HERE / "rows.jsonl", "--tokenizer", ROOT / "assets" / "demo", "--html", file]
    for key in ("data.task=translation", "salience.condition=combined", "data.max_length=400"):
        command += ["--set", key]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    return file.read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave page and pictures in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print("no Chromium, so the page of `eyekern inspect` is not rendered (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work = given.keep or Path(folder)
        work.mkdir(exist_ok=True)
        page, bad = build(given.eyekern, work), 0
        for dark in (False, True):
            for width in (1400, 480):
                wrong = faults(page, work, given.chromium, width, dark)
                print(f"{'dark' if dark else 'light'}, {width} wide: {'; '.join(wrong) or 'well'}")
                bad += len(wrong)
            wrong = picture(page, work, given.chromium, dark)
            print(f"{'dark' if dark else 'light'} picture: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        for name, old, new in BREAKAGES if not bad else []:
            broken = old.sub(new, page) if isinstance(old, re.Pattern) else page.replace(old, new)
            wrong = faults(broken, work, given.chromium, 480, False) if broken != page else []
            print(f"broken on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("the page is well" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
