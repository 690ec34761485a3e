//! A recording as a stream of samples or fixations, in pixels and milliseconds. Malformed recordings are refused.

use std::collections::BTreeSet;
use std::path::Path;

use super::bids::Sidecar;
use super::mapping::{Coordinates, Decimal, Format, Mapping, TimeUnit};
use super::order::Order;
use super::screens::{Screens, Size};
use super::source;
use super::table::{Table, number};
use super::text::clip;
use crate::error::{Error, Result};

/// One row of a recording that belongs to a snippet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Whether the participant, the snippet or the recording differs from the previous row: fixations and paths do not
    /// cross this boundary.
    pub new_stretch: bool,
    /// Time in milliseconds; of a fixation, its start.
    pub ms: f64,
    /// The end of a fixation in milliseconds; `None` if rows are samples.
    pub end_ms: Option<f64>,
    /// Gaze position in pixels; `None` for a lost sample (no coordinates, not valid, or off the screen).
    pub point: Option<(f64, f64)>,
}

/// Sampling rates that eye trackers have, in Hz.
const RATES: [f64; 2] = [10.0, 5000.0];
/// Median durations of fixations in a recording, in milliseconds.
const DURATIONS: [f64; 2] = [30.0, 5000.0];
/// Number of intervals between samples that determine the rate.
const INTERVALS: usize = 4096;
/// Fixations in a row overlap by less than this, in milliseconds: the rounding of their times.
const OVERLAP: f64 = 20.0;
/// No screen has more pixels in a row.
const WIDEST: f64 = 1e5;
/// No clock shows more milliseconds, in the wrong unit either.
const LATEST: f64 = 1e21;
/// No source file has more lines or columns.
const FARTHEST: f64 = 1e7;
/// Normalised coordinates lie within this distance of 0, even for a gaze beside the screen.
const NORMALISED: f64 = 3.0;

/// Where the time of a row comes from.
enum Clock {
    /// A column.
    Column(usize),
    /// The number of the row: milliseconds of the first, and between two.
    Rate(f64, f64),
}

/// An open recording.
pub struct Recording<'a> {
    mapping: &'a Mapping,
    screens: &'a Screens,
    table: Table,
    clock: Clock,
    /// The column of the end or the duration of fixations.
    last_column: Option<usize>,
    /// The columns of x and y, or of column and line.
    place: [usize; 2],
    validity: Vec<usize>,
    snippet_column: Option<usize>,
    participant_column: Option<usize>,
    recording_column: Option<usize>,
    filter: Option<usize>,
    /// Participant, snippet and recording of the previous row.
    names: [String; 3],
    /// The names of recordings that ended.
    ended: BTreeSet<[String; 3]>,
    /// Whether the next row starts a stretch in any case: it is the first row, or follows skipped rows.
    interrupted: bool,
    /// Milliseconds between two samples, where a sidecar says so.
    step_ms: Option<f64>,
    scale: Size,
    last: Option<(f64, usize)>,
    /// The end of the fixation before, and its line.
    ends: Option<(f64, usize)>,
    /// Intervals between samples, or durations of fixations, in milliseconds.
    intervals: Vec<f64>,
    order: Order,
    rows: u64,
    kept: u64,
    good: u64,
    small: u64,
}

