//! Tensors in 4 bits, as bitsandbytes and transformers write them.
//!
//! A weight `W.weight` of n values is U8, `[(n + 1) / 2, 1]`, with tensors beside it: `.absmax`, `.quant_map`, with
//! double quantisation `.nested_absmax` and `.nested_quant_map`, and `.quant_state.bitsandbytes__nf4`, the bytes of a
//! JSON object with the sizes. Its shape is `[out, in]`, for GPT-2's transposed projections too.

use super::checkpoint::{ABSMAX, Checkpoint, MAP, NESTED_ABSMAX, NESTED_MAP, STATE, Values};
use super::keys::ORIGINAL;
use super::names::{Layout, Part, Tensor};
use crate::backend::nf4::{BLOCK, Coded, Host, LEVELS, NESTED_BLOCK, Nf4, Scales, Scheme, Slice};
use crate::choices::choices;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

choices! {
    /// The storage of frozen weights.
    Quantization {
        /// As the checkpoint has them.
        None = "none",
        /// NF4 of bitsandbytes: 4 bits a value, for LoRA.
        Nf4 = "nf4",
    }
}

/// What follows the name of a tensor in FP4, which is not read.
const FP4: &str = ".quant_state.bitsandbytes__fp4";

/// The object of [`STATE`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct State {
    pub quant_type: String,
    pub blocksize: usize,
    pub dtype: String,
    pub shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_blocksize: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_offset: Option<f64>,
}

/// How weights are quantised on load.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantizer {
    /// Of each tensor.
    pub scheme: Scheme,
    /// Modules that stay as they are, by the start or the end of their path.
    pub skip: Vec<String>,
}

impl Quantizer {
    /// Whether `tensor` is quantised: the projections, but not the embedding and the head, as transformers has it. A
    /// name in `skip` means the module of this path and all within it, or every module whose path ends so.
    pub fn takes(&self, tensor: &Tensor) -> bool {
        let Some(module) = tensor.name.strip_suffix(".weight") else { return false };
        let skips = |name: &String| {
            let within =
                module.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            within || module.ends_with(name.as_str())
        };
        matches!(tensor.part, Part::Weight(..)) && !self.skip.iter().any(skips)
    }

    /// `values` of a tensor, as they lie in ours, in 4 bits. They may be empty where only sizes count. Fails where one
    /// is not finite; `file` is for the message.
    pub fn quantize(&self, tensor: &Tensor, values: Values, file: &Path) -> Result<Values> {
        let len = tensor.rows * tensor.cols;
        let values = match (values, tensor.layout) {
            (coded @ Values::Nf4(_), _) => return Ok(coded),
            (values, _) if values.is_empty() => return Ok(matrix(tensor, Host::sizes(len, self.scheme))),
            // blocks follow the order of the file, but for GPT-2, where they follow that of a linear layer
            (values, Layout::Interleaved(_)) => tensor.layout.store(tensor.rows, tensor.cols, &values.into_f32()),
            (values, _) => values.into_f32(),
        };
        if values.iter().any(|x| !x.is_finite()) {
            return Err(not_finite(file, &tensor.name));
        }
        Ok(matrix(tensor, Host::of(&values, self.scheme)))
    }
}

/// A tensor as a matrix of ours.
fn matrix(tensor: &Tensor, values: Host) -> Values {
    let order = if let Layout::Interleaved(order) = tensor.layout { Some(order) } else { None };
    Values::Nf4(Nf4 { cols: tensor.cols, slices: vec![Slice { row: 0, rows: tensor.rows, order, values }] })
}

impl Checkpoint {
    /// Whether the tensor `name` is in 4 bits.
    pub fn is_coded(&self, name: &str) -> bool {
        self.find(name).is_some_and(|name| self.has(&format!("{name}{STATE}")))
    }

