//! The device of a command: the only place that chooses and opens one.

use super::machine::{self, gib};
use super::proof::{self, HOPPER, Proof};
use super::terminal::Terminal;
use super::{Device, peaks};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::driver::Properties;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::kernels::SOURCES;
use crate::backend::cuda::libraries::{self, CUBLASLT, DRIVER};
use crate::backend::cuda::nvrtc::Nvrtc;
use crate::backend::cuda::{Cuda, architecture, driver, failure, padded_head};
use crate::data::cache;
use crate::error::{Error, Result};
use crate::train::meter::Meter;
use clap::Args;
use std::path::PathBuf;

/// The threads of a command without a recipe; a recipe has `train.threads`.
#[derive(Args, Debug)]
pub struct Threads {
    /// CPU threads; 0 means RAYON_NUM_THREADS if it is set, else all cores. Results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

/// Work that is the same on every device.
pub trait Job: Sized {
    /// What to do where memory does not suffice.
    const REMEDY: &'static str;

    /// Bytes that it needs on the CPU; 0 where they are not counted beforehand.
    fn bytes(&self) -> Result<u64>;
    /// Features of an attention head: not every width has CUDA kernels.
    fn head_dim(&self) -> usize;
    /// Threads on the CPU; 0 is those of [`cores`](crate::backend::cpu::cores).
    fn threads(&self) -> usize {
        0
    }
    /// Where the algorithms of a GPU's products are cached, and where those in use are recorded ([`Gpu::open`]).
    fn plans(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        (user_cache(), None)
    }
    /// Does the work on a backend.
    fn on<B: Backend + 'static>(self, backend: B, site: Site<B>, out: &mut Terminal) -> Result;
}

/// The cache folder of the user.
fn user_cache() -> Option<PathBuf> {
    cache::default_dir(|key| std::env::var(key).ok())
}

/// A device as `--device` resolves to it. `G` is the GPU: opened, or nothing where it is only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<G = ()> {
    /// The CPU.
    Cpu,
    /// The first GPU.
    Gpu(G),
    /// The CUDA kernels, run by the emulator.
    #[cfg(feature = "emulator")]
    Emulated,
}

/// An opened device, as reports describe it.
pub struct Site<B> {
    /// Which device it is.
    pub place: Place,
    /// Its hardware: the name of the CPU or of the GPU.
    pub hardware: String,
    /// The backend and its number format: `cpu f32, 2 threads`, `cuda bf16`.
    pub computes: String,
    /// What a run records of it.
    pub meter: Meter<B>,
}

/// Resolves `--device`. `gpu` opens the first GPU or only checks it: where it fails, `auto` falls back to the CPU and
/// prints the reason as a note, unless the machine has no driver: then there is no GPU to miss.
pub fn choose<G>(device: Device, gpu: impl FnOnce() -> Result<G>, out: &mut Terminal) -> Result<Place<G>> {
    match device {
        Device::Cpu => Ok(Place::Cpu),
        Device::Cuda => Ok(Place::Gpu(gpu()?)),
        #[cfg(feature = "emulator")]
        Device::Emulated => Ok(Place::Emulated),
        Device::Auto => match gpu() {
            Ok(gpu) => Ok(Place::Gpu(gpu)),
            Err(why) => {
                if libraries::open(DRIVER, &[]).is_ok() {
                    out.note(&format!("note: using the CPU instead of a GPU: {why}"));
                }
                Ok(Place::Cpu)
            }
        },
    }
}

/// The first GPU, if it can run a model with heads of `head_dim` features: all that can be checked without opening it.
fn check_gpu(head_dim: usize) -> Result<Properties> {
    padded_head(head_dim)?;
    let first = driver::devices()?.into_iter().next().ok_or_else(failure::no_device)?;
    if first.capability < architecture::OLDEST {
        return Err(failure::old_device(&first.gpu, first.capability));
    }
    if kernel_files(first.capability).1 > 0 {
        let architecture = architecture::of_device(first.capability);
        Nvrtc::find(None).map_err(|why| failure::no_kernels(&first.gpu, &architecture, &why))?;
    }
    libraries::open(CUBLASLT, &libraries::folders()).map_err(|why| failure::no_products(&why))?;
    Ok(first)
}

