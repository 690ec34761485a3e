use super::*;
use crate::data::samples::*;
use crate::data::tokenizer::Tokenizer;

const N: u32 = IGNORE;

fn reading() -> Reading {
    Reading { max_length: 100, ..Reading::default() }
}

fn read_with(tokenizer: &Tokenizer, reading: &Reading, line: &str) -> Result<Row, String> {
    RowReader { tokenizer: Some(tokenizer), vocab: 512, reading, keep_texts: false, open: false }.json(line)
}

fn read(line: &str) -> Example {
    read_with(&plain(), &reading(), line).unwrap().example
}

fn why(line: &str) -> String {
    read_with(&plain(), &reading(), line).unwrap_err()
}

fn roles(example: &Example) -> Vec<(f32, bool)> {
    example.weights.iter().copied().zip(example.path.iter().copied()).collect()
}

#[test]
fn prompt_and_completion_are_joined() {
    let line = r#"{"prompt": "a i", "completion": "nt x", "weights": [[0, 2, 2.5, true]], "id": 1}"#;
    let example = read(line);
    // "i" and "nt" remain separate, because the two strings are tokenised separately
    assert_eq!(example.ids, [97, 32, 105, 110, 116, 32, 120, EOS]);
    assert_eq!(example.labels, [N, N, N, 110, 116, 32, 120, EOS]);
    assert_eq!(roles(&example)[3..], [(2.5, true), (2.5, true), (1.0, false), (1.0, false), (1.0, false)]);
    let weighted = Reading { prompt_weight: Some(0.25), ..reading() };
    let row = read_with(&plain(), &weighted, line).unwrap();
    assert_eq!(row.example.labels, [97, 32, 105, 110, 116, 32, 120, EOS]);
    assert_eq!(roles(&row.example)[..4], [(0.25, false), (0.25, false), (0.25, false), (2.5, true)]);
    assert_eq!((row.example.prompt, row.example.answer_at().next()), (3, Some(3)));
    assert_eq!((example.prompt, example.answer_at().next()), (0, Some(3)));
}

