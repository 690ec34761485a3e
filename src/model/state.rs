//! The state that a run resumes from bit for bit: trained values and moments.
//!
//! One safetensors file. A parameter of n values is a tensor `NAME`, the values (of the full-precision copy where there
//! is one), `[n]` in [`Memory::Stat`](crate::backend::Memory::Stat), and AdamW's moments under PyTorch's names,
//! `NAME.exp_avg` and `NAME.exp_avg_sq`, likewise. Moments in 8 bits ([`crate::backend::moments`]) are
//! `NAME.exp_avg.codes` and `NAME.exp_avg_sq_root.codes`, `[n]` in U8, each with `.absmax`, a value in `Stat` per
//! group. The parameters are those of the optimiser, fused as they train: `layers.0.qkv.weight`, or the matrices of an
//! adapter under PEFT's names. One tensor at a time is on the host, when writing and when reading.

use super::adapter::peft_names;
use super::decoder::Decoder;
use super::params::{Param, read};
use crate::backend::moments::{Codes, GROUP, Moments};
use crate::backend::{Backend, Elem, Number, S};
use crate::error::{Error, Result};
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A tensor of the state beside the values of its parameter.
struct Piece<'a, B: Backend> {
    /// What it is called after the parameter.
    suffix: &'static str,
    len: usize,
    place: Place<'a, B>,
}

enum Place<'a, B: Backend> {
    Stat(&'a mut S<B>),
    Codes(&'a mut B::Buf<u8>),
}

impl<B: Backend> Piece<'_, B> {
    fn dtype(&self) -> &'static str {
        if let Place::Stat(_) = self.place { dtype::<B>() } else { "U8" }
    }

    fn bytes(&self) -> usize {
        self.len * if let Place::Stat(_) = self.place { size_of::<B::Stat>() } else { 1 }
    }

    fn save(&self, b: &B, put: &mut dyn FnMut(&[u8]) -> Result) -> Result {
        match &self.place {
            Place::Stat(from) => put(bytemuck::cast_slice(&read(b, from, self.len)?)),
            Place::Codes(from) => put(&read(b, from, self.len)?),
        }
    }

    fn restore(&mut self, b: &B, get: &mut dyn FnMut(&mut [u8]) -> Result) -> Result {
        match &mut self.place {
            Place::Stat(to) => b.write(to, &filled(self.len, get)?),
            Place::Codes(to) => b.write(to, &filled::<u8>(self.len, get)?),
        }
    }
}

fn filled<T: Elem>(len: usize, get: &mut dyn FnMut(&mut [u8]) -> Result) -> Result<Vec<T>> {
    let mut host = vec![T::default(); len];
    get(bytemuck::cast_slice_mut(&mut host))?;
    Ok(host)
}

/// The moments of a parameter of `len` values, in the order in which they are written.
fn pieces<B: Backend>(moments: &mut Moments<B>, len: usize) -> Vec<Piece<'_, B>> {
    fn coded<'a, B: Backend>(part: &'a mut Codes<B>, len: usize, names: [&'static str; 2]) -> [Piece<'a, B>; 2] {
        let [codes, absmax] = names;
        [
            Piece { suffix: codes, len, place: Place::Codes(&mut part.codes) },
            Piece { suffix: absmax, len: len.div_ceil(GROUP), place: Place::Stat(&mut part.absmax) },
        ]
    }
    match moments {
        Moments::Full { m, v } => vec![
            Piece { suffix: ".exp_avg", len, place: Place::Stat(m) },
            Piece { suffix: ".exp_avg_sq", len, place: Place::Stat(v) },
        ],
        Moments::Coded { m, root } => {
            let m = coded(m, len, [".exp_avg.codes", ".exp_avg.absmax"]);
            m.into_iter().chain(coded(root, len, [".exp_avg_sq_root.codes", ".exp_avg_sq_root.absmax"])).collect()
        }
    }
}

