"""The cases of scripts/same. A case is a function of a `Run` and leaves files in its folder, which are compared.

Paths in commands are relative to that folder; `../inputs` is the same for both sides and is made by the old program."""
import json
import os
import random
import re
import shutil
from functools import partial
from pathlib import Path

from files import folders, machine_code
from run import Failed, Skipped

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ["EYEKERN_SHARED"]).resolve() if os.environ.get("EYEKERN_SHARED") else None
TINY = ROOT / "tests/fixtures/tiny_llama"
FIXTURES = [TINY] + sorted(p.parent for p in (SHARED or TINY).glob("fixtures/parity/*/model"))
GIVEN = Path(__file__).resolve().parent / "inputs"
CASES = {}

# the demo's model and pairs, under a task, with weights from scan paths
CODE = {
    "model.model_name_or_path": "../inputs/demo/model", "data.train_file": "../inputs/pairs.jsonl",
    "data.task": "translation", "data.max_length": 256, "data.max_tokens": 1024, "salience.condition": "combined",
    "lora.r": 8, "train.output_dir": "out", "train.learning_rate": 1e-3, "train.max_steps": 4, "train.logging_steps": 3,
}
# rows of ids with weights and paths of their own
IDS = {
    "model.model_name_or_path": str(TINY / "model"), "data.train_file": "../inputs/tiny_llama.jsonl",
    "data.max_tokens": 64, "lora.r": 4, "train.output_dir": "out", "train.learning_rate": 1e-2, "train.max_steps": 3,
}
WET = {"model.embd_dropout": 0.1, "model.resid_dropout": 0.1, "model.attention_dropout": 0.1, "lora.lora_dropout": 0.2}
DPO = {"objective.gamma": 0.5}
FULL = {"train.method": "full"}
SMALL = {"data.max_length": 64, "data.max_tokens": 128, "train.max_steps": 2, "train.per_device_train_batch_size": 2}
EIGHT = {"train.optim": "adamw_8bit"}
LAYER = {"train.recompute": "layer"}
SAMPLING = ("--temperature", 0.8, "--top-k", 20, "--top-p", 0.9, "--repetition-penalty", 1.1, "--seed", 7)
GREEDY = ("--device", "cpu", "--max-new-tokens", 24)
DRAWN = (*GREEDY, *SAMPLING)


def case(name):
    def add(function):
        CASES[name] = function
        return function
    return add


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def id_rows(vocab, seed, count=12):
    """Rows of ids with a prompt, labels that differ from the ids, weights of either sign and paths."""
    draw = random.Random(seed)
    for _ in range(count):
        n = draw.randrange(6, 22)
        ids = [draw.randrange(3, vocab) for _ in range(n)]
        labels = [-100 if 3 * t < n or draw.random() < 0.1 else draw.choice([token, draw.randrange(3, vocab)])
                  for t, token in enumerate(ids)]
        weights = [draw.choice([1.0, 2.5, 0.0, -0.25, 0.5, 3.25]) for _ in ids]
        yield {"input_ids": ids, "labels": labels, "weights": weights, "path": [draw.randrange(2) for _ in ids]}


def on_gpu(run, log):
    """The environment of a program that runs on the made-up GPU and logs what it does there."""
    return {"LD_LIBRARY_PATH": str(run.side.gpu), "MADE_UP_LOG": str(run.here / log)}


