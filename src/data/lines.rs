//! Files as numbered lines, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
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

/// The longest line that is read: a device may never end, and memory does.
const LONGEST: usize = 256 << 20;

/// The mark that some editors put before UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// First bytes of files that hold no lines of UTF-8: what they are, and how they become such lines.
const FORMATS: [(&[u8], &str, &str); 16] = [
    (b"\x1F\x8B", "is compressed with gzip", "decompress it: `gzip -dk FILE`"),
    (b"\x28\xB5\x2F\xFD", "is compressed with zstd", "decompress it: `zstd -d FILE`"),
    (b"\xFD7zXZ\0", "is compressed with xz", "decompress it: `xz -dk FILE`"),
    (b"\x04\x22\x4D\x18", "is compressed with lz4", "decompress it: `lz4 -d FILE`"),
    (b"PK\x03\x04", "is a zip archive", "extract the file of rows: `unzip FILE`"),
    (b"PK\x05\x06", "is an empty zip archive", "give a file of rows"),
    (b"7z\xBC\xAF\x27\x1C", "is a 7z archive", "extract the file of rows: `7z x FILE`"),
    (b"PAR1\x15", "is a Parquet file", PANDAS[0]),
    (b"ARROW1\0\0", "is an Arrow file", PANDAS[1]),
    (b"\xFF\xFF\xFF\xFF", "is a stream of Arrow", "write it as JSONL: `Dataset.from_file(FILE).to_json(NEW)`"),
    (b"SQLite format 3\0", "is an SQLite database", "export its rows as JSONL"),
    (b"\xFF\xFE\0\0", "is UTF-32", "convert it: `iconv -f UTF-32 -t UTF-8 FILE > NEW`"),
    (b"\0\0\xFE\xFF", "is UTF-32", "convert it: `iconv -f UTF-32 -t UTF-8 FILE > NEW`"),
    (b"\xFF\xFE", "is UTF-16", "convert it: `iconv -f UTF-16 -t UTF-8 FILE > NEW`"),
    (b"\xFE\xFF", "is UTF-16", "convert it: `iconv -f UTF-16 -t UTF-8 FILE > NEW`"),
    (b"\x80\x04\x95", "is a pickle of Python", "write its rows as JSONL"),
];

const PANDAS: [&str; 2] = [
    "write it as JSONL: `pandas.read_parquet(FILE).to_json(NEW, orient='records', lines=True)`",
    "write it as JSONL: `pandas.read_feather(FILE).to_json(NEW, orient='records', lines=True)`",
];

/// Refuses a file that begins as none of lines does.
fn check_format(start: &[u8], file: &Path) -> Result {
    let known = FORMATS.iter().find(|(magic, ..)| start.starts_with(magic)).map(|&(_, what, remedy)| (what, remedy));
    // UTF-16 without a mark: every second byte of an ASCII character is 0
    let utf16 = match start {
        [0, 1..=255, 0, 1..=255, ..] => Some(("is UTF-16", "convert it: `iconv -f UTF-16BE -t UTF-8 FILE > NEW`")),
        [1..=255, 0, 1..=255, 0, ..] => Some(("is UTF-16", "convert it: `iconv -f UTF-16LE -t UTF-8 FILE > NEW`")),
        _ => None,
    };
    let at = |place: usize, text: &[u8]| start.get(place..).is_some_and(|rest| rest.starts_with(text));
    let bzip2 = at(0, b"BZh") && at(4, b"1AY&SY");
    let bzip2 = bzip2.then_some(("is compressed with bzip2", "decompress it: `bzip2 -dk FILE`"));
    let tar = at(257, b"ustar").then_some(("is a tar archive", "extract the file of rows: `tar -xf FILE`"));
    match known.or(utf16).or(bzip2).or(tar) {
        Some((what, remedy)) => Err(Error::file(file, format!("{what}, and lines of UTF-8 are needed; {remedy}"))),
        None => Ok(()),
    }
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
        let mut reader = BufReader::with_capacity(1 << 16, opened);
        check_format(reader.fill_buf().map_err(Error::io(file, "read"))?, file)?;
        Ok(Lines::new(reader, file))
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

    /// All lines, blank ones too.
    pub(crate) fn all(mut self) -> impl Iterator<Item = Result<Raw>> {
        std::iter::from_fn(move || {
            let line = self.next().transpose()?;
            Some(line.map(|line| Raw { number: self.number, line, target: None }))
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
        let read = self.reader.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', &mut line);
        match read.map_err(Error::io(&self.file, "read"))? {
            0 => return Ok(None),
            length if length > LONGEST => {
                let why = "the line has more than 256 MiB; write one example per line";
                return Err(Error::row(&self.file, self.number + 1, why));
            }
            _ => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.number == 0 && line.starts_with(MARK) {
            line.drain(..MARK.len());
        }
        self.number += 1;
        if line.starts_with(MARK) {
            let why = "the line begins with a byte order mark inside the file, as joined files have it; remove it: \
                       `sed -i 's/\\xEF\\xBB\\xBF//g' FILE`";
            return Err(Error::row(&self.file, self.number, why));
        }
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

    #[test]
    fn marks_inside_a_file_are_named() {
        for (text, row) in [("\u{feff}\u{feff}a\n", 1), ("a\n\u{feff}b\n", 2)] {
            let row_of = Lines::new(text.as_bytes(), Path::new("d")).jsonl().find_map(std::result::Result::err);
            let error = row_of.unwrap().to_string();
            assert!(error.starts_with(&format!("d:{row}: the line begins with a byte order mark")), "{error}");
        }
    }

    /// What a file is by its first bytes; `None` where its lines can be read.
    fn format(bytes: &[u8]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d");
        std::fs::write(&file, bytes).unwrap();
        let error = Lines::open(&file).err()?.to_string();
        let (_, what) = error.split_once(": ").unwrap();
        Some(what.split_once(", and lines of UTF-8 are needed; ").unwrap().0.to_string())
    }

    #[test]
    fn other_formats_are_named() {
        let text = "{\"prompt\": \"é\"}\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let tar = [&b"rows.jsonl"[..], &[0; 247], b"ustar\x0000"].concat();
        for (bytes, what) in [
            (little.clone(), "is UTF-16"),
            (big.clone(), "is UTF-16"),
            ([b"\xFF\xFE", &little[..]].concat(), "is UTF-16"),
            ([b"\xFE\xFF", &big[..]].concat(), "is UTF-16"),
            (text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(), ""),
            (b"\x1F\x8B\x08\0".to_vec(), "is compressed with gzip"),
            (b"PK\x03\x04\x14".to_vec(), "is a zip archive"),
            (b"\x28\xB5\x2F\xFD\x24".to_vec(), "is compressed with zstd"),
            (b"PAR1\x15".to_vec(), "is a Parquet file"),
            (b"BZh91AY&SY".to_vec(), "is compressed with bzip2"),
            (tar, "is a tar archive"),
            (text.into(), ""),
            (b"".to_vec(), ""),
        ] {
            assert_eq!(format(&bytes).unwrap_or_default(), what);
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut lines = Lines::open(Path::new("/dev/zero")).unwrap().jsonl();
        let why = "/dev/zero:1: the line has more than 256 MiB; write one example per line";
        assert_eq!(lines.next().unwrap().err().unwrap().to_string(), why);
    }
}
