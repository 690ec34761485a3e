//! Describes the format of an eye tracker's export: names of columns and units, as a small TOML file.

use std::path::Path;

use serde::Deserialize;

use super::table::Dialect;
use crate::error::{Error, Result};
use crate::files;

/// Names of columns and units of a recording. The default fits files with the columns `time_ms`, `x_px`, `y_px` and
/// `snippet`. A name that ends in `*` matches the single column with that prefix.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The form of the file.
    pub format: Format,
    /// XML: the name of the elements that are rows.
    pub element: String,
    /// The character between two fields; `"\t"` for tab-separated text.
    pub delimiter: String,
    /// Lines that begin with this character are skipped; empty for none.
    pub comment: String,
    /// The decimal separator of numbers.
    pub decimal: Decimal,
    /// Column of the time stamp.
    pub time: String,
    /// Unit of the time stamp.
    pub time_unit: TimeUnit,
    /// Column of the end of a fixation, in the unit of the time stamp: rows are fixations, and `time` is their start.
    pub end: Option<String>,
    /// Column of the duration of a fixation, in place of `end`.
    pub duration: Option<String>,
    /// Unit of the duration; if unset, that of the time stamp.
    pub duration_unit: Option<TimeUnit>,
    /// Column of the horizontal gaze coordinate, from the left edge of the screen.
    pub x: String,
    /// Column of the vertical gaze coordinate, from the upper edge of the screen.
    pub y: String,
    /// Unit of the coordinates.
    pub coordinates: Coordinates,
    /// Column of the line in the source file: rows give positions in code, `snippet` is the column of the file, and `x`
    /// and `y` are not read.
    pub line: Option<String>,
    /// Column of the column in that line.
    pub column: Option<String>,
    /// The number of the first line: 0 or 1.
    pub first_line: u8,
    /// The number of the first column: 0 or 1.
    pub first_column: u8,
    /// Columns between two tab stops; 1 if a tab counts as one column.
    pub tab: u8,
    /// Values that stand for a lost sample; if unset, [`Mapping::LOST`] on the screen and -1 in source files.
    pub missing: Option<Vec<Mark>>,
    /// Width and height of the screen in pixels, for participants that no table of participants lists.
    pub screen: Option<[f64; 2]>,
    /// Columns that state whether a sample is valid: it is valid if any of them (either eye) states so. If empty, every
    /// sample with coordinates is valid.
    pub validity: Vec<String>,
    /// The values that mean valid.
    pub valid: Vec<String>,
    /// Column of the snippet or stimulus that was shown. If unset, it is `snippet`, or no column if `file_name` has
    /// `{snippet}`.
    pub snippet: Option<String>,
    /// Snippets to skip, such as instructions; a name may end in `*`.
    pub ignore: Vec<String>,
    /// Column that tells the recordings of a file apart. Each has its own clock, and no path crosses to the next.
    pub recording: Option<String>,
    /// Column of the participant; without it, the file's name gives the participant.
    pub participant: Option<String>,
    /// The pattern by which the file's name, without its extensions, gives participant and snippet, such as
    /// `{participant}_{snippet}`; `*` fits any text.
    pub file_name: String,
    /// Column that selects rows, for exports that mix sensors.
    pub rows: Option<String>,
    /// The values of that column whose rows are samples.
    pub keep: Vec<String>,
}

/// The form of a recording's file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text with a header line.
    Table,
    /// XML whose elements of one name are rows; attributes are columns.
    Xml,
    /// BIDS: tab-separated text without a header, and a JSON sidecar.
    Bids,
}

/// A value that stands for a lost sample.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Mark {
    /// A coordinate with this value. 0 counts only in both coordinates: one of them may be 0 at an edge of the screen.
    Number(f64),
    /// A field with this text, in any case.
    Text(String),
}

/// The decimal separator.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Decimal {
    /// `1.5`
    #[serde(rename = ".")]
    Point,
    /// `1,5`
    #[serde(rename = ",")]
    Comma,
}

/// The unit of time stamps.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

impl TimeUnit {
    /// All units.
    pub const ALL: [TimeUnit; 4] =
        [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds];

    /// Milliseconds per unit.
    pub fn in_ms(self) -> f64 {
        match self {
            TimeUnit::Seconds => 1e3,
            TimeUnit::Milliseconds => 1.0,
            TimeUnit::Microseconds => 1e-3,
            TimeUnit::Nanoseconds => 1e-6,
        }
    }

    /// The name as a mapping spells it.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Microseconds => "us",
            TimeUnit::Nanoseconds => "ns",
        }
    }
}

/// Unit of gaze coordinates.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Coordinates {
    /// Pixels of the screen.
    Pixels,
    /// Fractions of the screen: 0 is its left or upper edge, 1 its right or lower edge.
    Normalised,
}

