//! Nothing is lost: a run that was killed, interrupted or failed goes on to the bits of one that was not.
//!
//! The reference of every comparison is an uninterrupted run; whether a checkpoint is whole is judged by hashes worked
//! out here. `EYEKERN_KILLS=100` kills more often than by default.
#![cfg(target_os = "linux")]

mod support;

use eyekern::backend::AdamW;
use eyekern::backend::cpu::Real;
use eyekern::model::config::Spec;
use eyekern::model::state::{self, Saved};
use eyekern::train::step::Update;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::models::{self, COMPOSITE, Method, WET};

/// A folder with a model, data and a recipe; commands run in it.
struct Case {
    dir: tempfile::TempDir,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Ten steps, of which the fifth ends inside an epoch; a step is two micro-batches.
const RECIPE: &str = "\
[model]
model_name_or_path = './model'
[data]
train_file = 'train.jsonl'
validation_file = 'valid.jsonl'
max_tokens = 24
[lora]
r = 4
[train]
output_dir = 'out'
learning_rate = 1e-2
lr_scheduler_type = 'cosine'
warmup_steps = 2
gradient_accumulation_steps = 2
max_steps = 10
save_steps = 5
eval_steps = 2
threads = 1
";

/// Ways to train: adapters, all weights, paths that are drawn anew every epoch.
const WAYS: [(&str, &[&str]); 3] = [
    (
        "adapters, packed, dropout, a preference",
        &["lora.lora_dropout=0.1", "model.attention_dropout=0.1", "objective.gamma=0.5"],
    ),
    (
        "all weights, padded, dropout, a reference model",
        &[
            "train.method=full",
            "data.batching=padded",
            "train.per_device_train_batch_size=2",
            "model.resid_dropout=0.1",
            "model.embd_dropout=0.1",
            "train.weight_decay=0.1",
            "objective.gamma=0.5",
            "objective.reference_model=model",
        ],
    ),
    (
        "paths drawn anew every epoch, moments in 8 bits",
        &[
            "data.train_file=code.jsonl",
            "data.validation_file=",
            "data.task=translation",
            "data.max_tokens=400",
            "salience.condition=combined",
            "salience.dynamic=true",
            "objective.gamma=0.1",
            "train.method=full",
            "train.optim=adamw_8bit",
            "train.save_steps=0",
        ],
    ),
];

fn rows(count: usize, salt: usize) -> String {
    let row = |i: usize| {
        let n = 6 + i % 7;
        let ids: Vec<usize> = (0..n).map(|t| 3 + (7 * i + 5 * t + salt) % 90).collect();
        let labels: Vec<i64> = ids.iter().enumerate().map(|(t, &id)| if t < 2 { -100 } else { id as i64 }).collect();
        let weights: Vec<f64> = (0..n).map(|t| 0.5 + (t % 3) as f64).collect();
        let path: Vec<usize> = (0..n).map(|t| t % 2).collect();
        json!({"input_ids": ids, "labels": labels, "weights": weights, "path": path}).to_string() + "\n"
    };
    (0..count).map(row).collect()
}

impl Case {
    fn new() -> Case {
        let case = Case { dir: tempfile::tempdir().expect("a temporary directory") };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::create_dir(case.path("model")).expect("creates");
        for name in ["config.json", "generation_config.json", "model.safetensors"] {
            let from = root.join("tests/fixtures/tiny_llama/model").join(name);
            std::fs::copy(from, case.path("model").join(name)).expect("copies");
        }
        case.write("train.jsonl", &rows(11, 0));
        case.write("valid.jsonl", &rows(4, 2));
        case.write("recipe.toml", RECIPE);
        case
    }

