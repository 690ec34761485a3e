//! Reads a row of a data file as a tokenised [`Example`]. Errors are sentences about the row; `corpus` adds its place.

use serde_json::Value;

use super::cut::Unit;
use super::json::{self, Object, given, list, text, token};
use super::row::{Row, Words};
use super::source::Reading;
use super::template::{self, Task};
use super::tokenizer::{Piece, Tokenizer};
use super::weights::drawn::{Look, Texts, Weighs};
use super::weights::given::Spans;
use super::weights::recorded;
use super::{Example, IGNORE};
use crate::salience::syntax::{Language, Parsed};

/// The settings that are common to all rows.
pub(crate) struct RowReader<'a> {
    pub tokenizer: Option<&'a Tokenizer>,
    /// Vocabulary size of the model.
    pub vocab: usize,
    pub reading: &'a Reading,
    /// Whether rows keep their texts ([`Row::words`]), for display and comparison.
    pub keep_texts: bool,
    /// Whether a row may lack its target: for prompts that are continued.
    pub open: bool,
}

/// The keys of a text row that give the weights of its completion.
#[derive(Clone, Copy, Default)]
struct Marks<'a> {
    weights: Option<&'a Value>,
    path: Option<&'a Value>,
    lang: Option<Language>,
    /// Columns of the published data: mask, n-gram, label.
    recorded: Option<[&'a Value; 3]>,
}

impl Marks<'_> {
    /// The key that is present.
    fn key(&self) -> Option<&'static str> {
        self.weights.and(Some("weights")).or(self.path.and(Some("path")))
    }

    /// Refuses these keys in rows whose form has no single completion.
    fn refuse(&self, form: &str, remedy: &str) -> Result<(), String> {
        match self.key() {
            Some(key) => Err(format!("the row has `{key}`, which has no effect on `{form}`; drop it, and {remedy}")),
            None => Ok(()),
        }
    }
}

