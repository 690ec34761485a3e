#!/usr/bin/env python3
"""Weights in NF4 from eyekern to transformers and back, on a CPU.

    python tests/interop/check_nf4.py [--eyekern target/release/eyekern] MODEL_DIR ...

For each directory of a model that is not quantised:

    out   `eyekern export --quantize nf4` writes a folder. transformers loads it in 4 bits, with no missing or extra key
          and the same settings. Every tensor has the bits of the model that transformers quantises itself and saves
          (bitsandbytes, double quantisation, one thread).
    back  eyekern reads the folder that transformers saved: log p of `eyekern eval`, two tokens of each row, and the
          tokens of `eyekern generate`, beside those of transformers on an ordinary float32 model with the decoded
          weights.

The table counts bits that differ, and ulps of the offsets. Exit status 1 where bits differ, where an offset is more
than 2 ulps off, where a log p differs by more than 1e-4, or where tokens differ but for ties (check_generate.py). Needs
torch, transformers, bitsandbytes and accelerate, so it is no part of `cargo test`.

Rows are random ids. `eyekern eval` wants text, so it gets a tokenizer with a made-up word for each id.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # an odd last dimension would call a compiler

import bitsandbytes
import numpy as np
import tokenizers
import torch
import transformers
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.functional import dequantize_blockwise
from check_generate import GAP, eyekern, gap, greedy, prompts
from safetensors import safe_open

LOGP, ULPS = 1e-4, 2
ROWS, LONGEST, STATE = 40, 24, ".quant_state.bitsandbytes__nf4"
KINDS = {"codes": "", "absmax": ".absmax", "nested absmax": ".nested_absmax", "levels": ".quant_map",
         "map": ".nested_quant_map"}


def run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def quantized(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)}


def tensors(folder):
    """All tensors of a folder's files."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}
    return found


def state(tensor):
    return json.loads(bytes(tensor.tolist()))


def bits_apart(a, b):
    """Number of bits that differ; all of the longer one where shape or dtype do."""
    raw = [np.frombuffer(t.contiguous().view(torch.uint8).numpy().tobytes(), np.uint8) for t in (a, b)]
    if a.dtype != b.dtype or a.shape != b.shape:
        return 8 * max(map(len, raw))
    return int(np.unpackbits(raw[0] ^ raw[1]).sum())


def ulps_apart(a, b):
    """Steps of float32 between two numbers of one sign; infinity where they are of two."""
    steps = [int(np.float32(x).view(np.int32)) for x in (a, b)]
    return abs(steps[0] - steps[1]) if (steps[0] < 0) == (steps[1] < 0) else float("inf")


def compare_files(ours, theirs):
    """Bits that differ by kind, the largest ulps of an offset, and faults."""
    ours, theirs = tensors(ours), tensors(theirs)
    faults = [f"{name}: only eyekern writes it" for name in sorted(ours.keys() - theirs.keys())]
    faults += [f"{name}: only transformers writes it" for name in sorted(theirs.keys() - ours.keys())]
    apart, ulps = dict.fromkeys([*KINDS, "others"], 0), 0
    coded = {name.removesuffix(STATE) for name in theirs if name.endswith(STATE)}
    kinds = {name + suffix: kind for name in coded for kind, suffix in KINDS.items()}
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name], theirs[name]
        if not name.endswith(STATE):
            kind = kinds.get(name, "others")
            bits = bits_apart(a, b)
            apart[kind] += bits
            if bits:
                faults.append(f"{name}: {bits} bits differ")
            continue
        a, b = state(a), state(b)
        off = ulps_apart(a.pop("nested_offset"), b.pop("nested_offset"))
        ulps = max(ulps, off)
        if a != b:
            faults.append(f"{name}: {a}, transformers {b}")
        if not off <= ULPS:
            faults.append(f"{name}: the offset is {off} ulps off")
    return len(coded), apart, ulps, faults


def settings(folder):
    """What config.json says about the quantisation, with defaults filled in."""
    config = json.loads((folder / "config.json").read_text())
    return transformers.BitsAndBytesConfig.from_dict(config["quantization_config"]).to_dict()


def decoded(weight):
    """Values in float32, by the implementation in Python: the kernel is wrong for some widths (make_nf4.py)."""
    quant = weight.quant_state
    absmax = dequantize_blockwise(quant.absmax, quant.state2) + quant.offset if quant.nested else quant.absmax
    codes = weight.data.view(torch.uint8).reshape(-1)
    return _dequantize_4bit_compute(codes, absmax, quant.code, quant.blocksize, quant.shape, torch.float32)


