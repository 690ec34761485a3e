"""What the checks of pages share: a page is laid out in headless Chromium at several widths, light and dark, and looked
at by its script and browser.js; its picture is looked at; then it is broken in several ways, and each must be noticed.

A script beside this one describes its page with `Page` and calls `main`. Standard library only.
"""

import argparse
import collections
import html
import html.parser
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Callable, NamedTuple, Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIGHT, DARK = (0xFD, 0xFD, 0xFB), (0x14, 0x17, 0x1B)
# dark, and the width of the window
LAYOUTS = ((False, 1400), (False, 480), (True, 1400), (True, 900), (True, 480))
# what pages have in common that must not go unnoticed: a name, what to replace, and by what
OUTSIDE = ("an address outside", "<main>", '<main><a href="https://example.org/">x</a>')
NO_POLICY = ("no policy", "script-src 'nonce-checks'", "script-src 'unsafe-inline'")
SMUGGLED = ("text becomes an element", "&lt;img src=x", "<img src=x")


class Picture(NamedTuple):
    """The picture of a page, light and dark."""

    style: str  # leads to the part of the page that is looked at
    width: int
    height: int
    wrong: Callable  # (pixels of each colour, colour of the paper) -> what is wrong: a list of sentences
    broken: Optional[tuple] = None  # a breakage of the dark picture


class Page(NamedTuple):
    """A page of a command, and what is particular to looking at it."""

    command: str  # COMMAND.js looks at the page
    build: Callable  # (eyekern, folder) -> of each page that is laid out: its name, the page, what the script expects
    breakages: list  # what must not go unnoticed, tried on the first page: a name, what to replace, and by what
    picture: Optional[Picture] = None
    own_script: bool = False  # the page has a script, and so a policy that names one


def eyekern(binary, *args):
    """Runs the command, which must succeed. Settings in the environment do not reach it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("EYEKERN_")}
    done = subprocess.run([str(a) for a in (binary, *args)], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"eyekern {' '.join(map(str, args))}\n{done.stderr}")


def chromium(program, dark, *flags):
    """Runs Chromium on its own empty profile; its standard output and standard error."""
    with tempfile.TemporaryDirectory() as profile:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        quiet += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
        quiet += ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
        command = [program, *quiet, f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode(), done.stderr.decode()


def nonce(page, kind):
    """The number by which the page's policy knows scripts or styles."""
    found = re.search(f"{kind}-src '?nonce-(\\w+)'", page)
    return found.group(1) if found else ""


def admit(page, of):
    """The page with a policy that lets the checks run: by its own number, or one that is put into the policy."""
    if of.own_script:
        return page
    if "default-src 'none';" not in page or "script-src" in page:
        sys.exit("the page has another policy than expected")
    return page.replace("default-src 'none';", "default-src 'none'; script-src 'nonce-checks';", 1)


def faults(page, wanted, of, work, program, dark, width):
    """What is wrong with a page that is laid out: a list of sentences."""
    found = Addresses()
    found.feed(page)
    wrong = [f"an address: {a}" for a in found.found]
    own = nonce(page, "script") or "checks"
    # a hostile text must not end the script
    told = json.dumps({"wanted": wanted, "scripts": 2 + of.own_script}).replace("<", "\\u003c")
    first, last = ((HERE / name).read_text() for name in ("browser.js", f"{of.command}.js"))
    page = page.replace("<title>", f'<script nonce="{own}">Object.assign(window, {told});\n{first}</script><title>', 1)
    page = page.replace("</body>", f'<script nonce="{own}">{last}</script></body>', 1)
    file = work / "checked.html"
    file.write_text(page)
    dom, log = chromium(program, dark, f"--window-size={width},900", "--virtual-time-budget=3000", "--dump-dom",
                        f"file://{file}")
    console = [line for line in log.splitlines() if "CONSOLE" in line]
    # the one message that is wanted: the policy stopping the script that the checks smuggle in
    wrong += [line for line in console if "Content Security Policy" not in line]
    result = re.search(r'<pre id="checks">(.*?)</pre>', dom, re.S)
    return wrong + (json.loads(html.unescape(result.group(1))) if result else ["the checks did not come to an end"])