    /// A case for one of [`WAYS`]: code needs a model with a tokenizer, which the demo has.
    fn of(way: usize) -> Case {
        let case = Case::new();
        if WAYS[way].1.contains(&"data.train_file=code.jsonl") {
            let demo = case.command(&["demo", "--steps", "1", "--output-dir", "demo"]).output().expect("starts");
            assert!(demo.status.success());
            std::fs::remove_dir_all(case.path("model")).expect("removes");
            std::fs::rename(case.path("demo/model"), case.path("model")).expect("renames");
            let pairs = std::fs::read_to_string(case.path("demo/pairs.jsonl")).expect("the demo's rows");
            case.write("code.jsonl", &pairs.lines().take(9).map(|l| format!("{l}\n")).collect::<String>());
        }
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writes");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Signals as a shell hands them on, whatever this test was started with.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM,XFSZ", env!("CARGO_BIN_EXE_eyekern")]).args(args);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().env("HOME", "home").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn train(&self, out: &str, sets: &[&str], flags: &[&str]) -> Command {
        let to = format!("train.output_dir={out}");
        let sets = sets.iter().copied().chain([to.as_str()]).flat_map(|s| ["--set", s]);
        self.command(&["train", "recipe.toml"].into_iter().chain(sets).chain(flags.iter().copied()).collect::<Vec<_>>())
    }

