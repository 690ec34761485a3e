//! Describes the format of an eye tracker's export: names of columns and units, as a small TOML file.

use std::path::Path;

use serde::Deserialize;

use super::table::Dialect;
use crate::error::{Error, Result};

/// Names of columns and units of a recording. The default fits files with the columns `time_ms`, `x_px`, `y_px` and
/// `snippet`. A name that ends in `*` matches the single column with that prefix.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
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
    /// Column of the horizontal gaze coordinate, from the left edge of the screen.
    pub x: String,
    /// Column of the vertical gaze coordinate, from the upper edge of the screen.
    pub y: String,
    /// Unit of the coordinates.
    pub coordinates: Coordinates,
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
    /// Column of the participant; without it, the file's name gives the participant.
    pub participant: Option<String>,
    /// The pattern by which the file's name, without its extensions, gives participant and snippet, such as
    /// `{participant}_{snippet}`.
    pub file_name: String,
    /// Column that selects rows, for exports that mix sensors.
    pub rows: Option<String>,
    /// The values of that column whose rows are samples.
    pub keep: Vec<String>,
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
}

impl TimeUnit {
    /// All units.
    pub const ALL: [TimeUnit; 3] = [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds];

    /// Milliseconds per unit.
    pub fn in_ms(self) -> f64 {
        match self {
            TimeUnit::Seconds => 1e3,
            TimeUnit::Milliseconds => 1.0,
            TimeUnit::Microseconds => 1e-3,
        }
    }

    /// The name as a mapping spells it.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Microseconds => "us",
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
            delimiter: ",".into(),
            comment: String::new(),
            decimal: Decimal::Point,
            time: "time_ms".into(),
            time_unit: TimeUnit::Milliseconds,
            x: "x_px".into(),
            y: "y_px".into(),
            coordinates: Coordinates::Pixels,
            screen: None,
            validity: Vec::new(),
            valid: vec!["1".into()],
            snippet: None,
            ignore: Vec::new(),
            participant: None,
            file_name: "{participant}".into(),
            rows: None,
            keep: Vec::new(),
        }
    }
}

const PARTICIPANT: &str = "{participant}";
const SNIPPET: &str = "{snippet}";

impl Mapping {
    /// Reads a mapping file. Errors name the line or the key.
    pub fn load(file: &Path) -> Result<Mapping> {
        let text = std::fs::read(file).map_err(Error::io(file, "read"))?;
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
        if self.decimal == Decimal::Comma && self.delimiter == "," {
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
        for placeholder in [PARTICIPANT, SNIPPET] {
            if self.file_name.matches(placeholder).count() > 1 {
                return Err(format!("file_name has {placeholder} twice; once is enough"));
            }
        }
        if self.file_name.contains("}{") {
            return Err("file_name needs some text between its two placeholders".into());
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
        let mut found = [String::new(), String::new()];
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
            let next = [PARTICIPANT, SNIPPET].iter().enumerate().filter_map(|(i, p)| Some((pattern.find(p)?, i)));
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
                    let at = at.filter(|&at| at > 0).ok_or_else(fail)?;
                    found[slot] = rest[..at].to_string();
                    rest = &rest[at + literal.len()..];
                }
                None => rest = rest.strip_prefix(literal).ok_or_else(fail)?,
            }
            match next {
                Some((at, slot)) => {
                    open = Some(slot);
                    pattern = &pattern[at + [PARTICIPANT, SNIPPET][slot].len()..];
                }
                None => return Ok(found),
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        Mapping::parse(text).expect_err(text).1
    }

    #[test]
    fn an_empty_mapping_is_the_default() {
        assert_eq!(Mapping::parse("").unwrap(), Mapping::default());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let (line, why) = Mapping::parse("time = \"t\"\ntime_units = \"s\"\n").unwrap_err();
        assert_eq!(line, Some(2));
        assert!(why.starts_with("unknown field `time_units`, expected one of `delimiter`"), "{why}");
        let (line, why) = Mapping::parse("\n\ntime_unit = \"hours\"").unwrap_err();
        assert_eq!((line, why.as_str()), (Some(3), "unknown variant `hours`, expected one of `s`, `ms`, `us`"));
        assert!(refusal("delimiter = \"tab\"").contains("delimiter is \"tab\", but must be one ASCII character"));
        assert!(refusal("comment = \",\"").contains("comment is \",\""));
        assert!(refusal("decimal = \",\"").contains("decimal and delimiter are both"));
        assert!(refusal("screen = [0, 5]").contains("screen is [0.0, 5.0], but must be [width, height] in pixels"));
        assert!(refusal("validity = [\"v\"]\nvalid = []").contains("valid is empty"));
        assert!(refusal("rows = \"Sensor\"").contains("keep is empty"));
        assert!(refusal("file_name = \"x\"").contains("nothing says who was recorded"));
        assert!(refusal("file_name = \"{snippet}-{snippet}\"").contains("{snippet} twice"));
        assert!(refusal("file_name = \"{participant}{snippet}\"").contains("some text between"));
    }

    #[test]
    fn the_name_of_a_file_gives_participant_and_snippet() {
        let split = |pattern: &str, file: &str| {
            let mapping = Mapping { file_name: pattern.into(), ..Mapping::default() };
            mapping.from_file_name(Path::new(file)).map_err(|e| e.to_string())
        };
        let pair = |a: &str, b: &str| Ok([a.to_string(), b.to_string()]);
        assert_eq!(split("{participant}", "d/P 1.csv.gz"), pair("P 1", ""));
        assert_eq!(split("{participant}_{snippet}", "p01_Sum_Array.tsv"), pair("p01", "Sum_Array"));
        assert_eq!(split("{snippet}-{participant}_all_gaze", "A-User 0_all_gaze.csv"), pair("User 0", "A"));
        assert_eq!(split("rec-{participant}", "rec-7"), pair("7", ""));
        let wrong = "x/p01.tsv: its name does not fit file_name = \"{participant}_{snippet}\" of the mapping; rename \
                     it or mend the pattern";
        assert_eq!(split("{participant}_{snippet}", "x/p01.tsv"), Err(wrong.into()));
        assert!(split("{participant}_{snippet}", "_a.tsv").is_err() && split("a{participant}", "b.csv").is_err());
        // {snippet} in the pattern replaces the column, unless one is named
        let column = |text: &str| Mapping::parse(text).unwrap().snippet_column().map(str::to_string);
        assert_eq!(column("").as_deref(), Some("snippet"));
        assert_eq!(column("file_name = \"{participant}_{snippet}\"").as_deref(), None);
        assert_eq!(column("file_name = \"{participant}_{snippet}\"\nsnippet = \"S\"").as_deref(), Some("S"));
    }

    #[test]
    fn snippets_are_ignored_by_name_or_its_start() {
        let mapping = Mapping { ignore: vec!["Cross".into(), "Eyetracker*".into()], ..Mapping::default() };
        assert!(mapping.ignores("Cross") && mapping.ignores("Eyetracker Calibration"));
        assert!(!mapping.ignores("Cross2") && !mapping.ignores("Sum"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_mapping_or_an_error(
            text in "\\PC{0,200}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Mapping::parse(&text);
            let _ = Mapping::parse(&String::from_utf8_lossy(&bytes));
            let pattern = Mapping { file_name: text.clone(), ..Mapping::default() };
            let _ = pattern.from_file_name(Path::new(&text));
        }
    }
}
