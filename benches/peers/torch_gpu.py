#!/usr/bin/env python3
"""The work of `eyekern bench step` and of its attention and head kernels, done by PyTorch and its best libraries.

    python3 benches/peers/torch_gpu.py                    # every part and variant, the shape of Llama-3.2-1B
    python3 benches/peers/torch_gpu.py --parts step --variants compiled-bf16,liger --rows full,packed
    python3 benches/peers/torch_gpu.py --device cpu --shape tiny --batch 2 --seq 48 --steps 1    # whether it runs

The batch is that of eyekern, id by id and weight by weight: both draw it from the same Philox streams
(src/cli/bench/load.rs). So are optimiser (AdamW, fused), clipping at 1, LoRA (rank 32 on every projection, f32 adapters
beside bf16 weights) and the loss, a weighted cross-entropy over supervised tokens. Nothing is recomputed in backward.

A line of JSON has the keys of eyekern's. What is not installed, does not take the case or fails is a line with `error`:
it was not measured. Each variant is one that a PyTorch user can choose:

  plain            transformers' model, SDPA, the loss over all logits
  active           the head over supervised rows only
  compiled         active, and torch.compile over the whole model, and over head and loss
  cudnn            compiled, SDPA by cuDNN even where PyTorch would choose another; not for packed rows
  flex             compiled, attention by FlexAttention with a mask of documents
  varlen           active, attention by torch.nn.attention.varlen over packed examples
  compiled-varlen  both
  liger            active, Liger's norms, rotations, SwiGLU and fused linear cross-entropy. Losses per token cost it a
                   product more: it computes the logits again in backward
  liger-ce         the same with Liger's cross-entropy of logits, which are computed once and kept
  cce              active, Apple's cut cross-entropy for head and loss, exact (filter_eps=None)
  cce-filtered     cce with its default filter_eps, which skips small gradients: with random weights nearly all, with
                   trained ones fewer. Its lines say `approximate`, and README's table leaves them out
  quack            compiled, QuACK's cross-entropy
  trl              active, TRL's ChunkedLogProbFunction for head and loss: online statistics over chunks of the
                   vocabulary, logits computed again in backward, gradients added in f32

NAME-bf16 is NAME with adapters, and so AdamW's moments, in bf16: less work and precision than eyekern's f32. PEFT casts
activations to the adapters' type; to f32 that is another pass over memory where nothing is compiled.

transformers tells packed rows by their restarting positions and makes a mask of documents, which Flash does not take
and for which keys and values are repeated; `flex` and `varlen` are the ways around it. Compiled, it makes a mask for
any rows, so `compiled` and `quack` get SDPA with is_causal as an attention of their own on full and padded ones.

`peak_bytes` is what the device has in use after the steps, as eyekern counts it: pool, context, code, and other
processes. `peak_reserved_bytes` is the most that PyTorch's pool had, `peak_allocated_bytes` the most of live tensors.
"""
import argparse
import contextlib
import gc
import inspect
import json
import os
import statistics
import sys
import time
from importlib import metadata
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch
import torch.nn.functional as F

from torch_gpu_batch import batch
from torch_gpu_heads import errors, liger, linear_loss

SHAPES = {  # hidden, inner, layers, query heads, key heads, vocabulary: as src/cli/bench/model.rs has them
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "135m": (576, 1536, 30, 9, 3, 49152),
    "15m": (256, 768, 8, 8, 4, 32000),
    "tiny": (64, 128, 2, 4, 2, 512),
}


class Variant(NamedTuple):
    """Whose head and loss, or torch's of `all` rows; whether it is compiled; attention."""

    head: str = "torch"
    compiled: bool = False
    attention: str = "sdpa"


VARIANTS = {
    "plain": Variant("all"),
    "active": Variant(),
    "compiled": Variant(compiled=True),
    "cudnn": Variant(compiled=True, attention="cudnn"),
    "flex": Variant(compiled=True, attention="flex"),
    "varlen": Variant(attention="varlen"),
    "compiled-varlen": Variant(compiled=True, attention="varlen"),
    "liger": Variant("liger"),
    "liger-ce": Variant("liger-ce"),
    "cce": Variant("cce"),
    "cce-filtered": Variant("cce-filtered"),
    "quack": Variant("quack", compiled=True),
    "trl": Variant("trl"),
}
BF16 = "-bf16"  # the end of a name that asks for adapters in bf16
DEFAULT = [*VARIANTS, *(name + BF16 for name in ("compiled", "cudnn", "flex", "compiled-varlen", "liger-ce", "cce"))]
LIBRARIES = ("transformers", "peft", "triton", "liger-kernel", "cut-cross-entropy", "quack-kernels", "trl")
QUEUED = 10  # calls of a kernel that are waited for together


