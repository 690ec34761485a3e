//! `eyekern generate`: text as it comes, rows in a file that is gone on with, refusals. What a model generates is
//! tested in tests/parity/generate.rs.

use super::*;
use serde_json::json;
use std::io::Write;

fn generate(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["generate", "--device", "cpu"], args].concat(), &[])
}

/// The continuation of the tiny Llama's fixture, by transformers.
pub fn fixture() -> (Vec<u64>, Vec<u64>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_llama/meta.json");
    let meta: Value = serde_json::from_slice(&std::fs::read(file).expect("reads")).expect("JSON");
    let list = |key: &str| meta["generation"][key].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
    (list("prompt"), list("greedy_16"))
}

/// Six prompts of unequal lengths, targets behind two of them, a blank line.
fn prompts() -> String {
    let (prompt, _) = fixture();
    let row = |n: usize| json!({ "input_ids": prompt[..n] }).to_string() + "\n";
    let with_target = json!({"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}).to_string() + "\n";
    row(7) + &row(1) + "\n" + &with_target + &row(3) + &with_target + &row(7)
}

fn lines(case: &Case, file: &str) -> Vec<Value> {
    let text = String::from_utf8(case.read(file)).expect("UTF-8");
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect(line);
        let key = row.as_object_mut().and_then(|row| row.shift_remove("key")).expect("a key");
        assert!(key.as_str().is_some_and(|key| key.len() == 32), "{key}");
        row
    };
    text.lines().map(row).collect()
}

const ROWS: [&str; 8] = ["--model", "model", "--data", "rows.jsonl", "-o", "out.jsonl", "--max-new-tokens", "16"];

#[test]
fn rows_are_continued_in_their_order() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    generate(&case, &[&ROWS[..], &["--batch-size", "4"]].concat()).noted();
    let rows = lines(&case, "out.jsonl");
    assert_eq!(rows.iter().map(|row| row["row"].as_u64().expect("a line")).collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7]);
    let (_, expected) = fixture();
    assert_eq!(rows[0], json!({"row": 1, "ids": expected, "finish": "length", "target": []}));
    assert_eq!(
        (&rows[5]["ids"], &rows[2]["target"], &rows[4]["target"]),
        (&json!(expected), &json!([7, 8]), &json!([7, 8]))
    );
    // one by one it is the same
    let together = case.read("out.jsonl");
    generate(&case, &[&ROWS[..], &["--batch-size", "1", "--overwrite"]].concat()).noted();
    assert_eq!(case.read("out.jsonl"), together);
}

/// A row that ends before an earlier one waits for it, and makes room for the next.
#[test]
fn rows_that_end_early_keep_their_order() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    generate(&case, &ROWS).noted();
    let whole = lines(&case, "out.jsonl");
    let ids = |row: &Value| row["ids"].as_array().expect("ids").clone();
    let (first, second) = (ids(&whole[0]), ids(&whole[1]));
    let end = second.iter().take(8).find(|id| !first.contains(id)).expect("a token of the second row alone");
    case.write("model/generation_config.json", json!({ "eos_token_id": end }).to_string());
    let cut = |row: &Value| ids(row).into_iter().take_while(|id| id != end).collect::<Vec<_>>();
    let expected: Vec<Vec<Value>> = whole.iter().map(cut).collect();
    assert!(expected[0].len() == 16 && expected[1].len() < 8, "{expected:?}");
    for batch in ["1", "2", "3", "6"] {
        generate(&case, &[&ROWS[..], &["--batch-size", batch, "--overwrite"]].concat()).noted();
        assert_eq!(lines(&case, "out.jsonl").iter().map(ids).collect::<Vec<_>>(), expected, "{batch} at a time");
    }
}

#[test]
fn the_ends_of_the_configs_count() {
    let (_, expected) = fixture();
    let run = |file: &str, ends: Value| {
        let case = Case::ids();
        case.write("rows.jsonl", prompts());
        if file == "config.json" {
            std::fs::remove_file(case.path("model/generation_config.json")).expect("removes");
            case.configure("model", "eos_token_id", ends);
        } else {
            case.write("model/generation_config.json", json!({ "eos_token_id": ends }).to_string());
        }
        generate(&case, &ROWS).noted();
        lines(&case, "out.jsonl")[0].clone()
    };
    let cut = |at: usize| json!({"row": 1, "ids": expected[..at], "finish": "eos", "target": []});
    assert_eq!(run("generation_config.json", json!(expected[3])), cut(3));
    assert_eq!(run("generation_config.json", json!([96, expected[5], expected[2]])), cut(2));
    assert_eq!(run("config.json", json!([expected[4]])), cut(4));
}

