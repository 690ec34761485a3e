//! Going on from a checkpoint: which one, whether it is one of this run, and what is cut off behind it.

use super::basis::Basis;
use super::checkpoint::{self, Found, From};
use super::events::Header;
use super::metrics::Writer;
use super::prepare::Prepared;
use super::recipe::Recipe;
use crate::error::{Error, Result};
use std::path::Path;

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The checkpoint.
    pub from: From,
    /// Whether it may be one of another recipe, other data or another model.
    pub allow_changed: bool,
}

/// What a run goes on from.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The checkpoint.
    pub found: Found,
    /// As asked for.
    pub allow_changed: bool,
}

/// Files that only a run leaves behind; the first is there from its start, the others from its end.
const RESULTS: [&str; 4] =
    ["metrics.jsonl", "adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"];

impl Resume {
    /// The checkpoint that is asked for. Refuses an `output_dir` that holds another run, unless it may be written over,
    /// and the directory of the base model always. Checkpoints that are passed over are told in `notes`.
    pub fn find(&self, recipe: &Recipe, model: &Path, notes: &mut Vec<String>) -> Result<Option<Resumed>> {
        let out = &recipe.train.output_dir;
        if same(out, model) {
            return Err(Error::file(out, "train.output_dir is the directory of the base model; choose another"));
        }
        let found = checkpoint::find(&self.from, out, notes)?;
        if found.as_ref().is_none_or(|found| !within(found, out)) && !recipe.train.overwrite_output_dir {
            // a run that was ended before its first checkpoint has only begun to write, and is begun again
            let begun = usize::from(self.from == From::Newest);
            check_empty(out, &RESULTS[begun..], self.from != From::Newest)?;
        }
        Ok(found.map(|found| Resumed { found, allow_changed: self.allow_changed }))
    }
}

/// Refuses to put a model where one is already, or where it was made from.
pub fn check_vacant(out: &Path, sources: [&Path; 2]) -> Result {
    if sources.into_iter().any(|source| same(out, source)) {
        return Err(Error::file(out, "is where the model or the adapter comes from; choose another output directory"));
    }
    match RESULTS.iter().find(|name| out.join(name).exists()) {
        Some(found) => Err(Error::file(out, format!("holds {found} already; choose another output directory"))),
        None => Ok(()),
    }
}

fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Whether a checkpoint is one of the run that writes to `out`.
fn within(found: &Found, out: &Path) -> bool {
    same(&found.dir.join(".."), out)
}

/// An earlier run is not written over by accident.
fn check_empty(out: &Path, results: &[&str], checkpoints: bool) -> Result {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if let Some(found) = checkpoint::list(out).first().and_then(|(_, dir)| name(dir)).filter(|_| checkpoints) {
        let why = format!(
            "holds {found} of an earlier run; go on from it with --resume auto, choose another train.output_dir or set \
             train.overwrite_output_dir = true"
        );
        return Err(Error::file(out, why));
    }
    let Some(found) = results.iter().find(|name| out.join(name).exists()) else { return Ok(()) };
    let why = format!(
        "holds {found} of an earlier run; choose another train.output_dir or set train.overwrite_output_dir = true"
    );
    Err(Error::file(out, why))
}

/// What is not as it was when the checkpoint was written; refused, unless that is allowed.
pub fn changes(prepared: &Prepared, basis: &Basis) -> Result<Vec<String>> {
    let Some(Resumed { found, allow_changed }) = &prepared.resumed else { return Ok(Vec::new()) };
    let changes = found.state.basis.changes(basis);
    if changes.is_empty() || *allow_changed {
        return Ok(changes);
    }
    let why = format!(
        "is of another run: {}; put that back, or take it with --allow-changed (the bits will differ)",
        changes.join(", ")
    );
    Err(if found.state.basis.same_files(basis) {
        Error::Recipe { origin: found.dir.display().to_string(), why }
    } else {
        Error::file(&found.dir, why)
    })
}

/// Opens `metrics.jsonl`, with the header or the lines up to the checkpoint, and clears `output_dir` of what the run
/// will write anew. Gives what the user should know of it.
pub fn open(prepared: &Prepared, header: &Header, changes: &[String]) -> Result<(Writer, Vec<String>)> {
    let out = &prepared.recipe.train.output_dir;
    let mut notes = Vec::new();
    let (metrics, kept) = match &prepared.resumed {
        None => {
            let mut metrics = Writer::create(&prepared.recipe)?;
            metrics.header(header)?;
            (metrics, 0)
        }
        Some(Resumed { found, .. }) => {
            let step = found.state.progress.step;
            notes.push(format!("going on from {}, after step {step}", found.dir.display()));
            notes.extend(changes.iter().map(|change| format!("changed since the checkpoint: {change}")));
            let mut metrics = Writer::resume(&prepared.recipe, &found.dir.join(checkpoint::METRICS))?;
            if !changes.is_empty() {
                metrics.changes(step, changes)?;
            }
            (metrics, if within(found, out) { step } else { 0 })
        }
    };
    let removed = checkpoint::clear(out, kept)?;
    notes.extend(removed.iter().map(|dir| format!("{}: removed, the run will write its own", dir.display())));
    Ok((metrics, notes))
}
