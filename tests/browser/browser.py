"""What the checks of pages share: headless Chromium, the addresses of a page, the pixels of a picture."""

import html
import html.parser
import json
import pathlib
import re
import struct
import subprocess
import tempfile
import zlib


def chromium(program, *flags):
    """Runs Chromium on its own empty profile; its standard output and standard error."""
    with tempfile.TemporaryDirectory() as profile:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        quiet += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
        command = [program, *quiet, f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode(), done.stderr.decode()


def scheme(dark):
    return "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")


def faults(page, checks, work, program, width, dark, first="", nonce="checks"):
    """What is wrong with a page that is laid out: a list of sentences.

    The script `checks` (a file beside this one) looks at it and writes its findings into an element of that name;
    `first` runs before the page. Both carry the number that the page's policy asks of scripts.
    """
    found = Addresses()
    found.feed(page)
    wrong = [f"an address: {a}" for a in found.found]
    first = f"window.failures = [];{first}addEventListener('error', (e) => failures.push('error: ' + e.message));"
    script = (pathlib.Path(__file__).resolve().parent / checks).read_text()
    page = page.replace("<title>", f'<script nonce="{nonce}">{first}</script><title>', 1)
    page = page.replace("</body>", f'<script nonce="{nonce}">{script}</script></body>', 1)
    file = work / "checked.html"
    file.write_text(page)
    flags = [f"--window-size={width},900", scheme(dark), "--virtual-time-budget=3000", "--dump-dom", f"file://{file}"]
    dom, log = chromium(program, *flags)
    console = [line for line in log.splitlines() if "CONSOLE" in line]
    # the one message that is wanted: the policy stopping the script that the checks smuggle in
    wrong += [line for line in console if "Content Security Policy" not in line]
    result = re.search(r'<pre id="checks">(.*?)</pre>', dom, re.S)
    return wrong + (json.loads(html.unescape(result.group(1))) if result else ["the checks did not come to an end"])


def wanted(value):
    """A script that hands a value to the checks. A hostile text must not end it."""
    return f"window.wanted = {json.dumps(value)};".replace("<", "\\u003c")


class Addresses(html.parser.HTMLParser):
    """Collects attributes that would make a browser ask for something."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            asks = name in ("src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data", "background")
            if (asks and not value.startswith("#")) or name == "ping" or name.startswith("on"):
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
