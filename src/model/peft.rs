//! Adapters on disk, as PEFT saves them. The config tells the scale of an adapter, its tensors the modules that it is
//! beside. A form beyond plain LoRA is refused with a remedy.

use super::adapter::{AdapterInit, LoraConfig, Targets, ends_with_module, peft_names};
use super::checkpoint::Checkpoint;
use super::config::Spec;
use super::decoder::Decoder;
use super::keys::{self, Keys};
use super::names::{self, Module};
use super::save;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MERGE: &str =
    "merge the adapter into its base with PEFT's merge_and_unload(), save that and give its folder as --model";

/// Keys of PEFT's LoraConfig that change the adapter's result, unless they are unset. All keys that PEFT does not know
/// are ignored, as PEFT ignores them.
const BEYOND: [&str; 16] = [
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "kasa_config",
    "layer_replication",
    "loftq_config",
    "lora_bias",
    "lora_ga_config",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

/// The other keys of PEFT's LoraConfig: those of plain LoRA, and those that change nothing in a trained adapter or that
/// its tensors show.
const PLAIN: [&str; 25] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// An adapter_config.json.
struct Config<'a>(Keys<'a>);

impl Config<'_> {
    fn read(file: &Path) -> Result<Config<'_>> {
        // PEFT's own defaults
        let defaults = json!({
            "r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "use_rslora": false, "bias": "none", "rank_pattern": {},
            "alpha_pattern": {},
        });
        Ok(Config(Keys::new(file, &keys::read(file)?, defaults, &[])?))
    }

    fn lora(&self) -> Result<LoraConfig> {
        self.refuse_unsupported()?;
        let rank = |v: &Value| v.as_u64().filter(|r| (1..=u64::from(u32::MAX)).contains(r));
        let share = |v: &Value| v.as_f64().filter(|p| (0.0..=1.0).contains(p));
        Ok(LoraConfig {
            r: self.0.required("r", "a whole number above 0", rank)? as usize,
            alpha: self.0.number("lora_alpha")?,
            dropout: self.0.required("lora_dropout", "a number from 0 to 1", share)? as f32,
            rslora: self.0.flag("use_rslora")?,
            targets: self.targets()?.unwrap_or(Targets::Named(Vec::new())),
        })
    }

    /// The modules that `target_modules` names; `None` where it is a regular expression or PEFT's default.
    fn targets(&self) -> Result<Option<Targets>> {
        let what = "a list of module names, a regular expression or \"all-linear\"";
        let targets = self.0.optional("target_modules", what, |value| match value {
            Value::String(all) if all == "all-linear" => Some(Some(Targets::AllLinear)),
            // PEFT compares a string with the whole path, which no name alone is
            Value::String(name) if is_name(name) && !name.contains('.') => Some(Some(Targets::Named(Vec::new()))),
            Value::String(_) => Some(None),
            list => strings(list).map(|list| Some(Targets::Named(list))),
        })?;
        Ok(targets.flatten())
    }

    /// The keys that are set and that PEFT does not know.
    fn ignored(&self) -> Option<String> {
        let known = |key: &str| PLAIN.contains(&key) || BEYOND.contains(&key);
        let keys = self.0.given().filter(|(key, value)| !known(key) && !unset(value));
        let keys: Vec<String> = keys.map(|(key, _)| format!("`{key}`")).collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    }

    fn refuse_unsupported(&self) -> Result {
        let refuse = |key: &str, value: &Value| self.0.fail(format!("`{key}` = {value} is not supported; {MERGE}"));
        for key in BEYOND {
            if let Some(value) = self.0.present(key).filter(|value| !unset(value)) {
                return refuse(key, value);
            }
        }
        match self.0.present("peft_type") {
            None => {
                return self.0.fail("key `peft_type` is missing; is this the config of an adapter that PEFT saved?");
            }
            Some(value) if value != "LORA" => return refuse("peft_type", value),
            _ => {}
        }
        // PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA change the model's own weights as well
        if let Some(value) = self.0.value("init_lora_weights").filter(|value| !value.is_boolean())
            && !["gaussian", "orthogonal", "eva"].iter().any(|known| value == known)
        {
            return refuse("init_lora_weights", value);
        }
        let biases = |v: &Value| ["none", "all", "lora_only"].iter().any(|known| v == known).then_some(());
        self.0.required("bias", "\"none\", \"all\" or \"lora_only\"", biases)
    }

    /// Refuses a pattern that gives one of `paths` another value than `usual`.
    fn refuse_pattern(&self, key: &str, usual: f64, paths: &[String]) -> Result {
        let pattern = self.0.required(key, "an object of numbers", |v| v.as_object().cloned())?;
        for (module, value) in &pattern {
            let Some(number) = value.as_f64() else {
                return self.0.wrong(&format!("{key}.{module}"), value, "a number");
            };
            let concerns = !is_name(module) || paths.iter().any(|path| ends_with_module(path, module));
            if number != usual && concerns {
                let why = format!("`{key}` = {{\"{module}\": {value}}} is not supported beside {usual}; {MERGE}");
                return self.0.fail(why);
            }
        }
        Ok(())
    }

    /// Whether PEFT adapts the module of this path; `None` where a regular expression decides.
    fn selects(&self, path: &str) -> Result<Option<bool>> {
        let named = match self.targets()? {
            None => return Ok(None),
            Some(Targets::AllLinear) => true,
            Some(Targets::Named(names)) => names.iter().any(|name| ends_with_module(path, name)),
        };
        let numbers = |v: &Value| match v {
            Value::Array(list) => list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
            one => one.as_u64().map(|one| vec![one]),
        };
        let layers = self.0.optional("layers_to_transform", "a layer or a list of layers", numbers)?;
        let layer = path.split('.').find_map(|part| part.parse::<u64>().ok());
        let layers = layers.filter(|layers| !layers.is_empty());
        let inside = layers.as_ref().is_none_or(|layers| layer.is_some_and(|layer| layers.contains(&layer)));
        let what = "a list of module names or a regular expression";
        let excluded = self.0.optional("exclude_modules", what, |v| match v {
            Value::String(_) => Some(None),
            list => strings(list).map(Some),
        })?;
        Ok(match excluded {
            Some(None) => None,
            Some(Some(names)) if names.iter().any(|name| ends_with_module(path, name)) => Some(false),
            // a pattern of its own says where the number of the layer stands
            _ if layers.is_some() && self.0.value("layers_pattern").is_some_and(|v| *v != json!([])) => None,
            _ => Some(named && inside),
        })
    }
}

