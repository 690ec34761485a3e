//! A recording as a stream of samples, in pixels and milliseconds. Malformed recordings are refused.

use std::path::Path;

use super::mapping::{Coordinates, Mapping, TimeUnit};
use super::screens::{Screens, Size};
use super::table::{Table, clip, number};
use crate::error::{Error, Result};

/// One row of a recording that belongs to a snippet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Whether the participant or the snippet differs from the previous row: fixations and paths do not cross this
    /// boundary.
    pub new_stretch: bool,
    /// Time in milliseconds.
    pub ms: f64,
    /// Gaze position in pixels; `None` for a lost sample (no coordinates, or not valid).
    pub point: Option<(f64, f64)>,
}

/// Sampling rates that eye trackers have, in Hz.
const RATES: [f64; 2] = [10.0, 5000.0];
/// Number of intervals between samples that determine the rate.
const INTERVALS: usize = 4096;
/// Normalised coordinates lie within this distance of 0, even for a gaze beside the screen.
const NORMALISED: f64 = 3.0;

/// An open recording.
pub struct Recording<'a> {
    mapping: &'a Mapping,
    screens: &'a Screens,
    table: Table,
    time: usize,
    x: usize,
    y: usize,
    validity: Vec<usize>,
    snippet_column: Option<usize>,
    participant_column: Option<usize>,
    filter: Option<usize>,
    /// Participant and snippet of the previous row.
    names: [String; 2],
    /// Whether the next row starts a stretch in any case: it is the first row, or follows skipped rows.
    interrupted: bool,
    scale: Size,
    last: Option<(f64, usize)>,
    intervals: Vec<f64>,
    rows: u64,
    kept: u64,
    good: u64,
    small: u64,
}

