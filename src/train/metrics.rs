//! Writes the lines of [`log`](super::log) to `metrics.jsonl` and, where the recipe wants it, their numbers to an event
//! file, so that both say the same.

use super::log::now;
use super::recipe::{Recipe, ReportTo};
use crate::error::{Error, Result};
use crate::files;
use crate::render::tensorboard::EventFile;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends lines to `metrics.jsonl`; each is complete on disk before the next step starts.
pub struct Writer {
    path: PathBuf,
    file: File,
    board: Option<EventFile>,
}

impl Writer {
    /// Makes an empty file in the output directory.
    pub fn create(recipe: &Recipe) -> Result<Writer> {
        let path = recipe.train.output_dir.join("metrics.jsonl");
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        Ok(Writer { path, file, board: board(recipe)? })
    }

    /// Continues from `copy`, which [`Writer::copy`] wrote: later lines are dropped, and the header gets `steps` as the
    /// number of all steps. An event file is written again from these lines, so that no step is in it twice.
    pub fn resume(recipe: &Recipe, copy: &Path, steps: u64) -> Result<Writer> {
        let path = recipe.train.output_dir.join("metrics.jsonl");
        let lines = files::read_to_string(copy).map_err(Error::io(copy, "read"))?;
        let lines = with_steps(lines, steps);
        files::write(&path, &lines)?;
        let file = File::options().append(true).open(&path).map_err(Error::io(&path, "write"))?;
        let mut board = board(recipe)?;
        for line in lines.lines() {
            let value = serde_json::from_str(line).map_err(|e| Error::file(copy, format!("a line is no JSON: {e}")))?;
            show(&mut board, &value)?;
        }
        Ok(Writer { path, file, board })
    }

    /// Copies all lines so far to `to`.
    pub fn copy(&self, to: &Path) -> Result {
        std::fs::copy(&self.path, to).map(drop).map_err(Error::io(&self.path, "copy"))
    }

    /// Appends a line.
    pub fn write(&mut self, line: &impl Serialize) -> Result {
        let line = serde_json::to_value(line).unwrap_or_default();
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path, "write"))?;
        show(&mut self.board, &line)
    }
}

/// The lines with `steps` in the header.
fn with_steps(lines: String, steps: u64) -> String {
    let Some((first, rest)) = lines.split_once('\n') else { return lines };
    let Ok(mut header) = serde_json::from_str::<Value>(first) else { return lines };
    match header.pointer_mut("/run/steps") {
        Some(told) if *told != steps => *told = steps.into(),
        _ => return lines,
    }
    format!("{header}\n{rest}")
}

/// The event file, if the recipe asks for one. Event files of earlier runs in its folder are removed. Its name sorts
/// after theirs, because readers continue with the last name.
fn board(recipe: &Recipe) -> Result<Option<EventFile>> {
    const START: &str = "events.out.tfevents.";
    let dir = recipe.train.output_dir.join("runs");
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(START) {
            std::fs::remove_file(entry.path()).map_err(Error::io(&entry.path(), "remove"))?;
        }
    }
    if recipe.train.report_to != ReportTo::Tensorboard {
        return Ok(None);
    }
    std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
    let time = now();
    let mut board = EventFile::create(&dir.join(format!("{START}{:010}.eyekern", time as u64)), time)?;
    board.text(time, "recipe", &format!("```toml\n{}```", recipe.to_toml_commented()))?;
    Ok(Some(board))
}

/// The numbers of a line as scalars: `eval_loss` is "eval/loss", `loss` is "train/loss". Truth is 1.
fn show(board: &mut Option<EventFile>, line: &Value) -> Result {
    let (Some(board), Some(fields)) = (board, line.as_object()) else { return Ok(()) };
    let (Some(step), Some(time)) = (line["step"].as_u64(), line["time"].as_f64()) else { return Ok(()) };
    let scalar = |(name, value): (&String, &Value)| {
        let tag = match name.strip_prefix("eval_") {
            Some(name) => format!("eval/{name}"),
            None => format!("train/{name}"),
        };
        let value = value.as_f64().or_else(|| value.as_bool().map(|truth| f64::from(u8::from(truth))));
        value.filter(|_| name != "step" && name != "time").map(|value| (tag, value))
    };
    let scalars: Vec<(String, f64)> = fields.iter().filter_map(scalar).collect();
    board.scalars(time, step, scalars.iter().map(|(tag, value)| (tag.as_str(), *value)))
}
