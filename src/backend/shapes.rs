//! Shapes and settings of the operations: plain numbers, the same for every backend.

use super::enums::enumerator;

/// `n` rows of `width` values.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Number of rows (tokens).
    pub n: usize,
    /// Values per row.
    pub width: usize,
}

/// A projection `y = alpha (x Wᵀ + bias)`, `W [out, inp]`.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Tokens.
    pub rows: usize,
    /// Input features.
    pub inp: usize,
    /// Output features.
    pub out: usize,
    /// Scale of the result (Granite's residual multiplier); 1 elsewhere.
    pub alpha: f64,
}

/// An adapter on the columns `col..col + out` of a projection whose rows have `stride` columns:
/// `y[:, col..] += scale * dropout(x) Aᵀ Bᵀ`, `A [rank, inp]`, `B [out, rank]`.
#[derive(Clone, Copy, Debug)]
pub struct Lora {
    /// Tokens.
    pub rows: usize,
    /// Input features.
    pub inp: usize,
    /// Output features of the adapted slice.
    pub out: usize,
    /// First output column of the slice.
    pub col: usize,
    /// Columns of the whole projection.
    pub stride: usize,
    /// Rank.
    pub rank: usize,
    /// alpha / rank (or alpha / sqrt(rank)), times the projection's own scale.
    pub scale: f64,
}

/// Attention geometry on a packed buffer `[tokens, (q + 2 kv) * dim]`: all query heads, then key heads, then values.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Tokens in the packed buffer.
    pub tokens: usize,
    /// Query heads.
    pub q: usize,
    /// Key and value heads; divides `q`.
    pub kv: usize,
    /// Features per head.
    pub dim: usize,
    /// Factor on the scores, 1 / sqrt(dim) as a rule.
    pub scale: f64,
}

impl Heads {
    /// Columns of the packed buffer.
    pub fn width(&self) -> usize {
        (self.q + 2 * self.kv) * self.dim
    }
}

/// Rows `first..first + rows` of the gathered active rows, against a vocabulary: `logits = scale * x Wᵀ`.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// First active row of this chunk.
    pub first: usize,
    /// Active rows in this chunk.
    pub rows: usize,
    /// Hidden features.
    pub width: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Factor on the logits (1 / Granite's logits_scaling).
    pub scale: f64,
}

/// Normalisation of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `x / sqrt(mean(x²) + eps) * gain` (Zhang and Sennrich 2019).
    Rms {
        /// Added to the mean square.
        eps: f64,
    },
    /// `(x - mean) / sqrt(var + eps) * gain + bias` (Ba et al. 2016).
    Layer {
        /// Added to the variance.
        eps: f64,
    },
}

/// The non-linearity between the two halves of an MLP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// `silu(gate) * up` on rows `[gate | up]` (Shazeer 2020).
    SwiGlu,
    /// GELU in its tanh form (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// GELU by the error function (`gelu`).
    GeluErf,
}

impl Act {
    /// Input columns per output column.
    pub fn fan_in(self) -> usize {
        if self == Act::SwiGlu { 2 } else { 1 }
    }
}

/// Direction of a rotation: `Inverse` is the gradient of `Forward`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Turn {
    /// By +angle.
    Forward,
    /// By -angle.
    Inverse,
}

/// A factor on a label's weight that follows from the probability p that the model gives it. No gradient flows through
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Modulation {
    /// 1.
    #[default]
    None,
    /// (1 - p)^g (Lin et al., Focal Loss, arXiv 1708.02002).
    Focal(f64),
    /// p (Wu et al., dynamic fine-tuning, arXiv 2508.05629).
    Probability,
}

impl Modulation {
    /// The factor for a log p, in [0, 1].
    pub fn factor(self, logp: f64) -> f64 {
        match self {
            Modulation::None => 1.0,
            // 1 - p without cancellation
            Modulation::Focal(exponent) => (-logp.exp_m1()).powf(exponent),
            Modulation::Probability => logp.exp(),
        }
    }

    /// Its enumerator in kernels/enums.cuh, and its exponent.
    pub(crate) fn coded(self) -> (usize, f64) {
        match self {
            Modulation::None => (enumerator("UNMODULATED"), 0.0),
            Modulation::Focal(exponent) => (enumerator("FOCAL"), exponent),
            Modulation::Probability => (enumerator("PROBABILITY"), 0.0),
        }
    }
}

/// The composite objective of a chunk of active rows (docs of [`crate::backend::ObjectiveOps::objective`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Objective {
    /// First active row of the chunk.
    pub first: usize,
    /// Active rows in the chunk.
    pub rows: usize,
    /// First example of the chunk; used only with `gamma != 0`, when chunks hold whole examples.
    pub first_example: usize,
    /// Examples in the chunk.
    pub examples: usize,
    /// Factor on the preference term; 0 switches it off.
    pub gamma: f64,
    /// Temperature of the preference term.
    pub beta: f64,
    /// Means over a side weighted by the token weights.
    pub weighted_pairs: bool,
    /// A factor on the weights in the cross-entropy.
    pub modulation: Modulation,
}

/// Where each step scalar lies in the `[SCALARS]` buffer on the device.
pub mod scalar {
    use crate::backend::enums::enumerator;

    /// Learning rate of this step.
    pub const LR: usize = enumerator("LR");
    /// 1 - beta1^t.
    pub const BIAS1: usize = enumerator("BIAS1");
    /// 1 - beta2^t.
    pub const BIAS2: usize = enumerator("BIAS2");
    /// 1 / normaliser of the weighted cross-entropy, over the whole optimiser step.
    pub const INV_NORM: usize = enumerator("INV_NORM");
    /// 1 / number of examples in the preference term, over the whole optimiser step.
    pub const INV_PAIRS: usize = enumerator("INV_PAIRS");
    /// Largest gradient norm allowed; 0 is no limit.
    pub const MAX_NORM: usize = enumerator("MAX_NORM");
    /// Out: sum of squares of all gradients.
    pub const SQ_NORM: usize = enumerator("SQ_NORM");
    /// Out: factor on all gradients, min(1, max_norm / (norm + 1e-6)).
    pub const CLIP: usize = enumerator("CLIP");
    /// Length of the buffer.
    pub const SCALARS: usize = enumerator("SCALARS");
}

/// Where each sum lies in the `[TALLY]` buffer that [`crate::backend::ObjectiveOps::objective`] adds to.
pub mod tally {
    use crate::backend::enums::enumerator;

    /// Sum of w * nll.
    pub const WEIGHTED: usize = enumerator("WEIGHTED");
    /// Sum of nll on the path.
    pub const ON_PATH: usize = enumerator("ON_PATH");
    /// Sum of nll off the path.
    pub const OFF_PATH: usize = enumerator("OFF_PATH");
    /// Labels on the path.
    pub const ON_COUNT: usize = enumerator("ON_COUNT");
    /// Labels off the path.
    pub const OFF_COUNT: usize = enumerator("OFF_COUNT");
    /// Sum of -log sigmoid(beta * margin).
    pub const PREFERENCE: usize = enumerator("PREFERENCE");
    /// Examples in the preference term.
    pub const PAIRS: usize = enumerator("PAIRS");
    /// Length of the buffer.
    pub const TALLY: usize = enumerator("TALLY");
}

/// AdamW (Loshchilov and Hutter 2019), in PyTorch's order of operations. Learning rate, bias corrections and the clip
/// factor come from the scalars.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay, for parameters that ask for it.
    pub weight_decay: f64,
}
