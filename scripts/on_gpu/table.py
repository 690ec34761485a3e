"""README's table of the results of each device."""
import json
from pathlib import Path

from .places import fail

MARKS = ("<!-- gpu: scripts/gpu.py table -->\n", "<!-- /gpu -->")
UNMEASURED = "not measured yet"


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
