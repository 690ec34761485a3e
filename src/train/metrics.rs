//! `metrics.jsonl`: the run as one JSON object per line (a header, every step, every evaluation).

use super::events::{EvalLog, Header, StepLog};
use super::step::Outcome;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends lines to `metrics.jsonl`; each is complete on disk before the next step starts.
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// Makes the output directory and an empty file in it.
    pub fn create(dir: &Path) -> Result<Writer> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let path = dir.join("metrics.jsonl");
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        Ok(Writer { path, file })
    }

    /// Makes the output directory and goes on from `copy`, which [`Writer::copy`] wrote: lines after it are gone.
    pub fn resume(dir: &Path, copy: &Path) -> Result<Writer> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let path = dir.join("metrics.jsonl");
        files::write(&path, std::fs::read(copy).map_err(Error::io(copy, "read"))?)?;
        let file = File::options().append(true).open(&path).map_err(Error::io(&path, "write"))?;
        Ok(Writer { path, file })
    }

    /// Copies all lines so far to `to`.
    pub fn copy(&self, to: &Path) -> Result {
        std::fs::copy(&self.path, to).map(drop).map_err(Error::io(&self.path, "copy"))
    }

    fn line(&mut self, value: &Value) -> Result {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io(&self.path, "write"))
    }

    /// The first line.
    pub fn header(&mut self, header: &Header) -> Result {
        let value = serde_json::to_value(header).unwrap_or_default();
        self.line(&json!({ "run": value }))
    }

    /// What changed, where a run goes on from `step` under other conditions.
    pub fn changes(&mut self, step: u64, changes: &[String]) -> Result {
        self.line(&json!({ "resumed": step, "changes": changes }))
    }

    /// A step.
    pub fn step(&mut self, log: &StepLog) -> Result {
        let o = &log.outcome;
        self.line(&json!({
            "step": log.step, "epoch": log.epoch, "loss": o.loss, "sft_loss": o.sft, "dpo_loss": o.dpo,
            "path_loss": finite(o.on_path), "off_path_loss": finite(o.off_path), "grad_norm": o.grad_norm,
            "clipped": o.clipped, "learning_rate": log.lr, "tokens": o.totals.tokens,
            "supervised_tokens": o.totals.supervised, "pairs": o.totals.pairs, "seconds": log.seconds,
        }))
    }

    /// An evaluation.
    pub fn evaluation(&mut self, log: &EvalLog) -> Result {
        let Outcome { loss, sft, dpo, on_path, off_path, .. } = log.outcome;
        self.line(&json!({
            "step": log.step, "eval_loss": loss, "eval_sft_loss": sft, "eval_dpo_loss": dpo,
            "eval_path_loss": finite(on_path), "eval_off_path_loss": finite(off_path),
        }))
    }
}

/// JSON has no NaN: a mean over nothing is null.
fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}
