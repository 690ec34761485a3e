#!/usr/bin/env python3
"""Matrix products on a CPU in GFLOP/s: eyekern, the crate gemm and PyTorch, on the projections of two models.

    python3 benches/peers/products.py                                  # all of benches/peers/gemm, some 10 minutes
    python3 benches/peers/products.py --only '135m up' --rows 1,1024

Runs the benchmark of benches/peers/gemm for a shape, then PyTorch's `mm` on the same shape, and prints a line of their
medians; so what else the machine does meets both. All cores. `forward` is x Wᵀ, `dx` is dy W, `dW` adds dyᵀ x. In bf16,
eyekern reads x and dy in f32 and rounds them, writes f32 and has only W in bf16; PyTorch's operands and results are bf16,
but for `dW`, which is added to f32. Needs torch.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent / "gemm"
SHAPES = {
    "135m qkv": (576, 960), "135m o": (576, 576), "135m up": (576, 3072), "135m down": (1536, 576),
    "1b qkv": (2048, 3072), "1b o": (2048, 2048), "1b up": (2048, 16384), "1b down": (8192, 2048),
}
NAMES = ["forward", "dx", "dW"]


def crates(name, rows):
    """Medians of eyekern and the crate in seconds, by what they compute."""
    seconds = {}
    with tempfile.TemporaryDirectory() as results:
        bench("--bench", f"^{name}/.*/{rows}$", home=results)
        for file in Path(results).glob("**/new/benchmark.json"):
            what = json.loads(file.read_text())["function_id"]
            seconds[what] = json.loads((file.parent / "estimates.json").read_text())["median"]["point_estimate"] / 1e9
    return seconds


def bench(*options, home):
    """Runs the benchmark with its results below `home`; gives what it prints."""
    command = ["cargo", "run", "--release", "--quiet", "--manifest-path", str(FOLDER / "Cargo.toml"), "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CRITERION_HOME": home})
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def pytorch(name, rows):
    """Medians of PyTorch in seconds."""
    import torch

    torch.set_num_threads(os.cpu_count())
    inp, out = SHAPES[name]
    seconds = {}
    for dtype, suffix in ((torch.float32, ""), (torch.bfloat16, ", bf16")):
        x, dy, w = (torch.randn(a, b).to(dtype) for a, b in ((rows, inp), (rows, out), (out, inp)))
        y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.zeros(out, inp)
        work = {
            "forward": lambda: torch.mm(x, w.t(), out=y),
            "dx": lambda: torch.mm(dy, w, out=dx),
            "dW": lambda: dw.add_(torch.mm(dy.t(), x)) if dtype == torch.bfloat16 else dw.addmm_(dy.t(), x),
        }
        for what in NAMES if rows > 1 else NAMES[:1]:
            times, start = [], time.perf_counter()
            while len(times) < 5 or time.perf_counter() - start < 1.2:
                before = time.perf_counter()
                work[what]()
                times.append(time.perf_counter() - before)
            seconds[what + suffix] = statistics.median(times[1:])
    return seconds


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SHAPES), help="one shape")
    parser.add_argument("--rows", type=lambda text: list(map(int, text.split(","))), default=[1, 512, 1024])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        print(bench("--list", home=home).splitlines()[0] + "\n")
    print("| shape, rows | product | eyekern | gemm | PyTorch | of PyTorch | eyekern bf16 | PyTorch bf16 | of PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in [args.only] if args.only else SHAPES:
        for rows in args.rows:
            ours, theirs = crates(name, rows), pytorch(name, rows)
            inp, out = SHAPES[name]
            for what in NAMES if rows > 1 else NAMES[:1]:
                cells = []
                for suffix in ("", ", bf16"):
                    a, b = ours[what + suffix], theirs[what + suffix]
                    speed = [2e-9 * rows * inp * out / seconds for seconds in (a, b)]
                    crate = [f"{2e-9 * rows * inp * out / ours[what + ', gemm']:.0f}"] if not suffix else []
                    cells += [f"{speed[0]:.0f}", *crate, f"{speed[1]:.0f}", f"{b / a:.2f}"]
                print(f"| {name}, {rows} | {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
