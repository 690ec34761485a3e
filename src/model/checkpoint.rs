//! Reading a Hugging Face checkpoint: one safetensors file or the shards of an index, memory-mapped.

#![allow(unsafe_code)] // the memory map

use super::names::Tensor;
use crate::backend::nf4::Nf4;
use crate::error::{Error, Result};
use crate::files;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What follows the name of a tensor in 4 bits: its description, the largest magnitudes of its blocks, its levels, and
/// what double quantisation adds (`quantized`).
pub(super) const STATE: &str = ".quant_state.bitsandbytes__nf4";
/// See [`STATE`].
pub(super) const ABSMAX: &str = ".absmax";
/// See [`STATE`].
pub(super) const MAP: &str = ".quant_map";
/// See [`STATE`].
pub(super) const NESTED_ABSMAX: &str = ".nested_absmax";
/// See [`STATE`].
pub(super) const NESTED_MAP: &str = ".nested_quant_map";
const BESIDE: [&str; 5] = [STATE, ABSMAX, MAP, NESTED_ABSMAX, NESTED_MAP];

/// Values of one tensor on the host.
pub enum Values {
    /// f32, or f16 widened.
    F32(Vec<f32>),
    /// bf16, as stored.
    Bf16(Vec<bf16>),
    /// In 4 bits, as stored.
    Nf4(Nf4<Vec<u8>, Vec<f32>>),
}

impl Values {
    /// Widened to f32.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Values::F32(values) => values,
            Values::Bf16(values) => values.into_iter().map(f32::from).collect(),
            Values::Nf4(_) if self.is_empty() => Vec::new(),
            Values::Nf4(values) => values.decode(),
        }
    }

    /// Whether there are none, because only sizes count.
    pub fn is_empty(&self) -> bool {
        match self {
            Values::F32(values) => values.is_empty(),
            Values::Bf16(values) => values.is_empty(),
            Values::Nf4(values) => values.slices.iter().all(|slice| slice.values.codes.is_empty()),
        }
    }
}

struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// An open checkpoint.
pub struct Checkpoint {
    origin: PathBuf,
    shards: Vec<memmap2::Mmap>,
    entries: BTreeMap<String, Entry>,
    /// Tensors that the file stores under another name, as its metadata tells: safetensors' `save_model` writes a
    /// shared tensor once.
    aliases: BTreeMap<String, String>,
}

/// The LM head.
const HEAD: &str = "lm_head.weight";

/// Parts of a tensor's name that wrappers of PyTorch, FSDP and DeepSpeed leave, at any depth.
const WRAPPERS: [&str; 5] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// A tensor's name without those parts.
fn unwrapped(name: &str) -> String {
    name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".")
}

