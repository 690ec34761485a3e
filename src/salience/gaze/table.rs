//! Tables as text or XML, plain or gzipped: the reader for recordings, token boxes and participants, with exact line
//! numbers and errors that list the available columns.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::text::{self, LONGEST_ROW, broken, clip};
use super::xml::Xml;
use crate::error::{Error, Result};

/// The delimiter and comment character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The ASCII character between two fields.
    pub delimiter: u8,
    /// Lines that begin with this ASCII character are skipped.
    pub comment: Option<u8>,
}

impl Dialect {
    /// Comma-separated, without comments.
    pub const CSV: Dialect = Dialect { delimiter: b',', comment: None };
}

/// Columns that XML may have.
const MOST_COLUMNS: usize = 1000;

/// Where rows come from.
enum Rows {
    Text(csv::Reader<Lines>),
    Xml(Box<Xml>),
}

/// An open table whose columns are known.
pub struct Table {
    file: PathBuf,
    rows: Rows,
    columns: Vec<String>,
    header: usize,
    record: ByteRecord,
}

impl Table {
    /// Opens a file, gunzips it if its first bytes are those of gzip (whatever its name) and reads the header. Refuses
    /// an empty file and UTF-16.
    pub fn open(file: &Path, dialect: Dialect) -> Result<Table> {
        let mut table = Table::of(file, Rows::Text(Lines::reader(file, dialect)?), Vec::new());
        let Some(line) = table.advance()? else {
            return Err(Error::file(file, "is empty; a header line with the names of the columns is needed"));
        };
        table.header = line;
        table.columns = table.record.iter().map(text_of).collect();
        Ok(table)
    }

    /// Opens tab-separated text without a header; every row must have these columns.
    pub(super) fn headerless(file: &Path, columns: Vec<String>) -> Result<Table> {
        let dialect = Dialect { delimiter: b'\t', comment: None };
        Ok(Table::of(file, Rows::Text(Lines::reader(file, dialect)?), columns))
    }

    /// Opens XML whose elements named `element` are the rows. It is read twice, the first time for the columns.
    pub(super) fn xml(file: &Path, element: &str) -> Result<Table> {
        if !file.metadata().map_err(Error::io(file, "read"))?.is_file() {
            return Err(Error::file(file, "is no ordinary file, and XML is read twice; save it as a file"));
        }
        let open = || Ok::<_, Error>(Box::new(Xml::new(file, text::open(file)?, element)));
        let (mut columns, mut known) = (Vec::new(), HashSet::new());
        let (mut first, mut rows) = (open()?, 0);
        while let Some((line, fields)) = first.row()? {
            rows += 1;
            for (name, _) in fields {
                if !known.contains(&name) {
                    if columns.len() == MOST_COLUMNS {
                        let why = format!("more than {MOST_COLUMNS} different attributes; is `element` right?");
                        return Err(Error::row(file, line, why));
                    }
                    known.insert(name.clone());
                    columns.push(name);
                }
            }
        }
        if rows == 0 {
            let why = format!(
                "has no element `{}`; set `element` in the mapping to the elements that are rows",
                clip(element)
            );
            return Err(Error::file(file, why));
        }
        Ok(Table::of(file, Rows::Xml(open()?), columns))
    }

