//! Writing what the ecosystem loads: PEFT adapters and Hugging Face model directories.

use super::adapter::LoraConfig;
use super::decoder::Decoder;
use super::keys;
use super::names::{self, Tensor};
use crate::backend::Backend;
use crate::data::chat::MORE_TEMPLATES;
use crate::error::{Error, Result};
use crate::files;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Bytes of one shard of a full model.
const SHARD: usize = 5_000_000_000;

/// The tokenizer; its companions follow it.
const TOKENIZER: &str = "tokenizer.json";

/// Sampling defaults, which belong to a model and not to its tokenizer.
pub const GENERATION: &str = "generation_config.json";

/// Files of a model directory that belong beside every copy of it.
const COMPANIONS: [&str; 9] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    GENERATION,
];

/// An adapter's tensors and its config, as PEFT names them.
pub const ADAPTER: &str = "adapter_model.safetensors";
/// See [`ADAPTER`].
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// A model's tensors in one file, the index of several, and its config, as Hugging Face names them.
pub const MODEL: &str = "model.safetensors";
/// See [`MODEL`].
pub const INDEX: &str = "model.safetensors.index.json";
/// See [`MODEL`].
pub const CONFIG: &str = "config.json";

/// The file that stands for an adapter: where it is, all that was saved with it is ([`files::publish`]).
pub const OF_ADAPTER: [&str; 1] = [ADAPTER];
/// The files of which one stands for a full model, likewise.
pub const OF_FULL: [&str; 2] = [MODEL, INDEX];

/// A tensor on its way to a file.
pub(super) struct Record {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Record {
    /// Of f32 values, which are rounded to nearest even.
    pub fn new(name: &str, shape: Vec<usize>, values: &[f32], dtype: Dtype) -> Record {
        Record { name: name.into(), dtype, shape, bytes: encode(values, dtype) }
    }
}

/// Whether a finite value becomes infinite in float16.
pub fn beyond_f16(values: &[f32]) -> bool {
    values.iter().any(|x| x.is_finite() && f16::from_f32(*x).is_infinite())
}

/// Whether float16 holds all that a model trains, or `dtype` is another.
pub fn fits<B: Backend>(b: &B, model: &mut Decoder<B>, dtype: Dtype) -> Result<bool> {
    if dtype != Dtype::F16 {
        return Ok(true);
    }
    for param in model.trained() {
        if beyond_f16(&param.values(b)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// f32 values rounded to `dtype`.
pub(super) fn rounded(values: &[f32], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::BF16 => values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
        Dtype::F16 => values.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        _ => values.to_vec(),
    }
}

/// f32 values as bytes of `dtype` (round to nearest even).
fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => {
            bytemuck::allocation::pod_collect_to_vec(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>())
        }
        Dtype::F16 => {
            bytemuck::allocation::pod_collect_to_vec(&values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>())
        }
        _ => bytemuck::allocation::pod_collect_to_vec(values),
    }
}

/// One safetensors file; written beside its place and renamed, so that no reader meets half of it.
pub(super) fn write_safetensors(path: &Path, records: &[Record]) -> Result {
    let mut views = Vec::with_capacity(records.len());
    for r in records {
        let view = TensorView::new(r.dtype, r.shape.clone(), &r.bytes).map_err(|e| Error::file(path, e.to_string()))?;
        views.push((r.name.as_str(), view));
    }
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    // the library's temporary file is private to the user; a model is as readable as any other file of his
    let ordinary = files::partial(path);
    std::fs::File::create(&ordinary).map_err(Error::io(&ordinary, "create"))?;
    let permissions = std::fs::metadata(&ordinary).map_err(Error::io(&ordinary, "read"))?.permissions();
    std::fs::remove_file(&ordinary).map_err(Error::io(&ordinary, "remove"))?;
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|e| Error::file(path, format!("cannot be written: {e}; is there space and permission?")))?;
    std::fs::set_permissions(path, permissions).map_err(Error::io(path, "write"))
}

fn create(dir: &Path) -> Result {
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))
}

