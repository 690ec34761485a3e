"""What each stage does."""
import hashlib
import importlib.util
import json
import re
import shutil
import sys

from .places import HERE
from .stage import LIMIT, TOO_LONG

EYEKERN = HERE / "eyekern"


def doctor(stage):
    found = re.search(r"^\{$.*?^\}$", stage.run(EYEKERN, "doctor", "--format", "json"), re.M | re.S)
    report = json.loads(found.group()) if found else {}
    stage.commands[-1].update(data=[report], tail="")
    stage.run(EYEKERN, "doctor")
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
    if tool is None or stage.device != "cuda":
        return stage.say(None, "there is no compute-sanitizer on this machine, or no GPU for it")
    if stage.left() < 30:
        return stage.say(None, f"compute-sanitizer was not started, {max(0, stage.left()):.0f} s before the end")
    # some virtual machines have a GPU without its debugging interface
    if "Device not supported" in stage.run(tool, "--tool", "memcheck", HERE / "tests/kernels", "gathers"):
        stage.commands.clear()
        return stage.say(None, "compute-sanitizer does not work here: Device not supported")
    for check, tests in (("memcheck", ["rows::", "attention::", "optim::"]), ("racecheck", ["rows::", "attention::"]),
                         ("synccheck", ["rows::", "attention::"])):
        # the operations that are our own kernels alone; products are the library's
        words = ["--tool", check, "--error-exitcode", "9", HERE / "tests/kernels", "--test-threads=1", *tests]
        stage.run(tool, *words, limit=180)
        stage.unmeasured()


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
    stage.unmeasured()


def has_torch(stage):
    found = importlib.util.find_spec("torch") is not None
    if not found:
        stage.say(None, f"PyTorch is not installed for {sys.executable}: nothing to compare with")
    return found


def measured(stage):
    """A stage without any measurement of PyTorch's is not done; says why, such as what is not installed."""
    lines = (line for command in stage.commands for line in command["data"])
    found = [line for line in lines if line.get("engine", "").startswith("torch")]
    if all("error" in line for line in found):
        why = {line["variant"]: line["error"] for line in found}
        stage.say(None, "nothing measured" + "".join(f"; {variant}: {error}" for variant, error in why.items()))


def peers(variants, rows="full,packed"):
    """PyTorch's variants between two runs of eyekern, so that a card that slows down is seen. Each is a process of its
    own: what one breaks, keeps in memory or replaces is not the next one's."""
    def run(stage):
        ours = ("--active", "0.35", "--rows", rows)
        step(stage, *ours)
        if not stage.ok() or not has_torch(stage):
            return
        turn = 5 + 1.5 * stage.commands[-1]["seconds"]
        for variant in variants.split(","):
            # torch.compile takes a minute or two for each kind of rows; time is left for eyekern's second turn
            limit = min(300, stage.left() - turn)
            if limit < 20:
                stage.say(None, f"PyTorch's {variant} was not started, {stage.left():.0f} s before the end")
                continue
            torch(stage, "--parts", "step", "--variants", variant, "--rows", rows, limit=limit)
        step(stage, *ours)
        stage.unmeasured()
        measured(stage)
    return run


def peers_kernels(stage):
    if has_torch(stage):
        for part in ("attention", "head"):
            torch(stage, "--parts", part, limit=280)
        measured(stage)


STAGES = {
    "doctor": doctor, "conformance": conformance, "kernels": kernels, "models": models, "sanitizer": sanitizer,
    "train": train, "bench-kernels": bench_kernels, "bench-step": bench_step, "peers": peers("plain,active,compiled"),
    "peers-bf16": peers("compiled-bf16,cudnn-bf16", rows="full"),
    "peers-packed": peers("flex,varlen,compiled-varlen", rows="packed"),
    "peers-packed-bf16": peers("flex-bf16,compiled-varlen-bf16", rows="packed"),
    "peers-fused": peers("liger,liger-ce,cce,quack,trl,liger-ce-bf16,cce-bf16"), "peers-kernels": peers_kernels,
}

# The stages of `run first` in their order, with seconds; FIRST_LIMIT cuts all of them. docs/cuda.md gives the reasons.
FIRST = {"doctor": 30, "conformance": 90, "kernels": 180, "models": 120, "peers-bf16": 300, "sanitizer": 180}
FIRST_LIMIT = 540
OPTIONAL = ("sanitizer",)  # for what time is left
