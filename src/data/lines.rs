//! Files as numbered lines, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A row before it is parsed.
pub(crate) struct Raw {
    /// Number of its line, from 1.
    pub number: usize,
    /// The line, or the line of the source file.
    pub line: Vec<u8>,
    /// The line of the target file, for parallel files.
    pub target: Option<Vec<u8>>,
}

impl Raw {
    /// The line as text.
    pub(crate) fn text(&self, file: &Path) -> Result<&str> {
        utf8(&self.line, file, self.number)
    }
}

/// The bytes of a line as text.
pub(crate) fn utf8<'a>(line: &'a [u8], file: &Path, number: usize) -> Result<&'a str> {
    std::str::from_utf8(line).map_err(|e| {
        let why = format!("not UTF-8 (at byte {} of the line); save the file as UTF-8", e.valid_up_to() + 1);
        Error::row(file, number, why)
    })
}

/// The lines of a file as bytes, without their ends.
pub(crate) struct Lines<R> {
    reader: R,
    file: PathBuf,
    /// Lines read so far.
    number: usize,
}

impl Lines<BufReader<File>> {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let opened = File::open(file).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let why = "there is no such file; give the path of a JSONL file, or of two parallel text files";
                Error::file(file, why)
            }
            _ => Error::io(file, "read")(e),
        })?;
        Ok(Lines::new(BufReader::with_capacity(1 << 16, opened), file))
    }
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, file: &Path) -> Lines<R> {
        Lines { reader, file: file.to_path_buf(), number: 0 }
    }

    /// The rows of a JSONL file; blank lines are skipped, but counted.
    pub(crate) fn jsonl(mut self) -> impl Iterator<Item = Result<Raw>> {
        std::iter::from_fn(move || {
            loop {
                let line = self.next().transpose()?;
                match line {
                    Ok(line) if line.trim_ascii().is_empty() => {}
                    line => return Some(line.map(|line| Raw { number: self.number, line, target: None })),
                }
            }
        })
    }

    /// The rows of two files of the same number of lines; an error at the end if the numbers differ.
    pub(crate) fn beside(mut self, mut target: Lines<R>) -> impl Iterator<Item = Result<Raw>> {
        std::iter::from_fn(move || self.next_beside(&mut target).transpose())
    }

    fn next_beside(&mut self, target: &mut Lines<R>) -> Result<Option<Raw>> {
        match (self.next()?, target.next()?) {
            (Some(line), Some(other)) => Ok(Some(Raw { number: self.number, line, target: Some(other) })),
            (None, None) => Ok(None),
            _ => {
                while self.next()?.is_some() {}
                while target.next()?.is_some() {}
                let why = format!(
                    "line counts differ, {} here and {} in {}; line n of one file must belong to line n of the other",
                    self.number,
                    target.number,
                    target.file.display()
                );
                Err(Error::file(&self.file, why))
            }
        }
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line).map_err(Error::io(&self.file, "read"))? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        // The mark that some editors put before UTF-8.
        if self.number == 0 && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        self.number += 1;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_the_mark_are_left_out() {
        let text = "\u{feff}a\r\n\r\n \nb\n\nc\r";
        let rows: Vec<Raw> = Lines::new(text.as_bytes(), Path::new("d")).jsonl().map(Result::unwrap).collect();
        let lines: Vec<(usize, &[u8])> = rows.iter().map(|raw| (raw.number, raw.line.as_slice())).collect();
        assert_eq!(lines, [(1, &b"a"[..]), (4, b"b"), (6, b"c")]);
    }
}
