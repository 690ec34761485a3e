"""Metrics of `eyekern score`, compared with the Python packages that define them.

    python tests/interop/check_metrics.py [--eyekern target/release/eyekern] [--wordnet DIR] [--pairs 3000] [--venv DIR]

Makes pairs of each kind (a fixed seed), scores them with both sides, and compares each pair and the corpus.

    bleu, chrf                      sacrebleu 2.6.0 (`sentence_bleu` and `corpus_bleu`; chrF with word_order 2)
    rouge1, rouge2, rougeL          rouge-score 0.1.2, use_stemmer
    meteor, meteor_wordnet          nltk 3.10.4, without and with WordNet
    edit_similarity                 rapidfuzz, `fuzz.ratio / 100`
    strict_exact ... h_exact_paper  their definitions, with `re` (docs/evaluation.md)
    codexglue_bleu, codexglue_summary_bleu
                                    their definitions, with the regular expressions of the evaluators

`--wordnet` names a folder with WordNet 3.0 (Debian: the package wordnet-base, /usr/share/wordnet); without it
meteor_wordnet is left out. The packages are installed into a virtual environment, `--venv` or a temporary one, with
pip. The packages are slow on texts of 10 kB: the kind `long` has 500 pairs, of which 40 are compared by ROUGE.

One line per kind and metric: pairs, largest difference of a pair, difference of the corpus. Exit status 1 where one
is above 1e-6. Needs the network or a prepared `--venv`, so it is no part of `cargo test`.
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = ["sacrebleu==2.6.0", "rouge-score==0.1.2", "nltk==3.10.4", "rapidfuzz==3.14.6"]
LIMIT = 1e-6
LONG = 500  # pairs of 10 kB at most, for the time that the packages take
SLOW = 40  # of these, those that ROUGE is compared on
WORDS = """returns the value of this given name if it is not null or a new empty list otherwise gets sets adds removes
creates created creating checks checked whether an object is equal to another one writes reads closing closed stream
buffer files relational conditional operators happily skies dying news innings proceeding generalisations sensibility
large big make build start begin children geese better best went going ran running mice wolves boxes churches men
take taking house home car automobile quickly fast string integer array maps mapping index indices matrices""".split()
MARKS = list(".,;:!?()[]{}<>-_/\\'\"`~@#$%^&*+=|") + ["...", "->", "=>", "1.5", "2,000", "3-4", "-", "a-", "-\n"]
MARKS += ["&quot;", "&amp;", "&lt;", "&gt;", "&amp;lt;", "<skipped>", "wo-\nrd", "x.", ".x", "1.", ".1", "**d", "a*ded"]
ODD = ["é", "e\u0301", "İ", "ΑΣ", "Σ", "ΟΔΟΣ.", "ß", "ẞ", "ſummary", "K", "漢字", "مرحبا", "٣٤"]
ODD += ["Ⅷ", "²", "ⓐ", "🙂", "👩‍💻"]
ODD += [
    "\u200b",
    "\ufeff",
    "\u00ad",
    "ª",
    "ﬁ",
    "naïve",
    "naïves",
    "dé­jà",
    "x\u0345",
    "ا\u064b",
    "क\u093f",
    "\U0001d7d8",
    "𐐀",
]
SPACE = [" ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"]
CODE = [
    "public",
    "static",
    "int",
    "String",
    "name",
    "getValue",
    "i",
    "x1",
    "=",
    "==",
    "(",
    ")",
    "{",
    "}",
    ";",
    ".",
    "0",
]
CODE += ["return", "if", "else", "for", "new", "List<String>", "// a comment", "/* b */", '"text"', "\n", "    ", "+="]
ROOTS = (
    "relat hop fall fizz siz geo archaeo sens ab y yy cry enjoy control rat plast agre sk form x1 naïv é operat".split()
)
SUFFIXES = """s es sses ss ies ied eed ed ing ated bled ized y ational tional ency ancy izer ably ally entli eli ousli
ization ation ator alism iveness fulness ousness ality ivity bility fully logy logi alli icate ative alize icity ical
ful ness al ance ence er ic able ible ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll le *ded ly""".split()


def text(draw, parts, least, most, joints=(" ",)):
    """Words with a joint between any two."""
    words = draw.choices(parts, k=draw.randint(least, most))
    return "".join(word + draw.choice(joints) for word in words)


def changed(draw, words, parts):
    """A near copy: some words left out, doubled, swapped or replaced."""
    out = []
    for word in words:
        p = draw.random()
        if p < 0.05:
            continue
        out.append(draw.choice(parts) if p < 0.12 else word)
        if p > 0.96:
            out.append(word)
        if p > 0.92 and len(out) > 1:
            out[-1], out[-2] = out[-2], out[-1]
    return out


def kinds(count, lemmas):
    """The pairs of each kind, prediction first. `lemmas` are words of WordNet."""
    draw = random.Random(20)
    points = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    prose = WORDS * 3 + [w.capitalize() for w in WORDS] + [w + "." for w in WORDS] + [w + "," for w in WORDS]
    lines = [text(draw, prose, 1, 6) for _ in range(6)]

    def near(parts, least, most, joint=" "):
        words = draw.choices(parts, k=draw.randint(least, most))
        return joint.join(changed(draw, words, parts)), joint.join(words)

    def free(parts, least, most, joints=(" ",)):
        return text(draw, parts, least, most, joints), text(draw, parts, least, most, joints)

    def stems():
        roots = draw.choices(ROOTS + lemmas[:1], k=draw.randint(1, 12))
        ended = [[root + "".join(draw.choices(SUFFIXES, k=draw.randint(0, 2))) for root in roots] for _ in range(2)]
        return " ".join(ended[0]), " ".join(changed(draw, ended[1], ROOTS))

    def synonyms():
        words = [draw.choice(lemmas) + draw.choice(["", "", "s", "es", "ed", "ing", "er"]) for _ in range(8)]
        words += draw.choices(WORDS, k=8)
        draw.shuffle(words)
        return " ".join(changed(draw, words, WORDS)), " ".join(draw.sample(WORDS, 4) + words[::2])

    blank = lambda: "".join(draw.choices(SPACE, k=draw.randint(0, 4)))
    some = lambda: draw.choice([blank(), text(draw, prose, 0, 3), draw.choice(ODD + MARKS)])
    odd, marks = ODD + SPACE + prose[:40], MARKS * 2 + prose[:60]
    made = {
        "prose": lambda: near(prose, 1, 40),
        "unrelated": lambda: free(prose, 1, 30),
        "unicode": lambda: draw.choice([near(odd, 1, 25), free(odd, 1, 12, SPACE + [""])]),
        "marks": lambda: draw.choice([near(marks, 1, 40), free(marks, 1, 20, (" ", "", ""))]),
        "empty": lambda: draw.choice([(blank(), blank()), (some(), blank()), (blank(), some()), (some(), some())]),
        "lines": lambda: free(lines, 1, 12, ("\n", "\n\n", "\r\n")),
        "code": lambda: draw.choice([near(CODE, 1, 80), near(CODE, 1, 80, ""), free(CODE, 1, 40)]),
        "points": lambda: near(draw.choices(points, k=30) + list(" ab1"), 1, 60, ""),
        "stems": stems,
        "synonyms": synonyms,
        "short": lambda: free("abcA1_ .,-\n", 0, 9, ("",)),
        "long": lambda: draw.choice([near(prose, 1500, 1600), near(CODE, 2500, 2600), free(odd, 2000, 2100)]),
    }
    return {name: [make() for _ in range(count)] for name, make in made.items()}


def exact(p, r):
    a, b = re.sub(r"\s+", "", p), re.sub(r"\s+", "", r)
    same, inside = float(a == b), float(bool(a) and a in b)
    contain = float(bool(a and b and (a in b or b in a)))
    return {
        "strict_exact": same,
        "codexglue_exact": float(p.strip() == r.strip()),
        "codexglue_line_exact": float(p.split() == r.split()),
        "contain": contain,
        "h_exact": 0.5 * same + 0.5 * contain,
        "h_exact_paper": 0.5 * same + 0.5 * inside,
    }


def grams(words):
    return collections.Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def codexglue_bleu(pairs):
    matches, totals, hyp, ref = [0] * 4, [0] * 4, 0, 0
    for p, r in pairs:
        p, r = p.strip().split(), r.strip().split()
        hyp, ref = hyp + len(p), ref + len(r)
        for gram, n in (grams(p) & grams(r)).items():
            matches[len(gram) - 1] += n
        totals = [total + max(len(p) - n, 0) for n, total in enumerate(totals)]
    if hyp == 0:
        return 0.0
    mean = sum(math.log((m + 1) / (t + 1)) for m, t in zip(matches, totals)) / 4
    return 100 * math.exp(mean) * (1 if hyp > ref else math.exp(1 - ref / hyp))


def nist(line):
    """`normalize` of the evaluator of code-to-text, after its `splitPuncts`."""
    line = " ".join(re.findall(r"[\w]+|[^\s\w]", line.strip().lower()))
    for pattern, new in ((r"<skipped>", ""), (r"-\n", ""), (r"\n", " ")):
        line = re.sub(pattern, new, line)
    for entity, new in (("&gt;", ">"), ("&lt;", "<"), ("&quot;", '"'), ("&amp;", "&")):
        line = line.replace(entity, new)
    line = f" {line} ".lower()
    for pattern, new in (
        (r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 "),
        (r"([^0-9])([\.,])", r"\1 \2 "),
        (r"([\.,])([^0-9])", r" \1 \2"),
        (r"([0-9])(-)", r"\1 \2 "),
    ):
        line = re.sub(pattern, new, line)
    return line.split()


def codexglue_summary_bleu(p, r):
    p, r = nist(p), nist(r)
    in_p, in_r, tiny, mean = grams(p), grams(r), sys.float_info.min, 0.0
    for n in range(4):
        matched = sum(min(c, in_r[g]) for g, c in in_p.items() if len(g) == n + 1)
        more = int(n > 0)
        mean += math.log(matched + more + tiny) - math.log(max(len(p) - n, 0) + more + tiny)
    return 100 * math.exp(mean / 4 + min(0, 1 - (len(r) + 1) / (len(p) + 1)))


def wordnet_of(folder, work):
    """NLTK's reader on Princeton's files. It opens a file `lexnames`, which Debian's package lacks, and compares the
    version with other WordNets, which are not there."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        def map_wn(self, version="wordnet"):
            return None

    shutil.copytree(folder, work / "wordnet")
    (work / "wordnet" / "lexnames").write_text("".join(f"{i:02} lexname{i} 1\n" for i in range(45)))
    nltk.data.path.insert(0, str(work))
    return Reader(nltk.data.find("wordnet"), None)


