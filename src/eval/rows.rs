//! Files of predictions, references and sources.
//!
//! A file has one text per line, or one JSON object per line. For summaries a line may begin with a number and a tab,
//! as the files of CodeXGLUE's summaries do; the numbers of the files must agree then.

use super::score::{Cleaning, Row};
use crate::data::json;
use crate::data::lines::{Lines, Raw, utf8};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Keys of a prediction in a JSON row; the first that is there counts. `text` is the key of `eyekern generate`.
pub const HYP_KEYS: [&str; 10] =
    ["prediction", "pred", "hyp", "hypothesis", "generated", "generation", "output", "response", "completion", "text"];

/// Keys of a reference. `target` is the key of `eyekern generate`, `gt` that of CodeXGLUE's completions.
pub const REF_KEYS: [&str; 10] =
    ["reference", "ref", "target", "gold", "gt", "label", "answer", "completion", "content", "text"];

/// Keys of a source.
pub const SRC_KEYS: [&str; 6] = ["source", "src", "input", "prompt", "code", "nl"];

/// A file of texts.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The file.
    pub file: PathBuf,
    /// The key of the text in a JSON row, if the user named it.
    pub key: Option<String>,
}

/// The files of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Predictions: `samples` for each reference, one after the other.
    pub hyp: Texts,
    /// References.
    pub reference: Texts,
    /// Sources, if there are any.
    pub source: Option<Texts>,
    /// Predictions of each reference, at least 1.
    pub samples: usize,
    /// Whether lines may be numbered.
    pub numbered: bool,
}

/// What the texts of a file are, for messages: name, option of the key, known keys.
type Role = (&'static str, &'static str, &'static [&'static str]);

const HYP: Role = ("prediction", "--hyp-key", &HYP_KEYS);
const REF: Role = ("reference", "--ref-key", &REF_KEYS);
const SRC: Role = ("source", "--src-key", &SRC_KEYS);

/// How a text lies in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Numbered,
    Json,
}

/// A text with its line.
struct Text {
    number: usize,
    /// The number in front of it, where lines are numbered.
    id: Option<u64>,
    text: String,
}

/// The texts of one file, in its order.
struct Reader {
    file: PathBuf,
    key: Option<String>,
    role: Role,
    form: Form,
    lines: Box<dyn Iterator<Item = Result<Raw>>>,
    read: usize,
}

impl Reader {
    fn open(texts: &Texts, role: Role, numbered: bool) -> Result<Reader> {
        let file = &texts.file;
        if file.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            return Err(Error::file(file, "this is no regular file; it is read twice, so save it first"));
        }
        let form = match Lines::open(file)?.jsonl().next().transpose()? {
            Some(first) => form(first.text(file)?, file, numbered),
            None => Form::Plain,
        };
        let lines = Lines::open(file)?;
        let lines: Box<dyn Iterator<Item = _>> =
            if form == Form::Json { Box::new(lines.jsonl()) } else { Box::new(lines.all()) };
        Ok(Reader { file: file.clone(), key: texts.key.clone(), role, form, lines, read: 0 })
    }

    fn next(&mut self) -> Result<Option<Text>> {
        let Some(raw) = self.lines.next().transpose()? else { return Ok(None) };
        self.read += 1;
        let line = utf8(&raw.line, &self.file, raw.number)?;
        let fail = |why: String| Error::row(&self.file, raw.number, why);
        let (id, text) = match self.form {
            Form::Plain => (None, line.to_string()),
            Form::Numbered => numbered(line).map(|(id, text)| (Some(id), text.to_string())).ok_or_else(|| {
                fail("the line has no number and tab in front of its text, as the first line has".into())
            })?,
            Form::Json => (None, self.field(line).map_err(fail)?),
        };
        Ok(Some(Text { number: raw.number, id, text }))
    }

    /// The text of a JSON row.
    fn field(&self, line: &str) -> std::result::Result<String, String> {
        let row = json::object(line)?;
        let (name, option, known) = self.role;
        let key = match &self.key {
            Some(key) => Some(key.as_str()),
            None => known.iter().copied().find(|key| json::given(&row, key).is_some()),
        };
        let text = key.map(|key| json::text(&row, key)).transpose()?.flatten();
        text.map(str::to_string).ok_or_else(|| match &self.key {
            Some(key) => format!("the row has no text `{key}`, which {option} names as the {name}"),
            None => format!("the row has no {name}: none of the keys {}; name its key with {option}", known.join(", ")),
        })
    }

    /// How many texts the file has, of which some have been read.
    fn count(&mut self) -> Result<usize> {
        while self.next()?.is_some() {}
        Ok(self.read)
    }
}

