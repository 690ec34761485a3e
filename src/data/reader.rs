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

/// The keys of a text row that give weights and roles.
#[derive(Clone, Copy, Default)]
struct Marks<'a> {
    weights: Option<&'a Value>,
    path: Option<&'a Value>,
    /// Factor on the weights of the completion and of EOS.
    weight: Option<&'a Value>,
    prompt_weight: Option<&'a Value>,
    lang: Option<Language>,
    /// Columns of the published data: mask, n-gram, label.
    recorded: Option<[&'a Value; 3]>,
}

impl<'a> Marks<'a> {
    fn of(row: &'a Object) -> Marks<'a> {
        let [weights, path, weight, prompt_weight] =
            ["weights", "path", "weight", "prompt_weight"].map(|k| given(row, k));
        Marks { weights, path, weight, prompt_weight, ..Marks::default() }
    }

    /// The key that is present among those that concern the completion.
    fn key(&self) -> Option<&'static str> {
        let keys = [(self.weights, "weights"), (self.path, "path"), (self.weight, "weight")];
        keys.into_iter().find_map(|(value, key)| value.and(Some(key)))
    }

    /// Refuses these keys in rows whose form has no prompt and completion.
    fn refuse(&self, form: &str, remedy: &str) -> Result<(), String> {
        match self.key().or(self.prompt_weight.and(Some("prompt_weight"))) {
            Some(key) => Err(format!("the row has `{key}`, which has no effect on `{form}`; drop it, and {remedy}")),
            None => Ok(()),
        }
    }

    /// The number under a key.
    fn number(key: &str, value: Option<&Value>) -> Result<Option<f32>, String> {
        value.map(|value| json::weight(value).map_err(|why| format!("`{key}`: {why}"))).transpose()
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
        let marks = Marks { lang, recorded, ..Marks::of(&row) };
        if let Some(ids) = given(&row, "input_ids") {
            let of_text = Marks { weights: None, path: None, ..marks };
            of_text.refuse("input_ids", "give each token a weight in `weights`")?;
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
        let prompt_weight = Marks::number("prompt_weight", marks.prompt_weight)?.or(self.reading.prompt_weight);
        for piece in head {
            let label = if prompt_weight.is_some() { piece.id } else { IGNORE };
            push(&mut example, piece.id, label, prompt_weight.unwrap_or(1.0), false);
        }
        if prompt_weight.is_some() {
            example.prompt = example.ids.len() as u32;
        }
        let (look, parsed) = self.look(texts, marks, example.ids.len(), &tail)?.unzip();
        let factor = Marks::number("weight", marks.weight)?.unwrap_or(1.0);
        for piece in tail {
            let (weight, on_path) = spans.at(completion, piece);
            push(&mut example, piece.id, piece.id, product(factor, weight)?, on_path);
        }
        push(&mut example, tokenizer.eos(), tokenizer.eos(), factor, false);
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

/// The weight of a row times that of a span.
fn product(row: f32, span: f32) -> Result<f32, String> {
    let weight = row * span;
    let why = || format!("`weight` {row:e} times {span:e} of `weights` is no number of 32 bits; scale them down");
    if weight.is_finite() { Ok(weight) } else { Err(why()) }
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
mod tests;
