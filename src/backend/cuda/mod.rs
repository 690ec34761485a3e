//! NVIDIA GPUs: hand-written kernels, their compiler, and the driver.

pub mod architecture;
pub mod cubin;
pub mod kernels;
pub mod libraries;
pub mod nvrtc;
