//! Rows whose attention is looked at: each as a prompt and as the whole example with its reference, and the scan path
//! through both.
//!
//! The reference has the roles that training gives it. Training gives prompts no role; here the code of a prompt has
//! the tokens of the same path. Where paths are drawn through the target ([`Align::on_target`]), the code of the prompt
//! gets a path of its own, drawn from the same priors with the same key.
//!
//! [`Align::on_target`]: crate::salience::align::Align::on_target

use super::corpus::{self, DataSource, Reading};
use super::reader::RowReader;
use super::requests::{self, Prompt};
use super::row::{Row, Words};
use super::template;
use super::tokenizer::{Piece, Tokenizer};
use super::weights::drawn::{Drawing, Look, PathReading, Writing};
use super::weights::given::covering;
use super::{Example, IGNORE};
use crate::error::{Error, Result};
use crate::salience::syntax::Language;
use std::ops::Range;

/// A row as a prompt and as an example. Both have its roles in `path`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// What is continued.
    pub prompt: Prompt,
    /// Prompt, reference and EOS.
    pub example: Example,
}

/// At most the first `most` rows of a source, read as `reading` says but with no limit of length. Paths are drawn by
/// `drawing` where there is one, else they are the data's own. Targets may be left out.
///
/// Errors name the first line that cannot be used, and the remedy.
pub fn read(
    source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading, drawing: Option<&Drawing>,
    most: usize,
) -> Result<Vec<Context>> {
    let reading = Reading { max_length: usize::MAX, prompt_weight: None, ..reading.clone() };
    let reader = RowReader { tokenizer, vocab, reading: &reading, keep_texts: true, open: true };
    let mut found = Vec::new();
    let map = |_, row| context(row, tokenizer, &reading, drawing);
    let take = |context| {
        if found.len() < most {
            found.push(context);
        }
    };
    corpus::scan(source, &reader, map, take)?;
    found.into_iter().map(|(row, context)| context.map_err(|why| Error::row(source.file(), row + 1, why))).collect()
}

/// The row's index and what comes of it.
fn context(
    mut row: Row, tokenizer: Option<&Tokenizer>, reading: &Reading, drawing: Option<&Drawing>,
) -> (usize, std::result::Result<Context, String>) {
    let index = row.example.row as usize;
    let mut context = || {
        if let (Some(drawing), Some(paths)) = (drawing, &reading.paths) {
            draw(&mut row, reading, paths, drawing)?;
        }
        let example = row.example.clone();
        let prompt = requests::split(std::mem::take(&mut row), tokenizer).map_err(|e| e.to_string())?;
        if prompt.ids.is_empty() {
            return Err(
                "there is nothing to continue: no token comes before the target; give a prompt, or drop the row"
                    .to_string(),
            );
        }
        Ok(Context { prompt: Prompt { path: example.path.clone(), ..prompt }, example })
    };
    (index, context())
}

/// Writes the roles of a drawn path into the example of a row.
fn draw(row: &mut Row, reading: &Reading, paths: &PathReading, drawing: &Drawing) -> std::result::Result<(), String> {
    let (Some(look), Some(words)) = (&row.look, &row.words) else { return Ok(()) };
    drawing.apply(&mut row.example, look, 0);
    let text = &words.all[..words.all.len() - words.target.len()];
    let shown = row.before.as_ref().map_or(words.source.as_str(), |before| before.text.as_str());
    let code = code(text, shown, reading);
    let own;
    // the tokens of a path, and where the code of the prompt begins in their text
    let (look, offset) = match &words.looked_at {
        Some(looked_at) if !paths.align.on_target() => (look, looked_at.find(&text[code.clone()]).unwrap_or(0)),
        _ => {
            let language = paths.source.or(words.lang).unwrap_or(Language::Java);
            let (spans, _) = paths.spans(&text[code.clone()], Writing::Code(language), false)?;
            own = Look { spans, ..Look::default() };
            (&own, 0)
        }
    };
    let drawn = drawing.of(look, row.example.row, 0);
    let ranges: Vec<(Range<usize>, bool)> =
        look.spans.iter().zip(&drawn.tokens).map(|(span, token)| (span.start..span.end, token.on_path)).collect();
    let head = row.example.labels.iter().position(|&label| label != IGNORE).unwrap_or(row.example.labels.len());
    for (on_path, place) in row.example.path[..head].iter_mut().zip(&words.places) {
        *on_path = on(words, place, &code, offset, &ranges);
    }
    Ok(())
}

/// Where the prompt shows the code: behind the head of a template, or the whole of a prompt that the row brought.
fn code(prompt: &str, shown: &str, reading: &Reading) -> Range<usize> {
    let begin = match &reading.cutting.fim {
        Some(fim) if prompt.starts_with(&format!("{}{shown}", fim.0[0])) => fim.0[0].len(),
        _ if prompt == template::render(reading.task, shown) => template::begin(reading.task),
        _ => return 0..prompt.len(),
    };
    begin..begin + shown.len()
}

/// Whether a subword of the prompt is on the path: as a target's, by the token that covers most of it. Blanks are not.
fn on(
    words: &Words, place: &Range<usize>, code: &Range<usize>, offset: usize, ranges: &[(Range<usize>, bool)],
) -> bool {
    let (start, end) = (place.start.max(code.start), place.end.min(code.end));
    if start >= end || words.all.get(place.clone()).is_some_and(|text| text.trim().is_empty()) {
        return false;
    }
    let moved = |at: usize| at - code.start + offset;
    let piece = Piece { id: 0, start: moved(start), end: moved(end) };
    covering(ranges, |(range, _)| range, &piece).is_some_and(|(_, on_path)| *on_path)
}

