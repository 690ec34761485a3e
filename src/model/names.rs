//! Which tensor of a checkpoint is which part of the decoder: one table for loading, saving and gradients.

use super::config::{Family, Positions, Spec};
use crate::backend::Norm;
use crate::backend::nf4::PerHead;

/// The four projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// Queries, keys and values, fused.
    Qkv = 0,
    /// Attention output.
    O = 1,
    /// First half of the MLP; gate and up fused where there are two.
    Up = 2,
    /// Second half of the MLP.
    Down = 3,
}

impl Module {
    /// In the order of the forward pass.
    pub const ALL: [Module; 4] = [Module::Qkv, Module::O, Module::Up, Module::Down];
}

/// How a checkpoint stores a projection, against ours (`[out, in]`, queries then keys then values).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// The same.
    Plain,
    /// `[in, out]` (GPT-2's Conv1D).
    Transposed,
    /// Rows `[head, (q, k, v), dim]` (GPTBigCode without multi-query).
    Interleaved(PerHead),
}

impl Layout {
    /// The checkpoint's values as ours, `[rows, cols]`.
    pub fn load<T: Copy>(self, rows: usize, cols: usize, stored: &[T]) -> Vec<T> {
        match self {
            Layout::Plain => stored.to_vec(),
            Layout::Transposed => (0..rows * cols).map(|i| stored[i % cols * rows + i / cols]).collect(),
            Layout::Interleaved(order) => {
                (0..rows).flat_map(|r| &stored[order.stored_row(r) * cols..][..cols]).copied().collect()
            }
        }
    }

    /// Our values `[rows, cols]` as the checkpoint stores them.
    pub fn store<T: Copy>(self, rows: usize, cols: usize, ours: &[T]) -> Vec<T> {
        match self {
            Layout::Plain => ours.to_vec(),
            Layout::Transposed => (0..rows * cols).map(|i| ours[i % rows * cols + i / rows]).collect(),
            Layout::Interleaved(order) => {
                let mut stored = ours.to_vec();
                for (r, row) in ours.chunks_exact(cols).enumerate() {
                    stored[order.stored_row(r) * cols..][..cols].copy_from_slice(row);
                }
                stored
            }
        }
    }
}

/// A part of the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// Token embedding.
    Embed,
    /// Learned positions.
    Positions,
    /// LM head, where it is not tied.
    Head,
    /// Gain (`false`) or bias (`true`) of the last norm.
    FinalNorm(bool),
    /// Gain or bias of norm 0 (attention) or 1 (MLP) of a layer.
    Norm(usize, usize, bool),
    /// Rows from `row` of the weight of a projection of a layer.
    Weight(usize, Module, usize),
    /// Rows from `row` of the bias of a projection of a layer.
    Bias(usize, Module, usize),
}

/// One tensor of the checkpoint.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// Rows of ours.
    pub rows: usize,
    /// Columns of ours; 1 for vectors.
    pub cols: usize,
    /// Storage in the file.
    pub layout: Layout,
}

impl Tensor {
    /// Shape in the file.
    pub fn shape(&self) -> Vec<usize> {
        let vector = !matches!(self.part, Part::Embed | Part::Positions | Part::Head | Part::Weight(..));
        match (vector, self.layout) {
            (true, _) => vec![self.rows],
            (false, Layout::Transposed) => vec![self.cols, self.rows],
            (false, _) => vec![self.rows, self.cols],
        }
    }
}

/// A named slice of a fused projection: what PEFT calls a module.
#[derive(Clone, Debug)]
pub struct SliceName {
    /// Full path, `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// First output row in the fused projection.
    pub row: usize,
    /// Output rows.
    pub out: usize,
    /// Storage in the file.
    pub layout: Layout,
}

