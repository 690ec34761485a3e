//! The contract of the command line: which sentence goes to standard error, with which exit code, and which files a
//! run leaves behind. Every test runs the built command in a directory of its own, with an empty environment and paths
//! relative to that directory, so that messages can be compared letter by letter.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod ablate;
mod attention;
mod bad_config;
mod bad_data;
mod bad_model;
mod bench;
#[cfg(feature = "emulator")]
mod boxes;
mod chats;
mod cuda;
mod dry_run;
mod dtype;
mod ends;
mod evals;
mod export;
mod forms;
mod gaze;
mod generate;
#[cfg(feature = "emulator")]
mod gpu;
mod hostile;
mod inspect;
mod label;
mod models;
mod priors;
mod quantize;
mod recipe;
mod recordings;
mod report;
mod salience;
mod saved;
mod score;
mod score_check;
mod streams;
mod texts;
mod train;

/// A directory with a model, data and a recipe that trains for two steps.
pub struct Case {
    dir: tempfile::TempDir,
}

/// What the command did.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Whether files appeared, changed in size or vanished.
    pub touched: bool,
}

const RECIPE: &str = "\
[model]
model_name_or_path = \"./model\"
[data]
train_file = \"train.jsonl\"
[lora]
r = 4
lora_alpha = 8
[train]
output_dir = \"out\"
learning_rate = 1e-2
max_steps = 2
threads = 1
";

/// Rows of ids below 97, of uneven lengths and weights, on and off the path.
pub fn id_rows() -> String {
    let row = |i: usize| {
        let n = 6 + i;
        let ids: Vec<usize> = (0..n).map(|t| 3 + (7 * i + 5 * t) % 90).collect();
        let labels: Vec<i64> = ids.iter().enumerate().map(|(t, &id)| if t < 2 { -100 } else { id as i64 }).collect();
        let weights: Vec<f64> = (0..n).map(|t| 0.5 + (t % 3) as f64).collect();
        let path: Vec<usize> = (0..n).map(|t| t % 2).collect();
        serde_json::json!({"input_ids": ids, "labels": labels, "weights": weights, "path": path}).to_string() + "\n"
    };
    (0..6).map(row).collect()
}

/// Files below `dir` with their sizes.
fn listing(dir: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.insert((path.clone(), path.metadata().expect("metadata").len()));
    }
    found
}

impl Case {
    /// With the tiny Llama of the fixtures, which has no tokenizer, and rows of ids.
    pub fn ids() -> Case {
        let case = Case::empty();
        case.copy_model("model");
        case.write("train.jsonl", id_rows());
        case.write("recipe.toml", RECIPE);
        case
    }

    /// With a small Llama that has the demo's tokenizer, and one row of text.
    pub fn text() -> Case {
        let case = Case::empty();
        models::llama(&case.path("model"), 640);
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join("demo");
            std::fs::copy(assets.join(name), case.path("model").join(name)).expect("copies");
        }
        case.write("train.jsonl", "{\"prompt\": \"int a;\", \"completion\": \"long b = a;\"}\n");
        case.write("recipe.toml", RECIPE);
        case
    }

    pub fn empty() -> Case {
        Case { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("writes");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).expect(name)
    }

    /// A copy of the tiny Llama.
    pub fn copy_model(&self, name: &str) {
        let from =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures").join("tiny_llama").join("model");
        std::fs::create_dir_all(self.path(name)).expect("creates");
        for file in ["config.json", "generation_config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), self.path(name).join(file)).expect("copies");
        }
    }

    /// Sets or, with null, removes a key of a model's config.json.
    pub fn configure(&self, model: &str, key: &str, value: Value) {
        let file = format!("{model}/config.json");
        let mut config = self.json(&file);
        let map = config.as_object_mut().expect("an object");
        match value {
            Value::Null => drop(map.shift_remove(key)),
            value => drop(map.insert(key.into(), value)),
        }
        self.write(&file, config.to_string());
    }

    /// Signals as a shell hands them on, whatever this test was started with.
    pub fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=HUP,INT,TERM,XFSZ", env!("CARGO_BIN_EXE_eyekern")]).args(args);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", "home").envs(env.iter().copied());
        command
    }

    pub fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let before = listing(self.dir.path());
        let output = self.command(args, env).output().expect("the command starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(!stderr.contains("panicked"), "{stderr}");
        Ran { code: output.status.code(), stdout, stderr, touched: before != listing(self.dir.path()) }
    }

    /// `eyekern train recipe.toml` with these assignments.
    pub fn train(&self, sets: &[&str]) -> Ran {
        self.train_in(sets, &[])
    }

    pub fn train_in(&self, sets: &[&str], env: &[(&str, &str)]) -> Ran {
        let args: Vec<&str> =
            ["train", "recipe.toml"].into_iter().chain(sets.iter().flat_map(|s| ["--set", s])).collect();
        self.run(&args, env)
    }

    /// Trains into `out` and returns the saved adapter's bytes.
    pub fn adapter(&self, out: &str, sets: &[&str]) -> Vec<u8> {
        let to = format!("train.output_dir={out}");
        self.train(&[&[to.as_str()], sets].concat()).trained();
        self.read(&format!("{out}/adapter_model.safetensors"))
    }

    /// The lines of a run's metrics.jsonl.
    pub fn metrics(&self, out: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(&format!("{out}/metrics.jsonl"))).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// One number of every line of metrics.jsonl that has it.
    pub fn series(&self, out: &str, key: &str) -> Vec<f64> {
        self.metrics(out).iter().filter_map(|line| line.get(key)?.as_f64()).collect()
    }
}

impl Ran {
    /// Ended before it began: this sentence and nothing else, and no file was touched.
    pub fn refused(self, code: i32, message: &str) {
        assert_eq!((self.stderr, self.code), (format!("eyekern: {message}\n"), Some(code)));
        assert_eq!((self.stdout.as_str(), self.touched), ("", false), "a refusal neither prints nor writes");
    }

    /// Ended on the way: this sentence after the notes.
    pub fn stopped(self, code: i32, message: &str) {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
        assert_eq!((lines, self.code), (vec![format!("eyekern: {message}").as_str()], Some(code)));
    }

    /// Ended well; its standard output.
    pub fn trained(self) -> String {
        self.noted().0
    }

    /// Ended well; its standard output and its notes.
    pub fn noted(self) -> (String, Vec<String>) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        let note = |line: &str| line.strip_prefix("note: ").unwrap_or_else(|| panic!("not a note: {line}")).to_string();
        (self.stdout, self.stderr.lines().map(note).collect())
    }
}
