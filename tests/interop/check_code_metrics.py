"""CodeBLEU and CrystalBLEU of `eyekern score`, compared with the packages.

    python tests/interop/check_code_metrics.py [--eyekern target/release/eyekern] [--pairs 3000] [--venvs DIR]

Makes two virtual environments in DIR, which it keeps. `pinned` has codebleu 0.7.0 with the grammars of its time,
`linked` has the grammars that eyekern links. Trees of broken code also depend on the version of tree-sitter, so a
program of a page with the crates of Cargo.toml shows the trees that eyekern sees. Parts that read trees are compared on
the pairs whose trees are the same for the package and for eyekern; their share is printed.

The package's data flow depends on the order of Python's sets. Two comparisons follow from this: with the sets of the
package replaced by lists in the order of appearance (every pair), and with the package as it is (the
pairs that order no set of two names).

Prints a line per language and metric: pairs, largest difference. Exit status 1 if a difference exceeds 1e-6 of the
scale. Needs EYEKERN_SHARED (Java and C# of CodeXGLUE) and the package index, so it is no part of `cargo test`.
"""

import argparse
import collections
import hashlib
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
NAMES = {"java": "java", "c_sharp": "c-sharp", "python": "python", "c": "c", "cpp": "cpp", "go": "go",
         "javascript": "javascript", "rust": "rust"}  # fmt: skip
PARTS = {"codebleu": "codebleu", "ngram_match_score": "codebleu_ngram",
         "weighted_ngram_match_score": "codebleu_weighted_ngram", "syntax_match_score": "codebleu_syntax",
         "dataflow_match_score": "codebleu_dataflow"}  # fmt: skip
TREE = {"codebleu", "codebleu_syntax", "codebleu_dataflow"}
TOLERANCE = 1e-6
# the package's recursion ends at a depth that depends on the calls around it
DEPTHS = range(960, 1040)
PINNED = ["codebleu==0.7.0", "crystalbleu==0.2", "setuptools", "tree-sitter==0.22.3", "tree-sitter-java==0.21.0",
          "tree-sitter-c-sharp==0.21.3", "tree-sitter-python==0.21.0", "tree-sitter-c==0.21.4",
          "tree-sitter-cpp==0.22.3", "tree-sitter-go==0.21.2", "tree-sitter-javascript==0.21.4",
          "tree-sitter-rust==0.21.2"]  # fmt: skip


def grammars():
    """The grammars of Cargo.toml, for Python."""
    found = re.findall(r'^(tree-sitter-[a-z-]+) = "=([0-9.]+)"', (ROOT / "Cargo.toml").read_text(), re.M)
    return [f"{name}=={version}" for name, version in found if name.removeprefix("tree-sitter-") in NAMES.values()]


def helper(folder):
    """A program that prints trees, with the versions of Cargo.toml."""
    wanted = ["tree-sitter", *(f"tree-sitter-{name}" for name in NAMES.values())]
    pinned = [line.split("#")[0] for line in (ROOT / "Cargo.toml").read_text().splitlines()
              if line.split(" = ")[0] in wanted]  # fmt: skip
    source = folder / "trees"
    (source / "src").mkdir(parents=True, exist_ok=True)
    manifest = '[package]\nname = "trees"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
    (source / "Cargo.toml").write_text(manifest + "\n".join(pinned))
    (source / "src" / "main.rs").write_text(TREES)
    command = ["cargo", "build", "--release", "-q", "--manifest-path", source / "Cargo.toml", "--target-dir", folder / "target"]
    subprocess.run(command, check=True)
    return folder / "target" / "release" / "trees"


