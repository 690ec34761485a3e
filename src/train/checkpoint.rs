//! Checkpoints: folders `checkpoint-STEP` that a run can go on from, each there as a whole or not at all.
//!
//! A folder is made under a temporary name, `checkpoint-STEP.partial`. Every file in it and the folder itself reach the
//! disk before it is renamed, and the folder around it after that: whenever the process or the machine stops, what is
//! called `checkpoint-STEP` is complete. `checkpoint.b3` lists the hash of each file, in the form of `b3sum`, for what
//! a disk or a copy may have done since (`b3sum --check checkpoint.b3`).

use super::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Values and moments ([`crate::model::state`]).
pub const TENSORS: &str = "state.safetensors";
/// [`State`].
const STATE: &str = "state.json";
/// `metrics.jsonl` up to the checkpoint's step.
pub const METRICS: &str = "metrics.jsonl";
/// `HASH  NAME` of every other file, a line each.
const SEAL: &str = "checkpoint.b3";

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After so many steps.
    pub step: u64,
    /// Its value of `train.metric_for_best_model`.
    #[serde(alias = "loss")] // the key of 0.1.0
    pub value: f64,
}

/// Where a run stands, between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// The epoch that the next step belongs to, or the last one did, from 0.
    pub epoch: u32,
    /// Steps done in this epoch.
    pub step_of_epoch: usize,
    /// The best evaluation; `None` before the first.
    pub best: Option<Best>,
    /// Evaluations since the best.
    pub since_best: u64,
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Where the run stood.
    pub progress: Progress,
    /// What decided its bits.
    #[serde(rename = "basis")] // the key since 0.1.0
    pub fingerprint: Fingerprint,
}

/// A whole checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its folder.
    pub dir: PathBuf,
    /// What it says.
    pub state: State,
}

/// What a run is to go on from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum From {
    /// Nothing: from the first step.
    #[default]
    Start,
    /// The newest whole checkpoint in its own `output_dir`.
    Newest,
    /// This one.
    Folder(PathBuf),
}

/// Where the checkpoint of a step lies in `out`.
pub fn place(out: &Path, step: u64) -> PathBuf {
    out.join(format!("checkpoint-{step}"))
}

/// Writes the checkpoint of `state`; `fill` puts the files of the run into the temporary folder that it is given.
/// On a failure the temporary folder is gone again and earlier checkpoints are as they were.
pub fn write(out: &Path, state: &State, fill: impl FnOnce(&Path) -> Result) -> Result<PathBuf> {
    let place = place(out, state.progress.step);
    let partial = files::partial(&place);
    let done = fs::create_dir(&partial).map_err(Error::io(&partial, "create")).and_then(|()| {
        let made = fill(&partial).and_then(|()| seal(&partial, state));
        let done = made.and_then(|()| fs::rename(&partial, &place).map_err(Error::io(&place, "create")));
        if done.is_err() {
            // the first error is the one to tell
            let _ = fs::remove_dir_all(&partial);
        }
        done
    });
    done.and_then(|()| files::sync(out)).map(|()| place)
}

/// Adds [`State`] and [`SEAL`], and waits until all is on disk.
fn seal(dir: &Path, state: &State) -> Result {
    let text = serde_json::to_string_pretty(state).unwrap_or_default() + "\n";
    files::write(&dir.join(STATE), text)?;
    let mut lines = String::new();
    for name in files::names(dir)? {
        let file = dir.join(&name);
        files::sync(&file)?;
        lines += &format!("{}  {name}\n", files::hash(&file)?.to_hex());
    }
    files::write(&dir.join(SEAL), lines)?;
    files::sync(&dir.join(SEAL))?;
    files::sync(dir)
}

/// The checkpoint in `dir`, every file of it compared with its hash; else why it cannot be used.
pub fn open(dir: &Path) -> std::result::Result<Found, String> {
    let text = files::read_to_string(dir.join(SEAL)).map_err(|e| format!("{SEAL} cannot be read: {e}"))?;
    let lines = text.lines().map(|line| line.split_once("  ").map(|(hash, name)| (name, hash)));
    let sealed: BTreeMap<&str, &str> = lines.collect::<Option<_>>().ok_or(format!("{SEAL} is torn"))?;
    if let Some(absent) = [METRICS, STATE, TENSORS].into_iter().find(|name| !sealed.contains_key(name)) {
        return Err(format!("{SEAL} does not list {absent}"));
    }
    for (name, hash) in sealed {
        if Path::new(name).components().count() != 1 {
            return Err(format!("{SEAL} names a file elsewhere: {name}"));
        }
        let file = dir.join(name);
        // a device may never end
        if file.exists() && !file.is_file() {
            return Err(format!("{name} is no file"));
        }
        let found = files::hash(&file).map_err(|e| e.to_string())?;
        if found.to_hex().as_str() != hash {
            return Err(format!("{name} is not as it was written"));
        }
    }
    let state = files::read(dir.join(STATE)).map_err(|e| format!("{STATE} cannot be read: {e}"))?;
    let state: State = serde_json::from_slice(&state).map_err(|e| format!("{STATE} is of another version: {e}"))?;
    if state.progress.epoch == u32::MAX || state.progress.since_best == u64::MAX {
        return Err(format!("{STATE} has counts that no run reaches"));
    }
    Ok(Found { dir: dir.to_path_buf(), state })
}

