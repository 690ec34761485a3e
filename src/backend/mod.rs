//! The operations that a device must implement to train a decoder-only transformer.
//!
//! [`Backend`] is the sum of the families of operations ([`EmbedOps`] to [`OptimOps`]). A family has a file in `cpu`
//! and in `cuda`, with each forward beside its backward. No operation has a default body: a backend that lacks a
//! gradient does not compile. The model above is written once and is generic over the trait.
//!
//! # Rules
//!
//! * **Weight gradients accumulate (`+=`), in [`Memory::Stat`]; activation gradients overwrite (`=`).** The one
//!   exception is an adapter: it is a sum with its projection, so `lora` adds to `y` and `lora_bwd` adds to `dx`.
//! * A weight gradient is an `Option`: what is frozen costs nothing. So is `dx` where nothing below needs it.
//! * Operations allocate nothing: the caller passes all buffers. Outputs are `&mut`, so the borrow checker proves that
//!   they never alias inputs.
//! * Buffers may be longer than the shapes say: they are allocated once for the largest micro-batch.
//! * Every reduction has a fixed order, whatever the number of threads: two runs give the same bits.
//! * Step scalars (learning rate, normaliser, clip) and the dropout key live on the device, so that a step can be
//!   recorded once and replayed.

pub mod cpu;
pub mod cuda;
mod enums;
mod memory;
pub mod moments;
pub mod nf4;
mod operands;
mod ops;
pub mod plan;
mod shapes;

pub use memory::*;
pub use operands::*;
pub use ops::*;
pub use shapes::*;

/// A device that trains and generates: every family of operations.
pub trait Backend:
    EmbedOps + NormOps + LinearOps + RopeOps + AttentionOps + CacheOps + ActOps + HeadOps + ObjectiveOps + OptimOps
{
    /// The number format of its products, as checkpoints record it: another one gives other bits.
    fn precision(&self) -> &'static str {
        std::any::type_name::<Self::Float>().rsplit("::").next().unwrap_or_default()
    }
}
