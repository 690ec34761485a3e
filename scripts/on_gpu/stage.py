"""A stage: commands under a limit of time, with what each gave."""
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time

from .places import HERE

LIMIT = 570  # seconds of a stage
TOO_LONG = "too long"  # the status of what was ended at its limit
TOO_LATE = "no time left"  # the status of what was not started
INTERRUPTED = "interrupted"  # the status of what was ended with this script
TAIL = 4000  # characters of output that are kept beside the log
STATES = {True: "ok", False: "FAILED", None: "not done"}
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def alone():
    """In a new process, before the command: a group of its own, and its end when this script is killed. A session of
    its own would outlive the shell that this script was started from."""
    os.setpgid(0, 0)
    if LIBC:
        LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def end_of(command, env, log, limit):
    """Runs a command; its exit status, or why there is none. Its group ends with it, with the limit, and with this
    script."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, preexec_fn=alone)
    except OSError as why:
        return f"does not start: {why.strerror}"
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return TOO_LONG
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs may not let go of it
            process.wait(10)


class Stage:
    """The commands of a stage. Output goes to its log as it comes; `saved` is called at every change of `commands`."""

    def __init__(self, device, seconds, log, saved):
        self.device, self.log, self.saved, self.commands = device, log, saved, []
        self.end = time.monotonic() + seconds
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    def left(self):
        return self.end - time.monotonic()

    def ok(self):
        """False if something failed, None if something could not be looked at."""
        found = [command["ok"] for command in self.commands]
        return False if False in found else None if None in found else True

    def record(self, **more):
        self.commands.append({"seconds": 0, "status": None, "data": [], "tail": "", **more})
        self.saved()

    def run(self, *command, limit=LIMIT):
        """What a command prints. It is ended after `limit` seconds, or at the end of the stage's."""
        command = [str(word) for word in command]
        shown = " ".join(word.replace(str(HERE) + "/", "") for word in command)
        env = {**os.environ, "CARGO_MANIFEST_DIR": str(HERE), "EYEKERN_DEVICE": self.device, "PYTHONUNBUFFERED": "1"}
        if (HERE / "shared").is_dir():
            env["EYEKERN_SHARED"] = str(HERE / "shared")
        if self.left() < 1:
            self.record(command=shown, ok=False, status=TOO_LATE)
            return ""
        self.record(command=shown, ok=False, status=INTERRUPTED)
        start, left = time.monotonic(), min(limit, self.left())
        with open(self.log, "a+b") as log:
            log.write(f"$ {shown}\n".encode())
            log.flush()
            begin = log.seek(0, os.SEEK_END)
            code = end_of(command, env, log, left)
            seconds = round(time.monotonic() - start, 1)
            log.seek(begin)
            text = log.read().decode(errors="replace")
            log.write(f"== {'exit status ' if isinstance(code, int) else ''}{code}, {seconds} s\n\n".encode())
        # what was ended may have stopped in the middle of a line
        of_json = lambda line: line.startswith('{"') and line.endswith("}")
        words = [line for line in text.splitlines() if not of_json(line)]
        self.commands[-1].update(
            seconds=seconds, status=code, ok=code == 0, data=[json.loads(x) for x in text.splitlines() if of_json(x)],
            tail="\n".join(words).replace(str(HERE), ".")[-TAIL:],
        )
        self.saved()
        print(f"   {shown}: {'ok' if code == 0 else code} in {seconds} s", flush=True)
        return text

    def say(self, ok, what):
        """A finding that is no command's; None is for what could not be looked at, which is no failure."""
        self.record(command=what, ok=ok)
        with open(self.log, "a") as log:
            log.write(f"{what}: {STATES[ok]}\n")
        print(f"   {what}: {STATES[ok]}", flush=True)

    def unmeasured(self):
        """The last command took too long for its limit, which is no failure where a limit is not a sign of a hang."""
        if self.commands[-1]["status"] in (TOO_LONG, TOO_LATE):
            self.commands[-1]["ok"] = None
            self.saved()

    def test(self, name, *filters, limit=LIMIT):
        # what an emulator needs is no sign of a hang
        words = self.run(HERE / "tests" / name, *filters, limit=limit if self.device == "cuda" else LIMIT)
        total = re.search(r"(\d+) passed", words)
        # a process that crashed or was ended has told of the tests before
        passed = int(total.group(1)) if total else len(re.findall(r"^test .* \.\.\. ok$", words, re.M))
        self.commands[-1]["passed"] = passed
        self.commands[-1]["ok"] &= passed > 0
        self.saved()

    def names(self, name):
        """The tests of an executable, ignored ones left out."""
        words = self.run(HERE / "tests" / name, "--list", "--format=terse", limit=30)
        found = re.findall(r"^(\S+): test$", words, re.M)
        if not found:
            self.say(False, f"{name} lists its tests")
        return found