#[test]
fn a_rerun_goes_on_after_the_last_whole_line() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    let drawn = ["--temperature", "1.5", "--seed", "3"];
    generate(&case, &[&ROWS[..], &drawn].concat()).noted();
    let whole = case.read("out.jsonl");
    let ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == b'\n').map(|at| at + 1).collect();
    for at in [0, 1, ends[0] - 1, ends[0], ends[1] + 20, ends[4] + 1] {
        case.write("out.jsonl", &whole[..at]);
        let (stdout, notes) = generate(&case, &[&ROWS[..], &drawn].concat()).noted();
        let done = ends.iter().filter(|&&end| end <= at).count();
        let note = format!("out.jsonl: resuming after {done} of 6 rows");
        assert_eq!((stdout.as_str(), notes.contains(&note)), ("", done > 0), "{notes:?}");
        assert_eq!(case.read("out.jsonl"), whole, "cut at {at}");
    }
    // nothing is left to do
    let (_, notes) = generate(&case, &[&ROWS[..], &drawn].concat()).noted();
    assert_eq!(notes, ["out.jsonl: resuming after 6 of 6 rows"]);
    // other rows
    case.write("rows.jsonl", "{\"input_ids\": [9]}\n".to_string() + &prompts());
    generate(&case, &[&ROWS[..], &drawn].concat()).refused(3, &format!("out.jsonl:1: {OTHER}"));
    case.write("out.jsonl", "no JSON\n");
    generate(&case, &ROWS).refused(3, &format!("out.jsonl:1: {OTHER}"));
    generate(&case, &[&ROWS[..], &["--overwrite"]].concat()).noted();
    assert_eq!(lines(&case, "out.jsonl").len(), 7);
}

const OTHER: &str = "this line does not match the data, the model and the options; choose another file, or start over \
                     with --overwrite";

#[test]
fn rows_of_another_run_are_not_gone_on_with() {
    let case = Case::ids();
    case.train(&[]).trained();
    case.write("rows.jsonl", "{\"input_ids\": [5, 6]}\n");
    let drawn = ["--temperature", "1", "--seed", "3"];
    generate(&case, &[&ROWS[..], &drawn].concat()).noted();
    for (model, more) in [
        ("model", &["--temperature", "1", "--seed", "4"][..]),
        ("model", &["--temperature", "2", "--seed", "3"]),
        ("model", &["--temperature", "1", "--seed", "3", "--repetition-penalty", "2"]),
        ("model", &["--temperature", "1", "--seed", "3", "--adapter", "out"]),
        ("other", &drawn[..]),
    ] {
        case.copy_model("other");
        case.configure("other", "rms_norm_eps", json!(1e-3));
        let args = [&["--model", model], &ROWS[2..], more].concat();
        generate(&case, &args).refused(3, &format!("out.jsonl:1: {OTHER}"));
    }
    // the same by another path, in other batches
    case.copy_model("same");
    let args = [&["--model", "same"], &ROWS[2..], &drawn, &["--batch-size", "1"]].concat();
    assert_eq!(generate(&case, &args).noted().1, ["out.jsonl: resuming after 1 of 1 rows"]);
    let longer = [&ROWS[..6], &["--max-new-tokens", "17"], &drawn[..]].concat();
    generate(&case, &longer).refused(3, &format!("out.jsonl:1: {OTHER}"));
    case.write("rows.jsonl", "{\"input_ids\": [5, 7]}\n");
    generate(&case, &[&ROWS[..], &drawn].concat()).refused(3, &format!("out.jsonl:1: {OTHER}"));
}

/// What has no line break is a torn row only where it begins as a row would.
#[test]
fn other_files_are_not_written_over() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    for precious in ["{\"precious\": 1}", "{\"row\": 1, \"text\": \"mine\"}", "{\"row\":1,\"text\":\"mine\"}", "x"] {
        case.write("out.jsonl", precious);
        generate(&case, &ROWS).refused(3, &format!("out.jsonl:1: {OTHER}"));
        assert_eq!(case.read("out.jsonl"), precious.as_bytes());
    }
    let same = ["--model", "model", "--data", "rows.jsonl", "-o", "./rows.jsonl", "--overwrite"];
    let why = "-o ./rows.jsonl: the command reads this file, and would write over it; name another";
    generate(&case, &same).refused(2, why);
    assert_eq!(case.read("rows.jsonl"), prompts().as_bytes());
}

#[test]
fn seeds_draw_and_rows_draw_apart() {
    let case = Case::ids();
    case.write("rows.jsonl", "{\"input_ids\": [9, 10]}\n".repeat(3));
    let run = |seed: &str| {
        generate(&case, &[&ROWS[..], &["--temperature", "2", "--seed", seed, "--overwrite"]].concat()).noted();
        lines(&case, "out.jsonl").into_iter().map(|row| row["ids"].clone()).collect::<Vec<_>>()
    };
    let (one, two) = (run("1"), run("2"));
    assert!(one[0] != one[1] && one[1] != one[2] && one[0] != two[0], "{one:?} {two:?}");
    assert_eq!(run("1"), one);
}