/// The folders in `out` that are named as checkpoints, whole or not, the newest first.
pub fn list(out: &Path) -> Vec<(u64, PathBuf)> {
    named(out).into_iter().filter(|(_, place)| place.is_dir()).collect()
}

/// Everything in `out` that is named as a checkpoint, the newest first.
fn named(out: &Path) -> Vec<(u64, PathBuf)> {
    let mut steps: Vec<u64> = files::names(out).unwrap_or_default().iter().filter_map(|name| step_of(name)).collect();
    steps.sort_unstable();
    steps.into_iter().rev().map(|step| (step, place(out, step))).collect()
}

/// Files in `out` that are named as checkpoints and are none. Refuses one in the place of a checkpoint that a run
/// writes between `step` and `total`; 0 for `every` is at no step that is known beforehand.
pub fn strangers(out: &Path, step: u64, total: u64, every: u64) -> Result<Vec<PathBuf>> {
    let files: Vec<(u64, PathBuf)> = named(out).into_iter().filter(|(_, place)| !place.is_dir()).collect();
    let due = |at: u64| at > step && at <= total && every > 0 && at.is_multiple_of(every);
    match files.iter().find(|(at, _)| due(*at)) {
        Some((_, file)) => {
            let why = "is a file, and the run would write a checkpoint there; move it away or choose another \
                       train.output_dir";
            Err(Error::file(file, why))
        }
        None => Ok(files.into_iter().map(|(_, file)| file).collect()),
    }
}

/// The step of a folder that is named as [`place`] names one; `checkpoint-007` is somebody else's.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("checkpoint-")?.parse().ok()?;
    place(Path::new(""), step).to_str().filter(|ours| *ours == name).map(|_| step)
}

/// What `from` means for a run that writes to `out`. Newer ones that cannot be used are told in `notes`.
pub fn find(from: &From, out: &Path, notes: &mut Vec<String>) -> Result<Option<Found>> {
    match from {
        From::Start => Ok(None),
        From::Folder(dir) => match open(dir) {
            Ok(found) => Ok(Some(found)),
            Err(why) => {
                let why = format!("is no whole checkpoint ({why}); give another, or --resume auto for the newest");
                Err(Error::file(dir, why))
            }
        },
        From::Newest => {
            for (_, dir) in list(out) {
                match open(&dir) {
                    Ok(found) => return Ok(Some(found)),
                    Err(why) => notes.push(format!("{}: skipped, it is no whole checkpoint ({why})", dir.display())),
                }
            }
            notes.push(format!("no checkpoint to go on from in {}: the run starts afresh", out.display()));
            Ok(None)
        }
    }
}

/// Removes a checkpoint; renamed first, so that its name never stands for a part of it.
fn remove(dir: &Path) -> Result {
    let partial = files::partial(dir);
    fs::rename(dir, &partial).map_err(Error::io(dir, "remove"))?;
    fs::remove_dir_all(&partial).map_err(Error::io(&partial, "remove"))
}

/// Clears `out` of what is later than `step`, and of temporary folders that an end left behind; the removed ones.
pub fn clear(out: &Path, step: u64) -> Result<Vec<PathBuf>> {
    let partial = |name: &String| name.strip_suffix(".partial").and_then(step_of).is_some();
    let left = files::names(out)?.into_iter().filter(partial).map(|name| out.join(name));
    for left in left.filter(|left| left.is_dir()) {
        fs::remove_dir_all(&left).map_err(Error::io(&left, "remove"))?;
    }
    let later: Vec<PathBuf> = list(out).into_iter().filter(|(s, _)| *s > step).map(|(_, dir)| dir).collect();
    later.iter().try_for_each(|dir| remove(dir))?;
    Ok(later)
}

/// Keeps the last `limit` checkpoints and that of step `best`.
pub fn prune(out: &Path, limit: usize, best: Option<u64>) -> Result {
    let old = list(out).into_iter().skip(limit).filter(|(step, _)| Some(*step) != best);
    for (_, dir) in old {
        remove(&dir)?;
    }
    Ok(())
}
