//! NVIDIA GPUs: hand-written kernels, their compiler, and the driver.

pub mod architecture;
pub mod cubin;
pub mod driver;
pub mod failure;
pub mod kernels;
pub mod libraries;
pub mod nvrtc;
pub mod selftest;
