#!/usr/bin/env python3
"""The page of `eyekern report`, rendered: trains the demo's model for a few steps, invents other runs (one step, none, cut,
100,000 steps, values that are not finite, a hostile recipe), lays each page out in headless Chromium and looks at what came
of it (report.js), and at its pictures. Then it breaks a page in several ways and wants each to be noticed.

    python3 tests/browser/report.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

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
# background and first line of a chart
CHART = {LIGHT: ((0xFD, 0xFD, 0xFC), (0x00, 0x72, 0xB2)), DARK: ((0x1A, 0x1E, 0x23), (0x56, 0xB4, 0xE9))}
HOSTILE = "</pre></section><script>smuggled = 1</script><img src=x onerror=alert(1)>"

# What must not go unnoticed: a name, what to replace in the page, and by what.
BREAKAGES = [
    ("a point of the loss is elsewhere", re.compile(r'(<polyline points="[^"]*? [\d.]+,)[\d.]+( [^"]*" stroke-linejoin="round" fill="none" stroke="#0072b2")'), r"\g<1>41\g<2>"),
    ("the axis tells other numbers", re.compile(r'(text-anchor="end"[^>]*>)([\d.]+)<'), r"\g<1>9\g<2><"),
    ("charts widen the page", ".charts { overflow-x: auto; }", ""),
    ("a chart is squeezed", "height: auto; margin-top", "height: 3px; margin-top"),
    ("texts lie upon one another", re.compile(r'<text x="[\d.]+" y="24"'), '<text x="70" y="24"'),
    ("clipped steps are not marked", re.compile(r'<line [^>]*stroke="#d55e00"[^>]*/>'), ""),
    ("evaluations have no dots", "<circle", "<g"),
    ("an evaluation is missing", re.compile(r"<tr><td>4</td>.*?</tr>", re.S), ""),
    ("text becomes an element", "&lt;img src=x", "<img src=x"),
    ("an address outside", "<main>", '<main><a href="https://example.org/">x</a>'),
    ("no policy", "script-src 'nonce-checks'", "script-src 'unsafe-inline'"),
    ("the recipe is lost", re.compile(r'<section id="recipe">.*?</section>', re.S), ""),
]


def eyekern(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"eyekern {' '.join(map(str, args))}\n{done.stderr}")


def faults(page, wanted, work, program, width, dark):
    """What is wrong with a page: a list of sentences."""
    return browser.faults(page, "report.js", work, program, width, dark, browser.wanted(wanted))


def picture(page, work, program, dark):
    """What is wrong with the picture of the charts."""
    paper = DARK if dark else LIGHT
    file, shot = work / "shot.html", work / f"report-{'dark' if dark else 'light'}.png"
    file.write_text(page.replace("</style>", "#summary { display: none; }</style>", 1))
    chromium(program, "--window-size=900,900", scheme(dark), f"--screenshot={shot}", f"file://{file}")
    rows = pixels(shot.read_bytes())
    counts = {}
    for row in rows:
        for pixel in row:
            counts[pixel] = counts.get(pixel, 0) + 1
    wrong = [] if rows[0][0] == paper else [f"the paper is {rows[0][0]}, not {paper}"]
    back, line = CHART[paper]
    if counts.get(back, 0) < 100_000:
        wrong.append(f"{counts.get(back, 0)} pixels in the colour of a chart's background")
    if counts.get(line, 0) < 100:
        wrong.append(f"{counts.get(line, 0)} pixels in the colour of the loss")
    return wrong


def invented(folder, lines, recipe="[model]\n", cut=""):
    """A folder as a run leaves it."""
    folder.mkdir()
    head = {"run": {"model": HOSTILE, "steps": 100_000, "weights": [1.0, 1.0, 1.0]}}
    text = "".join(json.dumps(line) + "\n" for line in [head, *lines])
    (folder / "metrics.jsonl").write_text(text + cut)
    if recipe:
        (folder / "recipe.resolved.toml").write_text(recipe)
    return folder


def step(i, loss, **more):
    line = {"step": i, "epoch": i / 100, "loss": loss, "grad_norm": 1.0, "clipped": False, "learning_rate": 1e-4 / i}
    return {**line, "tokens": 1000, "supervised_tokens": 350, "seconds": 0.5, **more}


def runs(binary, work):
    """Name, page and what it must show, of each run."""
    demo, out = work / "demo", work / "out"
    eyekern(binary, "demo", "--steps", 2, "--output-dir", demo)
    sets = ["train.max_steps=6", "train.eval_steps=2", "objective.gamma=0", f"train.output_dir={out}"]
    sets += [f"data.validation_file={demo / 'pairs.jsonl'}", "train.max_grad_norm=0.0001"]
    eyekern(binary, "train", demo / "recipe.toml", *(part for s in sets for part in ("--set", s)))
    with (out / "recipe.resolved.toml").open("a") as file:
        file.write(f"# {HOSTILE}\n")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    base = {"evaluations": 0, "charts": 4, "gradient": 1, "clipped": 0, "together": False, "recipe": "[model]"}
    yield "a run", out, {**base, "losses": losses, "evaluations": 3, "clipped": 6, "recipe": HOSTILE}
    many = [step(i, 5.0 / i**0.3) for i in range(1, 100_001)]
    means = [sum(s["loss"] for s in many[i : i + 200]) / 200 for i in range(0, 100_000, 200)]
    yield "100,000 steps", invented(work / "many", many), {**base, "losses": means, "together": True}
    yield "one step", invented(work / "one", [step(1, 2.0)]), base
    yield "no step, no recipe", invented(work / "none", [], None), {**base, "charts": 0, "recipe": ""}
    gaps = [step(i, None if i % 3 == 0 else float(i), grad_norm=None) for i in range(1, 20)]
    yield "not finite, cut", invented(work / "gaps", gaps, HOSTILE, '{"step": 20, "lo'), {**base, "recipe": HOSTILE}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave pages and pictures in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print("no Chromium, so the page of `eyekern report` is not rendered (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work, bad, whole = given.keep or Path(folder), 0, None
        work.mkdir(exist_ok=True)
        policy = ("default-src 'none';", "default-src 'none'; script-src 'nonce-checks';")
        for name, run, wanted in runs(given.eyekern, work):
            eyekern(given.eyekern, "report", run)
            page = (run / "report.html").read_text()
            if policy[0] not in page or "script-src" in page:
                sys.exit("the page has another policy than expected")
            page = page.replace(*policy, 1)
            whole = whole or (page, wanted)
            for dark, width in ((False, 1400), (False, 480), (True, 900)):
                wrong = faults(page, wanted, work, given.chromium, width, dark)
                print(f"{name}, {'dark' if dark else 'light'}, {width} wide: {'; '.join(wrong) or 'well'}")
                bad += len(wrong)
        page, wanted = whole
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
            print(f"broken on purpose, a light chart on a dark page: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("the pages are well" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
