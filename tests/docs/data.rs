//! The rows in docs/data.md are read, refused and trained on as the page says.

use eyekern::data::IGNORE;
use eyekern::data::chat::Chat;
use eyekern::data::corpus::{self, Corpus, Reading};
use eyekern::data::pack::{self, Totals};
use eyekern::data::tokenizer::Tokenizer;
use eyekern::error::Result;
use eyekern::model::config::Spec;
use eyekern::train::recipe::Normalize;
use eyekern::train::step::Rule;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../../docs/data.md");
const CONFIG: &str = include_str!("../../assets/demo/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../assets/demo/tokenizer.json");

/// The fenced blocks of the page that begin with `fence`, without their fences.
fn blocks(fence: &str) -> Vec<&'static str> {
    let opening = format!("\n```{fence}\n");
    let blocks: Vec<_> = PAGE.split(&opening).skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(!blocks.is_empty(), "docs/data.md has no block ```{fence}");
    blocks
}

/// A chat template that ends answers with the demo's EOS.
const CHAT: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";

fn tokenizer() -> Tokenizer {
    let end = "<|endoftext|>";
    let chat = Chat::new(CHAT, &[("eos_token", end)]).expect("a template");
    Tokenizer::from_bytes(TOKENIZER, Some(end)).expect("the demo's tokenizer").with_chat(chat)
}

fn spec() -> Spec {
    Spec::parse(&serde_json::from_str(CONFIG).expect("JSON"), Path::new("config.json")).expect("the demo's config")
}

fn read(jsonl: &str) -> Result<Corpus> {
    corpus::read_str(jsonl, Path::new("docs/data.md"), Some(&tokenizer()), spec().vocab, &Reading::default())
}

#[test]
fn every_row_can_be_trained_on() {
    let rows = blocks("json rows").join("\n");
    let corpus = read(&rows).unwrap_or_else(|e| panic!("{e}\n{rows}"));
    let counts = &corpus.counts;
    assert_eq!((counts.kept, counts.truncated), (rows.lines().count(), 0));
    assert!(counts.on_path > 0 && counts.weight_min == 0.0 && counts.weight_max == 3.0, "{counts:?}");
    // `balance -= amount;` as the page weighs it, then the semicolon and EOS
    let spans = &corpus.examples[1];
    let mut weights: Vec<f32> =
        spans.labels.iter().zip(&spans.weights).filter(|l| *l.0 != IGNORE).map(|l| *l.1).collect();
    weights.dedup();
    assert_eq!(weights, [1.8, 0.5, 1.2, 1.0]);
    assert_eq!(spans.path, corpus.examples[2].path, "the same stretches, by `weights` and by `path`");

    // the command, as its code is compiled: the library's would be compiled here once more
    let dir = tempfile::tempdir().expect("a temporary directory");
    let eyekern = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eyekern"));
        let ran = command
            .args(args)
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", "home")
            .output()
            .expect("the command starts");
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("writes");
    eyekern(&["demo", "--steps", "1", "--output-dir", "demo"]);
    write("demo/model/chat_template.jinja", CHAT);
    write("rows.jsonl", &rows);
    write(
        "recipe.toml",
        "model.model_name_or_path = \"demo/model\"\ndata.train_file = \"rows.jsonl\"\nobjective.gamma = 0.1\n\
         train = { max_steps = 2, logging_steps = 1, output_dir = \"out\" }\n",
    );
    eyekern(&["train", "recipe.toml", "--device", "cpu"]);
    let metrics = std::fs::read_to_string(dir.path().join("out/metrics.jsonl")).expect("metrics.jsonl");
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let steps: Vec<Value> = lines.filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(steps.len(), 2, "{metrics}");
    assert!(steps.iter().all(|step| step["loss"].is_f64() && step["pairs"].as_u64() > Some(0)), "{metrics}");
}

#[test]
fn refusals_are_word_for_word() {
    let (rows, messages) = (blocks("json refused")[0], blocks("text")[0]);
    assert_eq!(rows.lines().count(), messages.lines().count());
    for (row, message) in rows.lines().zip(messages.lines()) {
        let error = read(row).expect_err(row);
        assert_eq!((error.to_string(), error.exit_code()), (format!("docs/data.md:1: {message}"), 3));
    }
}

#[test]
fn the_example_of_the_normalisers_adds_up() {
    let section = PAGE.split("## Normalisers").nth(1).expect("the section");
    let rows = section.split("```json rows\n").nth(1).and_then(|s| s.split("\n```").next()).expect("the rows");
    let nll = [2.0, 1.0, 4.0, 3.0, 1.0];
    for normalize in [Normalize::Tokens, Normalize::Weights, Normalize::None] {
        let mut corpus = read(rows).expect("two rows");
        let mut cells = Vec::new();
        for factor in [1.0, 10.0] {
            corpus.examples.iter_mut().flat_map(|e| &mut e.weights).for_each(|w| *w *= factor);
            let batch = pack::batch(&corpus.examples.iter().collect::<Vec<_>>(), None);
            let rule = Rule { normalize, ..Rule::default() };
            let divisor = rule.normaliser(&Totals::of(&batch, false)).expect("a positive sum");
            let sum: f64 = batch.weights.iter().zip(nll).map(|(&w, nll)| f64::from(w) * nll).sum();
            if cells.is_empty() {
                cells.push(divisor.to_string());
            }
            cells.push(format!("{:.3}", sum / divisor));
        }
        let row = section.lines().find(|l| l.starts_with(&format!("| `{normalize}`"))).expect("a row of the table");
        assert!(row.ends_with(&format!("| {} |", cells.join(" | "))), "{row}: expected {cells:?}");
    }
}