/// Copies the tokenizer with its companions to `to`: all from the last of `sources` that has one, since files of two
/// tokenizers do not fit together. A source is a directory, or a tokenizer's file by any name.
pub fn copy_companions(sources: &[&Path], to: &Path) -> Result {
    let tokenizer = sources.iter().rev().find(|source| companion(source, TOKENIZER).is_file());
    for name in COMPANIONS {
        let file = match tokenizer.filter(|_| name != GENERATION) {
            Some(source) => Some(companion(source, name)).filter(|file| file.is_file()),
            None => last_companion(sources, name),
        };
        if let Some(file) = file {
            files::copy(&file, &to.join(name))?;
        }
    }
    match tokenizer {
        Some(source) => copy_templates(&companion(source, MORE_TEMPLATES), &to.join(MORE_TEMPLATES)),
        None => Ok(()),
    }
}

/// Copies the named chat templates of a tokenizer, if it has any.
fn copy_templates(from: &Path, to: &Path) -> Result {
    if !from.is_dir() || files::same(from, to) {
        return Ok(());
    }
    create(to)?;
    let names = files::names(from)?.into_iter().filter(|name| name.ends_with(".jinja"));
    names.map(|name| (from.join(&name), to.join(&name))).try_for_each(|(from, to)| files::copy(&from, &to))
}

/// The file that is saved as `name`, of the last of `sources` that has one.
pub(super) fn last_companion(sources: &[&Path], name: &str) -> Option<PathBuf> {
    sources.iter().rev().map(|source| companion(source, name)).find(|file| file.is_file())
}

/// The file of a source that is saved as `name`.
fn companion(source: &Path, name: &str) -> PathBuf {
    match source.is_file() {
        true if name == TOKENIZER => source.to_path_buf(),
        true => source.with_file_name(name),
        false => source.join(name),
    }
}

/// Whether [`adapter`] writes a file of this name.
pub fn is_of_adapter(name: &str) -> bool {
    name == ADAPTER || name == ADAPTER_CONFIG
}

/// Whether [`full`] writes a file of this name.
pub fn is_of_full(name: &str) -> bool {
    if [CONFIG, MODEL, INDEX].contains(&name) {
        return true;
    }
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors")?.split_once("-of-"));
    let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    numbers.is_some_and(|(i, n)| name == shard(i, n))
}

/// The name of shard `i` of `n`, from 1.
fn shard(i: usize, n: usize) -> String {
    format!("model-{i:05}-of-{n:05}.safetensors")
}

/// `adapter_config.json` and `adapter_model.safetensors` in `dir`, as PEFT saves them (it keeps adapters in f32).
pub fn adapter<B: Backend>(
    b: &B, model: &Decoder<B>, config: &LoraConfig, base: &str, dtype: Dtype, dir: &Path,
) -> Result {
    create(dir)?;
    let records: Vec<Record> = model
        .export_adapter(|m| m.values(b))?
        .into_iter()
        .map(|(name, shape, values)| Record::new(&name, shape.to_vec(), &values, dtype))
        .collect();
    write_safetensors(&dir.join(ADAPTER), &records)?;
    let text = keys::text(&peft_config(model, config, base));
    files::write(&dir.join(ADAPTER_CONFIG), &text)
}

/// The fields of PEFT 0.21's adapter_config.json, in its order.
fn peft_config<B: Backend>(model: &Decoder<B>, config: &LoraConfig, base: &str) -> Value {
    let conv1d = model.slices().any(|(_, s)| s.layout == names::Layout::Transposed && s.adapter.is_some());
    let alpha = if config.alpha.fract() == 0.0 { json!(config.alpha as i64) } else { json!(config.alpha) };
    // shortest decimal of the f32, not its binary expansion
    let dropout: f64 = config.dropout.to_string().parse().unwrap_or_default();
    json!({
        "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
        "base_model_name_or_path": base, "bias": "none", "corda_config": null, "ensure_weight_tying": false,
        "eva_config": null, "exclude_modules": null, "fan_in_fan_out": conv1d, "inference_mode": true,
        "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
        "layers_to_transform": null, "loftq_config": {}, "lora_alpha": alpha, "lora_bias": false,
        "lora_dropout": dropout, "lora_ga_config": null, "megatron_config": null,
        "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null, "peft_type": "LORA",
        "peft_version": "0.21.2", "qalora_group_size": 16, "r": config.r, "rank_pattern": {}, "revision": null,
        "target_modules": model.target_names(&config.targets), "target_parameters": null, "task_type": "CAUSAL_LM",
        "trainable_token_indices": null, "use_bdlora": null, "use_dora": false, "use_qalora": false,
        "use_rslora": config.rslora, "velora_config": null,
    })
}