def inputs(run):
    """What cases share, made once."""
    run("demo", "--steps", 40, "--output-dir", "demo")
    run("demo", "--steps", 2, "--seed", 9, "--output-dir", "other")
    pairs = (run.here / "demo/pairs.jsonl").read_text().splitlines(keepends=True)
    (run.here / "pairs.jsonl").write_text("".join(pairs[:24]))
    (run.here / "valid.jsonl").write_text("".join(pairs[20:28]))
    (run.here / "big.jsonl").write_text("".join(pairs) * (2 + (1 << 20) // len("".join(pairs))))
    for side, key in ("a.txt", "code"), ("b.txt", "content"):
        texts = (json.loads(line)[key].replace("\n", " ") for line in pairs[:9])
        (run.here / side).write_text("".join(text + "\n" for text in texts))
    for folder in FIXTURES:
        vocab = json.loads((folder / "model/config.json").read_text())["vocab_size"]
        jsonl(run.here / f"{folder.name}.jsonl", id_rows(vocab, folder.name))
    shutil.copytree(GIVEN, run.here, dirs_exist_ok=True)
    to = {"train.output_dir": "run", "data.validation_file": "valid.jsonl", "train.eval_steps": 4, "lora.r": 8,
          "train.max_steps": 10, "train.save_steps": 5}
    run.train(to, "demo/recipe.toml")
    if run.side.gpu:
        # algorithms of products are chosen by their time: both sides are given the same choice
        settings = {key: str(v).replace("../inputs/", "") for key, v in {**CODE, **SMALL, **DPO}.items()}
        run.train({**settings, "train.output_dir": "gpu"}, "--device", "cuda", env=on_gpu(run, "log"), kind="emulator")


def keep_until(out, step):
    """Leaves of a finished run what it had when it was killed after a checkpoint."""
    for path in out.iterdir():
        number = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if number and int(number[1]) > step:
            shutil.rmtree(path)
        elif path.is_file() and path.name not in (".lock", "metrics.jsonl", "recipe.resolved.toml"):
            path.unlink()


def resumed(run, settings, step, **options):
    """A whole run, kept as `whole`, and the same run resumed from its checkpoint after `step`, in `out`."""
    run.train(settings, **options)
    shutil.copytree(run.here / "out", run.here / "whole")
    keep_until(run.here / "out", step)
    run.train(settings, "--resume", "auto")
    if differences := folders(run.here / "whole", run.here / "out", False)[1]:
        raise Failed(f"the resumed run is not the uninterrupted one: {differences[0]}")


# ---- training


@case("demo")
def demo(run):
    run("demo", "--steps", 8, "--seed", 7, "--output-dir", "demo")


SAVED = {"train.max_steps": 8, "train.save_steps": 4}
LORA_DPO = {**CODE, **WET, **DPO, **SAVED, "salience.dynamic": True, "data.validation_file": "../inputs/valid.jsonl",
            "train.eval_steps": 2, "train.lr_scheduler_type": "cosine", "train.warmup_steps": 2,
            "train.gradient_accumulation_steps": 2, "train.report_to": "tensorboard"}
FULL_8BIT = {**CODE, **FULL, **EIGHT, **SAVED, "model.resid_dropout": 0.1, "train.weight_decay": 0.1}


@case("lora-dpo")
def lora_dpo(run):
    resumed(run, LORA_DPO, 4)


@case("full")
def full(run):
    """Evaluations and checkpoints at the ends of epochs, the best model at the end, another model as reference."""
    run.train({**CODE, **FULL, **DPO, "objective.reference_model": "../inputs/other/model", "train.max_steps": -1,
               "train.num_train_epochs": 2, "train.save_steps": 0, "data.validation_file": "../inputs/valid.jsonl",
               "train.load_best_model_at_end": True, "train.weight_decay": 0.1, "train.max_grad_norm": 0.5,
               "train.adam_beta2": 0.99, "model.embd_dropout": 0.1, "model.resid_dropout": 0.1})


@case("adamw-8bit")
def adamw_8bit(run):
    resumed(run, FULL_8BIT, 4)


@case("recompute")
def recompute(run):
    run.train({**CODE, **WET, **DPO, **LAYER, "train.output_dir": "lora"})
    run.train({**CODE, **FULL, **LAYER, "model.attention_dropout": 0.1, "train.output_dir": "full"})


@case("batching")
def batching(run):
    for kind in "tokens", "examples", "padded":
        three = {"data.batching": kind, "train.per_device_train_batch_size": 3}
        run.train({**CODE, **WET, **three, "train.output_dir": kind})


@case("settings")
def settings(run):
    variants = [
        {"objective.normalize": "none"}, {"objective.arm": "uniform"}, {**DPO, "objective.dpo_weights": True},
        {**DPO, "objective.beta": 0.7}, {"lora.use_rslora": True}, {"lora.target_modules": ["q_proj", "down_proj"]},
        {"lora.lora_alpha": 3, "lora.lora_dropout": 0.3}, {"train.lr_scheduler_type": "constant"},
        {"train.lr_scheduler_type": "constant_with_warmup", "train.warmup_steps": 2}, {"train.warmup_ratio": 0.5},
        {"train.lr_scheduler_type": "cosine"}, {"train.weight_decay": 0.3, "train.adam_beta1": 0.5},
        {"train.adam_epsilon": 1e-3}, {"train.max_grad_norm": 0}, {"train.max_grad_norm": 0.01}, {"train.seed": 7},
        {"data.shuffle": False}, {"data.max_length": 9}, {"train.gradient_accumulation_steps": 3}, {"train.threads": 1},
        {"data.train_file": "flat.jsonl", "objective.normalize": "weights"}, {**FULL, **EIGHT, **LAYER, **DPO},
    ]
    flat = [json.loads(line) for line in (run.here / "../inputs/tiny_llama.jsonl").read_text().splitlines()]
    jsonl(run.here / "flat.jsonl", ({**row, "weights": [abs(w) for w in row["weights"]]} for row in flat))
    for i, variant in enumerate(variants):
        run.train({**IDS, **variant, "train.output_dir": f"{i:02}"})
    run.train({**IDS, "data.validation_file": "flat.jsonl", "train.early_stopping_patience": 1, "train.eval_steps": 1,
               "train.learning_rate": 1.0, "train.max_steps": 9, "train.output_dir": "early"})


def drop_keys(run, *names):
    """Takes the keys out of generated rows: they are hashes of files that may differ in the order of their keys."""
    for file in (run.here / name for name in names):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        jsonl(file, ({name: value for name, value in row.items() if name != "key"} for row in rows))


@case("narrow")
def narrow(run):
    """Models of every number format, saved, trained and continued."""
    for kind in "float32", "bfloat16", "float16":
        run.train({**CODE, **FULL, "train.max_steps": 2, "train.save_dtype": kind, "train.output_dir": kind})
        model = {**CODE, "model.model_name_or_path": f"./{kind}", "train.max_steps": 2}
        run.train({**model, **DPO, "train.output_dir": f"{kind}-lora"})
        run.train({**model, **FULL, "train.output_dir": f"{kind}-full"})
        run("generate", "--model", kind, "--prompt", "public int size() {", *GREEDY, out=f"{kind}.txt")
        rows = ("--data", "../inputs/valid.jsonl", "--task", "translation", "-o", f"{kind}.jsonl", "--batch-size", 3)
        run("generate", "--model", kind, "--adapter", f"{kind}-lora", *rows, *DRAWN)
        drop_keys(run, f"{kind}.jsonl")


def ids_of(folder):
    """Settings to train a fixture's model on random rows."""
    rows = f"../inputs/{folder.name}.jsonl"
    return {**IDS, "model.model_name_or_path": str(folder / "model"), "data.train_file": rows}


def model(folder, run):
    """An architecture: adapters, all weights, generations, a merged model."""
    ids = ids_of(folder)
    run.train({**ids, **WET, **DPO, "data.batching": "examples", "train.output_dir": "lora"})
    run.train({**ids, **FULL, "data.batching": "padded", "model.resid_dropout": 0.1, "train.output_dir": "full"})
    run.train({**ids, **FULL, **EIGHT, **LAYER, **DPO, "model.attention_dropout": 0.1, "train.output_dir": "full-8bit"})
    rows = ("--data", f"../inputs/{folder.name}.jsonl", "--batch-size", 5)
    run("generate", "--model", "full", *rows, "-o", "greedy.jsonl", *GREEDY)
    run("generate", "--model", folder / "model", "--adapter", "lora", *rows, "-o", "drawn.jsonl", *DRAWN)
    drop_keys(run, "greedy.jsonl", "drawn.jsonl")
    run("export", "--model", folder / "model", "--adapter", "lora", "--merge", "-o", "merged")


@case("rows")
def rows(run):
    """Every form of row, a chat template among them."""
    shutil.copytree(run.here / "../inputs/demo/model", run.here / "model")
    shutil.copy2(GIVEN / "chat_template.jinja", run.here / "model")
    run.train({**CODE, "model.model_name_or_path": "./model", "data.train_file": "../inputs/rows.jsonl",
               "salience.condition": "", "data.prompt_weight": 0.1, "data.task": "none", **DPO})
    run("inspect", "../inputs/rows.jsonl", "--model", "model", "--row", "1-9", "--html", "page.html", out="rows.txt")
    run("inspect", "../inputs/rows.jsonl", "--model", "model", "--format", "json", out="rows.json")
    run("generate", "--model", "model", "--data", "../inputs/rows.jsonl", "-o", "rows.jsonl", *GREEDY)


# ---- from the old program to the new one


@case("old-checkpoint")
def old_checkpoint(run, settings=LORA_DPO):
    resumed(run, settings, 4, old=True)


@case("old-checkpoint-full")
def old_checkpoint_full(run):
    old_checkpoint(run, FULL_8BIT)


@case("old-cache")
def old_cache(run):
    """The cache is keyed by the bytes of the program, so another program must ignore it."""
    cached = {**CODE, "data.train_file": "../inputs/big.jsonl", "data.cache_dir": "cache", "train.max_steps": 2}
    run.train({**cached, "train.output_dir": "first"}, old=True)
    if not any((run.here / "cache").rglob("*")):
        raise Failed("there is no cache")
    run.train(cached)
    shutil.rmtree(run.here / "cache")


@case("old-generations")
def old_generations(run):
    words = ("generate", "--model", "../inputs/demo/model", "--adapter", "../inputs/run", "--data",
             "../inputs/valid.jsonl", "--task", "translation", "-o", "rows.jsonl", "--batch-size", 2, *DRAWN)
    run.old(*words)
    shutil.copy2(run.here / "rows.jsonl", run.here / "whole.jsonl")
    lines = (run.here / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (run.here / "rows.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    run(*words)


# ---- what other commands make


@case("generate")
def generate(run):
    model = ("generate", "--model", "../inputs/demo/model", "--adapter", "../inputs/run")
    run(*model, "--prompt", "public int size() {", *GREEDY, out="greedy.txt")
    run(*model, "--prompt", "public int size() {", *DRAWN, out="drawn.txt")
    run(*model, "--file", "../inputs/code/sample.java", "--task", "translation", "--stop", "}", *DRAWN, out="file.txt")
    run(*model, *DRAWN, stdin="int add(int a, int b) {", out="stdin.txt")
    rows = ("--task", "translation", "--data", "../inputs/valid.jsonl")
    run(*model, *rows, "-o", "greedy.jsonl", "--batch-size", 4, *GREEDY)
    run(*model, *rows, "-o", "alone.jsonl", "--batch-size", 1, *DRAWN)
    run(*model[:3], "--data", "../inputs/a.txt", "../inputs/b.txt", "--task", "translation", "-o", "two.jsonl", *DRAWN)


@case("export")
def export(run):
    words = ("export", "--model", "../inputs/demo/model", "--adapter", "../inputs/run", "--merge")
    for kind in "auto", "bfloat16", "float16":
        run(*words, "-o", kind, "--dtype", kind)


@case("dry-run")
def dry_run(run):
    for settings, name in [(CODE, "demo")] + [(ids_of(folder), folder.name) for folder in FIXTURES]:
        for way, more in ("lora", {**DPO, **WET}), ("full", FULL), ("8bit", {**FULL, **EIGHT, **LAYER, **DPO}):
            for device in "cpu", "cuda":
                run.train({**settings, **more}, "--dry-run", "--format", "json", "--device", device,
                          out=f"{name}-{way}-{device}.json")


@case("label")
def label(run):
    code = [Path("../inputs/code") / file.name for file in sorted(GIVEN.glob("code/*"))]
    own = [p for pattern in ("scripts/*.py", "tests/browser/*.js", "kernels/emulator/**/*.cpp", "tests/cli/*.c",
                             "tests/fixtures/gaze/code/*.java", "src/*.rs") for p in sorted(ROOT.glob(pattern))]
    for name, more in ("syntax", ()), ("lexicon", ("--calls", "lexicon")), ("artifact", ("--compat", "artifact")):
        for end, kind in ("txt", "text"), ("jsonl", "jsonl"):
            run("label", *code, *own, "--format", kind, *more, out=f"{name}.{end}")
        sets = [("pairs", ROOT / "assets/demo/pairs.jsonl")]
        sets += [(f.stem, f) for f in sorted((SHARED or ROOT / "none").glob("data/labelled/*.jsonl"))]
        for rows, file in sets:
            run("label", "--jsonl", file, *more, out=f"{name}-{rows}.jsonl")
    run("label", "--jsonl", ROOT / "assets/demo/pairs.jsonl", "--field", "content", "--lang", "c-sharp", out="cs.jsonl")


@case("priors")
def priors(run):
    show = ("priors", "show")
    for name in "reading", "writing", "combined":
        run(*show, "--condition", name, "--svg", f"{name}.svg", out=f"{name}.txt")
        run(*show, "--condition", name, "--format", "json", out=f"{name}.json")
    gaze = ROOT / "tests/fixtures/gaze"
    parts = ("--boxes", gaze / "boxes.csv", "--snippets", gaze / "code", "-o", "own.json", "--svg", "pictures")
    run("priors", "build", "--gaze", gaze / "P01.csv", gaze / "P02.csv.gz", *parts, out="build.txt")
    run(*show, "--priors", "own.json", out="own.txt")
    run.train({**CODE, "train.max_steps": 1, "salience.condition": ""}, "--priors", "own.json")
    if SHARED and (data := SHARED / "data/gaze").is_dir():
        parts = ("--boxes", data / "token_boxes.csv", "--participants", data / "participants.csv", "-o", "shared.json")
        run("priors", "build", "--gaze", *sorted(data.glob("gaze/*.gz")), "--snippets", data / "snippets", *parts,
            out="shared.txt")


@case("inspect")
def inspect(run):
    """Weights and paths of every setting, token by token on the pages."""
    variants = [{}, {"salience.mode": "artifact"}, {"salience.max_lines": 1}, {"salience.w_base": 3},
                {"salience.off_path": "formula"}, {"salience.off_path": 0.25}, {"salience.unseen": "literal"},
                {"salience.align": "lexical"}, {"salience.align": "broadcast-max"}, {"salience.scope": "path"},
                {"salience.align": "broadcast-mean"}, {"salience.calls": "lexicon"}, {"salience.target_lang": "text"},
                {"data.task": "completion"}, {"data.task": "copy", "salience.align": "target-ast"},
                {"data.task": "summarization"}, {"data.prompt_weight": 0.1}, {"data.max_length": 64},
                {"objective.arm": "uniform"}, {"train.seed": 7}]
    words = lambda settings: [word for key, v in settings.items() for word in ("--set", f"{key}={v}")]
    base = {"data.task": "translation", "salience.condition": "reading"}
    data = ("inspect", "../inputs/pairs.jsonl", "--model", "../inputs/demo/model")
    for i, variant in enumerate(variants):
        run(*data, *words({**base, **variant}), "--row", "1-6", "--html", f"{i:02}.html", "--format", "json",
            out=f"{i:02}.json")
    run(*data, *words(base), "--row", "2,5-7", "--against", "../inputs/valid.jsonl", out="rows.txt")
    run("inspect", "--recipe", "../inputs/demo/recipe.toml", out="recipe.txt")
    if SHARED and (code := SHARED / "data/codexglue").is_dir():
        files = [code / f"valid.java-cs.txt.{end}" for end in ("java", "cs")]
        run("inspect", *files, *data[2:], *words(base), "--row", "1-200", "--html", "shared.html", "--format", "json",
            out="shared.json")


@case("report")
def report(run):
    run("report", "../inputs/run", "-o", "page.html", "--svg", "loss.svg")
    run("report", "../inputs/run/checkpoint-5", "-o", "checkpoint.html")


@case("config")
def config(run):
    run("train", "--print-config", out="default.toml")
    run("train", "../inputs/run/recipe.resolved.toml", "--print-config", out="resolved.toml")
    env = {"EYEKERN_TRAIN__LEARNING_RATE": "2e-4", "EYEKERN_LORA__R": "32", "EYEKERN_DATA__TASK": "copy"}
    run.train({"lora.r": 64, "lora.target_modules": ["q_proj"], "train.lr_scheduler_type": "cosine"},
              "../inputs/demo/recipe.toml", "--print-config", env=env, out="layers.toml")


@case("refusals")
def refusals(run):
    """Exit statuses."""
    (run.here / "broken.jsonl").write_text('{"prompt": "a"}\n')
    (run.here / "nan.jsonl").write_text('{"input_ids": [4, 5], "weights": [NaN, 1]}\n')
    run("trian", status=2)
    run("train", "--device", "tpu", status=2)
    run("train", "none.toml", status=2)
    run("label", status=2)
    run("label", "none.java", status=3)
    run("generate", "--model", "none", "--prompt", "a", status=3)
    run("generate", "--model", "../inputs/demo/model", "--prompt", "a", "--temperature", -1, status=2)
    run("report", "none", status=3)
    run("export", "--model", "../inputs/demo/model", "--adapter", "none", "--merge", "-o", "out", status=3)
    run("inspect", "none.jsonl", "--model", "../inputs/demo/model", status=3)
    run("priors", "show", "--condition", "none", status=2)
    for settings, status in (
        ({"train.learnin_rate": 1}, 2), ({"train.learning_rate": -1}, 2), ({"model.model_name_or_path": "./none"}, 3),
        ({"data.train_file": "none.jsonl"}, 3), ({"data.train_file": "broken.jsonl"}, 3),
        ({"data.train_file": "nan.jsonl"}, 3), ({"train.learning_rate": 1e30, "train.max_steps": 9}, 1),
    ):
        run.train({**IDS, **settings}, "--device", "cpu", status=status)
    run.train({**IDS, "train.output_dir": "lost"}, "--device", "cuda", status=4)
    run.train(IDS, "--resume", "none", status=3)
    shutil.rmtree(run.here / "out")
    run.train({**IDS, "train.save_steps": 2})
    run.train(IDS, status=3)
    run.train({**IDS, "train.learning_rate": 1}, "--resume", "auto", status=2)
    run.train({**IDS, "train.learning_rate": 1}, "--resume", "auto", "--allow-changed")


@case("doctor")
def doctor(run):
    run("doctor", "--format", "json", out="doctor.json")
    shape = lambda v: {k: shape(x) for k, x in v.items()} if isinstance(v, dict) else type(v).__name__
    file = run.here / "doctor.json"
    file.write_text(json.dumps(shape(json.loads(file.read_text()))))


# ---- CUDA without a GPU

@case("emulated-lora-dpo")
def emulated_lora_dpo(run):
    run.train({**CODE, **WET, **DPO, **SMALL}, "--device", "emulated", kind="emulator")


@case("emulated-full")
def emulated_full(run):
    run.train({**CODE, **FULL, **EIGHT, **SMALL, "model.resid_dropout": 0.1}, "--device", "emulated", kind="emulator")
    words = ("generate", "--model", "out", "--data", "../inputs/a.txt", "../inputs/b.txt", "-o", "rows.jsonl")
    run(*words, "--device", "emulated", "--max-new-tokens", 4, "--batch-size", 9, kind="emulator")
    drop_keys(run, "rows.jsonl")


def emulated_model(folder, run):
    ids = {**ids_of(folder), "train.max_steps": 2}
    on = ("--device", "emulated")
    run.train({**ids, **WET, **DPO, "train.output_dir": "lora"}, *on, kind="emulator")
    run.train({**ids, **FULL, **LAYER, "train.output_dir": "full"}, *on, kind="emulator")
    rows = ("--data", f"../inputs/{folder.name}.jsonl", "-o", "drawn.jsonl")
    run("generate", "--model", "full", *rows, *SAMPLING, "--max-new-tokens", 4, *on, kind="emulator")
    drop_keys(run, "drawn.jsonl")


@case("made-up-gpu")
def made_up_gpu(run):
    """The driver's side: launches and waits, in their order."""
    if not (run.here / "../inputs/gpu").is_dir() or run.side.gpu is None:
        raise Skipped("there are no libraries of the made-up GPU beside the program with the emulator")
    (run.here / "out").mkdir()
    shutil.copy2(run.here / "../inputs/gpu/products.json", run.here / "out")
    run.train({**CODE, **SMALL, **DPO}, "--device", "cuda", env=on_gpu(run, "launches.log"), kind="emulator")
    log = (run.here / "launches.log").read_text().splitlines(keepends=True)
    (run.here / "launches.log").write_text("".join(line for line in log if not line.startswith("alloc")))


@case("kernels")
def kernels(run):
    run("kernels", "--format", "json", out="kernels.json")


@case("machine-code")
def kernels_of_cubins(run):
    """The machine code of each kernel for each architecture, taken from the cubins that the program embeds."""
    run("kernels", "--format", "json", out="kernels.json")
    listed = len(json.loads((run.here / "kernels.json").read_text())["kernels"])
    if not listed:
        raise Skipped("the programs embed no machine code: they were built without NVRTC")
    if (found := machine_code(run.side.plain, run.here)) != listed:
        raise Failed(f"{found} kernels were found in the program, and it lists {listed}")


@case("help")
def help_texts(run):
    """With --texts only."""
    for words in ("", "train", "report", "generate", "export", "label", "priors", "priors show", "priors build",
                  "inspect", "demo", "doctor", "kernels", "bench", "completions"):
        run(*words.split(), "--help")
    for shell in "bash", "zsh", "fish", "elvish", "powershell":
        run("completions", shell)
    run("kernels")


def all_cases(texts):
    """All cases by name, in the order in which they run."""
    models = {f"model-{folder.name}": partial(model, folder) for folder in FIXTURES}
    # the kernels take heads of multiples of 8
    emulated = {f"emulated-{folder.name}": partial(emulated_model, folder) for folder in FIXTURES if folder != TINY}
    found = {**CASES, **models, **emulated}
    return found if texts else {name: case for name, case in found.items() if name != "help"}