/// Whether a value is what PEFT writes for a feature that is off.
fn unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Whether a pattern is a name or a path, and no other regular expression.
fn is_name(pattern: &str) -> bool {
    pattern.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
}

fn strings(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|v| v.as_str().map(String::from)).collect()
}

impl LoraConfig {
    /// Reads `adapter_config.json`. `targets` is empty where the file has a regular expression.
    pub fn load(file: &Path) -> Result<LoraConfig> {
        Config::read(file)?.lora()
    }
}

/// An adapter on disk, as PEFT saves it.
pub struct AdapterFiles {
    /// Its adapter_config.json.
    pub file: PathBuf,
    /// Its config, with the full path of each adapted module.
    pub config: LoraConfig,
    /// Its matrices.
    pub checkpoint: Checkpoint,
    /// Keys of the config that are not PEFT's, for the user.
    pub note: Option<String>,
}

impl AdapterFiles {
    /// Opens `adapter_config.json` and `adapter_model.safetensors` in `dir`, made for the model `base` of this shape.
    pub fn open(dir: &Path, spec: &Spec, base: &Checkpoint) -> Result<AdapterFiles> {
        let (file, weights) = (dir.join(save::ADAPTER_CONFIG), dir.join(save::ADAPTER));
        for file in [&file, &weights] {
            if !file.is_file() {
                let why = "there is no such file; give the directory of an adapter as PEFT saves it, in safetensors";
                return Err(Error::file(file, why));
            }
        }
        let config = Config::read(&file)?;
        let mut lora = config.lora()?;
        let mut checkpoint = Checkpoint::files(weights.clone(), &[weights])?;
        checkpoint.rename(without_adapter_name)?;
        let (mut paths, mut expected) = (Vec::new(), Vec::new());
        for module in (0..spec.layers).flat_map(|layer| Module::ALL.map(|module| names::slices(spec, layer, module))) {
            for path in module.into_iter().map(|slice| slice.path) {
                let names = peft_names(&path);
                let there = names.iter().find(|name| checkpoint.find(name).is_some());
                match (there, config.selects(&path)?) {
                    (None, None | Some(false)) => continue,
                    (Some(name), Some(false)) => {
                        let why = format!("tensor {name} is of a module that {} does not name", save::ADAPTER_CONFIG);
                        let remedy = "so PEFT would not use it; name the module in `target_modules`, or remove it";
                        return Err(Error::file(checkpoint.origin(), format!("{why}, {remedy}")));
                    }
                    // a matrix that is missing is refused where it is read
                    _ => {}
                }
                expected.extend(names);
                paths.push(path);
            }
        }
        let extra = checkpoint.tensors().map(|(name, ..)| name).filter(|name| !expected.iter().any(|e| e == name));
        extra.into_iter().try_for_each(|name| refuse_changed(&checkpoint, name, spec, base))?;
        if paths.is_empty() {
            let why = "holds no matrix for a module of this model; give the adapter's own base as --model";
            return Err(Error::file(checkpoint.origin(), why));
        }
        config.refuse_pattern("rank_pattern", lora.r as f64, &paths)?;
        config.refuse_pattern("alpha_pattern", lora.alpha, &paths)?;
        lora.targets = Targets::Named(paths);
        let note = config.ignored().map(|keys| format!("{}: PEFT has no key {keys}; ignored", file.display()));
        Ok(AdapterFiles { checkpoint, config: lora, note, file })
    }

