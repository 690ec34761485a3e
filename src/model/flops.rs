//! Model FLOPs of a training step: what the model asks for, however a device goes about it.
//!
//! The convention is that of PaLM, appendix B (Chowdhery et al., 2022, arXiv:2204.02311), from which model FLOPs
//! utilisation (MFU) comes. A multiply-add is 2. Forward, per token:
//!
//! | | FLOPs |
//! |---|---|
//! | a matrix `[out, in]` that the token passes | 2 out in |
//! | an adapter of rank r beside it | 2 r (in + out) |
//! | the LM head, for a supervised row only | 2 vocab hidden |
//! | scores and values of attention, for an example of n tokens | 2 n² heads dim per layer |
//!
//! Attention is causal, so an example has half of its n² pairs (PaLM counts all); packed examples do not see one
//! another. Backward is once the forward for the gradient of the input and once more for that of the weight, where the
//! weight is trained; attention has no weights and two inputs to each product: twice. The lowest block of a run that
//! trains no embedding needs no gradient of its input. Norms, activations, rope, embedding and optimiser are not
//! counted, nor what is computed twice to save memory, nor padding.

use super::decoder::Decoder;
use super::names::Module;
use crate::backend::Backend;

/// FLOPs of training on an example, forward and backward: so many per token, per squared token and per supervised row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flops {
    /// Projections and adapters, per token.
    pub token: u64,
    /// Attention, per token of the example squared.
    pub square: u64,
    /// The LM head, per supervised row.
    pub row: u64,
}

impl Flops {
    /// Of a model as it is trained: adapters in place.
    pub fn of<B: Backend>(model: &Decoder<B>) -> Flops {
        let (spec, mut token) = (&model.spec, 0);
        for (l, layer) in model.layers.iter().enumerate() {
            for (module, proj) in layer.proj.iter().enumerate() {
                let gemm = proj.gemm(1);
                let dx = u64::from(l > 0 || module != Module::Qkv as usize || model.embed.train.is_some());
                token += (1 + dx + u64::from(proj.w.train.is_some())) * product(gemm.out, gemm.inp);
                for (slice, adapter) in proj.slices.iter().filter_map(|s| Some((s, s.adapter.as_ref()?))) {
                    let s = slice.lora(gemm, adapter);
                    token += 3 * product(s.out, s.rank) + (2 + dx) * product(s.rank, s.inp);
                }
            }
        }
        let square = 3 * spec.layers as u64 * product(spec.q_heads, spec.head_dim);
        let row = (2 + u64::from(model.trains_head())) * product(spec.vocab, spec.hidden);
        Flops { token, square, row }
    }

    /// Of a step over examples of `(tokens, supervised rows)`.
    pub fn step(&self, examples: impl Iterator<Item = (usize, usize)>) -> f64 {
        let f = |count: usize, each: u64| count as f64 * each as f64;
        examples.map(|(n, rows)| f(n, self.token) + n as f64 * f(n, self.square) + f(rows, self.row)).sum()
    }
}

/// FLOPs of one row times a matrix.
fn product(out: usize, inp: usize) -> u64 {
    2 * (out as u64) * inp as u64
}