impl<'a> Recording<'a> {
    /// Opens a recording and finds the columns of the mapping.
    pub fn open(file: &Path, mapping: &'a Mapping, screens: &'a Screens) -> Result<Recording<'a>> {
        let sidecar = match mapping.format {
            Format::Bids => Some(Sidecar::load(file, mapping)?),
            Format::Table | Format::Xml => None,
        };
        let table = match (&sidecar, mapping.format) {
            (Some(sidecar), _) => Table::headerless(file, sidecar.columns.clone())?,
            (None, Format::Xml) => Table::xml(file, &mapping.element)?,
            (None, _) => text_table(file, mapping)?,
        };
        let column = |key: &str, name: &str| table.column(name, &format!("set `{key}` in a mapping (--mapping)"));
        let optional = |key: &str, name: Option<&str>| name.map(|name| column(key, name)).transpose();
        let [participant, snippet] = mapping.from_file_name(file)?;
        let clock = match (&sidecar, table.find(&mapping.time)?) {
            (Some(sidecar), None) => Clock::Rate(sidecar.start_ms, sidecar.step_ms),
            _ => Clock::Column(column("time", &mapping.time)?),
        };
        let last = mapping.end.as_deref().map(|end| ("end", end));
        let last = last.or(mapping.duration.as_deref().map(|duration| ("duration", duration)));
        let last_column = last.map(|(key, name)| column(key, name)).transpose()?;
        let place = match (&mapping.column, &mapping.line) {
            (Some(at), Some(line)) => [column("column", at)?, column("line", line)?],
            _ => [column("x", &mapping.x)?, column("y", &mapping.y)?],
        };
        let validity = mapping.validity.iter().map(|name| column("validity", name)).collect::<Result<_>>()?;
        let snippet_column = optional("snippet", mapping.snippet_column())?;
        let participant_column = optional("participant", mapping.participant.as_deref())?;
        let recording_column = match &mapping.recording {
            Some(name) => Some(column("recording", name)?),
            None => table.find("recording")?,
        };
        let filter = optional("rows", mapping.rows.as_deref())?;
        Ok(Recording {
            mapping,
            screens,
            table,
            clock,
            last_column,
            place,
            validity,
            snippet_column,
            participant_column,
            recording_column,
            filter,
            names: [participant, snippet, String::new()],
            ended: BTreeSet::new(),
            interrupted: true,
            step_ms: sidecar.map(|sidecar| sidecar.step_ms),
            scale: [1.0, 1.0],
            last: None,
            ends: None,
            intervals: Vec::new(),
            order: Order::default(),
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
            // a look beside the code, or a blink, has no position in a source file: a lost sample of the file before
            let beside = self.mapping.in_source() && self.blank(self.snippet_column, line)?;
            let before = self.recording_column.map(|_| self.names.clone());
            let new_snippet = !beside && self.take(self.snippet_column, 1, line)?;
            let new_participant = self.take(self.participant_column, 0, line)?;
            let new_recording = self.take(self.recording_column, 2, line)?;
            if let (Some(before), true) = (before, new_recording) {
                self.change(before, line)?;
            }
            if self.snippet().is_empty() || self.mapping.ignores(self.snippet()) {
                self.interrupted = true;
                continue;
            }
            self.kept += 1;
            let new_stretch = new_snippet || new_participant || new_recording || self.interrupted;
            if new_stretch {
                self.scale = self.scale(line)?;
                (self.last, self.ends) = (None, None);
                self.interrupted = false;
            }
            let same_time = self.last.map(|(ms, _)| ms);
            let ms = self.milliseconds(line)?;
            let end_ms = self.last_column.map(|at| self.end(at, ms, line)).transpose()?;
            let point = if beside { None } else { self.point(line)? };
            self.order.row(point, new_snippet || new_participant, same_time == Some(ms), line);
            return Ok(Some((Row { new_stretch, ms, end_ms, point }, line)));
        }
        self.check()?;
        Ok(None)
    }

    fn blank(&self, column: Option<usize>, line: usize) -> Result<bool> {
        column.map_or(Ok(false), |at| Ok(self.mapping.marks_missing(self.table.field(at, line)?)))
    }

    /// Refuses a recording that goes on after another one: the rows of both are mixed. Rows between recordings may have
    /// no name.
    fn change(&mut self, before: [String; 3], line: usize) -> Result {
        self.ended.insert(before);
        if self.names[2].is_empty() || !self.ended.contains(&self.names) {
            return Ok(());
        }
        let why =
            format!("recording `{}` goes on here after another one, so their rows are mixed", clip(&self.names[2]));
        Err(Error::row(self.table.file(), line, format!("{why}; keep the rows of each recording together")))
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
        let at = match self.clock {
            Clock::Rate(start, step) => return Ok(start + step * (self.rows - 1) as f64),
            Clock::Column(at) => at,
        };
        let ms = self.time(at, self.mapping.time_unit, line)?;
        if let Some((last, before)) = self.last {
            let fixations = self.mapping.has_fixations();
            if ms < last || fixations && ms == last {
                let found = clip(&String::from_utf8_lossy(self.table.field(at, line)?));
                let when = if ms < last { "before that" } else { "also that" };
                let why = format!("its time {found} is {when} of line {before}");
                let remedy = "if another recording begins here, set `recording` in the mapping to the column that \
                              tells recordings apart, or put each into a file of its own";
                let other = match fixations {
                    true => "a file of fixations has one row per fixation, in order of time",
                    false => "sort the rows by time only if they are of one recording",
                };
                return Err(Error::row(self.table.file(), line, format!("{why}; {remedy}; {other}")));
            }
            if ms > last && !fixations && self.intervals.len() < INTERVALS {
                self.intervals.push(ms - last);
            }
        }
        self.last = Some((ms, line));
        Ok(ms)
    }

