//! What a device must know to train a decoder-only transformer.
//!
//! [`Backend`] lists the layer operations, each forward beside its backward, without default bodies: a backend that
//! lacks a gradient does not compile. The model above is written once and is generic over it.
//!
//! # Rules
//!
//! * **Weight gradients accumulate (`+=`), in [`Backend::Stat`]; activation gradients overwrite (`=`).** The one
//!   exception is an adapter: it is a sum with its projection, so `lora` adds to `y` and `lora_bwd` adds to `dx`.
//! * A weight gradient is an `Option`: what is frozen costs nothing. So is `dx` where nothing below needs it.
//! * Operations take no device memory of their own: what they need is passed in. Outputs are `&mut`, so the borrow checker proves that they never alias inputs.
//! * Buffers may be longer than the shapes say: they are allocated once for the largest micro-batch.
//! * Every reduction has a fixed order, whatever the number of threads: two runs give the same bits.
//! * Step scalars (learning rate, normaliser, clip) and the dropout key live on the device, so that a step can be
//!   recorded once and replayed.

pub mod cpu;
pub mod cuda;
pub mod moments;
pub mod plan;
mod shapes;

pub use shapes::*;

use crate::error::Result;
use half::bf16;
use moments::Moments;

/// An element of a device buffer.
pub trait Elem: bytemuck::Pod + Default + Send + Sync {}
impl Elem for u8 {}
impl Elem for u32 {}
impl Elem for f32 {}
impl Elem for f64 {}
impl Elem for bf16 {}

/// A buffer in working precision.
pub type F<B> = <B as Backend>::Buf<<B as Backend>::Float>;
/// A buffer of statistics: losses, log-sum-exps, weight gradients, optimiser state.
pub type S<B> = <B as Backend>::Buf<<B as Backend>::Stat>;
/// A buffer of ids, positions, offsets.
pub type Ids<B> = <B as Backend>::Buf<u32>;

/// A matrix as it is stored. A frozen bf16 checkpoint stays bf16: half the memory, and widening it is exact.
pub enum Stored<B: Backend> {
    /// Working precision; what is trained is always stored so.
    Float(F<B>),
    /// Frozen, as the checkpoint has it.
    Bf16(B::Buf<bf16>),
}

/// The tokens of a micro-batch on the device; each buffer `[count]`. See [`crate::data::Batch`].
pub struct Tokens<B: Backend> {
    /// How many are in use.
    pub count: usize,
    /// Token ids.
    pub ids: Ids<B>,
    /// Position inside the example.
    pub pos: Ids<B>,
    /// First token of the own example.
    pub seg_start: Ids<B>,
    /// Identity of the example, for random streams.
    pub example: Ids<B>,
}

/// Inverted dropout of one module. The mask of a value depends on (seed, step, module, example, position, column) only.
pub struct Dropout<'a, B: Backend> {
    /// Probability of a zero, in [0, 1).
    pub p: f32,
    /// Which module draws.
    pub module: u32,
    /// `[seed, step]`.
    pub key: &'a Ids<B>,
    /// Whose examples and positions.
    pub tokens: &'a Tokens<B>,
}

impl<B: Backend> Clone for Dropout<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Dropout<'_, B> {}

/// Gain and bias of a normalisation, `[width]` each.
pub struct Affine<'a, B: Backend> {
    /// Scale.
    pub gain: &'a F<B>,
    /// Shift (LayerNorm only).
    pub bias: Option<&'a F<B>>,
}

/// Everything the optimiser touches of one parameter; buffers are `[len]`.
pub struct Update<'a, B: Backend> {
    /// Values.
    pub len: usize,
    /// Working copy; written.
    pub weight: &'a mut F<B>,
    /// Full-precision copy where `Float` is narrower than `Stat`; written.
    pub master: Option<&'a mut S<B>>,
    /// Gradient.
    pub grad: &'a S<B>,
    /// Both moments; written.
    pub moments: &'a mut Moments<B>,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// The layer operations. Shapes are row-major; `T` tokens, `H` hidden features. See the module for the rules.
