"""Where this script is, and how it ends with a sentence."""
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent  # `scripts`, or the packed folder
ROOT = HERE.parent


def fail(why):
    sys.exit(f"gpu.py: {why}")