impl Checkpoint {
    /// Opens `model.safetensors` or the shards of `model.safetensors.index.json` in `dir`.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        if single.is_file() {
            return Checkpoint::files(single.clone(), &[single])?.without_prefix();
        }
        if !index.is_file() {
            return Err(Error::file(
                dir,
                "no model.safetensors or model.safetensors.index.json in this directory; \
                save the model with save_pretrained(..., safe_serialization=True)",
            ));
        }
        let text = files::read_to_string(&index).map_err(Error::io(&index, "read"))?;
        let names = serde_json::from_str::<serde_json::Value>(&text).ok();
        let map = names.as_ref().and_then(|v| v.get("weight_map")).and_then(|m| m.as_object());
        let Some(map) = map else { return Err(Error::file(&index, "not an index of shards: no `weight_map` object")) };
        let mut files: Vec<&str> = map.values().filter_map(|v| v.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        if let Some(outside) = files.iter().find(|f| Path::new(f).components().count() != 1 || f.starts_with('.')) {
            return Err(Error::file(&index, format!("names a shard outside its own directory: {outside}")));
        }
        if let Some(absent) = files.iter().find(|f| !dir.join(f).is_file()) {
            let why = format!("names the shard {absent}, which is not in this directory; copy or download it again");
            return Err(Error::file(&index, why));
        }
        let paths: Vec<PathBuf> = files.iter().map(|f| dir.join(f)).collect();
        Checkpoint::files(index, &paths)?.without_prefix()
    }

    /// The same without the prefix that an outer module left on all names, such as Lightning's `model.`: whatever
    /// stands before the usual name of the embedding, or of the head.
    fn without_prefix(mut self) -> Result<Checkpoint> {
        let before = |end: &str| self.entries.keys().find_map(|name| name.strip_suffix(end));
        let model = ["embed_tokens.weight", "wte.weight"].into_iter().find_map(before);
        let usual = |prefix: &'_ str| {
            ["model.", "transformer."].iter().find_map(|m| prefix.strip_suffix(m)).unwrap_or(prefix).to_string()
        };
        let prefix = model.map(usual).or_else(|| before(HEAD).map(String::from)).unwrap_or_default();
        if !prefix.is_empty() {
            self.rename(|name| name.strip_prefix(&prefix).unwrap_or(name).to_string())?;
        }
        Ok(self)
    }

    /// Gives every tensor another name. Fails if two get the same.
    pub(super) fn rename(&mut self, name: impl Fn(&str) -> String) -> Result {
        self.aliases = self.aliases.iter().map(|(from, to)| (name(from), name(to))).collect();
        for (old, entry) in std::mem::take(&mut self.entries) {
            let new = name(&old);
            if self.entries.insert(new.clone(), entry).is_some() {
                return Err(Error::file(&self.origin, format!("holds tensor {new} twice, once as {old}; keep one")));
            }
        }
        Ok(())
    }

    /// Makes `embedding` another name of the head where the file holds the head alone; for a tied model.
    pub(super) fn tie(&mut self, embedding: &str) {
        if self.find(embedding).is_none() {
            self.aliases.insert(embedding.into(), HEAD.into());
        }
    }

    /// Opens the given safetensors files; `origin` is named in messages.
    pub fn files(origin: PathBuf, files: &[PathBuf]) -> Result<Checkpoint> {
        let (shards, entries, aliases) = Default::default();
        let mut checkpoint = Checkpoint { origin, shards, entries, aliases };
        for path in files {
            let file = std::fs::File::open(path).map_err(Error::io(path, "read"))?;
            // SAFETY: the map is read-only and private to this process. As for every program that maps its input, the
            // user must not truncate the file meanwhile; writers of this format replace files by rename.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
            let parsed = SafeTensors::deserialize(&map).map_err(|e| {
                Error::file(path, format!("not a complete safetensors file ({e}); copy or download it again"))
            })?;
            // `deserialize` has read the same header
            let metadata = SafeTensors::read_metadata(&map).ok().and_then(|(_, m)| m.metadata().clone());
            checkpoint.aliases.extend(metadata.into_iter().flatten());
            for (name, view) in parsed.iter() {
                let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
                let entry = Entry {
                    shard: checkpoint.shards.len(),
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    bytes: start..start + view.data().len(),
                };
                if checkpoint.entries.insert(name.to_string(), entry).is_some() {
                    return Err(Error::file(path, format!("tensor {name} occurs in two shards")));
                }
            }
            checkpoint.shards.push(map);
        }
        checkpoint.rename(unwrapped)?;
        Ok(checkpoint)
    }

    /// The file that messages name.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The blake3 hash of all files, one after the other.
    pub fn digest(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        for shard in &self.shards {
            hash.update_rayon(shard);
        }
        hash.finalize()
    }

    /// The hash of all files and of `config`, which says what they hold.
    pub fn digest_with(&self, config: &Path) -> Result<blake3::Hash> {
        let mut hash = blake3::Hasher::new();
        hash.update(files::hash(config)?.as_bytes());
        hash.update(self.digest().as_bytes());
        Ok(hash.finalize())
    }

    /// Name, shape and dtype of every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Dtype)> {
        self.entries.iter().map(|(name, e)| (name.as_str(), e.shape.as_slice(), e.dtype))
    }

    /// The name in the file of the tensor `name`: with or without its base-model prefix (`model.`, `transformer.`), or
    /// the one that it is shared with.
    pub fn find(&self, name: &str) -> Option<&str> {
        let bare = name.split_once('.').filter(|(prefix, _)| ["model", "transformer"].contains(prefix)).map(|p| p.1);
        let names = || [Some(name), bare].into_iter().flatten();
        let shared = || names().find_map(|n| self.entries.get_key_value(self.aliases.get(n)?));
        names().find_map(|n| self.entries.get_key_value(n)).or_else(shared).map(|(k, _)| k.as_str())
    }

    /// The dtype in which the tensor `name` is stored.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.find(name).and_then(|name| self.entries.get(name)).map(|entry| entry.dtype)
    }

    /// The values of a tensor of the table as ours.
    pub fn tensor(&self, tensor: &Tensor) -> Result<Values> {
        if self.is_coded(&tensor.name) {
            return self.coded(tensor);
        }
        Ok(match self.read(&tensor.name, &tensor.shape())? {
            Values::F32(v) => Values::F32(tensor.layout.load(tensor.rows, tensor.cols, &v)),
            Values::Bf16(v) => Values::Bf16(tensor.layout.load(tensor.rows, tensor.cols, &v)),
            coded => coded,
        })
    }

    /// The storage of a tensor of the table, without values.
    pub fn sizes(&self, tensor: &Tensor) -> Result<Values> {
        Ok(match self.dtype(&tensor.name) {
            _ if self.is_coded(&tensor.name) => self.coded_sizes(tensor)?,
            Some(Dtype::BF16) => Values::Bf16(Vec::new()),
            _ => Values::F32(Vec::new()),
        })
    }

    /// Whether there is a tensor of just this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The bytes of the tensor of just this name.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.entries.get(name).map(|entry| &self.shards[entry.shard][entry.bytes.clone()])
    }

    /// The same, which must be so many.
    pub(super) fn raw(&self, name: &str, len: usize) -> Result<&[u8]> {
        match self.bytes(name) {
            Some(bytes) if bytes.len() == len => Ok(bytes),
            Some(bytes) => self.fail(format!("tensor {name} has {} bytes, expected {len}", bytes.len())),
            None => self.fail(format!("tensor {name} is missing; is the checkpoint complete?")),
        }
    }

    /// The values of the tensor of just this name, which must be so many, in f32.
    pub(super) fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let values = self.entries.get(name).map(|entry| self.read(name, &entry.shape)).transpose()?;
        let values = values.map(Values::into_f32).unwrap_or_default();
        match values.len() == len {
            true => Ok(values),
            false => self.fail(format!("tensor {name} has {} values, expected {len}", values.len())),
        }
    }

    /// An error about the file.
    pub(super) fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::file(&self.origin, why))
    }

    /// The values of `name` in the file's own order, checked against `shape`.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Values> {
        let entry = self.entry(name, shape)?;
        let bytes = &self.shards[entry.shard][entry.bytes.clone()];
        Ok(match entry.dtype {
            Dtype::BF16 => Values::Bf16(bytemuck::allocation::pod_collect_to_vec(bytes)),
            Dtype::F16 => {
                let narrow: Vec<f16> = bytemuck::allocation::pod_collect_to_vec(bytes);
                Values::F32(narrow.into_iter().map(f32::from).collect())
            }
            _ => Values::F32(bytemuck::allocation::pod_collect_to_vec(bytes)),
        })
    }

    /// The entry of `name`, if it has this shape and a dtype that can be read.
    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let fail = |why: String| Err(Error::file(&self.origin, why));
        let Some(entry) = self.find(name).and_then(|n| self.entries.get(n)) else {
            return fail(format!(
                "tensor {name} is missing; is the checkpoint complete and of the config's architecture?"
            ));
        };
        if entry.shape != shape {
            let got = &entry.shape;
            return fail(format!(
                "tensor {name} has shape {got:?}, the config asks for {shape:?}; does the config belong to this \
                 checkpoint?"
            ));
        }
        match entry.dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(entry),
            other => fail(format!("tensor {name} is stored as {other:?}; eyekern reads F32, BF16 and F16")),
        }
    }

    /// Refuses a file that does not hold exactly the tensors of the table, without reading their values.
    pub fn check(&self, known: &[Tensor], tied: bool) -> Result {
        if let Some(name) = self.entries.keys().find(|name| name.contains(".base_layer.")) {
            let why = format!(
                "tensor {name} is of a model with an adapter beside its weights; merge it with PEFT's \
                 merge_and_unload() and save that"
            );
            return Err(Error::file(&self.origin, why));
        }
        self.refuse_fp4()?;
        known.iter().try_for_each(|t| match self.is_coded(&t.name) {
            true => self.coded_state(t).map(drop),
            false => self.entry(&t.name, &t.shape()).map(drop),
        })?;
        self.check_no_extra(known, tied)
    }

    /// Refuses a file with tensors that the table does not know: a sign of another architecture.
    fn check_no_extra(&self, known: &[Tensor], tied: bool) -> Result {
        let mut used: Vec<&str> = known.iter().filter_map(|t| self.find(&t.name)).collect();
        used.sort_unstable();
        let buffer = |name: &str| {
            [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
        };
        for name in self.entries.keys() {
            let whole = BESIDE.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            if used.binary_search(&whole).is_ok() || buffer(name) {
                continue;
            }
            if name == HEAD && tied {
                self.check_tie(known)?;
                continue;
            }
            return Err(Error::file(
                &self.origin,
                format!("tensor {name} is not part of this architecture; does the config belong to this checkpoint?"),
            ));
        }
        Ok(())
    }

    /// A tied model whose file has a head of its own: fine if it is the embedding, refused if it differs.
    fn check_tie(&self, known: &[Tensor]) -> Result {
        let bytes = |name: &str| {
            let entry = self.find(name).and_then(|n| self.entries.get(n));
            entry.map(|e| &self.shards[e.shard][e.bytes.clone()])
        };
        if known.first().is_some_and(|embed| bytes(&embed.name) == bytes(HEAD)) {
            return Ok(());
        }
        Err(Error::file(
            &self.origin,
            "the config ties the head to the embedding (tie_word_embeddings), but the file holds an \
             lm_head.weight that differs from it; set tie_word_embeddings to false",
        ))
    }

    /// The dtype that most values are stored in: what a fine-tuned copy is saved as by default. Masks of other types,
    /// which old files carry as buffers, do not count.
    pub fn main_dtype(&self) -> Dtype {
        let mut bytes = BTreeMap::<String, (usize, Dtype)>::new();
        let weights = |e: &&Entry| matches!(e.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16);
        for e in self.entries.values().filter(weights) {
            bytes.entry(format!("{:?}", e.dtype)).or_insert((0, e.dtype)).0 += e.bytes.len();
        }
        bytes.into_values().max_by_key(|(n, _)| *n).map_or(Dtype::F32, |(_, dtype)| dtype)
    }
}
