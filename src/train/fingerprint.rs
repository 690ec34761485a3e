//! Everything that determines the bits of a run, as text: the keys of its recipe, hashes of the files that it reads,
//! the program. Every checkpoint has it, so that a resume can name the differences.

use super::recipe::{self, Effect, Recipe};
use crate::backend::Backend;
use crate::data::corpus::DataSource;
use crate::data::jinja::Date;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::files;
use crate::model::files::{ModelFiles, Origin};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The key of the hash of all rows.
const ROWS: &str = "data.rows";

/// Recipe keys with their TOML; keys that name files with the hash of the content.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// The fingerprint of a run on a backend. Reads all files once, to hash them; fails if a file cannot be read.
    /// `rows` is the hash of all prepared rows: whatever decides a row is in it, so that no input can be forgotten; the
    /// hashes of files say which of them it was.
    pub fn of<B: Backend>(
        backend: &B, recipe: &Recipe, origin: &Origin, tokenizer: Option<&Tokenizer>, rows: blake3::Hash,
    ) -> Result<Fingerprint> {
        let model = match origin {
            Origin::Files(model) => Some(model.digest()?),
            Origin::Random(..) => None,
        };
        let mut fingerprint = Fingerprint::of_inputs(recipe, model, tokenizer)?;
        fingerprint.record("precision", backend.precision().into());
        fingerprint.record("eyekern", env!("CARGO_PKG_VERSION").into());
        fingerprint.record(ROWS, hashed(rows));
        Ok(fingerprint)
    }

    /// The part that is known before a row is read and whatever computes: the keys of the recipe and the hashes of
    /// files, with the hash of the model.
    pub fn of_inputs(
        recipe: &Recipe, model: Option<blake3::Hash>, tokenizer: Option<&Tokenizer>,
    ) -> Result<Fingerprint> {
        let (mut keys_of_recipe, recorded) = (recipe.assignments(), keys(Effect::Bits));
        keys_of_recipe.retain(|key, _| recorded.contains(key));
        let mut fingerprint = Fingerprint(keys_of_recipe);
        let mut add = |key: &str, hash: Option<blake3::Hash>| {
            if let Some(hash) = hash {
                fingerprint.record(key, hashed(hash));
            }
        };
        add("model.model_name_or_path", model);
        add("model.tokenizer", tokenizer.map(Tokenizer::digest));
        let data = &recipe.data;
        add("data.train_file", content(&data.train_file)?);
        add("data.validation_file", data.validation_file.as_ref().map(content).transpose()?.flatten());
        add("salience.priors", recipe.salience.priors.as_deref().map(files::hash).transpose()?);
        let reference = recipe.reference_model().map(|dir| ModelFiles::open(&dir.to_string_lossy())?.digest());
        add("objective.reference_model", reference.transpose()?);
        let ids = tokenizer.iter().flat_map(|t| [("bos", t.bos()), ("eos", Some(t.eos()))]);
        for (name, id) in ids.filter_map(|(name, id)| Some((name, id?))) {
            fingerprint.record(&format!("model.tokenizer.{name}"), id.to_string());
        }
        Ok(fingerprint)
    }

    /// Adds something else that results depend on.
    pub fn record(&mut self, key: &str, value: String) {
        self.0.insert(key.into(), value);
    }

    /// The hash of the weights that the DPO term compares with: the reference model's, else the model's; `None` where
    /// the model is no file.
    pub fn reference(&self) -> Option<&str> {
        let of = |key| self.0.get(key).filter(|value| value.starts_with("blake3 "));
        of("objective.reference_model").or_else(|| of("model.model_name_or_path")).map(String::as_str)
    }

    /// The day that the chat template of the run wrote, if it wrote one.
    pub fn chat_date(&self) -> Option<Date> {
        self.0.get("data.chat_date")?.trim_matches('"').parse().ok()
    }

    /// The differences, a phrase each: `train.learning_rate was 1e-4 and is 2e-4`.
    pub fn changes(&self, now: &Fingerprint) -> Vec<String> {
        let phrase = |key| format!("{key} was {} and is {}", shown(self.0.get(key)), shown(now.0.get(key)));
        // other rows follow from another file or key, if one is named
        let named = self.differing(now).filter(|key| *key != ROWS).count();
        self.differing(now).filter(|key| named == 0 || *key != ROWS).map(phrase).collect()
    }

    /// The keys of different values, with the value here and there; hashes are shortened.
    pub fn differences(&self, other: &Fingerprint) -> Vec<(String, String, String)> {
        let of = |key: &String| (key.clone(), shown(self.0.get(key)), shown(other.0.get(key)));
        self.differing(other).map(of).collect()
    }

    /// Whether all files have the same content. What a tokenizer puts around a text may come from files beside it, so
    /// its BOS and EOS count as such, and so do the rows.
    pub fn same_files(&self, now: &Fingerprint) -> bool {
        let files = keys(Effect::File);
        !self.differing(now).any(|key| files.contains(key) || key.starts_with("model.tokenizer.") || *key == ROWS)
    }

    /// Whether the rows are recorded: earlier programs did not.
    pub fn has_rows(&self) -> bool {
        self.0.contains_key(ROWS)
    }

    /// The keys of different values, in order. A key of the recipe that is not recorded is younger than the record,
    /// which was made as its default has it.
    fn differing<'a>(&'a self, now: &'a Fingerprint) -> impl Iterator<Item = &'a String> {
        let defaults = Recipe::default().assignments();
        let keys: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let keys = keys.into_iter().filter(|key| self.has_rows() || *key != ROWS);
        keys.filter(move |&key| self.0.get(key).or(defaults.get(key)) != now.0.get(key))
    }
}