    /// The values of a tensor in 4 bits.
    pub(super) fn coded(&self, tensor: &Tensor) -> Result<Values> {
        let (state, bytes) = self.coded_state(tensor)?;
        let name = self.find(&tensor.name).unwrap_or(&tensor.name);
        let len = tensor.rows * tensor.cols;
        let mut values = Coded { len, block: state.blocksize, codes: bytes.to_vec(), scales: Scales::Full(Vec::new()) };
        let blocks = values.blocks();
        let scales = match state.nested_blocksize.zip(state.nested_offset) {
            None => Scales::Full(self.floats(&format!("{name}{ABSMAX}"), blocks)?),
            Some((block, offset)) => Scales::Nested {
                codes: self.raw(&format!("{name}{ABSMAX}"), blocks)?.to_vec(),
                block,
                absmax: self.floats(&format!("{name}{NESTED_ABSMAX}"), blocks.div_ceil(block))?,
                map: self.floats(&format!("{name}{NESTED_MAP}"), 256)?,
                offset: offset as f32,
            },
        };
        values.scales = scales;
        let levels = self.floats(&format!("{name}{MAP}"), LEVELS.len())?;
        if levels.iter().zip(LEVELS).any(|(a, b)| (a - b).abs() > 1e-6) {
            return self.fail(format!("tensor {name} has other levels than NF4; quantise the original again"));
        }
        Ok(matrix(tensor, values))
    }

    /// The sizes of a tensor in 4 bits, without its values.
    pub(super) fn coded_sizes(&self, tensor: &Tensor) -> Result<Values> {
        let (state, _) = self.coded_state(tensor)?;
        let scheme = Scheme { double: state.nested_blocksize.is_some() };
        let mut values = Host::sizes(tensor.rows * tensor.cols, scheme);
        values.block = state.blocksize;
        if let (Scales::Nested { block, .. }, Some(size)) = (&mut values.scales, state.nested_blocksize) {
            *block = size;
        }
        Ok(matrix(tensor, values))
    }

    /// The state of a tensor and its codes, checked against the shape of ours.
    pub(super) fn coded_state(&self, tensor: &Tensor) -> Result<(State, &[u8])> {
        let name = self.find(&tensor.name).unwrap_or(&tensor.name);
        let bytes = self.bytes(&format!("{name}{STATE}")).unwrap_or_default();
        let state: State = match serde_json::from_slice(bytes) {
            Ok(state) => state,
            Err(e) => return self.fail(format!("tensor {name}{STATE} does not describe a tensor in 4 bits ({e})")),
        };
        let shape = [tensor.rows, tensor.cols];
        if state.shape != shape {
            let got = &state.shape;
            return self.fail(format!(
                "tensor {name} has shape {got:?}, the config asks for {shape:?}; does the config belong to this \
                 checkpoint?"
            ));
        }
        let sizes = [32, BLOCK, 128, 256, 512, 1024, 2048, 4096];
        let nested = state.nested_blocksize.is_none_or(|size| size == NESTED_BLOCK)
            && state.nested_blocksize.is_some() == state.nested_offset.is_some();
        if state.quant_type != "nf4" || !sizes.contains(&state.blocksize) || !nested {
            return self.fail(format!("tensor {name}{STATE} asks for a format that bitsandbytes does not write"));
        }
        let codes = self.raw(name, (tensor.rows * tensor.cols).div_ceil(2))?;
        Ok((state, codes))
    }

    /// Refuses tensors in FP4.
    pub(super) fn refuse_fp4(&self) -> Result {
        match self.tensors().find_map(|(name, ..)| name.strip_suffix(FP4)) {
            Some(name) => self.fail(format!("tensor {name} is in FP4, which eyekern does not read; {ORIGINAL}")),
            None => Ok(()),
        }
    }
}

/// The refusal of a tensor that has no codes.
pub(super) fn not_finite(file: &Path, name: &str) -> Error {
    Error::file(file, format!("tensor {name} has values that are not finite, which 4 bits cannot hold; mend the model"))
}
