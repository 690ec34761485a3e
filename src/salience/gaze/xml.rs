//! XML as a table: every element of one name is a row, its attributes are fields. An attribute `a` of an element `e`
//! inside the row is the field `e/a`. Recordings of IDE plug-ins (CodeGRITS, iTrace) have this form.
//!
//! The reader takes the part of XML that such files use: elements, attributes, comments, CDATA, processing
//! instructions, the five predefined entities and numeric references. It refuses document types, so there are no
//! entities to expand.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::text::{LONGEST_ROW, broken, clip};
use crate::error::{Error, Result};

/// Elements that may be open at a time.
const DEEPEST: usize = 1000;

/// A stream of rows.
pub(super) struct Xml {
    file: PathBuf,
    text: Box<dyn BufRead>,
    /// The name of the elements that are rows.
    element: String,
    /// The current line, from 1.
    line: usize,
    /// The open elements, each with its line.
    open: Vec<(String, usize)>,
    /// Whether the root element was seen.
    rooted: bool,
}

/// A row: the line of its element, and its fields. Of two fields with one name, the first is kept.
pub(super) type Row = (usize, Vec<(String, String)>);

/// A start tag.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    /// `<a/>`
    closed: bool,
}

impl Xml {
    pub fn new(file: &Path, text: Box<dyn BufRead>, element: &str) -> Xml {
        let (file, element) = (file.to_path_buf(), element.to_string());
        Xml { file, text, element, line: 1, open: Vec::new(), rooted: false }
    }

    /// The next row; `None` at the end of a complete document.
    pub fn row(&mut self) -> Result<Option<Row>> {
        let mut row: Option<(usize, Row)> = None;
        while self.until_tag()? {
            let line = self.line;
            match self.peek()? {
                Some(b'!') => self.declaration()?,
                Some(b'?') => self.instruction()?,
                Some(b'/') => {
                    self.close()?;
                    if row.as_ref().is_some_and(|(depth, _)| self.open.len() < *depth) {
                        return Ok(row.map(|(_, row)| row));
                    }
                }
                _ => {
                    let tag = self.tag()?;
                    if self.open.is_empty() && std::mem::replace(&mut self.rooted, true) {
                        return Err(self.fail("a second root element; a file holds one document"));
                    }
                    let closed = tag.closed;
                    let inside = row.is_some();
                    if !closed {
                        if self.open.len() == DEEPEST {
                            return Err(self.fail("elements nest too deep for a recording"));
                        }
                        self.open.push((tag.name.clone(), line));
                    }
                    match &mut row {
                        Some((depth, (_, fields))) => {
                            let above = self.open.iter().skip(*depth).map(|(name, _)| name.as_str());
                            let mut path: Vec<&str> = above.collect();
                            if closed {
                                path.push(&tag.name);
                            }
                            add(fields, &path.join("/"), &tag.attributes);
                        }
                        None if tag.name == self.element => {
                            let mut fields = Vec::new();
                            add(&mut fields, "", &tag.attributes);
                            row = Some((self.open.len(), (line, fields)));
                        }
                        None => {}
                    }
                    if closed
                        && !inside
                        && let Some((_, row)) = row
                    {
                        return Ok(Some(row));
                    }
                }
            }
        }
        match (self.open.last(), self.rooted) {
            (Some((name, line)), _) => {
                let why = format!("`<{}>` is never closed; the recording is cut short, export it again", clip(name));
                Err(Error::row(&self.file, *line, why))
            }
            (None, false) => Err(Error::file(&self.file, "has no XML element; check `format` in the mapping")),
            (None, true) => Ok(None),
        }
    }

    fn fail(&self, why: impl Into<String>) -> Error {
        Error::row(&self.file, self.line, why)
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.text.fill_buf().map_err(|e| broken(&self.file, &e))?.first().copied())
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.text.consume(1);
            self.line += usize::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn needed(&mut self) -> Result<u8> {
        self.byte()?.ok_or_else(|| self.fail("the file ends inside a tag; the recording is cut short, export it again"))
    }

    /// Skips text up to and including the next `<`; false at the end.
    fn until_tag(&mut self) -> Result<bool> {
        let mut skipped = 0;
        loop {
            match self.byte()? {
                Some(b'<') => return Ok(true),
                None => return Ok(false),
                Some(byte) if self.open.is_empty() && !byte.is_ascii_whitespace() && skipped >= 3 => {
                    return Err(self.fail("text where an XML element is needed; check `format` in the mapping"));
                }
                // three bytes may be the mark that some editors put before UTF-8
                Some(_) if skipped > LONGEST_ROW => return Err(self.fail("text of more than 1 MiB between two tags")),
                Some(_) => skipped += 1,
            }
        }
    }