    /// A whole run from the start.
    fn trained(&self, out: &str, sets: &[&str]) {
        let ended = end(self.train(out, sets, &[]).spawn().expect("starts"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    /// Goes on to the end; what was said on standard error.
    fn resumed(&self, out: &str, sets: &[&str]) -> String {
        let ended = end(self.train(out, sets, &["--resume", "auto"]).spawn().expect("starts"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    }

    fn fails(&self, out: &str, sets: &[&str], flags: &[&str], code: i32, last_line: &str) {
        let ended = end(self.train(out, sets, flags).spawn().expect("starts"));
        let line = ended.stderr.lines().last().unwrap_or_default();
        assert_eq!((line, ended.code), (format!("eyekern: {last_line}").as_str(), Some(code)), "{}", ended.stderr);
    }

    /// All results of a run: saved files, metrics without wall times, the state of the last checkpoint.
    #[track_caller]
    fn same(&self, out: &str, reference: &str) {
        let names = ["adapter_model.safetensors", "adapter_config.json", "model.safetensors", "config.json"];
        for name in names.into_iter().filter(|name| self.path(reference).join(name).exists()) {
            let (got, want) = (self.read(&format!("{out}/{name}")), self.read(&format!("{reference}/{name}")));
            assert!(got == want, "{out}/{name} has other bits");
        }
        assert_eq!(self.metrics(out), self.metrics(reference));
        let last = |dir: &str| checkpoints(&self.path(dir)).into_iter().next_back();
        match (last(out), last(reference)) {
            (Some((step, dir)), Some((wanted, reference))) => {
                assert_eq!(step, wanted);
                let state = |dir: &Path| std::fs::read(dir.join("state.safetensors")).expect("there");
                assert!(state(&dir) == state(&reference), "values or moments of step {step} have other bits");
            }
            (got, want) => assert_eq!(got, want),
        }
    }

    fn metrics(&self, out: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(&format!("{out}/metrics.jsonl"))).expect("UTF-8");
        let line = |line: &str| {
            let mut value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let object = value.as_object_mut().expect("an object");
            for key in ["seconds", "mfu", "peak_bytes", "seconds_left", "time"] {
                object.shift_remove(key);
            }
            value
        };
        text.lines().map(line).collect()
    }
}

fn end(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().expect("a shell");
    assert!(sent.success());
}

/// Steps and folders that bear a checkpoint's name, in order.
fn checkpoints(out: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(out).into_iter().flatten().map(|e| e.expect("an entry").path());
    let step = |p: &PathBuf| p.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok();
    let mut list: Vec<(u64, PathBuf)> = entries.filter_map(|p| Some((step(&p)?, p))).collect();
    list.sort();
    list
}

/// Whether every file that the seal lists has its hash, and all are listed.
fn whole(dir: &Path) -> bool {
    let Ok(seal) = std::fs::read_to_string(dir.join("checkpoint.b3")) else { return false };
    let hash = |name: &str| std::fs::read(dir.join(name)).map(|b| blake3::hash(&b).to_hex().to_string()).ok();
    let listed = seal.lines().all(|l| l.split_once("  ").is_some_and(|(h, name)| hash(name).as_deref() == Some(h)));
    listed && std::fs::read_dir(dir).expect("a folder").count() == seal.lines().count() + 1
}

/// Starts a run and kills it as soon as a folder is there.
fn kill_at(mut command: Command, folder: &Path) {
    let mut child = command.spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !folder.exists() && child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "no {}", folder.display());
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
}

#[test]
fn ten_steps_are_five_a_kill_and_five() {
    for (way, (name, sets)) in WAYS.iter().enumerate() {
        let case = Case::of(way);
        case.trained("reference", sets);
        let first = checkpoints(&case.path("reference"))[0].1.file_name().expect("a name").to_owned();
        kill_at(case.train("out", sets, &[]), &case.path("out").join(&first));
        let results =
            ["adapter_model.safetensors", "model.safetensors"].map(|file| case.path("out").join(file).exists());
        assert_eq!(results, [false; 2], "{name}: it was over before it was killed");
        let said = case.resumed("out", sets);
        assert!(said.starts_with("note: going on from out/checkpoint-"), "{name}: {said}");
        case.same("out", "reference");
    }
}

/// Values and moments of every trained parameter, and the losses of a step, as bits.
fn steps<R: Real>(spec: &Spec, method: Method, dtype: Dtype) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("state.safetensors");
    let update =
        |lr| Update { adamw: AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 }, lr, max_norm: 1.0 };
    let examples = models::examples(&[9, 1, 7, 4], spec.vocab, 4);
    let batches = [models::batch(&examples.iter().collect::<Vec<_>>(), None)];
    let build = || models::build::<R>((spec.clone(), 0.3), method, (COMPOSITE, WET), 64, 1);
    let (mut there, mut back) = (build(), build());
    there.step(&batches, 1, &update(0.01)).expect("a step");
    state::save(&there.backend, &mut there.model, &file).expect("writes");
    let bytes = std::fs::read(&file).expect("reads");
    let tensors = SafeTensors::deserialize(&bytes).expect("valid safetensors");
    let values: usize = there.model.trained().iter().map(|p| p.len()).sum();
    assert!(tensors.tensors().iter().all(|(_, t)| t.dtype() == dtype));
    assert_eq!(tensors.tensors().iter().map(|(_, t)| t.shape()[0]).sum::<usize>(), 3 * values);
    let saved = Saved::open(&mut back.model, &file).expect("fits");
    saved.restore(&back.backend, &mut back.model).expect("reads");
    let [first, second] = [&mut there, &mut back].map(|machine| {
        let outcome = machine.step(&batches, 2, &update(0.02)).expect("a step");
        state::save(&machine.backend, &mut machine.model, &file).expect("writes");
        (outcome.loss.to_bits(), outcome.grad_norm.to_bits(), std::fs::read(&file).expect("reads"))
    });
    assert!(first == second);
}

#[test]
fn every_parameter_and_moment_is_kept() {
    for spec in [Spec { tied: false, ..models::llama() }, models::starcoder2(), models::gpt2(), models::bigcode(true)] {
        for method in [Method::Full, Method::Lora] {
            steps::<f64>(&spec, method, Dtype::F64);
            steps::<f32>(&spec, method, Dtype::F32);
        }
    }
}

/// Numbers that are the same in every run (Lehmer's generator).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0 * 48271 % 0x7fff_ffff;
        self.0 as f64 / 0x7fff_ffff as f64
    }
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    let wanted: usize = std::env::var("EYEKERN_KILLS").map_or(12, |n| n.parse().expect("a number"));
    let (mut kills, mut torn, mut chance) = (0, 0, Chance(20_261_123));
    for round in 0.. {
        let way = round % WAYS.len();
        // between checkpoints, and within them
        let every = ["train.save_steps=1", "train.save_steps=3"][round / WAYS.len() % 2];
        let sets = [WAYS[way].1, &[every]].concat();
        let case = Case::of(way);
        let started = Instant::now();
        case.trained("reference", &sets);
        let length = started.elapsed();
        loop {
            let mut child = case.train("out", &sets, &["--resume", "auto"]).spawn().expect("starts");
            std::thread::sleep(length.mul_f64(chance.next()));
            if child.try_wait().expect("a child").is_some() {
                let ended = end(child);
                assert_eq!(ended.code, Some(0), "{}", ended.stderr);
                break;
            }
            child.kill().expect("kills");
            child.wait().expect("ends");
            kills += 1;
            for (_, dir) in checkpoints(&case.path("out")) {
                assert!(whole(&dir), "{} is torn", dir.display());
            }
            let names = std::fs::read_dir(case.path("out")).into_iter().flatten();
            torn += names
                .filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "partial")))
                .count();
        }
        case.same("out", "reference");
        if kills >= wanted {
            println!("{kills} kills over {} runs, {torn} of them while a checkpoint was written", round + 1);
            return;
        }
    }
}