impl Default for Mapping {
    fn default() -> Self {
        Mapping {
            format: Format::Table,
            element: String::new(),
            delimiter: ",".into(),
            comment: String::new(),
            decimal: Decimal::Point,
            time: "time_ms".into(),
            time_unit: TimeUnit::Milliseconds,
            end: None,
            duration: None,
            duration_unit: None,
            x: "x_px".into(),
            y: "y_px".into(),
            coordinates: Coordinates::Pixels,
            line: None,
            column: None,
            first_line: 1,
            first_column: 1,
            tab: 1,
            missing: None,
            screen: None,
            validity: Vec::new(),
            valid: vec!["1".into()],
            snippet: None,
            ignore: Vec::new(),
            recording: None,
            participant: None,
            file_name: "{participant}".into(),
            rows: None,
            keep: Vec::new(),
        }
    }
}

const PARTICIPANT: &str = "{participant}";
const SNIPPET: &str = "{snippet}";
/// The placeholders of `file_name`; the last one is not kept.
const PLACEHOLDERS: [&str; 3] = [PARTICIPANT, SNIPPET, "*"];

impl Mapping {
    /// Coordinates by which trackers mark lost samples: 0, 0 (SMI and others), -1, -32768 (NaN as a short integer) and
    /// 100000000 (EyeLink).
    pub const LOST: [f64; 4] = [0.0, -1.0, -32768.0, 1e8];

    /// Reads a mapping file. Errors name the line or the key.
    pub fn load(file: &Path) -> Result<Mapping> {
        let text = files::read(file).map_err(Error::io(file, "read"))?;
        let fail = |line: Option<usize>, why: String| {
            let place = line.map(|line| format!(":{line}")).unwrap_or_default();
            Error::Recipe { origin: format!("{}{place}", file.display()), why }
        };
        let text = String::from_utf8(text).map_err(|_| fail(None, "is not UTF-8 text; save it as UTF-8".into()))?;
        Mapping::parse(&text).map_err(|(line, why)| fail(line, why))
    }