/// Those of a parameter; none where it is frozen.
fn pieces_of<'a, B: Backend>(param: &'a mut Param<'_, B>) -> Vec<Piece<'a, B>> {
    let len = param.len();
    param.train().map_or(Vec::new(), |train| pieces(&mut train.moments, len))
}

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
    let mut params = model.trained();
    let (mut header, mut at) = (Map::new(), 0);
    let mut list = |name: String, dtype: &str, len: usize, bytes: usize| {
        header.insert(name, json!({ "dtype": dtype, "shape": [len], "data_offsets": [at, at + bytes] }));
        at += bytes;
    };
    for (name, param) in names.iter().zip(&mut params) {
        let len = param.len();
        list(name.clone(), dtype::<B>(), len, len * size_of::<B::Stat>());
        for piece in pieces_of(param) {
            list(format!("{name}{}", piece.suffix), piece.dtype(), piece.len, piece.bytes());
        }
    }
    let mut text = Value::Object(header).to_string();
    // the format wants tensors aligned to 8 bytes
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut file = BufWriter::new(File::create(path).map_err(Error::io(path, "create"))?);
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path, "write"));
    put(&(text.len() as u64).to_le_bytes())?;
    put(text.as_bytes())?;
    for mut param in params {
        put(bytemuck::cast_slice(&param.exact(b)?))?;
        pieces_of(&mut param).iter().try_for_each(|piece| piece.save(b, &mut put))?;
    }
    file.flush().map_err(Error::io(path, "write"))
}

/// A file of [`save`] that fits a model.
pub struct Saved {
    file: File,
    path: PathBuf,
    /// Where the tensors of each parameter start.
    places: Vec<Vec<u64>>,
}

impl Saved {
    /// Opens `path` for a model of the same shape. Fails where the file cannot be read or is that of another model,
    /// method, adapter or optimiser.
    pub fn open<B: Backend>(model: &mut Decoder<B>, path: &Path) -> Result<Saved> {
        let mut file = File::open(path).map_err(Error::io(path, "read"))?;
        let (metadata, start) = header(&mut file, path)?;
        let place = |name: String, len: usize, dtype: &str| {
            let found = metadata.info(&name).filter(|t| t.shape == [len]);
            if let Some(tensor) = found.filter(|t| format!("{:?}", t.dtype) == dtype) {
                return Ok(start + tensor.data_offsets.0 as u64);
            }
            let why = format!("has no {name} of {len} values in {dtype}, as the run trains it");
            Err(Error::file(path, why))
        };
        let mut places = Vec::new();
        for (name, mut param) in model.trained_names().into_iter().zip(model.trained()) {
            let values = place(name.clone(), param.len(), dtype::<B>());
            let moments = pieces_of(&mut param);
            let moments = moments.iter().map(|p| place(format!("{name}{}", p.suffix), p.len, p.dtype()));
            places.push(std::iter::once(values).chain(moments).collect::<Result<Vec<u64>>>()?);
        }
        let (got, want) = (metadata.tensors().len(), places.iter().map(Vec::len).sum::<usize>());
        if got != want {
            let why = format!("has {got} tensors, and the state of what the run trains are {want}");
            return Err(Error::file(path, why));
        }
        Ok(Saved { file, path: path.to_path_buf(), places })
    }

    /// Puts the state back into the model that the file was opened for.
    pub fn restore<B: Backend>(mut self, b: &B, model: &mut Decoder<B>) -> Result {
        for (places, mut param) in self.places.iter().zip(model.trained()) {
            let mut places = places.iter();
            let mut get = |bytes: &mut [u8]| {
                let place = SeekFrom::Start(places.next().copied().unwrap_or_default());
                let sought = self.file.seek(place);
                sought.and_then(|_| self.file.read_exact(bytes)).map_err(Error::io(&self.path, "read"))
            };
            let values = filled::<B::Stat>(param.len(), &mut get)?;
            param.set(b, &values.into_iter().map(Number::f64).collect::<Vec<_>>())?;
            pieces_of(&mut param).iter_mut().try_for_each(|piece| piece.restore(b, &mut get))?;
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
