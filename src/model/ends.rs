//! The ids that end a text: what a model's files name, and what is saved after a run that learned an end.

use super::keys::{self, Keys};
use super::save::{self, GENERATION};
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::files;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const EOS: &str = "eos_token_id";

/// `eos_token_id` of a config, one or a list.
fn named(file: &Path, config: &Value) -> Result<Vec<u32>> {
    Keys::new(file, config, Value::Null, &[])?.ids(EOS)
}

/// The last of `folders` that has a generation_config.json, with its content.
fn generation(folders: &[&Path]) -> Result<Option<(PathBuf, Value)>> {
    let file = save::last_companion(folders, GENERATION);
    file.map(|file| keys::read(&file).map(|config| (file, config))).transpose()
}

/// All ids that end a text of the model in `dir` with this config: `eos_token_id` of config.json and of the
/// generation_config.json of the model and of the adapter, and the tokenizer's EOS, which training teaches.
pub fn all(dir: &Path, config: &Value, adapter: Option<&Path>, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let mut ids = named(&dir.join(save::CONFIG), config)?;
    for folder in [Some(dir), adapter].into_iter().flatten() {
        if let Some((file, generation)) = generation(&[folder])? {
            ids.extend(named(&file, &generation)?);
        }
    }
    ids.extend(tokenizer.map(Tokenizer::eos));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The ids with which an adapter learned to end: the EOS of its tokenizer, if there is one, and those that its
/// generation_config.json lists and no file of the model in `dir` does.
pub fn learned(dir: &Path, config: &Value, adapter: &Path, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let own = all(dir, config, None, tokenizer)?;
    let mut ids: Vec<u32> = tokenizer.map(Tokenizer::eos).into_iter().collect();
    if let Some((file, generation)) = generation(&[adapter])? {
        ids.extend(named(&file, &generation)?.into_iter().filter(|id| !own.contains(id)));
    }
    Ok(ids)
}

/// The configs of a model that ends its texts with the ids that a run learned, as the Trainer of transformers aligns
/// them (`align_special_tokens`): no id that a config lists is removed.
pub struct Aligned {
    /// The config.json to save.
    pub config: Value,
    /// The generation_config.json to save, if it is not that of the model.
    generation: Option<Value>,
    /// All ids that end a text: those that either config listed, and those that the run learns.
    pub ids: Vec<u32>,
    /// The change, for the user.
    pub note: Option<String>,
}

impl Aligned {
    /// Aligns `config`, which `file` holds, and the generation_config.json of the last of `folders` that has one, with
    /// the ids `learned`, the tokenizer's EOS first.
    pub fn of(file: &Path, config: &Value, folders: &[&Path], learned: &[u32]) -> Result<Aligned> {
        let beside = generation(folders)?;
        let own = named(file, config)?;
        let (listed, generation) = match &beside {
            Some((file, generation)) => (named(file, generation)?, generation.clone()),
            // what transformers makes of a config alone
            None => (own.clone(), made(config)),
        };
        let mut all = [&own, &listed, learned].concat();
        all.sort_unstable();
        all.dedup();
        if learned.iter().all(|id| own.contains(id) && listed.contains(id)) {
            return Ok(Aligned { config: config.clone(), generation: None, ids: all, note: None });
        }
        let first = |ids: &[u32]| -> Vec<u32> {
            learned.iter().chain(ids.iter().filter(|id| !learned.contains(id))).copied().collect()
        };
        let (mut config, mut generation) = (config.clone(), generation);
        config[EOS] = match learned {
            [one] if !config[EOS].is_array() => json!(one),
            _ if !config[EOS].is_array() => json!(learned),
            _ => json!(first(&own)),
        };
        generation[EOS] = json!(first(&listed));
        let ids = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let has = |file: &str, ids: String| {
            if ids.is_empty() { format!("{file} has none") } else { format!("{file} has {ids}") }
        };
        // a model that names no end is not contradicted
        let note = (!own.is_empty() || !listed.is_empty()).then(|| {
            let beside =
                if beside.is_some() { has(GENERATION, ids(&listed)) } else { format!("there is no {GENERATION}") };
            format!(
                "texts end with id {}, but as {EOS} the model's {} and {beside}; the saved {GENERATION} has {}, and a \
                 saved {} {}",
                ids(learned),
                has(save::CONFIG, ids(&own)),
                generation[EOS],
                save::CONFIG,
                config[EOS]
            )
        });
        Ok(Aligned { config, generation: Some(generation), ids: all, note })
    }

    /// Writes the generation_config.json where it differs from that of the model, which is copied otherwise.
    pub fn write(&self, dir: &Path) -> Result {
        let Some(generation) = &self.generation else { return Ok(()) };
        files::write(&dir.join(GENERATION), keys::text(generation))
    }
}

/// The special tokens of a config as a generation_config.json.
fn made(config: &Value) -> Value {
    let tokens = ["bos_token_id", EOS, "pad_token_id"].into_iter().filter(|key| !config[*key].is_null());
    tokens.map(|key| (key.to_string(), config[key].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `eos_token_id` of both saved files, by what the model's files and the run have; `None` where nothing changes.
    fn aligned(config: Value, generation: Option<Value>, learned: &[u32]) -> Option<[Value; 2]> {
        let dir = tempfile::tempdir().expect("a folder");
        if let Some(eos) = generation {
            let text = keys::text(&json!({"temperature": 0.5, "eos_token_id": eos}));
            std::fs::write(dir.path().join(GENERATION), text).expect("writes");
        }
        let config = json!({"bos_token_id": 7, "eos_token_id": config});
        let aligned = Aligned::of(Path::new("c"), &config, &[dir.path()], learned).expect("aligns");
        aligned.generation.map(|generation| [aligned.config[EOS].clone(), generation[EOS].clone()])
    }

    /// The values of `align_special_tokens` of transformers 5.23 for one learned end.
    #[test]
    fn configs_are_aligned_as_the_trainer_aligns_them() {
        for (config, generation, saved) in [
            (json!(9), Some(json!(9)), None),
            (json!([9, 2]), Some(json!([2, 9])), None),
            (json!(9), None, None),
            (json!(2), Some(json!(2)), Some([json!(9), json!([9, 2])])),
            (json!(2), None, Some([json!(9), json!([9, 2])])),
            (json!(null), None, Some([json!(9), json!([9])])),
            (json!([2, 3]), Some(json!(4)), Some([json!([9, 2, 3]), json!([9, 4])])),
            (json!(9), Some(json!([2, 3])), Some([json!(9), json!([9, 2, 3])])),
            (json!(9), Some(json!(null)), Some([json!(9), json!([9])])),
            (json!(2), Some(json!([2, 9])), Some([json!(9), json!([9, 2])])),
        ] {
            assert_eq!(aligned(config.clone(), generation.clone(), &[9]), saved, "{config} {generation:?}");
        }
        let both = Some([json!([9, 8]), json!([9, 8, 2])]);
        assert_eq!(aligned(json!(2), Some(json!(2)), &[9, 8]), both);
        assert_eq!(aligned(json!([9, 8]), Some(json!([8, 9])), &[9, 8]), None);
    }

    #[test]
    fn a_made_generation_config_keeps_the_other_tokens() {
        let made = made(&json!({"bos_token_id": 7, "pad_token_id": null, "eos_token_id": [1], "hidden_size": 3}));
        assert_eq!(made, json!({"bos_token_id": 7, "eos_token_id": [1]}));
    }
}