    /// Skips everything up to and including `end`.
    fn skip_to(&mut self, end: &[u8]) -> Result {
        let mut last = Vec::with_capacity(end.len());
        loop {
            if last.len() == end.len() {
                last.remove(0);
            }
            last.push(self.needed()?);
            if last == end {
                return Ok(());
            }
        }
    }

    /// A comment or CDATA. A document type is refused.
    fn declaration(&mut self) -> Result {
        let mut start = Vec::new();
        while start.len() < 8 {
            start.push(self.needed()?);
            if start == b"!--" {
                return self.skip_to(b"-->");
            }
            if start == b"![CDATA[" {
                return self.skip_to(b"]]>");
            }
        }
        Err(self.fail("a document type or an entity declaration; recordings need none, remove it"))
    }

    /// `<? ... ?>`; the first one may name the encoding.
    fn instruction(&mut self) -> Result {
        let mut text = Vec::new();
        while !text.ends_with(b"?>") {
            text.push(self.needed()?);
            if text.len() > LONGEST_ROW {
                return Err(self.fail("a processing instruction of more than 1 MiB"));
            }
        }
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let encoding = text.strip_prefix("?xml").and_then(|text| text.split_once("encoding"));
        if let Some((_, value)) = encoding {
            let name = value.trim_start_matches([' ', '=', '"', '\'']).split(['"', '\'']).next().unwrap_or_default();
            if !matches!(name, "utf-8" | "utf8" | "us-ascii" | "ascii") {
                return Err(self.fail(format!("the encoding is `{}`; save the file as UTF-8", clip(name))));
            }
        }
        Ok(())
    }

    /// `</name>`, behind the `<`.
    fn close(&mut self) -> Result {
        let name = self.tag()?.name;
        match self.open.pop() {
            Some((open, _)) if name.strip_prefix('/') == Some(&open) => Ok(()),
            Some((open, line)) => {
                let (name, open) = (clip(&name), clip(&open));
                Err(self.fail(format!("`<{name}>` closes `<{open}>` of line {line}; correct or export the file again")))
            }
            None => Err(self.fail(format!("`<{}>` closes nothing; correct or export the file again", clip(&name)))),
        }
    }

    /// A tag up to its `>`, behind the `<`.
    fn tag(&mut self) -> Result<Tag> {
        let mut text = Vec::new();
        let mut quote = None;
        loop {
            let byte = self.needed()?;
            match (quote, byte) {
                (None, b'>') => break,
                (None, b'<') => return Err(self.fail("`<` inside a tag; correct or export the file again")),
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), byte) if open == byte => quote = None,
                _ => {}
            }
            text.push(byte);
            if text.len() > LONGEST_ROW {
                return Err(self.fail("a tag of more than 1 MiB; is every quote closed?"));
            }
        }
        let text = String::from_utf8(text).map_err(|_| self.fail("is not UTF-8 text; save it as UTF-8"))?;
        let (text, closed) = text.strip_suffix('/').map_or((text.as_str(), false), |text| (text, true));
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let (name, mut rest) = (&text[..end], text[end..].trim_ascii());
        if name.is_empty() {
            return Err(self.fail("a tag without a name; correct or export the file again"));
        }
        let mut attributes = Vec::new();
        while !rest.is_empty() {
            let attribute = || -> Option<(&str, &str, &str)> {
                let (key, value) = rest.split_once('=')?;
                let (key, value) = (key.trim_ascii(), value.trim_ascii_start());
                let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
                let (value, rest) = value[1..].split_once(quote)?;
                let plain = !key.is_empty() && !key.contains(|c: char| c.is_ascii_whitespace() || "\"'".contains(c));
                plain.then_some((key, value, rest.trim_ascii_start()))
            };
            let (key, value, behind) = attribute().ok_or_else(|| {
                let why = format!("`{}` is no attribute; write name=\"value\"", clip(rest));
                self.fail(why)
            })?;
            let value = decode(value).map_err(|entity| {
                self.fail(format!("`{}` is no predefined entity; write the character itself", clip(&entity)))
            })?;
            attributes.push((key.to_string(), value));
            rest = behind;
        }
        Ok(Tag { name: name.into(), attributes, closed })
    }
}

