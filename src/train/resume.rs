//! Going on from a checkpoint: which one, whether it is one of this run, and what is cut off behind it.

use super::checkpoint::{self, Found, From};
use super::fingerprint::Fingerprint;
use super::log::{Changes, First, Header};
use super::metrics::Writer;
use super::recipe::{Method, Recipe};
use super::texts;
use crate::error::{Error, Result};
use crate::files;
use crate::model::save;
use std::fs::{File, TryLockError};
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
const RESULTS: [&str; 4] = ["metrics.jsonl", save::ADAPTER, save::MODEL, save::INDEX];

/// The recipe of the run, from its start on.
pub const RECIPE: &str = "recipe.resolved.toml";

/// Locked by the run that writes to the folder, for as long as it lives.
const LOCK: &str = ".lock";

impl Resume {
    /// The checkpoint that is asked for. Refuses an `output_dir` that holds another run, unless it may be written over,
    /// and one that holds the models it reads always. Checkpoints that are passed over are told in `notes`.
    pub fn find(&self, recipe: &Recipe, model: &Path, notes: &mut Vec<String>) -> Result<Option<Resumed>> {
        let out = &recipe.train.output_dir;
        check_inputs(recipe, model)?;
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
    if sources.into_iter().any(|source| files::same(out, source)) {
        return Err(Error::file(out, "is where the model or the adapter comes from; choose another output directory"));
    }
    match RESULTS.iter().find(|name| out.join(name).exists()) {
        Some(found) => Err(Error::file(out, format!("holds {found} already; choose another output directory"))),
        None => Ok(()),
    }
}

/// Refuses an `output_dir` where the run would remove or replace what it reads.
fn check_inputs(recipe: &Recipe, model: &Path) -> Result {
    let (out, reference) = (&recipe.train.output_dir, recipe.objective.reference_model.as_deref());
    for (which, dir) in [("base", Some(model)), ("reference", reference)] {
        if dir.is_some_and(|dir| files::same(out, dir)) {
            let why = format!("train.output_dir is the directory of the {which} model; choose another");
            return Err(Error::file(out, why));
        }
    }
    let others = [Some(model), reference, recipe.model.tokenizer.as_deref(), recipe.salience.priors.as_deref()];
    let data = [Some(&recipe.data.train_file), recipe.data.validation_file.as_ref()];
    let data = data.into_iter().flatten().flat_map(|source| source.files());
    let inputs: Vec<&Path> = others.into_iter().flatten().chain(data).collect();
    for (_, dir) in checkpoint::list(out) {
        let Ok(place) = dir.canonicalize() else { continue };
        let inside = |input: &&&Path| input.canonicalize().is_ok_and(|input| input.starts_with(&place));
        if let Some(input) = inputs.iter().find(inside) {
            let why = format!(
                "holds {}, from which the run would read {} and which it may remove; choose another train.output_dir",
                dir.display(),
                input.display()
            );
            return Err(Error::file(out, why));
        }
    }
    Ok(())
}

/// Whether a checkpoint is one of the run that writes to `out`.
fn within(found: &Found, out: &Path) -> bool {
    files::same(&found.dir.join(".."), out)
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
pub fn changes(resumed: Option<&Resumed>, fingerprint: &Fingerprint) -> Result<Vec<String>> {
    let Some(Resumed { found, allow_changed }) = resumed else { return Ok(Vec::new()) };
    let changes = found.state.fingerprint.changes(fingerprint);
    if changes.is_empty() || *allow_changed {
        return Ok(changes);
    }
    let why = format!(
        "is of another run: {}; put that back, or take it with --allow-changed (the bits will differ)",
        changes.join(", ")
    );
    Err(if found.state.fingerprint.same_files(fingerprint) {
        Error::Recipe { origin: found.dir.display().to_string(), why }
    } else {
        Error::file(&found.dir, why)
    })
}

/// Makes the folder `out` and locks it: two processes in one folder would write over each other's files. `remedy` ends
/// the sentence about one that is locked.
pub fn lock(out: &Path, remedy: &str, notes: &mut Vec<String>) -> Result<File> {
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let path = out.join(LOCK);
    let (file, locked) = files::try_lock(&path).map_err(Error::io(&path, "create"))?;
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let why = format!("another run writes there; wait for its end, or choose another {remedy}");
            return Err(Error::file(out, why));
        }
        // some network file systems have no locks, and a single run needs none
        Err(TryLockError::Error(e)) => {
            notes.push(format!("{}: cannot be locked ({e}); start no second run there", path.display()));
        }
    }
    Ok(file)
}