/// How many kernel files a GPU of this compute capability takes from the binary, and how many NVRTC compiles for it.
pub fn kernel_files(capability: (u32, u32)) -> (usize, usize) {
    let architecture = architecture::of_device(capability);
    let wanted = || SOURCES.iter().filter(|source| architecture::wanted(source.name, &architecture));
    let embedded = wanted().filter(|source| driver::embedded(source.name, capability).is_some()).count();
    (embedded, wanted().count() - embedded)
}

/// Resolves `--device` for `--dry-run`: `auto` as a run would, while `--device cuda` does not require a GPU.
pub fn plan(device: Device, head_dim: usize, out: &mut Terminal) -> Result<Place> {
    let check = || if device == Device::Auto { check_gpu(head_dim).map(drop) } else { Ok(()) };
    choose(device, check, out)
}

/// Does the work on the device that `--device` resolves to.
pub fn run(job: impl Job, device: Device, out: &mut Terminal) -> Result {
    let open = || {
        let gpu = check_gpu(job.head_dim())?;
        let proof = proof::of(&gpu, kernel_files(gpu.capability).1 > 0)?;
        let (cache, record) = job.plans();
        Ok((Gpu::open(0, cache.as_deref(), record)?, proof))
    };
    match choose(device, open, out)? {
        Place::Cpu => on_cpu(job, out),
        Place::Gpu((gpu, proof)) => on_gpu(gpu, proof, job, out),
        #[cfg(feature = "emulator")]
        Place::Emulated => {
            use crate::backend::cuda::{emulated::Schedule, emulation::Emulated};
            let computes = "CUDA kernels, emulated, bf16".to_string();
            let meter = Meter { device: computes.clone(), memory: |_| machine::peak(), ..Meter::default() };
            let site = Site { place: Place::Emulated, hardware: machine::processor(), computes, meter };
            job.on(Cuda::new(Emulated::open(Schedule::default())?), site, out)
        }
    }
}

fn on_cpu<J: Job>(job: J, out: &mut Terminal) -> Result {
    let planned = gib(check_memory(&job)?);
    let cpu = Cpu::<f32>::new(job.threads())?;
    let threads = cpu.threads();
    let device = format!("cpu with {threads} threads, f32, {planned:.2} GiB planned");
    let site = Site {
        place: Place::Cpu,
        hardware: machine::processor(),
        computes: format!("cpu f32, {threads} threads"),
        meter: Meter { device, memory: |_| machine::peak(), ..Meter::default() },
    };
    job.on(cpu, site, out)
}

fn on_gpu(gpu: Gpu, proof: Proof, job: impl Job, out: &mut Terminal) -> Result {
    let (free, all) = gpu.driver().memory()?;
    let [free, all] = [free, all].map(|bytes| gib(bytes as u64));
    let Properties { gpu: which, capability, .. } = gpu.driver().properties().clone();
    let kernels = if capability == HOPPER && !proof.hopper { ", attention kernels for all GPUs" } else { "" };
    let device = format!("{which}, bf16{kernels}, {free:.1} of {all:.1} GiB free");
    let meter = Meter { device, hardware: which.name.clone(), peak: peaks::bf16(&which.name), memory: used };
    if let Some(why) = proof.failed {
        out.note(&format!(
            "note: on {which} the attention kernels for Hopper {why}; those for all GPUs are used in their place. \
             Please report it"
        ));
    }
    let cuda = if proof.hopper { Cuda::new(gpu) } else { Cuda::new(gpu).portable() };
    job.on(cuda, Site { place: Place::Gpu(()), hardware: which.name, computes: "cuda bf16".into(), meter }, out)
}

/// The most memory of the GPU that was in use, in bytes. The pool of the driver keeps freed memory, so the memory in
/// use now is that maximum. It includes other processes.
fn used(cuda: &Cuda<Gpu>) -> Option<u64> {
    let (free, all) = cuda.device().driver().memory().ok()?;
    Some((all - free) as u64)
}

/// The bytes of a job. Refuses a job that exceeds the available memory, because the system would kill it without a
/// message.
fn check_memory<J: Job>(job: &J) -> Result<u64> {
    let needed = job.bytes()?;
    let available = machine::available().unwrap_or(u64::MAX);
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