/// The form of a file, by its first line that is not blank.
fn form(first: &str, file: &Path, numbered_too: bool) -> Form {
    let jsonl = file.extension().is_some_and(|e| e == "jsonl" || e == "json" || e == "ndjson");
    let object = first.trim_start().starts_with('{') && json::object(first).is_ok_and(|row| !row.is_empty());
    match () {
        () if jsonl || object => Form::Json,
        () if numbered_too && numbered(first).is_some() => Form::Numbered,
        () => Form::Plain,
    }
}

/// The number and the text of a numbered line. An empty text may lack its tab, which editors strip.
fn numbered(line: &str) -> Option<(u64, &str)> {
    let (number, text) = line.split_once('\t').unwrap_or((line, ""));
    Some((number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?, text))
}

/// The rows of the files, one after the other.
pub struct Rows {
    hyp: Reader,
    reference: Reader,
    source: Option<Reader>,
    samples: usize,
    /// The line of the last reference.
    number: usize,
}

impl Rows {
    /// The next row; an error where the files have different numbers of rows.
    fn read(&mut self) -> Result<Option<Row>> {
        let reference = self.reference.next()?;
        let hyps: Vec<Text> = std::iter::from_fn(|| self.hyp.next().transpose())
            .take(if reference.is_some() { self.samples } else { 1 })
            .collect::<Result<_>>()?;
        let source = match &mut self.source {
            Some(reader) => Some(reader.next()?),
            None => None,
        };
        let Some(reference) = reference else {
            let done = hyps.is_empty() && source.is_none_or(|text| text.is_none());
            return if done { Ok(None) } else { Err(self.unequal()?) };
        };
        self.number = reference.number;
        if hyps.len() < self.samples || matches!(source, Some(None)) {
            return Err(self.unequal()?);
        }
        let source = source.flatten();
        for (text, file) in hyps
            .iter()
            .map(|hyp| (hyp, &self.hyp.file))
            .chain(source.iter().zip(self.source.iter().map(|reader| &reader.file)))
        {
            if let (Some(own), Some(other)) = (text.id, reference.id)
                && own != other
            {
                let file_of = self.reference.file.display();
                let why = format!("the number is {own}, and the row of {file_of} has {other}; sort the files alike");
                return Err(Error::row(file, text.number, why));
            }
        }
        Ok(Some(Row {
            hyps: hyps.into_iter().map(|text| text.text).collect(),
            reference: reference.text,
            source: source.map(|text| text.text),
        }))
    }

    /// The error for files of different lengths, with their lengths.
    fn unequal(&mut self) -> Result<Error> {
        let (hyps, references) = (self.hyp.count()?, self.reference.count()?);
        let needed = references * self.samples;
        if hyps != needed {
            let times = if self.samples > 1 { format!(" x {} samples", self.samples) } else { String::new() };
            let why = format!(
                "row counts differ, {hyps} predictions here and {references} references{times} in {}; row n of one \
                 file must belong to row n of the other",
                self.reference.file.display()
            );
            return Ok(Error::file(&self.hyp.file, why));
        }
        let (file, sources) = match &mut self.source {
            Some(reader) => (reader.file.clone(), reader.count()?),
            None => (self.hyp.file.clone(), references),
        };
        let why = format!(
            "row counts differ, {sources} sources here and {references} references in {}; row n of one file must \
             belong to row n of the other",
            self.reference.file.display()
        );
        Ok(Error::file(&file, why))
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        self.read().transpose()
    }
}

impl Files {
    /// Opens the files.
    pub fn open(&self) -> Result<Rows> {
        let source = self.source.as_ref();
        Ok(Rows {
            hyp: Reader::open(&self.hyp, HYP, self.numbered)?,
            reference: Reader::open(&self.reference, REF, self.numbered)?,
            source: source.map(|texts| Reader::open(texts, SRC, self.numbered)).transpose()?,
            samples: self.samples,
            number: 0,
        })
    }

    /// Reads all rows once, without keeping them: the number of rows, and an error for the first that cannot be scored.
    /// `each` sees the references; `clean` is what scoring applies to them.
    pub fn check(&self, clean: &Cleaning, mut each: impl FnMut(&str)) -> Result<usize> {
        let mut rows = self.open()?;
        let mut n = 0;
        while let Some(row) = rows.next().transpose()? {
            let reference = clean(&row.reference);
            if reference.trim().is_empty() {
                let cleaned = if row.reference.trim().is_empty() { "" } else { " after --clean" };
                let why =
                    format!("the reference is empty{cleaned}, so nothing can be compared with it; leave the row out");
                return Err(Error::row(&self.reference.file, rows.number, why));
            }
            each(&reference);
            n += 1;
        }
        if n == 0 {
            return Err(Error::file(&self.reference.file, "the file has no rows"));
        }
        Ok(n)
    }
}
