#!/usr/bin/env python3
"""eyekern and transformers on a CPU, in turn: greedy continuations of the same rows, in f32, with the same threads.

    cargo build --release
    python3 smollm2_135m.py --out MODEL                  # or any other folder of a model with a chat template
    python3 benches/peers/generate.py --model MODEL --data valid.java-cs.txt.java
    python3 benches/peers/generate.py --model MODEL --data valid.java-cs.txt.java --batches 8 --rounds 5 -o result.json

Needs torch and transformers. Each line of the data is a Java method; the prompt asks for its translation to C# in the
model's chat template, and both engines get the same token ids. eyekern runs `generate --data --batch-size B`;
transformers runs `generate` on B rows at a time in the order of the data, padded on the left. Rows end at the model's
EOS or after --new tokens. A round runs each engine once per batch size as a process of its own, one after the other, so
that what else the machine does meets both. The time of loading the model is left out on both sides. Given are medians
of the tokens per second over the rounds, the ratio of the medians and the ratios of the single rounds, the ratio of the
processor time of a token, and of how many rows both engines wrote the same tokens.

On a machine that is busy with other work, use `--threads 1` and read the processor time: PyTorch's threads wait for
each other by spinning, so that two of them lose more than their share.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

# rows for each batch size: four batches, so that slots are filled again
ROWS = {1: 4, 8: 32, 32: 128}


def prompts(args, rows):
    """Token ids of the prompts, by the tokenizer of the model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    lines = pathlib.Path(args.data).read_text(encoding="utf-8").splitlines()[:rows]
    ask = "Translate this Java method to C#. Answer with the code only.\n\n"
    chat = [[{"role": "user", "content": ask + line}] for line in lines]
    return [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in chat]


def once(args, batch, rows, out, new):
    """Runs eyekern; gives tokens per second and seconds of the processor, with loading the model."""
    command = [args.eyekern, "generate", "--model", args.model, "--data", rows, "-o", out, "--overwrite", "--device",
               "cpu", "--batch-size", batch, "--max-new-tokens", new, "--threads", args.threads]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    speed = float(re.findall(r"([\d.]+) tokens/s", done.stderr)[-1])
    return speed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def eyekern(args, batch, rows, work):
    """Tokens per second, seconds of the processor without loading the model, and the tokens of each row."""
    out, one = work / "eyekern.jsonl", work / "one.jsonl"
    one.write_text('{"input_ids": [5]}\n')
    _, load = once(args, 1, one, out, 1)
    speed, seconds = once(args, batch, rows, out, args.new)
    return speed, seconds - load, [json.loads(line)["ids"] for line in out.read_text().splitlines()]


def transformers(args, batch, rows, work):
    """The same by transformers, in a process of its own."""
    out = work / "transformers.json"
    command = [sys.executable, __file__, "--model", args.model, "--side", rows, out, "--batches", batch, "--new",
               args.new, "--threads", args.threads]
    subprocess.run([*map(str, command)], check=True)
    result = json.loads(out.read_text())
    return result["tok_s"], result["seconds"], result["ids"]


def side(args):
    """Continues the rows of a file with transformers."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    rows, out = args.side
    prompts = [json.loads(line)["input_ids"] for line in pathlib.Path(rows).read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa").eval()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    batch, ids = args.batches[0], []
    start, used = time.perf_counter(), time.process_time()
    for first in range(0, len(prompts), batch):
        some = prompts[first:first + batch]
        width = max(map(len, some))
        padded = torch.tensor([[0] * (width - len(p)) + p for p in some])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some])
        with torch.inference_mode():
            found = model.generate(padded, attention_mask=mask, do_sample=False, max_new_tokens=args.new,
                                   pad_token_id=ends[0])
        for row in found[:, width:].tolist():
            ids.append(next((row[:i] for i, id in enumerate(row) if id in ends), row))
    speed, used = sum(map(len, ids)) / (time.perf_counter() - start), time.process_time() - used
    pathlib.Path(out).write_text(json.dumps({"tok_s": speed, "seconds": used, "ids": ids}))


def compare(args):
    """Every batch size, both engines in turn."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    import torch
    from transformers import __version__

    engines = f"torch {torch.__version__}, transformers {__version__}"
    result = {"device": names[0] if names else platform.processor(), "threads": args.threads, "engines": engines,
              "date": datetime.date.today().isoformat(), "commit": commit, "command": " ".join(sys.argv), "cases": []}
    print(f"{engines}; {result['device']}, {args.threads} threads; at most {args.new} tokens a row\n")
    print("| batch | rows | tokens | eyekern tok/s | transformers tok/s | ratio (rounds) | processor time (rounds) "
          "| same rows |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for batch in args.batches:
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            asked = prompts(args, args.rows or ROWS.get(batch, 4 * batch))
            rows = work / "rows.jsonl"
            rows.write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in asked))
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(eyekern(args, batch, rows, work))
                theirs.append(transformers(args, batch, rows, work))
        speed = [statistics.median(x[0] for x in side) for side in (ours, theirs)]
        rounds = [a[0] / b[0] for a, b in zip(ours, theirs)]
        used = [b[1] / a[1] for a, b in zip(ours, theirs)]
        same = sum(a == b for a, b in zip(ours[0][2], theirs[0][2], strict=True))
        tokens = sum(map(len, ours[0][2]))
        print(f"| {batch} | {len(asked)} | {tokens} | {speed[0]:.1f} | {speed[1]:.1f} | {speed[0] / speed[1]:.2f} "
              f"({min(rounds):.2f} .. {max(rounds):.2f}) | {statistics.median(used):.2f} ({min(used):.2f} .. "
              f"{max(used):.2f}) | {same} of {len(asked)} |", flush=True)
        result["cases"].append({
            "batch": batch, "rows": len(asked), "tokens": tokens, "ratio": speed[0] / speed[1], "rounds": rounds,
            "eyekern_tok_s": [x[0] for x in ours], "transformers_tok_s": [x[0] for x in theirs], "same": same,
            "eyekern_seconds": [x[1] for x in ours], "transformers_seconds": [x[1] for x in theirs],
        })
    if args.output:
        pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


def main():
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--data", help="a file with a Java method on each line")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=list(ROWS))
    parser.add_argument("--rows", type=int, help=f"rows for every batch size; by default {ROWS}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=128, help="largest number of new tokens of a row")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--eyekern", default="target/release/eyekern", help="the binary")
    parser.add_argument("-o", "--output", help="everything measured, as JSON")
    parser.add_argument("--side", nargs=2, metavar=("ROWS", "OUT"), help="the side of transformers alone")
    args = parser.parse_args()
    if not args.side and not args.data:
        parser.error("--data is required")
    side(args) if args.side else compare(args)


if __name__ == "__main__":
    main()
