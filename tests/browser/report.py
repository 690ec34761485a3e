#!/usr/bin/env python3
"""The page of `eyekern report`, rendered: trains the demo's model for a few steps and invents other runs (one step, none,
cut, 100,000 steps, values that are not finite, a hostile recipe).

    python3 tests/browser/report.py [--eyekern target/release/eyekern] [--chromium chromium] [--keep DIR]

Exit status 0 if all is well, 1 if not, 77 if there is no Chromium.
"""

import json
import re
import sys

import browser
from browser import DARK, LIGHT, NO_POLICY, OUTSIDE, SMUGGLED, eyekern

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
    SMUGGLED,
    OUTSIDE,
    NO_POLICY,
    ("the recipe is lost", re.compile(r'<section id="recipe">.*?</section>', re.S), ""),
]


def drawn(counts, paper):
    """What is wrong with the picture of the charts."""
    wrong, (back, line) = [], CHART[paper]
    if counts[back] < 100_000:
        wrong.append(f"{counts[back]} pixels in the colour of a chart's background")
    if counts[line] < 100:
        wrong.append(f"{counts[line]} pixels in the colour of the loss")
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
    """Name, folder and what the page must show, of each run."""
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


def build(binary, work):
    for name, run, wanted in runs(binary, work):
        eyekern(binary, "report", run)
        yield name, (run / "report.html").read_text(), wanted


LIGHT_CHART = ("a light chart on a dark page", 'svg [fill="#fdfdfc"] { fill: #1a1e23; }', "")
PICTURE = browser.Picture("#summary { display: none; }", 900, 900, drawn, LIGHT_CHART)
PAGE = browser.Page("report", build, BREAKAGES, PICTURE)


if __name__ == "__main__":
    sys.exit(browser.main(PAGE, __doc__))