def plain(folder):
    """An ordinary float32 model with the decoded weights of a folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, layer in quantized(model).items():
        linear = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        linear.weight.data = decoded(layer.weight)
        if layer.bias is not None:
            linear.bias = layer.bias
        model.set_submodule(name, linear)
    for p in model.parameters():
        p.data = p.data.float()  # what is not in 4 bits may have kept its dtype
    return model.eval()


def end_of(folder):
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    return end[0] if isinstance(end, list) else end


def word(i):
    """None of them begins another."""
    return f"<{i}>"


def with_words(folder, out):
    """The same model with a tokenizer of made-up words, one for each id."""
    out.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors" or file.name in ("config.json", "model.safetensors.index.json"):
            (out / file.name).symlink_to(file.resolve())
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = tokenizers.models.WordLevel({word(i): i for i in range(size)}, unk_token=word(0))
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "auto_map": {"AutoTokenizer": ["words.Words", None]},  # else the model type may choose another class
        "eos_token": word(end_of(folder)),
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


def drawn(folder):
    """Random rows of ids, of which the last two are supervised; the very last is EOS, which eyekern adds."""
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    end, rng = end_of(folder), random.Random(3)
    lengths = [rng.randint(2, LONGEST) for _ in range(ROWS)]
    return [[rng.randrange(4, size) for _ in range(n)] + [end] for n in lengths]


def log_p(binary, folder, rows, work):
    """log p of the last two tokens of each row, summed, by eyekern."""
    words = [[word(i) for i in ids[:-1]] for ids in rows]
    lines = [json.dumps({"prompt": " ".join(row[:-1]), "completion": row[-1]}) + "\n" for row in words]
    (work / "supervised.jsonl").write_text("".join(lines))
    run(binary, "eval", "--model", with_words(folder, work / "words"), "--data", work / "supervised.jsonl", "--task",
        "completion", "--metrics", "strict_exact", "--max-new-tokens", 1, "--device", "cpu", "-o", work / "eval")
    found = [json.loads(line) for line in (work / "eval" / "references.jsonl").read_text().splitlines()]
    assert [row["tokens"] for row in found] == [2] * len(rows), "eyekern supervises other tokens"
    return [row["logp"] for row in found]


@torch.no_grad()
def expected_log_p(model, rows):
    """The same by transformers."""
    logits = [model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0, -2:].double() for ids in rows]
    return [float(last.log_softmax(-1)[[0, 1], ids[-2:]].sum()) for last, ids in zip(logits, rows)]


def check(binary, folder, work):
    """Prints a line of the table; gives what is wrong."""
    run(binary, "export", "--model", folder, "--quantize", "nf4", "-o", work / "ours")
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    load = transformers.AutoModelForCausalLM.from_pretrained
    theirs = load(folder, dtype="auto", quantization_config=config)
    theirs.save_pretrained(work / "theirs")
    count, apart, ulps, faults = compare_files(work / "ours", work / "theirs")

    loaded, info = load(work / "ours", dtype="auto", output_loading_info=True)
    faults += [f"{key}: {sorted(info[key])}" for key in ("missing_keys", "unexpected_keys") if info[key]]
    if quantized(loaded).keys() != quantized(theirs).keys():
        faults.append(f"in 4 bits as transformers loads it: {sorted(quantized(loaded))}")
    ours_set, theirs_set = settings(work / "ours"), settings(work / "theirs")
    faults += [f"quantization_config: {key} is {ours_set.get(key)}, transformers {value}"
               for key, value in theirs_set.items() if key != "bnb_4bit_compute_dtype" and ours_set.get(key) != value]

    model, rows = plain(work / "theirs"), drawn(folder)
    found, expected = log_p(binary, work / "theirs", rows, work), expected_log_p(model, rows)
    distances = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    worst = max(distances)
    faults += [f"log p of row {i}: {found[i]}, transformers {expected[i]}"
               for i, distance in enumerate(distances) if not distance <= LOGP]

    asked = prompts(folder, None)
    (work / "rows.jsonl").write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in asked))
    written = eyekern(binary, work / "theirs", work / "rows.jsonl", work / "out.jsonl", 3)
    reference, same = [greedy(model, ids) for ids in asked], 0
    for i, (a, b) in enumerate(zip(reference, written, strict=True)):
        same += a == b
        if a != b and not gap(model, asked[i], a, b) < GAP:
            faults.append(f"prompt {i}: {b}, transformers {a}")
    name = folder.parent.name if folder.name == "model" else folder.name
    counts = " | ".join(str(apart[kind]) for kind in apart)
    print(f"| {name} | {count} | {counts} | {ulps} | {worst:.1e} | {same} of {len(asked)} |", flush=True)
    return faults


def main():
    """Checks every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", default="target/release/eyekern")
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL_DIR")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    versions = ", ".join(f"{x.__name__} {x.__version__}" for x in (torch, transformers, bitsandbytes))
    print(f"{versions}; bits that differ from those of transformers by kind of tensor\n")
    print(f"| model | in 4 bits | {' | '.join([*KINDS, 'others'])} | ulps of offsets | log p apart | continuations as "
          "transformers' |")
    print("| --- " * (len(KINDS) + 6) + "|", flush=True)
    faults = []
    for folder in args.models:
        with tempfile.TemporaryDirectory() as work:
            faults += [f"{folder}: {fault}" for fault in check(args.eyekern, folder, pathlib.Path(work))]
    print("\n".join(["", *faults]) if faults else "\nall agree")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
