//! `eyekern attention`: figures beside those of transformers, two models, resumption, pages, refusals.

use super::{Case, Ran, models};
use serde_json::{Value, json};
use std::path::Path;

fn attention(case: &Case, out: &str, more: &[&str]) -> Ran {
    let args = ["attention", "--model", "model", "--data", "rows.jsonl", "-o", out, "--task", "none"];
    case.run(&[&args, more].concat(), &[])
}

fn lines(case: &Case, file: &str) -> Vec<Value> {
    let text = String::from_utf8(case.read(file)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Rows, answers and figures of transformers (tests/fixtures/make_attention_figures.py).
fn reference() -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attentions/figures.json");
    serde_json::from_slice(&std::fs::read(root).expect("the fixture")).expect("JSON")
}

/// The tiny Llama with the rows of the fixture.
fn ids() -> (Case, Value) {
    let (case, reference) = (Case::ids(), reference());
    let rows = reference["examples"].as_array().expect("examples").iter();
    case.write("rows.jsonl", rows.map(|example| example["row"].to_string() + "\n").collect::<String>());
    (case, reference)
}

const NEW: [&str; 4] = ["--max-new-tokens", "24", "--batch-size", "3"];

/// Both numbers, or neither.
fn near(what: &str, found: &Value, expected: &Value) -> Option<f64> {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => {
            let error = (found - expected).abs();
            assert!(error <= 2e-5 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
        }
        (found, expected) => assert!(found.is_none() && expected.is_none(), "{what}: {found:?}, expected {expected:?}"),
    }
    expected.as_f64()
}

#[test]
fn figures_are_those_of_transformers() {
    let (case, reference) = ids();
    attention(&case, "a", &NEW).noted();
    let (examples, lines) = (reference["examples"].as_array().expect("examples"), lines(&case, "a/model.jsonl"));
    assert_eq!(lines.len(), examples.len());
    let mut all: std::collections::BTreeMap<&str, Vec<f64>> = Default::default();
    for (i, (line, expected)) in lines.iter().zip(examples).enumerate() {
        assert_eq!(line["ids"], expected["answer"], "row {i}");
        for (name, value) in expected["whole"].as_object().expect("figures") {
            all.entry(name).or_default().extend(near(&format!("row {i}: {name}"), &line["figures"][name], value));
        }
        for (name, layers) in expected["heads"].as_object().expect("figures") {
            let expected: Vec<&Value> =
                layers.as_array().expect("layers").iter().flat_map(|layer| layer.as_array().expect("heads")).collect();
            let found = line["heads"][name].as_array().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.len(), expected.len(), "{name}");
            let values = found.iter().zip(expected).enumerate();
            let values: Vec<f64> = values
                .filter_map(|(h, (found, expected))| near(&format!("row {i}, head {h}: {name}"), found, expected))
                .collect();
            if !values.is_empty() {
                all.entry(name).or_default().push(values.iter().sum::<f64>() / values.len() as f64);
            }
        }
        assert_eq!(line["heads"].as_object().expect("figures").len(), 13);
    }
    // pooled: means over the examples that have a figure, with the interval of Student's t
    let report = case.json("a/attention.json");
    assert_eq!((&report["n"], &report["layers"], &report["empty_answers"]), (&json!(4), &json!(2), &json!(0)));
    for (name, values) in all {
        if values.is_empty() {
            assert!(report["metrics"].get(name).is_none(), "{name}");
            continue;
        }
        let (n, pooled) = (values.len() as f64, &report["pooled"][name]["model"]);
        let mean = values.iter().sum::<f64>() / n;
        near(name, &report["metrics"][name], &json!(mean));
        let t = [f64::NAN, f64::NAN, 12.7062047364, 4.30265272991, 3.18244630528][values.len()];
        let half = t * (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        assert_eq!(pooled["n"], json!(values.len()), "{name}");
        if half.is_finite() {
            let (low, high) = (pooled["low"].as_f64().expect("low"), pooled["high"].as_f64().expect("high"));
            let tolerance = 1e-3 * half + 1e-4;
            assert!((mean - half - low).abs() < tolerance && (mean + half - high).abs() < tolerance, "{name}");
        }
    }
    // the table has the same numbers
    let csv = String::from_utf8(case.read("a/attention.csv")).expect("UTF-8");
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("metric,layer,head,model_n,model_mean,model_low,model_high"));
    let entry = |name: &str, place: &str| {
        let row = csv.lines().find(|row| row.starts_with(&format!("{name},{place},"))).expect(name);
        row.split(',').nth(4).expect("a mean").parse::<f64>().expect("a number")
    };
    assert_eq!(json!(entry("avg_focus", ",")), report["metrics"]["avg_focus"]);
    assert_eq!(json!(entry("gaze_mass", "0,2")), report["heads"]["gaze_mass"]["model"]["mean"][0][2]);
}

