#!/usr/bin/env python3
"""Everything that is done on a machine with a GPU, in stages of less than ten minutes each.

    python3 scripts/gpu.py pack DIR          # where eyekern is built: what the other machine needs, in one folder;
                                             # --archive: and as DIR.tar.xz; --wheels: with libraries for the peers
    python3 DIR/gpu.py run                   # on the machine with the GPU: every stage that has no result yet
    python3 DIR/gpu.py run kernels --again   # one stage, once more
    python3 scripts/gpu.py table             # README's table from benches/results; --check: is it up to date?

The folder needs no checkout, no Rust and no network: a release binary, the tests of the kernels, their fixtures, the
PyTorch side of the benchmark. `run` writes a file per device, `results/<device>.json` beside the script, after every
stage: one that fails or takes too long loses nothing of the others. It goes to benches/results. Python 3.9 or later,
its standard library only.

Stages:
  doctor         what the machine has, and a self-test of the GPU
  conformance    each instruction that kernels use, against the emulator
  kernels        each operation against the CPU in f64, twice, to the same bits; a process for each group
  models         whole models: losses, gradients and adapter training against the CPU; a process for each model
  sanitizer      compute-sanitizer (memcheck, racecheck, synccheck) on a part of the kernels' tests, where it works
  train          the demo's adapter on the GPU twice and on the CPU: the same bits, and the same loss but for rounding
  bench-kernels  eyekern bench kernels
  bench-step     eyekern bench step, the shape of Llama-3.2-1B
  peers          the same steps by PyTorch between two runs of eyekern: transformers and torch.compile
  peers-bf16     ... adapters in bf16, attention by cuDNN
  peers-packed   ... attention that knows of packed rows; and peers-packed-bf16
  peers-fused    ... libraries that fuse head and loss
  peers-kernels  attention and LM head alone by PyTorch
"""
import argparse
import contextlib
import hashlib
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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMIT = 570  # seconds of a stage
TOO_LONG = "too long"  # the status of what was ended
TAIL = 4000  # characters of output that are kept
TESTS = ("conformance", "kernels", "emulated")
MARKS = ("<!-- gpu: scripts/gpu.py table -->\n", "<!-- /gpu -->")
UNMEASURED = "not measured yet"


def fail(why):
    sys.exit(f"gpu.py: {why}")


# ---- pack


