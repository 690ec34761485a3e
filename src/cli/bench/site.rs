//! What a measurement has to say about the backend it was taken on.

use super::super::device::memory_of;
use super::super::machine;
use super::kernels::Size;
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::gpu::Gpu;

/// A backend that can be timed.
pub trait Site: Backend + 'static {
    /// The hardware's name.
    fn device(&self) -> String;
    /// What computes on it.
    fn backend(&self) -> String;
    /// The size of cases that suits it.
    fn size() -> Size;
    /// Bytes of input that outlive its caches: cases rotate among as many sets of inputs as make this up.
    fn cache() -> u64;
    /// The most memory that this process has used, in bytes; none where it is unknown.
    fn peak(&self) -> Option<u64>;
}

impl Site for Cpu<f32> {
    fn device(&self) -> String {
        machine::processor()
    }

    fn backend(&self) -> String {
        format!("cpu f32, {} threads", self.threads())
    }

    fn size() -> Size {
        Size::Small
    }

    fn cache() -> u64 {
        128 << 20
    }

    fn peak(&self) -> Option<u64> {
        machine::peak()
    }
}

impl Site for Cuda<Gpu> {
    fn device(&self) -> String {
        Cuda::device(self).driver().properties().gpu.name.clone()
    }

    fn backend(&self) -> String {
        "cuda bf16".into()
    }

    fn size() -> Size {
        Size::Full
    }

    fn cache() -> u64 {
        256 << 20
    }

    fn peak(&self) -> Option<u64> {
        memory_of(self)
    }
}

#[cfg(feature = "emulator")]
impl Site for Cuda<crate::backend::cuda::emulation::Emulated> {
    fn device(&self) -> String {
        machine::processor()
    }

    fn backend(&self) -> String {
        "CUDA kernels, emulated, bf16".into()
    }

    fn size() -> Size {
        Size::Tiny
    }

    fn cache() -> u64 {
        0
    }

    fn peak(&self) -> Option<u64> {
        machine::peak()
    }
}
