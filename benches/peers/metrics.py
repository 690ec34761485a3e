#!/usr/bin/env python3
"""The metrics of `eyekern score` beside the packages that define them, on the same pairs, in turn.

    cargo build --release
    python benches/peers/metrics.py --ref ../shared/data/codexglue/train.java-cs.txt.cs [--pairs 10000] [--rounds 2] [--venv DIR]

References are lines of C#; a prediction is its reference with a tenth of the words dropped, doubled or exchanged (fixed
seed). The packages (sacrebleu, rouge-score, nltk, rapidfuzz, codebleu 0.7.0, crystalbleu 0.2) are installed into a virtual
environment. They compute BLEU, chrF++, ROUGE-1/2/L, METEOR (exact and stem), CodeBLEU, CrystalBLEU and the edit ratio in
one process and one thread, as they are.

A report of eyekern scores six columns: the predictions, and five trivial predictors beside them. The packages score the
same six columns of texts (the column `shuffled` has the reference of the next row). eyekern computes the same metrics
with one thread and with all threads, and then every metric that it has. Times are wall times of whole processes, reading
included. Values that both have are compared, so that neither skips work.
"""
import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

PACKAGES = ["sacrebleu==2.6.0", "rouge-score==0.1.2", "nltk==3.10.4", "rapidfuzz==3.14.6", "codebleu==0.7.0", "crystalbleu==0.2",
            "tree-sitter==0.22.3", "tree-sitter-c-sharp==0.21.3", "setuptools<81"]
SAME = ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "meteor", "codebleu", "crystalbleu", "edit_similarity"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def packages(folder):
    """All metrics of the packages, printed as JSON. Runs in the virtual environment."""
    import re

    import codebleu
    import crystalbleu
    import rapidfuzz
    import sacrebleu
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer

    class NoWordNet:
        def synsets(self, word):
            return []

    hyps, refs = ((folder / name).read_text().split("\n")[:-1] for name in ("hyp.txt", "ref.txt"))
    run_on = [f"{ref}\n\n### Instruction:\nContinue.\n{ref[:100]}" for ref in refs]
    columns = {"prediction": hyps, "empty": [""] * len(refs), "}": ["}"] * len(refs), "public": ["public"] * len(refs),
               "run_on": run_on, "shuffled": refs[1:] + refs[:1]}
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    tokens = [re.findall(r"\w+|[^\w\s]", text) for text in refs]
    ngrams = collections.Counter(
        tuple(row[i:i + n]) for row in tokens for n in range(1, 5) for i in range(len(row) - n + 1))
    shared = dict(ngrams.most_common(500))
    table = {}
    for column, hyps in columns.items():
        scores = collections.defaultdict(list)
        for hyp, ref in zip(hyps, refs):
            for name, score in rouge.score(ref, hyp).items():
                scores[name].append(score.fmeasure)
            scores["meteor"].append(meteor_score([ref.split()], hyp.split(), wordnet=NoWordNet()))
            scores["edit_similarity"].append(rapidfuzz.fuzz.ratio(hyp, ref) / 100)
        means = {name: sum(values) / len(values) for name, values in scores.items()}
        means["bleu"] = sacrebleu.corpus_bleu(hyps, [refs]).score
        means["chrf"] = sacrebleu.corpus_chrf(hyps, [refs], word_order=2).score
        means["codebleu_ngram"] = 100 * codebleu.calc_codebleu(refs, hyps, "c_sharp")["ngram_match_score"]
        pieces = [re.findall(r"\w+|[^\w\s]", text) for text in hyps]
        crystalbleu.corpus_bleu([[row] for row in tokens], pieces, ignoring=shared)
        table[column] = means
    print(json.dumps(table))


def changed(line, draw):
    words = []
    for word in line.split(" "):
        choice = draw.random()
        if choice < 0.03:
            continue
        words += [word, word] if choice < 0.06 else ["value"] if choice < 0.10 else [word]
    return " ".join(words)


def timed(command):
    start = time.perf_counter()
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stderr)
    return time.perf_counter() - start, json.loads(made.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref", type=pathlib.Path, required=True)
    parser.add_argument("--eyekern", type=pathlib.Path, default=ROOT / "target/release/eyekern")
    parser.add_argument("--pairs", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / "target/metrics-venv")
    args = parser.parse_args()
    python = args.venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", args.venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    draw = random.Random(17)
    refs = args.ref.read_text().split("\n")[:args.pairs]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "ref.txt").write_text("".join(line + "\n" for line in refs))
        (folder / "hyp.txt").write_text("".join(changed(line, draw) + "\n" for line in refs))
        score = [args.eyekern, "score", "--hyp", folder / "hyp.txt", "--ref", folder / "ref.txt", "--task", "translation",
                 "--format", "json", "--lang", "c-sharp"]
        usual = json.loads(subprocess.run(score, capture_output=True, text=True, check=True).stdout)["metrics"]
        rest = ["rouge1", "rouge2", "rougeL", "meteor", "codexglue_summary_bleu"]
        same = [*score, "--metrics", ",".join(SAME)]
        every = [*score, "--metrics", ",".join([*usual, *rest])]
        packages = [python, __file__, "--worker", folder]
        commands = {"packages": packages, "eyekern, 1 thread": [*same, "--threads", "1"], "eyekern, all threads": same,
                    f"{len(usual) + len(rest)} metrics, 1 thread": [*every, "--threads", "1"],
                    f"{len(usual) + len(rest)} metrics, all threads": every}
        times = collections.defaultdict(list)
        for _ in range(args.rounds):
            values = {}
            for name, command in commands.items():
                seconds, values[name] = timed(command)
                times[name].append(seconds)
        ours, theirs = list(values.values())[-1], values["packages"]
        for column in ["prediction", "empty", "}", "public", "run_on"]:
            mine = ours["metrics"] if column == "prediction" else ours["panel"][column]
            for name in ["rouge1", "rougeL", "meteor", "edit_similarity", "bleu", "chrf", "codebleu_ngram"]:
                if abs(mine[name] - theirs[column][name]) > 1e-6:
                    sys.exit(f"{column}, {name}: {mine[name]} and {theirs[column][name]}")
    best = {name: min(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        shown = " ".join(f"{s:.2f}" for s in seconds)
        print(f"{name:24} {shown} s   {best['packages'] / best[name]:.1f} x as fast as the packages")
    print(f"{len(refs)} pairs in six columns; {len(SAME)} metrics by the packages")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        packages(pathlib.Path(sys.argv[2]))
    else:
        main()