/// Whether a run writes to the folder.
pub fn is_locked(out: &Path) -> bool {
    let file = File::open(out.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes the lock of a folder that is no run's, while it is held.
pub fn remove_lock(out: &Path) -> Result {
    let path = out.join(LOCK);
    std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))
}

/// Removes what an earlier run saved in `out`, as the recipe that it left there tells: a file of the same name that
/// somebody else put there stays, and so does a config.json that the tokenizer of this run reads.
fn remove_results(recipe: &Recipe, out: &Path) -> Result {
    let Ok(earlier) = Recipe::layered(Some(&out.join(RECIPE)), std::iter::empty(), &[]) else { return Ok(()) };
    let of_method = match earlier.train.method {
        Method::Lora => save::is_of_adapter,
        Method::Full => save::is_of_full,
    };
    let tokenizer = recipe.model.tokenizer.as_deref();
    let read = tokenizer.is_some_and(|t| files::same(t, out) || t.parent().is_some_and(|dir| files::same(dir, out)));
    let own = |name: &str| of_method(name) || name == save::GENERATION;
    let kept = |name: &str| read && [save::CONFIG, save::GENERATION].contains(&name);
    let results = files::names(out)?.into_iter().filter(|name| own(name) && !kept(name));
    for file in results.map(|name| out.join(name)) {
        std::fs::remove_file(&file).map_err(Error::io(&file, "remove"))?;
    }
    Ok(())
}

/// Locks `output_dir`, opens `metrics.jsonl`, with the header or the lines up to the checkpoint, and clears the folder
/// of what the run will write anew. The steps of the header are at least those that are done. Gives the lock, and what
/// the user should know.
pub fn open(
    recipe: &Recipe, resumed: Option<&Resumed>, header: &mut Header, changes: &[String],
) -> Result<(File, Writer, Vec<String>)> {
    let out = &recipe.train.output_dir;
    let mut notes = Vec::new();
    let lock = lock(out, "train.output_dir", &mut notes)?;
    let step = resumed.map_or(0, |r| r.found.state.progress.step);
    for file in checkpoint::strangers(out, step, header.steps, recipe.train.save_steps)? {
        notes.push(format!("{}: skipped, it is a file and no checkpoint", file.display()));
    }
    let (metrics, kept) = match resumed {
        None => {
            let mut metrics = Writer::create(recipe)?;
            metrics.write(&First { run: header.clone() })?;
            (metrics, 0)
        }
        Some(Resumed { found, .. }) => {
            let step = found.state.progress.step;
            notes.push(format!("going on from {}, after step {step}", found.dir.display()));
            if !found.state.fingerprint.has_rows() {
                let why =
                    "an earlier program wrote it, which did not record the rows: whether they are the same is unknown";
                notes.push(format!("{}: {why}", found.dir.display()));
            }
            notes.extend(changes.iter().map(|change| format!("changed since the checkpoint: {change}")));
            if header.steps < step {
                let (end, dir) = (header.steps, found.dir.display());
                notes.push(format!("the recipe ends after step {end}, which is before {dir}: no step is done"));
                header.steps = step;
            }
            let copy = found.dir.join(checkpoint::METRICS);
            let mut metrics = Writer::resume(recipe, &copy, header.steps)?;
            if !changes.is_empty() {
                metrics.write(&Changes { resumed: step, changes: changes.to_vec() })?;
            }
            (metrics, if within(found, out) { step } else { 0 })
        }
    };
    if kept == 0 && recipe.train.overwrite_output_dir {
        remove_results(recipe, out)?;
        texts::remove(out)?;
    }
    files::remove_stage(out)?;
    let removed = checkpoint::clear(out, kept)?;
    notes.extend(removed.iter().map(|dir| format!("{}: removed, the run will write its own", dir.display())));
    Ok((lock, metrics, notes))
}