# ---- measuring


def emit(**line):
    print(json.dumps(line), flush=True)


def wait(args):
    if args.device == "cuda":
        torch.cuda.synchronize()


def timed(args, work, repeats, queued=1):
    """Milliseconds of a call in each of `repeats`; `queued` calls are waited for together, as eyekern does it."""
    times = []
    for repeat in range(args.warmup + repeats):
        start = time.perf_counter()
        for _ in range(queued):
            work()
        wait(args)
        if repeat >= args.warmup:
            times.append(1e3 * (time.perf_counter() - start) / queued)
    return times


def fresh(args):
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks(args):
    """The docstring above says which is which."""
    if args.device != "cuda":
        return dict(peak_bytes=None)
    free, whole = torch.cuda.mem_get_info()
    return dict(peak_bytes=whole - free, peak_reserved_bytes=torch.cuda.max_memory_reserved(),
                peak_allocated_bytes=torch.cuda.max_memory_allocated())


def attempt(line, work):
    """Runs one measurement; a failure is a line, not the end."""
    try:
        work(line)
    except ImportError as why:
        emit(**line, error=f"not installed: {why}")
    except Exception as why:  # a library's own failure must not end the others
        emit(**line, error=f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0][:200]}")


# ---- a training step


def build(args, variant, bf16, attention):
    """transformers' Llama of the shape with random bf16 weights, and PEFT's adapters."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner, layers, q, kv, vocab = SHAPES[args.shape]
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=q,
        num_key_value_heads=kv, vocab_size=vocab, max_position_embeddings=max(2048, args.seq), tie_word_embeddings=True,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    if variant.head.startswith("liger"):
        liger().apply_liger_kernel_to_llama(rope=True, rms_norm=True, swiglu=True, cross_entropy=False,
                                            fused_linear_cross_entropy=False)
    config._attn_implementation = attention
    torch.manual_seed(args.seed)
    with torch.device(args.device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.train()
    if args.method == "lora":
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        peft = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0, bias="none", target_modules=names)
        get_peft_model(model, peft, autocast_adapter_dtype=not bf16)  # puts the adapters into `model`
    return model


def attention_of(variant, load):
    """transformers' name of the attention; it makes no mask for one that is registered here."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    alone = load["kind"] != "packed"  # a row is one example, and padding stands behind all that is supervised
    if variant.attention == "flex":
        return "flex_attention"
    if variant.attention == "sdpa" and not (variant.compiled and alone):
        return "sdpa"
    if variant.attention == "cudnn" and not alone:
        raise ValueError("packed rows need a mask: see flex and varlen")
    made = varlen(load) if variant.attention == "varlen" else causal(variant.attention == "cudnn")
    ALL_ATTENTION_FUNCTIONS.register("peer", made)
    return "peer"


def causal(cudnn):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def attention(module, query, key, value, mask, scaling=None, **_):
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return y.transpose(1, 2).contiguous(), None

    def by_cudnn(*inputs, **more):
        # around the call and not around the step: so it is part of the graph by which compiled code is cached
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return attention(*inputs, **more)

    return by_cudnn if cudnn else attention


def varlen(load):
    """Attention over packed examples, of whatever length, without padding or mask."""
    from torch.nn.attention.varlen import varlen_attn

    segment = load["segment"].flatten()
    starts = torch.nonzero(segment[1:] != segment[:-1]).flatten().to(torch.int32) + 1
    ends = torch.tensor([0, len(segment)], dtype=torch.int32, device=segment.device)
    starts = torch.cat([ends[:1], starts, ends[1:]])
    longest = int((starts[1:] - starts[:-1]).max())
    # the first versions have a flag, later ones a window: as far back as it goes, and not ahead
    known = inspect.signature(varlen_attn).parameters
    more = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    if "enable_gqa" in known:
        more["enable_gqa"] = True
    grouped = takes_groups(segment.device, lambda q, k, at, n: varlen_attn(q, k, k, at, at, n, n, **more))

    def attention(module, query, key, value, mask, scaling=None, **_):
        if not grouped:
            groups = query.shape[1] // key.shape[1]
            key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
        q, k, v = (t.transpose(1, 2).reshape(-1, t.shape[1], t.shape[3]) for t in (query, key, value))
        y = varlen_attn(q, k, v, starts, starts, longest, longest, **more)
        return y.view(query.shape[0], query.shape[2], *y.shape[1:]), None

    return attention


