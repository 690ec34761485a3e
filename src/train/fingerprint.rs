//! What decides the bits of a run, as text: the keys of its recipe, hashes of the files it reads, the program. Kept
//! with every checkpoint, so that a resume can say what changed.

use super::prepare::{ModelFiles, Origin, Prepared};
use crate::backend::Backend;
use crate::data::corpus::DataSource;
use crate::error::Result;
use crate::files;
use std::collections::BTreeMap;
use std::path::Path;

/// Keys of the recipe that decide where a run ends, what it writes and how fast it is, but not the bits of a step.
/// (The end of a run bends the schedule of the learning rate; that is what its user asks for.)
const FREE: [&str; 17] = [
    "data.cache",
    "data.cache_dir",
    "train.output_dir",
    "train.num_train_epochs",
    "train.max_steps",
    "train.logging_steps",
    "train.overwrite_output_dir",
    "train.eval_steps",
    "train.save_steps",
    "train.save_total_limit",
    "train.early_stopping_patience",
    "train.load_best_model_at_end",
    "train.report_to",
    "train.peak_tflops",
    "train.save_dtype",
    "train.recompute",
    "train.threads",
];

/// Keys that name a file: its content counts, not its place. What a tokenizer puts around a text may come from files
/// beside it, so it is told by the ids.
const FILES: [&str; 8] = [
    "model.model_name_or_path",
    "model.tokenizer",
    "model.tokenizer.bos",
    "model.tokenizer.eos",
    "data.train_file",
    "data.validation_file",
    "salience.priors",
    "objective.reference_model",
];

/// What decides the bits of a run: recipe keys with their TOML, keys that name files with the hash of the content.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Of a run on a backend. Reads all files once, to hash them; fails where one cannot be read.
    pub fn of<B: Backend>(prepared: &Prepared) -> Result<Fingerprint> {
        let Prepared { recipe, origin, tokenizer, .. } = prepared;
        let mut fingerprint = recipe.assignments();
        fingerprint.retain(|key, _| !FREE.contains(&key.as_str()) && !FILES.contains(&key.as_str()));
        let precision = std::any::type_name::<B::Float>().rsplit("::").next().unwrap_or_default();
        fingerprint.insert("precision".into(), precision.into());
        fingerprint.insert("eyekern".into(), env!("CARGO_PKG_VERSION").into());
        let mut add =
            |key: &str, hash: blake3::Hash| fingerprint.insert(key.into(), format!("blake3 {}", hash.to_hex()));
        if let Origin::Files(model) = origin {
            add("model.model_name_or_path", model.digest()?);
        }
        if let Some(tokenizer) = tokenizer {
            add("model.tokenizer", tokenizer.digest());
        }
        let sources = [("data.train_file", Some(&recipe.data.train_file))];
        for (key, source) in sources.into_iter().chain([("data.validation_file", recipe.data.validation_file.as_ref())])
        {
            if let Some(hash) = source.map(content).transpose()?.flatten() {
                add(key, hash);
            }
        }
        if let Some(priors) = &recipe.salience.priors {
            add("salience.priors", files::hash(priors)?);
        }
        if let Some(dir) = recipe.objective.reference_model.as_ref().filter(|_| recipe.objective.gamma != 0.0) {
            add("objective.reference_model", ModelFiles::open(&dir.to_string_lossy())?.digest()?);
        }
        let ids = tokenizer.iter().flat_map(|t| [("bos", t.bos()), ("eos", Some(t.eos()))]);
        fingerprint.extend(ids.filter_map(|(name, id)| Some((format!("model.tokenizer.{name}"), id?.to_string()))));
        Ok(Fingerprint(fingerprint))
    }

    /// What is not as it was, a phrase each: `train.learning_rate was 1e-4 and is 2e-4`.
    pub fn changes(&self, now: &Fingerprint) -> Vec<String> {
        let keys: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let show = |value: Option<&String>| {
            value.map_or("not there", |v| v.get(..19).filter(|_| hashed(v)).unwrap_or(v)).to_string()
        };
        let differing = keys.into_iter().filter(|&key| self.0.get(key) != now.0.get(key));
        differing.map(|key| format!("{key} was {} and is {}", show(self.0.get(key)), show(now.0.get(key)))).collect()
    }

    /// Whether all files have the same content.
    pub fn same_files(&self, now: &Fingerprint) -> bool {
        FILES.iter().all(|&key| self.0.get(key) == now.0.get(key))
    }
}

fn hashed(value: &str) -> bool {
    value.starts_with("blake3 ")
}

/// Of all files of a source; `None` where one is no ordinary file, as a pipe cannot be read twice.
fn content(source: &DataSource) -> Result<Option<blake3::Hash>> {
    let mut hash = blake3::Hasher::new();
    for file in source.files() {
        if !Path::is_file(file) {
            return Ok(None);
        }
        hash.update(files::hash(file)?.as_bytes());
    }
    Ok(Some(hash.finalize()))
}