    /// Reads a mapping. The error is the line, if known, and a sentence.
    pub fn parse(text: &str) -> std::result::Result<Mapping, (Option<usize>, String)> {
        let mapping: Mapping = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            (line, e.message().trim().replace('\n', ", "))
        })?;
        mapping.check().map_err(|why| (None, why))?;
        Ok(mapping)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let one = |text: &str| text.len() == 1 && text.is_ascii() && !matches!(text, "\n" | "\r" | "\"");
        if !one(&self.delimiter) {
            return Err(format!(
                "delimiter is {:?}, but must be one ASCII character, such as \",\" or \"\\t\"",
                self.delimiter
            ));
        }
        if !self.comment.is_empty() && (!one(&self.comment) || self.comment == self.delimiter) {
            return Err(format!("comment is {:?}, but must be one ASCII character other than delimiter", self.comment));
        }
        if self.decimal == Decimal::Comma && self.delimiter == "," && self.format == Format::Table {
            return Err("decimal and delimiter are both \",\"; set delimiter = \";\" or \"\\t\"".into());
        }
        if let Some(size) = self.screen
            && !size.iter().all(|side| (1.0..=1e5).contains(side))
        {
            return Err(format!("screen is {size:?}, but must be [width, height] in pixels"));
        }
        if !self.validity.is_empty() && self.valid.is_empty() {
            return Err("validity names columns but valid is empty; list the values that mean valid".into());
        }
        if self.rows.is_some() && self.keep.is_empty() {
            return Err("rows names a column but keep is empty; list the values whose rows are samples".into());
        }
        if (self.format == Format::Xml) == self.element.is_empty() {
            let why = match self.format {
                Format::Xml => {
                    "format is \"xml\" but element is unset; set it to the name of the elements that are rows"
                }
                _ => "element is set but format is not \"xml\"; leave one out, or set the other",
            };
            return Err(why.into());
        }
        if self.end.is_some() && self.duration.is_some() {
            return Err("end and duration are both set; a fixation needs one of them".into());
        }
        if self.duration_unit.is_some() && self.duration.is_none() {
            return Err("duration_unit is set but duration is not; set duration, or leave the unit out".into());
        }
        if self.line.is_some() != self.column.is_some() {
            return Err("a position in code needs both line and column".into());
        }
        if self.first_line > 1 || self.first_column > 1 {
            return Err("first_line and first_column must be 0 or 1".into());
        }
        if !(1..=16).contains(&self.tab) {
            return Err(format!("tab is {}, but must be 1 to 16 columns", self.tab));
        }
        let plain = Mapping::default();
        let counted = (self.first_line, self.first_column, self.tab) != (1, 1, 1);
        if self.in_source() && (self.coordinates, &self.x, &self.y) != (plain.coordinates, &plain.x, &plain.y) {
            return Err("line and column say where the eyes were; leave out x, y and coordinates".into());
        }
        if counted && !self.in_source() {
            return Err("first_line, first_column and tab belong to line and column, which are unset".into());
        }
        for mark in self.missing.iter().flatten() {
            if matches!(mark, Mark::Number(value) if !value.is_finite()) {
                return Err("missing has a value that is not finite; such fields are lost without it".into());
            }
        }
        for placeholder in [PARTICIPANT, SNIPPET] {
            if self.file_name.matches(placeholder).count() > 1 {
                return Err(format!("file_name has {placeholder} twice; once is enough"));
            }
        }
        if ["}{", "}*", "*{", "**"].iter().any(|pair| self.file_name.contains(pair)) {
            return Err("file_name needs some text between two placeholders".into());
        }
        if self.participant.is_none() && !self.file_name.contains(PARTICIPANT) {
            return Err(
                "nothing says who was recorded; set participant to a column or put {participant} into file_name".into(),
            );
        }
        Ok(())
    }

    /// The column that names the snippet; `None` if the file's name gives it.
    pub fn snippet_column(&self) -> Option<&str> {
        match &self.snippet {
            Some(column) => Some(column),
            None => (!self.file_name.contains(SNIPPET)).then_some("snippet"),
        }
    }

    /// The delimiter and comment character.
    pub fn dialect(&self) -> Dialect {
        let first = |text: &str| text.bytes().next();
        Dialect { delimiter: first(&self.delimiter).unwrap_or(b','), comment: first(&self.comment) }
    }

    /// Whether rows give lines and columns of source files.
    pub fn in_source(&self) -> bool {
        self.line.is_some()
    }

    /// Whether rows are fixations.
    pub fn has_fixations(&self) -> bool {
        self.end.is_some() || self.duration.is_some()
    }

    /// Whether two coordinates stand for a lost sample.
    pub fn marks_lost(&self, x: f64, y: f64) -> bool {
        let listed = |value: f64| match &self.missing {
            Some(marks) => marks.contains(&Mark::Number(value)),
            None if self.in_source() => value == -1.0,
            None => Mapping::LOST.contains(&value),
        };
        if x == 0.0 && y == 0.0 { listed(0.0) } else { [x, y].into_iter().any(|value| value != 0.0 && listed(value)) }
    }

    /// Whether the text of a field means "no value".
    pub fn marks_missing(&self, field: &[u8]) -> bool {
        // the last row is what C's printf writes for a number that is none
        const MARKS: [&str; 15] = [
            "",
            ".",
            "-",
            "na",
            "n/a",
            "nan",
            "null",
            "none",
            "(null)", //
            "-nan",
            "-nan(ind)",
            "1.#qnan",
            "-1.#qnan",
            "1.#ind",
            "-1.#ind",
        ];
        let own = |mark: &Mark| matches!(mark, Mark::Text(text) if text.as_bytes().eq_ignore_ascii_case(field));
        MARKS.iter().any(|mark| field.eq_ignore_ascii_case(mark.as_bytes())) || self.missing.iter().flatten().any(own)
    }

    /// Whether a snippet with this name is skipped.
    pub fn ignores(&self, snippet: &str) -> bool {
        self.ignore.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => snippet.starts_with(start),
            None => snippet == name,
        })
    }

    /// Participant and snippet from the name of a file; empty if the pattern lacks the placeholder.
    pub fn from_file_name(&self, file: &Path) -> Result<[String; 2]> {
        let stem = stem(file);
        let mut rest = stem.as_str();
        let mut found = [String::new(), String::new(), String::new()];
        let mut pattern = self.file_name.as_str();
        let mut open: Option<usize> = None;
        let fail = || {
            let why = format!(
                "its name does not fit file_name = {:?} of the mapping; rename it or mend the pattern",
                self.file_name
            );
            Error::file(file, why)
        };
        loop {
            let next = PLACEHOLDERS.iter().enumerate().filter_map(|(i, p)| Some((pattern.find(p)?, i)));
            let next = next.min();
            let literal = &pattern[..next.map_or(pattern.len(), |(at, _)| at)];
            match open {
                // The last placeholder takes everything up to the literal at the end; an earlier placeholder takes as
                // little as possible.
                Some(slot) => {
                    let at = if next.is_none() {
                        rest.ends_with(literal).then(|| rest.len() - literal.len())
                    } else {
                        rest.find(literal)
                    };
                    let at = at.filter(|&at| at > 0 || slot == 2).ok_or_else(fail)?;
                    found[slot] = rest[..at].to_string();
                    rest = &rest[at + literal.len()..];
                }
                None => rest = rest.strip_prefix(literal).ok_or_else(fail)?,
            }
            match next {
                Some((at, slot)) => {
                    open = Some(slot);
                    pattern = &pattern[at + PLACEHOLDERS[slot].len()..];
                }
                None => {
                    let [participant, snippet, _] = found;
                    return Ok([participant, snippet]);
                }
            }
        }
    }
}

/// A file's name without `.gz` and without the extension before it.
pub fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rfind('.') {
        Some(at) if at > 0 => name[..at].to_string(),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests;