    /// The hash of its two files.
    pub fn digest(&self) -> Result<blake3::Hash> {
        self.checkpoint.digest_with(&self.file)
    }

    /// Puts the adapter beside a model, to be used and not trained. Fails where it was made for another one.
    pub fn attach<B: Backend>(&self, b: &B, model: &mut Decoder<B>) -> Result {
        self.put(b, model, &AdapterInit::File(&self.checkpoint))
    }

    /// The same without values, where only sizes count.
    pub fn attach_shapes<B: Backend>(&self, b: &B, model: &mut Decoder<B>) -> Result {
        self.put(b, model, &AdapterInit::Shapes)
    }

    fn put<B: Backend>(&self, b: &B, model: &mut Decoder<B>, start: &AdapterInit) -> Result {
        model.attach(b, &self.config, start, None).map_err(|error| match error {
            // there is no recipe here: the key is the file's
            Error::Recipe { origin, why } => {
                Error::file(&self.file, format!("`{}`: {why}", origin.trim_start_matches("lora.")))
            }
            other => other,
        })
    }
}

/// PEFT's state dict has the adapter's name in a tensor's name, `lora_A.default.weight`; its files do not.
fn without_adapter_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [path @ .., ab @ ("lora_A" | "lora_B"), _, "weight"] => format!("{}.{ab}.weight", path.join(".")),
        _ => name.to_string(),
    }
}

/// A tensor beside the matrices must be one of the base, unchanged: PEFT saves embeddings and heads so.
fn refuse_changed(checkpoint: &Checkpoint, name: &str, spec: &Spec, base: &Checkpoint) -> Result {
    let refuse = |why: String| Err(Error::file(checkpoint.origin(), why));
    let Some(path) = name.strip_prefix("base_model.model.") else {
        return refuse(format!(
            "tensor {name} lacks PEFT's prefix `base_model.model.`, so PEFT would not use it; save the adapter with \
             PEFT's save_pretrained()"
        ));
    };
    let path = path.replace(".base_layer.", ".");
    let tensors = names::tensors(spec);
    let same = |path: &str| tensors.iter().find(|tensor| tensor.name == path);
    let tied = || tensors.first().filter(|_| spec.tied && path == "lm_head.weight");
    let Some(tensor) = same(&path).or_else(tied) else {
        return refuse(format!("tensor {name} belongs to no adapted module of this model; {MERGE}"));
    };
    let values = checkpoint.read(name, &tensor.shape())?.into_f32();
    if values != base.read(&tensor.name, &tensor.shape())?.into_f32() {
        return refuse(format!("tensor {name} replaces that of the model, and differs from it; {MERGE}"));
    }
    Ok(())
}
