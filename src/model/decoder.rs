//! The parameters of a decoder, for every architecture and backend.

use super::adapter::Adapter;
use super::checkpoint::{Checkpoint, Values};
use super::config::{Positions, Spec};
use super::names::{self, Layout, Module, Part, Tensor};
use super::params::{Dense, Matrix, Param};
use super::quantized::Quantizer;
use super::rope;
use crate::backend::moments::Optim;
use crate::backend::{Affine, Backend, Gemm, Heads, Lora, Norm, Number, S, Stored};
use crate::error::Result;
use crate::random::{Purpose, Stream};
use std::path::Path;

/// A norm's parameters.
pub struct NormParams<B: Backend> {
    /// RMSNorm or LayerNorm, with its epsilon.
    pub kind: Norm,
    /// Scale, `[hidden]`.
    pub gain: Dense<B>,
    /// Shift, `[hidden]` (LayerNorm).
    pub bias: Option<Dense<B>>,
}

impl<B: Backend> NormParams<B> {
    /// For a norm operation.
    pub fn affine(&self) -> Affine<'_, B> {
        Affine { gain: &self.gain.w, bias: self.bias.as_ref().map(|b| &b.w) }
    }
}

/// A named part of a projection, with its own adapter.
pub struct Slice<B: Backend> {
    /// PEFT's module path, `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// First output column.
    pub col: usize,
    /// Output columns.
    pub out: usize,
    /// Storage of the slice in the checkpoint.
    pub layout: Layout,
    /// Low-rank update, where one is trained.
    pub adapter: Option<Adapter<B>>,
}

/// A projection, fused from one to three slices.
pub struct Projection<B: Backend> {
    /// `[out, in]`.
    pub w: Matrix<B>,
    /// `[out]`.
    pub bias: Option<Dense<B>>,
    /// The parts that adapters address.
    pub slices: Vec<Slice<B>>,
    /// Factor on the result.
    pub alpha: f64,
}

impl<B: Backend> Projection<B> {
    /// Shape of the product for `rows` tokens.
    pub fn gemm(&self, rows: usize) -> Gemm {
        Gemm { rows, inp: self.w.cols, out: self.w.rows, alpha: self.alpha }
    }
}

impl<B: Backend> Slice<B> {
    /// Shape of the adapter's products in a projection of shape `g`.
    pub fn lora(&self, g: Gemm, adapter: &Adapter<B>) -> Lora {
        Lora {
            rows: g.rows,
            inp: g.inp,
            out: self.out,
            col: self.col,
            stride: g.out,
            rank: adapter.rank,
            scale: adapter.scale * g.alpha,
        }
    }
}

/// One block.
pub struct Layer<B: Backend> {
    /// Before attention and before the MLP.
    pub norms: [NormParams<B>; 2],
    /// Indexed by [`Module`].
    pub proj: [Projection<B>; 4],
}

/// A decoder-only transformer on a device.
pub struct Decoder<B: Backend> {
    /// What it is.
    pub spec: Spec,
    /// Token embedding, `[vocab, hidden]`.
    pub embed: Matrix<B>,
    /// Learned positions, `[max_positions, hidden]`.
    pub positions: Option<Matrix<B>>,
    /// Blocks.
    pub layers: Vec<Layer<B>>,
    /// Last norm.
    pub final_norm: NormParams<B>,
    /// LM head, `[vocab, hidden]`; `None` where it is the embedding.
    pub head: Option<Matrix<B>>,
    /// Angles of rotary positions, `[positions, head_dim]`.
    pub rope: Option<S<B>>,
}