    /// The end of a fixation that starts at `start` milliseconds.
    fn end(&mut self, at: usize, start: f64, line: usize) -> Result<f64> {
        if let Some((end, before)) = self.ends
            && start < end - OVERLAP
        {
            let why = format!("the fixation starts before that of line {before} ends");
            let remedy = "a file of fixations has one row per fixation, and those of one eye";
            return Err(Error::row(self.table.file(), line, format!("{why}; {remedy}")));
        }
        let unit = self.mapping.duration_unit.unwrap_or(self.mapping.time_unit);
        let value = self.time(at, unit, line)?;
        let duration = if self.mapping.end.is_some() { value - start } else { value };
        if duration < 0.0 {
            let found = clip(&String::from_utf8_lossy(self.table.field(at, line)?));
            let name = clip(self.table.name(at));
            let why = format!("{name} is `{found}`, so the fixation ends before it starts; correct the row");
            return Err(Error::row(self.table.file(), line, why));
        }
        if self.intervals.len() < INTERVALS {
            self.intervals.push(duration);
        }
        self.ends = Some((start + duration, line));
        Ok(start + duration)
    }

    /// A field with a time, in milliseconds.
    fn time(&self, at: usize, unit: TimeUnit, line: usize) -> Result<f64> {
        let field = self.table.field(at, line)?;
        let comma = self.mapping.decimal == Decimal::Comma;
        number(field, comma).map(|time| time * unit.in_ms()).filter(|ms| ms.abs() < LATEST).ok_or_else(|| {
            let (name, found) = (clip(self.table.name(at)), clip(&String::from_utf8_lossy(field)));
            let why = format!("{name} is `{found}`, which is no time; correct the row, or `decimal` in the mapping");
            Error::row(self.table.file(), line, why)
        })
    }

    fn point(&mut self, line: usize) -> Result<Option<(f64, f64)>> {
        let mut valid = self.validity.is_empty();
        for &at in &self.validity {
            valid |= is_one_of(self.table.field(at, line)?, &self.mapping.valid);
        }
        let [x, y] = self.place;
        let (Some(x), Some(y)) = (self.coordinate(x, line)?, self.coordinate(y, line)?) else {
            return Ok(None);
        };
        if !valid || self.mapping.marks_lost(x, y) {
            return Ok(None);
        }
        if self.mapping.in_source() {
            let [column, line] = [(x, self.mapping.first_column, 0), (y, self.mapping.first_line, 1)]
                .map(|(value, first, slot)| self.counted(value, first, slot, line));
            self.good += 1;
            return Ok(Some(source::middle(line?, column?)));
        }
        self.good += 1;
        self.small += u64::from(x.abs() <= NORMALISED && y.abs() <= NORMALISED);
        let (x, y) = (x * self.scale[0], y * self.scale[1]);
        let [width, height] = self.screens.of(self.participant()).unwrap_or([WIDEST, WIDEST]);
        let on_screen = (0.0..=width).contains(&x) && (0.0..=height).contains(&y);
        Ok(on_screen.then_some((x, y)))
    }

    /// A line or column, counted from 0.
    fn counted(&self, value: f64, first: u8, slot: usize, row: usize) -> Result<f64> {
        let from_0 = value - f64::from(first);
        if value.fract() == 0.0 && (0.0..FARTHEST).contains(&from_0) {
            return Ok(from_0);
        }
        let key = ["first_column", "first_line"][slot];
        let why = format!("{} is {value}", clip(self.table.name(self.place[slot])));
        let why = match (value, first) {
            (0.0, 1) => format!("{why}, but they are counted from 1; set {key} = 0 in the mapping"),
            _ => format!("{why}, which is no number of one; list it under `missing` if it marks a lost sample"),
        };
        Err(Error::row(self.table.file(), row, why))
    }

    /// A coordinate as the file has it; `None` where it is missing or not finite.
    fn coordinate(&self, at: usize, line: usize) -> Result<Option<f64>> {
        let field = self.table.field(at, line)?;
        if self.mapping.marks_missing(field) {
            return Ok(None);
        }
        let comma = self.mapping.decimal == Decimal::Comma;
        let Some(value) = number(field, comma) else {
            let (name, found) = (clip(self.table.name(at)), clip(&String::from_utf8_lossy(field)));
            let why = format!("{name} is `{found}`, which is no number");
            let why = format!("{why}; correct the row, or set `decimal` or `missing` in the mapping");
            return Err(Error::row(self.table.file(), line, why));
        };
        Ok(Some(value).filter(|v| v.is_finite()))
    }

