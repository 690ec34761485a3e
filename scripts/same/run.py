"""The commands of a case, run by one side's programs."""
import json
import os
import shutil
import subprocess

from files import SAID, short

LIMIT = 900  # seconds of a command


class Failed(Exception):
    """A command did not end as it should."""


class Skipped(Exception):
    """A case cannot run here."""


class Run:
    """The commands of a case on one side, in a fresh folder that has the same path for both sides.

    `run("label", "A.java", out="a.txt")` runs the side's program and keeps its standard output in a file."""

    def __init__(self, here, side, first):
        self.here, self.side, self.first, self.commands = here, side, first, 0
        self.home = here.parent / "home"
        for folder in here, self.home:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def __call__(self, *words, out=None, status=0, env=None, stdin="", kind="plain", side=None):
        program = getattr(side or self.side, kind)
        if program is None:
            raise Skipped("there is no program with the emulator; give --emulator-bins")
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.home), **(env or {})}
        words = [str(word) for word in words]
        command = f"`{short(' '.join(words), 100)}`"
        try:
            ran = subprocess.run([program, *words], cwd=self.here, env=env, input=stdin.encode(), capture_output=True,
                                 timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise Failed(f"more than {LIMIT} s: {command}") from None
        errors = ran.stderr.decode(errors="replace").splitlines()
        if ran.returncode != status or (status and not any(line.startswith("eyekern: ") for line in errors)):
            why = short("; ".join(errors[-3:]), 300)
            raise Failed(f"exit status {ran.returncode}, not {status}: {why}: {command}")
        self.commands += 1
        said = self.here / f"{self.commands:03}"
        (self.here / out if out else said.with_suffix(".stdout" + SAID)).write_bytes(ran.stdout)
        said.with_suffix(".stderr" + SAID).write_bytes(ran.stderr)

    def old(self, *words, **options):
        """The old program on either side."""
        self(*words, side=self.first, **options)

    def train(self, settings, *flags, old=False, **options):
        """`eyekern train` with settings instead of a recipe."""
        value = lambda v: v if isinstance(v, str) else json.dumps(v)
        sets = [word for key, v in settings.items() for word in ("--set", f"{key}={value(v)}")]
        (self.old if old else self)("train", *sets, *flags, **options)
