"""Makes the embedded priors:  python scripts/make_priors.py priors_clean.json

The input holds the priors of the EyeMulator artifact (arXiv 2508.16771; licence CC-BY-4.0) without their junk keys, in
arrays by label id. This script only rearranges: same input, same bytes. Ids are written beside names, so that a
reader with another table of labels notices. `type` is left out: it has no data.
"""

import json
import sys
from pathlib import Path

SOURCE = (
    "EyeMulator artifact (arXiv 2508.16771), priors, licence CC-BY-4.0; from the eye tracking study of EyeTrans "
    "(arXiv 2402.14096). Changed: keys that are no labels dropped, n-grams written with label ids."
)


def packed(rows):
    """JSON of a list of short lists, broken into lines of at most 120 characters."""
    lines = [""]
    for at, row in enumerate(rows):
        text = json.dumps(row, separators=(",", ":")) + ("," if at + 1 < len(rows) else "")
        if len(lines[-1]) + len(text) > 120:
            lines.append("")
        lines[-1] += text
    return "[\n" + "\n".join(lines) + "\n]"


def condition(names, table):
    entries = []
    for at, name in enumerate(names):
        if name == "type":
            continue
        c1, ntok, mono = (table[key][at] for key in ("c1", "ntok", "mono"))
        if table["in_artifact"][at]:
            assert (table["alpha"][at], table["beta"][at]) == (c1 + 1, ntok - c1 + 1), name
        else:
            assert (c1, ntok, mono) == (0, 0, 0), name
        entries.append(json.dumps({"id": at + 1, "label": name, "c1": c1, "ntok": ntok, "mono": mono}))
    labels = ",\n".join(entries)
    return f'{{\n"labels": [\n{labels}\n],\n"bigrams": {packed(table["bi"])},\n"trigrams": {packed(table["tri"])}\n}}'


def main():
    clean = json.loads(Path(sys.argv[1]).read_text())
    observed = packed(clean["observed_bigrams"] + clean["observed_trigrams"])
    conditions = ",\n".join(f'"{name}": {condition(clean["labels"], t)}' for name, t in clean["conditions"].items())
    text = (
        f'{{\n"format": "eyekern priors",\n"version": 1,\n"source": {json.dumps(SOURCE)},\n"ordered": false,\n'
        f'"observed": {observed},\n"conditions": {{\n{conditions}\n}}\n}}\n'
    )
    json.loads(text)
    (Path(__file__).parent.parent / "assets" / "priors.json").write_text(text)


main()
