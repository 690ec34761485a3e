#!/usr/bin/env python3
"""Write THIRD_PARTY_NOTICES: what the release binary contains that is others' work, with its licences.

    python3 scripts/notices.py            writes it
    python3 scripts/notices.py --check    fails where it is not what it would write (CI)

Every crate that the library and the command depend on is listed, macros that only run at build time included, with
version, licence and copyright lines. A text that several crates share is written once. Of a choice of licences MIT is
taken where it is one of them. The texts are the crates' own files; cargo must have fetched them (any build does).
Needs cargo and Python's standard library, and no network.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "THIRD_PARTY_NOTICES"
TARGET = "x86_64-unknown-linux-gnu"

# licence texts of sources inside a crate that are others' again
INSIDE = {"tree-sitter": ["src/unicode/LICENSE"]}

# the text for crates that name a licence and bring no file
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated \
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the \
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit \
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the \
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE \
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR \
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR \
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""

HEAD = """Third-party notices of eyekern

eyekern itself is under MIT or Apache-2.0, at your choice (LICENSE-MIT, LICENSE-APACHE). Its binary contains the works
below. Written by scripts/notices.py from Cargo.lock; do not edit.

Data
  assets/priors.json: figures of the EyeMulator artifact (https://arxiv.org/abs/2508.16771), CC-BY-4.0
    (https://creativecommons.org/licenses/by/4.0/), changed in form; they rest on the EyeTrans data.

Rust
  The standard library: Copyright The Rust Project contributors, MIT OR Apache-2.0 (https://www.rust-lang.org).

Crates. The grammars (tree-sitter-*) and tree-sitter contain C that is compiled in; tree-sitter contains a part of ICU.
"""


def crates():
    """Packages that are linked in or run as macros, sorted; eyekern left out."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", f"--filter-platform={TARGET}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}cargo knows not all crates: build once, then try again")
    metadata = json.loads(done.stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        crate = todo.pop()
        if crate in seen:
            continue
        seen.add(crate)
        for dep in nodes[crate]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])
    linked = [package for package in metadata["packages"] if package["id"] in seen - {root}]
    return sorted(linked, key=lambda package: (package["name"], package["version"]))


def files(package):
    """The licence files of a package that go into the notices."""
    folder = Path(package["manifest_path"]).parent
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path for path in found if re.match(r"(un)?licen[cs]e|copying|copyright|notice", path.name, re.I)]
    licence = package["license"] or ""
    if "MIT" in licence and " AND " not in licence:
        mit = [path for path in found if "mit" in path.name.lower()]
        other = [path for path in found if not re.search(r"apache|unlicense|zlib|bsl|boost|bsd|0bsd|lgpl|cc0", path.name, re.I)]
        found = mit or other or found
    return found + [folder / name for name in INSIDE.get(package["name"], [])]


def parts(text):
    """The copyright lines of a licence file, and the rest."""
    lines = text.replace("\r\n", "\n").expandtabs().splitlines()
    held = [line.strip() for line in lines if re.match(r"\s*copyright\s+(\(c\)|©|\d|the |[A-Z])", line, re.I)]
    # the terms themselves begin lines with the word, too
    held = [line for line in held if not re.match(r"copyright (notice|holder|owner|license|and |statement)", line, re.I)]
    if "Apache License" in text and "[yyyy]" in text:
        held = [line for line in held if "[yyyy]" not in line]
    rest = "\n".join(line.rstrip() for line in lines if line.strip() not in held)
    return held, re.sub(r"\n{3,}", "\n\n", rest).strip("\n")


def notices():
    text = HEAD
    bodies, users, wrong = {}, defaultdict(list), []
    for package in crates():
        name = f"{package['name']} {package['version']}"
        if not package["license"]:
            wrong.append(name)
            continue
        text += f"  {name}: {package['license']}\n"
        holders, found = [], files(package)
        for path in found:
            held, body = parts(path.read_text(encoding="utf-8", errors="replace"))
            key = re.sub(r"\W+", " ", body).lower().strip()
            bodies.setdefault(key, body)
            users[key].append(name)
            holders += [line for line in held if line not in holders]
        if not found:
            if "MIT" in package["license"]:
                key = re.sub(r"\W+", " ", MIT).lower().strip()
                bodies.setdefault(key, MIT)
            else:
                key = re.sub(r"\W+", " ", package["license"]).lower()
                bodies.setdefault(key, f"Under {package['license']}; the crate brings no licence file.")
            users[key].append(name)
            holders += [f"The authors: {', '.join(package['authors'])}"] if package["authors"] else []
        text += "".join(f"    {line}\n" for line in holders)
    if wrong:
        sys.exit(f"crates without a licence: {', '.join(wrong)}")
    for key in sorted(bodies, key=lambda key: (-len(users[key]), users[key])):
        names = ", ".join(sorted(set(users[key])))
        text += f"\n{'=' * 100}\nOf {names}:\n\n{bodies[key]}\n"
    return text


def main():
    made = notices()
    if sys.argv[1:] == ["--check"]:
        if not FILE.is_file() or FILE.read_text(encoding="utf-8") != made:
            sys.exit("THIRD_PARTY_NOTICES is not that of Cargo.lock: run `python3 scripts/notices.py` and commit it")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        FILE.write_text(made, encoding="utf-8")


main()