/// Prompts by every way give one text; rows of text have theirs, and its target.
#[test]
fn text_comes_from_everywhere() {
    let case = Case::text();
    let tail = ["--model", "model", "--max-new-tokens", "12"];
    let (text, notes) = generate(&case, &[&["--prompt", "int a;"], &tail[..]].concat()).noted();
    assert!(text.len() > 1 && text.ends_with('\n'), "{text:?}");
    assert!(notes[0].contains(" tokens, ") && notes[0].contains(" tokens/s on cpu with "), "{notes:?}");
    case.write("a.java", "int a;");
    assert_eq!(generate(&case, &[&["--file", "a.java"], &tail[..]].concat()).noted().0, text);
    let mut child = case.command(&[&["generate", "--device", "cpu"], &tail[..]].concat(), &[]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"int a;").expect("writes");
    assert_eq!(child.wait_with_output().expect("ends").stdout, text.as_bytes());

    let data = [&["--data", "train.jsonl", "-o", "out.jsonl"], &tail[..]].concat();
    generate(&case, &data).noted();
    let row = &lines(&case, "out.jsonl")[0];
    assert_eq!((&row["text"], &row["target"]), (&json!(text[..text.len() - 1]), &json!("long b = a;")));
    // the template of a task, from a file and from rows without a target
    case.write("code.jsonl", "{\"code\": \"int a;\"}\n");
    let task = [&tail[..], &["--task", "translation"]].concat();
    let asked = generate(&case, &[&["--file", "a.java"], &task[..]].concat()).noted().0;
    generate(&case, &[&["--data", "code.jsonl", "-o", "code.out"], &task[..]].concat()).noted();
    let row = &lines(&case, "code.out")[0];
    assert_eq!((&row["text"], &row["target"]), (&json!(asked[..asked.len() - 1]), &json!("")));
    assert_ne!(asked, text);
    // two parallel files
    case.write("b.java", "int a;\n");
    case.write("b.cs", "int b;\n");
    generate(&case, &[&["--data", "b.java", "b.cs", "-o", "b.out"], &tail[..]].concat()).noted();
    let row = &lines(&case, "b.out")[0];
    assert_eq!((&row["text"], &row["target"]), (&json!(text[..text.len() - 1]), &json!("int b;")));
}

#[test]
fn a_stop_string_ends_a_text_before_itself() {
    let case = Case::text();
    let run = |more: &[&str]| {
        let args = ["--model", "model", "--prompt", "int a;", "--max-new-tokens", "24"];
        let text = generate(&case, &[&args[..], more].concat()).noted().0;
        text.strip_suffix('\n').expect("a line").to_string()
    };
    let text = run(&[]);
    // from the middle of a token to the middle of another, wherever tokens end
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let stop = &text[places[places.len() / 3]..places[places.len() / 3 + 3]];
    let at = text.find(stop).expect("it is there");
    assert_eq!(run(&["--stop", stop]), text[..at]);
    assert_eq!(run(&["--stop", "no such text", "--stop", stop]), text[..at]);
}

#[test]
fn an_adapter_changes_what_is_generated() {
    let case = Case::ids();
    case.train(&["train.max_steps=30"]).trained();
    case.write("rows.jsonl", prompts());
    generate(&case, &ROWS).noted();
    let plain = lines(&case, "out.jsonl");
    generate(&case, &[&ROWS[..], &["--adapter", "out", "--overwrite"]].concat()).noted();
    let adapted = lines(&case, "out.jsonl");
    assert_ne!(plain[0]["ids"], adapted[0]["ids"]);
    // merged it says the same
    case.run(&["export", "--model", "model", "--adapter", "out", "--merge", "-o", "merged"], &[]).trained();
    generate(&case, &[&["--model", "merged"], &ROWS[2..], &["--overwrite"]].concat()).noted();
    assert_eq!(lines(&case, "out.jsonl"), adapted);
}

