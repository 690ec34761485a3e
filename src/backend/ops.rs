//! The operations of a transformer, one trait per family: each forward beside its backward, without default bodies.
//!
//! Shapes are row-major. `T` is the number of tokens, `H` the number of hidden features. The rules that all operations
//! keep stand at the top of [`crate::backend`].

#![allow(clippy::too_many_arguments)] // an operation names each of its operands; a struct per operation would hide them

use super::{
    Act, AdamW, Affine, Dropout, F, Gemm, Head, Heads, Ids, Lora, Memory, Norm, Objective, Rows, S, Stored, Tokens,
    Turn, Update,
};
use crate::error::Result;

/// Token and position embeddings.
pub trait EmbedOps: Memory {
    /// `y[t] = scale * table[ids[t]] + positions[pos[t]]`, then dropout. `table [vocab, width]`, `y [T, width]`.
    fn embed(
        &self, s: Rows, tokens: &Tokens<Self>, table: &Stored<Self>, positions: Option<&Stored<Self>>, scale: f64,
        drop: Option<Dropout<Self>>, y: &mut F<Self>,
    ) -> Result;
    /// Scatter of `dy` into the tables' gradients, in token order.
    fn embed_bwd(
        &self, s: Rows, tokens: &Tokens<Self>, scale: f64, drop: Option<Dropout<Self>>, dy: &F<Self>,
        d_table: Option<&mut S<Self>>, d_positions: Option<&mut S<Self>>,
    ) -> Result;
}

/// Normalisation with the residual sum in front of it.
pub trait NormOps: Memory {
    /// `y = norm(x)`; `stat [T, 2]` receives mean and 1 / deviation.
    fn norm(
        &self, s: Rows, kind: Norm, x: &F<Self>, affine: Affine<Self>, y: &mut F<Self>, stat: &mut S<Self>,
    ) -> Result;
    /// `sum = skip + dropout(branch)`; `y = norm(sum)`.
    fn add_norm(
        &self, s: Rows, kind: Norm, skip: &F<Self>, branch: &F<Self>, drop: Option<Dropout<Self>>, sum: &mut F<Self>,
        affine: Affine<Self>, y: &mut F<Self>, stat: &mut S<Self>,
    ) -> Result;
    /// `dx = d_skip + dnorm/dx dy`, where `d_skip` is the gradient that reaches `x` past the norm.
    fn norm_bwd(
        &self, s: Rows, kind: Norm, x: &F<Self>, gain: &F<Self>, stat: &S<Self>, dy: &F<Self>,
        d_skip: Option<&F<Self>>, dx: &mut F<Self>, d_gain: Option<&mut S<Self>>, d_bias: Option<&mut S<Self>>,
    ) -> Result;
    /// `d_branch = mask(d_sum)`: the gradient of [`NormOps::add_norm`]'s branch.
    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &F<Self>, d_branch: &mut F<Self>) -> Result;
}

/// Projections and their adapters.
pub trait LinearOps: Memory {
    /// `y = alpha (x Wᵀ + bias)`; `x [rows, inp]`, `W [out, inp]`, `y [rows, out]`.
    fn linear(&self, s: Gemm, x: &F<Self>, w: &Stored<Self>, bias: Option<&F<Self>>, y: &mut F<Self>) -> Result;
    /// `dx = alpha dy W`; `dw += alpha dyᵀ x`; `d_bias += alpha colsum(dy)`.
    fn linear_bwd(
        &self, s: Gemm, x: &F<Self>, w: &Stored<Self>, dy: &F<Self>, dx: Option<&mut F<Self>>,
        dw: Option<&mut S<Self>>, d_bias: Option<&mut S<Self>>,
    ) -> Result;
    /// `low = dropout(x) Aᵀ`; `y[:, col..col + out] += scale * low Bᵀ`. `low [rows, rank]` is kept for backward;
    /// `scratch [rows, inp]` is used with dropout only.
    fn lora(
        &self, s: Lora, x: &F<Self>, a: &F<Self>, b: &F<Self>, drop: Option<Dropout<Self>>, scratch: &mut F<Self>,
        low: &mut F<Self>, y: &mut F<Self>,
    ) -> Result;
    /// `db += scale dyᵀ low`; `d_low = scale dy B`; `da += d_lowᵀ dropout(x)`; `dx += mask(d_low A)`.
    fn lora_bwd(
        &self, s: Lora, x: &F<Self>, a: &F<Self>, b: &F<Self>, drop: Option<Dropout<Self>>, low: &F<Self>,
        dy: &F<Self>, scratch: &mut F<Self>, d_low: &mut F<Self>, dx: Option<&mut F<Self>>, da: &mut S<Self>,
        db: &mut S<Self>,
    ) -> Result;
}

