//! `eyekern score`: forms of files, reports, refusals. tests/metrics compares the metrics with their packages.

use super::*;
use serde_json::json;

const HYP: &str = "int a = b;\nreturn x;\n\nfoo ( 1 );\n";
const REF: &str = "int a = b;\nreturn y;\nint c;\nfoo(1);\n";
const SRC: &str = "int a = B;\nreturn Y;\nint C;\nFoo(1);\n";

fn score(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["score", "--hyp", "hyp.txt", "--ref", "ref.txt", "--task", "completion"], args].concat(), &[])
}

/// The report of other files and options.
fn report(case: &Case, hyp: &str, reference: &str, args: &[&str]) -> Value {
    let files = ["score", "--hyp", hyp, "--ref", reference, "--format", "json"];
    let ran = case.run(&[&files, args].concat(), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

fn case() -> Case {
    let case = Case::empty();
    case.write("hyp.txt", HYP);
    case.write("ref.txt", REF);
    case.write("src.txt", SRC);
    case
}

/// Every value is counted by hand: rows 1 and 4 are equal but for space. Row 3 is empty, and so contains nothing.
#[test]
fn a_report_is_a_table_with_trivial_predictors() {
    let case = case();
    let text = score(&case, &["--src", "src.txt", "--metrics", "strict_exact,contain"]).trained();
    let expected = "\
strict_exact 0.5000 (0 to 1)
4 rows; task completion; --clean none

metric          value scale     empty        }   public   source   run_on shuffled
strict_exact   0.5000     1    0.0000   0.0000   0.0000   0.0000   0.0000   0.0000
contain        0.5000     1    0.0000   0.0000   0.0000   0.0000   1.0000   0.0000
";
    assert_eq!(text, expected);
    let csv = score(&case, &["--metrics", "contain,strict_exact,contain", "--format", "csv"]).trained();
    let expected = "\
metric,value,scale,n,empty,},public,source,run_on,shuffled,won_by_constant
contain,0.5,1,4,0,0,0,,1,0,
strict_exact,0.5,1,4,0,0,0,,0,0,
";
    assert_eq!(csv, expected);
    let json = report(&case, "hyp.txt", "ref.txt", &["--task", "completion", "--metrics", "strict_exact"]);
    assert_eq!(json["metrics"], json!({"strict_exact": 0.5}));
    assert_eq!(json["scales"], json!({"strict_exact": 1.0}));
    assert_eq!((&json["n"], &json["predictions"]), (&json!(4), &json!(4)));
    assert_eq!(json["headline"], "strict_exact");
    assert_eq!(json["panel"]["run_on"], json!({"strict_exact": 0.0}));
    assert_eq!(json["panel"]["source"], json!({"strict_exact": null}));
    assert_eq!(json["won_by_constant"], json!({"strict_exact": []}));
    assert_eq!((&json["options"]["task"], &json["options"]["clean"]), (&json!("completion"), &json!("none")));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

/// The columns of the panel are what the predictors themselves score.
#[test]
fn the_panel_is_what_its_predictors_score() {
    let case = case();
    let metrics = ["--task", "translation", "--metrics", "strict_exact,edit_similarity,chrf,bleu,contain"];
    let whole = report(&case, "hyp.txt", "ref.txt", &[&metrics[..], &["--src", "src.txt"]].concat());
    case.write("empty.txt", "\n\n\n\n");
    case.write("brace.txt", "}\n}\n}\n}\n");
    case.write("public.txt", "public\npublic\npublic\npublic\n");
    let texts = [("empty", "empty.txt"), ("}", "brace.txt"), ("public", "public.txt"), ("source", "src.txt")];
    for (column, file) in texts {
        assert_eq!(report(&case, file, "ref.txt", &metrics)["metrics"], whole["panel"][column], "{column}");
    }
    let run_on =
        |text: &str| json!({"pred": format!("{text}\n\n### Instruction:\nContinue.\n{text}")}).to_string() + "\n";
    case.write("run_on.jsonl", REF.lines().map(run_on).collect::<String>());
    assert_eq!(report(&case, "run_on.jsonl", "ref.txt", &metrics)["metrics"], whole["panel"]["run_on"]);
}

#[test]
fn a_metric_that_a_constant_wins_is_no_headline() {
    let case = case();
    // a brace is in every reference, and the predictions are not
    case.write("ref.txt", "f() { a }\ng() { b }\n");
    case.write("hyp.txt", "f() { a }\nnothing\n");
    let text = score(&case, &["--metrics", "contain,strict_exact"]).trained();
    let expected = "\
strict_exact 0.5000 (0 to 1)
2 rows; task completion; --clean none

metric          value scale     empty        }   public   source   run_on shuffled
strict_exact   0.5000     1    0.0000   0.0000   0.0000        -   0.0000   0.0000
contain        0.5000     1    0.0000   1.0000   0.0000        -   1.0000   0.0000  the constant \"}\" is as good
";
    assert_eq!(text, expected);
    case.write("hyp.txt", "}\n}\n");
    let text = score(&case, &["--metrics", "contain,strict_exact"]).trained();
    assert_eq!(text.lines().next(), Some("no headline: by every metric a constant is as good as the predictions"));
    let json = report(&case, "hyp.txt", "ref.txt", &["--task", "completion", "--metrics", "contain,strict_exact"]);
    assert_eq!(json["headline"], Value::Null);
    assert_eq!(json["won_by_constant"], json!({"contain": ["}"], "strict_exact": ["empty", "}", "public"]}));
}

/// Each pair of files says the same as HYP and REF.
#[test]
fn files_have_many_forms() {
    let case = case();
    let exact = ["--metrics", "strict_exact,edit_similarity"];
    let wanted = report(&case, "hyp.txt", "ref.txt", &[&["--task", "completion"], &exact[..]].concat());
    let rows = |row: &dyn Fn(&str, &str) -> Value| -> String {
        HYP.lines().zip(REF.lines()).map(|(hyp, reference)| row(hyp, reference).to_string() + "\n").collect()
    };
    // as `eyekern generate` writes them
    case.write("both.jsonl", rows(&|hyp, text| json!({"row": 1, "key": "k", "text": hyp, "ids": [1], "target": text})));
    // CodeXGLUE's line completion, with predictions as lines
    case.write("gt.json", rows(&|_, text| json!({"input": "class {", "gt": text})));
    // training data, with keys of its own
    case.write("own.jsonl", rows(&|hyp, text| json!({"prompt": "p", "completion": text, "mine": hyp})) + "\n\n");
    case.write("crlf.txt", format!("\u{feff}{}", HYP.replace('\n', "\r\n")));
    // text that begins with a brace, but is no object
    case.write("brace.txt", HYP.replacen("int a = b;", "{ int a;", 1));
    case.write("brace_ref.txt", REF.replacen("int a = b;", "{ int a;", 1));
    let completion = ["--task", "completion"];
    for (hyp, reference, more) in [
        ("both.jsonl", "both.jsonl", &[][..]),
        ("hyp.txt", "gt.json", &[]),
        ("own.jsonl", "own.jsonl", &["--hyp-key", "mine"]),
        ("crlf.txt", "ref.txt", &[]),
        ("brace.txt", "brace_ref.txt", &[]),
    ] {
        let json = report(&case, hyp, reference, &[&completion, &exact, more].concat());
        let close = |metric: &str| {
            let [a, b] = [&json, &wanted].map(|json| json["metrics"][metric].as_f64().expect("a number"));
            (a - b).abs() < if hyp == "brace.txt" { 0.05 } else { 1e-15 }
        };
        assert!(close("strict_exact") && close("edit_similarity"), "{hyp} {reference}: {json}");
    }
    // CodeXGLUE's summaries: numbered, also where a line lost its tab with its text
    let lines = |text: &str| -> String { text.lines().enumerate().map(|(i, line)| format!("{i}\t{line}\n")).collect() };
    case.write("test.output", lines(HYP).replace("2\t\n", "2\n"));
    case.write("test.gold", lines(REF));
    let json = report(&case, "test.output", "test.gold", &[&["--task", "summarization"], &exact[..]].concat());
    assert_eq!(json["metrics"], wanted["metrics"]);
    // several predictions of each reference
    case.write("two.txt", HYP.lines().flat_map(|line| [line, "\n", line, "\n"]).collect::<String>());
    let json = report(&case, "two.txt", "ref.txt", &[&completion, &exact[..], &["--samples", "2"]].concat());
    assert_eq!((&json["n"], &json["predictions"]), (&json!(4), &json!(8)));
    let value = |json: &Value| json["metrics"]["edit_similarity"].as_f64().expect("a number");
    assert!((value(&json) - value(&wanted)).abs() <= 1e-12 && json["metrics"]["strict_exact"] == 0.5, "{json}");
    assert_eq!(json["panel"], wanted["panel"]);
}

#[test]
fn bad_input_is_one_sentence() {
    let case = case();
    let metric = |name: &str| score(&case, &["--metrics", name]);
    metric("strict_exat").refused(2, "unknown metric \"strict_exat\"; did you mean strict_exact?");
    assert!(
        metric("perplexity").stderr.starts_with("eyekern: unknown metric \"perplexity\"; the metrics are strict_exact")
    );
    metric(",").refused(2, "--metrics names no metric; name one, or leave the option out");
    metric("exact").refused(2, "unknown metric \"exact\"; did you mean strict_exact?");
    metric("CodeBLEU").refused(2, "unknown metric \"CodeBLEU\"; did you mean codebleu?");
    metric("strict_exact,check_pass").refused(2, "the metric check_pass needs a command; name it with --check");
    score(&case, &["--lang", "pyhton"]).refused(2, "unknown language \"pyhton\"; did you mean python?");
    let both = "row counts differ, 4 predictions here and 3 references in short.txt; row n of one file must belong to \
                row n of the other";
    case.write("short.txt", "a\nb\nc\n");
    let files = |hyp: &str, reference: &str, more: &[&str]| {
        let files = ["score", "--hyp", hyp, "--ref", reference, "--task", "summarization", "--metrics", "strict_exact"];
        case.run(&[&files, more].concat(), &[])
    };
    files("hyp.txt", "short.txt", &[]).refused(3, &format!("hyp.txt: {both}"));
    let samples = "row counts differ, 4 predictions here and 3 references x 2 samples in short.txt; row n of one file \
                   must belong to row n of the other";
    files("hyp.txt", "short.txt", &["--samples", "2"]).refused(3, &format!("hyp.txt: {samples}"));
    let sources = "row counts differ, 3 sources here and 4 references in ref.txt; row n of one file must belong to row \
                   n of the other";
    files("hyp.txt", "ref.txt", &["--src", "short.txt"]).refused(3, &format!("short.txt: {sources}"));
    let empty = "the reference is empty, so nothing can be compared with it; leave the row out";
    files("ref.txt", "hyp.txt", &[]).refused(3, &format!("hyp.txt:3: {empty}"));
    case.write("none.txt", "");
    files("none.txt", "none.txt", &[]).refused(3, "none.txt: the file has no rows");
    case.write("row.jsonl", "{\"reference\": \"a\"}\n{\"ref\": \"b\", \"text\": 1}\n");
    let keys = "prediction, pred, hyp, hypothesis, generated, generation, output, response, completion, text";
    let lacks = format!("the row has no prediction: none of the keys {keys}; name its key with --hyp-key");
    files("row.jsonl", "row.jsonl", &[]).refused(3, &format!("row.jsonl:1: {lacks}"));
    let own = "row.jsonl:1: the row has no text `mine`, which --hyp-key names as the prediction";
    files("row.jsonl", "row.jsonl", &["--hyp-key", "mine"]).refused(3, own);
    case.write("id.jsonl", "{\"text\": \"a\", \"target\": [1, 2]}\n");
    let ids = "id.jsonl:1: `target` must be a string, not a list";
    files("id.jsonl", "id.jsonl", &[]).refused(3, ids);
    case.write("a.gold", "0\ta\n1\tb\n");
    case.write("b.gold", "0\ta\n2\tb\n");
    let apart = "b.gold:2: the number is 2, and the row of a.gold has 1; sort the files alike";
    files("b.gold", "a.gold", &[]).refused(3, apart);
    case.write("b.gold", "0\ta\nb\n");
    let bare = "b.gold:2: the line has no number and tab in front of its text, as the first line has";
    files("b.gold", "a.gold", &[]).refused(3, bare);
    case.write("latin.txt", b"a\n\xe9\nb\nc\n");
    let utf8 = "latin.txt:2: not UTF-8 (at byte 1 of the line); save the file as UTF-8";
    files("latin.txt", "ref.txt", &[]).refused(3, utf8);
    let over = "the command reads this file, and would write over it; name another";
    files("hyp.txt", "ref.txt", &["--html", "ref.txt"]).refused(2, &format!("--html ref.txt: {over}"));
    files("hyp.txt", "ref.txt", &["--examples", "./hyp.txt"]).refused(2, &format!("--examples ./hyp.txt: {over}"));
    let two = "--html and --examples name the same file; name two";
    files("hyp.txt", "ref.txt", &["--html", "a.html", "--examples", "a.html"]).refused(2, two);
    let fifo = "/dev/null: this is no regular file; it is read twice, so save it first";
    files("/dev/null", "ref.txt", &[]).refused(3, fifo);
}

/// 600 rows are three blocks.
#[test]
fn threads_change_no_byte() {
    let case = Case::empty();
    let line =
        |i: usize, k: usize| format!("int v{} = f({}, \"é{}\"); // {}\n", i % k, i * 7 % k, i, "x ".repeat(i % 9));
    case.write("hyp.txt", (0..600).map(|i| line(i, 11)).collect::<String>());
    case.write("ref.txt", (0..600).map(|i| line(i, 13)).collect::<String>());
    let mut seen: Vec<[Vec<u8>; 4]> = Vec::new();
    for threads in ["1", "10"] {
        let names = ["page.html", "rows.jsonl", "rows.csv"];
        let args = ["--src", "ref.txt", "--threads", threads, "--format", "json", "--html", names[0], "--lang", "java"];
        let stdout = score(&case, &[&args[..], &["--examples", names[1]]].concat()).trained();
        score(&case, &[&args[..], &["--examples", names[2]]].concat()).trained();
        let files = names.map(|name| case.read(name));
        let [page, jsonl, csv] = files;
        seen.push([stdout.into_bytes(), page, jsonl, csv]);
    }
    assert!(seen[0] == seen[1], "the outputs of 1 and of 10 threads differ");
    let [_, page, jsonl, csv] = seen.remove(0).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert_eq!((jsonl.lines().count(), csv.lines().count()), (600, 601));
    assert!(page.contains("The 200 worst of 600 predictions by edit_similarity."));
}

/// The values of each prediction, and that they make up the report.
#[test]
fn examples_have_a_line_each() {
    let case = case();
    let args = ["--metrics", "edit_similarity,strict_exact", "--format", "json", "--examples"];
    let json: Value =
        serde_json::from_str(&score(&case, &[&args[..], &["out.jsonl"]].concat()).trained()).expect("JSON");
    let text = String::from_utf8(case.read("out.jsonl")).expect("UTF-8");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows[2], json!({"row": 3, "edit_similarity": 0.0, "strict_exact": 0.0}));
    assert_eq!(rows.iter().map(|row| row["strict_exact"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 0.0, 0.0, 1.0]);
    let mean = rows.iter().map(|row| row["edit_similarity"].as_f64().unwrap()).sum::<f64>() / 4.0;
    assert!((json["metrics"]["edit_similarity"].as_f64().unwrap() - mean).abs() <= 1e-12);
    score(&case, &[&args[..], &["out.csv"]].concat()).trained();
    let csv = String::from_utf8(case.read("out.csv")).expect("UTF-8");
    assert!(csv.starts_with("row,edit_similarity,strict_exact\n1,1.0,1.0\n"), "{csv}");
}

#[test]
fn what_cannot_be_computed_is_left_out_of_the_usual_metrics() {
    let case = case();
    let (text, notes) = score(&case, &[]).noted();
    assert!(text.starts_with("strict_exact 0.5000") && !text.contains("parse_valid"), "{text}");
    assert!(
        notes[0].contains("token_exact, ") && notes[0].ends_with(" (needs a language; name it with --lang)"),
        "{notes:?}"
    );
    let (text, notes) = score(&case, &["--lang", "java"]).noted();
    assert!(text.contains("parse_valid") && notes.is_empty(), "{notes:?}");
    let lang = "the metric token_exact needs a language; name it with --lang";
    score(&case, &["--metrics", "token_exact"]).refused(2, lang);
    let wordnet = "the metric meteor_wordnet needs WordNet; name the folder of its files index.noun, data.noun and so \
                   on with --wordnet";
    score(&case, &["--metrics", "meteor_wordnet"]).refused(2, wordnet);
    // the language of the references' extension, and C# for translations
    case.write("gold.py", REF);
    let json = report(&case, "hyp.txt", "gold.py", &["--task", "completion", "--metrics", "parse_valid"]);
    assert_eq!(json["options"]["language"], "python");
    let json = report(&case, "hyp.txt", "ref.txt", &["--task", "translation", "--metrics", "parse_valid"]);
    assert_eq!(json["options"]["language"], "c-sharp");
}
