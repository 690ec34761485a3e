//! The part of an evaluation that a device does: texts, and log p of the references.

use crate::backend::plan::Plan;
use crate::backend::{Backend, ComputeDtype};
use crate::cli::device::{Job, Site};
use crate::cli::generate::job::Generation;
use crate::cli::terminal::Terminal;
use crate::data::corpus::Corpus;
use crate::error::{Error, Result};
use crate::files;
use crate::train::likelihood::{self, Sum};
use crate::train::recipe::Recipe;
use crate::train::step::Machine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A generation, and the references whose log p is computed.
pub struct Evaluation {
    pub generation: Generation,
    pub likelihood: Likelihood,
}

/// References as training reads them.
pub struct Likelihood {
    pub corpus: Corpus,
    /// How they are batched.
    pub recipe: Recipe,
    /// Where log p of each row goes.
    pub file: PathBuf,
}

impl Evaluation {
    fn positions(&self) -> usize {
        let longest = self.likelihood.corpus.examples.iter().map(|example| example.ids.len()).max().unwrap_or(0);
        longest.max(self.generation.positions())
    }
}

impl Job for Evaluation {
    const REMEDY: &'static str = Generation::REMEDY;

    fn bytes(&self) -> Result<u64> {
        let Likelihood { corpus, recipe, .. } = &self.likelihood;
        let plan = Plan::default();
        let model = self.generation.shapes(&plan, self.positions())?;
        let machine = Machine::new(plan, model, likelihood::settings(corpus, recipe))?;
        Ok(machine.backend.bytes().max(self.generation.bytes()?))
    }

    fn head_dim(&self) -> usize {
        self.generation.head_dim()
    }

    fn threads(&self) -> usize {
        self.generation.threads()
    }

    fn dtype(&self) -> ComputeDtype {
        self.generation.dtype()
    }

    fn on<B: Backend + 'static>(mut self, backend: B, site: Site<B>, out: &mut Terminal) -> Result {
        let model = self.generation.model(&backend, self.positions())?;
        if !self.generation.prompts.is_empty() {
            self.generation.generate(&backend, &model, &site, out)?;
        }
        let Likelihood { corpus, recipe, file } = self.likelihood;
        let rows = likelihood::rows(backend, model, &corpus, &recipe)?;
        let line = |row: &likelihood::Row| {
            let [on, off] = row.sums;
            let line = json!({
                "row": row.row + 1,
                "tokens": on.tokens + off.tokens,
                "logp": on.logp + off.logp,
                "path_tokens": on.tokens,
                "path_logp": on.logp,
            });
            format!("{line}\n")
        };
        files::write(&file, rows.iter().map(line).collect::<String>())
    }
}

/// Mean log p of all references, and of their tokens on and off the scan path, in nats per token.
pub fn summary(file: &Path) -> Result<Value> {
    let text = files::read_to_string(file).map_err(Error::io(file, "read"))?;
    let (mut all, mut on, mut off) = (Sum::default(), Sum::default(), Sum::default());
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).map_err(|e| Error::file(file, format!("a line is no JSON: {e}")))?;
        let sum = |logp: &str, tokens: &str| Sum {
            logp: line[logp].as_f64().unwrap_or(f64::NAN),
            tokens: line[tokens].as_u64().unwrap_or(0),
        };
        let (whole, path) = (sum("logp", "tokens"), sum("path_logp", "path_tokens"));
        all.add(whole);
        on.add(path);
        off.add(Sum { logp: whole.logp - path.logp, tokens: whole.tokens - path.tokens });
    }
    Ok(json!({
        "tokens": all.tokens,
        "mean_logp": all.mean(),
        "path_tokens": on.tokens,
        "path_mean_logp": on.mean(),
        "off_path_mean_logp": off.mean(),
    }))
}

/// Prints a summary.
pub fn print(summary: &Value, out: &mut Terminal) {
    let number = |key: &str| summary[key].as_f64().map(|value| format!("{value:.4}"));
    let Some(mean) = number("mean_logp") else { return };
    let sides = match (number("path_mean_logp"), number("off_path_mean_logp")) {
        (Some(on), Some(off)) => format!("; {on} on the scan path, {off} off it"),
        _ => String::new(),
    };
    out.line(&format!("\nlog p of the references: {mean} nats per token{sides}"));
}