/// Rotary positions.
pub trait RopeOps: Memory {
    /// Rotates the query and key heads of `qkv` in place (Su et al. 2021, half-split form of Hugging Face).
    /// `table [positions, dim]`: cos of dim/2 angles, then sin.
    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &S<Self>, turn: Turn, qkv: &mut F<Self>) -> Result;
}

/// Causal attention on the packed buffer.
pub trait AttentionOps: Memory {
    /// Causal attention inside each segment; `y [T, q * dim]`, `lse [T, q]` log-sum-exp of the scaled scores.
    fn attention(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &F<Self>, drop: Option<Dropout<Self>>, y: &mut F<Self>,
        lse: &mut S<Self>,
    ) -> Result;
    /// `d_qkv` of all three parts; `delta [T, q]` is scratch for rowsum(dy * y).
    fn attention_bwd(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &F<Self>, drop: Option<Dropout<Self>>, y: &F<Self>, lse: &S<Self>,
        dy: &F<Self>, delta: &mut S<Self>, d_qkv: &mut F<Self>,
    ) -> Result;
    /// The probabilities of the tokens `rows [chosen.n]`, for diagnostics; forward only, since training never forms
    /// them. With `g = h / (q / kv)`, `start = seg_start[rows[i]]` and j over `start..=rows[i]`, the row's own segment
    /// up to itself: `probs[i, h, j - start] = softmax_j(scale q_ih k_gj)`, and 0 behind these.
    /// `probs [chosen.n, q, chosen.width]`, where `chosen.width` is at least `rows[i] - start + 1` for every row; of
    /// `qkv` the values are not read.
    fn attention_probs(
        &self, s: Heads, chosen: Rows, tokens: &Tokens<Self>, rows: &Ids<Self>, qkv: &F<Self>, probs: &mut S<Self>,
    ) -> Result;
}

/// The KV cache of generation; forward only, since nothing is trained through a cache.
pub trait CacheOps: Memory {
    /// Keeps keys and values for the tokens to come: `cache[at[t]] = qkv[t, q * dim..]`. A row of `cache` has all key
    /// heads, then all value heads, `2 kv * dim` values; the rows `at [T]` are distinct. Forward only, as
    /// [`CacheOps::attention_cached`] is: nothing is trained through a cache.
    fn write_kv_cache(&self, s: Heads, at: &Ids<Self>, qkv: &F<Self>, cache: &mut F<Self>) -> Result;
    /// Attention of new rows to the cache, which holds them already: token t sees the rows `at[t] - pos[t] ..= at[t]`,
    /// its own sequence from the first token to itself. With `j` over those rows, and query head `h` reading key head
    /// `g = h / (q / kv)`: `y[t, h] = sum_j p_j v_gj`, `p = softmax_j(scale q_th k_gj)`, sums in `Stat`.
    /// `y [T, q * dim]`; of `qkv` only the queries are read.
    fn attention_cached(
        &self, s: Heads, tokens: &Tokens<Self>, at: &Ids<Self>, qkv: &F<Self>, cache: &F<Self>, y: &mut F<Self>,
    ) -> Result;
}

/// The non-linearity of an MLP.
pub trait ActOps: Memory {
    /// `y [n, width] = act(x [n, width * fan_in])`.
    fn act(&self, s: Rows, kind: Act, x: &F<Self>, y: &mut F<Self>) -> Result;
    /// `dx = act'(x) dy`.
    fn act_bwd(&self, s: Rows, kind: Act, x: &F<Self>, dy: &F<Self>, dx: &mut F<Self>) -> Result;
}

