#!/usr/bin/env python3
"""Everything that is done on a machine with a GPU, in stages of less than ten minutes each.

    python3 scripts/gpu.py pack DIR          # where eyekern is built: what the other machine needs, in one folder;
                                             # --archive: and as DIR.tar.xz; --wheels: with libraries for the peers
    python3 DIR/gpu.py run first             # on the machine with the GPU: what a first run must show, in nine minutes
    python3 DIR/gpu.py run                   # every stage that has no result yet
    python3 DIR/gpu.py run kernels --again   # one stage, once more
    python3 scripts/gpu.py table             # README's table from benches/results; --check: is it up to date?

The folder needs no checkout, no Rust and no network: a release binary, the tests of the kernels, their fixtures, the
PyTorch side of the benchmark. `run` writes a file per device, `results/<device>.json` beside the script, and
`results/<stage>.log`, all while it runs: what fails, takes too long or is interrupted loses nothing of what was there.
The file goes to benches/results. Python 3.9 or later, its standard library only.

`first` is doctor, conformance, kernels, models, peers-bf16 and, in the time that is left, sanitizer. It stops at the
first stage that fails, and says what to send back.

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
import sys

if sys.version_info < (3, 9):
    sys.exit(f"gpu.py: this is Python {sys.version.split()[0]}; it requires 3.9 or later")

from on_gpu.packing import pack
from on_gpu.places import ROOT
from on_gpu.running import run
from on_gpu.table import table


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
    one.add_argument("--out", metavar="DIR", help="the folder of results and logs (results beside this script)")
    one.add_argument("--again", action="store_true", help="also what is done")
    one.add_argument("--limit", type=float, metavar="SECONDS", help="of all stages together (first: 540)")
    one.add_argument("--device", default="cuda", choices=["cuda", "emulated"])
    one = commands.add_parser("table", help="write README's table")
    one.add_argument("--check", action="store_true")
    one.add_argument("--results", default=str(ROOT / "benches/results"))
    one.add_argument("--readme", default=str(ROOT / "README.md"))
    args = parser.parse_args()
    {"pack": pack, "run": run, "table": table}[args.command](args)


if __name__ == "__main__":
    main()
