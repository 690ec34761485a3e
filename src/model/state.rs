//! What of a model must outlive the process for training to go on with the same bits: trained values and moments.
//!
//! One safetensors file. A parameter of n values is three tensors `[n]` in [`Backend::Stat`]: `NAME`, the values (of
//! the full-precision copy where there is one), `NAME.exp_avg` and `NAME.exp_avg_sq`, AdamW's moments under PyTorch's
//! names. Parameters are those that the optimiser takes, fused as they train: `layers.0.qkv.weight`, or the matrices
//! of an adapter under PEFT's names. One parameter at a time is on the host, when writing and when reading.

use super::adapter::peft_names;
use super::decoder::Decoder;
use crate::backend::Backend;
use crate::error::{Error, Result};
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What is kept of a parameter, as it follows its name; the order of [`super::params::Param::state`].
const PARTS: [&str; 3] = ["", ".exp_avg", ".exp_avg_sq"];

/// Bytes of a header that no model reaches: the limit of the format itself.
const HEADER: u64 = 100_000_000;

/// The dtype of `Stat` as the format writes it.
fn dtype<B: Backend>() -> &'static str {
    if size_of::<B::Stat>() == 8 { "F64" } else { "F32" }
}

impl<B: Backend> Decoder<B> {
    /// The names of [`Decoder::trained`], in its order.
    fn trained_names(&self) -> Vec<String> {
        if self.embed.train.is_none() {
            let adapted = self.slices().filter(|(_, s)| s.adapter.is_some());
            return adapted.flat_map(|(_, s)| peft_names(&s.path)).collect();
        }
        let mut names = vec!["embed".to_string()];
        let affine = |list: &mut Vec<String>, name: String, bias: bool| {
            list.push(format!("{name}.weight"));
            list.extend(bias.then(|| format!("{name}.bias")));
        };
        names.extend(self.positions.as_ref().map(|_| "positions".into()));
        for (l, layer) in self.layers.iter().enumerate() {
            for (norm, name) in layer.norms.iter().zip(["attention_norm", "mlp_norm"]) {
                affine(&mut names, format!("layers.{l}.{name}"), norm.bias.is_some());
            }
            for (p, name) in layer.proj.iter().zip(["qkv", "o", "up", "down"]) {
                affine(&mut names, format!("layers.{l}.{name}"), p.bias.is_some());
            }
        }
        affine(&mut names, "final_norm".into(), self.final_norm.bias.is_some());
        names.extend(self.head.as_ref().map(|_| "head".into()));
        names
    }
}

/// Writes the state of everything that is trained to `path`. Fails where the file cannot be written.
pub fn save<B: Backend>(b: &B, model: &mut Decoder<B>, path: &Path) -> Result {
    let names = model.trained_names();
    let params = model.trained();
    let (mut header, mut at) = (Map::new(), 0);
    for (name, param) in names.iter().zip(&params) {
        for part in PARTS {
            let end = at + param.len() * size_of::<B::Stat>();
            let entry = json!({ "dtype": dtype::<B>(), "shape": [param.len()], "data_offsets": [at, end] });
            header.insert(format!("{name}{part}"), entry);
            at = end;
        }
    }
    let mut text = Value::Object(header).to_string();
    // the format wants tensors aligned to 8 bytes
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut file = BufWriter::new(File::create(path).map_err(Error::io(path, "create"))?);
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path, "write"));
    put(&(text.len() as u64).to_le_bytes())?;
    put(text.as_bytes())?;
    for param in params {
        for values in param.state(b)?.into_iter().flatten() {
            put(bytemuck::cast_slice(&values))?;
        }
    }
    file.flush().map_err(Error::io(path, "write"))
}

/// A file of [`save`] that fits a model.
pub struct Saved {
    file: File,
    path: PathBuf,
    /// Where the values and moments of each parameter start.
    places: Vec<[u64; 3]>,
}

impl Saved {
    /// Opens `path` for a model of the same shape. Fails where the file cannot be read or is that of another model,
    /// method or adapter.
    pub fn open<B: Backend>(model: &mut Decoder<B>, path: &Path) -> Result<Saved> {
        let mut file = File::open(path).map_err(Error::io(path, "read"))?;
        let (metadata, start) = header(&mut file, path)?;
        let names = model.trained_names();
        if metadata.tensors().len() != PARTS.len() * names.len() {
            let (got, want) = (metadata.tensors().len() / PARTS.len(), names.len());
            let why = format!("has the state of {got} parameters, and the run trains {want}");
            return Err(Error::file(path, why));
        }
        let place = |name: String, len: usize| {
            let found = metadata.info(&name).filter(|t| t.shape == [len]);
            if let Some(tensor) = found.filter(|t| format!("{:?}", t.dtype) == dtype::<B>()) {
                return Ok(start + tensor.data_offsets.0 as u64);
            }
            let why = format!("has no {name} of {len} values in {}, as the run trains it", dtype::<B>());
            Err(Error::file(path, why))
        };
        let mut places = Vec::with_capacity(names.len());
        for (name, param) in names.iter().zip(model.trained()) {
            let [values, m, v] = PARTS.map(|part| place(format!("{name}{part}"), param.len()));
            places.push([values?, m?, v?]);
        }
        Ok(Saved { file, path: path.to_path_buf(), places })
    }

    /// Puts the state back into the model that the file was opened for.
    pub fn restore<B: Backend>(mut self, b: &B, model: &mut Decoder<B>) -> Result {
        for (places, mut param) in self.places.iter().zip(model.trained()) {
            let mut state = [(); 3].map(|()| vec![B::Stat::default(); param.len()]);
            for (place, values) in places.iter().zip(&mut state) {
                let sought = self.file.seek(SeekFrom::Start(*place));
                sought
                    .and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(values)))
                    .map_err(Error::io(&self.path, "read"))?;
            }
            param.restore(b, state)?;
        }
        Ok(())
    }
}

/// The header of a safetensors file, and where its values start.
fn header(file: &mut File, path: &Path) -> Result<(Metadata, u64)> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(Error::io(path, "read"))?;
    let size = u64::from_le_bytes(length);
    if size > HEADER {
        return Err(Error::file(path, "is no safetensors file"));
    }
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text).map_err(Error::io(path, "read"))?;
    let metadata = serde_json::from_slice(&text).map_err(|e| Error::file(path, format!("has no valid header: {e}")))?;
    Ok((metadata, 8 + size))
}
