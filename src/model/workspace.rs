//! Activations and their gradients, allocated once for the largest micro-batch.

use super::config::Spec;
use super::decoder::{Decoder, Layer};
use super::names::{self, Module};
use crate::backend::{Backend, F, S};
use crate::choices::choices;
use crate::error::Result;
use std::ops::{Index, IndexMut};

choices! {
    /// What backward computes anew, to keep less of the forward pass (gradient checkpointing, Chen et al. 2016). The
    /// gradients are the same to the bit.
    Recompute {
        /// Nothing: every block's activations are kept.
        None = "none",
        /// Each block's activations, from the residual stream at its input, which alone is kept.
        Layer = "layer",
    }
}

/// A thing for each layer, or one that all layers share.
pub struct PerLayer<T>(Vec<T>);

impl<T> PerLayer<T> {
    /// Whether a layer finds here what the one before it left.
    pub fn shared(&self) -> bool {
        self.0.len() == 1
    }

    /// Every one there is.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Index<usize> for PerLayer<T> {
    type Output = T;

    fn index(&self, layer: usize) -> &T {
        &self.0[if self.shared() { 0 } else { layer }]
    }
}

impl<T> IndexMut<usize> for PerLayer<T> {
    fn index_mut(&mut self, layer: usize) -> &mut T {
        let shared = self.shared();
        &mut self.0[if shared { 0 } else { layer }]
    }
}

/// What one block keeps for its backward. `T` tokens, `H` hidden, `I` inner.
pub struct Kept<B: Backend> {
    /// Normalised input, `[T, H]`.
    pub h1: F<B>,
    /// Mean and 1 / deviation of the first norm, `[T, 2]`.
    pub stat1: S<B>,
    /// Queries, keys, values after rotation, `[T, (q + 2 kv) dim]`.
    pub qkv: F<B>,
    /// Attention output, `[T, q dim]`.
    pub att: F<B>,
    /// Log-sum-exp of the scores, `[T, q]`.
    pub lse: S<B>,
    /// Normalised input of the MLP, `[T, H]`.
    pub h2: F<B>,
    /// Mean and 1 / deviation of the second norm, `[T, 2]`.
    pub stat2: S<B>,
    /// Before the non-linearity, `[T, I * fan_in]`.
    pub up: F<B>,
    /// After it, `[T, I]`.
    pub act: F<B>,
    /// Adapter bottlenecks per projection and slice, `[T, rank]`; empty where there is no adapter.
    pub low: [Vec<F<B>>; 4],
}

impl<B: Backend> Kept<B> {
    /// For `tokens` tokens of any one of these layers of `s`, whose adapters are in place.
    pub(super) fn new(b: &B, s: &Spec, layers: &[Layer<B>], tokens: usize) -> Result<Kept<B>> {
        let t = tokens;
        let rank = |module: Module, slice: usize| {
            let adapters = layers.iter().filter_map(|l| l.proj[module as usize].slices[slice].adapter.as_ref());
            adapters.map(|a| a.rank).max().unwrap_or(0)
        };
        let mut low: [Vec<F<B>>; 4] = Default::default();
        for module in Module::ALL {
            let slices = layers.first().map_or(0, |l| l.proj[module as usize].slices.len());
            low[module as usize] = (0..slices).map(|i| b.alloc(t * rank(module, i))).collect::<Result<_>>()?;
        }
        Ok(Kept {
            h1: b.alloc(t * s.hidden)?,
            stat1: b.alloc(t * 2)?,
            qkv: b.alloc(t * s.qkv_width())?,
            att: b.alloc(t * s.attn_width())?,
            lse: b.alloc(t * s.q_heads)?,
            h2: b.alloc(t * s.hidden)?,
            stat2: b.alloc(t * 2)?,
            up: b.alloc(t * s.up_width())?,
            act: b.alloc(t * s.inner)?,
            low,
        })
    }
}

