#!/usr/bin/env python3
"""`scripts/gpu.py run first` with programs that are made up: what it does where all is well, where a stage fails, hangs
or crashes, where it is ended from outside, and where there is no time. No build and no GPU is needed.

    python3 tests/first_run.py

Standard library only. Exit status 0 if all is well, 1 if not.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ["doctor", "conformance", "kernels", "models", "peers-bf16", "sanitizer"]
PATIENCE = 60  # seconds until something that must happen has not happened
PASSED = "echo 'test result: ok. 1 passed; 0 failed'"
HANGS = "echo before; sleep 1000 & echo child $!; echo own $$; wait"

# a shell script for each program
WELL = {
    "eyekern": """case "$*" in
        'doctor --format json') printf '{\\n  "can_train": {\\n    "gpu": true\\n  }\\n}\\n' ;;
        *'bench step'*) echo '{"engine": "eyekern", "tok_s": 2.0}' ;;
    esac""",
    "tests/conformance": PASSED,
    "tests/kernels": f"""case "$*" in
        *--list*) for name in attention::a far::b rows::c; do echo "$name: test"; done ;;
        *) {PASSED} ;;
    esac""",
    "tests/emulated": f"""case "$*" in *--list*) echo 'tests/fixtures::tiny: test' ;; *) {PASSED} ;; esac""",
    "bin/nvidia-smi": "echo 'Made Up, 1, 2, 3, 4, 5, 6, 7'",
}
TORCH = """import json, sys
variant = sys.argv[sys.argv.index("--variants") + 1]
more = {"tok_s": 1.0} if variant == "compiled-bf16" else {"error": "not installed: cudnn"}
print(json.dumps({"engine": "torch", "variant": variant, **more}))
"""


def check(holds, *words):
    if not holds:
        sys.exit("first_run.py: " + " ".join(map(str, words)))


class Machine:
    """A packed folder, its programs, and a machine's search path."""

    def __init__(self, folder, torch=False, **programs):
        self.folder, self.out = Path(folder) / "pack", Path(folder) / "out"
        shutil.copytree(ROOT / "scripts/on_gpu", self.folder / "on_gpu")
        shutil.copy2(ROOT / "scripts/gpu.py", self.folder)
        (self.folder / "pack.json").write_text(json.dumps({"commit": "none", "emulator": False}))
        (self.folder / "torch_gpu.py").write_text(TORCH)
        self.write({**WELL, **programs})
        self.env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin"}
        if torch:
            (self.folder / "bin/torch.py").write_text("")
            self.env["PYTHONPATH"] = str(self.folder / "bin")

    def write(self, programs):
        for name, text in programs.items():
            file = self.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\n{text}\n")
            file.chmod(0o755)

    def start(self, *more):
        # without the packages of this Python, which may have PyTorch
        command = [sys.executable, "-S", self.folder / "gpu.py", "run", "first", "--out", self.out, *more]
        pipe = subprocess.PIPE
        return subprocess.Popen([str(x) for x in command], stdout=pipe, stderr=pipe, text=True, env=self.env)

    def run(self, *more):
        """Exit status, standard output and standard error."""
        process = self.start(*more)
        return (lambda out, err: (process.returncode, out, err))(*process.communicate(timeout=PATIENCE))

    def stages(self):
        return json.loads((self.out / "made-up.json").read_text())["stages"]

    def log(self, stage):
        return (self.out / f"{stage}.log").read_text()


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_for(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        check(time.monotonic() < end, "waited in vain for", what)
        time.sleep(0.05)


def pids(log):
    return {line.split()[0]: int(line.split()[1]) for line in log.splitlines() if line.startswith(("child ", "own "))}


def all_is_well(folder):
    machine = Machine(folder)
    status, out, err = machine.run()
    check(status == 0 and err == "", "all is well:", status, out, err)
    stages = machine.stages()
    check(list(stages) == STAGES, "stages:", list(stages))
    check([stages[name]["ok"] for name in STAGES] == [True] * 4 + [None] * 2, "what is well:", out)
    groups = [command["command"] for command in stages["kernels"]["commands"]]
    expected = ["--list --format=terse", "rows::", "attention::"]
    check(groups == [f"tests/kernels {words}" for words in expected], groups)
    check("PyTorch is not installed for " in out and "no compute-sanitizer on this machine" in out, out)
    check("not done in full: peers-bf16, sanitizer\n" in out, out)
    files = sorted(file.name for file in machine.out.iterdir())
    check(files == sorted(["made-up.json", *(f"{name}.log" for name in STAGES)]), files)


def pytorch_and_a_sanitizer_that_does_not_work(folder):
    refusal = "echo 'Error: Device not supported'; exit 1"
    machine = Machine(folder, torch=True, **{"bin/compute-sanitizer": refusal})
    status, out, err = machine.run()
    check(status == 0, status, out, err)
    commands = machine.stages()["peers-bf16"]["commands"]
    engines = [line["engine"] for command in commands for line in command["data"]]
    check(engines == ["eyekern", "torch", "torch", "eyekern"] and machine.stages()["peers-bf16"]["ok"], engines)
    check("compute-sanitizer does not work here: Device not supported: not done" in out, out)
    status, out, _ = machine.run("--again")
    check(status == 0 and "done before" not in out, "--again:", out)


def a_stage_that_fails(folder):
    machine = Machine(folder, **{"tests/conformance": "echo wgmma differs >&2; exit 101"})
    status, out, err = machine.run()
    sentence = (f"gpu.py: the stage conformance failed at `tests/conformance` (101): its log is {machine.out}"
                f"/conformance.log; send back the folder {machine.out}\n")
    check(status == 1 and err == sentence, status, err)
    check("wgmma differs" in out and "wgmma differs" in machine.log("conformance"), out)
    check(list(machine.stages()) == STAGES[:2] and machine.stages()["conformance"]["ok"] is False, machine.stages())
    # mended, it goes on where it was
    machine.write({"tests/conformance": PASSED})
    status, out, err = machine.run()
    check(status == 0 and "== doctor: done before" in out, status, out, err)
    check([name for name in machine.stages()] == STAGES, machine.stages())


def a_group_that_crashes(folder):
    kernels = WELL["tests/kernels"].replace("*) echo", "rows::) echo 'test rows::c ... ok'; kill -SEGV $$ ;;\n*) echo")
    machine = Machine(folder, **{"tests/kernels": kernels})
    status, _, err = machine.run()
    check(status == 1 and "the stage kernels failed at `tests/kernels rows::` (-11): " in err, status, err)
    found = [(command["ok"], command.get("passed")) for command in machine.stages()["kernels"]["commands"]]
    check(found == [(True, None), (False, 1), (True, 1)], "the groups after it:", found)


def a_stage_that_hangs(folder):
    machine = Machine(folder, eyekern=HANGS)
    status, out, err = machine.run("--limit", "12")
    check(status == 1 and "the stage doctor failed at `eyekern doctor --format json` (too long): " in err, status, err)
    check("before\n" in machine.log("doctor"), machine.log("doctor"))
    check(machine.stages()["doctor"]["commands"][0]["status"] == "too long", machine.stages())
    for which, pid in pids(machine.log("doctor")).items():
        wait_for(f"the end of {which} {pid}", lambda: gone(pid))


def an_end_from_outside(folder, number):
    machine = Machine(folder, **{"tests/conformance": HANGS})
    process = machine.start()
    log = machine.out / "conformance.log"
    wait_for("the stage that hangs", lambda: log.exists() and "own" in pids(machine.log("conformance")))
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    check(number == signal.SIGKILL or out.endswith(f"ended by SIGTERM; what there is lies in {machine.out}\n"), out)
    check(process.returncode == (-number if number == signal.SIGKILL else 128 + number), process.returncode)
    found = machine.stages()
    check(list(found) == STAGES[:2] and found["doctor"]["ok"] and found["conformance"]["ok"] is False, found)
    check(found["conformance"]["commands"][0]["status"] == "interrupted", found["conformance"])
    check("before\n" in machine.log("conformance"), machine.log("conformance"))
    started = pids(machine.log("conformance"))
    wait_for("the end of the command", lambda: gone(started["own"]))
    if number == signal.SIGKILL:
        os.kill(started["child"], signal.SIGKILL)  # which no script that is killed can do
    wait_for("the end of its child", lambda: gone(started["child"]))


def no_time(folder):
    machine = Machine(folder)
    status, out, _ = machine.run("--limit", "1")
    check(status == 1 and f"no time was left for: {', '.join(STAGES[:-1])}\n" in out, status, out)


def the_documented_limits(_):
    sys.path.insert(0, str(ROOT / "scripts"))
    from on_gpu.stages import FIRST, FIRST_LIMIT

    page = (ROOT / "docs/cuda.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]* \| (\d+) s \|$", page, re.M)
    check(rows == [(name, str(seconds)) for name, seconds in FIRST.items()], "docs/cuda.md:", rows)
    check(f"have {FIRST_LIMIT} seconds" in page and list(FIRST) == STAGES, FIRST)


def main():
    cases = [the_documented_limits, all_is_well, pytorch_and_a_sanitizer_that_does_not_work, a_stage_that_fails,
             a_group_that_crashes, a_stage_that_hangs, no_time]
    cases += [lambda folder, n=n: an_end_from_outside(folder, n) for n in (signal.SIGTERM, signal.SIGKILL)]
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            case(folder)
    print(f"the first run on a GPU, rehearsed: {len(cases)} cases are well")


if __name__ == "__main__":
    main()
