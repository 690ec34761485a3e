//! Where a command computes: the one place that chooses a device.

use super::terminal::Terminal;
use super::{Device, machine, peaks};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::libraries::{self, DRIVER};
use crate::backend::cuda::{Cuda, driver, padded_head};
use crate::error::{Error, Result};
use crate::train::meter::Meter;
use std::path::PathBuf;

/// Work that is the same on every device.
pub trait Job: Sized {
    /// What to do where memory does not suffice.
    const REMEDY: &'static str;

    /// Bytes that it needs on the processor.
    fn bytes(&self) -> Result<u64>;
    /// Threads of the processor; 0 is all cores.
    fn threads(&self) -> usize;
    /// Features of an attention head, which the kernels must know.
    fn head_dim(&self) -> usize;
    /// Where the algorithms of a GPU's products are kept, and where they are recorded ([`Gpu::open`]).
    fn plans(&self) -> (Option<PathBuf>, Option<PathBuf>);
    /// Does the work on a backend; `meter` tells of its device.
    fn on<B: Backend>(self, backend: B, meter: Meter<B>, out: &mut Terminal) -> Result;
}

/// Whether that device computes as CUDA does.
pub fn is_cuda(device: Device) -> bool {
    match device {
        Device::Auto => driver::start().is_ok_and(|gpus| gpus > 0),
        Device::Cpu => false,
        Device::Cuda => true,
        #[cfg(feature = "emulator")]
        Device::Emulated => true,
    }
}

/// Does the work on the device that is asked for. `auto` takes a GPU where one works.
pub fn run(job: impl Job, device: Device, out: &mut Terminal) -> Result {
    match device {
        Device::Auto => match driver::start().and_then(|_| gpu(&job)) {
            Ok(gpu) => on_gpu(gpu, job, out),
            // without a driver there is nothing to explain
            Err(_) if libraries::open(DRIVER, &[]).is_err() => on_cpu(job, out),
            Err(why) => {
                out.note(&format!("note: not on a GPU, but on the processor: {why}"));
                on_cpu(job, out)
            }
        },
        Device::Cpu => on_cpu(job, out),
        Device::Cuda => on_gpu(gpu(&job)?, job, out),
        #[cfg(feature = "emulator")]
        Device::Emulated => {
            use crate::backend::cuda::{emulated::Schedule, emulation::Emulated};
            let device = Emulated::open(Schedule::default())?;
            let name = "CUDA kernels, emulated, bf16".into();
            job.on(Cuda::new(device), Meter { device: name, peak: None, memory: |_| machine::peak() }, out)
        }
    }
}

fn on_cpu<J: Job>(job: J, out: &mut Terminal) -> Result {
    let planned = gib(check_memory(&job)?);
    let cpu = Cpu::<f32>::new(job.threads())?;
    let device = format!("cpu with {} threads, f32, {planned:.2} GiB planned", cpu.threads());
    job.on(cpu, Meter { device, peak: None, memory: |_| machine::peak() }, out)
}

/// The first GPU.
fn gpu(job: &impl Job) -> Result<Gpu> {
    padded_head(job.head_dim())?;
    let (cache, record) = job.plans();
    Gpu::open(0, cache.as_deref(), record)
}

fn on_gpu(gpu: Gpu, job: impl Job, out: &mut Terminal) -> Result {
    let (free, all) = gpu.driver().memory()?;
    let [free, all] = [free, all].map(|bytes| gib(bytes as u64));
    let which = &gpu.driver().properties().gpu;
    let device = format!("{which}, bf16, {free:.1} of {all:.1} GiB free");
    let meter = Meter { device, peak: peaks::bf16(&which.name), memory: memory_of };
    let cuda = cuda(gpu, out)?;
    job.on(cuda, meter, out)
}

/// A GPU as a backend, with the kernels that have been seen to agree on it.
pub fn cuda(gpu: Gpu, out: &mut Terminal) -> Result<Cuda<Gpu>> {
    let (cuda, agree) = Cuda::new(gpu).proven()?;
    if !agree {
        out.note(
            "note: on this GPU the attention kernels for Hopper do not agree with those for all GPUs, which are used in \
             their place; please report it",
        );
    }
    Ok(cuda)
}

/// The most memory of the GPU that was in use, in bytes: its pool keeps what was freed, so that what is in use now is the
/// most that was. Other processes count too.
pub fn memory_of(cuda: &Cuda<Gpu>) -> Option<u64> {
    let (free, all) = cuda.device().driver().memory().ok()?;
    Some((all - free) as u64)
}

/// GiB of so many bytes.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// The bytes of a job; refuses one that cannot fit, before the system would end it without a word.
fn check_memory<J: Job>(job: &J) -> Result<u64> {
    let needed = job.bytes()?;
    let available = machine::memory("MemAvailable").unwrap_or(u64::MAX);
    if needed <= available {
        return Ok(needed);
    }
    Err(Error::Device(format!(
        "out of memory: the run needs {:.1} GiB and {:.1} GiB are available; {}",
        gib(needed),
        gib(available),
        J::REMEDY
    )))
}
