#!/usr/bin/env python3
"""Conversations through the command, beside transformers: text, ids and supervised tokens.

    cargo build --release
    python tests/interop/check_chats.py [CONVERSATIONS]      # transformers 5.23, tokenizers, jinja2 3.1

Templates and conversations are those of tests/fixtures/make_chat.py, from a seed that no test uses. Each template gets a
tokenizer with its special tokens; `eyekern inspect` shows the ids of every row and which are supervised. transformers
gives the ids (`apply_chat_template`), and the answers by its own mask where the template has generation tags. Elsewhere
the answers are differences of its renderings; where these give none (the template writes earlier turns in another way),
the supervised text has to hold each answer's content. A row that transformers refuses has to be refused. Rows that
eyekern refuses because the place of an answer cannot be found are counted.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures"))
import make_chat  # noqa: E402

EYEKERN = ROOT / "target/release/eyekern"


def make_tokenizer(folder, template, rows):
    """A byte-level tokenizer trained on the rows, whose markers are single tokens."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    bare.train_from_iterator([json.dumps(row, ensure_ascii=False) for row in rows], trainer)
    markers = sorted(set(re.findall(r"<\|[a-zA-Z_]+\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]", template)))
    bare.add_special_tokens([AddedToken(t, normalized=False) for t in [*make_chat.SPECIAL.values(), *markers]])
    PreTrainedTokenizerFast(tokenizer_object=bare, chat_template=template, **make_chat.SPECIAL).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def inspect(folder, rows, most=500):
    """(ids, supervised) of each row by eyekern, or its error."""
    if len(rows) > most:
        found = []
        for at in range(0, len(rows), most):
            part = inspect(folder, rows[at:at + most])
            if isinstance(part, str):
                return part.removesuffix("[0]") + f"[{at}]"
            found += part
        return found
    data, page = folder / "rows.jsonl", folder / "page.html"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    made = subprocess.run(
        [EYEKERN, "inspect", data, "--model", folder, "--html", page, "--row", f"1-{len(rows)}", "--set", "data.max_length=100000",
         "--set", "data.chat_date=2026-11-30"], capture_output=True, text=True)
    if made.returncode:
        return made.stderr.strip() + " [0]"
    sections = re.split(r'<section class="row"', page.read_text())[1:]
    token = re.compile(r'title="token id\t(\d+)\n(.*?)"', re.S)
    return [[(int(m[1]), "supervised\tno" not in m[2]) for m in token.finditer(section)] for section in sections]


def expected(tokenizer, template, row):
    """ids and supervised flags by transformers; flags are None where differences give none."""
    arguments = dict(tools=row.get("tools"), documents=row.get("documents"), **row.get("chat_template_kwargs", {}))
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False, **arguments)
    ids = tokenizer.apply_chat_template(row["messages"], return_dict=False, **arguments)
    found = make_chat.answers(template, row)
    if found is None:
        return text, ids, None
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    flags = [any(start < b and a < end for a, b in found) for start, end in offsets]
    return text, ids, flags


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    make_chat.freeze()
    rows = make_chat.conversations(seed=20261130, count=count)
    total, refused, spans, placeless, wrong = 0, 0, 0, [], []
    for name, template in make_chat.TEMPLATES.items():
        folder = Path(tempfile.mkdtemp())
        tokenizer = make_tokenizer(folder, template, rows[:200])
        kept, theirs, bad = [], [], []
        for row in rows:
            try:
                theirs.append(expected(tokenizer, template, row))
                kept.append(row)
            except Exception:
                bad.append(row)
        ours = inspect(folder, kept)
        while isinstance(ours, str) and (row := re.search(r"rows.jsonl:(\d+): .* has no place", ours)):
            # documented: the place of an answer cannot be found
            at = int(row[1]) - 1 + int(re.search(r"\[(\d+)\]$", ours)[1])
            placeless.append((name, re.search(r"`messages`\[(\d+)\]", ours)[1], kept[at]))
            del kept[at], theirs[at]
            ours = inspect(folder, kept)
        if isinstance(ours, str):
            wrong.append((name, "eyekern refuses", ours))
            continue
        for row, (text, ids, flags), mine in zip(kept, theirs, ours, strict=True):
            total += 1
            if [i for i, _ in mine] != ids:
                wrong.append((name, "ids", row, tokenizer.decode([i for i, _ in mine]), text))
            elif flags is not None:
                spans += 1
                # nothing predicts the first token
                if [s for _, s in mine][1:] != flags[1:]:
                    shown = [tokenizer.decode([i for (i, _), f in zip(mine, fs) if f]) for fs in ([s for _, s in mine], flags)]
                    wrong.append((name, "supervised", row, *shown))
            else:
                learned = tokenizer.decode([i for i, s in mine if s])
                for message in row["messages"]:
                    content = message.get("content") if message["role"] == "assistant" else None
                    words = content.split("</think>")[-1].split() if isinstance(content, str) else []
                    # beside calls some templates leave the content out
                    # a template may join the words otherwise
                    if words and not message.get("tool_calls") and " ".join(words) in " ".join(text.split()) and not all(
                            word in learned for word in words):
                        wrong.append((name, "content", row, content, learned))
        for row in bad[:20]:
            refused += 1
            if not isinstance(inspect(folder, [row]), str):
                wrong.append((name, "not refused", row))
    for each in wrong[:30] + placeless[:10]:
        print(*each, sep="\n    ")
    print(f"{total} texts and ids, {spans} of them with the places of answers, {refused} refusals "
          f"as transformers, {len(placeless)} rows refused since an answer has no place: {len(wrong)} differences")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