/// Name of a safetensors dtype in a config.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BF16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => "float32",
    }
}

/// Names the dtype of the weights in a config.
pub(super) fn set_dtype(config: &mut Map<String, Value>, dtype: Dtype) {
    let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    config.insert(key.into(), dtype_name(dtype).into());
}

/// A full model in `dir`: `config.json` (the original's fields, with the dtype of the weights) and
/// `model.safetensors`, in shards with an index where it is larger than 5 GB.
pub fn full<B: Backend>(b: &B, model: &mut Decoder<B>, config: &Value, dtype: Dtype, dir: &Path) -> Result {
    create(dir)?;
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        set_dtype(map, dtype);
        // of a base that was in 4 bits
        map.remove("quantization_config");
    }
    let tensors = names::tensors(&model.spec);
    let shards = shards(&tensors, dtype.bitsize() / 8);
    let mut index = Map::new();
    let mut total = 0;
    for (i, range) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => MODEL.to_string(),
            n => shard(i + 1, n),
        };
        let mut records = Vec::with_capacity(range.len());
        for tensor in &tensors[range.clone()] {
            let values = stored(b, model, tensor)?;
            if dtype == Dtype::F16 && beyond_f16(&values) {
                let why = format!("{} has values beyond float16's 65504; save as bfloat16 or float32", tensor.name);
                return Err(Error::file(dir, why));
            }
            let record = Record::new(&tensor.name, tensor.shape(), &values, dtype);
            total += record.bytes.len();
            index.insert(tensor.name.clone(), file.clone().into());
            records.push(record);
        }
        write_safetensors(&dir.join(file), &records)?;
    }
    if shards.len() > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
        files::write(&dir.join(INDEX), keys::text(&index))?;
    }
    files::write(&dir.join(CONFIG), keys::text(&config))
}

/// Consecutive tensors that fill at most one shard each.
fn shards(tensors: &[Tensor], width: usize) -> Vec<std::ops::Range<usize>> {
    let mut list: Vec<std::ops::Range<usize>> = Vec::new();
    let mut filled = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.rows * tensor.cols * width;
        match list.last_mut() {
            Some(last) if filled + bytes <= SHARD => last.end = i + 1,
            _ => {
                list.push(i..i + 1);
                filled = 0;
            }
        }
        filled += bytes;
    }
    list
}

/// The values of one checkpoint tensor, in the checkpoint's own storage.
pub fn stored<B: Backend>(b: &B, model: &mut Decoder<B>, tensor: &Tensor) -> Result<Vec<f32>> {
    let Some((param, row)) = model.param(tensor.part) else { return Ok(Vec::new()) };
    let values = param.values(b)?;
    let ours = &values[row * tensor.cols..][..tensor.rows * tensor.cols];
    Ok(tensor.layout.store(tensor.rows, tensor.cols, ours))
}

/// The gradient of one checkpoint tensor, in the checkpoint's own storage; `None` where it is frozen.
pub fn stored_gradient<B: Backend>(b: &B, model: &mut Decoder<B>, tensor: &Tensor) -> Result<Option<Vec<f64>>> {
    let Some((mut param, row)) = model.param(tensor.part) else { return Ok(None) };
    let Some(grad) = param.gradient(b)? else { return Ok(None) };
    let ours = &grad[row * tensor.cols..][..tensor.rows * tensor.cols];
    Ok(Some(tensor.layout.store(tensor.rows, tensor.cols, ours)))
}