def cargo(*arguments):
    """Builds, and the executables that came out by their target's name."""
    command = ["cargo", *arguments, "--release", "--locked", "--message-format=json-render-diagnostics"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        fail(f"`{' '.join(command)}` failed")
    built = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    return {m["target"]["name"]: m["executable"] for m in built if m.get("executable")}


def pack(args):
    """Collects the folder. The binary has the emulator where it is the emulator that the folder is tried with."""
    to = Path(args.dir)
    if to.exists() and any(to.iterdir()):
        fail(f"{to} is not empty")
    (to / "tests").mkdir(parents=True)
    emulator = ["--features", "emulator"]
    binary = cargo("build", "--bin", "eyekern", *(emulator if args.emulator else []))["eyekern"]
    shutil.copy2(binary, to / "eyekern")
    tests = cargo("test", "--no-run", *emulator, *(word for name in TESTS for word in ("--test", name)))
    for name in TESTS:
        shutil.copy2(tests[name], to / "tests" / name)
    for file in [to / "eyekern", *(to / "tests").iterdir()]:
        subprocess.run(["strip", str(file)], check=False)  # smaller where there is one
    shutil.copytree(ROOT / "tests/fixtures/tiny_llama", to / "tests/fixtures/tiny_llama")
    parity = Path(os.environ.get("EYEKERN_SHARED", "none")) / "fixtures/parity"
    if parity.is_dir():
        shutil.copytree(parity, to / "shared/fixtures/parity")
    shutil.copy2(__file__, to / "gpu.py")
    shutil.copy2(ROOT / "benches/peers/torch_gpu.py", to)
    wheels = sorted(Path(args.wheels).glob("*.whl")) if args.wheels else []
    if args.wheels and not wheels:
        fail(f"there is no wheel in {args.wheels}")
    for wheel in wheels:
        (to / "wheels").mkdir(exist_ok=True)
        shutil.copy2(wheel, to / "wheels")
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    about = {"commit": git("rev-parse", "HEAD") + ("+changes" if changed else ""), "emulator": args.emulator}
    (to / "pack.json").write_text(json.dumps(about))
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    print(f"{to}: {size / (1 << 20):.1f} MiB. On the machine with the GPU: python3 {to.name}/gpu.py run")
    if args.archive:
        archive = shutil.make_archive(str(to), "xztar", to.parent, to.name)
        print(f"{archive}: {os.path.getsize(archive) / (1 << 20):.1f} MiB")


# ---- run


class Stage:
    """The commands of a stage, with what each gave; stops at the limit of time."""

    def __init__(self, device):
        self.device, self.commands, self.end = device, [], time.monotonic() + LIMIT

    def left(self):
        return self.end - time.monotonic()

    def run(self, *command, limit=LIMIT):
        """Standard output of a command, which is ended after `limit` seconds, or at the end of the stage's."""
        command = [str(word) for word in command]
        start, left = time.monotonic(), max(1.0, min(limit, self.left()))
        env = {**os.environ, "CARGO_MANIFEST_DIR": str(HERE), "EYEKERN_DEVICE": self.device, "PYTHONUNBUFFERED": "1"}
        if (HERE / "shared").is_dir():
            env["EYEKERN_SHARED"] = str(HERE / "shared")
        work = HERE / "work"
        work.mkdir(exist_ok=True)
        with open(work / "stdout", "w+b") as out, open(work / "stderr", "w+b") as err:
            try:
                # a session of its own: what it started is ended with it
                process = subprocess.Popen(command, stdout=out, stderr=err, env=env, start_new_session=True)
                code = process.wait(left)
            except subprocess.TimeoutExpired:
                code = TOO_LONG
                os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs may not let go of it
                    process.wait(20)
            except OSError as why:
                code = f"does not start: {why.strerror}"
            text = [read(file) for file in (out, err)]
        shown = " ".join(word.replace(str(HERE) + "/", "") for word in command)
        # what was ended may have stopped in the middle of a line
        lines = [json.loads(line) for line in text[0].splitlines() if line.startswith('{"') and line.endswith("}")]
        both = (text[0] if not lines else "") + text[1]
        self.commands.append({
            "command": shown, "seconds": round(time.monotonic() - start, 1), "status": code, "ok": code == 0,
            "data": lines, "tail": both.replace(str(HERE), ".")[-TAIL:],
        })
        print(f"   {shown}: {'ok' if code == 0 else code} in {self.commands[-1]['seconds']} s", flush=True)
        return text[0]

    def say(self, ok, what):
        """A finding that is no command's; None is for what could not be looked at, which is no failure."""
        self.commands.append({"command": what, "seconds": 0, "status": None, "ok": ok, "data": [], "tail": ""})
        print(f"   {what}: { {True: 'ok', False: 'FAILED', None: 'not done'}[ok]}", flush=True)

    def test(self, name, *filters, limit=LIMIT):
        # what an emulator needs is no sign of a hang
        words = self.run(HERE / "tests" / name, *filters, limit=limit if self.device == "cuda" else LIMIT)
        total = re.search(r"(\d+) passed", words)
        # a process that crashed or was ended has told of the tests before
        passed = int(total.group(1)) if total else len(re.findall(r"^test .* \.\.\. ok$", words, re.M))
        self.commands[-1]["passed"] = passed
        self.commands[-1]["ok"] &= passed > 0

    def names(self, name):
        """The tests of an executable, ignored ones left out."""
        words = self.run(HERE / "tests" / name, "--list", "--format=terse", limit=30)
        found = re.findall(r"^(\S+): test$", words, re.M)
        if not found:
            self.say(False, f"{name} lists its tests")
        return found


def read(file):
    file.seek(0)
    return file.read().decode(errors="replace")


EYEKERN = HERE / "eyekern"


def doctor(stage):
    stage.run(EYEKERN, "doctor")
    report = json.loads(stage.run(EYEKERN, "doctor", "--format", "json") or "{}")
    stage.commands[-1].update(data=[report], tail="")
    if stage.device == "cuda":
        stage.say(report.get("can_train", {}).get("gpu") is True, "the GPU passes its self-test")


def conformance(stage):
    stage.test("conformance", limit=240)


def kernels(stage):
    """A process for each module of the tests: an illegal access or a hang in one is not the end of the others."""
    if stage.device != "cuda":
        return stage.test("kernels", "rows::rotations")
    # `far` runs on the emulator, whatever the device. The simple ones first, attention last, what is new before it
    order = ["rows", "head", "linear", "optim", "cached", "", "attention"]
    modules = {name.split("::")[0] for name in stage.names("kernels")} - {"far"}
    for module in sorted(modules, key=lambda module: (order.index(module if module in order else ""), module)):
        stage.test("kernels", f"{module}::", limit=90)


def models(stage):
    """A process for each model. Two that hang are enough: the rest share their kernels."""
    if stage.device != "cuda":
        return stage.test("emulated", "tests/fixtures")
    for name in stage.names("emulated"):
        if sum(command["status"] == TOO_LONG for command in stage.commands) == 2:
            return stage.say(False, f"the models from {name} on, after two that took too long")
        stage.test("emulated", "--exact", name, limit=90)


def sanitizer(stage):
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return stage.say(None, "there is no compute-sanitizer on this machine")
    # some virtual machines have a GPU without its debugging interface
    if "Device not supported" in stage.run(tool, "--tool", "memcheck", HERE / "tests/kernels", "gathers"):
        stage.commands.clear()
        return stage.say(None, "compute-sanitizer does not work here: Device not supported")
    for check, tests in (("memcheck", ["rows::", "attention::", "optim::"]), ("racecheck", ["rows::", "attention::"]),
                         ("synccheck", ["rows::", "attention::"])):
        # the operations that are our own kernels alone; products are the library's
        words = ["--tool", check, "--error-exitcode", "9", HERE / "tests/kernels", "--test-threads=1", *tests]
        stage.run(tool, *words, limit=180)


def adapter(stage, name, *arguments):
    """The adapter of some steps of the demo's recipe: its digest, and the losses."""
    out = HERE / "work" / name
    steps = 20 if stage.device == "cuda" else 1
    sets = [f"output_dir={out}", "overwrite_output_dir=true", f"max_steps={steps}", "logging_steps=1"]
    stage.run(EYEKERN, "train", HERE / "work/demo/recipe.toml", *(f"--set=train.{one}" for one in sets), *arguments)
    file, metrics = out / "adapter_model.safetensors", out / "metrics.jsonl"
    if not file.exists():
        return None, []
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return hashlib.sha256(file.read_bytes()).hexdigest(), [line["loss"] for line in lines if "loss" in line]


def train(stage):
    shutil.rmtree(HERE / "work", ignore_errors=True)
    steps = [] if stage.device == "cuda" else ["--steps", "2"]
    stage.run(EYEKERN, "demo", "--output-dir", HERE / "work/demo", *steps)
    one, losses = adapter(stage, "one", "--device", stage.device)
    two, _ = adapter(stage, "two", "--device", stage.device)
    _, expected = adapter(stage, "cpu", "--device", "cpu")
    stage.say(one is not None and one == two, "two runs save the same bytes")
    apart = max([abs(a / b - 1) for a, b in zip(losses, expected)], default=1.0)
    # bf16 activations beside f32 ones, over steps that each start from the other's rounding
    stage.say(len(losses) == len(expected) and apart < 0.03, f"losses within 3 % of the CPU's: {apart:.2e}")


def bench_kernels(stage):
    size = [] if stage.device == "cuda" else ["--size", "tiny", "--repeats", "1"]
    stage.run(EYEKERN, "bench", "kernels", "--device", stage.device, "--format", "json", *size)


# what an emulator can do in seconds
TINY = "--shape tiny --batch 1 --seq 24 --seg-lens 5,11 --steps 1 --warmup 0".split()


def step(stage, *more):
    shape = ["--shape", "1b"] if stage.device == "cuda" else TINY
    stage.run(EYEKERN, "bench", "step", "--device", stage.device, "--format", "json", *shape, *more)


def bench_step(stage):
    step(stage, "--rows", "full,packed,padded,unpadded", "--active", "1.0,0.35")
    step(stage, "--method", "full", "--active", "0.35")


def torch(stage, *more, limit=LIMIT):
    small = ["--device", "cpu", *TINY] if stage.device != "cuda" else []
    stage.run(sys.executable, HERE / "torch_gpu.py", "--active", "0.35", *small, *more, limit=limit)


def measured(stage):
    """A stage without any measurement of PyTorch's is not done; says why, such as what is not installed."""
    lines = (line for command in stage.commands for line in command["data"])
    found = [line for line in lines if line.get("engine", "").startswith("torch")]
    if all("error" in line for line in found):
        why = {line["variant"]: line["error"] for line in found}
        stage.say(False, "nothing measured" + "".join(f"; {variant}: {error}" for variant, error in why.items()))


def peers(variants, rows="full,packed"):
    """PyTorch's variants between two runs of eyekern, so that a card that slows down is seen. Each is a process of its
    own: what one breaks, keeps in memory or replaces is not the next one's."""
    def run(stage):
        step(stage, "--active", "0.35", "--rows", rows)
        for variant in variants.split(","):
            # torch.compile takes a minute or two for each kind of rows; a minute is left for eyekern's second turn
            torch(stage, "--parts", "step", "--variants", variant, "--rows", rows, limit=min(300, stage.left() - 60))
        step(stage, "--active", "0.35", "--rows", rows)
        measured(stage)
    return run


def peers_kernels(stage):
    for part in ("attention", "head"):
        torch(stage, "--parts", part, limit=280)
    measured(stage)


STAGES = {
    "doctor": doctor, "conformance": conformance, "kernels": kernels, "models": models, "sanitizer": sanitizer,
    "train": train, "bench-kernels": bench_kernels, "bench-step": bench_step, "peers": peers("plain,active,compiled"),
    "peers-bf16": peers("compiled-bf16,cudnn-bf16", rows="full"),
    "peers-packed": peers("flex,varlen,compiled-varlen", rows="packed"),
    "peers-packed-bf16": peers("flex-bf16,compiled-varlen-bf16", rows="packed"),
    "peers-fused": peers("liger,liger-ce,cce,quack,liger-ce-bf16,cce-bf16"), "peers-kernels": peers_kernels,
}


def card():
    """What nvidia-smi says of the first GPU, clocks as they are found; nothing is set."""
    asked = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
    try:
        command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
        ran = subprocess.run(command, capture_output=True, text=True)
    except OSError:
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


def run(args):
    if not (HERE / "pack.json").exists():
        fail("there is nothing to run beside this script: `python3 scripts/gpu.py pack DIR`, then DIR/gpu.py run")
    unknown = [name for name in args.stages if name not in STAGES]
    if unknown:
        fail(f"there is no stage {unknown[0]}; there are {', '.join(STAGES)}")
    unpack_wheels()
    about, found = json.loads((HERE / "pack.json").read_text()), card() if args.device == "cuda" else {}
    name = found.get("name") or (args.device if args.device != "cuda" else "unknown GPU")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    file = Path(args.out) if args.out else HERE / "results" / f"{slug}.json"
    result = json.loads(file.read_text()) if file.exists() else {"device": name, "stages": {}}
    for stage_name in args.stages or STAGES:
        before = result["stages"].get(stage_name)
        if before and before["ok"] and not args.again:
            print(f"== {stage_name}: done before")
            continue
        print(f"== {stage_name}", flush=True)
        stage = Stage(args.device)
        try:
            STAGES[stage_name](stage)
        except Exception as why:  # the next stage can still run
            stage.say(False, f"{type(why).__name__}: {why}")
        result["stages"][stage_name] = {
            "ok": all(command["ok"] is not False for command in stage.commands),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "commit": about["commit"],
            "card": found, "host": {"cores": os.cpu_count(), "kernel": platform.release()}, "commands": stage.commands,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".part")
        beside.write_text(json.dumps(result, indent=1) + "\n")
        beside.replace(file)
    failed = [name for name in args.stages or STAGES if not result["stages"][name]["ok"]]
    print(f"{file}: " + (f"failed: {', '.join(failed)}" if failed else "every stage is well"))
    sys.exit(1 if failed else 0)


# ---- table


def lines(result, stages, **wanted):
    """The measurements with these values, of all stages whose names begin so."""
    done = (done for name, done in result["stages"].items() if name.startswith(stages))
    found = (line for one in done for command in one["commands"] for line in command["data"])
    exact = (line for line in found if not line.get("approximate"))
    return [line for line in exact if all(line.get(key) == value for key, value in wanted.items())]


def best(found, key):
    """The line with the largest value of a key, among those that have one."""
    return max((line for line in found if line.get(key)), key=lambda line: line[key], default=None)


def tests(result):
    passed = []
    for stage in ("conformance", "kernels", "models"):
        done = result["stages"].get(stage)
        if done is None:
            return UNMEASURED
        count = sum(command.get("passed", 0) for command in done["commands"])
        passed.append(f"{count} {'passed' if done['ok'] else 'passed, others failed'}")
    return ", ".join(passed)


def tokens(rows):
    """Tokens a second of a LoRA step with 35 % of tokens supervised."""
    def cell(result):
        found = lines(result, "peers", bench="step", shape="1b", method="lora", rows=rows, active=0.35)
        # it ran as often as there were turns: not the best of them, but the one in the middle
        turns = sorted((line for line in found if line["engine"].startswith("eyekern")), key=lambda line: line["tok_s"])
        ours = turns[len(turns) // 2] if turns else None
        theirs = best([line for line in found if line["engine"].startswith("torch")], "tok_s")
        if not ours or not theirs:
            return UNMEASURED
        return f"{ours['tok_s']:,.0f} / {theirs['tok_s']:,.0f} ({theirs['variant']})"
    return cell


def kernel(case, shape):
    """TFLOP/s of a kernel, beside the best peer's."""
    def cell(result):
        stages = ("bench-kernels", "peers")
        ours, theirs = (best(lines(result, stage, case=case, shape=shape), "tflop_s") for stage in stages)
        if not ours or not theirs:
            return UNMEASURED
        return f"{ours['tflop_s']:.0f} / {theirs['tflop_s']:.0f} ({theirs['variant']})"
    return cell


LLAMA, HEAD = "16384 tokens, 32/8 heads of 64, length 1024", "5734 of 16384 rows x 2048 x 128256"
ROWS = [
    ("tests of instructions, kernels, models", tests),
    ("LoRA step, Llama-3.2-1B, 16 x 1024 tokens, 35 % supervised: tokens/s, eyekern / best of PyTorch", tokens("full")),
    ("the same, packed rows of 128 to 640 tokens", tokens("packed")),
    ("attention forward, TFLOP/s, eyekern / best of SDPA", kernel("attention", LLAMA)),
    ("attention backward", kernel("attention_bwd", LLAMA)),
    ("LM head and weighted loss, forward and backward, TFLOP/s", kernel("head", HEAD)),
]


def rendered(folder):
    results = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("*.json"))]
    columns = [(result["device"], lambda cell, result=result: cell(result)) for result in results]
    columns = columns or [("GPU", lambda _: UNMEASURED)]
    table = [["", *(name for name, _ in columns)], ["---"] * (1 + len(columns))]
    table += [[title, *(value(cell) for _, value in columns)] for title, cell in ROWS]
    return "".join("| " + " | ".join(row) + " |\n" for row in table)