TREES = r"""
//! Prints trees: a line `length` and that many bytes on standard input each, a line per node and an empty line out.
use std::io::{BufRead, Read, Write};

fn main() {
    let language: tree_sitter::Language = match std::env::args().nth(1).as_deref() {
        Some("java") => tree_sitter_java::LANGUAGE.into(),
        Some("c_sharp") => tree_sitter_c_sharp::LANGUAGE.into(),
        Some("python") => tree_sitter_python::LANGUAGE.into(),
        Some("c") => tree_sitter_c::LANGUAGE.into(),
        Some("cpp") => tree_sitter_cpp::LANGUAGE.into(),
        Some("go") => tree_sitter_go::LANGUAGE.into(),
        Some("javascript") => tree_sitter_javascript::LANGUAGE.into(),
        _ => tree_sitter_rust::LANGUAGE.into(),
    };
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&language).unwrap();
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::BufWriter::new(std::io::stdout()));
    let mut length = String::new();
    while input.read_line(&mut length).unwrap() > 0 {
        let mut code = vec![0; length.trim().parse().unwrap()];
        input.read_exact(&mut code).unwrap();
        length.clear();
        let tree = parser.parse(&code, None).unwrap();
        let (mut cursor, mut depth) = (tree.walk(), 1);
        'nodes: loop {
            let node = cursor.node();
            let kind = node.kind().replace('\n', "\\n");
            let field = cursor.field_name().unwrap_or("None");
            writeln!(out, "{depth} {kind} {field} {} {}", node.start_byte(), node.end_byte()).unwrap();
            if cursor.goto_first_child() {
                depth += 1;
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    break 'nodes;
                }
                depth -= 1;
            }
        }
        writeln!(out).unwrap();
    }
}
"""


def eyekerns(program, lang, texts):
    """The trees of `texts` as eyekern sees them, like those of `tree`."""
    data = b"".join(b"%d\n%s" % (len(code), code) for code in (text.encode() for text in texts))
    out = subprocess.run([program, lang], input=data, capture_output=True, check=True).stdout
    return [hashlib.sha256(lines + b"\n").hexdigest() for lines in out.split(b"\n\n")[:-1]]


def environment(folder, packages):
    """The interpreter of a virtual environment with these packages, without looking at what they require."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", "nltk"], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", "--no-deps", *packages], check=True)
    return python


def environments(folder):
    """The interpreters of both environments."""
    later = ["codebleu==0.7.0", "setuptools", "tree-sitter==0.26.1", *grammars()]
    return environment(folder / "pinned", PINNED), environment(folder / "linked", later)


# --- in the environments ----------------------------------------------------------------------------------------------


class Ordered:
    """A set that keeps the order of appearance."""

    mattered = False

    def __init__(self, items=()):
        self.items = dict.fromkeys(items)

    def __iter__(self):
        Ordered.mattered |= len(self.items) > 1 and all(isinstance(item, str) for item in self.items)
        return iter(self.items)

    def __contains__(self, item):
        return item in self.items

    def add(self, item):
        self.items[item] = None


def tree(code, parser):
    """A digest of a tree with all its nodes, and its depth."""
    digest, depth, deepest = hashlib.sha256(), 1, 1
    cursor = parser.parse(code.encode()).walk()
    while True:
        node = cursor.node
        kind = node.type.replace("\n", "\\n")
        digest.update(f"{depth} {kind} {cursor.field_name} {node.start_byte} {node.end_byte}\n".encode())
        if cursor.goto_first_child():
            depth += 1
            deepest = max(deepest, depth)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return digest.hexdigest(), deepest
            depth -= 1


def worker(mode):
    """Reads {lang, rows: [[hyp, ref]], ignored}; writes the values of each pair and of all."""
    import logging

    from codebleu import calc_codebleu, dataflow_match, syntax_match
    from codebleu.parser import DFG, remove_comments_and_docstrings
    from codebleu.utils import get_tree_sitter_language

    logging.disable(logging.WARNING)
    job = json.load(sys.stdin)
    lang, rows = job["lang"], job["rows"]
    result = {}
    if mode == "ordered":
        dataflow_match.set = DFG.set = Ordered
    if mode in ("ordered", "plain"):
        values, result["mattered"] = [], []
        for hyp, ref in rows:
            Ordered.mattered = False
            values.append(calc_codebleu([ref], [hyp], lang))
            result["mattered"].append(Ordered.mattered)
    if mode == "corpus":
        dataflow_match.set = DFG.set = Ordered
        values = [calc_codebleu([ref for _, ref in rows], [hyp for hyp, _ in rows], lang)]
    if mode in ("ordered", "plain", "corpus"):
        result["values"] = [{PARTS[k]: v for k, v in row.items()} for row in values]
    if mode == "trees":
        parser = syntax_match.Parser()
        parser.language = get_tree_sitter_language(lang)

        def stripped(code):
            try:
                return remove_comments_and_docstrings(code.strip(), lang)
            except Exception:
                return code.strip()

        texts = [stripped(text) for row in rows for text in row]
        result["texts"], result["trees"] = texts, [tree(text, parser) for text in texts]
    if mode == "crystal":
        from crystalbleu import SmoothingFunction, corpus_bleu
        from nltk.util import ngrams

        words = re.compile(r"\w+|[^\w\s]").findall
        counts = collections.Counter()
        left = 2_000_000
        for _, ref in rows:
            tokens = words(ref)[:left]
            left -= len(tokens)
            for n in range(1, 5):
                counts.update(ngrams(tokens, n))
        top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:500]
        result["shared"] = [list(gram) for gram, _ in top]
        ignoring, smooth = dict(top), SmoothingFunction().method1

        def score(some):
            refs, hyps = [[words(ref)] for _, ref in some], [words(hyp) for hyp, _ in some]
            return {"crystalbleu": corpus_bleu(refs, hyps, smoothing_function=smooth, ignoring=ignoring)}

        result["values"] = [*(score([row]) for row in rows), score(rows)]
    json.dump(result, sys.stdout)


def ask(python, mode, job, seed=0):
    """Runs a worker."""
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run([python, __file__, "--worker", mode], input=json.dumps(job), env=env, text=True,
                          capture_output=True)  # fmt: skip
    if done.returncode:
        sys.exit(f"{mode}: {done.stderr}")
    return json.loads(done.stdout)


# --- pairs ------------------------------------------------------------------------------------------------------------

WRITTEN = {
    "go": """func sum(values []int) int {\n\ttotal := 0\n\tfor i := 0; i < len(values); i++ {\n\t\ttotal += values[i]\n\t}\n\treturn total\n}
