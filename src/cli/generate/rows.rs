//! Generated rows in a file that a later run can resume: one JSON object per line, in the order of the data. A row
//! begins with its line in the data and a key: a hash of everything that determines its text. Resuming requires both to
//! match.

use crate::data::cut::Unit;
use crate::data::requests::Prompt;
use crate::error::{Error, Result};
use crate::eval::run;
use crate::files;
use crate::model::generate::Continuation;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file, open at its end.
pub struct Output {
    path: PathBuf,
    file: File,
    /// Everything that determines the text of every row, apart from its prompt.
    fingerprint: blake3::Hash,
    /// Adds the prediction of a row, cut to this unit, and its source: for rows that are scored.
    pub unit: Option<Unit>,
}

impl Output {
    /// Opens or creates the file; returns how many of the first prompts it already contains. An incomplete last line,
    /// left by an interrupted run, is removed. Refuses a file that was not written from these prompts with this
    /// fingerprint.
    pub fn open(
        path: &Path, prompts: &[Prompt], fingerprint: blake3::Hash, overwrite: bool,
    ) -> Result<(Output, usize)> {
        let text = match files::read(path) {
            // a pipe or a device holds no rows, and may never end
            _ if overwrite || path.metadata().is_ok_and(|about| !about.is_file()) => Vec::new(),
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(Error::io(path, "read"))?,
        };
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<&[u8]> = text[..whole].split_inclusive(|&byte| byte == b'\n').collect();
        let other = |n: usize| {
            let why = "this line does not match the data, the model and the options; choose another file, or start \
                       over with --overwrite";
            Err(Error::row(path, n + 1, why))
        };
        for (n, line) in lines.iter().enumerate() {
            if prompts.get(n).is_none_or(|prompt| !belongs(line, prompt, &fingerprint)) {
                return other(n);
            }
        }
        let torn = &text[whole..];
        if !torn.is_empty() && prompts.get(lines.len()).is_none_or(|prompt| !begins(torn, prompt, &fingerprint)) {
            return other(lines.len());
        }
        let opened = File::options().create(true).write(true).truncate(false).open(path);
        let mut file = opened.map_err(Error::io(path, "create"))?;
        file.set_len(whole as u64).map_err(Error::io(path, "write"))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path, "write"))?;
        Ok((Output { path: path.to_path_buf(), file, fingerprint, unit: None }, lines.len()))
    }

    /// Appends the continuation of a prompt, with its text where there is a tokenizer, and `more` fields behind it.
    pub fn write(
        &mut self, prompt: &Prompt, done: &Continuation, text: bool, more: Vec<(&'static str, Value)>,
    ) -> Result {
        let line = line(prompt, &self.fingerprint, done, text, self.unit, more) + "\n";
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path, "write"))
    }
}

/// The fields of a row that are known before generation, in their order: at its start its line and the key, at its end
/// the target as text or, without a tokenizer, as ids.
fn known(prompt: &Prompt, fingerprint: &blake3::Hash) -> [(&'static str, Value); 3] {
    let mut hash = blake3::Hasher::new();
    hash.update(fingerprint.as_bytes());
    for id in &prompt.ids {
        hash.update(&id.to_le_bytes());
    }
    for on_path in &prompt.path {
        hash.update(&[u8::from(*on_path)]);
    }
    let key = hash.finalize().to_hex().as_str()[..32].to_string();
    let target = match &prompt.target_text {
        Some(text) => Value::from(text.as_str()),
        None => Value::from(prompt.target.as_slice()),
    };
    [("row", Value::from(prompt.row + 1)), ("key", key.into()), ("target", target)]
}

fn belongs(line: &[u8], prompt: &Prompt, fingerprint: &blake3::Hash) -> bool {
    let Ok(row) = serde_json::from_slice::<Value>(line) else { return false };
    known(prompt, fingerprint).iter().all(|(key, value)| row.get(key) == Some(value))
}

/// Whether an incomplete line is the beginning of this prompt's line.
fn begins(torn: &[u8], prompt: &Prompt, fingerprint: &blake3::Hash) -> bool {
    let [row, key, _] = known(prompt, fingerprint);
    let whole = object([row, key]);
    let start = whole.trim_end_matches('}').as_bytes();
    torn.starts_with(start) || start.starts_with(torn)
}

fn line(
    prompt: &Prompt, fingerprint: &blake3::Hash, done: &Continuation, text: bool, unit: Option<Unit>,
    more: Vec<(&'static str, Value)>,
) -> String {
    let [row, key, target] = known(prompt, fingerprint);
    let scored = unit.map(|unit| {
        let (prediction, source) = (run::prediction(prompt, &done.text, unit), run::source(prompt));
        [("prediction", Value::from(prediction)), ("source", Value::from(source))]
    });
    let text = text.then(|| ("text", Value::from(done.text.as_str())));
    let ids = ("ids", Value::from(done.ids.as_slice()));
    let finish = ("finish", Value::from(done.finish.to_string()));
    let fields = [Some(row), Some(key), text, Some(ids), Some(finish), Some(target)].into_iter().flatten();
    object(fields.chain(scored.into_iter().flatten()).chain(more))
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> String {
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Map<_, _>>()).to_string()
}