/// Adds attributes as fields, under the path of their element. A name that is there already is kept.
fn add(fields: &mut Vec<(String, String)>, path: &str, attributes: &[(String, String)]) {
    for (key, value) in attributes {
        let name = if path.is_empty() { key.clone() } else { format!("{path}/{key}") };
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, value.clone()));
        }
    }
}

/// Replaces the predefined entities and numeric references; the error is an entity that is none of them.
fn decode(value: &str) -> std::result::Result<String, String> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('&') {
        let (name, after) = behind.split_once(';').ok_or_else(|| format!("&{behind}"))?;
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let character = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match (name.strip_prefix("#x"), name.strip_prefix('#')) {
                (Some(digits), _) => number(digits, 16),
                (None, Some(digits)) => number(digits, 10),
                (None, None) => None,
            },
        };
        text.push_str(before);
        text.push(character.ok_or_else(|| format!("&{name};"))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[u8]) -> std::result::Result<Vec<Row>, String> {
        let bytes = std::io::Cursor::new(text.to_vec());
        let mut xml = Xml::new(Path::new("r.xml"), Box::new(bytes), "gaze");
        let mut rows = Vec::new();
        while let Some(row) = xml.row().map_err(|e| e.to_string())? {
            rows.push(row);
        }
        Ok(rows)
    }

    fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn elements_are_rows_and_attributes_fields() {
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- <gaze a='no'/> -->\n<eye_tracking>\n  \
                    <setting rate=\"60\"/>\n  <gazes>\n    <gaze a=\"1\">\n      <left x='0.5'/>\n      <location \
                    path=\"/a &amp; b/&#x43;.java\" line = \"3\"><deep z=\"1\"/></location>\n      <left x='0.7'/>\n  \
                     </gaze>\n    <gaze a=\"2>1\"/>\n    <![CDATA[<gaze/>]]>\n  </gazes>\n</eye_tracking>\n";
        let first = [
            ("a", "1"),
            ("left/x", "0.5"),
            ("location/path", "/a & b/C.java"),
            ("location/line", "3"),
            ("location/deep/z", "1"),
        ];
        let expected = vec![(6, fields(&first)), (11, fields(&[("a", "2>1")]))];
        assert_eq!(rows(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let why = |text: &str| rows(text.as_bytes()).unwrap_err();
        for (text, expected) in [
            ("", "r.xml: has no XML element; check `format` in the mapping"),
            ("a,b,c\n1,2,3\n", "r.xml:1: text where an XML element is needed; check `format` in the mapping"),
            ("<a>\n<gaze>\n", "r.xml:2: `<gaze>` is never closed; the recording is cut short, export it again"),
            ("<a>\n<gaze x=\"1", "r.xml:2: the file ends inside a tag; the recording is cut short, export it again"),
            ("<a>\n<b>\n</a>", "r.xml:3: `</a>` closes `<b>` of line 2; correct or export the file again"),
            ("</a>", "r.xml:1: `</a>` closes nothing; correct or export the file again"),
            ("<a/><b/>", "r.xml:1: a second root element; a file holds one document"),
            ("<a><gaze x=1/></a>", "r.xml:1: `x=1` is no attribute; write name=\"value\""),
            ("<a><gaze x=\"&e;\"/></a>", "r.xml:1: `&e;` is no predefined entity; write the character itself"),
            (
                "<a><gaze x=\"&#1114112;\"/></a>",
                "r.xml:1: `&#1114112;` is no predefined entity; write the character itself",
            ),
            (
                "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a/>",
                "r.xml:1: a document type or an entity declaration; recordings need none, remove it",
            ),
            (
                "<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
                "r.xml:1: the encoding is `iso-8859-1`; save the file as UTF-8",
            ),
            ("<a><<gaze/></a>", "r.xml:1: `<` inside a tag; correct or export the file again"),
            ("<a>< gaze=\"1\"/></a>", "r.xml:1: a tag without a name; correct or export the file again"),
        ] {
            assert_eq!(why(text), expected, "{text}");
        }
        assert_eq!(rows(b"<a><gaze x=\"\xff\"/></a>").unwrap_err(), "r.xml:1: is not UTF-8 text; save it as UTF-8");
        assert!(why(&"<a>".repeat(2000)).contains("elements nest too deep"));
        assert!(why(&format!("<a x=\"{}", "y".repeat(2 << 20))).contains("a tag of more than 1 MiB"));
        assert!(why(&format!("<a>{}", "y".repeat(2 << 20))).contains("text of more than 1 MiB"));
    }
}