#[allow(clippy::too_many_arguments)] // an operation names each of its operands; a struct per operation would hide them
pub trait Backend: Sized {
    /// Activations and working weights.
    type Float: Elem;
    /// Statistics, gradients of weights, optimiser state.
    type Stat: Elem;
    /// Logits, which need more than bf16: their differences are what a preference is made of.
    type Logit: Elem;
    /// Device memory.
    type Buf<T: Elem>;

    /// Whether trained weights keep a copy in `Stat` beside the working copy.
    const MASTER: bool;
    /// Bytes that the logits of a chunk of rows may take, unless one example needs more. The head's weight is read once
    /// for each chunk.
    const LOGIT_BYTES: usize;

    /// `n` zeros.
    fn alloc<T: Elem>(&self, n: usize) -> Result<Self::Buf<T>>;
    /// Copies `host` to `dst[0..host.len()]`.
    fn write<T: Elem>(&self, dst: &mut Self::Buf<T>, host: &[T]) -> Result;
    /// Copies `src[0..host.len()]` to `host`.
    fn read<T: Elem>(&self, src: &Self::Buf<T>, host: &mut [T]) -> Result;
    /// Sets `buf[0..n]` to zero.
    fn zero<T: Elem>(&self, buf: &mut Self::Buf<T>, n: usize) -> Result;
    /// A host value in working precision.
    fn float(x: f64) -> Self::Float;
    /// A host value as a statistic.
    fn stat(x: f64) -> Self::Stat;
    /// A working value on the host.
    fn from_float(x: Self::Float) -> f64;
    /// A statistic on the host.
    fn from_stat(x: Self::Stat) -> f64;
    /// A logit on the host.
    fn from_logit(x: Self::Logit) -> f64;

    /// `y[t] = scale * table[ids[t]] + positions[pos[t]]`, then dropout. `table [vocab, width]`, `y [T, width]`.
    fn embed(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        table: &Stored<Self>,
        positions: Option<&Stored<Self>>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
    ) -> Result;
    /// Scatter of `dy` into the tables' gradients, in token order.
    fn embed_bwd(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        dy: &F<Self>,
        d_table: Option<&mut S<Self>>,
        d_positions: Option<&mut S<Self>>,
    ) -> Result;

