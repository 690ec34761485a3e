//! Data that cannot be trained on.

use crate::{Case, id_rows};

const GOOD: &str = "{\"input_ids\": [3, 4, 5]}";

/// A row of ids on line 3, behind a good one and a blank line.
fn row(line: &str, why: &str) {
    let case = Case::ids();
    case.write("train.jsonl", format!("{GOOD}\n\n{line}\n"));
    case.train(&[]).refused(3, &format!("train.jsonl:3: {why}"));
}

/// A row of text, alone, for a model with a tokenizer.
fn text(line: &str, why: &str) {
    let case = Case::text();
    case.write("train.jsonl", line);
    case.train(&[]).refused(3, &format!("train.jsonl:1: {why}"));
}

/// A whole file.
fn file(content: &str, why: &str) {
    let case = Case::ids();
    case.write("train.jsonl", content);
    case.train(&[]).refused(3, &format!("train.jsonl: {why}"));
}

#[test]
fn missing_file() {
    let why = "there is no such file; give the path of a JSONL file, or of two parallel text files";
    Case::ids().train(&["data.train_file=nope.jsonl"]).refused(3, &format!("nope.jsonl: {why}"));
}

#[test]
fn missing_validation_file() {
    let why = "there is no such file; give the path of a JSONL file, or of two parallel text files";
    Case::ids().train(&["data.validation_file=nope.jsonl"]).refused(3, &format!("nope.jsonl: {why}"));
}

#[test]
fn directory_as_file() {
    Case::ids().train(&["data.train_file=model"]).refused(3, "model: cannot read: Is a directory (os error 21)");
}

#[test]
fn empty_file() {
    file("", "the file holds no rows; write one example per line");
}

#[test]
fn blank_lines_only() {
    file("\n \n\n", "the file holds no rows; write one example per line");
}

#[test]
fn no_row_with_supervision() {
    file(
        "{\"input_ids\": [3, 4], \"labels\": [3, -100]}\n{\"input_ids\": [3]}\n",
        "no row has a supervised token (rows: 2, of them cut at max_length 1024: 0); check `labels` and `train`",
    );
}

#[test]
fn no_supervision_left_by_the_cut() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5], \"labels\": [-100, -100, 5]}\n");
    let why = "no row has a supervised token (rows: 1, of them cut at max_length 2: 1); raise max_length";
    case.train(&["data.max_length=2"]).refused(3, &format!("train.jsonl: {why}"));
}

#[test]
fn wrong_json() {
    row(
        "{\"input_ids\": [3, 4}",
        "not valid JSON (expected `,` or `]` at column 20); each line must hold one whole object {...}",
    );
}

#[test]
fn json_cut_short() {
    row(
        "{\"input_ids\": [3, 4",
        "not valid JSON (EOF while parsing a list at column 19); each line must hold one whole object {...}",
    );
}

#[test]
fn list_instead_of_object() {
    row("[3, 4]", "the line begins a JSON list; write one object per line, as `jq -c '.[]' FILE` does");
}

#[test]
fn key_given_twice() {
    row("{\"input_ids\": [3, 4], \"input_ids\": [5]}", "the key `input_ids` is given twice; keep one of them");
}

#[test]
fn bytes_that_are_not_utf8() {
    let case = Case::ids();
    case.write("train.jsonl", b"{\"prompt\": \"\xe9\"}\n");
    let why = "not UTF-8 (at byte 13 of the line); save the file as UTF-8";
    case.train(&[]).refused(3, &format!("train.jsonl:1: {why}"));
}

#[test]
fn missing_key() {
    row(
        "{\"prompt\": \"a\", \"answer\": \"b\"}",
        "`completion` is missing: the row has `prompt`, `answer`; give `prompt` and `completion`, `code` (and \
         `content`), `messages`, `instruction` and `output`, `segments`, or `input_ids`",
    );
}

#[test]
fn missing_target_of_the_task() {
    let case = Case::text();
    case.write("train.jsonl", "{\"code\": \"int a;\"}\n");
    let why = "`content` is missing; the task `translation` needs it as the target for `code`";
    case.train(&["data.task=translation"]).refused(3, &format!("train.jsonl:1: {why}"));
}

#[test]
fn completion_of_a_single_word() {
    let case = Case::text();
    case.write("train.jsonl", "{\"code\": \"int\"}\n");
    let why =
        "`code` is a single word, which cannot be cut into a prefix and a suffix; give `content`, or drop the row";
    case.train(&["data.task=completion"]).refused(3, &format!("train.jsonl:1: {why}"));
}