#[test]
fn refusals() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    let refused = |more: &[&str], code, why: &str| generate(&case, &[&ROWS[..], more].concat()).refused(code, why);
    let draw = "has no effect on greedy decoding; add --temperature 1, or omit it";
    refused(&["--top-k", "3"], 2, &format!("--top-k {draw}"));
    refused(&["--top-p", "0.5"], 2, &format!("--top-p {draw}"));
    refused(&["--seed", "0"], 2, &format!("--seed {draw}"));
    refused(
        &["--temperature", "-1"],
        2,
        "--temperature -1 is out of range; give a number above 0, or 0 for greedy decoding",
    );
    refused(
        &["--temperature", "nan"],
        2,
        "--temperature NaN is out of range; give a number above 0, or 0 for greedy decoding",
    );
    for p in ["0", "1.5", "NaN"] {
        let why = format!("--top-p {p} is out of range; give a probability above 0 and at most 1");
        refused(&["--temperature", "1", "--top-p", p], 2, &why);
    }
    let why = "--repetition-penalty 0 is out of range; give a number above 0; 1 is no penalty";
    refused(&["--repetition-penalty", "0"], 2, why);
    refused(&["--stop", ""], 2, "--stop is empty, so every text would end at once; give the text to stop at");
    refused(&["--stop", "x"], 3, "model: there is no tokenizer.json, which --stop requires; omit --stop");
    let why =
        "adapter_config.json: there is no such file; give the directory of an adapter as PEFT saves it, in safetensors";
    refused(&["--adapter", "model"], 3, &format!("model/{why}"));
    for (args, start) in [
        (&["--data", "rows.jsonl"][..], "the following required arguments were not provided"),
        (&["-o", "x"], "the following required arguments were not provided"),
        (&["--prompt", "a", "--file", "b"], "the argument '--prompt <TEXT>' cannot be used with '--file <FILE>'"),
        (
            &["--prompt", "a", "--task", "rhyme"],
            "invalid value 'rhyme' for '--task <TASK>': choose one of none, completion,",
        ),
        (&["--prompt", "a", "--max-new-tokens", "0"], "invalid value '0' for '--max-new-tokens <N>'"),
    ] {
        let ran = generate(&case, &[&["--model", "model"], args].concat());
        assert!(ran.code == Some(2) && ran.stderr.starts_with(&format!("eyekern: {start}")), "{}", ran.stderr);
    }
    let why = "there is no tokenizer.json, which text prompts require; add the model's tokenizer.json, or give --data \
               with rows of `input_ids`";
    generate(&case, &["--model", "model", "--prompt", "a"]).refused(3, &format!("model: {why}"));
    let text = Case::text();
    let generate_text = |args: &[&str]| generate(&text, &[&["--model", "model"], args].concat());
    generate_text(&["--prompt", ""]).refused(3, "--prompt: the prompt is empty; give a text to continue");
    generate_text(&[]).refused(3, "standard input: the prompt is empty; give a text to continue");
    text.write("bad.txt", b"ab\xff");
    generate_text(&["--file", "bad.txt"]).refused(3, "bad.txt: not UTF-8 (at byte 3); save the file as UTF-8");
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let case = Case::empty();
    models::gpt2(&case.path("model"), "", 20);
    case.write("rows.jsonl", "{\"input_ids\": [1]}\n{\"input_ids\": [1, 2, 3, 4, 5]}\n");
    let exceed = "a prompt of 5 tokens and --max-new-tokens 16 exceed the 20 positions of the model";
    generate(&case, &ROWS).refused(3, &format!("rows.jsonl:2: {exceed}; lower --max-new-tokens to 15"));
    case.write("rows.jsonl", "{\"input_ids\": [1]}\n{\"input_ids\": [1, 2, 3, 4]}\n");
    generate(&case, &ROWS).noted();
}

#[test]
fn texts_behind_the_known_positions_are_noted() {
    let case = Case::text();
    case.configure("model", "max_position_embeddings", json!(64));
    let prompt = "int a; ".repeat(20);
    let (_, notes) = generate(&case, &["--model", "model", "--prompt", &prompt, "--max-new-tokens", "9"]).noted();
    let n: usize = notes[0].split_whitespace().nth(3).and_then(|n| n.parse().ok()).expect("a number");
    assert!(n > 55, "{notes:?}");
    let said = format!(
        "a prompt of {n} tokens and --max-new-tokens 9 exceed the 64 positions that the model was made for; text \
         beyond them may be poor"
    );
    assert_eq!((notes.len(), &notes[0]), (2, &said));
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    models::edit(&case.path("model/model.safetensors"), |tensors| {
        let norm = &tensors["model.norm.weight"];
        let broken = models::Tensor::f32(&norm.shape, &vec![f32::NAN; norm.shape[0]]);
        tensors.insert("model.norm.weight".into(), broken);
    });
    let why = "the model's logits are not finite after 7 tokens of row 1; is the checkpoint or the adapter damaged?";
    generate(&case, &ROWS).stopped(3, &format!("model: {why}"));
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_cannot_be_made_is_an_error() {
    let case = Case::ids();
    case.write("rows.jsonl", prompts());
    let ran = generate(&case, &["--model", "model", "--data", "rows.jsonl", "-o", "nowhere/out.jsonl"]);
    ran.refused(3, "nowhere/out.jsonl: cannot create: No such file or directory (os error 2)");
}