def picture(page, of, work, program, dark):
    """What is wrong with the picture of a page: a list of sentences."""
    number = nonce(page, "style")
    style = f'<style nonce="{number}">' if number else "<style>"
    shot = work / f"{of.command}-{'dark' if dark else 'light'}.png"
    file = work / "shot.html"
    file.write_text(page.replace("</head>", f"{style}{of.picture.style}</style></head>", 1))
    size = f"--window-size={of.picture.width},{of.picture.height}"
    chromium(program, dark, size, f"--screenshot={shot}", f"file://{file}")
    rows, paper = pixels(shot.read_bytes()), DARK if dark else LIGHT
    wrong = [] if rows[0][0] == paper else [f"the paper is {rows[0][0]}, not {paper}"]
    return wrong + of.picture.wrong(collections.Counter(pixel for row in rows for pixel in row), paper)


def breakage(page, old, new):
    broken = old.sub(new, page) if isinstance(old, re.Pattern) else page.replace(old, new)
    return broken if broken != page else None


def main(of, doc):
    """Checks the pages of a command. The exit status: 0 if all is well, 1 if not, 77 if there is no Chromium."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--keep", type=Path, help="leave pages and pictures in this folder")
    given = parser.parse_args()
    if not given.chromium:
        print(f"no Chromium, so the page of `eyekern {of.command}` is not rendered (Debian: apt-get install chromium)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work, bad, whole = given.keep or Path(folder), 0, None
        work.mkdir(exist_ok=True)

        def found(what, wrong):
            nonlocal bad
            print(f"{what}: {'; '.join(wrong) or 'well'}")
            bad += len(wrong)

        def noticed(name, wrong):
            nonlocal bad
            print(f"broken on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong

        look = lambda page, wanted, *layout: faults(page, wanted, of, work, given.chromium, *layout)
        for name, page, wanted in of.build(given.eyekern, work):
            page = admit(page, of)
            whole = whole or (page, wanted)
            for dark, width in LAYOUTS:
                found(f"{name}, {'dark' if dark else 'light'}, {width} wide", look(page, wanted, dark, width))
        page, wanted = whole
        for dark in (False, True) if of.picture else ():
            found(f"{'dark' if dark else 'light'} picture", picture(page, of, work, given.chromium, dark))
        for name, old, new in of.breakages if not bad else []:
            broken = breakage(page, old, new)
            # overflows show on a narrow screen, columns on a wide one
            noticed(name, broken and (look(broken, wanted, False, 480) or look(broken, wanted, False, 1400)))
        if of.picture and of.picture.broken and not bad:
            name, old, new = of.picture.broken
            broken = breakage(page, old, new)
            noticed(name, broken and picture(broken, of, work, given.chromium, True))
    print("the pages are well" if not bad else f"{bad} faults")
    return 1 if bad else 0


ASKING = ("src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data", "background")


class Addresses(html.parser.HTMLParser):
    """Collects attributes that would make a browser ask for something."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if (name in ASKING and not value.startswith("#")) or name == "ping" or name.startswith("on"):
                self.found.append(f"<{tag} {name}={value!r}>")
            if name not in ("title", "xmlns") and re.search(r"https?://", value or ""):
                self.found.append(f"<{tag} {name}={value!r}>")


def pixels(png):
    """Width and rows of RGB bytes of a picture of 8 bits a channel."""
    at, data = 8, b""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    channels = {2: 3, 6: 4}[kind]
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    raw, stride, above, rows = zlib.decompress(data), width * channels, bytearray(width * channels), []
    for y in range(height):
        begin = y * (stride + 1)
        how, line = raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride])
        for x in range(stride if how else 0):
            left, up = (line[x - channels] if x >= channels else 0), above[x]
            corner = above[x - channels] if x >= channels else 0
            if how == 4:
                near = left + up - corner
                guess = min((left, up, corner), key=lambda v: abs(near - v))
            else:
                guess = {1: left, 2: up, 3: (left + up) // 2}[how]
            line[x] = (line[x] + guess) & 255
        rows.append([tuple(line[x : x + 3]) for x in range(0, stride, channels)])
        above = line
    return rows