/// The LM head on the rows that predict a supervised label.
pub trait HeadOps: Memory {
    /// `y[i] = x[rows[i]]`; `s.n` rows are gathered.
    fn gather(&self, s: Rows, rows: &Ids<Self>, x: &F<Self>, y: &mut F<Self>) -> Result;
    /// `dx[0..total] = 0`, then `dx[rows[i]] = coef[i] dy[i]`; without `coef [s.n]` the factor is 1.
    fn gather_bwd(
        &self, s: Rows, rows: &Ids<Self>, total: usize, coef: Option<&S<Self>>, dy: &F<Self>, dx: &mut F<Self>,
    ) -> Result;
    /// Logits of a chunk into `logits [rows, vocab]`, then `logp[i]` of `labels[i]` and `lse[i]`, for the rows
    /// `first..first + rows` of `x`, `labels`, `logp`, `lse`.
    fn head_logp(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logits: &mut Self::Buf<Self::Logit>,
        logp: &mut S<Self>, lse: &mut S<Self>,
    ) -> Result;
    /// [`HeadOps::head_logp`] and the unit gradient in one pass, for a head that takes no gradient: `logits` become
    /// `d = softmax - onehot` in place, and `dx = scale d W` for the chunk's rows, the gradient of each row's `-log p`.
    /// Scaling a row commutes with the product, so its coefficient may come later ([`HeadOps::gather_bwd`]), when log p
    /// of all rows is known.
    fn head_unit(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logits: &mut Self::Buf<Self::Logit>,
        logp: &mut S<Self>, lse: &mut S<Self>, dx: &mut F<Self>,
    ) -> Result;
    /// `logits` of [`HeadOps::head_logp`] become `d_logits = coef (softmax - onehot)` in place;
    /// `dx = scale d_logits W` for the chunk's rows; `dw += scale d_logitsᵀ x`.
    fn head_bwd(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logp: &S<Self>, lse: &S<Self>,
        coef: &S<Self>, logits: &mut Self::Buf<Self::Logit>, dx: &mut F<Self>, dw: Option<&mut S<Self>>,
    ) -> Result;
}

/// The loss.
pub trait ObjectiveOps: Memory {
    /// One coefficient per row of the chunk: `coef = dL / d nll`, with the loss sums added to `tally [TALLY]`.
    ///
    /// `L = sum_j w_j nll_j * INV_NORM + gamma * INV_PAIRS * sum_e -log sigmoid(beta (mean_on r - mean_off r))`,
    /// `r_j = log p_j - ref_logp_j`, means over the on-path and the off-path labels of example `e`; examples without
    /// both are left out (EyeMulator, arXiv 2508.16771, section 2.4). With a [`Modulation`](super::Modulation) m, w_j
    /// is `w_j m(p_j)` in the first sum, a constant for the gradient. `row_start [E + 1]` delimits examples.
    fn objective(
        &self, s: Objective, row_start: &Ids<Self>, logp: &S<Self>, weight: &S<Self>, path: &Ids<Self>,
        ref_logp: &S<Self>, scalars: &S<Self>, coef: &mut S<Self>, tally: &mut S<Self>,
    ) -> Result;
}

/// Gradient clipping and the optimiser.
pub trait OptimOps: Memory {
    /// `scalars[SQ_NORM] = sum of squares of all gradients`, then `scalars[CLIP]` from it and `MAX_NORM`.
    fn clip(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result;
    /// One optimiser step over all parameters. Every buffer stays as it is where `scalars[SQ_NORM]` is not finite: the
    /// host may then ask for the update before it has seen the norm, and need not wait in between.
    ///
    /// Moments in 8 bits are rounded by `key`, `[seed, step]`: the eight values `8 i ..` of the parameter at place `n`
    /// of
    /// `updates` by the halves of the words, low half first, of the Philox block (i, i / 2^32, n, 2^32 - 1).
    fn adamw(&self, k: AdamW, key: &Ids<Self>, scalars: &S<Self>, updates: &mut [Update<Self>]) -> Result;
}