    fn of(file: &Path, rows: Rows, columns: Vec<String>) -> Table {
        Table { file: file.to_path_buf(), rows, columns, header: 0, record: ByteRecord::new() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The index of a column. A name that ends in `*` matches the single column with that prefix. `remedy` ends the
    /// error message if there is no such column.
    pub fn column(&self, name: &str, remedy: &str) -> Result<usize> {
        self.find(name)?.ok_or_else(|| {
            let shown: Vec<String> = self.columns.iter().take(30).map(|c| format!("`{}`", clip(c))).collect();
            let more = if self.columns.len() > 30 { ", ..." } else { "" };
            let split = if self.columns.len() == 1 && self.header > 0 { " (is `delimiter` right?)" } else { "" };
            let found = format!("no column `{}`; there are {}{more}{split}", clip(name), shown.join(", "));
            self.about_columns(format!("{found}; {remedy}"))
        })
    }

    /// The index of an optional column.
    pub fn find(&self, name: &str) -> Result<Option<usize>> {
        let Some(start) = name.strip_suffix('*') else { return Ok(self.columns.iter().position(|c| c == name)) };
        let mut fitting = (0..self.columns.len()).filter(|&at| self.columns[at].starts_with(start));
        let first = fitting.next();
        if let (Some(a), Some(b)) = (first, fitting.next()) {
            let (a, b) = (clip(&self.columns[a]), clip(&self.columns[b]));
            let why = format!("`{name}` fits several columns, `{a}` and `{b}`; write more of the name");
            return Err(self.about_columns(why));
        }
        Ok(first)
    }

    /// An error about the columns: in the header line, if there is one.
    fn about_columns(&self, why: String) -> Error {
        if self.header > 0 { Error::row(&self.file, self.header, why) } else { Error::file(&self.file, why) }
    }

    /// Reads the next row and returns its line number, from 1; `None` at the end. Blank lines and comments are skipped.
    pub fn advance(&mut self) -> Result<Option<usize>> {
        let reader = match &mut self.rows {
            Rows::Text(reader) => reader,
            Rows::Xml(xml) => {
                let Some((line, fields)) = xml.row()? else { return Ok(None) };
                let value = |name: &String| fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value);
                self.record = self.columns.iter().map(value).collect::<Vec<_>>().into();
                return Ok(Some(line));
            }
        };
        reader.get_mut().given = 0;
        let more = reader.read_byte_record(&mut self.record).map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(e) => broken(&self.file, &e),
            other => Error::file(&self.file, format!("cannot be read as a table: {other:?}")),
        })?;
        // The reader's line number of a row counts from the previous row and includes blank lines and comments. After
        // the row, the reader is behind the row's line end.
        let inside = self.record.as_slice().iter().filter(|&&b| b == b'\n').count();
        let line = (reader.position().line() as usize).saturating_sub(1 + inside).max(1);
        let (found, of) = (self.record.len(), self.columns.len());
        if more && self.header == 0 && of > 0 && found != of {
            let why = format!("{found} fields where Columns of the sidecar lists {of}; correct the row or the sidecar");
            return Err(Error::row(&self.file, line, why));
        }
        Ok(more.then_some(line))
    }

    /// A field of the current row. `line` is the value that [`Table::advance`] returned; a row without this field is
    /// refused.
    pub fn field(&self, at: usize, line: usize) -> Result<&[u8]> {
        self.record.get(at).map(<[u8]>::trim_ascii).ok_or_else(|| {
            let (found, of) = (self.record.len(), self.columns.len());
            let why = format!("{found} fields where the header has {of}; is the line cut short, or `delimiter` wrong?");
            Error::row(&self.file, line, why)
        })
    }

    /// A field as text.
    pub fn text(&self, at: usize, line: usize) -> Result<String> {
        Ok(text_of(self.field(at, line)?))
    }

    /// A field as a finite number.
    pub fn number(&self, at: usize, line: usize) -> Result<f64> {
        let field = self.field(at, line)?;
        number(field, false).filter(|v| v.is_finite()).ok_or_else(|| {
            let (name, found) = (clip(&self.columns[at]), clip(&text_of(field)));
            Error::row(&self.file, line, format!("{name} is `{found}`, which is no number; correct the row"))
        })
    }

    /// The name of a column.
    pub fn name(&self, at: usize) -> &str {
        self.columns.get(at).map_or("", String::as_str)
    }
}

/// A number in plain decimal notation, with a decimal comma if `comma`.
pub fn number(field: &[u8], comma: bool) -> Option<f64> {
    let text = std::str::from_utf8(field).ok()?;
    if comma && text.contains(',') { text.replacen(',', ".", 1).parse().ok() } else { text.parse().ok() }
}

fn text_of(field: &[u8]) -> String {
    String::from_utf8_lossy(field.trim_ascii()).into_owned()
}

/// Turns every line end (`\r\n`, `\r`) into `\n` and adds one to the last line, so that lines can be counted behind the
/// CSV reader.
struct Lines {
    text: Box<dyn BufRead>,
    after_cr: bool,
    ended: bool,
    /// Bytes given since the last row began.
    given: usize,
}

