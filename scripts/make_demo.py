"""Makes the embedded demo data from assets/demo/pairs.txt:  python scripts/make_demo.py

Needs the package `tokenizers` (made with 0.23.3). No download, no clock, no unseeded chance: same input, same bytes.

1. Read the pairs and turn the region markers of the C# side into labelled tokens.
2. Draw a scan path through the tokens of each completion, seeded, with quotas from the priors.
3. Weigh the tokens: w = 1 + 1 / ln(freq + 2) + E[theta] on the path, 1 off it. freq is the count of the token's label
   alone (monogram); the engine itself also knows longer n-grams.
4. Write pairs.jsonl: prompt, completion, and a span [start, end, weight, on_path] per token, offsets in characters.
5. Train a byte-level BPE on the same text, write tokenizer.json and tokenizer_config.json, print statistics.

PRIORS are figures of the EyeMulator artifact (arXiv 2508.16771; licence CC-BY-4.0), drawn from the EyeTrans eye
tracking study, condition "combined" (reading + writing): tokens of the label that were fixated, tokens of the label
that were shown, monogram count of the label. Changed: only the labels of the demo are listed, under short names.
"""

import json
import math
import random
import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PRIORS = {  # label: (fixated, shown, monogram count)
    "arg": (1019, 3123, 4457),  # argument
    "assign": (67, 436, 177),  # assignment
    "comment": (146, 4409, 524),  # comment
    "branch": (1702, 4278, 4583),  # conditional block
    "cond": (3524, 7830, 13222),  # conditional statement
    "throw": (434, 2280, 1291),  # exception handling
    "class": (221, 468, 973),  # external class
    "extern": (489, 1921, 2297),  # externally defined variable or function
    "call": (853, 2710, 5232),  # function call
    "decl": (2899, 4485, 13971),  # function declaration
    "index": (1, 1, 4),  # index operation
    "lit": (14, 732, 22),  # literal
    "loop": (2481, 8418, 7876),  # loop
    "calc": (252, 1361, 675),  # operation
    "oper": (52, 215, 124),  # operator
    "param": (1799, 3374, 5973),  # parameter
    "return": (655, 4058, 2098),  # return
    "var": (537, 2114, 1493),  # variable
    "local": (4773, 10067, 18665),  # variable declaration
}
THETA = {label: (fixated + 1) / (shown + 2) for label, (fixated, shown, _) in PRIORS.items()}
WEIGHT = {label: round(1 + 1 / math.log(freq + 2) + THETA[label], 3) for label, (_, _, freq) in PRIORS.items()}

PROMPT = "### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\n{}\n\n### Output:\n"
SEED, VOCABULARY, EOS = 20, 640, "<|endoftext|>"
DEMO = Path(__file__).resolve().parent.parent / "assets" / "demo"

MARKER = re.compile(r"(«\w+\||»)")
PUNCTUATION = set("()[]{};,.")
TOKEN = re.compile(
    r"""//[^\n]* | \$?"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])'  # comment, string, character
    | (?:break|continue);|default:|else\s+if                # statements and keywords that are one token
    | \w+(?:\.\d+)? | \[\]                                  # word or number, array brackets
    | =>|==|!=|<=|>=|&&|\|\||\?\?|\?\.|\+\+|--|[-+*/%]=|\S  # operators""",
    re.VERBOSE,
)


def labelled(marked, name):
    """Strips the markers: the plain code and its tokens (start, end, label); the innermost region wins."""
    code, labels, stack, tokens = "", [], [None], []
    for piece in MARKER.split(marked):
        if piece == "»":
            stack.pop()
        elif piece.startswith("«"):
            stack.append(piece[1:-1])
        else:
            code += piece
            labels += [stack[-1]] * len(piece)
    assert stack == [None], f"{name}: unbalanced markers"
    for m in TOKEN.finditer(code):
        found = set(labels[m.start() : m.end()])
        if m[0] in PUNCTUATION or (m[0] == ":" and found == {None}):  # the colon of a case is punctuation
            continue
        assert len(found) == 1 and found <= PRIORS.keys(), f"{name}: token {m[0]!r} has the labels {found}"
        tokens.append((m.start(), m.end(), found.pop()))
    return code, tokens


def scan_path(tokens, rng):
    """Which tokens are on the path: k of the n tokens of a label, near n E[theta], by largest remainder."""
    groups = {label: [token for token in tokens if token[2] == label] for _, _, label in tokens}
    ideal = {label: THETA[label] * len(group) for label, group in groups.items()}
    quota = {label: math.floor(x) for label, x in ideal.items()}
    rest = max(2, math.floor(sum(ideal.values()))) - sum(quota.values())
    for label in sorted(ideal, key=lambda s: (quota[s] - ideal[s], s))[:rest]:
        quota[label] += 1
    path = set()
    for label in sorted(groups):
        path.update(sorted(groups[label], key=lambda _: rng.random())[: quota[label]])
    assert 2 <= len(path) < len(tokens)
    return path


def read_rows():
    rng, rows = random.Random(SEED), []
    for block in (DEMO / "pairs.txt").read_text(encoding="utf-8").split("\n=== ")[1:]:
        name, body = block.split("\n", 1)
        java, marked = body.strip().split("\n---\n")
        code, tokens = labelled(marked, name)
        path = scan_path(tokens, rng)
        spans = [[a, b, WEIGHT[s] if (a, b, s) in path else 1.0, (a, b, s) in path] for a, b, s in tokens]
        rows.append({"prompt": PROMPT.format(java), "completion": code, "weights": spans})
    return rows


def train_tokenizer(rows):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    options = {"vocab_size": VOCABULARY, "special_tokens": [EOS], "initial_alphabet": alphabet, "show_progress": False}
    texts = [row[side] for row in rows for side in ("prompt", "completion")]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(**options))
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

    lengths = {side: [len(tokenizer.encode(row[side]).ids) for row in rows] for side in ("prompt", "completion")}
    lengths["row with EOS"] = [p + c + 1 for p, c in zip(*lengths.values())]
    for side, n in lengths.items():
        print(f"{side}: {min(n)} to {max(n)} tokens, mean {sum(n) / len(n):.1f}, total {sum(n)} in {len(n)}")
    spans = [span for row in rows for span in row["weights"]]
    for name, w in ("all", [w for _, _, w, _ in spans]), ("on the path", [w for _, _, w, on in spans if on]):
        share = f"{len(w)} ({len(w) / len(spans):.1%})"
        print(f"code tokens, {name}: {share}, weight mean {sum(w) / len(w):.3f}, min {min(w)}, max {max(w)}")


if __name__ == "__main__":
    main()