class NoWordNet:
    def synsets(self, word):
        return []


def oracle(pairs, slow, wordnet):
    """Values of each pair (None where a package is not asked) and of the corpus."""
    import sacrebleu
    from nltk.translate.meteor_score import meteor_score
    from rapidfuzz import fuzz
    from rouge_score.rouge_scorer import RougeScorer

    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    rows = []
    for i, (p, r) in enumerate(pairs):
        row = exact(p, r)
        row["bleu"] = sacrebleu.sentence_bleu(p, [r]).score
        row["chrf"] = sacrebleu.sentence_chrf(p, [r], word_order=2).score
        row["codexglue_bleu"] = codexglue_bleu([(p, r)])
        row["codexglue_summary_bleu"] = codexglue_summary_bleu(p, r)
        row["meteor"] = meteor_score([r.split()], p.split(), wordnet=NoWordNet())
        if wordnet:
            row["meteor_wordnet"] = meteor_score([r.split()], p.split(), wordnet=wordnet)
        row["edit_similarity"] = fuzz.ratio(p, r) / 100
        if i < slow:
            row.update({name: score.fmeasure for name, score in rouge.score(r, p).items()})
        rows.append(row)
    hyps, refs = map(list, zip(*pairs))
    corpus = {
        "bleu": sacrebleu.corpus_bleu(hyps, [refs], force=True).score,
        "chrf": sacrebleu.corpus_chrf(hyps, [refs], word_order=2).score,
        "codexglue_bleu": codexglue_bleu(pairs),
    }
    means = [name for name in rows[0] if name not in corpus and name in rows[-1]]
    corpus.update({name: sum(row[name] for row in rows) / len(rows) for name in means})
    return rows, corpus


