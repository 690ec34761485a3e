#!/usr/bin/env python3
"""Compares the behaviour of the working tree with an earlier commit, bit for bit, on one machine.

    python3 scripts/same                      # the newest tag is the earlier commit; without tags, HEAD~1
    python3 scripts/same COMMIT --keep DIR    # keeps builds and outputs in DIR and uses its builds again
    python3 scripts/same --only full,model-   # runs only the cases whose names begin so; --list prints the names
    python3 scripts/same --bins OLD NEW --emulator-bins OLD NEW
                                              # takes finished programs, without and with the emulator

A refactoring must not change results. The script builds COMMIT in a clone in a temporary folder and the working tree
in its place, each without and with `--features emulator`. It runs both programs on the same inputs, in fresh folders
with the same path, and compares every file that they write. cases.py defines the cases: training, checkpoints and
their resumption, generation, dry runs, merged models, labels, priors, pages, emulated runs, exit statuses, and the
machine code of every CUDA kernel. Three cases begin with the old program on both sides: the new program must resume
its checkpoints, run beside its data cache and complete its file of generated rows.

Each case prints one line:

    same     NAME  N files
    DIFFERS  NAME  FILE: the first difference
    FAILED   NAME  a command with an unexpected exit status, or a file that is missing
    skipped  NAME  the reason

The exit status is 1 if any case differs or failed. Files are compared byte by byte, with these exceptions:

- .json, .jsonl and .toml are compared by value: the order of keys and comments do not count, numbers must be equal.
- In metrics.jsonl seconds, mfu, peak_bytes, seconds_left, time and eval_seconds are ignored, in products.json microseconds.
- In TensorBoard event files times and the recipe's comments are ignored.
- In checkpoint.b3 the hash of a file counts only where the file is the same on both sides.
- Text for people is ignored unless --texts is given: what train, demo and export print, notes, progress, help. With
  --texts it is compared without times, speeds and peaks of memory. The output of label, priors, inspect, kernels,
  generate, `train --dry-run` and `train --print-config` is always compared.
- A refusal must have the same exit status and a message that begins with `eyekern: `.
- Of `doctor --format json` the keys and the types of the values are compared.
- Of a kernel in a cubin the code, constants, static shared memory and attributes are compared. File names, the order
  of symbols and debug information do not count.

If EYEKERN_SHARED is set, the models and data in that folder are used too. To check that everything is deterministic,
compare a commit with itself. The script needs Python 3.11, git and cargo. Both builds use the NVRTC in
third_party/nvrtc, or the one that EYEKERN_NVRTC names.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cases
from files import folders
from run import Failed, Run, Skipped

ROOT = Path(__file__).resolve().parents[2]


def fail(why):
    sys.exit(f"same: {why}")


# ---- builds


class Side:
    """The programs of one side: `plain`, `emulator` and the folder `gpu` of the made-up GPU's libraries, or None."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.plain = self.emulator = self.gpu = None
        folder.mkdir(parents=True)

    def take(self, kind, program, gpu=None):
        """Copies a program, as the next build writes to the same place."""
        (self.folder / kind).mkdir()
        setattr(self, kind, Path(shutil.copy2(program, self.folder / kind / "eyekern")))
        if gpu and gpu.is_dir():
            self.gpu = Path(shutil.copytree(gpu, self.folder / "gpu"))


def build(source, side, target=(), env=None):
    """Builds the programs of a side without and with the emulator."""
    for kind, features in ("plain", ()), ("emulator", ("--features", "emulator")):
        words = ["cargo", "build", "--release", "--locked", "--bin", "eyekern", *features, *target]
        print(f"building {side.name}: {' '.join(words)}", flush=True)
        ran = subprocess.run([*words, "--message-format=json-render-diagnostics"], cwd=source, env=env,
                             stdout=subprocess.PIPE, text=True)
        if ran.returncode:
            fail(f"{source}: the build failed")
        messages = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        program = next(m["executable"] for m in messages if m.get("executable"))
        outs = (Path(m["out_dir"]) for m in messages if m["reason"] == "build-script-executed")
        side.take(kind, program, next(out for out in outs if out.parent.name.startswith("eyekern-")) / "made_up_gpu")


def git(*words):
    ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else None


def build_both(args, work, old, new):
    commit = args.commit or git("describe", "--tags", "--abbrev=0") or "HEAD~1"
    full = git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") or fail(f"{commit} is no commit")
    clone = work / "source"
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", full], check=True)
    env = dict(os.environ)
    if (nvrtc := ROOT / "third_party/nvrtc").is_dir():
        env.setdefault("EYEKERN_NVRTC", str(nvrtc))
    build(clone, old, ("--target-dir", str(work / "target")), env)
    build(ROOT, new)


