//! `eyekern eval`: its texts are those of `generate`, its scores those of `score`, its log p that of training.

use super::{Case, Ran};
use serde_json::{Value, json};

/// A case with four rows to translate.
fn case() -> Case {
    let case = Case::text();
    let row = |name: &str| json!({"code": format!("int {name};"), "content": format!("long {name} = 1;")});
    case.write("rows.jsonl", ["a", "b", "c", "d"].map(|name| row(name).to_string() + "\n").concat());
    case
}

fn eval(case: &Case, out: &str, more: &[&str]) -> Ran {
    let args =
        ["eval", "--model", "model", "--data", "rows.jsonl", "-o", out, "--max-new-tokens", "30", "--batch-size", "3"];
    case.run(&[&args, more].concat(), &[])
}

fn translate(case: &Case, out: &str, more: &[&str]) -> Ran {
    eval(case, out, &[&["--task", "translation"], more].concat())
}

fn lines(case: &Case, file: &str) -> Vec<Value> {
    let text = String::from_utf8(case.read(file)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn texts_are_those_of_generate_and_scores_those_of_score() {
    let case = case();
    let shown = translate(&case, "e", &[]).noted().0;
    let generate = ["generate", "--model", "model", "--data", "rows.jsonl", "--task", "translation"];
    case.run(&[&generate[..], &["--max-new-tokens", "30", "-o", "g.jsonl"]].concat(), &[]).noted();
    let texts = |file: &str| lines(&case, file).iter().map(|line| line["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts("e/predictions.jsonl"), texts("g.jsonl"));
    let score = ["score", "--hyp", "g.jsonl", "--ref", "rows.jsonl", "--src", "rows.jsonl", "--task", "translation"];
    let report = case.run(&[&score[..], &["--format", "json"]].concat(), &[]).noted().0;
    let (report, own): (Value, Value) = (serde_json::from_str(&report).expect("JSON"), case.json("e/scores.json"));
    for key in ["metrics", "panel", "scales", "headline", "n", "won_by_constant"] {
        assert_eq!(own[key], report[key], "{key}");
    }
    assert_eq!(lines(&case, "e/examples.jsonl").len(), 4);
    assert!(String::from_utf8(case.read("e/scores.html")).expect("UTF-8").contains("</html>"));
    let headline = own["headline"].as_str().unwrap_or("no headline");
    assert!(shown.starts_with(headline) && shown.contains("log p of the references: -"), "{shown}");
}

/// The losses of the first step, before the update, are those of the model as it is.
#[test]
fn log_p_is_that_of_training() {
    let case = case();
    let paths = ["--set", "salience.condition=reading"];
    translate(&case, "e", &paths).noted();
    let sets =
        ["data.train_file=rows.jsonl", "data.task=translation", "salience.condition=reading", "train.max_steps=1"];
    case.train(&sets).trained();
    let step = &case.metrics("out")[1];
    let own = &case.json("e/scores.json")["references"];
    for (mean, loss) in [("path_mean_logp", "path_loss"), ("off_path_mean_logp", "off_path_loss")] {
        let (mean, loss) = (own[mean].as_f64().expect(mean), step[loss].as_f64().expect(loss));
        assert!((mean + loss).abs() < 1e-5, "{mean} {loss}");
    }
    let rows = lines(&case, "e/references.jsonl");
    let sum = |key: &str| rows.iter().map(|row| row[key].as_f64().expect(key)).sum::<f64>();
    assert!((sum("logp") / sum("tokens") - own["mean_logp"].as_f64().expect("a mean")).abs() < 1e-9);
    assert_eq!(sum("tokens"), step["supervised_tokens"].as_f64().expect("tokens"));
    // without paths nothing lies on one
    translate(&case, "plain", &[]).noted();
    assert_eq!(case.json("plain/scores.json")["references"]["path_tokens"], 0);
}

#[test]
fn a_rerun_resumes_after_the_last_whole_prediction() {
    let case = case();
    translate(&case, "e", &[]).noted();
    let (whole, scores) = (case.read("e/predictions.jsonl"), case.json("e/scores.json"));
    let second = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).expect("two lines").0;
    case.write("e/predictions.jsonl", &whole[..second + 9]);
    std::fs::remove_file(case.path("e/scores.json")).expect("removes");
    let (_, notes) = translate(&case, "e", &[]).noted();
    assert!(notes.contains(&"e/predictions.jsonl: resuming after 2 of 4 rows".to_string()), "{notes:?}");
    assert_eq!((case.read("e/predictions.jsonl"), case.json("e/scores.json")), (whole.clone(), scores));
    let other = translate(&case, "e", &["--stop", "x"]);
    assert!(
        other.code == Some(3) && other.stderr.contains("e/predictions.jsonl:1: this line does not match"),
        "{}",
        other.stderr
    );
    assert_eq!(case.read("e/predictions.jsonl"), whole);
    translate(&case, "e", &["--stop", "x", "--overwrite"]).noted();
}

#[test]
fn leaks_are_listed_and_dropped() {
    let case = case();
    let train =
        ["int c;", "int x;", "int a;"].map(|code| json!({"code": code, "content": "long c = 1;"}).to_string() + "\n");
    case.write("train.jsonl", train.concat());
    let (_, notes) = translate(&case, "e", &["--against", "train.jsonl"]).noted();
    let found = "2 rows of rows.jsonl with a source that occurs in train.jsonl, 1 of them with the same target: rows 1 \
                 (line 3), 3 (line 1); ";
    assert!(notes.contains(&format!("{found}evaluated all the same; --drop-leaks leaves them out")), "{notes:?}");
    let (_, notes) = translate(&case, "d", &["--against", "train.jsonl", "--drop-leaks"]).noted();
    assert!(notes.contains(&format!("{found}left out")), "{notes:?}");
    let rows = |file: &str| lines(&case, file).iter().map(|line| line["row"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((rows("d/predictions.jsonl"), rows("d/references.jsonl")), (vec![2, 4], vec![2, 4]));
    assert_eq!(case.json("d/scores.json")["n"], 2);
}

/// What is generated behind the first line is no part of the prediction.
#[test]
fn completions_are_cut_to_their_unit() {
    let case = case();
    let code = "void f() {\n    int a = 1;\n    int b = 2;\n}\n";
    case.write("rows.jsonl", json!({ "code": code }).to_string() + "\n");
    let cut = ["--task", "none", "--cut", "line", "--lang", "java", "--cut-seed", "3"];
    eval(&case, "e", &cut).noted();
    let line = &lines(&case, "e/predictions.jsonl")[0];
    let (text, source) = (line["text"].as_str().expect("text"), line["source"].as_str().expect("source"));
    assert_eq!(line["prediction"], text.split('\n').next().expect("a line"));
    let target = line["target"].as_str().expect("target");
    assert!(code.starts_with(&format!("{source}{target}")) && target.trim_start().starts_with("int "), "{target:?}");
    let seeds = ["1", "2", "3", "4", "5"].map(|seed| {
        let dir = format!("s{seed}");
        let cut = ["--task", "completion", "--cut", "statement", "--lang", "java", "--cut-seed", seed];
        eval(&case, &dir, &cut).noted();
        lines(&case, &format!("{dir}/predictions.jsonl"))[0]["target"].to_string()
    });
    assert!(seeds.iter().any(|target| *target != seeds[0]), "{seeds:?}");
    let refused = eval(&case, "x", &["--task", "none", "--cut", "line"]);
    assert!(refused.code == Some(3) && refused.stderr.contains("the row names no language"), "{}", refused.stderr);
    eval(&case, "x", &["--task", "none", "--cut", "word"])
        .refused(2, "--cut word: choose one of half, line, statement, block");
    eval(&case, "x", &["--task", "none", "--cut", "line", "--lang", "java", "--fim"]).refused(
        2,
        "data.fim = true requires a tokenizer with tokens for filling in the middle, such as <fim_prefix>, and this \
         model's has none; unset data.fim",
    );
}

#[test]
fn what_stands_in_the_way_is_said_before_any_work() {
    let case = case();
    eval(&case, "e", &[])
        .refused(2, "which task? give --task none, completion, translation, summarization or copy, or --recipe");
    translate(&case, "e", &["--metrics", "blue"]).refused(2, "unknown metric \"blue\"; did you mean bleu?");
    translate(&case, "e", &["--metrics", "check_pass"])
        .refused(2, "the metric check_pass needs a command; name it with --check");
    translate(&case, "e", &["--lang", "cobol"]).refused(
        2,
        "unknown language \"cobol\": one of java, c-sharp, python, javascript, typescript, go, c, cpp, rust",
    );
    case.write("rows.jsonl", "{\"code\": \"int a;\", \"content\": \"x\"}\n{\"code\": \"int b;\", \"content\": \"\"}\n");
    translate(&case, "e", &[]).refused(
        3,
        "rows.jsonl:2: the row has no reference, so nothing can be compared with its text; give one, or drop the row",
    );
}