func (s *Store) Get(key string) (string, error) {\n\tvar found string\n\tif value, ok := s.items[key]; ok {\n\t\tfound = value\n\t} else if s.next != nil {\n\t\treturn s.next.Get(key)\n\t} else {\n\t\treturn "", errors.New("none")\n\t}\n\treturn found, nil\n}
func fib(n int) int {\n\tvar a, b int = 0, 1\n\tfor n > 0 {\n\t\ta, b = b, a+b\n\t\tn--\n\t}\n\tx := a\n\tx++\n\treturn x\n}
func each(m map[string]int, f func(string)) {\n\tfor k := range m {\n\t\tif m[k] > 1 {\n\t\t\tf(k) // once\n\t\t}\n\t}\n\tswitch len(m) {\n\tcase 0:\n\t\tf("")\n\tdefault:\n\t\tf(`raw`)\n\t}\n}""",
    "javascript": """function sum(values) {\n  let total = 0;\n  for (var i = 0; i < values.length; i++) {\n    total += values[i];\n  }\n  return total;\n}
const get = async (key, {fallback = null} = {}) => {\n  if (cache.has(key)) {\n    return cache.get(key);\n  } else if (fallback) {\n    key = fallback;\n  } else {\n    throw new Error(`no ${key}`);\n  }\n  const [a, b] = key.split('/');\n  return await load(a, b);\n};
class Queue {\n  constructor(size = 10) {\n    this.items = [];\n    this.size = size;\n  }\n  push(item) {\n    while (this.items.length >= this.size) {\n      this.items.shift();\n    }\n    return this.items.push(item);\n  }\n}
var seen = {}, count = 0;\nfor (const word of text.split(/\\s+/)) {\n  seen[word] = (seen[word] || 0) + 1; // once more\n  count++;\n}\nconsole.log("words", count);""",
    "c": """int sum(const int *values, size_t n) {\n    int total = 0;\n    for (size_t i = 0; i < n; i++) {\n        total += values[i];\n    }\n    return total;\n}
static char *copy(const char *text) {\n    size_t length = strlen(text);\n    char *out = malloc(length + 1);\n    if (out == NULL) {\n        return NULL;\n    } else {\n        memcpy(out, text, length + 1);\n    }\n    /* the caller frees it */\n    return out;\n}
struct node { int value; struct node *next; };\nint length(struct node *list) {\n    int n = 0;\n    while (list) {\n        n++;\n        list = list->next;\n    }\n    return n;\n}
#define MAX(a, b) ((a) > (b) ? (a) : (b))\nint clamp(int x, int low, int high) {\n    if (x < low) x = low;\n    if (x > high) x = high;\n    return MAX(x, low);\n}""",
}  # fmt: skip
NOISE = ["é", "漢字", "🙂", "\u00a0", "\x1c", "\"", "'", "'a'", '"x // y"', "/*", "*/", "// note\n", "/* a\n b */",
         "# note\n", '"""doc"""', "\\", "\\\n", "{", "}", "(", ")", ";", "\n", "\t", "\r\n", "if (x) { y = 1; } else { y = z; }",
         "while (a < b) { a++; }", "for (int i = 0; i < n; i++) { s = s + i; }", "x = y;", "int q = r;", "0", "``"]  # fmt: skip


def pieces(lang, shared, draw):
    """Methods of a language."""
    if lang in ("java", "c_sharp"):
        suffix = {"java": "java", "c_sharp": "cs"}[lang]
        lines = []
        for part in ("train", "valid"):
            file = shared / "data" / "codexglue" / f"{part}.java-cs.txt.{suffix}"
            lines += file.read_text(encoding="utf8").splitlines()
        return draw.sample(lines, 1500)
    if lang == "python":
        files, start = sorted(pathlib.Path(json.__file__).parent.glob("*.py")), r"(?m)^(?=\s*def )"
    elif lang == "rust":
        files, start = sorted((ROOT / "src" / "salience").rglob("*.rs")), r"(?m)^(?=\s*(?:pub )?fn )"
    elif lang == "cpp":
        files, start = sorted((ROOT / "kernels").rglob("*.cu*")), r"(?m)^(?=\w+ \w+.*\{$)"
    else:
        return [part for part in re.split(r"(?m)^\}\n|\n(?=struct|class|#define|var)", WRITTEN[lang]) if part.strip()]
    parts = [part for file in files for part in re.split(start, file.read_text(encoding="utf8"))]
    return [part.rstrip() for part in parts if 20 < len(part) < 3000]


def spread(code, draw):
    """The code over several lines, with comments."""
    if draw.random() < 0.5 or "\n" in code:
        return code
    return re.sub(r"([;{}])", lambda m: m[1] + draw.choice(["\n", "\n    ", " ", " // why\n", "\n\t/* so */ "]), code)


def changed(code, draw):
    """The code with up to four changes."""
    words = re.findall(r"\w+|\s+|[^\w\s]", code)
    for _ in range(draw.randint(0, 4)):
        if not words:
            break
        at, kind = draw.randrange(len(words)), draw.randrange(7)
        if kind == 0:
            del words[at]
        elif kind == 1:
            other = draw.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif kind == 2:
            words.insert(at, draw.choice(NOISE))
        elif kind == 3:
            words = words[:at]
        elif kind == 4:
            name, new = words[at], draw.choice(["x", "value", "数", "été", "self", "var_0"])
            words = [new if word == name and word.isidentifier() else word for word in words]
        elif kind == 5:
            words[at:at] = words[at : at + draw.randint(1, 20)]
        else:
            words = words[at:]
    return "".join(words)


def pairs(lang, n, shared):
    """Pairs of prediction and reference."""
    draw = random.Random(lang)
    codes = pieces(lang, shared, draw)
    rows = []
    for _ in range(n):
        kind, code = draw.random(), spread(draw.choice(codes), draw)
        if kind < 0.02:
            rows.append([draw.choice(["", " ", "\n\t", "}", "public", "// only\n", "🙂", ";"]), code])
        elif kind < 0.03:
            rows.append([code, draw.choice(["}", "/* only */", "x", ";"])])
        elif kind < 0.035:
            long = "\n".join(draw.choices(codes, k=max(2, 10_000 // max(len(code), 20))))[:10_000]
            rows.append([changed(long, draw), long])
        elif kind < 0.12:
            rows.append([changed(draw.choice(codes), draw), code])
        elif kind < 0.3:
            rows.append([changed(code, draw), changed(code, draw)])
        else:
            rows.append([changed(code, draw), code])
    # eyekern refuses a row without a reference
    rows = [[text.encode("utf8", "ignore").decode("utf8") for text in row] for row in rows]
    return [row for row in rows if row[1].strip()]


# --- comparison -------------------------------------------------------------------------------------------------------


def scored(binary, lang, rows, folder):
    """The values of `eyekern score`: one dictionary per pair, then that of the corpus."""
    hyp, ref, each = folder / "hyp.jsonl", folder / "ref.jsonl", folder / "each.jsonl"
    for file, at in ((hyp, 0), (ref, 1)):
        file.write_text("".join(json.dumps({"text": row[at]}) + "\n" for row in rows), encoding="utf8")
    command = [binary, "score", "--hyp", hyp, "--ref", ref, "--task", "translation", "--lang", NAMES[lang]]
    command += ["--metrics", ",".join([*PARTS.values(), "crystalbleu"]), "--examples", each, "--format", "json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{lang}: {done.stderr}")
    values = [json.loads(line) for line in each.read_text(encoding="utf8").splitlines()]
    return [row.get("metrics", row) for row in values] + [json.loads(done.stdout)["metrics"]]


class Report:
    """Largest differences, a line each."""

    def __init__(self):
        self.failed = False

    def line(self, lang, beside, metric, ours, theirs, keep):
        scale = 1 if metric == "crystalbleu" else 100
        gaps = [abs(a[metric] / scale - b[metric]) for a, b, k in zip(ours, theirs, keep) if k]
        worst = max(gaps, default=0.0)
        bad = not worst <= TOLERANCE
        self.failed |= bad
        print(f"{lang:10} {beside:16} {metric:24} {len(gaps):5} pairs  largest difference {worst:.1e}" + "  <<<" * bad)
        if bad:
            at = max((i for i, k in enumerate(keep) if k), key=lambda i: abs(ours[i][metric] / scale - theirs[i][metric]))
            print(f"    first such pair: {at}: {ours[at][metric] / scale} {theirs[at][metric]}", file=sys.stderr)


def check(lang, n, args, pinned, linked, program, report):
    rows = pairs(lang, n, args.shared)
    n = len(rows)
    job = {"lang": lang, "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        *ours, all_ours = scored(args.eyekern, lang, rows, pathlib.Path(folder))
    new, old = ask(linked, "trees", job), ask(pinned, "trees", job)
    own = eyekerns(program, lang, new["texts"])
    shallow = [all(new["trees"][2 * i + k][1] not in DEPTHS for k in (0, 1)) for i in range(n)]
    for python, name, answer in ((linked, "linked", new), (pinned, "pinned", old)):
        same = [all(answer["trees"][2 * i + k][0] == own[2 * i + k] for k in (0, 1)) for i in range(n)]
        print(f"{lang:10} {name} sees the trees of eyekern in {sum(same)} of {n} pairs ({sum(same) / n:.1%})")
        same = [a and b for a, b in zip(same, shallow)]
        ordered = ask(python, "ordered", job)
        runs = [(f"{name}, ordered", ordered["values"], [True] * n)]
        if name == "pinned":
            stable = [not mattered for mattered in ordered["mattered"]]
            runs.append((f"{name}, as it is", ask(python, "plain", job)["values"], stable))
        for beside, values, keep in runs:
            for metric in PARTS.values():
                keep_here = [k and (s or metric not in TREE) for k, s in zip(keep, same)]
                report.line(lang, beside, metric, ours, values, keep_here)
        rest = [row for row, s in zip(rows, same) if s]
        if not rest:
            continue
        with tempfile.TemporaryDirectory() as folder:
            *_, whole = scored(args.eyekern, lang, rest, pathlib.Path(folder))
        corpus = ask(python, "corpus", {"lang": lang, "rows": rest})["values"]
        for metric in PARTS.values():
            report.line(lang, f"{name}, corpus", metric, [whole], corpus, [True])
    crystal = ask(pinned, "crystal", job)["values"]
    report.line(lang, "package", "crystalbleu", ours, crystal, [True] * n)
    report.line(lang, "package, corpus", "crystalbleu", [all_ours], crystal[-1:], [True])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyekern", type=pathlib.Path, default=ROOT / "target" / "release" / "eyekern")
    parser.add_argument("--pairs", type=int, default=3000, help="pairs of Java and of C#; a tenth for the others")
    parser.add_argument("--venvs", type=pathlib.Path, default=ROOT / "target" / "code-metrics")
    parser.add_argument("--lang", action="append", choices=list(NAMES))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker)
    if "EYEKERN_SHARED" not in os.environ:
        sys.exit("set EYEKERN_SHARED to the folder with data/codexglue")
    args.shared = pathlib.Path(os.environ["EYEKERN_SHARED"])
    pinned, linked = environments(args.venvs)
    program = helper(args.venvs.resolve())
    report = Report()
    for lang in args.lang or NAMES:
        check(lang, args.pairs if lang in ("java", "c_sharp") else args.pairs // 10, args, pinned, linked, program, report)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