impl RowReader<'_> {
    /// Reads one line of JSONL. Its form follows from its keys: `input_ids`, else `segments`, else `messages`, else
    /// `instruction` and `output`, else `prompt` and `completion`, else `code`.
    pub(crate) fn json(&self, line: &str) -> Result<Row, String> {
        let mut row = json::object(line)?;
        if self.open {
            leave_open(&mut row, self.reading.task, self.reading.cutting.unit != Unit::Half);
        }
        let reads_code = self.reading.paths.is_some() || self.reading.cutting.unit != Unit::Half;
        let lang = match text(&row, "lang") {
            Ok(Some(name)) if reads_code => Some(name.parse().map_err(|e| format!("`lang`: {e}"))?),
            Err(why) if reads_code => return Err(why),
            _ => None,
        };
        let asked = self.reading.paths.is_some_and(|paths| paths.recorded);
        let recorded = if asked { recorded::columns(&row) } else { None };
        let marks = Marks { weights: given(&row, "weights"), path: given(&row, "path"), lang, recorded };
        if let Some(ids) = given(&row, "input_ids") {
            self.tokens(&row, ids)
        } else if let Some(segments) = given(&row, "segments") {
            marks.refuse("segments", "give a segment a `weight` or `path` of its own")?;
            self.segments(segments)
        } else if let Some(messages) = given(&row, "messages") {
            marks.refuse("messages", "give an answer a `weight` of its own")?;
            self.messages(messages, &row)
        } else if let (Some(instruction), Some(output)) = (text(&row, "instruction")?, text(&row, "output")?) {
            let input = text(&row, "input")?.unwrap_or_default();
            let prompt = template::alpaca(instruction, input);
            let texts = Texts { code: &prompt, target: output, at: None, continues: true, lang };
            let mut read = self.text(&prompt, texts, marks)?;
            if let Some(words) = &mut read.words {
                words.source = format!("{instruction}\n{input}");
            }
            Ok(read)
        } else if let (Some(prompt), Some(completion)) = (text(&row, "prompt")?, text(&row, "completion")?) {
            let texts = Texts { code: prompt, target: completion, at: None, continues: true, lang };
            self.text(prompt, texts, marks)
        } else if let Some(code) = text(&row, "code")? {
            self.pair(code, text(&row, "content")?, marks)
        } else {
            Err(missing(&row))
        }
    }

    /// Reads a source line and its target line.
    pub(crate) fn lines(&self, source: &str, target: &str) -> Result<Row, String> {
        self.pair(source, Some(target), Marks::default())
    }

    fn pair(&self, code: &str, content: Option<&str>, marks: Marks) -> Result<Row, String> {
        let pair = template::pair(self.reading.task, code, content, &self.reading.cutting, marks.lang)?;
        let (at, continues) = (pair.at, pair.continues);
        let texts = Texts { code, target: &pair.completion, at, continues, lang: marks.lang };
        let row = self.text(&pair.prompt, texts, marks)?;
        Ok(Row { before: pair.before, ..row })
    }

    /// BOS (if there is one) prompt completion EOS. The two texts are tokenised separately, so that the tokens in front
    /// of the completion are exactly those that generation starts from. A completion behind a prompt gets no mark of a
    /// first word, so that the ids decode to both texts end to end.
    fn text(&self, prompt: &str, texts: Texts, marks: Marks) -> Result<Row, String> {
        let tokenizer = self.tokenizer()?;
        let completion = texts.target;
        let spans = Spans::read(completion, marks.weights, marks.path)?;
        let head = tokenizer.encode(prompt).map_err(|e| e.to_string())?;
        let tail = if head.is_empty() { tokenizer.encode(completion) } else { tokenizer.encode_behind(completion) };
        let tail = tail.map_err(|e| e.to_string())?;
        let words = self.keep_texts.then(|| {
            let mut words = Words {
                source: texts.code.to_string(),
                target: completion.to_string(),
                looked_at: self.reading.paths.as_ref().map(|paths| paths.looked_at(texts).0.into_owned()),
                lang: texts.lang,
                ..Words::default()
            };
            words.places.extend(tokenizer.missing_bos(head.first().or(tail.first()).map(|p| p.id)).map(|_| 0..0));
            words.add(prompt, &head);
            words.add(completion, &tail);
            words.end();
            words
        });
        let mut example = Example::default();
        if let Some(bos) = tokenizer.missing_bos(head.first().or(tail.first()).map(|p| p.id)) {
            push(&mut example, bos, IGNORE, 1.0, false);
        }
        let prompt_weight = self.reading.prompt_weight;
        for piece in head {
            let label = if prompt_weight.is_some() { piece.id } else { IGNORE };
            push(&mut example, piece.id, label, prompt_weight.unwrap_or(1.0), false);
        }
        if prompt_weight.is_some() {
            example.prompt = example.ids.len() as u32;
        }
        let (look, parsed) = self.look(texts, marks, example.ids.len(), &tail)?.unzip();
        for piece in tail {
            let (weight, on_path) = spans.at(completion, piece);
            push(&mut example, piece.id, piece.id, weight, on_path);
        }
        push(&mut example, tokenizer.eos(), tokenizer.eos(), 1.0, false);
        Ok(Row { look, parsed: parsed.flatten(), words, ..self.finish(example)? })
    }

    /// The code that a scan path is drawn through, for a completion in `tail` after `head` tokens, and how it parsed;
    /// `None` unless weights are drawn.
    fn look(
        &self, texts: Texts, marks: Marks, head: usize, tail: &[Piece],
    ) -> Result<Option<(Look, Option<Parsed>)>, String> {
        let Some(paths) = &self.reading.paths else { return Ok(None) };
        if let Some(key) = marks.key() {
            return Err(format!(
                "the row has `{key}` of its own, and the recipe draws weights from scan paths; drop `{key}`, or unset \
                 salience.condition"
            ));
        }
        let (Look { spans, by, .. }, parsed) = paths.look(texts, tail)?;
        let mut by: Vec<Weighs> = std::iter::repeat_n(Weighs::Given, head).chain(by).chain([paths.end()]).collect();
        by.truncate(self.reading.max_length);
        let recorded = marks.recorded.map(recorded::read).transpose()?;
        Ok(Some((Look { spans, by, recorded }, parsed)))
    }

    /// Refuses to draw weights for rows that bring their own.
    pub(super) fn refuse_drawn(&self, form: &str) -> Result<(), String> {
        let why = "carry weights of their own, and the recipe draws them from scan paths; give `code` and `content`, \
                   or unset salience.condition";
        if self.reading.paths.is_some() { Err(format!("rows of `{form}` {why}")) } else { Ok(()) }
    }

    /// Tokens as given; nothing is added.
    fn tokens<'a>(&self, row: &'a Object, ids: &'a Value) -> Result<Row, String> {
        self.refuse_drawn("input_ids")?;
        let ids = list("input_ids", ids)?;
        let column = |key| {
            let values = given(row, key).map(|values| list(key, values)).transpose()?;
            match (values.map_or(ids.len(), <[Value]>::len), ids.len()) {
                (here, all) if here == all => Ok(values),
                (here, all) => {
                    Err(format!("`{key}` has length {here} and `input_ids` {all}; give one entry per token"))
                }
            }
        };
        let (labels, weights, path) = (column("labels")?, column("weights")?, column("path")?);
        let mut example = Example::default();
        for (at, value) in ids.iter().enumerate() {
            let entry = |column: Option<&'a [Value]>| column.and_then(|values| values.get(at));
            let wrong = |key, what, value| Err(format!("`{key}`[{at}] is {}, {what}", json::brief(value)));
            let Some(id) = token(value) else { return wrong("input_ids", "not a token id", value) };
            let label = entry(labels).unwrap_or(value);
            let ignored = (label.as_i64() == Some(-100)).then_some(IGNORE);
            let Some(label) = ignored.or(token(label)) else {
                return wrong("labels", "neither a token id nor -100", label);
            };
            let weight = entry(weights).map_or(Ok(1.0), json::weight);
            let weight = weight.map_err(|why| format!("`weights`[{at}]: {why}"))?;
            let flag = entry(path).unwrap_or(&Value::Bool(false));
            let Some(on_path) = json::flag(flag) else { return wrong("path", "neither 0 nor 1", flag) };
            push(&mut example, id, label, weight, on_path);
        }
        self.finish(example)
    }

    /// Checks the ids against the model's vocabulary and truncates a row that is too long.
    pub(super) fn finish(&self, mut example: Example) -> Result<Row, String> {
        for (what, ids) in [("id", &example.ids), ("label", &example.labels)] {
            check_ids(what, ids, self.vocab, self.tokenizer)?;
        }
        let length = self.reading.max_length;
        let cut = example.ids.len().saturating_sub(length);
        example.ids.truncate(length);
        example.labels.truncate(length);
        example.weights.truncate(length);
        example.path.truncate(length);
        example.prompt = example.prompt.min(length as u32);
        Ok(Row { example, cut, ..Row::default() })
    }

    pub(super) fn tokenizer(&self) -> Result<&Tokenizer, String> {
        let why = "the row is text and there is no tokenizer; put tokenizer.json beside the model, name one \
                   (model.tokenizer), or give `input_ids`";
        self.tokenizer.ok_or_else(|| why.to_string())
    }
}