def takes_groups(device, attend):
    """Whether keys and values may have fewer heads: 2.11 does not say so, but its kernels know what to do."""
    at = torch.tensor([0, 24, 64], dtype=torch.int32, device=device)
    q, k = (torch.randn(64, heads, 64, device=device, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2))
    try:
        both = [attend(q, heads, at, 40) for heads in (k, k.repeat_interleave(2, 1))]
        few, many = ([y, *torch.autograd.grad(y, (q, k), q.detach())] for y in both)
        return all(torch.allclose(a, b, rtol=0.05, atol=0.05) for a, b in zip(few, many))
    except Exception:  # this version refuses them
        return False


def mask(args, variant, load):
    """Of documents for FlexAttention. Else none: transformers makes what it needs."""
    if variant.attention == "flex":
        from torch.nn.attention.flex_attention import create_block_mask

        segment, seq = load["segment"], args.seq
        inside = lambda b, h, i, j: (segment[b, i] == segment[b, j]) & (j <= i)
        return create_block_mask(inside, args.batch, None, seq, seq, device=args.device)
    return None


def step(args, name, kind, active, line):
    variant, bf16 = VARIANTS[name.removesuffix(BF16)], name.endswith(BF16)
    load = batch(args, kind, active, SHAPES[args.shape][5])
    fresh(args)
    model = build(args, variant, bf16, attention_of(variant, load))
    params = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(params, lr=1e-4, fused=args.device == "cuda")
    given = dict(input_ids=load["ids"], position_ids=load["pos"], use_cache=False)
    given["attention_mask"] = mask(args, variant, load)
    rows, labels, weights = load["rows"], load["labels"], load["weights"]
    nll = linear_loss(variant.head, model.lm_head.weight)
    all_labels = torch.zeros_like(load["ids"]).flatten().index_put((rows,), labels)

    def objective(hidden):
        each = nll(hidden, all_labels)[rows] if variant.head == "all" else nll(hidden[rows], labels)
        return (each * weights).sum() / len(rows)

    core = model.model
    if variant.compiled:
        core = torch.compile(core, dynamic=False)
        if variant.head == "torch":  # a library's kernels stay as they are
            objective = torch.compile(objective, dynamic=False)

    def loss():
        with torch.autocast(args.device, torch.bfloat16):
            return objective(core(**given).last_hidden_state.flatten(0, 1))

    last = 0.0

    def one():
        nonlocal last
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        last = value.item()

    times = timed(args, one, args.steps)
    median, slots = statistics.median(times), args.batch * args.seq
    emit(
        **line, real_tokens=load["real"], supervised_tokens=len(rows), slots=slots,
        step_ms=median, step_ms_min=min(times), step_ms_max=max(times),
        tok_s=1e3 * load["real"] / median, slots_s=1e3 * slots / median, supervised_s=1e3 * len(rows) / median,
        **peaks(args), trained=sum(p.numel() for p in params), trained_as=str(params[0].dtype), loss=last,
    )


def steps(args):
    # Liger replaces functions of the whole process: last
    for variant in sorted(args.variants, key=lambda name: name.startswith("liger")):
        for kind in args.rows:
            for active in args.active:
                rank = args.rank if args.method == "lora" else None
                line = dict(head(args, "step", variant), shape=args.shape, method=args.method, rank=rank,
                            batch=args.batch, seq=args.seq, rows=kind, active=active)
                attempt(line, lambda line: step(args, variant, kind, active, line))
                torch._dynamo.reset()


# ---- attention and head alone, at the shapes of `eyekern bench kernels --size full`

ATTENTION = [(32, 8, 64, n) for n in (256, 512, 1024, 2048, 4096)] + [(16, 8, 128, n) for n in (256, 1024, 4096)]