/// A case of text with an adapter that changes the model, and roles on targets.
fn pair() -> Case {
    let case = Case::text();
    let row = |i: usize| {
        let code = format!("int a{i} = {i}; if (a{i} > b) {{ return a{i}; }}");
        json!({"code": code, "content": format!("long a{i} = {i}L;")}).to_string() + "\n"
    };
    case.write("rows.jsonl", (0..5).map(row).collect::<String>());
    case.train(&["train.learning_rate=0.3", "train.max_steps=3"]).trained();
    case
}

const BOTH: [&str; 14] = [
    "--adapter",
    "out",
    "--baseline-model",
    "model",
    "--max-new-tokens",
    "12",
    "--batch-size",
    "2",
    "--examples",
    "2",
    "--set",
    "salience.condition=reading",
    "--task",
    "translation",
];

fn both(case: &Case, out: &str, more: &[&str]) -> Ran {
    let args = ["attention", "--model", "model", "--data", "rows.jsonl", "-o", out];
    case.run(&[&args[..], &BOTH, more].concat(), &[])
}

#[test]
fn two_models_are_compared_example_by_example() {
    let case = pair();
    let (shown, notes) = both(&case, "a", &["--html", "a.html"]).noted();
    assert_eq!(notes[0], "5 examples; intervals over fewer than 200 are wide and rest on few rows");
    assert!(shown.contains("difference") && shown.contains("gaze_nll_gap"), "{shown}");
    let report = case.json("a/attention.json");
    let (model, baseline) = (lines(&case, "a/model.jsonl"), lines(&case, "a/baseline.jsonl"));
    for name in ["gen_confidence", "gaze_nll", "gaze_nll_off_path"] {
        let value = |line: &Value| line["figures"][name].as_f64();
        let pairs: Vec<f64> = model.iter().zip(&baseline).filter_map(|(a, b)| Some(value(a)? - value(b)?)).collect();
        let mean = pairs.iter().sum::<f64>() / pairs.len() as f64;
        let difference = &report["pooled"][name]["difference"];
        assert!((difference["mean"].as_f64().expect(name) - mean).abs() < 1e-9, "{name}");
        assert_eq!(difference["n"], pairs.len());
        assert!(mean.abs() > 1e-4, "{name}: the adapter changes nothing, so the test is blind");
    }
    // the answers differ, and both maps are of the model's
    assert!(model.iter().zip(&baseline).any(|(a, b)| a["ids"] != b["ids"]), "the same answers: the test is blind");
    for (i, (a, b)) in model.iter().zip(&baseline).enumerate() {
        assert_eq!(a.get("map").is_some(), i < 2);
        assert_eq!(a["map"]["answer"], b["map"]["answer"]);
        assert!(i >= 2 || a["map"]["answer"] == a["ids"]);
        for row in a["map"]["rows"].as_array().into_iter().chain(b["map"]["rows"].as_array()).flatten() {
            let sum: f64 = row.as_array().expect("a row").iter().filter_map(Value::as_f64).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }
    let page = String::from_utf8(case.read("a.html")).expect("UTF-8");
    for caption in ["baseline, reading the answer of the model", "difference: model divided by baseline"] {
        assert_eq!(page.matches(&format!("<figcaption>{caption}</figcaption>")).count(), 2, "{caption}");
    }
    // a model beside itself differs by nothing
    let args = ["attention", "--model", "model", "--baseline-model", "model", "--data", "rows.jsonl", "-o", "same"];
    case.run(&[&args[..], &["--task", "translation", "--max-new-tokens", "8"]].concat(), &[]).noted();
    for (name, figure) in case.json("same/attention.json")["pooled"].as_object().expect("figures") {
        assert_eq!(figure["difference"]["mean"], json!(0.0), "{name}");
    }
}

/// Wherever a run was killed, it goes on to the same files: the lines are cut at every kind of place.
#[test]
fn a_rerun_resumes_to_the_same_bytes() {
    let case = pair();
    let files = ["a/model.jsonl", "a/baseline.jsonl", "a/attention.json", "a/attention.csv", "a.html"];
    both(&case, "a", &["--html", "a.html"]).noted();
    let whole = files.map(|file| case.read(file));
    let ends =
        |bytes: &[u8]| bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect::<Vec<_>>();
    // (which file, bytes that are left): within a group, at its border, in the middle of a line, none
    let model = ends(&whole[0]);
    let cuts = [(0, model[0]), (0, model[1] + 9), (0, 0), (1, ends(&whole[1])[2]), (1, ends(&whole[1])[0] + 70)];
    for (which, left) in cuts {
        case.write(files[which], &whole[which][..left]);
        if which == 0 {
            std::fs::remove_file(case.path("a/baseline.jsonl")).expect("removes");
        }
        for file in &files[2..] {
            std::fs::remove_file(case.path(file)).expect("removes");
        }
        both(&case, "a", &["--html", "a.html"]).noted();
        for (file, whole) in files.iter().zip(&whole) {
            assert!(case.read(file) == *whole, "{file} differs after a cut of {} at {left}", files[which]);
        }
    }
    // nothing is measured again, and other options are refused without harm
    let (_, notes) = both(&case, "a", &["--html", "a.html"]).noted();
    assert!(notes.iter().all(|note| !note.contains("rows/s")), "{notes:?}");
    let other = both(&case, "a", &["--examples", "1"]);
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    let args = ["attention", "--model", "model", "--data", "rows.jsonl", "-o", "a", "--task", "translation"];
    let other = case.run(&[&args[..], &["--set", "salience.condition=reading"]].concat(), &[]);
    let why = "this line does not match the data, the model and the options; choose another file, or start over with \
               --overwrite";
    other.stopped(3, &format!("a/model.jsonl:1: {why}"));
    assert!(case.read("a/model.jsonl") == whole[0]);
}

/// The number of threads changes no byte.
#[test]
fn threads_change_nothing() {
    let case = pair();
    both(&case, "one", &["--threads", "1"]).noted();
    both(&case, "three", &["--threads", "3"]).noted();
    for file in ["model.jsonl", "baseline.jsonl", "attention.csv"] {
        assert!(case.read(&format!("one/{file}")) == case.read(&format!("three/{file}")), "{file}");
    }
}

#[test]
fn rows_without_paths_leave_the_gaze_out() {
    let case = pair();
    let args = ["--task", "translation", "--max-new-tokens", "4", "--html", "a.html"];
    let (shown, notes) = attention_of(&case, &args).noted();
    assert_eq!(
        notes[1],
        "left out: gaze_mass, gaze_mass_reference, gaze_nll, gaze_nll_off_path, gaze_nll_gap, because no token is on a \
         scan path; set salience.condition, or give rows with `path`"
    );
    assert!(!shown.contains("gaze") && shown.contains("attn_entropy_with_sink"), "{shown}");
    let report = case.json("a/attention.json");
    assert!(report["metrics"].as_object().expect("figures").keys().all(|name| !name.starts_with("gaze")));
}

fn attention_of(case: &Case, more: &[&str]) -> Ran {
    let args = ["attention", "--model", "model", "--data", "rows.jsonl", "-o", "a"];
    case.run(&[&args, more].concat(), &[])
}

#[test]
fn what_stands_in_the_way_is_said_before_any_work() {
    let case = pair();
    let translate = |more: &[&str]| attention_of(&case, &[&["--task", "translation"], more].concat());
    attention_of(&case, &[])
        .refused(2, "which task? give --task none, completion, translation, summarization or copy, or --recipe");
    translate(&["--lang", "cobol"]).refused(
        2,
        "unknown language \"cobol\": one of java, c-sharp, python, javascript, typescript, go, c, cpp, rust",
    );
    translate(&["--baseline-adapter", "nowhere"]).refused(
        3,
        "nowhere/adapter_config.json: there is no such file; give the directory of an adapter as PEFT saves it, in \
         safetensors",
    );
    let args = ["attention", "--model", "nowhere", "--data", "rows.jsonl", "-o", "a", "--task", "none"];
    let missing = case.run(&args, &[]);
    let why = "model nowhere is neither a directory nor in the cache";
    assert!(missing.code == Some(3) && missing.stderr.contains(why), "{}", missing.stderr);
    case.write("empty.jsonl", "\n");
    let args = ["attention", "--model", "model", "--data", "empty.jsonl", "-o", "a", "--task", "none"];
    case.run(&args, &[]).refused(3, "empty.jsonl: the file holds no rows; write one example per line");
    // an adapter of a model with other sizes
    models::gpt2(&case.path("gpt2"), "", 20);
    case.write("ids.jsonl", "{\"input_ids\": [1, 2, 3, 4], \"labels\": [-100, 2, 3, 4]}\n");
    let args = ["attention", "--model", "gpt2", "--adapter", "out", "--data", "ids.jsonl", "-o", "a", "--task", "none"];
    let other = case.run(&args, &[]);
    assert!(other.code == Some(3) && other.stderr.starts_with("eyekern: out"), "{}", other.stderr);
    // rows that are longer than the model's positions: by their reference, and by what may be generated
    let long: Vec<usize> = (0..25).map(|t| 1 + t % 7).collect();
    let labels: Vec<i64> = long.iter().enumerate().map(|(t, id)| if t < 2 { -100 } else { *id as i64 }).collect();
    case.write("ids.jsonl", json!({"input_ids": long, "labels": labels}).to_string() + "\n");
    let gpt2 = |new: &str| {
        let args = ["attention", "--model", "gpt2", "--data", "ids.jsonl", "-o", "a", "--task", "none"];
        case.run(&[&args[..], &["--max-new-tokens", new]].concat(), &[])
    };
    gpt2("4").refused(3, "ids.jsonl:1: the row has 25 tokens and the model 20 positions; shorten the row, or drop it");
    gpt2("19").refused(
        3,
        "ids.jsonl:1: a prompt of 2 tokens and --max-new-tokens 19 exceed the 20 positions of the model; lower \
         --max-new-tokens to 18",
    );
    // the output would replace its input
    std::fs::create_dir_all(case.path("b")).expect("creates");
    case.write("b/model.jsonl", case.read("rows.jsonl"));
    let args = ["attention", "--model", "model", "--data", "b/model.jsonl", "-o", "b", "--task", "translation"];
    let over = case.run(&args, &[]);
    assert!(over.code == Some(2) && over.stderr.contains("b/model.jsonl"), "{}", over.stderr);
    // a baseline that reads the same text as other tokens
    models::llama(&case.path("other"), 640);
    let tokenizer = String::from_utf8(case.read("model/tokenizer.json")).expect("UTF-8");
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).expect("JSON");
    tokenizer["model"]["merges"] = json!([]);
    case.write("other/tokenizer.json", tokenizer.to_string());
    case.write("other/tokenizer_config.json", case.read("model/tokenizer_config.json"));
    translate(&["--baseline-model", "other"]).refused(
        3,
        "rows.jsonl:1: the tokenizer of the baseline reads the row as other tokens than that of the model, so nothing \
         can be paired; compare models with the same tokenizer",
    );
}
