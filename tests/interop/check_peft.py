"""What eyekern saves, loaded by transformers and PEFT on a CPU.

    python tests/interop/check_peft.py [--eyekern target/release/eyekern] MODEL_DIR ...

For each model directory: eyekern trains an adapter for a few steps on random rows and merges it (`export --merge`).
Then the same prompts go through four readers, which have to agree:

    PEFT          the adapter beside the base model                       logits and greedy tokens
    transformers  the merged model, loaded with no missing or extra key   logits and greedy tokens
    eyekern       generate --adapter, generate on the merged model        greedy tokens

Exit status 1 where logits differ by more than 1e-3 of their largest, where a step of a generation is decided by more
than 1e-2 and tokens differ, or where the adapter changes nothing. Needs torch, transformers and peft, so it is no part
of `cargo test`; docs/generate.md keeps its output.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import peft
import torch
import transformers

NEW = 24
LOGITS, MARGIN = 1e-3, 1e-2
PROMPTS = [3, 8, 1, 13]  # lengths: unequal, one of a single token

RECIPE = """\
[model]
model_name_or_path = "{model}"
[data]
train_file = "{work}/train.jsonl"
cache = false
[lora]
r = 4
lora_alpha = 8
[train]
output_dir = "{work}/adapter"
learning_rate = 1e-2
max_steps = 8
"""


def eyekern(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"eyekern {' '.join(map(str, args))}\n{done.stderr}")


def write_rows(file, rows):
    file.write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in rows))


def generated(binary, work, name, *model):
    """Greedy tokens of each prompt, by eyekern."""
    out = work / f"{name}.jsonl"
    eyekern(binary, "generate", *model, "--data", work / "prompts.jsonl", "-o", out, "--max-new-tokens", NEW,
            "--device", "cpu")
    return [json.loads(line)["ids"] for line in out.read_text().splitlines()]


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@torch.no_grad()
def greedy(model, ids):
    """Tokens of transformers' generate() until an EOS, which is left out."""
    whole = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                           do_sample=False, max_new_tokens=NEW, pad_token_id=0)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    new = whole[0, len(ids):].tolist()
    return next((new[:i] for i, id in enumerate(new) if id in ends), new)


def close_call(model, prompt, a, b):
    """Whether two continuations part where the best two logits are level but for rounding."""
    at = next(i for i, (x, y) in enumerate(zip(a + [None], b + [None])) if x != y)
    best = logits(model, prompt + a[:at])[-1].topk(2).values
    return float(best[0] - best[1]) <= MARGIN


def check(binary, folder, work):
    config = json.loads((folder / "config.json").read_text())
    rng = random.Random(1)
    ids = lambda n: [rng.randrange(4, config["vocab_size"]) for _ in range(n)]
    write_rows(work / "train.jsonl", [ids(12) for _ in range(8)])
    prompts = [ids(n) for n in PROMPTS]
    write_rows(work / "prompts.jsonl", prompts)
    (work / "recipe.toml").write_text(RECIPE.format(model=folder.resolve(), work=work))
    eyekern(binary, "train", work / "recipe.toml", "--device", "cpu")
    eyekern(binary, "export", "--model", folder, "--adapter", work / "adapter", "--merge", "-o", work / "merged",
            "--dtype", "float32")

    load = lambda dir: transformers.AutoModelForCausalLM.from_pretrained(
        dir, dtype=torch.float32, output_loading_info=True)
    base, _ = load(folder)
    plain = [logits(base, p) for p in prompts]
    beside = peft.PeftModel.from_pretrained(base, work / "adapter").eval()
    merged, info = load(work / "merged")
    merged.eval()
    faults = [f"{key}: {sorted(info[key])}" for key in ("missing_keys", "unexpected_keys") if info[key]]

    apart, moved = 0.0, 0.0
    for p, before in zip(prompts, plain):
        a, b = logits(beside, p), logits(merged, p)
        apart = max(apart, float((a - b).abs().max() / a.abs().max()))
        moved = max(moved, float((a - before).abs().max() / a.abs().max()))
    if not apart <= LOGITS:
        faults.append(f"logits of PEFT and of the merged model are {apart:.1e} apart")
    if not moved > 10 * LOGITS:
        faults.append(f"the adapter moves logits by {moved:.1e} only")

    readers = {
        "transformers on the merged model": [greedy(merged, p) for p in prompts],
        "eyekern with the adapter": generated(binary, work, "beside", "--model", folder, "--adapter", work / "adapter"),
        "eyekern on the merged model": generated(binary, work, "merged", "--model", work / "merged"),
    }
    reference, same = [greedy(beside, p) for p in prompts], 0
    for name, found in readers.items():
        for i, (a, b) in enumerate(zip(reference, found, strict=True)):
            same += a == b
            if a != b and not close_call(beside, prompts[i], a, b):
                faults.append(f"{name}: prompt {i}: {b}, PEFT {a}")
    tokens = sum(map(len, reference))
    print(f"| {folder.parent.name if folder.name == 'model' else folder.name} | {moved:.2f} | {apart:.1e} "
          f"| {same} of {len(readers) * len(prompts)} | {tokens} |", flush=True)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", default="target/release/eyekern")
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL_DIR")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}\n")
    print("| model | adapter moves logits by | PEFT and merged apart | continuations as PEFT's | tokens |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    faults = []
    for folder in args.models:
        with tempfile.TemporaryDirectory() as work:
            faults += [f"{folder}: {fault}" for fault in check(args.eyekern, folder, pathlib.Path(work))]
    print("\n".join(["", *faults]) if faults else "\nall agree")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
