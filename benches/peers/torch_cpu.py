#!/usr/bin/env python3
"""eyekern and PyTorch on a CPU, in turn: training steps and decoding of two Llama shapes with random weights.

    cargo build --release
    python3 benches/peers/torch_cpu.py                                 # every case in f32 and in bf16, three rounds
    python3 benches/peers/torch_cpu.py --dtype bf16 --cases 15m-lora,15m-decode --rounds 5 -o result.json

Needs torch, transformers and peft. A round runs each engine once per case as a process of its own, one after the other,
so that what else the machine does meets both. Given are medians over the rounds of each process's own median, their
ratio, the ratios of the single rounds, and the largest peak of resident memory of either engine. `--peer SCRIPT` takes
the place of the PyTorch side below; it is called with the same options and prints the same keys.

Both engines compute in the same format. In bf16 that is `--dtype bf16` of eyekern, whose frozen weights are stored in
bf16 as in a checkpoint, and autocast of PyTorch on weights in f32; for decoding all of PyTorch's model is bf16. The table
names the instructions: eyekern says which it used, and the processor's list is what PyTorch chooses from.

Work of a step: 4 x 256 tokens, each with a label and a weight of 1 to 4, weighted cross-entropy over the logits in f32,
backward, clipping at 1, AdamW; LoRA of rank 16 on every projection, or everything. Decoding: greedy, one prompt of 64
tokens, 64 new ones, with a cache; the time of the first token is left out.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time

CASES = [f"{shape}-{work}" for shape in ("15m", "135m") for work in ("lora", "full", "decode")]
SHAPES = {
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                 num_key_value_heads=3, vocab_size=49152),
    "15m": dict(hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=8,
                num_key_value_heads=4, vocab_size=32000),
}
BATCH, SEQ, RANK, PROMPT, NEW = 4, 256, 16, 64, 64


def run(command):
    """The last line of a command as JSON, and its peak of resident memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return json.loads(text.strip().splitlines()[-1]), usage.ru_maxrss / 1024


def eyekern(args, shape, work, dtype):
    """tok/s and MB of eyekern."""
    if work == "decode":
        options = ["decode", "--prompt", PROMPT, "--new-tokens", NEW, "--repeats", args.steps]
    else:
        options = ["step", "--method", work, "--rank", RANK, "--batch", BATCH, "--seq", SEQ, "--steps", args.steps,
                   "--warmup", 1]
    command = [args.eyekern, "bench", *map(str, options), "--shape", shape, "--device", "cpu", "--dtype", dtype,
               "--format", "json"]
    line, peak = run(command)
    return line["tok_s"], peak, line, command


def torch(args, shape, work, dtype):
    """tok/s and MB of PyTorch."""
    what = ["--what", "gen"] if work == "decode" else ["--what", "train", "--mode", work]
    name = {"f32": "fp32"}.get(dtype, dtype)
    command = [sys.executable, args.peer, *what, "--model", shape, "--dtype", name, "--steps", str(args.steps),
               "--threads", str(os.cpu_count()), "--no-peak"]
    line, peak = run(command)
    return line["decode_tok_s" if work == "decode" else "tok_s"], peak, line, command