def table(args):
    readme, (first, last) = Path(args.readme), MARKS
    text = readme.read_text()
    if text.count(first) != 1 or text.count(last) != 1:
        fail(f"{readme} has not one `{first.strip()}` and one `{last}`")
    before, rest = text.split(first)
    made = before + first + rendered(args.results) + last + rest.split(last)[1]
    if args.check and made != text:
        fail(f"{readme} is not what {args.results} gives: run `python3 scripts/gpu.py table`")
    if not args.check:
        readme.write_text(made)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack", help="collect what the machine with the GPU needs")
    one.add_argument("dir")
    one.add_argument("--archive", action="store_true", help="also as DIR.tar.xz, a quarter of its size")
    one.add_argument("--emulator", action="store_true", help="in the binary too, to try the folder without a GPU")
    one.add_argument("--wheels", metavar="DIR", help="carry the wheels in it, such as liger-kernel's, for the peers")
    one = commands.add_parser("run", help="run stages, from the packed folder")
    one.add_argument("stages", nargs="*", metavar="STAGE")
    one.add_argument("--out", help="the file of results")
    one.add_argument("--again", action="store_true", help="also what is done")
    one.add_argument("--device", default="cuda", choices=["cuda", "emulated"])
    one = commands.add_parser("table", help="write README's table")
    one.add_argument("--check", action="store_true")
    one.add_argument("--results", default=str(ROOT / "benches/results"))
    one.add_argument("--readme", default=str(ROOT / "README.md"))
    args = parser.parse_args()
    {"pack": pack, "run": run, "table": table}[args.command](args)


if __name__ == "__main__":
    main()
