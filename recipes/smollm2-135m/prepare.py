#!/usr/bin/env python3
"""The rows of the experiments of docs/experiments.md, from CodeXGLUE's Java and C# pairs, into the folder data.

    python3 recipes/smollm2-135m/prepare.py FOLDER          # with {train,valid}.java-cs.txt.{java,cs} and leaks.json

leaks.json lists, in `lines_of_train_and_valid_whose_java_side_also_occurs_in_the_official_test_split`, lines of train and
valid (counted from 1) whose Java side is in the official test split: they are left out. So is a pair whose Java or C# side
equals one before it, but for white space. Pairs are ordered by the SHA-256 of their Java side, white space as single
spaces. Of the training file, the first 300 pairs are the reported rows (test), the next 800 are trained on (train); of the
validation file, the first 100 that share no side with the training file are for choices (valid). completion_*.jsonl have
the Java sides of the same pairs, with a line break behind each `{`, `}` and `;`, because the published files have a method
in a line.
"""
import hashlib
import json
import sys
from pathlib import Path

TEST, TRAIN, VALID = 300, 800, 100


def pairs(folder, name, leaks):
    """Pairs of a split without its leaks, in the order of their hashes."""
    sides = [(folder / f"{name}.java-cs.txt.{lang}").read_text().splitlines() for lang in ("java", "cs")]
    kept = [pair for line, pair in enumerate(zip(*sides, strict=True), 1) if line not in leaks]
    return sorted(kept, key=lambda pair: hashlib.sha256(plain(pair[0]).encode()).hexdigest())


def plain(text):
    """The text with white space as single spaces."""
    return " ".join(text.split())


def distinct(list_of_pairs, seen):
    """The pairs neither of whose sides was seen before."""
    for pair in list_of_pairs:
        sides = {("java", plain(pair[0])), ("cs", plain(pair[1]))}
        if all(text for _, text in sides) and not sides & seen:
            yield pair
        seen |= sides


def lines(java):
    """The method with a line break behind each `{`, `}` and `;` that is in no literal."""
    text, quote, skip = "", "", False
    for i, char in enumerate(java):
        text += char
        if skip:
            skip = False
        elif quote:
            skip = char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "{};" and java[i + 1:].strip():
            text += "\n"
    return "\n".join(line.strip() for line in text.split("\n")) + "\n"


def main():
    """Writes the files."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, out = Path(sys.argv[1]), Path(__file__).parent / "data"
    leaks = json.loads((folder / "leaks.json").read_text())
    leaks = leaks["lines_of_train_and_valid_whose_java_side_also_occurs_in_the_official_test_split"]
    seen = set()
    train = list(distinct(pairs(folder, "train", set(leaks["train"])), seen))
    valid = list(distinct(pairs(folder, "valid", set(leaks["valid"])), seen))
    splits = {"test": train[:TEST], "train": train[TEST:TEST + TRAIN], "valid": valid[:VALID]}
    out.mkdir(exist_ok=True)
    for name, chosen in splits.items():
        for i, lang in enumerate(("java", "cs")):
            (out / f"{name}.{lang}").write_text("".join(pair[i] + "\n" for pair in chosen))
        rows = (json.dumps({"code": lines(java), "lang": "java"}) for java, _ in chosen)
        (out / f"completion_{name}.jsonl").write_text("".join(row + "\n" for row in rows))
        print(name, len(chosen), "pairs")
    print(len(train), "distinct pairs in the training file,", len(valid), "in the validation file")


main()