#[test]
fn a_row_has_a_weight_of_its_own() {
    let row = |more: &str| read(&format!(r#"{{"prompt": "a", "completion": "xyz", {more}}}"#));
    let spans = r#""weights": [[0, 1, 2.5, true], [1, 2, -1]]"#;
    // of each token without a span, of EOS, and times that of a span
    let example = row(&format!(r#""weight": 0.5, {spans}"#));
    assert_eq!(roles(&example)[1..], [(1.25, true), (-0.5, false), (0.5, false), (0.5, false)]);
    assert_eq!(row(&format!(r#""weight": 1, {spans}"#)), row(spans));
    assert_eq!(row(r#""weight": null"#), row(r#""id": 3"#));
    // the prompt has one of its own, and the row's goes before the recipe's
    let example = row(r#""weight": 3, "prompt_weight": 0.25"#);
    assert_eq!((example.labels[0], example.prompt), (97, 1));
    assert_eq!(roles(&example), [(0.25, false), (3.0, false), (3.0, false), (3.0, false), (3.0, false)]);
    let weighted = Reading { prompt_weight: Some(7.0), ..reading() };
    let of = |line: &str| read_with(&plain(), &weighted, line).unwrap().example.weights[0];
    assert_eq!(of(r#"{"instruction": "i", "output": "o", "weight": 2, "prompt_weight": 0}"#), 0.0);
    assert_eq!(of(r#"{"code": "a", "content": "b", "weight": 2}"#), 7.0);
}

#[test]
fn only_the_first_text_gets_the_mark_of_a_word() {
    let ids = |line: &str| read_with(&metaspace(), &reading(), line).unwrap().example.ids;
    assert_eq!(ids(r#"{"prompt": "x", "completion": "x x"}"#), [1, 5, 4, 5, 2]);
    assert_eq!(ids(r#"{"prompt": "x", "completion": " x"}"#), [1, 5, 5, 2]);
    assert_eq!(ids(r#"{"prompt": "", "completion": "x x"}"#), [1, 5, 5, 2]);
}

#[test]
fn a_leading_space_belongs_to_its_word() {
    let line = r#"{"prompt": "", "completion": "x int", "weights": [[0, 1, 4], [2, 5, 3, true]]}"#;
    for trim in [true, false] {
        let tokenizer = Tokenizer::from_bytes(&byte_level(trimming(trim)), Some("</s>")).unwrap();
        let example = read_with(&tokenizer, &reading(), line).unwrap().example;
        assert_eq!(example.ids, [120, 258, EOS]);
        assert_eq!(roles(&example), [(4.0, false), (3.0, true), (1.0, false)]);
    }
    let line = r#"{"prompt": "", "completion": "y x y", "weights": [[0, 1, 4], [2, 3, 3, true]]}"#;
    let example = read_with(&metaspace(), &reading(), line).unwrap().example;
    // <s>, the marker before the first word together with that word, "▁x", the marker of a space that no span
    // covers
    assert_eq!(example.ids, [1, 3, 6, 5, 3, 6, 2]);
    assert_eq!(example.weights[1..], [4.0, 4.0, 3.0, 1.0, 1.0, 1.0]);
    assert_eq!(example.path, [false, false, false, true, false, false, false]);
}

#[test]
fn characters_of_several_bytes_keep_their_weight() {
    let example = read(
        r#"{"prompt": "", "completion": "🙂=é漢", "weights": [[0, 1, 2], [1, 2, -1], [2, 3, 0]], "path": [[1, 3]]}"#,
    );
    assert_eq!(example.ids, [260, 208, 209, 61, 201, 202, 203, 204, 205, EOS]);
    assert_eq!(example.weights, [2.0, 2.0, 2.0, -1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let on_path: Vec<usize> = (0..10).filter(|&t| example.path[t]).collect();
    assert_eq!(on_path, [3, 4, 5]);
}

#[test]
fn bos_is_never_doubled() {
    let first = |line: &str| read_with(&with_bos(), &reading(), line).unwrap().example;
    let example = first(r#"{"prompt": "a", "completion": "b"}"#);
    assert_eq!((example.ids, example.labels), (vec![BOS, 97, 98, EOS], vec![N, N, 98, EOS]));
    assert_eq!(first(r#"{"prompt": "<s>a", "completion": "b"}"#).ids, [BOS, 97, 98, EOS]);
    assert_eq!(first(r#"{"prompt": "", "completion": "<s>b"}"#).ids, [BOS, 98, EOS]);
    assert_eq!(first(r#"{"segments": [{"text": ""}, {"text": "a"}]}"#).ids, [BOS, 97, EOS]);
    assert_eq!(first(r#"{"segments": [{"text": "<s>a", "train": false}]}"#).ids, [BOS, 97]);
    assert_eq!(first(r#"{"input_ids": [97, 98]}"#).ids, [97, 98]);
}

#[test]
fn segments_are_tokenised_apart() {
    let learned = r#"{"text": "nt", "weight": -0.5, "path": true}"#;
    let example = read(&format!(r#"{{"segments": [{{"text": "i", "train": false}}, {learned}, {{"text": "x"}}]}}"#));
    assert_eq!(example.ids, [105, 110, 116, 120, EOS]);
    assert_eq!(example.labels, [N, 110, 116, 120, EOS]);
    assert_eq!(roles(&example)[1..], [(-0.5, true), (-0.5, true), (1.0, false), (1.0, false)]);
    let example = read(r#"{"segments": [{"text": "x", "weight": null}, {"text": "a", "train": 0}]}"#);
    assert_eq!((example.ids, example.labels), (vec![120, 97], vec![120, N]));
}

#[test]
fn tokens_are_taken_as_given() {
    let roles = r#""weights": [1, 0, 2.5], "path": [0, 1, true]"#;
    let example = read(&format!(r#"{{"input_ids": [5, 6, 7], "labels": [-100, 8, 7], {roles}, "prompt": 3}}"#));
    let expected = Example {
        row: 0,
        ids: vec![5, 6, 7],
        labels: vec![N, 8, 7],
        weights: vec![1.0, 0.0, 2.5],
        path: vec![false, true, true],
        prompt: 0,
    };
    assert_eq!(example, expected);
    assert_eq!(read(r#"{"input_ids": [5, 6]}"#).labels, [5, 6]);
}

#[test]
fn code_goes_through_the_task() {
    let translation = Reading { task: Task::Translation, ..reading() };
    let template = "### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\na\n\n### Output:\n";
    let reader =
        RowReader { tokenizer: Some(&plain()), vocab: 512, reading: &translation, keep_texts: false, open: false };
    let spelled = serde_json::json!({"prompt": template, "completion": "x"}).to_string();
    let expected = reader.json(&spelled).unwrap().example;
    assert_eq!(reader.json(r#"{"code": "a", "content": "x"}"#).unwrap().example, expected);
    assert_eq!(reader.lines("a", "x").unwrap().example, expected);
    // without a task, the prompt is the code
    assert_eq!(read(r#"{"code": "a", "content": "x"}"#).ids, [97, 120, EOS]);
    // the spans of a row that was cut in two count from the target's start
    let completion = Reading { task: Task::Completion, ..reading() };
    let line = r#"{"code": "a\nxyz\n", "content": "a\nxyz", "weights": [[1, 2, 7]]}"#;
    let row = read_with(&plain(), &completion, line).unwrap();
    assert!(row.before.is_some());
    assert!(row.example.ids.ends_with(&[120, 121, 122, EOS]));
    assert!(row.example.weights.ends_with(&[1.0, 7.0, 1.0, 1.0]));
}

#[test]
fn long_rows_are_cut() {
    let short = Reading { max_length: 3, ..reading() };
    let row = read_with(&plain(), &short, r#"{"prompt": "ab", "completion": "xy"}"#).unwrap();
    assert_eq!(row.cut, 2);
    assert_eq!((row.example.ids, row.example.labels), (vec![97, 98, 120], vec![N, N, 120]));
    assert_eq!((row.example.weights.len(), row.example.path.len()), (3, 3));
    assert_eq!(read_with(&plain(), &short, r#"{"prompt": "a", "completion": "x"}"#).unwrap().cut, 0);
}

#[test]
fn bad_rows_are_named() {
    let forms = "give `prompt` and `completion`, `code` (and `content`), `messages`, `instruction` and `output`, \
                 `segments`, or `input_ids`";
    assert_eq!(why("{}"), format!("no text to train on: the row has no keys; {forms}"));
    let line = r#"{"text": "a", "id": 3}"#;
    assert_eq!(why(line), format!("no text to train on: the row has `text`, `id`; {forms}"));
    let line = r#"{"prompt": "a", "target": "b"}"#;
    assert_eq!(why(line), format!("`completion` is missing: the row has `prompt`, `target`; {forms}"));
    let line = r#"{"prompt": null, "completion": "b"}"#;
    assert_eq!(why(line), format!("`prompt` is missing: the row has `prompt`, `completion`; {forms}"));
    let outside = "is outside the model's vocabulary of 512; use the tokenizer that belongs to the model";
    for (line, expected) in [
        (r#"{"prompt": 3, "completion": "b"}"#, "`prompt` must be a string, not 3"),
        (r#"{"code": "a"}"#, "`content` is missing; the task `none` needs it as the target for `code`"),
        (r#"{"segments": "a"}"#, "`segments` must be a list of {\"text\", \"weight\", \"train\", \"path\"}"),
        (r#"{"segments": ["a"]}"#, "`segments`[0]: an object with a `text` is needed"),
        (r#"{"segments": [{"text": "a"}, {"train": true}]}"#, "`segments`[1]: `text` is missing"),
        (r#"{"segments": [{"text": 1}]}"#, "`segments`[0]: `text` must be a string, not 1"),
        (r#"{"segments": [{"text": "a", "train": "no"}]}"#, "`segments`[0]: `train` must be true or false"),
        (r#"{"segments": [{"text": "", "weight": NaN}]}"#, "`segments`[0]: the weight NaN is not a finite number"),
        (
            r#"{"segments": [{"text": "a"}], "weights": [[0, 1, 5.0]]}"#,
            "the row has `weights`, which has no effect on `segments`; drop it, and give a segment a `weight` or \
             `path` of its own",
        ),
        (
            r#"{"input_ids": [4], "weight": 2}"#,
            "the row has `weight`, which has no effect on `input_ids`; drop it, and give each token a weight in \
             `weights`",
        ),
        (
            r#"{"messages": [], "prompt_weight": 2}"#,
            "the row has `prompt_weight`, which has no effect on `messages`; drop it, and give an answer a \
             `weight` of its own",
        ),
        (r#"{"prompt": "a", "completion": "b", "weight": [2]}"#, "`weight`: the weight a list is not a finite number"),
        (
            r#"{"prompt": "a", "completion": "b", "prompt_weight": "x"}"#,
            "`prompt_weight`: the weight \"x\" is not a finite number",
        ),
        (
            r#"{"prompt": "a", "completion": "b", "weight": 1e30, "weights": [[0, 1, 1e30]]}"#,
            "`weight` 1e30 times 1e30 of `weights` is no number of 32 bits; scale them down",
        ),
        (r#"{"input_ids": 4}"#, "`input_ids` must be a list with one entry per token, not 4"),
        (r#"{"input_ids": [4, -1]}"#, "`input_ids`[1] is -1, not a token id"),
        (r#"{"input_ids": [4, 4], "labels": [4, -1]}"#, "`labels`[1] is -1, neither a token id nor -100"),
        (r#"{"input_ids": [4], "weights": [NaN]}"#, "`weights`[0]: the weight NaN is not a finite number"),
        (r#"{"input_ids": [4], "path": [2]}"#, "`path`[0] is 2, neither 0 nor 1"),
        (
            r#"{"input_ids": [4, 5], "labels": [4]}"#,
            "`labels` has length 1 and `input_ids` 2; give one entry per token",
        ),
        (r#"{"input_ids": [1, 2, 3, 600]}"#, &format!("id 600 at position 3 {outside}")),
        (r#"{"input_ids": [1, 2], "labels": [-100, 512]}"#, &format!("label 512 at position 1 {outside}")),
    ] {
        assert_eq!(why(line), expected);
    }
    let small =
        RowReader { tokenizer: Some(&plain()), vocab: 300, reading: &reading(), keep_texts: false, open: false };
    assert!(small.lines("a", "b").unwrap_err().starts_with("id 301 (`</s>`) at position 2 is outside"));
    let none = RowReader { tokenizer: None, ..small };
    assert!(none.json(r#"{"input_ids": [1, 2]}"#).is_ok());
    assert_eq!(
        none.lines("a", "b").unwrap_err(),
        "the row is text and there is no tokenizer; put tokenizer.json beside the model, name one \
         (model.tokenizer), or give `input_ids`"
    );
}
