//! NVIDIA GPUs: hand-written kernels, their compiler, the driver, and an emulator that runs the same kernels.

mod act;
pub mod architecture;
mod arguments;
mod attention;
mod backend;
mod cache;
pub mod cubin;
pub mod device;
pub mod driver;
mod dropout;
mod embed;
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
mod norm;
pub mod nvrtc;
mod objective;
mod optim;
mod plans;
mod rope;
pub mod selftest;

pub use arguments::{Arg, Geometry, TensorMap};
pub use attention::padded as padded_head;
pub use backend::{Buffer, Cuda};