    /// `y = norm(x)`; `stat [T, 2]` receives mean and 1 / deviation.
    fn norm(
        &self,
        s: Rows,
        kind: Norm,
        x: &F<Self>,
        affine: Affine<Self>,
        y: &mut F<Self>,
        stat: &mut S<Self>,
    ) -> Result;
    /// `sum = skip + dropout(branch)`; `y = norm(sum)`.
    fn add_norm(
        &self,
        s: Rows,
        kind: Norm,
        skip: &F<Self>,
        branch: &F<Self>,
        drop: Option<Dropout<Self>>,
        sum: &mut F<Self>,
        affine: Affine<Self>,
        y: &mut F<Self>,
        stat: &mut S<Self>,
    ) -> Result;
    /// `dx = d_skip + dnorm/dx dy`, where `d_skip` is the gradient that reaches `x` past the norm.
    fn norm_bwd(
        &self,
        s: Rows,
        kind: Norm,
        x: &F<Self>,
        gain: &F<Self>,
        stat: &S<Self>,
        dy: &F<Self>,
        d_skip: Option<&F<Self>>,
        dx: &mut F<Self>,
        d_gain: Option<&mut S<Self>>,
        d_bias: Option<&mut S<Self>>,
    ) -> Result;
    /// `d_branch = mask(d_sum)`: the gradient of [`Backend::add_norm`]'s branch.
    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &F<Self>, d_branch: &mut F<Self>) -> Result;

    /// `y = alpha (x Wᵀ + bias)`; `x [rows, inp]`, `W [out, inp]`, `y [rows, out]`.
    fn linear(&self, s: Gemm, x: &F<Self>, w: &Stored<Self>, bias: Option<&F<Self>>, y: &mut F<Self>) -> Result;
    /// `dx = alpha dy W`; `dw += alpha dyᵀ x`; `d_bias += alpha colsum(dy)`.
    fn linear_bwd(
        &self,
        s: Gemm,
        x: &F<Self>,
        w: &Stored<Self>,
        dy: &F<Self>,
        dx: Option<&mut F<Self>>,
        dw: Option<&mut S<Self>>,
        d_bias: Option<&mut S<Self>>,
    ) -> Result;

    /// `low = dropout(x) Aᵀ`; `y[:, col..col + out] += scale * low Bᵀ`. `low [rows, rank]` is kept for backward;
    /// `scratch [rows, inp]` is used with dropout only.
    fn lora(
        &self,
        s: Lora,
        x: &F<Self>,
        a: &F<Self>,
        b: &F<Self>,
        drop: Option<Dropout<Self>>,
        scratch: &mut F<Self>,
        low: &mut F<Self>,
        y: &mut F<Self>,
    ) -> Result;
    /// `db += scale dyᵀ low`; `d_low = scale dy B`; `da += d_lowᵀ dropout(x)`; `dx += mask(d_low A)`.
    fn lora_bwd(
        &self,
        s: Lora,
        x: &F<Self>,
        a: &F<Self>,
        b: &F<Self>,
        drop: Option<Dropout<Self>>,
        low: &F<Self>,
        dy: &F<Self>,
        scratch: &mut F<Self>,
        d_low: &mut F<Self>,
        dx: Option<&mut F<Self>>,
        da: &mut S<Self>,
        db: &mut S<Self>,
    ) -> Result;

    /// Rotates the query and key heads of `qkv` in place (Su et al. 2021, half-split form of Hugging Face).
    /// `table [positions, dim]`: cos of dim/2 angles, then sin.
    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &S<Self>, turn: Turn, qkv: &mut F<Self>) -> Result;

    /// Causal attention inside each segment; `y [T, q * dim]`, `lse [T, q]` log-sum-exp of the scaled scores.
    fn attention(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
        lse: &mut S<Self>,
    ) -> Result;
    /// `d_qkv` of all three parts; `delta [T, q]` is scratch for rowsum(dy * y).
    fn attention_bwd(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &F<Self>,
        lse: &S<Self>,
        dy: &F<Self>,
        delta: &mut S<Self>,
        d_qkv: &mut F<Self>,
    ) -> Result;

    /// Keeps keys and values for the tokens to come: `cache[at[t]] = qkv[t, q * dim..]`. A row of `cache` has all key
    /// heads, then all value heads, `2 kv * dim` values; the rows `at [T]` are distinct. Forward only, as
    /// [`Backend::attention_cached`] is: nothing is trained through a cache.
    fn write_kv_cache(&self, s: Heads, at: &Ids<Self>, qkv: &F<Self>, cache: &mut F<Self>) -> Result;
    /// Attention of new rows to the cache, which holds them already: token t sees the rows `at[t] - pos[t] ..= at[t]`,
    /// its own sequence from the first token to itself. With `j` over those rows, and query head `h` reading key head
    /// `g = h / (q / kv)`: `y[t, h] = sum_j p_j v_gj`, `p = softmax_j(scale q_th k_gj)`, sums in `Stat`.
    /// `y [T, q * dim]`; of `qkv` only the queries are read.
    fn attention_cached(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        at: &Ids<Self>,
        qkv: &F<Self>,
        cache: &F<Self>,
        y: &mut F<Self>,
    ) -> Result;

    /// `y [n, width] = act(x [n, width * fan_in])`.
    fn act(&self, s: Rows, kind: Act, x: &F<Self>, y: &mut F<Self>) -> Result;
    /// `dx = act'(x) dy`.
    fn act_bwd(&self, s: Rows, kind: Act, x: &F<Self>, dy: &F<Self>, dx: &mut F<Self>) -> Result;

    /// `y[i] = x[rows[i]]`; `s.n` rows are gathered.
    fn gather(&self, s: Rows, rows: &Ids<Self>, x: &F<Self>, y: &mut F<Self>) -> Result;
    /// `dx[0..total] = 0`, then `dx[rows[i]] = coef[i] dy[i]`; without `coef [s.n]` the factor is 1.
    fn gather_bwd(
        &self,
        s: Rows,
        rows: &Ids<Self>,
        total: usize,
        coef: Option<&S<Self>>,
        dy: &F<Self>,
        dx: &mut F<Self>,
    ) -> Result;

    /// Logits of a chunk into `logits [rows, vocab]`, then `logp[i]` of `labels[i]` and `lse[i]`, for the rows
    /// `first..first + rows` of `x`, `labels`, `logp`, `lse`.
    fn head_logp(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logits: &mut Self::Buf<Self::Logit>,
        logp: &mut S<Self>,
        lse: &mut S<Self>,
    ) -> Result;
    /// [`Backend::head_logp`] and the unit gradient in one pass, for a head that takes no gradient: `logits` become
    /// `d = softmax - onehot` in place, and `dx = scale d W` for the chunk's rows, the gradient of each row's `-log p`.
    /// Scaling a row commutes with the product, so its coefficient may come later ([`Backend::gather_bwd`]), when log p
    /// of all rows is known.
    fn head_unit(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logits: &mut Self::Buf<Self::Logit>,
        logp: &mut S<Self>,
        lse: &mut S<Self>,
        dx: &mut F<Self>,
    ) -> Result;
    /// One coefficient per row of the chunk: `coef = dL / d nll`, with the loss sums added to `tally [TALLY]`.
    ///
    /// `L = sum_j w_j nll_j * INV_NORM + gamma * INV_PAIRS * sum_e -log sigmoid(beta (mean_on r - mean_off r))`,
    /// `r_j = log p_j - ref_logp_j`, means over the on-path and the off-path labels of example `e`; examples without
    /// both are left out (EyeMulator, arXiv 2508.16771, section 2.4). `row_start [E + 1]` delimits examples.
    fn objective(
        &self,
        s: Objective,
        row_start: &Ids<Self>,
        logp: &S<Self>,
        weight: &S<Self>,
        path: &Ids<Self>,
        ref_logp: &S<Self>,
        scalars: &S<Self>,
        coef: &mut S<Self>,
        tally: &mut S<Self>,
    ) -> Result;
    /// `logits` of [`Backend::head_logp`] become `d_logits = coef (softmax - onehot)` in place;
    /// `dx = scale d_logits W` for the chunk's rows; `dw += scale d_logitsᵀ x`.
    fn head_bwd(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logp: &S<Self>,
        lse: &S<Self>,
        coef: &S<Self>,
        logits: &mut Self::Buf<Self::Logit>,
        dx: &mut F<Self>,
        dw: Option<&mut S<Self>>,
    ) -> Result;

    /// `scalars[SQ_NORM] = sum of squares of all gradients`, then `scalars[CLIP]` from it and `MAX_NORM`.
    fn clip(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result;
    /// One optimiser step over all parameters. Every buffer stays as it is where `scalars[SQ_NORM]` is not finite: the
    /// host may then ask for the update before it has seen the norm, and need not wait in between.
    ///
    /// Moments in 8 bits are rounded by `key`, `[seed, step]`: the eight values `8 i ..` of the parameter at place `n` of
    /// `updates` by the halves of the words, low half first, of the Philox block (i, i / 2^32, n, 2^32 - 1).
    fn adamw(&self, k: AdamW, key: &Ids<Self>, scalars: &S<Self>, updates: &mut [Update<Self>]) -> Result;
}
