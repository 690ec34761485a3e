"""Runs stages from the packed folder, and keeps what they gave."""
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from datetime import datetime, timezone
from pathlib import Path

from .places import HERE, fail
from .stage import LIMIT, Stage
from .stages import FIRST, FIRST_LIMIT, OPTIONAL, STAGES

LEAST = 5  # seconds that a stage is worth starting with
SHOWN = 20  # lines of a failed command


def card():
    """What nvidia-smi says of the first GPU, clocks as they are found; nothing is set."""
    asked = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
    try:
        command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = ran.stdout.splitlines()
    return dict(zip(asked.split(","), (cell.strip() for cell in rows[0].split(",")))) if rows else {}


def unpack_wheels():
    """Puts the libraries that were packed before those of this machine, for its Python only while this runs."""
    wheels, site = sorted((HERE / "wheels").glob("*.whl")), HERE / "site"
    if wheels and not site.exists():
        beside = HERE / "site.part"
        shutil.rmtree(beside, ignore_errors=True)
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(beside)
        beside.rename(site)
    if wheels:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


class Results:
    """The file of a device, written anew at every change."""

    def __init__(self, folder, device):
        self.found = card() if device == "cuda" else {}
        name = self.found.get("name") or (device if device != "cuda" else "unknown GPU")
        self.file = folder / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json")
        self.all = json.loads(self.file.read_text()) if self.file.exists() else {"device": name, "stages": {}}
        self.commit = json.loads((HERE / "pack.json").read_text())["commit"]

    def save(self, name, stage, ok):
        self.all["stages"][name] = {
            "ok": ok, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "commit": self.commit,
            "card": self.found, "host": {"cores": os.cpu_count(), "kernel": platform.release()},
            "commands": stage.commands,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.file.with_suffix(".part")
        beside.write_text(json.dumps(self.all, indent=1) + "\n")
        beside.replace(self.file)


def stopped(name, stage, folder):
    """The sentence about a stage that failed."""
    wrong = next(command for command in stage.commands if command["ok"] is False)
    words = wrong["tail"] or stage.log.read_text(errors="replace")
    print("\n".join(["", *words.splitlines()[-SHOWN:], ""]))
    how = "" if wrong["status"] is None else f" ({wrong['status']})"
    at = f"`{wrong['command']}`{how}"
    return f"the stage {name} failed at {at}: its log is {stage.log}; send back the folder {folder}"


def run(args):
    if not (HERE / "pack.json").exists():
        fail("there is nothing to run beside this script: `python3 scripts/gpu.py pack DIR`, then DIR/gpu.py run")
    first = args.stages == ["first"]
    names = list(FIRST) if first else args.stages or list(STAGES)
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        fail(f"there is no stage {unknown[0]}; there are {', '.join(STAGES)}, and `first` alone")
    seconds = args.limit or (FIRST_LIMIT if first else None)
    deadline = time.monotonic() + seconds if seconds else float("inf")
    folder = Path(args.out) if args.out else HERE / "results"

    def ended(number, _):
        print(f"ended by {signal.Signals(number).name}; what there is lies in {folder}", flush=True)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    unpack_wheels()
    results, failed, late = Results(folder, args.device), [], []
    for name in names:
        before = results.all["stages"].get(name)
        if before and before["ok"] and not args.again:
            print(f"== {name}: done before")
            continue
        left = deadline - time.monotonic()
        if left < LEAST and name not in OPTIONAL:
            late.append(name)
            continue
        print(f"== {name}", flush=True)
        # an emulator takes its time
        limit = FIRST[name] if first and args.device == "cuda" else LIMIT
        stage = Stage(args.device, min(limit, left), folder / f"{name}.log", lambda: results.save(name, stage, False))
        try:
            STAGES[name](stage)
        except Exception as why:  # the next stage can still run
            stage.say(False, f"{type(why).__name__}: {why}")
        results.save(name, stage, stage.ok())
        if stage.ok() is False:
            failed.append(name)
            if first:
                fail(stopped(name, stage, folder))
    open_ = [name for name in names if name not in [*failed, *late] and results.all["stages"][name]["ok"] is None]
    for what, which in (("failed", failed), ("no time was left for", late), ("not done in full", open_)):
        if which:
            print(f"{what}: {', '.join(which)}")
    if late:
        print("the same command goes on with them")
    print(f"{results.file}" + ("" if failed or late or open_ else ": every stage is well"))
    sys.exit(1 if failed or late else 0)