/// Where initial values come from.
pub enum Init<'a> {
    /// A checkpoint.
    File(&'a Checkpoint),
    /// Normal values of this deviation, gains 1, biases 0.
    Random {
        /// Seed of the values.
        seed: u64,
        /// Standard deviation of matrices.
        std: f64,
        /// Whether matrices are rounded to bf16, and stored so where they are frozen.
        bf16: bool,
    },
    /// Sizes only ([`crate::backend::plan::Plan`]).
    Shapes {
        /// Whether matrices are stored in bf16.
        bf16: bool,
    },
    /// Sizes only, of a checkpoint.
    Sizes(&'a Checkpoint),
    /// Another source, with frozen projections in 4 bits.
    Quantized(Box<Init<'a>>, &'a Quantizer),
}

/// `n` normal values of deviation `std`: the i-th takes the i-th block of the stream, whichever thread draws it.
fn normals(stream: Stream, n: usize, std: f64) -> Vec<f32> {
    use rayon::prelude::*;
    const DRAWN: usize = 1 << 14;
    let mut values = vec![0.0; n];
    values.par_chunks_mut(DRAWN).enumerate().for_each(|(i, values)| {
        let mut stream = stream.from_block((i * DRAWN) as u32);
        values.iter_mut().for_each(|x| *x = (stream.normal() * std) as f32);
    });
    values
}

impl<'a> Init<'a> {
    /// The same with frozen projections in 4 bits, if there is a quantizer.
    pub fn quantized(self, quantizer: Option<&'a Quantizer>) -> Init<'a> {
        match quantizer {
            Some(quantizer) => Init::Quantized(Box::new(self), quantizer),
            None => self,
        }
    }

    fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Init::File(checkpoint) | Init::Sizes(checkpoint) => Some(checkpoint),
            Init::Quantized(source, _) => source.checkpoint(),
            Init::Random { .. } | Init::Shapes { .. } => None,
        }
    }

    fn read(&self, tensor: &Tensor, index: usize) -> Result<Values> {
        let n = tensor.rows * tensor.cols;
        match self {
            Init::Shapes { bf16: true } => Ok(Values::Bf16(Vec::new())),
            Init::Shapes { bf16: false } => Ok(Values::F32(Vec::new())),
            Init::Random { seed, std, bf16 } => Ok(match tensor.part {
                Part::Norm(_, _, false) | Part::FinalNorm(false) => Values::F32(vec![1.0; n]),
                Part::Norm(..) | Part::FinalNorm(_) | Part::Bias(..) => Values::F32(vec![0.0; n]),
                _ => {
                    let values = normals(Stream::new(*seed, Purpose::Init, index as u32), n, *std);
                    match bf16 {
                        true => Values::Bf16(values.into_iter().map(half::bf16::from_f32).collect()),
                        false => Values::F32(values),
                    }
                }
            }),
            Init::File(checkpoint) => checkpoint.tensor(tensor),
            Init::Sizes(checkpoint) => checkpoint.sizes(tensor),
            Init::Quantized(source, quantizer) if quantizer.takes(tensor) => {
                let file = self.checkpoint().map_or(Path::new("the built-in model"), Checkpoint::origin);
                quantizer.quantize(tensor, source.read(tensor, index)?, file)
            }
            Init::Quantized(source, _) => source.read(tensor, index),
        }
    }
}

/// Values of consecutive slices as one matrix; mixed dtypes widen, so that a projection of which one part was not
/// quantised is kept in f32.
fn fuse(parts: Vec<Values>) -> Values {
    if parts.iter().all(|p| matches!(p, Values::Nf4(_))) && !parts.is_empty() {
        return Values::Nf4(
            parts.into_iter().filter_map(|p| if let Values::Nf4(v) = p { Some(v) } else { None }).collect(),
        );
    }
    let narrow = parts.iter().all(|p| matches!(p, Values::Bf16(_)));
    if narrow {
        return Values::Bf16(
            parts.into_iter().flat_map(|p| if let Values::Bf16(v) = p { v } else { Vec::new() }).collect(),
        );
    }
    Values::F32(parts.into_iter().flat_map(Values::into_f32).collect())
}

impl<B: Backend> Decoder<B> {
    /// Builds the decoder of `spec` from `source`; `train` gives every parameter a gradient and what the optimiser
    /// keeps (full fine-tuning). Rotary angles are tabulated for `positions` positions.
    pub fn build(b: &B, spec: Spec, source: &Init, train: Option<Optim>, positions: usize) -> Result<Decoder<B>> {
        let tensors = names::tensors(&spec);
        if let Some(checkpoint) = source.checkpoint() {
            checkpoint.check(&tensors, spec.tied)?;
        }
        let get = |wanted: &dyn Fn(Part) -> bool| -> Result<Vec<Values>> {
            let found = tensors.iter().enumerate().filter(|(_, t)| wanted(t.part));
            found.map(|(i, t)| source.read(t, i)).collect()
        };
        let matrix = |rows, cols, wanted: &dyn Fn(Part) -> bool| -> Result<Matrix<B>> {
            Matrix::new(b, rows, cols, fuse(get(wanted)?), train)
        };
        let vector = |len, wanted: &dyn Fn(Part) -> bool| -> Result<Option<Dense<B>>> {
            let parts = get(wanted)?;
            if parts.is_empty() { Ok(None) } else { Dense::vector(b, len, &fuse(parts).into_f32(), train).map(Some) }
        };
        let norm = |part: &dyn Fn(bool) -> Part| -> Result<NormParams<B>> {
            let gain = Dense::vector(b, spec.hidden, &fuse(get(&|p| p == part(false))?).into_f32(), train)?;
            Ok(NormParams { kind: spec.norm, gain, bias: vector(spec.hidden, &|p| p == part(true))? })
        };
        let projection = |layer: usize, module: Module| -> Result<Projection<B>> {
            let (out, inp) = (names::fan_out(&spec, module), names::fan_in(&spec, module));
            let w = matrix(out, inp, &|p| matches!(p, Part::Weight(l, m, _) if (l, m) == (layer, module)))?;
            let bias = vector(out, &|p| matches!(p, Part::Bias(l, m, _) if (l, m) == (layer, module)))?;
            let named = names::slices(&spec, layer, module).into_iter();
            let slices = named.map(|s| Slice { path: s.path, col: s.row, out: s.out, layout: s.layout, adapter: None });
            let alpha = if matches!(module, Module::O | Module::Down) { spec.residual_scale } else { 1.0 };
            Ok(Projection { w, bias, slices: slices.collect(), alpha })
        };
        let mut layers = Vec::with_capacity(spec.layers);
        for l in 0..spec.layers {
            let norms = [norm(&|bias| Part::Norm(l, 0, bias))?, norm(&|bias| Part::Norm(l, 1, bias))?];
            let [qkv, o, up, down] = Module::ALL.map(|m| projection(l, m));
            layers.push(Layer { norms, proj: [qkv?, o?, up?, down?] });
        }
        let embed = matrix(spec.vocab, spec.hidden, &|p| p == Part::Embed)?;
        let learned = match spec.positions {
            Positions::Learned => Some(matrix(spec.max_positions, spec.hidden, &|p| p == Part::Positions)?),
            Positions::Rope { .. } => None,
        };
        let head = if spec.tied { None } else { Some(matrix(spec.vocab, spec.hidden, &|p| p == Part::Head)?) };
        let rope = match &spec.positions {
            Positions::Learned => None,
            Positions::Rope { inverse, .. } => {
                let table: Vec<B::Stat> = rope::table(inverse, positions).into_iter().map(B::Stat::of).collect();
                let mut buffer = b.alloc(table.len())?;
                b.write(&mut buffer, &table)?;
                Some(buffer)
            }
        };
        let final_norm = norm(&Part::FinalNorm)?;
        Ok(Decoder { embed, positions: learned, layers, final_norm, head, rope, spec })
    }

