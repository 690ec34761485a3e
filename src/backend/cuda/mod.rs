//! NVIDIA GPUs: hand-written kernels, their compiler, the driver, and an emulator that runs the same kernels.

#![allow(clippy::too_many_arguments)] // operations name their operands, as in the trait

pub mod architecture;
mod arguments;
mod attention;
mod backend;
pub mod cubin;
pub mod device;
pub mod driver;
#[cfg(feature = "emulator")]
pub mod emulated;
#[cfg(feature = "emulator")]
pub mod emulation;
pub mod failure;
pub mod gpu;
mod head;
pub mod kernels;
pub mod libraries;
mod linear;
mod lt;
pub mod nvrtc;
mod optim;
mod plans;
mod rows;
pub mod selftest;

pub use arguments::{Arg, Geometry, TensorMap};
pub use attention::padded as padded_head;
pub use backend::{Buffer, Cuda};