#[test]
fn weight_nan() {
    row("{\"input_ids\": [3, 4], \"weights\": [1, NaN]}", "`weights`[1]: the weight NaN is not a finite number");
}

#[test]
fn weight_beyond_all_floats() {
    let why = "`weights`[1]: the weight \"1e999\" is not a finite number";
    row("{\"input_ids\": [3, 4], \"weights\": [1, 1e999]}", why);
}

#[test]
fn weight_beyond_single_precision() {
    let why = "`weights`[1]: the weight 1e+39 is not a finite number";
    row("{\"input_ids\": [3, 4], \"weights\": [1, 1e39]}", why);
}

#[test]
fn weight_as_string() {
    row("{\"input_ids\": [3, 4], \"weights\": [1, \"2\"]}", "`weights`[1]: the weight \"2\" is not a finite number");
}

#[test]
fn weight_of_a_span_not_finite() {
    text(
        "{\"prompt\": \"a\", \"completion\": \"b\", \"weights\": [[0, 1, Infinity]]}",
        "`weights`[0]: the weight Infinity is not a finite number",
    );
}

#[test]
fn lengths_that_differ() {
    for key in ["labels", "weights", "path"] {
        row(
            &format!("{{\"input_ids\": [3, 4, 5], \"{key}\": [1, 1]}}"),
            &format!("`{key}` has length 2 and `input_ids` 3; give one entry per token"),
        );
    }
}

#[test]
fn id_outside_the_vocabulary() {
    row(
        "{\"input_ids\": [3, 97]}",
        "id 97 at position 1 is outside the model's vocabulary of 97; use the tokenizer that belongs to the model",
    );
}

#[test]
fn label_outside_the_vocabulary() {
    row(
        "{\"input_ids\": [3, 4], \"labels\": [3, 4000000000]}",
        "label 4000000000 at position 1 is outside the model's vocabulary of 97; use the tokenizer that belongs to \
         the model",
    );
}

#[test]
fn negative_id() {
    row("{\"input_ids\": [3, -4]}", "`input_ids`[1] is -4, not a token id");
}

#[test]
fn span_outside_the_completion() {
    text(
        "{\"prompt\": \"a\", \"completion\": \"é b\", \"weights\": [[0, 1, 2.0], [2, 4, 2.0]]}",
        "`weights`[1]: characters 2 to 4 reach past the completion, which has 3",
    );
}

#[test]
fn spans_that_overlap() {
    text(
        "{\"prompt\": \"a\", \"completion\": \"abcd\", \"weights\": [[0, 3, 2.0], [2, 4, 1.0]]}",
        "two spans of `weights` overlap at character 2; give each character once",
    );
}

#[test]
fn segment_without_text() {
    text("{\"segments\": [{\"text\": \"a\"}, {\"weight\": 2}]}", "`segments`[1]: `text` is missing");
}

#[test]
fn text_without_a_tokenizer() {
    let why = "the row is text and there is no tokenizer; put tokenizer.json beside the model, name one \
               (model.tokenizer), or give `input_ids`";
    row("{\"prompt\": \"a\", \"completion\": \"b\"}", why);
}