def attention(args):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tokens = 16384 if args.device == "cuda" else 512
    for q_heads, kv_heads, dim, length in ATTENTION:
        if length > tokens:
            continue
        for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"):
            shape = f"{tokens} tokens, {q_heads}/{kv_heads} heads of {dim}, length {length}"

            def run(line):
                make = lambda heads: torch.randn(tokens // length, heads, length, dim, device=args.device,
                                                 dtype=torch.bfloat16, requires_grad=True)
                q, k, v, dy = make(q_heads), make(kv_heads), make(kv_heads), make(q_heads).detach()
                work = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                flops = 4 * tokens * (length + 1) / 2 * q_heads * dim
                with sdpa_kernel([getattr(SDPBackend, backend)]):
                    forward = timed(args, work, args.repeats, QUEUED)
                    y = work()
                    back = lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)
                    backward = timed(args, back, args.repeats, QUEUED)
                kernel(dict(line, case="attention"), forward, flops)
                kernel(dict(line, case="attention_bwd"), backward, 2.5 * flops)

            attempt(dict(head(args, "kernel", backend.lower()), shape=shape), run)


def heads(args):
    hidden, _, _, _, _, vocab = SHAPES[args.shape]
    tokens = args.batch * args.seq
    for active in args.active:
        rows = round(tokens * active)
        for variant in ("active", "compiled", "liger", "liger-ce", "cce", "cce-filtered", "quack", "trl"):

            def run(line):
                if "approximate" not in line:
                    line = dict(line, **errors(VARIANTS[variant].head, args.device))
                weight = torch.randn(vocab, hidden, device=args.device, dtype=torch.bfloat16) * 0.03
                x = torch.randn(rows, hidden, device=args.device, dtype=torch.bfloat16, requires_grad=True)
                labels = torch.randint(0, vocab, (rows,), device=args.device)
                weights = 1 + 3 * torch.rand(rows, device=args.device)
                nll = linear_loss(VARIANTS[variant].head, weight)
                total = lambda: (nll(x, labels) * weights).sum() / rows
                total = torch.compile(total, dynamic=False) if variant == "compiled" else total

                def work():
                    x.grad = None
                    total().backward()

                kernel(line, timed(args, work, args.repeats, QUEUED), 4 * rows * hidden * vocab)

            shape = f"{rows} of {tokens} rows x {hidden} x {vocab}"
            attempt(dict(head(args, "kernel", variant), case="head", shape=shape), run)


def kernel(line, times, flops):
    median = statistics.median(times)
    emit(**line, median_us=1e3 * median, min_us=1e3 * min(times), max_us=1e3 * max(times), flops=flops,
         tflop_s=flops / median / 1e9)


def head(args, bench, variant):
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    line = dict(bench=bench, engine=f"torch {torch.__version__}", device=device, variant=variant)
    return dict(line, approximate=True) if variant.startswith("cce-filtered") else line


def arguments():
    several = lambda kind: lambda text: [kind(part) for part in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=several(str), default=["step", "attention", "head"])
    parser.add_argument("--variants", type=several(str))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--shape", default="1b", choices=list(SHAPES))
    parser.add_argument("--method", default="lora", choices=["lora", "full"])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--active", type=several(float), default=[1.0, 0.35])
    parser.add_argument("--rows", type=several(str), default=["full", "packed"])
    parser.add_argument("--seg-lens", type=several(int), default=[128, 640])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    named = [name + end for name in VARIANTS for end in (("", BF16) if args.method == "lora" else ("",))]
    args.variants = args.variants or [name for name in DEFAULT if name in named]
    choices = {"parts": ("step", "attention", "head"), "variants": named, "rows": ("full", "packed", "padded")}
    for name, known in choices.items():
        wrong = [value for value in getattr(args, name) if value not in known]
        if wrong:
            parser.error(f"--{name}: there is no {wrong[0]}; there are {', '.join(known)}")
    return args


def main():
    args = arguments()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU: see nvidia-smi, or use --device cpu")
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    emit(bench="libraries", torch=torch.__version__, cudnn=torch.backends.cudnn.version(), **found)
    for part, run in (("step", steps), ("attention", attention), ("head", heads)):
        if part in args.parts:
            run(args)


if __name__ == "__main__":
    main()
