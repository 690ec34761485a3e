"""Greedy tokens of `eyekern generate` beside those of transformers on a CPU, in f32.

    python tests/interop/check_generate.py [--eyekern target/release/eyekern] [--chat FILE] MODEL_DIR ...

For each model directory: prompts of random ids, from one token on, and with `--chat` also the lines of a file in the
chat template of every model that has one. eyekern continues them in 1, 3 and 8 slots, transformers one by one. The
tokens have to be equal. Where they are not, the first that differs has to be a tie: the best two logits of transformers
are less than 1e-4 apart there, and both engines took one of the two.

Exit status 1 otherwise. Needs torch and transformers, so it is no part of `cargo test`; docs/generate.md keeps its
output.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
import transformers

NEW, SLOTS, GAP = 32, [1, 3, 8], 1e-4
LENGTHS = [3, 8, 1, 13, 2, 21, 5, 1, 9, 4, 16, 7]  # more than slots, unequal, some of a single token
CHATS = 8


def eyekern(binary, folder, rows, out, slots):
    """Tokens of each row."""
    command = [binary, "generate", "--model", folder, "--data", rows, "-o", out, "--overwrite", "--device", "cpu",
               "--max-new-tokens", NEW, "--batch-size", slots]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return [json.loads(line)["ids"] for line in out.read_text().splitlines()]


@torch.no_grad()
def greedy(model, ids):
    """Tokens of transformers until an EOS, which is left out."""
    whole = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                           do_sample=False, max_new_tokens=NEW, pad_token_id=0)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    new = whole[0, len(ids):].tolist()
    return next((new[:i] for i, id in enumerate(new) if id in ends), new)


@torch.no_grad()
def gap(model, prompt, expected, found):
    """The distance of the best two logits where two continuations part, and infinity where a third token was taken."""
    at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    best = model(input_ids=torch.tensor([prompt + expected[:at]]), use_cache=False).logits[0, -1].float().topk(2)
    taken = {tokens[at] for tokens in (expected, found) if at < len(tokens)}
    return float(best.values[0] - best.values[1]) if taken <= set(best.indices.tolist()) else float("inf")


def prompts(folder, chat):
    """Ids of each prompt."""
    config = json.loads((folder / "config.json").read_text())
    rng = random.Random(7)
    rows = [[rng.randrange(4, config["vocab_size"]) for _ in range(n)] for n in LENGTHS]
    if chat and (folder / "tokenizer_config.json").exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if tokenizer.chat_template:
            for line in chat.read_text(encoding="utf-8").splitlines()[:CHATS]:
                ask = [{"role": "user", "content": "Translate this Java method to C#.\n\n" + line}]
                rows.append(tokenizer.apply_chat_template(ask, add_generation_prompt=True, return_dict=False))
    return rows


def check(binary, folder, chat, work):
    """Prints a line of the table; gives what is wrong."""
    rows = prompts(folder, chat)
    (work / "rows.jsonl").write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in rows))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    reference = [greedy(model, ids) for ids in rows]
    faults, same, ties = [], 0, []
    for slots in SLOTS:
        found = eyekern(binary, folder, work / "rows.jsonl", work / "out.jsonl", slots)
        for i, (a, b) in enumerate(zip(reference, found, strict=True)):
            if a == b:
                same += 1
                continue
            ties.append(gap(model, rows[i], a, b))
            if not ties[-1] < GAP:
                faults.append(f"prompt {i} in {slots} slots: {b}, transformers {a}; logits {ties[-1]:.1e} apart")
    name = folder.parent.name if folder.name == "model" else folder.name
    tokens = sum(map(len, reference))
    print(f"| {name} | {len(rows)} | {tokens} | {same} of {len(SLOTS) * len(rows)} "
          f"| {f'{max(ties):.1e}' if ties else 'none'} |", flush=True)
    return faults


def main():
    """Checks every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", default="target/release/eyekern")
    parser.add_argument("--chat", type=pathlib.Path, help="a file with a Java method on each line")
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL_DIR")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; slots {SLOTS}\n")
    print("| model | prompts | tokens | continuations as transformers' | largest gap where they part |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    faults = []
    for folder in args.models:
        with tempfile.TemporaryDirectory() as work:
            faults += [f"{folder}: {fault}" for fault in check(args.eyekern, folder, args.chat, pathlib.Path(work))]
    print("\n".join(["", *faults]) if faults else "\nall agree")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