/// The slices of a projection of a layer, in the order in which they are fused.
pub fn slices(spec: &Spec, layer: usize, module: Module) -> Vec<SliceName> {
    let (q, kv) = (spec.attn_width(), spec.kv_heads * spec.head_dim);
    let gpt = |name: &str, out: usize, interleaves: bool| {
        let Family::Gpt { conv1d, interleaved } = spec.family else { unreachable!("only called for GPT names") };
        let layout = match (conv1d, interleaved && interleaves) {
            (true, _) => Layout::Transposed,
            (_, true) => Layout::Interleaved(PerHead { heads: spec.q_heads, dim: spec.head_dim }),
            _ => Layout::Plain,
        };
        vec![SliceName { path: format!("transformer.h.{layer}.{name}"), row: 0, out, layout }]
    };
    let split = |parts: &[(&str, usize)]| {
        let mut row = 0;
        let mut named = Vec::new();
        for &(name, out) in parts {
            named.push(SliceName { path: format!("model.layers.{layer}.{name}"), row, out, layout: Layout::Plain });
            row += out;
        }
        named
    };
    match (spec.family, module) {
        (Family::Gpt { .. }, Module::Qkv) => gpt("attn.c_attn", spec.qkv_width(), true),
        (Family::Gpt { .. }, Module::O) => gpt("attn.c_proj", spec.hidden, false),
        (Family::Gpt { .. }, Module::Up) => gpt("mlp.c_fc", spec.inner, false),
        (Family::Gpt { .. }, Module::Down) => gpt("mlp.c_proj", spec.hidden, false),
        (_, Module::Qkv) => split(&[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)]),
        (_, Module::O) => split(&[("self_attn.o_proj", spec.hidden)]),
        (Family::Llama, Module::Up) => split(&[("mlp.gate_proj", spec.inner), ("mlp.up_proj", spec.inner)]),
        (Family::Llama, Module::Down) => split(&[("mlp.down_proj", spec.hidden)]),
        (Family::StarCoder2, Module::Up) => split(&[("mlp.c_fc", spec.inner)]),
        (Family::StarCoder2, Module::Down) => split(&[("mlp.c_proj", spec.hidden)]),
    }
}

/// Input features of a projection.
pub fn fan_in(spec: &Spec, module: Module) -> usize {
    match module {
        Module::Qkv | Module::Up => spec.hidden,
        Module::O => spec.attn_width(),
        Module::Down => spec.inner,
    }
}

/// Output features of a projection.
pub fn fan_out(spec: &Spec, module: Module) -> usize {
    match module {
        Module::Qkv => spec.qkv_width(),
        Module::Up => spec.up_width(),
        Module::O | Module::Down => spec.hidden,
    }
}

/// Whether a projection has a bias.
pub fn has_bias(spec: &Spec, module: Module) -> bool {
    match module {
        Module::Qkv => spec.qkv_bias,
        Module::O => spec.o_bias,
        Module::Up | Module::Down => spec.mlp_bias,
    }
}

/// Every tensor of the checkpoint, in the order of the forward pass.
pub fn tensors(spec: &Spec) -> Vec<Tensor> {
    let gpt = matches!(spec.family, Family::Gpt { .. });
    let mut list = Vec::new();
    let mut push = |name: String, part, rows, cols, layout| list.push(Tensor { name, part, rows, cols, layout });
    let affine = |name: &str| match spec.norm {
        Norm::Rms { .. } => vec![(format!("{name}.weight"), false)],
        Norm::Layer { .. } => vec![(format!("{name}.weight"), false), (format!("{name}.bias"), true)],
    };
    let embed = if gpt { "transformer.wte.weight" } else { "model.embed_tokens.weight" };
    push(embed.into(), Part::Embed, spec.vocab, spec.hidden, Layout::Plain);
    if spec.positions == Positions::Learned {
        push("transformer.wpe.weight".into(), Part::Positions, spec.max_positions, spec.hidden, Layout::Plain);
    }
    for layer in 0..spec.layers {
        for (which, modules) in [[Module::Qkv, Module::O], [Module::Up, Module::Down]].into_iter().enumerate() {
            let norm = match (gpt, which) {
                (true, _) => format!("transformer.h.{layer}.ln_{}", which + 1),
                (false, 0) => format!("model.layers.{layer}.input_layernorm"),
                (false, _) => format!("model.layers.{layer}.post_attention_layernorm"),
            };
            for (name, bias) in affine(&norm) {
                push(name, Part::Norm(layer, which, bias), spec.hidden, 1, Layout::Plain);
            }
            for module in modules {
                for s in slices(spec, layer, module) {
                    let weight = Part::Weight(layer, module, s.row);
                    push(format!("{}.weight", s.path), weight, s.out, fan_in(spec, module), s.layout);
                    if has_bias(spec, module) {
                        let layout = if s.layout == Layout::Transposed { Layout::Plain } else { s.layout };
                        push(format!("{}.bias", s.path), Part::Bias(layer, module, s.row), s.out, 1, layout);
                    }
                }
            }
        }
    }
    for (name, bias) in affine(if gpt { "transformer.ln_f" } else { "model.norm" }) {
        push(name, Part::FinalNorm(bias), spec.hidden, 1, Layout::Plain);
    }
    if !spec.tied {
        push("lm_head.weight".into(), Part::Head, spec.vocab, spec.hidden, Layout::Plain);
    }
    list
}
