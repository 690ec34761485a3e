"""What the checks of pages share: headless Chromium, the addresses of a page, the pixels of a picture."""

import html.parser
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