/// A value in a sentence.
fn shown(value: Option<&String>) -> String {
    let hash = |v: &&str| v.starts_with("blake3 ");
    value.map_or("not there", |v| v.get(..19).filter(hash).unwrap_or(v)).to_string()
}

/// A hash as a value.
pub fn hashed(hash: blake3::Hash) -> String {
    format!("blake3 {}", hash.to_hex())
}

/// The recipe's keys of an effect.
fn keys(effect: Effect) -> BTreeSet<String> {
    recipe::keys().filter(|key| key.effect == effect).map(|key| format!("{}.{}", key.section, key.name)).collect()
}

/// The hash of all files of a source; `None` where one is no ordinary file, as a pipe cannot be read twice.
pub fn content(source: &DataSource) -> Result<Option<blake3::Hash>> {
    let mut hash = blake3::Hasher::new();
    for file in source.files() {
        if !Path::is_file(file) {
            return Ok(None);
        }
        hash.update(files::hash(file)?.as_bytes());
    }
    Ok(Some(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record of 0.1.0 with the keys that joined it. The default of a key that joins must be what was done before,
    /// or an older checkpoint resumes to other bits.
    #[test]
    fn checkpoints_record_the_keys_that_they_always_did() {
        let listed = |sections: &[(&str, &str)]| -> BTreeSet<String> {
            let names = |&(section, names): &(&str, &str)| -> Vec<String> {
                names.split(' ').map(|name| format!("{section}.{name}")).collect()
            };
            sections.iter().flat_map(names).collect()
        };
        let bits = listed(&[
            ("model", "embd_dropout resid_dropout attention_dropout quantization double_quant skip_modules"),
            ("data", "task cut cut_seed fim max_length prompt_weight chat_date batching max_tokens shuffle"),
            (
                "salience",
                "condition mode max_lines dynamic w_base off_path unseen align scope calls source_lang target_lang",
            ),
            ("lora", "r lora_alpha lora_dropout target_modules use_rslora"),
            ("objective", "arm arm_constant arm_focal normalize gamma beta dpo_weights"),
            ("train", "method optim learning_rate per_device_train_batch_size gradient_accumulation_steps"),
            ("train", "lr_scheduler_type warmup_steps warmup_ratio weight_decay adam_beta1 adam_beta2 adam_epsilon"),
            ("train", "max_grad_norm seed metric_for_best_model compute_dtype"),
        ]);
        let files = listed(&[
            ("model", "model_name_or_path tokenizer"),
            ("data", "train_file validation_file"),
            ("salience", "priors"),
            ("objective", "reference_model"),
        ]);
        assert_eq!((keys(Effect::Bits), keys(Effect::File)), (bits, files));
    }
}