impl<'a> Recording<'a> {
    /// Opens a recording and finds the columns of the mapping.
    pub fn open(file: &Path, mapping: &'a Mapping, screens: &'a Screens) -> Result<Recording<'a>> {
        let table = Table::open(file, mapping.dialect())?;
        let column = |key: &str, name: &str| table.column(name, &format!("set `{key}` in a mapping (--mapping)"));
        let optional = |key: &str, name: Option<&str>| name.map(|name| column(key, name)).transpose();
        let names = mapping.from_file_name(file)?;
        let (time, x, y) = (column("time", &mapping.time)?, column("x", &mapping.x)?, column("y", &mapping.y)?);
        let validity = mapping.validity.iter().map(|name| column("validity", name)).collect::<Result<_>>()?;
        let snippet_column = optional("snippet", mapping.snippet_column())?;
        let participant_column = optional("participant", mapping.participant.as_deref())?;
        let filter = optional("rows", mapping.rows.as_deref())?;
        Ok(Recording {
            mapping,
            screens,
            table,
            time,
            x,
            y,
            validity,
            snippet_column,
            participant_column,
            filter,
            names,
            interrupted: true,
            scale: [1.0, 1.0],
            last: None,
            intervals: Vec::new(),
            rows: 0,
            kept: 0,
            good: 0,
            small: 0,
        })
    }

    /// The participant of the last row.
    pub fn participant(&self) -> &str {
        &self.names[0]
    }

    /// The snippet of the last row, as the recording spells it.
    pub fn snippet(&self) -> &str {
        &self.names[1]
    }

    /// The next row that belongs to a snippet, with its line number. `None` at the end, after the whole recording has
    /// been checked. Rows without a snippet, with an ignored snippet, or of another sensor are skipped.
    pub fn advance(&mut self) -> Result<Option<(Row, usize)>> {
        while let Some(line) = self.table.advance()? {
            self.rows += 1;
            if let Some(at) = self.filter
                && !is_one_of(self.table.field(at, line)?, &self.mapping.keep)
            {
                continue;
            }
            let new_snippet = self.take(self.snippet_column, 1, line)?;
            let new_participant = self.take(self.participant_column, 0, line)?;
            if self.snippet().is_empty() || self.mapping.ignores(self.snippet()) {
                self.interrupted = true;
                continue;
            }
            self.kept += 1;
            let new_stretch = new_snippet || new_participant || self.interrupted;
            if new_stretch {
                self.scale = self.scale(line)?;
                self.last = None;
                self.interrupted = false;
            }
            let ms = self.milliseconds(line)?;
            return Ok(Some((Row { new_stretch, ms, point: self.point(line)? }, line)));
        }
        self.check()?;
        Ok(None)
    }

    /// Takes over a name from a column; returns whether it changed.
    fn take(&mut self, column: Option<usize>, slot: usize, line: usize) -> Result<bool> {
        let Some(at) = column else { return Ok(false) };
        let name = String::from_utf8_lossy(self.table.field(at, line)?);
        if name == self.names[slot] {
            return Ok(false);
        }
        self.names[slot] = name.into_owned();
        Ok(true)
    }

    /// The factors that turn coordinates into pixels.
    fn scale(&self, line: usize) -> Result<Size> {
        if self.mapping.coordinates == Coordinates::Pixels {
            return Ok([1.0, 1.0]);
        }
        self.screens.of(self.participant()).ok_or_else(|| {
            let who = clip(self.participant());
            let why = format!("coordinates are normalised but the screen of participant `{who}` is not known");
            let remedy = "set screen = [width, height] in the mapping, or list it in --participants";
            Error::row(self.table.file(), line, format!("{why}; {remedy}"))
        })
    }

    fn milliseconds(&mut self, line: usize) -> Result<f64> {
        let field = self.table.field(self.time, line)?;
        let comma = self.mapping.decimal == super::mapping::Decimal::Comma;
        let fail = |why: String| Error::row(self.table.file(), line, why);
        let Some(time) = number(field, comma).filter(|t| t.is_finite()) else {
            let (name, found) = (clip(self.table.name(self.time)), clip(&String::from_utf8_lossy(field)));
            let why = format!("{name} is `{found}`, which is no time; correct the row, or `decimal` in the mapping");
            return Err(fail(why));
        };
        let ms = time * self.mapping.time_unit.in_ms();
        if let Some((last, at)) = self.last {
            if ms < last {
                let found = clip(&String::from_utf8_lossy(field));
                return Err(fail(format!("its time {found} is before that of line {at}; sort the rows by time")));
            }
            if ms > last && self.intervals.len() < INTERVALS {
                self.intervals.push(ms - last);
            }
        }
        self.last = Some((ms, line));
        Ok(ms)
    }

    fn point(&mut self, line: usize) -> Result<Option<(f64, f64)>> {
        let mut valid = self.validity.is_empty();
        for &at in &self.validity {
            valid |= is_one_of(self.table.field(at, line)?, &self.mapping.valid);
        }
        let (Some(x), Some(y)) = (self.coordinate(self.x, line)?, self.coordinate(self.y, line)?) else {
            return Ok(None);
        };
        if !valid {
            return Ok(None);
        }
        self.good += 1;
        self.small += u64::from(x.abs() <= NORMALISED && y.abs() <= NORMALISED);
        Ok(Some((x * self.scale[0], y * self.scale[1])))
    }

    /// A coordinate as the file has it; `None` where it is missing or not finite.
    fn coordinate(&self, at: usize, line: usize) -> Result<Option<f64>> {
        let field = self.table.field(at, line)?;
        if missing(field) {
            return Ok(None);
        }
        let comma = self.mapping.decimal == super::mapping::Decimal::Comma;
        let Some(value) = number(field, comma) else {
            let (name, found) = (clip(self.table.name(at)), clip(&String::from_utf8_lossy(field)));
            let why = format!("{name} is `{found}`, which is no number; correct the row, or `decimal` in the mapping");
            return Err(Error::row(self.table.file(), line, why));
        };
        Ok(Some(value).filter(|v| v.is_finite()))
    }

    /// Checks that need the whole recording: that it has samples at all, and that their units are plausible.
    fn check(&mut self) -> Result {
        let fail = |why: String| Err(Error::file(self.table.file(), why));
        if self.rows == 0 {
            return fail("has a header but no rows; export the recording again".into());
        }
        if self.kept == 0 {
            let why = format!("none of its {} rows is a sample of a snippet", self.rows);
            return fail(format!("{why}; check `snippet`, `ignore`, `rows` and `keep` in the mapping"));
        }
        let (unit, coordinates) = (self.mapping.time_unit, self.mapping.coordinates);
        self.intervals.sort_unstable_by(f64::total_cmp);
        if let Some(&median) = self.intervals.get(self.intervals.len() / 2) {
            let rate = |unit_ms: f64| 1000.0 / (median / unit.in_ms() * unit_ms);
            let plausible = |hz: f64| (RATES[0]..=RATES[1]).contains(&hz);
            let found = rate(unit.in_ms());
            if !plausible(found) {
                let better: Vec<String> = TimeUnit::ALL
                    .iter()
                    .filter(|u| plausible(rate(u.in_ms())))
                    .map(|u| format!("time_unit = \"{}\" would make it {} Hz", u.name(), hertz(rate(u.in_ms()))))
                    .collect();
                let remedy = match better.is_empty() {
                    true => "no other unit makes it plausible: check `time` in the mapping".to_string(),
                    false => format!("{}: set it in the mapping", better.join(", ")),
                };
                let why = format!("read in {}, its sampling rate is {} Hz", unit.name(), hertz(found));
                return fail(format!("{why}, and eye trackers have 10 to 5000; {remedy}"));
            }
        }
        if self.good >= 20 {
            if coordinates == Coordinates::Pixels && self.small == self.good {
                let why = "all coordinates lie within 3 pixels of the corner, so they are not in pixels";
                return fail(format!("{why}; set coordinates = \"normalised\" and screen in the mapping"));
            }
            if coordinates == Coordinates::Normalised && 2 * self.small < self.good {
                let why = "most coordinates are far above 1, so they are not normalised";
                return fail(format!("{why}; set coordinates = \"pixels\" in the mapping"));
            }
        }
        Ok(())
    }
}

/// A rate with three digits, however large or small.
fn hertz(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{:.*}", if rate < 1.0 { 4 } else { 1 }, rate) }
}

fn is_one_of(field: &[u8], values: &[String]) -> bool {
    values.iter().any(|v| v.as_bytes() == field)
}

/// Whether a field means "no value" in an export.
fn missing(field: &[u8]) -> bool {
    const MARKS: [&[u8]; 7] = [b"", b".", b"-", b"na", b"n/a", b"nan", b"null"];
    MARKS.iter().any(|mark| field.eq_ignore_ascii_case(mark))
}
