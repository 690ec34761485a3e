//! NVIDIA GPUs: hand-written kernels, their compiler, the driver, and an emulator that runs the same kernels.

mod act;
pub mod api;
pub mod architecture;
mod arguments;
mod attention;
mod backend;
mod cache;
mod context;
pub mod cubin;
pub mod device;
pub mod devices;
pub mod driver;
mod dropout;
mod embed;
#[cfg(feature = "emulator")]
pub mod emulated;
#[cfg(feature = "emulator")]
pub mod emulation;
pub mod failure;
mod flight;
pub mod gpu;
mod head;
pub mod kernels;
pub mod libraries;
mod linear;
mod loops;
pub mod lt;
mod nf4;
mod norm;
pub mod nvrtc;
mod objective;
mod optim;
mod plans;
pub mod products;
mod rope;
mod sass;
pub mod selftest;
mod sys;
pub mod system;

pub use arguments::{Arg, Geometry, TensorMap};
pub use attention::padded as padded_head;
pub use backend::{Buffer, Cuda};