/// Refuses ids for which a model of `vocab` ids has no embedding.
pub(super) fn check_ids(what: &str, ids: &[u32], vocab: usize, tokenizer: Option<&Tokenizer>) -> Result<(), String> {
    let outside = |&(_, &id): &(usize, &u32)| id as usize >= vocab && id != IGNORE;
    let Some((at, &id)) = ids.iter().enumerate().find(outside) else { return Ok(()) };
    let spelled = tokenizer.and_then(|tokenizer| tokenizer.spelling(id));
    let spelled = spelled.map_or(String::new(), |text| format!(" (`{text}`)"));
    Err(format!(
        "{what} {id}{spelled} at position {at} is outside the model's vocabulary of {vocab}; use the tokenizer that \
         belongs to the model"
    ))
}

pub(super) fn push(example: &mut Example, id: u32, label: u32, weight: f32, on_path: bool) {
    example.ids.push(id);
    example.labels.push(label);
    example.weights.push(weight);
    example.path.push(on_path);
}

/// Gives an empty target to a row without one: without `completion`, `output`, `content`, or tokens without `labels`. A
/// row that training can read is left unchanged, whatever else it contains.
fn leave_open(row: &mut Object, task: Task, cuts: bool) {
    let ids = given(row, "input_ids").map(|ids| ids.as_array().map_or(0, Vec::len));
    // these two tasks derive the target from the code
    let own = matches!(task, Task::Completion | Task::Copy) || cuts;
    let has = |key| given(row, key).is_some();
    let whole = has("segments")
        || has("messages")
        || has("instruction") && has("output")
        || has("prompt") && has("completion")
        || has("code") && (own || has("content"));
    let (key, value) = match ids {
        Some(n) => ("labels", Value::from(vec![-100; n])),
        None if whole => return,
        None if has("instruction") => ("output", Value::from("")),
        None if has("prompt") => ("completion", Value::from("")),
        None if has("code") => ("content", Value::from("")),
        _ => return,
    };
    if given(row, key).is_none() {
        row.insert(key.into(), value);
    }
}

fn missing(row: &Object) -> String {
    let seen: Vec<String> = row.keys().take(8).map(|key| format!("`{key}`")).collect();
    let seen = if seen.is_empty() { "no keys".to_string() } else { seen.join(", ") };
    let lacking = match (given(row, "prompt"), given(row, "completion")) {
        (Some(_), _) => "`completion` is missing",
        (_, Some(_)) => "`prompt` is missing",
        _ if given(row, "instruction").is_some() => "`output` is missing",
        _ => "no text to train on",
    };
    format!(
        "{lacking}: the row has {seen}; give `prompt` and `completion`, `code` (and `content`), `messages`, \
         `instruction` and `output`, `segments`, or `input_ids`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::super::tokenizer::Tokenizer;
    use super::*;

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
        let example =
            read(&format!(r#"{{"segments": [{{"text": "i", "train": false}}, {learned}, {{"text": "x"}}]}}"#));
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
        let template =
            "### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\na\n\n### Output:\n";
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
}
