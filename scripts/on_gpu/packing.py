"""What the machine with the GPU needs, in one folder."""
import json
import os
import shutil
import subprocess
from pathlib import Path

from .places import HERE, ROOT, fail

TESTS = ("conformance", "kernels", "emulated")


def cargo(*arguments):
    """Builds, and the executables that came out by their target's name."""
    command = ["cargo", *arguments, "--release", "--locked", "--message-format=json-render-diagnostics"]
    try:
        ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except OSError as why:
        fail(f"`cargo` does not start ({why.strerror}): install Rust, or put it on PATH")
    if ran.returncode:
        fail(f"`{' '.join(command)}` failed")
    built = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    return {m["target"]["name"]: m["executable"] for m in built if m.get("executable")}


def commit():
    """The commit of the checkout; `unknown` outside one."""
    def git(*words):
        try:
            return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return (git("rev-parse", "HEAD") or "unknown") + ("+changes" if changed else "")


def parity():
    """The folder of models that EYEKERN_SHARED has, if it is set."""
    shared = os.environ.get("EYEKERN_SHARED")
    if not shared:
        return print("EYEKERN_SHARED is not set: the stage models will have one model, the checkout's own")
    folder = Path(shared) / "fixtures/parity"
    if not folder.is_dir():
        fail(f"EYEKERN_SHARED: there is no folder {folder}; unset it to pack without its models")
    return folder


def pack(args):
    """Collects the folder. The binary has the emulator where it is the emulator that the folder is tried with."""
    to, more = Path(args.dir), parity()
    if to.exists() and any(to.iterdir()):
        fail(f"{to} is not empty")
    wheels = sorted(Path(args.wheels).glob("*.whl")) if args.wheels else []
    if args.wheels and not wheels:
        fail(f"there is no wheel in {args.wheels}")
    emulator = ["--features", "emulator"]
    # the tests first: for them Cargo builds the binary with the emulator, too
    tests = cargo("test", "--no-run", *emulator, *(word for name in TESTS for word in ("--test", name)))
    binary = cargo("build", "--bin", "eyekern", *(emulator if args.emulator else []))["eyekern"]
    told = subprocess.run([binary, "kernels"], capture_output=True, text=True).stdout
    if told.startswith("no machine code"):
        print("The binaries have no machine code, and each start on a GPU compiles it with the NVRTC there: run "
              "`python3 scripts/fetch_nvrtc.py` first to spare that time")
    (to / "tests").mkdir(parents=True)
    shutil.copy2(binary, to / "eyekern")
    for name in TESTS:
        shutil.copy2(tests[name], to / "tests" / name)
    shutil.copytree(ROOT / "tests/fixtures/tiny_llama", to / "tests/fixtures/tiny_llama")
    if more:
        shutil.copytree(more, to / "shared/fixtures/parity")
    for file in [to / "eyekern", *(to / "tests" / name for name in TESTS)] if shutil.which("strip") else []:
        subprocess.run(["strip", str(file)], check=False)
    shutil.copy2(HERE / "gpu.py", to)
    shutil.copytree(HERE / "on_gpu", to / "on_gpu", ignore=shutil.ignore_patterns("__pycache__"))
    for file in sorted((ROOT / "benches/peers").glob("torch_gpu*.py")):
        shutil.copy2(file, to)
    for wheel in wheels:
        (to / "wheels").mkdir(exist_ok=True)
        shutil.copy2(wheel, to / "wheels")
    (to / "pack.json").write_text(json.dumps({"commit": commit(), "emulator": args.emulator}))
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    print(f"{to}: {size / (1 << 20):.1f} MiB. On the machine with the GPU: python3 {to.name}/gpu.py run first")
    if args.archive:
        archive = shutil.make_archive(str(to), "xztar", to.parent, to.name)
        print(f"{archive}: {os.path.getsize(archive) / (1 << 20):.1f} MiB")
