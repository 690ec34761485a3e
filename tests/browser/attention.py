#!/usr/bin/env python3
"""The page of `eyekern attention`, rendered: measures a demo model and its adapter on rows with hostile code, lays the page
out in headless Chromium and looks at what came of it (attention.js), and at its picture. Then it breaks the page in several
ways and wants each to be noticed.

    python3 tests/browser/attention.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Standard library only. Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import Addresses, chromium, pixels, scheme

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIGHT, DARK = (0xFD, 0xFD, 0xFB), (0x14, 0x17, 0x1B)
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
    ("an address outside", "<main>", '<main><a href="https://example.org/">x</a>'),
    ("no policy", "script-src 'nonce-checks'", "script-src 'unsafe-inline'"),
]


def faults(page, wanted, work, program, width, dark):
    """What is wrong with a page: a list of sentences."""
    found = Addresses()
    found.feed(page)
    wrong = [f"an address: {a}" for a in found.found]
    # in a script, a hostile text must not end it
    wanted = json.dumps(wanted).replace("<", "\\u003c")
    first = f"window.failures = []; window.wanted = {wanted};"
    first += "addEventListener('error', (e) => failures.push('error: ' + e.message));"
    checks = (HERE / "attention.js").read_text()
    page = page.replace("<title>", f'<script nonce="checks">{first}</script><title>', 1)
    page = page.replace("</body>", f'<script nonce="checks">{checks}</script></body>', 1)
    file = work / "checked.html"
    file.write_text(page)
    flags = [f"--window-size={width},900", scheme(dark), "--virtual-time-budget=3000", "--dump-dom", f"file://{file}"]
    dom, log = chromium(program, *flags)
    console = [line for line in log.splitlines() if "CONSOLE" in line]
    # the one message that is wanted: the policy stopping the script that attention.js smuggles in
    wrong += [line for line in console if "Content Security Policy" not in line]
    result = re.search(r'<pre id="checks">(.*?)</pre>', dom, re.S)
    return wrong + (json.loads(html.unescape(result.group(1))) if result else ["the checks did not come to an end"])


def picture(page, work, program, dark):
    """What is wrong with the picture of the first maps."""
    file, shot = work / "shot.html", work / f"attention-{'dark' if dark else 'light'}.png"
    file.write_text(page.replace("</style>", "#figures, #heads, .answer { display: none; }</style>", 1))
    chromium(program, "--window-size=1200,1400", scheme(dark), f"--screenshot={shot}", f"file://{file}")
    counts, rows = {}, pixels(shot.read_bytes())
    for row in rows:
        for pixel in row:
            counts[pixel] = counts.get(pixel, 0) + 1
    paper = DARK if dark else LIGHT
    wrong = [] if rows[0][0] == paper else [f"the paper is {rows[0][0]}, not {paper}"]
    if counts.get(BACK[paper], 0) < 100_000:
        wrong.append(f"{counts.get(BACK[paper], 0)} pixels in the colour behind a map")
    # large areas of one colour are cells: a map has many of them
    colours = [pixel for pixel, n in counts.items() if n > 400]
    if len(colours) < 12:
        wrong.append(f"{len(colours)} colours that fill an area")
    return wrong


def eyekern(binary, *args):
    done = subprocess.run([str(a) for a in (binary, *args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


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
    return page.read_text(), {"figures": figures, "examples": examples}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave page and pictures in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print("no Chromium, so the page of `eyekern attention` is not rendered (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work, bad = given.keep or Path(folder), 0
        work.mkdir(exist_ok=True)
        page, wanted = build(given.eyekern, work)
        if "default-src 'none';" not in page or "script-src" in page:
            sys.exit("the page has another policy than expected")
        page = page.replace("default-src 'none';", "default-src 'none'; script-src 'nonce-checks';", 1)
        for dark, width in ((False, 1400), (False, 480), (True, 900)):
            wrong = faults(page, wanted, work, given.chromium, width, dark)
            print(f"{'dark' if dark else 'light'}, {width} wide: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        for dark in (False, True):
            wrong = picture(page, work, given.chromium, dark)
            print(f"{'dark' if dark else 'light'} picture: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        for name, old, new in BREAKAGES if not bad else []:
            broken = old.sub(new, page) if isinstance(old, re.Pattern) else page.replace(old, new)
            wrong = faults(broken, wanted, work, given.chromium, 480, False) if broken != page else []
            print(f"broken on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
        if not bad:
            light = page.replace('svg [fill="#fdfdfc"] { fill: #1a1e23; }', "")
            wrong = picture(light, work, given.chromium, True) if light != page else []
            print(f"broken on purpose, a light map on a dark page: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("the page is well" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
