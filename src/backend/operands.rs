//! Operands of several buffers.

use super::moments::Moments;
use super::nf4;
use super::{F, Ids, Memory, S};
use half::bf16;

/// A matrix as it is stored. A frozen bf16 checkpoint stays bf16: half the memory, and widening it is exact.
pub enum Stored<B: Memory> {
    /// Working precision; what is trained is always stored so.
    Float(F<B>),
    /// Frozen, as the checkpoint has it.
    Bf16(B::Buf<bf16>),
    /// Frozen, in 4 bits.
    Nf4(nf4::OnDevice<B>),
}

/// The tokens of a micro-batch on the device; each buffer `[count]`. See [`crate::data::Batch`].
pub struct Tokens<B: Memory> {
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
pub struct Dropout<'a, B: Memory> {
    /// Probability of a zero, in [0, 1).
    pub p: f32,
    /// Which module draws.
    pub module: u32,
    /// `[seed, step]`.
    pub key: &'a Ids<B>,
    /// Whose examples and positions.
    pub tokens: &'a Tokens<B>,
}

impl<B: Memory> Clone for Dropout<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Memory> Copy for Dropout<'_, B> {}

/// Gain and bias of a normalisation, `[width]` each.
pub struct Affine<'a, B: Memory> {
    /// Scale.
    pub gain: &'a F<B>,
    /// Shift (LayerNorm only).
    pub bias: Option<&'a F<B>>,
}

/// Everything the optimiser touches of one parameter; buffers are `[len]`.
pub struct Update<'a, B: Memory> {
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
