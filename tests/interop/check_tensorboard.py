#!/usr/bin/env python3
"""The event file of a run, read by TensorBoard itself.

    python3 tests/interop/check_tensorboard.py [--eyekern target/release/eyekern]

Trains the demo's model for a few steps with `train.report_to = "tensorboard"`, cuts the run by a resume from an earlier
checkpoint, and reads `runs/` with the EventAccumulator of the package `tensorboard` after each. Every number of
metrics.jsonl must be there once, under its step, its tag and its time, to 32 bits, and nothing else. Then the file is
spoilt in several ways, and each must be noticed. Exit status 0 if all is well, 1 if not, 77 without the package.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("no package tensorboard, so no event file is read (pip install tensorboard)")
    sys.exit(77)

ROOT = Path(__file__).resolve().parent.parent.parent
SETS = ["train.report_to=tensorboard", "train.save_steps=2", "train.eval_steps=2", "train.save_total_limit=9"]


def eyekern(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"eyekern {' '.join(map(str, args))}\n{done.stderr}")


def wanted(out):
    """(tag, step) -> (value, time), from metrics.jsonl."""
    values = {}
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        for key, value in line.items() if "step" in line else []:
            if key not in ("step", "time") and value is not None:
                tag = "eval/" + key[5:] if key.startswith("eval_") else "train/" + key
                assert (tag, line["step"]) not in values, f"twice in metrics.jsonl: {tag}"
                values[tag, line["step"]] = (float(value), line["time"])
    return values


def faults(out, recipe):
    """What is wrong with the event file of a run: a list of sentences."""
    accumulator = EventAccumulator(str(out / "runs"), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    wrong, left = [], wanted(out)
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            value, time = left.pop((tag, event.step), (None, None))
            if value is None:
                wrong.append(f"{tag} of step {event.step}: twice, or not in metrics.jsonl")
            elif struct.pack("f", value) != struct.pack("f", event.value):
                wrong.append(f"{tag} of step {event.step}: {event.value}, not {value}")
            elif event.wall_time != time:
                wrong.append(f"{tag} of step {event.step}: at {event.wall_time}, not {time}")
    wrong += [f"{tag} of step {step}: missing" for tag, step in left]
    texts = accumulator.Tags()["tensors"]
    if texts != ["recipe"] or recipe not in accumulator.Tensors("recipe")[0].tensor_proto.string_val[0].decode():
        wrong.append(f"the recipe is not told: {texts}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern")
    binary = parser.parse_args().eyekern
    with tempfile.TemporaryDirectory() as folder:
        demo, out = Path(folder) / "demo", Path(folder) / "out"
        eyekern(binary, "demo", "--steps", 2, "--output-dir", demo)
        sets = [*SETS, f"train.output_dir={out}", f"data.validation_file={demo / 'pairs.jsonl'}"]
        train = ["train", demo / "recipe.toml", *(part for s in sets for part in ("--set", s))]
        bad = 0
        for name, more in [
            ("a run", ["--set", "train.max_steps=6"]),
            ("resumed from step 2", ["--set", "train.max_steps=8", "--resume", out / "checkpoint-2"]),
        ]:
            eyekern(binary, *train, *more)
            wrong = faults(out, "[model]\n")
            print(f"{name}: {len(wanted(out))} values; {'; '.join(wrong) or 'well'}")
            bad += len(wrong)
        (file,) = (out / "runs").iterdir()
        whole = file.read_bytes()
        last = len(whole) - 40
        for name, spoilt in [
            ("the last record is lost", whole[: whole.rindex(b"\x09", 0, last)]),
            ("a bit is wrong", whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :]),
            ("a tag is another", whole.replace(b"train/loss", b"train/lass")),
            ("the recipe is gone", whole.replace(b"[model]", b"[nodel]")),
        ] if not bad else []:
            file.write_bytes(spoilt)
            wrong = faults(out, "[model]\n")
            print(f"spoilt on purpose, {name}: {wrong[0] if wrong else 'NOT NOTICED'}")
            bad += not wrong
    print("TensorBoard reads what was written" if not bad else f"{bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
