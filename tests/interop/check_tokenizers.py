"""Ids of eyekern, compared with those of transformers.

    python tests/interop/check_tokenizers.py [--eyekern target/release/eyekern] [FOLDER ...]

For each tokenizer of tests/fixtures/make_tokenizers.py, or each FOLDER with one: `eyekern inspect` gives the ids of
rows of prompt and completion, made of a few hundred texts.

    prompt                    the ids of AutoTokenizer, with BOS
    completion                the ids of AutoTokenizer where no prompt stands before it
    prompt and completion     decode to both texts, wherever the ids that AutoTokenizer gives the whole text do

Also checks that eyekern knows by name every class of transformers that does not take tokenizer.json as it is. Exit
status 1 on any difference. Needs transformers, so it is no part of `cargo test`.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import make_tokenizers as made
import transformers

TEXTS, PAIRS = 400, 200
SHOWN = 500  # rows that a page of `eyekern inspect` shows at most
BUILT = {"GPT2", "CodeGen", "GPTNeoX", "Qwen2", "Llama", "CodeLlama", "Gemma"}
# a decoder of words puts a space between any two of them
WORDS = {"words", "pieces"}
PARTS = [
    *made.TEXTS, "    ", "\n", "\r\n", "\t", "  x", "x  ", "def ", "return ", "self.", "n", " n", "==", "42", " 1", "é",
    "e\u0301", "\u00a0", "\u200b", "漢", "🙂", "👩‍💻", "ﬁ", "Ⅷ", "İ", "ß", "İI", "'s", "'LL", "_", "__init__", "<s>",
    "</s>", "<pad>", " <pad> ", made.END, "<|im_end|>", "▁", "▁▁", "fib", "int", "INT", "<unk>", "<0x0A>", "\u0000",
]  # fmt: skip


def texts(seed):
    """Texts of a few parts each; the fixed ones first."""
    draw = random.Random(seed)
    drawn = ["".join(draw.choices(PARTS, k=draw.randint(1, 6))) for _ in range(TEXTS)]
    return list(dict.fromkeys([*made.TEXTS, *drawn]))


def rows_of(binary, folder, rows):
    """The ids of each row, without the EOS behind them."""
    data, page = folder / "rows.jsonl", folder / "rows.html"
    data.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    command = [binary, "inspect", data, "--model", folder, "--html", page, "--row", f"1-{len(rows)}"]
    command += ["--set", "data.max_length=100000"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{folder}: {done.stderr}")
    found = re.split(r'<section class="row"', page.read_text())[1:]
    assert len(found) == len(rows), f"{folder}: {len(found)} rows of {len(rows)}"
    return [[int(id) for id in re.findall(r'title="token id\t(\d+)\n', row)][:-1] for row in found]


def differences(binary, folder, seed, words):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    decode = lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    known, draw, wrong = texts(seed), random.Random(seed), []
    pairs = [(draw.choice(known), draw.choice(known)) for _ in range(PAIRS)]
    rows = [*((text, "") for text in known), *(("", text) for text in known), *pairs]
    got = [row for at in range(0, len(rows), SHOWN) for row in rows_of(binary, folder, rows[at : at + SHOWN])]
    for (front, behind), ids in zip(rows[: 2 * len(known)], got):
        expected = made.prompt(tokenizer, front + behind)
        if ids != expected:
            kind = "completion" if behind else "prompt"
            wrong.append(f"{kind} {front + behind!r}: {ids} for {expected}")
    compared = 0
    for (front, behind), ids in zip(pairs, got[2 * len(known) :]):
        first = made.prompt(tokenizer, front)
        if ids[: len(first)] != first:
            wrong.append(f"{front!r} before {behind!r}: {ids} for {first}")
        bos = len(first) - len(plain(front))
        kept = decode(plain(front)) == front and decode(plain(front + behind)) == front + behind
        if kept and len(first) > bos and not words:
            compared += 1
            if decode(ids[bos:]) != front + behind:
                wrong.append(f"{front!r} and {behind!r}: decoded {decode(ids[bos:])!r}")
    return wrong, 2 * len(known), compared


def foreign():
    """Names of classes that transformers neither takes as TokenizersBackend nor eyekern builds."""
    from transformers.models.auto import tokenization_auto as auto
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    found = {"MistralCommonBackend"}
    for name in {*dir(transformers), *filter(None, auto.TOKENIZER_MAPPING_NAMES.values())}:
        name = name.removesuffix("Fast")
        value = auto.tokenizer_class_from_name(name) if name.endswith("Tokenizer") else None
        if isinstance(value, type) and issubclass(value, PreTrainedTokenizerBase) and name != "PreTrainedTokenizer":
            plain = "__init__" not in vars(value) and value.__bases__ == (TokenizersBackend,)
            if value is not TokenizersBackend and not plain:
                found.add(name)
    return found - {f"{name}Tokenizer" for name in BUILT}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--eyekern", default=ROOT / "target" / "release" / "eyekern", type=pathlib.Path)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    binary, failed = args.eyekern.resolve(), 0
    os.environ.update(TOKENIZERS_PARALLELISM="false")
    source = (ROOT / "src" / "data" / "tokenizer" / "class.rs").read_text()
    names = set(re.search(r'const FOREIGN: &str = "(.*?)";', source, re.S).group(1).replace("\\", "").split())
    if missing := foreign() - names:
        failed += 1
        print(f"classes that eyekern does not know: {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as work:
        models = made.vocabularies()
        cases = {} if args.folders else made.cases(models["bytes"]["vocab"][made.END])
        for number, (name, files) in enumerate(cases.items()):
            folder = pathlib.Path(work) / str(number)
            # many of them have no EOS, which eyekern requires
            files["config.json"] = {"eos_token_id": 0, **files.get("config.json", {})}
            made.write(folder, files, models)
            args.folders.append(folder)
        for number, folder in enumerate(args.folders):
            name = list(cases)[number] if cases else str(folder)
            if not cases:
                copy = pathlib.Path(work) / str(number)
                copy.mkdir()
                for file in folder.glob("*.json"):
                    (copy / file.name).write_bytes(file.read_bytes())
                folder = copy
            wrong, ids, texts = differences(binary, folder, number, name in WORDS)
            failed += bool(wrong)
            print(f"{name}: {ids} texts for ids, {texts} rows decoded: {len(wrong)} differences")
            for line in wrong[:3]:
                print(f"    {line}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
