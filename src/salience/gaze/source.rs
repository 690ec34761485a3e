//! Snippets without a table of boxes: recordings that give line and column in a source file say which token was looked
//! at. Every character of the code gets a cell of [`CELL`] pixels, and every token the boxes of its characters, so that
//! fixations, hits and pictures are those of a screen that shows the whole file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::boxes::{Layout, Snippet, Snippets, TokenBox, label_file};
use crate::error::{Error, Result};
use crate::salience::Span;
use crate::salience::labels::Calls;
use crate::salience::syntax::Language;

/// Width and height of a character, in pixels.
pub const CELL: [f64; 2] = [10.0, 20.0];

/// Source files that a folder may hold: more are a mistaken folder.
const MOST_FILES: usize = 10_000;

/// The middle of the character in this line and column, both counted from 0.
pub fn middle(line: f64, column: f64) -> (f64, f64) {
    ((column + 0.5) * CELL[0], (line + 0.5) * CELL[1])
}

/// Labels all source files below a folder. A snippet is named by its path below the folder. `tab` is the number of
/// columns between two tab stops in the recordings; 1 if they count a tab as one character.
pub fn load(folder: &Path, tab: usize, calls: Calls) -> Result<Snippets> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).map_err(Error::io(&at, "read"))? {
            let entry = entry.map_err(Error::io(&at, "read"))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io(&at, "read"))?);
            if kind.is_dir() {
                folders.push(path);
            } else if Language::from_path(&path).is_ok() && path.is_file() {
                files.push(path);
            }
        }
        if files.len() > MOST_FILES {
            let why = format!("has more than {MOST_FILES} source files; name a folder with the code that was shown");
            return Err(Error::file(folder, why));
        }
    }
    files.sort();
    let mut list = BTreeMap::new();
    for file in files {
        let parts = file.strip_prefix(folder).unwrap_or(&file).iter().map(|part| part.to_string_lossy());
        let name = parts.collect::<Vec<_>>().join("/");
        list.insert(name.clone(), snippet(name, file, tab, calls)?);
    }
    if list.is_empty() {
        return Err(Error::file(folder, "has no source file in a known language; put the code that was shown there"));
    }
    Ok(Snippets::of_files(folder, list))
}

fn snippet(name: String, file: PathBuf, tab: usize, calls: Calls) -> Result<Snippet> {
    let (code, spans) = label_file(&file, calls)?;
    let layout = Layout::of(boxes(&code, &spans, tab));
    Ok(Snippet { name, file, code, spans, layouts: BTreeMap::from([(0, layout)]) })
}

/// The boxes of a text: for each line, one for every span on it, and one for every run of other characters that are not
/// blank. Columns are counted in UTF-16 units, as editors do.
fn boxes(code: &[u8], spans: &[Span], tab: usize) -> Vec<TokenBox> {
    let mut list: Vec<TokenBox> = Vec::new();
    let (mut line, mut column, mut next) = (0, 0, 0);
    // whether the last box can grow: its span goes on, on this line
    let mut open = false;
    let mut at = 0;
    while at < code.len() {
        let (character, length) = first(&code[at..]);
        while spans.get(next).is_some_and(|span| span.end <= at) {
            next += 1;
            open = false;
        }
        let span = spans.get(next).filter(|span| span.start <= at).map(|_| next);
        let width = match character {
            '\t' => tab - column % tab,
            other => other.len_utf16(),
        };
        match character {
            '\n' | '\r' => {
                // `\r\n` ends one line
                if !(character == '\r' && code.get(at + 1) == Some(&b'\n')) {
                    line += 1;
                    column = 0;
                }
                open = false;
            }
            blank if blank.is_whitespace() && span.is_none() => {
                column += width;
                open = false;
            }
            // the mark that some editors put before UTF-8 has no column
            '\u{feff}' if at == 0 => {}
            _ => {
                match list.last_mut().filter(|last| open && last.span == span) {
                    Some(last) => {
                        last.end = at + length;
                        last.area[2] += width as f64 * CELL[0];
                    }
                    None => {
                        let [x, y] = [column as f64 * CELL[0], line as f64 * CELL[1]];
                        let area = [x, y, width as f64 * CELL[0], CELL[1]];
                        list.push(TokenBox { area, start: at, end: at + length, span, line: line + 1 });
                    }
                }
                column += width;
                open = true;
            }
        }
        at += length;
    }
    list
}

/// The first character of some bytes and its length; U+FFFD for a byte that is not UTF-8.
fn first(bytes: &[u8]) -> (char, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salience::labels;

    /// Text, line and column (from 0) and width of each box.
    fn placed(code: &str, tab: usize) -> Vec<(String, f64, f64, f64, bool)> {
        let spans = labels::label(code.as_bytes(), Language::Java, Calls::Syntax).unwrap();
        let one = |b: TokenBox| {
            let [x, y, w, _] = b.area;
            (code[b.start..b.end].to_string(), y / CELL[1], x / CELL[0], w / CELL[0], b.span.is_some())
        };
        boxes(code.as_bytes(), &spans, tab).into_iter().map(one).collect()
    }

    #[test]
    fn tokens_stand_where_an_editor_shows_them() {
        let code = "int f() {\r\n\treturn \"é𝒳\"; /* a\n b */\n}\n";
        let row =
            |text: &str, line: f64, column: f64, width: f64, span: bool| (text.to_string(), line, column, width, span);
        let expected = |tab: f64| {
            vec![
                row("int", 0.0, 0.0, 3.0, true),
                row("f", 0.0, 4.0, 1.0, true),
                row("()", 0.0, 5.0, 2.0, false),
                row("{", 0.0, 8.0, 1.0, false),
                row("return", 1.0, tab, 6.0, true),
                row("\"é𝒳\"", 1.0, tab + 7.0, 5.0, true),
                row(";", 1.0, tab + 12.0, 1.0, false),
                row("/* a", 1.0, tab + 14.0, 4.0, true),
                row(" b */", 2.0, 0.0, 5.0, true),
                row("}", 3.0, 0.0, 1.0, false),
            ]
        };
        assert_eq!(placed(code, 1), expected(1.0));
        assert_eq!(placed(code, 4), expected(4.0));
        // a tab goes to the next stop, wherever it begins
        let stops: Vec<f64> = placed("a\tb = 1;\n  \tc = 2;", 4).into_iter().map(|b| b.2).collect();
        assert_eq!(stops, [0.0, 4.0, 6.0, 8.0, 9.0, 4.0, 6.0, 8.0, 9.0]);
        // the mark of UTF-8, and bytes that are none
        assert_eq!(placed("\u{feff}int x;", 1)[0], row("int", 0.0, 0.0, 3.0, true));
        assert_eq!(boxes(b"\xff\xfe", &[], 1).len(), 1);
        assert!(boxes(b"", &[], 1).is_empty());
    }
}