    /// The LM head's weight, `[vocab, hidden]`.
    pub fn head_weight(&self) -> &Stored<B> {
        &self.head.as_ref().unwrap_or(&self.embed).w
    }

    /// Whether the head's weight takes a gradient: its own, or that of the embedding it is tied to.
    pub fn trains_head(&self) -> bool {
        self.head.as_ref().unwrap_or(&self.embed).train.is_some()
    }

    /// Attention geometry for `tokens` tokens.
    pub fn heads(&self, tokens: usize) -> Heads {
        let s = &self.spec;
        Heads { tokens, q: s.q_heads, kv: s.kv_heads, dim: s.head_dim, scale: s.attn_scale }
    }

    /// Whether a layer rotates queries and keys.
    pub fn rotates(&self, layer: usize) -> bool {
        matches!(&self.spec.positions, Positions::Rope { layers, .. } if layers[layer])
    }

    /// Every parameter of the base model, in one order.
    pub fn base_params(&mut self) -> Vec<Param<'_, B>> {
        let mut list = vec![Param::Matrix(&mut self.embed)];
        list.extend(self.positions.as_mut().map(Param::Matrix));
        for layer in &mut self.layers {
            for norm in &mut layer.norms {
                list.push(Param::Dense(&mut norm.gain));
                list.extend(norm.bias.as_mut().map(Param::Dense));
            }
            for p in &mut layer.proj {
                list.push(Param::Matrix(&mut p.w));
                list.extend(p.bias.as_mut().map(Param::Dense));
            }
        }
        list.push(Param::Dense(&mut self.final_norm.gain));
        list.extend(self.final_norm.bias.as_mut().map(Param::Dense));
        list.extend(self.head.as_mut().map(Param::Matrix));
        list
    }

    /// Every adapter matrix, A before B, in one order.
    pub fn adapter_params(&mut self) -> Vec<Param<'_, B>> {
        let slices = self.layers.iter_mut().flat_map(|l| l.proj.iter_mut()).flat_map(|p| p.slices.iter_mut());
        let adapters = slices.filter_map(|s| s.adapter.as_mut());
        adapters.flat_map(|a| [Param::Dense(&mut a.a), Param::Dense(&mut a.b)]).collect()
    }

    /// Everything that is trained.
    pub fn trained(&mut self) -> Vec<Param<'_, B>> {
        // two walks, because each borrows the model as a whole
        if self.embed.train.is_some() { self.base_params() } else { self.adapter_params() }
    }

    /// The parameter that holds `part`, and the first row of the part in it.
    pub fn param(&mut self, part: Part) -> Option<(Param<'_, B>, usize)> {
        match part {
            Part::Embed => Some((Param::Matrix(&mut self.embed), 0)),
            Part::Positions => self.positions.as_mut().map(|p| (Param::Matrix(p), 0)),
            Part::Head => self.head.as_mut().map(|p| (Param::Matrix(p), 0)),
            Part::FinalNorm(false) => Some((Param::Dense(&mut self.final_norm.gain), 0)),
            Part::FinalNorm(true) => self.final_norm.bias.as_mut().map(|p| (Param::Dense(p), 0)),
            Part::Norm(l, n, false) => Some((Param::Dense(&mut self.layers[l].norms[n].gain), 0)),
            Part::Norm(l, n, true) => self.layers[l].norms[n].bias.as_mut().map(|p| (Param::Dense(p), 0)),
            Part::Weight(l, m, row) => Some((Param::Matrix(&mut self.layers[l].proj[m as usize].w), row)),
            Part::Bias(l, m, row) => self.layers[l].proj[m as usize].bias.as_mut().map(|p| (Param::Dense(p), row)),
        }
    }
}