#[cfg(test)]
mod tests {
    use super::super::samples::plain;
    use super::*;
    use crate::data::cut::{Cutting, Unit};
    use crate::data::template::Task;
    use crate::salience::align::{Align, Salience};
    use crate::salience::labels::{self, Calls};
    use crate::salience::priors::Priors;
    use crate::salience::scanpath::{Key, ScanPath};
    use crate::salience::weights::WeightSettings;
    use serde_json::{Value, json};

    const CODE: &str = "int size(int n) {\n    if (n < 0) {\n        return count;\n    }\n    return items(n);\n}\n";

    fn drawing(align: Align) -> Drawing {
        let (path, weights) = (Default::default(), WeightSettings::default());
        let priors = Priors::builtin("combined").unwrap();
        let salience = Salience { priors, path, weights, align, weighing: None };
        Drawing { salience, seed: 7, artifact: false }
    }

    fn read_row(row: &Value, task: Task, cutting: Cutting, align: Align) -> Context {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        std::fs::write(&file, row.to_string()).unwrap();
        let paths = PathReading { align, calls: Calls::Syntax, source: None, target: None, recorded: false };
        let reading = Reading { task, cutting, paths: Some(paths), max_length: 3, ..Reading::default() };
        let found =
            read(&DataSource::Jsonl(file), Some(&plain()), 512, &reading, Some(&drawing(align)), usize::MAX).unwrap();
        assert_eq!(found[0].prompt.path, found[0].example.path);
        found[0].clone()
    }

    /// The texts of the tokens on the path: those of the prompt, and those of the target.
    fn gazed(context: &Context) -> [String; 2] {
        let first = context.prompt.ids.len();
        let text = |ids: &mut dyn Iterator<Item = usize>| {
            ids.map(|t| plain().decode(&context.example.ids[t..t + 1]).unwrap()).collect::<String>()
        };
        let on = |t: &usize| context.example.path[*t];
        [text(&mut (0..first).filter(on)), text(&mut (first..context.example.ids.len()).filter(on))]
    }

    /// The texts of the tokens on a path that is drawn through `code` by itself, without blanks.
    fn drawn(code: &str) -> String {
        let spans = labels::label(code.as_bytes(), Language::Java, Calls::Syntax).unwrap();
        let drawing = drawing(Align::Identity);
        let key = Key { seed: 7, example: 0, epoch: 0 };
        let path = ScanPath::draw(&spans, &drawing.salience.priors, &drawing.salience.path, key);
        let on = path.by_token(spans.len());
        let texts = spans.iter().zip(on).filter(|(_, on)| on.is_some());
        texts.map(|(span, _)| &code[span.start..span.end]).collect()
    }

    #[test]
    fn the_prompt_has_the_tokens_of_the_path_that_training_draws() {
        let row = json!({"code": CODE, "lang": "java"});
        for unit in [Unit::Half, Unit::Statement] {
            let cutting = Cutting { unit, seed: 5, ..Cutting::default() };
            let context = read_row(&row, Task::Completion, cutting, Align::Identity);
            let [prompt, target] = gazed(&context);
            let whole = drawn(CODE);
            assert!(!prompt.is_empty() && whole.starts_with(&prompt), "{prompt:?} of {whole:?}");
            // what training reads: the roles of the target, without those of the prompt
            assert!(whole[prompt.len()..].starts_with(&target), "{target:?} of {whole:?}");
            let template = template::render(Task::Completion, "");
            assert!(!gazed(&context)[0].contains('#') && template.contains('#'));
        }
    }

    #[test]
    fn a_path_through_the_target_leaves_the_prompt_a_path_of_its_own() {
        let row = json!({"code": CODE, "content": "int Size(int m) { return m; }", "lang": "java"});
        let context = read_row(&row, Task::Translation, Cutting::default(), Align::TargetAst);
        let [prompt, target] = gazed(&context);
        assert_eq!(prompt, drawn(CODE));
        assert!(!target.is_empty() && !prompt.is_empty() && !target.contains("count"), "{target}");
        // the same key and the same code: what a target aligned by words takes its roles from
        let lexical = read_row(&row, Task::Translation, Cutting::default(), Align::Lexical);
        assert_eq!(gazed(&lexical)[0], prompt);
    }

    #[test]
    fn rows_bring_roles_of_their_own_and_may_lack_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        let rows =
            "{\"input_ids\": [5, 6, 7], \"labels\": [-100, -100, 7], \"path\": [0, 1, 1]}\n\n{\"prompt\": \"ab\"}\n";
        std::fs::write(&file, rows).unwrap();
        let read = |most| read(&DataSource::Jsonl(file.clone()), Some(&plain()), 512, &Reading::default(), None, most);
        let found = read(usize::MAX).unwrap();
        assert_eq!((found[0].prompt.ids.as_slice(), found[0].prompt.target.as_slice()), (&[5, 6][..], &[7][..]));
        assert_eq!(found[0].example.path, [false, true, true]);
        assert_eq!((found[1].example.row, found[1].prompt.target.len()), (2, 0));
        assert_eq!(read(1).unwrap().len(), 1);
        std::fs::write(&file, "{\"input_ids\": [5]}\n{\"input_ids\": [5], \"labels\": [5]}\n").unwrap();
        let why = read(2).unwrap_err().to_string();
        assert!(why.contains("d.jsonl:2: there is nothing to continue"), "{why}");
    }
}