def compare(args):
    """Every case, both engines in turn."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    device, instructions = processor()
    result = {"device": device, "instructions": instructions, "threads": os.cpu_count(),
              "date": datetime.date.today().isoformat(), "commit": commit, "command": " ".join(sys.argv), "cases": []}
    print(f"{device}, {os.cpu_count()} threads, {', '.join(instructions)}\n")
    print("| case | format, instructions of eyekern | eyekern tok/s | PyTorch tok/s | ratio (rounds) "
          "| eyekern MB | PyTorch MB | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for dtype, case in ((dtype, case) for dtype in args.dtype for case in args.cases):
        shape, work = case.rsplit("-", 1)
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(eyekern(args, shape, work, dtype))
            theirs.append(torch(args, shape, work, dtype))
        speed = [statistics.median(x[0] for x in side) for side in (ours, theirs)]
        peak = [max(x[1] for x in side) for side in (ours, theirs)]
        rounds = [a[0] / b[0] for a, b in zip(ours, theirs)]
        spread = f"{min(rounds):.2f} .. {max(rounds):.2f}"
        used = ours[-1][2]["backend"].rsplit(", ", 1)[1]
        print(f"| {case} | {dtype}, {used} | {speed[0]:.1f} | {speed[1]:.1f} | {speed[0] / speed[1]:.2f} ({spread}) "
              f"| {peak[0]:.0f} | {peak[1]:.0f} | {peak[0] / peak[1]:.2f} |", flush=True)
        result["cases"].append({
            "case": case, "dtype": dtype, "instructions": used, "eyekern_tok_s": [x[0] for x in ours], "torch_tok_s": [x[0] for x in theirs],
            "ratio": speed[0] / speed[1], "rounds": rounds, "eyekern_mb": peak[0], "torch_mb": peak[1],
            "eyekern": ours[-1][2], "torch": theirs[-1][2], "commands": [ours[-1][3], theirs[-1][3]],
        })
    if args.output:
        with open(args.output, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


def processor():
    """Its name, and those of its instructions that products are computed with."""
    name, known = platform.processor(), ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "bf16")
    flags = []
    with open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = value.split()
    return name, [flag for flag in known if flag in flags]


def side(args):
    """The same work by PyTorch, as transformers and PEFT have it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch as t
    from transformers import AutoModelForCausalLM, LlamaConfig

    t.set_num_threads(args.threads)
    t.manual_seed(0)
    bf16 = args.dtype == ["bf16"]
    config = LlamaConfig(**SHAPES[args.model], max_position_embeddings=2048, tie_word_embeddings=True,
                         attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_config(config)
    rates = []
    if args.what == "gen":
        model = model.eval().to(t.bfloat16 if bf16 else t.float32)
        model.generation_config.eos_token_id = None
        ids = t.randint(4, config.vocab_size, (1, PROMPT))
        more = dict(attention_mask=t.ones_like(ids), do_sample=False, pad_token_id=0)
        for i in range(args.steps + 1):
            seconds = []
            for new in (1, NEW):
                start = time.perf_counter()
                with t.inference_mode():
                    model.generate(ids, max_new_tokens=new, min_new_tokens=new, **more)
                seconds.append(time.perf_counter() - start)
            if i:
                rates.append((NEW - 1) / (seconds[1] - seconds[0]))
        print(json.dumps({"engine": f"torch {t.__version__}", "decode_tok_s": statistics.median(rates)}))
        return
    model.train()
    if args.mode == "lora":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=names)
        model = get_peft_model(model, lora)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = t.optim.AdamW(trained, lr=1e-4, foreach=True)
    ids = t.randint(4, config.vocab_size, (BATCH, SEQ))
    weight = 1 + 3 * t.rand(ids.shape)
    for i in range(args.steps + 1):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with t.autocast("cpu", t.bfloat16, enabled=bf16):
            logits = model(input_ids=ids, use_cache=False).logits
        rows = logits[:, :-1].reshape(-1, config.vocab_size).float()
        nll = t.nn.functional.cross_entropy(rows, ids[:, 1:].reshape(-1), reduction="none")
        loss = (nll * weight[:, 1:].reshape(-1)).sum() / nll.numel()
        loss.backward()
        t.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        value = loss.item()
        if i:
            rates.append(BATCH * SEQ / (time.perf_counter() - start))
    print(json.dumps({"engine": f"torch {t.__version__}", "tok_s": statistics.median(rates), "loss": value}))


def main():
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=CASES, help="of " + ",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps or continuations of a process")
    parser.add_argument("--eyekern", default="target/release/eyekern", help="the binary")
    parser.add_argument("--peer", default=__file__, help="another script for the PyTorch side")
    parser.add_argument("--dtype", type=lambda text: text.split(","), default=["f32", "bf16"], help="f32, bf16 or both")
    parser.add_argument("-o", "--output", help="everything measured, as JSON")
    one = parser.add_argument_group("the PyTorch side alone")
    one.add_argument("--what", choices=["train", "gen"])
    one.add_argument("--model", choices=list(SHAPES), default="15m")
    one.add_argument("--mode", choices=["lora", "full"], default="lora")
    one.add_argument("--threads", type=int, default=os.cpu_count())
    one.add_argument("--no-peak", action="store_true", help="taken and ignored: other scripts time a product first")
    args = parser.parse_args()
    unknown = [case for case in args.cases if case not in CASES]
    if unknown:
        parser.error(f"--cases: there is no {unknown[0]}; there are {', '.join(CASES)}")
    if not args.dtype or not set(args.dtype) <= {"f32", "bf16"} | ({"fp32"} if args.what else set()):
        parser.error("--dtype: f32, bf16 or f32,bf16")
    side(args) if args.what else compare(args)


if __name__ == "__main__":
    main()