#[test]
fn a_checkpoint_that_is_not_whole_is_passed_over() {
    let case = Case::new();
    let sets = ["train.save_steps=3", "train.save_total_limit=9"];
    case.trained("reference", &sets);
    case.trained("out", &sets);
    let cut = |name: &str, bytes: usize| {
        let file = case.path("out").join(name);
        let text = std::fs::read(&file).expect("there");
        std::fs::write(&file, &text[..text.len() - bytes]).expect("writes");
    };
    cut("checkpoint-9/state.safetensors", 1);
    std::fs::remove_file(case.path("out/checkpoint-6/metrics.jsonl")).expect("removes");
    let said = case.resumed("out", &sets);
    for line in [
        "note: out/checkpoint-9: skipped, it is no whole checkpoint (state.safetensors is not as it was written)\n",
        "note: out/checkpoint-6: skipped, it is no whole checkpoint (out/checkpoint-6/metrics.jsonl: cannot read: No \
         such file or directory (os error 2))\n",
        "note: going on from out/checkpoint-3, after step 3\n",
        "note: out/checkpoint-6: removed, the run will write its own\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    case.same("out", "reference");
    for (_, dir) in checkpoints(&case.path("out")) {
        assert!(whole(&dir));
    }
    let lines = case.read("out/checkpoint-9/checkpoint.b3");
    let text = String::from_utf8(lines).expect("UTF-8");
    let without: String =
        text.lines().filter(|l| !l.ends_with("  state.safetensors")).map(|l| format!("{l}\n")).collect();
    case.write("out/checkpoint-9/checkpoint.b3", &without);
    let why = "out/checkpoint-9: is no whole checkpoint (checkpoint.b3 does not list state.safetensors); give another, \
               or --resume auto for the newest";
    case.fails("out", &sets, &["--resume", "out/checkpoint-9"], 3, why);
    // the first of all, by name
    let ended = end(case.train("out", &sets, &["--resume", "out/checkpoint-3"]).spawn().expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    case.same("out", "reference");
    // and into a folder of its own
    let ended = end(case.train("elsewhere", &sets, &["--resume", "out/checkpoint-3"]).spawn().expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    case.same("elsewhere", "reference");
}

#[test]
fn nothing_to_resume_is_said() {
    let case = Case::new();
    case.trained("reference", &[]);
    let said = case.resumed("out", &[]);
    assert_eq!(said, "note: no checkpoint to go on from in out: the run starts afresh\n");
    case.same("out", "reference");
    for (_, dir) in checkpoints(&case.path("out")) {
        std::fs::remove_dir_all(dir).expect("removes");
    }
    let why = "out: holds adapter_model.safetensors of an earlier run; choose another train.output_dir or set \
               train.overwrite_output_dir = true";
    case.fails("out", &[], &["--resume", "auto"], 3, why);
    let why = "reference: holds checkpoint-10 of an earlier run; go on from it with --resume auto, choose another \
               train.output_dir or set train.overwrite_output_dir = true";
    case.fails("reference", &[], &[], 3, why);
    let why = "nowhere: is no whole checkpoint (checkpoint.b3 cannot be read: No such file or directory (os error \
               2)); give another, or --resume auto for the newest";
    case.fails("out", &[], &["--resume", "nowhere"], 3, why);
}

#[test]
fn what_changed_is_named_and_refused() {
    let case = Case::new();
    case.trained("out", &[]);
    std::fs::remove_dir_all(case.path("out/checkpoint-10")).expect("removes");
    let refused = |sets: &[&str], code, what: &str| {
        let why = format!(
            "out/checkpoint-5: is of another run: {what}; put that back, or take it with --allow-changed (the bits \
             will differ)"
        );
        case.fails("out", sets, &["--resume", "auto"], code, &why);
    };
    refused(&["train.learning_rate=2e-2"], 2, "train.learning_rate was 0.01 and is 0.02");
    let what = "data.shuffle was true and is false, train.seed was 42 and is 7";
    refused(&["train.seed=7", "data.shuffle=false"], 2, what);
    // the hash of the files' hashes; a model's weights count as they are
    let hash = |names: &[&str]| {
        let hashes: Vec<u8> = names.iter().flat_map(|name| *blake3::hash(&case.read(name)).as_bytes()).collect();
        blake3::hash(&hashes).to_hex()[..12].to_string()
    };
    let swapped = |name: &str, text: &[u8], what: &dyn Fn(&str, &str) -> String, of: &[&str]| {
        let (kept, before) = (case.read(name), hash(of));
        std::fs::write(case.path(name), text).expect("writes");
        refused(&[], 3, &what(&before, &hash(of)));
        std::fs::write(case.path(name), kept).expect("writes");
    };
    for (key, name) in [("data.train_file", "train.jsonl"), ("data.validation_file", "valid.jsonl")] {
        let what = |old: &str, new: &str| format!("{key} was blake3 {old} and is blake3 {new}");
        swapped(name, rows(11, 5).as_bytes(), &what, &[name]);
    }
    let mut weights = case.read("model/model.safetensors");
    *weights.last_mut().expect("bytes") ^= 1;
    let what = |old: &str, new: &str| format!("model.model_name_or_path was blake3 {old} and is blake3 {new}");
    let model_hash = ["model/config.json", "model/model.safetensors"];
    swapped("model/model.safetensors", &weights, &what, &model_hash);
    // what does not decide the bits of a step may change
    let free = ["train.save_steps=4", "train.logging_steps=1", "train.threads=2", "train.eval_steps=5"];
    let said = case.resumed("out", &free);
    assert_eq!(said, "note: going on from out/checkpoint-5, after step 5\n");
    std::fs::remove_dir_all(case.path("out/checkpoint-8")).expect("removes");
    let ended = end(case
        .train("out", &["train.learning_rate=2e-2"], &["--resume", "auto", "--allow-changed"])
        .spawn()
        .expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let note = "note: changed since the checkpoint: train.learning_rate was 0.01 and is 0.02\n";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    let line = json!({"resumed": 5, "changes": ["train.learning_rate was 0.01 and is 0.02"]});
    assert!(case.metrics("out").contains(&line));
    let metrics = case.read("out/metrics.jsonl");
    let why = "out/checkpoint-10/state.safetensors: has no \
               base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight of 48 values in F32, as the run trains \
               it";
    case.fails("out", &["lora.r=2"], &["--resume", "auto", "--allow-changed"], 3, why);
    assert!(case.read("out/metrics.jsonl") == metrics, "refused before anything is cut");
}

#[test]
fn another_tokenizer_is_named_and_refused() {
    let case = Case::of(2);
    let sets = [WAYS[2].1, &["train.max_steps=1"]].concat();
    case.trained("out", &sets);
    let digest = || blake3::hash(&case.read("model/tokenizer.json")).to_hex()[..12].to_string();
    let before = digest();
    let text = String::from_utf8(case.read("model/tokenizer.json")).expect("UTF-8");
    case.write("model/tokenizer.json", &(text + "\n"));
    let why = format!(
        "out/checkpoint-1: is of another run: model.tokenizer was blake3 {before} and is blake3 {}; put that back, or \
         take it with --allow-changed (the bits will differ)",
        digest()
    );
    case.fails("out", &sets, &["--resume", "auto"], 3, &why);
}

/// Evaluation losses by step.
fn evaluations(case: &Case, out: &str) -> Vec<(u64, f64)> {
    let pair = |v: &Value| Some((v.get("step")?.as_u64()?, v.get("eval_loss")?.as_f64()?));
    case.metrics(out).iter().filter_map(pair).collect()
}

#[test]
fn the_best_is_kept_and_patience_ends() {
    let case = Case::new();
    // it learns the training rows by heart, and the validation loss turns
    let sets = [
        "train.learning_rate=0.1",
        "train.lr_scheduler_type=constant",
        "train.max_steps=40",
        "train.save_steps=3",
        "train.eval_steps=2",
        "train.early_stopping_patience=3",
        "train.load_best_model_at_end=true",
    ];
    case.trained("reference", &sets);
    let losses = evaluations(&case, "reference");
    let (best, low) = losses.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).expect("evaluations");
    let last = losses.last().expect("evaluations").0;
    assert_eq!((last - best) / 2, 3, "three evaluations after the best: {losses:?}");
    assert!(last < 40 && best > 2, "{losses:?}");
    assert_eq!(case.metrics("reference").iter().filter_map(|l| l["learning_rate"].as_f64()).count() as u64, last);
    // the saved adapter is that of a run which ends at the best step
    case.trained(
        "short",
        &["train.learning_rate=0.1", "train.lr_scheduler_type=constant", &format!("train.max_steps={best}")],
    );
    let adapter = |out: &str| case.read(&format!("{out}/adapter_model.safetensors"));
    assert!(adapter("reference") == adapter("short"));
    let kept: Vec<u64> = checkpoints(&case.path("reference")).iter().map(|c| c.0).collect();
    assert!(kept.contains(&best) && kept.len() <= 3, "{kept:?}, best {best}");

    // the counters survive a kill
    kill_at(case.train("out", &sets, &[]), &case.path(&format!("out/checkpoint-{}", kept[kept.len() - 1])));
    let said = case.resumed("out", &sets);
    let note = format!(
        "note: stopped early after step {last}: 3 evaluations without a loss below {low:.4} of step {best}\nnote: the \
         best model is saved: that of step {best}, eval loss {low:.4}\n"
    );
    assert!(said.ends_with(&note), "{said}");
    case.same("out", "reference");

    // a best checkpoint that somebody removed
    std::fs::remove_dir_all(case.path(&format!("out/checkpoint-{best}"))).expect("removes");
    let said = case.resumed("out", &sets);
    assert!(said.contains("the best checkpoint is not whole (checkpoint.b3 cannot be read"), "{said}");
}

/// A run of many steps, after its first line.
fn running(case: &Case, sets: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = case.train("out", sets, &[]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("step ") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0);
    }
    (child, lines)
}

const LONG: [&str; 4] =
    ["train.max_steps=1000", "train.save_steps=500", "train.logging_steps=1", "train.eval_steps=100"];

#[test]
fn a_signal_ends_with_a_checkpoint() {
    let case = Case::new();
    case.trained("reference", &LONG);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let (child, lines) = running(&case, &LONG);
        signal(&child, name);
        drop(std::thread::spawn(move || lines.lines().count()));
        let ended = end(child);
        let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
        let why = format!(
            "interrupted after step {step}; the same command with --resume auto goes on from out/checkpoint-{step}"
        );
        assert_eq!((ended.stderr, ended.code), (format!("eyekern: {why}\n"), Some(code)));
        assert!(whole(&dir) && step < 1000 && ended.stdout.is_empty());
        case.resumed("out", &LONG);
        case.same("out", "reference");
        std::fs::remove_dir_all(case.path("out")).expect("removes");
    }
    // a pipe that is closed is the wish of its reader, and no failure
    let (child, lines) = running(&case, &LONG);
    drop(lines);
    let ended = end(child);
    assert_eq!((ended.stderr.as_str(), ended.code), ("", Some(0)));
    let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
    assert!(whole(&dir) && step < 1000, "it did not stop: {step}");
    case.resumed("out", &LONG);
    case.same("out", "reference");
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let case = Case::new();
    let mut nohup = Command::new("sh");
    let line =
        format!("trap '' HUP; exec {} train recipe.toml --set train.max_steps=300", env!("CARGO_BIN_EXE_eyekern"));
    nohup.args(["-c", &line]).current_dir(case.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = nohup.spawn().expect("starts");
    while !case.path("out/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "HUP");
    assert_eq!(end(child).code, Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let case = Case::new();
    // one step over many tokens: it takes seconds
    case.write("train.jsonl", &rows(60_000, 0));
    let sets = ["train.gradient_accumulation_steps=100000", "data.max_tokens=4096", "train.max_steps=9"];
    let child = case.train("out", &sets, &[]).spawn().expect("starts");
    while !case.path("out/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    signal(&child, "INT");
    // two that are pending at once are one to the system
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "INT");
    let ended = end(child);
    assert_eq!((ended.stderr.as_str(), ended.code), ("", Some(130)));
    assert!(checkpoints(&case.path("out")).is_empty());
}

/// Steps of some milliseconds, so that there is time to spoil the second checkpoint.
const FAILING: &[&str] = &["train.method=full", "train.max_steps=100", "train.save_steps=25", "data.max_tokens=200"];

/// Lets a run fail at a checkpoint: `spoil` does its work when the first one is there.
fn failing(case: &Case, spoil: &dyn Fn(&Child), why: &str) {
    let sets = FAILING;
    let mut command = case.train("out", sets, &[]);
    // as a shell does it whose user had it ignored: writing beyond the limit is then an error, and no death
    let args: Vec<_> = command.get_args().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let line = format!("trap '' XFSZ; exec '{}'", args.join("' '"));
    command = Command::new("sh");
    command.args(["-c", &line]).current_dir(case.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("starts");
    while !case.path("out/checkpoint-25").exists() {
        std::thread::sleep(Duration::from_micros(200));
    }
    signal(&child, "STOP");
    spoil(&child);
    signal(&child, "CONT");
    let ended = end(child);
    let kept = checkpoints(&case.path("out"));
    assert!(kept.iter().all(|(_, dir)| whole(dir)));
    let last = kept.last().expect("one is left").0;
    let why = why.replace("NEXT", &format!("out/checkpoint-{}", last + 25));
    let sentence = format!(
        "eyekern: out/checkpoint-{}: the checkpoint cannot be written: {why}; out/checkpoint-{last} is whole, and \
         --resume auto goes on from it\n",
        last + 25
    );
    assert_eq!((ended.stderr, ended.code), (sentence, Some(3)));
    // what a user put there is not ours to remove
    let partial = case.path(&format!("out/checkpoint-{}.partial", last + 25));
    assert_eq!(partial.exists(), why.ends_with("File exists (os error 17)"));
    case.resumed("out", sets);
    case.same("out", "reference");
    std::fs::remove_dir_all(case.path("out")).expect("removes");
}

#[test]
fn a_checkpoint_that_fails_leaves_the_one_before() {
    let case = Case::new();
    case.write("train.jsonl", &rows(60, 0));
    case.trained("reference", FAILING);
    let size = case.path("reference/checkpoint-100/state.safetensors").metadata().expect("there").len();
    assert!(case.path("reference/metrics.jsonl").metadata().expect("there").len() < size - 100, "it would fail first");
    // no file may grow to the size of the state, as on a full disk
    let limit = |child: &Child| {
        let (pid, size) = (format!("--pid={}", child.id()), format!("--fsize={}", size - 100));
        assert!(Command::new("prlimit").args([pid, size]).status().expect("prlimit").success());
    };
    failing(&case, &limit, "NEXT.partial/state.safetensors: cannot write: File too large (os error 27)");
    let remove = |_: &Child| std::fs::remove_file(case.path("out/metrics.jsonl")).expect("removes");
    failing(&case, &remove, "out/metrics.jsonl: cannot copy: No such file or directory (os error 2)");
    let block = |_: &Child| {
        for step in [50, 75, 100] {
            let _ = std::fs::create_dir(case.path(&format!("out/checkpoint-{step}.partial")));
        }
    };
    failing(&case, &block, "NEXT.partial: cannot create: File exists (os error 17)");
}

#[test]
fn a_loss_that_is_not_finite_names_the_checkpoint() {
    let case = Case::new();
    let sets = ["train.learning_rate=1e38", "train.lr_scheduler_type=constant", "train.save_steps=1"];
    let ended = end(case.train("out", &sets, &[]).spawn().expect("starts"));
    let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
    assert!(whole(&dir) && ended.code == Some(1));
    let start = format!("eyekern: training stopped at step {}: the ", step + 1);
    let tail = format!("; out/checkpoint-{step} is whole, and --resume auto goes on from it\n");
    assert!(ended.stderr.starts_with(&start) && ended.stderr.ends_with(&tail), "{}", ended.stderr);
}
