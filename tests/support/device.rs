//! Which device kernels run on: `EYEKERN_DEVICE` is `emulated`, as where it is not set, or `cuda`, the first GPU.

use eyekern::backend::cuda::Cuda;
use eyekern::backend::cuda::emulated::Schedule;
use eyekern::backend::cuda::emulation::Emulated;
use eyekern::backend::cuda::gpu::Gpu;
use std::path::Path;

/// Whether it is the GPU.
pub fn on_gpu() -> bool {
    match std::env::var("EYEKERN_DEVICE").as_deref() {
        Err(_) | Ok("" | "emulated") => false,
        Ok("cuda") => true,
        Ok(other) => panic!("EYEKERN_DEVICE is {other}, neither emulated nor cuda"),
    }
}

/// An emulated device that runs threads in this order.
pub fn emulated(schedule: Schedule) -> Cuda<Emulated> {
    Cuda::new(Emulated::open(schedule).expect("an emulated device"))
}

/// The first GPU. Choices of product algorithms are kept in `plans`: timed anew, they could give other bits.
pub fn gpu(plans: &Path) -> Cuda<Gpu> {
    Cuda::new(Gpu::open(0, Some(plans), None).expect("a GPU"))
}