def take_finished(args, old, new):
    """Takes finished programs, and the libraries of the made-up GPU from the same target directory."""
    for kind, programs in ("plain", args.bins), ("emulator", args.emulator_bins or ()):
        for side, program in zip((old, new), map(Path, programs)):
            near = list(program.resolve().parents)[:2]  # release, or release/deps
            gpu = [found for folder in near for found in folder.glob("build/eyekern-*/out/made_up_gpu")]
            side.take(kind, program, max(gpu, key=os.path.getmtime) if gpu and kind == "emulator" else None)


# ---- cases


def attempt(case, run):
    """Why a case did not come to its end; None where it did."""
    try:
        case(run)
    except (Failed, Skipped) as why:
        return why
    except (OSError, ValueError) as why:  # a file that the case reads is missing or torn
        return Failed(f"{type(why).__name__}: {why}")
    return None


def judge(name, case, sides, place, texts):
    """Runs a case on both sides; the result as a word, and what explains it."""
    ended = []
    for side in sides:
        ended.append(attempt(case, Run(place / "here", side, sides[0])))
        kept = place / side.name / name
        kept.parent.mkdir(exist_ok=True)
        (place / "here").rename(kept)
    if all(isinstance(why, Skipped) for why in ended):
        return "skipped", str(ended[0])
    if any(ended):
        each = [f"{side.name}: {why or 'ends well'}" for side, why in zip(sides, ended)]
        return "FAILED", f"both: {ended[0]}" if str(ended[0]) == str(ended[1]) else "; ".join(each)
    count, differences = folders(*(place / side.name / name for side in sides), texts)
    if not count:
        return "FAILED", "no files to compare"
    if differences:
        more = len(differences) - 1
        return "DIFFERS", differences[0] + (f" (and {more} more files)" if more else "")
    return "same", f"{count} files"


def arguments():
    about, how = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(prog="same", description=about, epilog=how,
                                     formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("commit", nargs="?", help="the earlier commit; default: the newest tag, else HEAD~1")
    add("--bins", nargs=2, metavar=("OLD", "NEW"), help="two finished programs instead of builds")
    add("--emulator-bins", nargs=2, metavar=("OLD", "NEW"), help="two with the emulator, beside --bins")
    add("--keep", metavar="DIR", help="keep builds and outputs in DIR")
    add("--only", metavar="NAME,...", help="run only cases whose names begin so")
    add("--texts", action="store_true", help="also compare texts for people: notes, progress, help")
    add("--list", action="store_true", help="print the names of the cases")
    args = parser.parse_args()
    if args.commit and args.bins or args.emulator_bins and not args.bins:
        parser.error("give a commit, or --bins with or without --emulator-bins")
    return args


def choose(args):
    """The cases to run, by name."""
    found = cases.all_cases(args.texts)
    starts = tuple((args.only or "").split(","))
    if unknown := [start for start in starts if not any(name.startswith(start) for name in found)]:
        fail(f"no case begins with {', '.join(unknown)}; --list prints all names")
    return {name: case for name, case in found.items() if name.startswith(starts)}


def compare(args, chosen, work):
    """Builds, runs and prints; whether everything is the same."""
    place = work / "compared"
    shutil.rmtree(place, ignore_errors=True)
    sides = [Side(name, place / "programs" / name) for name in ("old", "new")]
    if args.bins:
        take_finished(args, *sides)
    else:
        build_both(args, work, *sides)
    start = time.monotonic()
    if why := attempt(cases.inputs, Run(place / "inputs", sides[0], sides[0])):
        fail(f"the old program cannot make the inputs: {why}")
    count = {"same": 0, "DIFFERS": 0, "FAILED": 0, "skipped": 0}
    for name, case in chosen.items():
        word, why = judge(name, case, sides, place, args.texts)
        count[word] += 1
        print(f"{word:7}  {name}  {why}", flush=True)
    counts = ", ".join(f"{n} {word}" for word, n in count.items())
    print(f"\n{counts}; {time.monotonic() - start:.0f} s without builds")
    return not count["DIFFERS"] and not count["FAILED"]


def main():
    args = arguments()
    chosen = choose(args)
    if args.list:
        return print(*chosen, sep="\n")
    if args.keep:
        return 0 if compare(args, chosen, Path(args.keep).resolve()) else 1
    with tempfile.TemporaryDirectory(prefix="eyekern-same-") as work:
        return 0 if compare(args, chosen, Path(work).resolve()) else 1


if __name__ == "__main__":
    sys.exit(main())
