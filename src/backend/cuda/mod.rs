//! NVIDIA GPUs: hand-written kernels, their compiler, the driver, and an emulator that runs the same kernels.

pub mod architecture;
mod arguments;
pub mod cubin;
pub mod driver;
#[cfg(feature = "emulator")]
pub mod emulated;
pub mod failure;
pub mod kernels;
pub mod libraries;
pub mod nvrtc;
pub mod selftest;

pub use arguments::{Arg, Geometry, TensorMap};
