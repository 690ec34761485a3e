//! Continued rows in a file that can be gone on with: one JSON object a line, in the order of the data.

use crate::data::prompts::Prompt;
use crate::error::{Error, Result};
use crate::model::generate::Continuation;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file, open at its end.
pub struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    /// Opens or creates the file; returns how many of the first prompts it has already. What follows the last whole line,
    /// of a run that was cut short, is taken off. Refuses a file that was not written from these prompts.
    pub fn open(path: &Path, prompts: &[Prompt], overwrite: bool) -> Result<(Output, usize)> {
        let text = match std::fs::read(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            _ if overwrite => Vec::new(),
            read => read.map_err(Error::io(path, "read"))?,
        };
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<&[u8]> = text[..whole].split_inclusive(|&byte| byte == b'\n').collect();
        for (n, line) in lines.iter().enumerate() {
            if prompts.get(n).is_none_or(|prompt| !belongs(line, prompt)) {
                let why =
                    "this line is not what the data would give; name another file, or start anew with --overwrite";
                return Err(Error::row(path, n + 1, why));
            }
        }
        let opened = File::options().create(true).write(true).truncate(false).open(path);
        let mut file = opened.map_err(Error::io(path, "create"))?;
        file.set_len(whole as u64).map_err(Error::io(path, "write"))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path, "write"))?;
        Ok((Output { path: path.to_path_buf(), file }, lines.len()))
    }

    /// Adds the continuations of these prompts; with their text where there is a tokenizer.
    pub fn write(&mut self, prompts: &[Prompt], done: &[Continuation], text: bool) -> Result {
        let lines: String = prompts.iter().zip(done).map(|(prompt, done)| line(prompt, done, text) + "\n").collect();
        self.file.write_all(lines.as_bytes()).map_err(Error::io(&self.path, "write"))
    }
}

/// What a row says of its prompt: line, and target as text or, without a tokenizer, as ids.
fn identity(prompt: &Prompt) -> [(&'static str, Value); 2] {
    let target = match &prompt.target_text {
        Some(text) => Value::from(text.as_str()),
        None => Value::from(prompt.target.as_slice()),
    };
    [("row", Value::from(prompt.row + 1)), ("target", target)]
}

fn belongs(line: &[u8], prompt: &Prompt) -> bool {
    let Ok(row) = serde_json::from_slice::<Value>(line) else { return false };
    identity(prompt).iter().all(|(key, value)| row.get(key) == Some(value))
}

fn line(prompt: &Prompt, done: &Continuation, text: bool) -> String {
    let [row, target] = identity(prompt);
    let text = text.then(|| ("text", Value::from(done.text.as_str())));
    let ids = ("ids", Value::from(done.ids.as_slice()));
    let finish = ("finish", Value::from(done.finish.to_string()));
    let fields = [Some(row), text, Some(ids), Some(finish), Some(target)].into_iter().flatten();
    Value::Object(fields.map(|(key, value)| (key.to_string(), value)).collect::<Map<_, _>>()).to_string()
}
