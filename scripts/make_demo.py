"""Makes the embedded demo data from assets/demo/pairs.txt:  python scripts/make_demo.py

Needs the package `tokenizers` (made with 0.23.3). No download, no clock, no chance: same input, same bytes.

1. Write pairs.jsonl: a row of `code` and `content` per pair. The weights are drawn when they are trained on.
2. Train a byte-level BPE on the text of prompts and targets, write tokenizer.json and tokenizer_config.json.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PROMPT = "### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\n{}\n\n### Output:\n"
VOCABULARY, EOS = 640, "<|endoftext|>"
DEMO = Path(__file__).resolve().parent.parent / "assets" / "demo"


def read_rows():
    rows = []
    for block in (DEMO / "pairs.txt").read_text(encoding="utf-8").split("\n=== ")[1:]:
        java, c_sharp = block.split("\n", 1)[1].strip().split("\n---\n")
        rows.append({"code": java, "content": c_sharp})
    return rows


def texts(rows):
    return [text for row in rows for text in (PROMPT.format(row["code"]), row["content"])]


def train_tokenizer(rows):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    options = {"vocab_size": VOCABULARY, "special_tokens": [EOS], "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(texts(rows), trainers.BpeTrainer(**options))
    return tokenizer


def write(name, text):
    (DEMO / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"{name:22} {len(text.encode()):7} bytes")


def main():
    rows = read_rows()
    write("pairs.jsonl", "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows))
    tokenizer = train_tokenizer(rows)
    write("tokenizer.json", tokenizer.to_str(pretty=False) + "\n")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS, "clean_up_tokenization_spaces": False}
    write("tokenizer_config.json", json.dumps(config, indent=2) + "\n")

    lengths = [len(tokenizer.encode(text).ids) for text in texts(rows)]
    for side, n in ("prompt", lengths[::2]), ("target", lengths[1::2]):
        print(f"{side}: {min(n)} to {max(n)} tokens, mean {sum(n) / len(n):.1f}, total {sum(n)} in {len(n)}")


if __name__ == "__main__":
    main()