/// A token beyond the model's vocabulary is refused in a row, and only there.
#[test]
fn ids_beyond_the_model() {
    let demo = format!("model.tokenizer={}/assets/demo", env!("CARGO_MANIFEST_DIR"));
    Case::ids().train(&[&demo]).trained();
    let case = Case::text();
    case.write("model/tokenizer_config.json", r#"{"eos_token": "<|endoftext|>", "pad_token": "<pad>"}"#);
    let (_, notes) = case.train(&[]).noted();
    let note = "model/tokenizer.json: ids are those of transformers, which adds tokens with their ids: `<pad>` 640";
    assert_eq!(notes[0].trim_start_matches("./"), note);
    case.write("train.jsonl", r#"{"prompt": "", "completion": "a<pad>"}"#);
    case.train(&["train.overwrite_output_dir=true"]).refused(
        3,
        "train.jsonl:1: id 640 (`<pad>`) at position 1 is outside the model's vocabulary of 640; use the tokenizer \
         that belongs to the model",
    );
}

#[test]
fn missing_tokenizer() {
    let why = "there is no such file, and a tokenizer is needed; \
               `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one";
    Case::ids().train(&["model.tokenizer=nope"]).refused(3, &format!("nope/tokenizer.json: {why}"));
}

#[test]
fn unusable_tokenizer() {
    let case = Case::ids();
    case.write("model/tokenizer.json", "[");
    let why = "not a usable tokenizer.json (not valid JSON: EOF while parsing a list at line 1 column 1); \
               `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one";
    case.train(&[]).refused(3, &format!("./model/tokenizer.json: {why}"));
}

#[test]
fn tokenizer_without_an_end() {
    let case = Case::text();
    case.write("model/tokenizer_config.json", "{}");
    let why = "no end-of-sequence token is known; name `eos_token` in tokenizer_config.json or `eos_token_id` in \
               config.json beside it";
    case.train(&[]).refused(3, &format!("./model/tokenizer.json: {why}"));
}

#[test]
fn parallel_files_of_different_length() {
    let case = Case::text();
    case.write("a.java", "int a;\nint b;\nint c;\n");
    case.write("a.cs", "long a;\nlong b;\n");
    let why = "line counts differ, 3 here and 2 in a.cs; line n of one file must belong to line n of the other";
    case.train(&["data.train_file=[\"a.java\", \"a.cs\"]"]).refused(3, &format!("a.java: {why}"));
}

#[test]
fn parallel_files_with_an_empty_line() {
    let case = Case::text();
    case.write("a.java", "int a;\nint b;\n");
    case.write("a.cs", "long a;\n\n");
    let why = "the line is empty; each line must hold one example, remove it from both files";
    case.train(&["data.train_file=[\"a.java\", \"a.cs\"]"]).refused(3, &format!("a.cs:2: {why}"));
}

#[test]
fn positions_exceeded() {
    let case = Case::ids();
    crate::models::gpt2(&case.path("gpt2"), "transformer.", 10);
    let why = "examples of 11 tokens exceed the model's 10 learned positions; lower data.max_length to 10";
    case.train(&["model.model_name_or_path=gpt2"]).refused(3, &format!("gpt2/config.json: {why}"));
    case.train(&["model.model_name_or_path=gpt2", "data.max_length=10"]).trained();
}

#[test]
fn window_that_acts() {
    let case = Case::ids();
    case.configure("model", "use_sliding_window", true.into());
    case.configure("model", "sliding_window", 10.into());
    let why = "a sliding window of 10 would act on examples of 11 tokens, which eyekern does not do; lower \
               data.max_length to 10";
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
    case.train(&["data.max_length=10"]).trained();
}

#[test]
fn weights_of_a_step_that_sum_to_nothing() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5], \"weights\": [1, 1, -3]}\n");
    case.train(&["objective.normalize=weights"]).stopped(
        1,
        "training stopped at step 1: the weights of the step sum to -2, by which objective.normalize = \"weights\" \
         would divide; use \"tokens\"",
    );
    case.train(&["train.output_dir=other"]).trained();
}

#[test]
fn weights_of_an_evaluation_that_sum_to_nothing() {
    let case = Case::ids();
    case.write("eval.jsonl", "{\"input_ids\": [3, 4, 5], \"weights\": [1, 1, -3]}\n");
    case.train(&["objective.normalize=weights", "data.validation_file=eval.jsonl"]).refused(
        3,
        "eval.jsonl: the mean weight is -1, and objective.normalize = \"weights\" divides by the sum, which must be \
         above 0; use \"tokens\"",
    );
}

#[test]
fn loss_that_is_not_finite() {
    let case = Case::ids();
    case.write("train.jsonl", id_rows() + "{\"input_ids\": [3, 4, 5], \"weights\": [1, 3e38, 3e38]}\n");
    case.train(&["data.shuffle=false"]).stopped(
        1,
        "training stopped at step 1: the loss is inf; it came from rows 1, 2, 3, 4, 5, 6, 7 of train.jsonl, whose \
         largest weight is 3e38; no update has been made yet, so look at those rows and at the values of the model",
    );
    assert!(!case.path("out/adapter_model.safetensors").exists());
}

#[test]
fn learning_rate_that_blows_up() {
    let case = Case::ids();
    let sets = ["train.method=full", "train.learning_rate=1e38", "train.max_steps=5", "data.shuffle=false"];
    case.train(&sets).stopped(
        1,
        "training stopped at step 2: the loss is NaN; it came from rows 1, 2, 3, 4, 5, 6 of train.jsonl, whose \
         largest weight is 2.5; lower train.learning_rate or mend those rows",
    );
    assert_eq!(case.series("out", "step"), [1.0], "what was good is on disk");
}

#[test]
fn gradient_that_is_not_finite() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5], \"weights\": [1, 1e37, 1e37]}\n");
    case.train(&[]).stopped(
        1,
        "training stopped at step 1: the gradient is not finite; lower train.learning_rate or look at the largest \
         weights of the data",
    );
}