impl Lines {
    fn reader(file: &Path, dialect: Dialect) -> Result<csv::Reader<Lines>> {
        let lines = Lines { text: text::open(file)?, after_cr: false, ended: false, given: 0 };
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(dialect.delimiter).comment(dialect.comment);
        Ok(builder.from_reader(lines))
    }
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given > LONGEST_ROW {
            let why = "has a row of more than 1 MiB; is it a table of text, and is every quote closed?";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() {
                let last = !std::mem::replace(&mut self.ended, true) && !out.is_empty();
                return Ok(if last {
                    out[0] = b'\n';
                    1
                } else {
                    0
                });
            }
            let (mut taken, mut given) = (0, 0);
            for &byte in bytes.iter().take(out.len()) {
                taken += 1;
                if !(byte == b'\n' && self.after_cr) {
                    out[given] = if byte == b'\r' { b'\n' } else { byte };
                    given += 1;
                }
                self.after_cr = byte == b'\r';
            }
            self.text.consume(taken);
            self.given += taken;
            if given > 0 || out.is_empty() {
                return Ok(given);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8], dialect: Dialect) -> Result<Table> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.csv");
        std::fs::write(&file, bytes).unwrap();
        Table::open(&file, dialect)
    }

    /// First field and line of every row.
    fn rows(text: &str) -> Vec<(String, usize)> {
        let mut table = open(text.as_bytes(), Dialect { comment: Some(b'#'), ..Dialect::CSV }).unwrap();
        let mut list = Vec::new();
        while let Some(line) = table.advance().unwrap() {
            list.push((table.text(0, line).unwrap(), line));
        }
        list
    }

    fn error(result: Result<impl Sized>) -> String {
        let text = result.err().expect("refused").to_string();
        text[text.find("t.csv").expect("names the file")..].to_string()
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let text = "#top\n\na,b\n1,2\n\n\n3,4\n#c\n5,6\n\"x\ny\",7\n8,9";
        let expected = [("1", 4), ("3", 7), ("5", 9), ("x\ny", 10), ("8", 12)].map(|(t, l)| (t.to_string(), l));
        assert_eq!(rows(text), expected);
        assert_eq!(rows(&text.replace('\n', "\r\n")), expected);
        assert_eq!(rows(&text.replace('\n', "\r")), expected);
        assert_eq!(rows(&(text.to_string() + "\n")), expected);
    }

    #[test]
    fn columns_are_found_by_name_or_by_its_start() {
        let table = open(b"\xef\xbb\xbfTIME(2026/01/01),TIMETICK,X\n", Dialect::CSV).unwrap();
        assert_eq!((table.column("TIME(*", "").unwrap(), table.column("X", "").unwrap()), (0, 2));
        let several =
            "t.csv:1: `TIME*` fits several columns, `TIME(2026/01/01)` and `TIMETICK`; write more of the name";
        assert_eq!(error(table.column("TIME*", "")), several);
        let none = "t.csv:1: no column `y`; there are `TIME(2026/01/01)`, `TIMETICK`, `X`; mend it";
        assert_eq!(error(table.column("y", "mend it")), none);
        let table = open(b"# c\na;b;c\n", Dialect { comment: Some(b'#'), ..Dialect::CSV }).unwrap();
        assert_eq!(
            error(table.column("a", "r")),
            "t.csv:2: no column `a`; there are `a;b;c` (is `delimiter` right?); r"
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let empty = "t.csv: is empty; a header line with the names of the columns is needed";
        assert_eq!(error(open(b"", Dialect::CSV)), empty);
        assert_eq!(error(open(b"\n\n", Dialect::CSV)), empty);
        assert_eq!(error(open(b"\xff\xfea\0", Dialect::CSV)), "t.csv: is UTF-16 text; export or save it as UTF-8");
        let mut table = open(b"a,b\n1\nx,2\n", Dialect::CSV).unwrap();
        let line = table.advance().unwrap().unwrap();
        let short = "t.csv:2: 1 fields where the header has 2; is the line cut short, or `delimiter` wrong?";
        assert_eq!(error(table.field(1, line)), short);
        let line = table.advance().unwrap().unwrap();
        assert_eq!(error(table.number(0, line)), "t.csv:3: a is `x`, which is no number; correct the row");
        assert_eq!(table.number(1, line).unwrap(), 2.0);
    }

    #[test]
    fn gzip_is_known_by_its_bytes_and_checked_to_its_end() {
        let mut packed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&b"a,b\n1,2\n3,4\n"[..], flate2::Compression::fast());
        encoder.read_to_end(&mut packed).unwrap();
        // two members, as `cat a.gz b.gz` makes them
        let mut table = open(&packed.repeat(2), Dialect::CSV).unwrap();
        let mut count = 0;
        while table.advance().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 5);
        for end in 2..packed.len() {
            let read_all = || -> Result<()> {
                let mut table = open(&packed[..end], Dialect::CSV)?;
                while table.advance()?.is_some() {}
                Ok(())
            };
            assert!(error(read_all()).contains("the gzip stream is damaged or cut short"), "cut at {end}");
        }
        let at = packed.len() - 5; // in the checksum
        packed[at] ^= 1;
        let mut table = open(&packed, Dialect::CSV).unwrap();
        let mut result = Ok(Some(0));
        while matches!(result, Ok(Some(_))) {
            result = table.advance();
        }
        assert!(error(result).contains("damaged"));
    }

    #[test]
    fn numbers_may_have_a_decimal_comma() {
        assert_eq!((number(b"1,5", true), number(b"1.5", true), number(b"1,5", false)), (Some(1.5), Some(1.5), None));
        assert_eq!((number(b"1,234,5", true), number(b"\xff", false)), (None, None));
    }
}
