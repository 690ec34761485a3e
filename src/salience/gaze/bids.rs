//! BIDS eye tracking: the JSON sidecar of a headerless `_physio.tsv.gz` names its columns and its clock.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::mapping::{Coordinates, Mapping, TimeUnit};
use super::text::{clip, is_utf_16};
use crate::error::{Error, Result};
use crate::files;

/// What the sidecar says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sidecar {
    /// The names of the columns, in order.
    pub columns: Vec<String>,
    /// Milliseconds of the first row.
    pub start_ms: f64,
    /// Milliseconds between two rows.
    pub step_ms: f64,
}

/// A sidecar larger than this is none.
const LARGEST: u64 = 1 << 24;

impl Sidecar {
    /// Reads the JSON file beside a recording: `X_physio.json` for `X_physio.tsv.gz`. What it says about units and axes
    /// must agree with the mapping.
    pub fn load(recording: &Path, mapping: &Mapping) -> Result<Sidecar> {
        let name = recording.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".gz").unwrap_or(&name);
        let Some(stem) = stem.strip_suffix(".tsv") else {
            let why = "format is \"bids\" in the mapping, and such a file is named ..._physio.tsv.gz; rename it";
            return Err(Error::file(recording, why));
        };
        let file: PathBuf = recording.with_file_name(format!("{stem}.json"));
        let fail = |why: String| Err(Error::file(&file, why));
        let about = std::fs::metadata(&file).map_err(|_| {
            let why = format!(
                "has no sidecar {}; put the JSON file with Columns, SamplingFrequency and StartTime beside it, \
                               also where the data set has it once for all",
                file.display()
            );
            Error::file(recording, why)
        })?;
        if !about.is_file() || about.len() > LARGEST {
            return fail("is no sidecar: a JSON file of at most 16 MiB is needed".into());
        }
        let text = files::read(&file).map_err(Error::io(&file, "read"))?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        if is_utf_16(text) {
            return fail("is UTF-16 text; save it as UTF-8".into());
        }
        let json: Value = match serde_json::from_slice(text) {
            Ok(json @ Value::Object(_)) => json,
            Ok(_) => return fail("is no JSON object; a sidecar is one".into()),
            Err(e) => return fail(format!("is not valid JSON ({e}); correct it")),
        };
        let list = json["Columns"].as_array().map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let Some(Some(columns)) = list.filter(|list| list.as_ref().is_some_and(|list| !list.is_empty())) else {
            return fail(format!("Columns is {}, but must be the list of the columns' names", shown(&json["Columns"])));
        };
        if let Some(twice) = columns.iter().enumerate().find_map(|(at, c)| columns[..at].contains(c).then_some(c)) {
            return fail(format!("Columns has `{}` twice; correct it", clip(twice)));
        }
        let number = |key: &str| json[key].as_f64().filter(|v| v.is_finite());
        let Some(hz) = number("SamplingFrequency").filter(|hz| (10.0..=5000.0).contains(hz)) else {
            let found = shown(&json["SamplingFrequency"]);
            return fail(format!("SamplingFrequency is {found}, but eye trackers have 10 to 5000 (Hz); correct it"));
        };
        let Some(start) = number("StartTime").filter(|start| start.abs() < 1e12) else {
            return fail(format!(
                "StartTime is {}, but must be a number of seconds; correct it",
                shown(&json["StartTime"])
            ));
        };
        let physio = json["PhysioType"].as_str();
        if physio.is_some_and(|name| name != "eyetrack") {
            return fail(format!(
                "PhysioType is {}, not \"eyetrack\"; name a recording of gaze",
                shown(&json["PhysioType"])
            ));
        }
        if let Some(origin) = json["EnvironmentCoordinates"].as_str()
            && origin != "top-left"
        {
            let why = format!("EnvironmentCoordinates is `{}`; gaze must count from the top-left corner", clip(origin));
            return fail(format!("{why} of the screen, convert it"));
        }
        check_units(&json, mapping).map_err(|why| Error::file(&file, why))?;
        let columns = columns.into_iter().map(String::from).collect();
        Ok(Sidecar { columns, start_ms: 1000.0 * start, step_ms: 1000.0 / hz })
    }
}

/// The units that the sidecar states are those of the mapping.
fn check_units(json: &Value, mapping: &Mapping) -> std::result::Result<(), String> {
    let unit_of = |column: &str| json[column]["Units"].as_str();
    for column in [&mapping.x, &mapping.y] {
        let Some(unit) = unit_of(column).or(json["SampleCoordinateUnits"].as_str()) else { continue };
        let pixels = matches!(unit.to_ascii_lowercase().as_str(), "pixel" | "pixels" | "px");
        if pixels != (mapping.coordinates == Coordinates::Pixels) {
            let column = clip(column);
            let why = format!("the unit of {column} is `{}`, which is not `coordinates` in the mapping", clip(unit));
            return Err(format!("{why}; priors are built from pixels, or from shares of the screen (normalised)"));
        }
    }
    let time = unit_of(&mapping.time).and_then(|unit| {
        let unit = unit.to_ascii_lowercase();
        [("s", TimeUnit::Seconds), ("sec", TimeUnit::Seconds), ("second", TimeUnit::Seconds)]
            .into_iter()
            .chain([("seconds", TimeUnit::Seconds), ("ms", TimeUnit::Milliseconds), ("us", TimeUnit::Microseconds)])
            .chain([("millisecond", TimeUnit::Milliseconds), ("milliseconds", TimeUnit::Milliseconds)])
            .chain([("ns", TimeUnit::Nanoseconds), ("nanoseconds", TimeUnit::Nanoseconds)])
            .find_map(|(name, found)| (name == unit).then_some(found))
    });
    if let Some(unit) = time.filter(|&unit| unit != mapping.time_unit) {
        let (column, name) = (clip(&mapping.time), unit.name());
        return Err(format!("the unit of {column} is `{name}`; set time_unit = \"{name}\" in the mapping"));
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    if value.is_null() { "missing".into() } else { clip(&value.to_string()) }
}
