//! Nothing is lost: a run that was killed, interrupted or failed goes on to the bits of one that was not.
//!
//! The reference of every comparison is an uninterrupted run; whether a checkpoint is whole is judged by hashes worked
//! out here. `EYEKERN_KILLS=100` kills more often than by default.
#![cfg(target_os = "linux")]

mod best;
mod choices;
mod failures;
mod kills;
mod signals;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
            for key in ["seconds", "mfu", "peak_bytes", "seconds_left", "time", "eval_seconds"] {
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
    while !folder.exists() && child.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
}