    /// Checks that need the whole recording: that it has samples at all, and that their units are plausible.
    fn check(&mut self) -> Result {
        let fail = |why: String| Err(Error::file(self.table.file(), why));
        if self.rows == 0 {
            let head = if self.mapping.format == Format::Bids { "has no rows" } else { "has a header but no rows" };
            return fail(format!("{head}; export the recording again"));
        }
        if self.kept == 0 {
            let why = format!("none of its {} rows is a sample of a snippet", self.rows);
            return fail(format!("{why}; check `snippet`, `ignore`, `rows` and `keep` in the mapping"));
        }
        if !self.mapping.has_fixations() {
            self.order.check(self.table.file(), self.kept)?;
        }
        self.check_units()
    }

    /// Checks that the units are plausible.
    fn check_units(&mut self) -> Result {
        let fail = |why: String| Err(Error::file(self.table.file(), why));
        self.intervals.sort_unstable_by(f64::total_cmp);
        if let Some(&median) = self.intervals.get(self.intervals.len() / 2) {
            let fixations = self.mapping.has_fixations();
            let own = self.mapping.duration_unit.filter(|_| self.mapping.duration.is_some());
            let unit = own.unwrap_or(self.mapping.time_unit);
            // by the unit of the numbers: a rate in Hz, or a duration in milliseconds
            let value = |unit_ms: f64| match median / unit.in_ms() * unit_ms {
                ms if fixations => ms,
                ms => 1000.0 / ms,
            };
            let range = if fixations { DURATIONS } else { RATES };
            let plausible = |value: f64| (range[0]..=range[1]).contains(&value);
            let (key, measure) = match (self.mapping.duration.is_some(), fixations) {
                (true, _) => ("duration_unit", "ms"),
                (false, true) => ("time_unit", "ms"),
                (false, false) => ("time_unit", "Hz"),
            };
            let found = value(unit.in_ms());
            if let Some(step) = self.step_ms.filter(|step| !fixations && !(0.8..=1.25).contains(&(median / step))) {
                let stated = digits(1000.0 / step);
                let why = format!("its time stamps, read in {}, are of {} Hz", unit.name(), digits(found));
                let remedy = "correct SamplingFrequency, or `time` and `time_unit` in the mapping";
                return fail(format!("{why}, but the sidecar says {stated}; {remedy}"));
            }
            if !plausible(found) {
                let better: Vec<String> = TimeUnit::ALL
                    .iter()
                    .filter(|u| plausible(value(u.in_ms())))
                    .map(|u| format!("{key} = \"{}\" would make it {} {measure}", u.name(), digits(value(u.in_ms()))))
                    .collect();
                let column = if fixations { "`end` or `duration`" } else { "`time`" };
                let remedy = match better.is_empty() {
                    true => format!("no other unit makes it plausible: check {column} in the mapping"),
                    false => format!("{}: set it in the mapping", better.join(", ")),
                };
                let (what, usual) = match fixations {
                    true => ("the median duration of its fixations", "fixations have 30 to 5000"),
                    false => ("its sampling rate", "eye trackers have 10 to 5000"),
                };
                let why = format!("read in {}, {what} is {} {measure}", unit.name(), digits(found));
                return fail(format!("{why}, and {usual}; {remedy}"));
            }
        }
        let coordinates = self.mapping.coordinates;
        if self.mapping.in_source() {
            return Ok(());
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

/// A number with three digits, however large or small.
fn digits(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{:.*}", if value < 1.0 { 4 } else { 1 }, value) }
}

/// Text with a header; XML and BIDS recordings that are read without their format are told.
fn text_table(file: &Path, mapping: &Mapping) -> Result<Table> {
    let table = Table::open(file, mapping.dialect())?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let remedy = "describe it in a mapping (--mapping)";
    if table.name(0).starts_with('<') {
        return Err(Error::file(file, format!("is XML; {remedy} with format = \"xml\" and `element`")));
    }
    if name.trim_end_matches(".gz").ends_with("_physio.tsv") {
        return Err(Error::file(
            file,
            format!("is a BIDS recording, without a header; {remedy} with format = \"bids\""),
        ));
    }
    Ok(table)
}

fn is_one_of(field: &[u8], values: &[String]) -> bool {
    values.iter().any(|v| v.as_bytes() == field)
}