/// Buffers of forward and backward, for up to `capacity` tokens.
pub struct Workspace<B: Backend> {
    /// Tokens that fit.
    pub capacity: usize,
    /// Residual stream before each block and before the last norm, `[L + 1][T, H]`; shared without backward.
    pub x: PerLayer<F<B>>,
    /// Residual stream between attention and MLP, `[L][T, H]`; shared as `kept` is.
    pub mid: PerLayer<F<B>>,
    /// What each block keeps, `[L]`; shared where backward computes it anew, and without backward.
    pub kept: PerLayer<Kept<B>>,
    /// Output of a block's half on its way to the residual sum, `[T, H]`.
    pub branch: F<B>,
    /// Hidden rows for the LM head, `[T, H]`.
    pub hidden: F<B>,
    /// Statistics of the last norm, `[T, 2]`.
    pub final_stat: S<B>,
    /// Masked adapter inputs, `[T, widest input]`; empty without adapter dropout.
    pub scratch: F<B>,
    /// Present when training.
    pub grads: Option<Grads<B>>,
}

/// Gradients of activations; shared by all blocks.
pub struct Grads<B: Backend> {
    /// Of the residual stream after the block, `[T, H]`; before the first block, the gradient of the hidden rows.
    pub dx: F<B>,
    /// Of the residual stream inside the block, `[T, H]`.
    pub d_mid: F<B>,
    /// Of a normalised input, `[T, H]`.
    pub d_norm: F<B>,
    /// Of `qkv` or `up`, `[T, widest]`.
    pub d_wide: F<B>,
    /// Of `act` or `att`, `[T, widest]`.
    pub d_inner: F<B>,
    /// Of a residual branch under dropout, `[T, H]`; empty without.
    pub d_branch: F<B>,
    /// rowsum(dy * y) of attention, `[T, q]`.
    pub delta: S<B>,
    /// Of an adapter bottleneck, `[T, largest rank]`.
    pub d_low: F<B>,
}

/// What a workspace is for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Tokens of the largest micro-batch.
    pub tokens: usize,
    /// Whether there is a backward pass.
    pub train: bool,
    /// What backward computes anew.
    pub recompute: Recompute,
    /// Whether adapter inputs are dropped.
    pub lora_dropout: bool,
    /// Whether residual branches are dropped.
    pub resid_dropout: bool,
}

impl Need {
    /// A forward pass without dropout over up to `tokens` tokens.
    pub fn inference(tokens: usize) -> Need {
        Need { tokens, train: false, recompute: Recompute::None, lora_dropout: false, resid_dropout: false }
    }
}

impl<B: Backend> Workspace<B> {
    /// Allocates for `model`, whose adapters are already in place.
    pub fn new(b: &B, model: &Decoder<B>, need: Need) -> Result<Workspace<B>> {
        let (s, t): (&Spec, usize) = (&model.spec, need.tokens);
        let hidden = || b.alloc(t * s.hidden);
        let keeps = need.train && need.recompute == Recompute::None;
        // each by its own adapters, or one by the largest
        let sets = model.layers.chunks(if keeps { 1 } else { s.layers });
        let stream = |n: usize| (0..n).map(|_| hidden()).collect::<Result<_>>().map(PerLayer);
        let largest_rank = model.slices().filter_map(|(_, s)| s.adapter.as_ref()).map(|a| a.rank).max().unwrap_or(0);
        let widest_input = Module::ALL.into_iter().map(|m| names::fan_in(s, m)).max().unwrap_or(0);
        let when = |wanted: bool, width: usize| if wanted { t * width } else { 0 };
        let grads = if need.train {
            Some(Grads {
                dx: hidden()?,
                d_mid: hidden()?,
                d_norm: hidden()?,
                d_wide: b.alloc(t * s.qkv_width().max(s.up_width()))?,
                d_inner: b.alloc(t * s.attn_width().max(s.inner))?,
                d_branch: b.alloc(when(need.resid_dropout, s.hidden))?,
                delta: b.alloc(t * s.q_heads)?,
                d_low: b.alloc(t * largest_rank)?,
            })
        } else {
            None
        };
        Ok(Workspace {
            capacity: t,
            x: stream(if need.train { s.layers + 1 } else { 1 })?,
            mid: stream(if keeps { s.layers } else { 1 })?,
            kept: PerLayer(sets.map(|layers| Kept::new(b, s, layers, t)).collect::<Result<_>>()?),
            branch: hidden()?,
            hidden: hidden()?,
            final_stat: b.alloc(t * 2)?,
            scratch: b.alloc(when(need.lora_dropout, widest_input))?,
            grads,
        })
    }
}