def ours(binary, pairs, metrics, work, wordnet):
    """Values of each pair and of the corpus by `eyekern score`."""
    for name, texts in zip(("hyp", "ref"), zip(*pairs)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [binary, "score", "--hyp", work / "hyp.jsonl", "--ref", work / "ref.jsonl", "--task", "summarization"]
    command += ["--metrics", ",".join(metrics), "--format", "json", "--examples", work / "rows.jsonl"]
    command += ["--wordnet", wordnet] if wordnet else []
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"eyekern score: {done.stderr}")
    rows = [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]
    return [row.get("metrics", row) for row in rows], json.loads(done.stdout)["metrics"]


def enter(venv, work):
    """Runs the program again in the virtual environment `venv`, or in one that is made in `work`."""
    venv = venv or work / "venv"
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    if pathlib.Path(sys.prefix).resolve() != venv.resolve():
        again = [python, "-W", "ignore", *sys.argv, "--venv", venv]
        sys.exit(subprocess.run([str(part) for part in again]).returncode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", default=ROOT / "target/release/eyekern", type=pathlib.Path)
    parser.add_argument("--wordnet", type=pathlib.Path)
    parser.add_argument("--pairs", default=3000, type=int)
    parser.add_argument("--venv", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        enter(args.venv, work)
        wordnet = args.wordnet and wordnet_of(args.wordnet, work)
        lemmas = sorted(wordnet.words()) if wordnet else ["return"]
        worst = 0.0
        print(f"{'kind':10} {'metric':23} {'pairs':>6} {'largest difference':>19} {'of the corpus':>14}")
        for kind, pairs in kinds(args.pairs, lemmas).items():
            # `eyekern score` refuses a row with nothing to compare with
            pairs = [(p, r) for p, r in pairs if r.strip()][: LONG if kind == "long" else None]
            rows, corpus = oracle(pairs, SLOW if kind == "long" else len(pairs), wordnet)
            found, summed = ours(args.eyekern, pairs, rows[0], work, args.wordnet)
            assert len(found) == len(rows), f"{len(found)} rows of {len(rows)}"
            for name in rows[0]:
                compared = [abs(a[name] - b[name]) for a, b in zip(rows, found) if name in a]
                of_corpus = abs(corpus[name] - summed[name]) if name in corpus else 0.0
                shown = f"{of_corpus:14.1e}" if name in corpus else f"{'-':>14}"
                print(f"{kind:10} {name:23} {len(compared):6} {max(compared):19.1e} {shown}", flush=True)
                for difference in [*compared, of_corpus]:
                    worst = difference if not difference <= worst else worst
                for i, difference in enumerate(compared):
                    if not difference <= LIMIT:
                        print(f"  pair {i}: {rows[i][name]} here {found[i][name]}: {pairs[i]!r:.300}")
                        break
        print(f"largest difference {worst:.1e}: {'agrees' if worst <= LIMIT else 'DIFFERS'}")
        sys.exit(not worst <= LIMIT)


if __name__ == "__main__":
    main()
