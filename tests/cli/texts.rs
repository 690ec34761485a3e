//! Text metrics while training: the figures of `generate` and `score`, the best model by them, and their refusals.

use super::Case;
use serde_json::{Value, json};

/// A case whose validation rows are translated, some of them as the model is trained to.
fn case() -> Case {
    let case = Case::text();
    let row = |name: &str| json!({"code": format!("int {name};"), "content": format!("long {name};")});
    let rows = |names: &[&str]| names.iter().map(|name| row(name).to_string() + "\n").collect::<String>();
    case.write("train.jsonl", rows(&["a", "b"]));
    case.write("val.jsonl", rows(&["a", "b", "c", "d", "e"]));
    case
}

const SETS: [&str; 8] = [
    "data.task=translation",
    "data.validation_file=val.jsonl",
    "eval.generate_rows=4",
    "eval.max_new_tokens=9",
    "eval.per_device_eval_batch_size=3",
    "train.eval_steps=2",
    "train.max_steps=6",
    "train.save_steps=2",
];

/// The lines of evaluations, without what a clock decides.
fn evaluations(case: &Case, out: &str) -> Vec<Value> {
    let mut lines = case.metrics(out);
    lines.retain(|line| line.get("eval_loss").is_some());
    for line in &mut lines {
        for key in ["time", "eval_seconds", "eval_generate_seconds"] {
            assert!(
                line.as_object_mut().expect("an object").remove(key).is_some_and(|v| v.as_f64() >= Some(0.0)),
                "{key}"
            );
        }
    }
    lines
}

fn lines(case: &Case, file: &str) -> Vec<Value> {
    let text = String::from_utf8(case.read(file)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn texts_are_those_of_generate_and_figures_those_of_score() {
    let case = case();
    case.train(&SETS).trained();
    let found = evaluations(&case, "out");
    assert_eq!(found.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(4), Some(6)]);
    let first: String =
        String::from_utf8(case.read("val.jsonl")).unwrap().lines().take(4).map(|l| format!("{l}\n")).collect();
    case.write("four.jsonl", first);
    let generate =
        ["generate", "--model", "model", "--adapter", "out", "--data", "four.jsonl", "--task", "translation"];
    case.run(&[&generate[..], &["--max-new-tokens", "9", "-o", "gen.jsonl", "--batch-size", "3"]].concat(), &[])
        .noted();
    let texts = |file: &str| lines(&case, file).iter().map(|line| line["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts("out/texts/step-6.jsonl"), texts("gen.jsonl"));
    assert_ne!(texts("out/texts/step-2.jsonl"), texts("gen.jsonl"), "training changes no text: the test is blind");
    let score = ["score", "--hyp", "gen.jsonl", "--ref", "four.jsonl", "--task", "translation", "--format", "json"];
    let scores: Value = serde_json::from_str(&case.run(&score, &[]).noted().0).expect("JSON");
    let metrics = scores["metrics"].as_object().expect("an object");
    assert!(metrics.len() > 10, "{metrics:?}");
    for (name, value) in metrics {
        assert_eq!(found[2][format!("eval_{name}")], *value, "{name}");
    }
    assert_eq!(
        found[2]["eval_generated_tokens"],
        lines(&case, "gen.jsonl").iter().map(|l| l["ids"].as_array().unwrap().len()).sum::<usize>()
    );
}

#[test]
fn a_resumed_run_has_the_same_figures() {
    let case = case();
    case.train(&SETS).trained();
    let whole = evaluations(&case, "out");
    let half =
        [&SETS[..], &["train.output_dir=half", "train.max_steps=4", "train.lr_scheduler_type=constant"]].concat();
    case.train(&half).trained();
    let args: Vec<String> = half.iter().map(|s| s.replace("max_steps=4", "max_steps=6")).collect();
    let args: Vec<&str> = ["train", "recipe.toml", "--resume", "auto"]
        .into_iter()
        .chain(args.iter().flat_map(|s| ["--set", s]))
        .collect();
    case.run(&args, &[]).noted();
    let constant = [&SETS[..], &["train.output_dir=constant", "train.lr_scheduler_type=constant"]].concat();
    case.train(&constant).trained();
    assert_eq!(evaluations(&case, "half"), evaluations(&case, "constant"));
    assert_ne!(evaluations(&case, "half"), whole, "the schedule changes no figure: the test is blind");
}

/// edit_similarity grows while the model learns; of equal figures the first is the best.
#[test]
fn the_best_model_is_chosen_by_a_metric_of_texts() {
    let case = case();
    let best = ["train.load_best_model_at_end=true", "train.metric_for_best_model=eval_strict_exact"];
    let (_, notes) =
        case.train(&[&SETS[..], &best, &["train.early_stopping_patience=2", "train.max_steps=20"]].concat()).noted();
    let figures = case.series("out", "eval_strict_exact");
    let first = figures.iter().position(|f| *f == figures.iter().copied().fold(0.0, f64::max)).unwrap();
    // two evaluations after the best one without a better one
    assert_eq!(figures.len(), first + 3, "{figures:?}");
    let (step, value) = (2 * (first + 1), figures[first]);
    let stopped = format!(
        "stopped early after step {}: 2 evaluations without a strict_exact above {value:.4} of step {step}",
        step + 4
    );
    assert!(notes.contains(&stopped), "{notes:?}");
    assert!(
        notes.contains(&format!("the best model is saved: that of step {step}, eval strict_exact {value:.4}")),
        "{notes:?}"
    );
    // a resume with another measure forgets the best one
    let other: Vec<&str> = SETS.iter().copied().chain(["train.metric_for_best_model=chrf"]).collect();
    let args: Vec<&str> = ["train", "recipe.toml", "--resume", "auto"]
        .into_iter()
        .chain(other.iter().flat_map(|s| ["--set", s]))
        .collect();
    let refused = case.run(&args, &[]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("train.metric_for_best_model was \"eval_strict_exact\" and is \"chrf\""),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_stands_in_the_way_is_said_before_a_step() {
    let case = case();
    let refused = |sets: &[&str], code, why: &str| case.train(&[&SETS[..], sets].concat()).refused(code, why);
    refused(&["eval.metrics=[\"blue\"]"], 2, "unknown metric \"blue\"; did you mean bleu?");
    refused(
        &["eval.metrics=[\"meteor_wordnet\"]"],
        2,
        "the metric meteor_wordnet needs WordNet; name the folder of its files index.noun, data.noun and so on with \
         --wordnet",
    );
    refused(
        &["train.metric_for_best_model=bleu", "eval.metrics=[\"chrf\"]"],
        2,
        "train.metric_for_best_model = \"bleu\" is none of the metrics: chrf; name it in eval.metrics, or set \"loss\"",
    );
    refused(
        &["train.metric_for_best_model=bleu", "eval.generate_rows=0"],
        2,
        "recipe.toml: train.metric_for_best_model = \"bleu\" is a metric of texts, and eval.generate_rows = 0 \
         generates none: set eval.generate_rows, or \"loss\"",
    );
    case.write("val.jsonl", "{\"code\": \"int a;\", \"content\": \" \"}\n");
    refused(
        &[],
        3,
        "val.jsonl:1: the row has no reference, so nothing can be compared with its text; give one, or drop the row",
    );
}
