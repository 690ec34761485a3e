//! The device of a command: the only place that chooses and opens one.

use super::machine::{self, gib};
use super::proof::{self, HOPPER, Proof};
use super::terminal::Terminal;
use super::{Device, choice, peaks};
use crate::backend::cpu::{Cpu, Operands, set_threads};
use crate::backend::cuda::api::{self, Api};
use crate::backend::cuda::device::Device as _;
use crate::backend::cuda::devices::Properties;
use crate::backend::cuda::driver::kernel_files;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::{Cuda, devices, failure, libraries, padded_head, system};
use crate::backend::{Backend, ComputeDtype};
use crate::data::cache;
use crate::error::{Error, Result};
use crate::train::meter::Meter;
use clap::Args;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// The threads of a command without a recipe; a recipe has `train.threads`.
#[derive(Args, Debug)]
pub struct Threads {
    /// CPU threads; 0 means RAYON_NUM_THREADS if it is set, else all cores. Results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

/// The number format of a command without a recipe; a recipe has `train.compute_dtype`.
#[derive(Args, Clone, Copy, Debug)]
pub struct Dtype {
    /// Number format of matrix products: auto is f32 on a CPU and bf16 on a GPU; bf16 has sums in f32 and is for AMD's
    /// CPUs with AVX512_BF16.
    #[arg(long, value_name = "DTYPE", default_value = "auto", value_parser = choice::<ComputeDtype>())]
    pub dtype: ComputeDtype,
}

/// Work that is the same on every device.
pub trait Job: Sized {
    /// What to do where memory does not suffice.
    const REMEDY: &'static str;

    /// Where users choose the number format.
    const DTYPE: &'static str = "--dtype";

    /// Bytes that it needs on the CPU; 0 where they are not counted beforehand.
    fn bytes(&self) -> Result<u64>;
    /// Features of an attention head: not every width has CUDA kernels.
    fn head_dim(&self) -> usize;
    /// Threads on the CPU; 0 is those of [`cores`](crate::backend::cpu::cores).
    fn threads(&self) -> usize {
        0
    }
    /// The number format of products.
    fn dtype(&self) -> ComputeDtype {
        ComputeDtype::Auto
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
    /// The first GPU that can be used.
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
    /// The backend and its number format: `cpu f32, 2 threads, avx2`, `cuda bf16`.
    pub computes: String,
    /// What a run records of it.
    pub meter: Meter<B>,
}

/// Resolves `--device`. `gpu` opens a GPU or only checks that there is one: where it fails, `auto` falls back to the
/// CPU and prints the reason as a note, unless nothing on the machine shows a GPU to miss.
fn choose<G>(device: Device, gpu: impl FnOnce(&mut Terminal) -> Result<G>, out: &mut Terminal) -> Result<Place<G>> {
    match device {
        Device::Cpu => Ok(Place::Cpu),
        Device::Cuda => Ok(Place::Gpu(gpu(out)?)),
        #[cfg(feature = "emulator")]
        Device::Emulated => Ok(Place::Emulated),
        Device::Auto => match gpu(out) {
            Ok(gpu) => Ok(Place::Gpu(gpu)),
            Err(why) => {
                if libraries::driver().is_ok() || system::gpu_file().is_some() {
                    out.note(&format!("note: using the CPU instead of a GPU: {why}"));
                }
                Ok(Place::Cpu)
            }
        },
    }
}

/// How long the driver may take to start before a note says what it may wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the driver. It may take long to answer, or wait for another program without end: then a note says so.
pub fn start(out: &mut Terminal) -> Result<&'static Api> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(api::start()));
    match receive.recv_timeout(PATIENCE) {
        Ok(started) => started,
        Err(RecvTimeoutError::Disconnected) => api::start(),
        Err(RecvTimeoutError::Timeout) => {
            let pipes = std::env::var("CUDA_MPS_PIPE_DIRECTORY").unwrap_or("/tmp/nvidia-mps".into());
            out.note(&format!(
                "note: the NVIDIA driver has not started after {} s: it may wait for the MPS server of {pipes}, which \
                 has to be this user's (`echo quit | nvidia-cuda-mps-control` ends it); --device cpu does not wait",
                PATIENCE.as_secs()
            ));
            receive.recv().unwrap_or_else(|_| api::start())
        }
    }
}

/// Opens the first GPU that can run a model with heads of `head_dim` features. Where that is not GPU 0, a note says
/// why. `prove` says whether the kernels for Hopper are proven before.
fn first_fit(
    head_dim: usize, plans: (Option<PathBuf>, Option<PathBuf>), prove: bool, out: &mut Terminal,
) -> Result<(Gpu, Proof)> {
    padded_head(head_dim)?;
    let api = start(out)?;
    let (cache, record) = plans;
    let mut reasons: Vec<String> = Vec::new();
    for index in 0..devices::count()? {
        // what is wrong with a GPU that does not answer is said when it is opened
        let proof = match devices::properties(index) {
            Ok(gpu) if prove => proof::of(&gpu, kernel_files(gpu.capability, api.version).1 > 0)?,
            _ => Proof::default(),
        };
        match Gpu::open(index, cache.as_deref(), record.clone()) {
            Ok(gpu) => {
                if !reasons.is_empty() {
                    let which = &gpu.driver().properties().gpu;
                    out.note(&format!("note: using {which}: {}", reasons.join("; ")));
                }
                return Ok((gpu, proof));
            }
            Err(why) => reasons.push(why.to_string()),
        }
    }
    // what all GPUs lack is said once
    reasons.dedup();
    Err(match reasons.as_slice() {
        [] => failure::no_device(&api.place),
        [one] => Error::Device(one.clone()),
        _ => failure::none_fit(&reasons),
    })
}

/// Fails for a number format that CUDA kernels do not have; `option` chooses it.
fn refuse_f32(dtype: ComputeDtype, option: &str) -> Result {
    match dtype {
        ComputeDtype::Auto | ComputeDtype::Bf16 => Ok(()),
        ComputeDtype::F32 => Err(Error::Usage(format!(
            "{option} is f32, but CUDA kernels compute in bf16; choose auto or bf16, or the CPU (--device cpu)"
        ))),
    }
}

/// Resolves `--device` for `--dry-run`: `auto` as a run would, so a GPU is opened, while `--device cuda` does not
/// require one.
pub fn plan(device: Device, head_dim: usize, dtype: ComputeDtype, out: &mut Terminal) -> Result<Place> {
    let check = |out: &mut Terminal| {
        refuse_f32(dtype, "train.compute_dtype")?;
        match device {
            Device::Auto => first_fit(head_dim, (None, None), false, out).map(|_| ()),
            _ => Ok(()),
        }
    };
    choose(device, check, out)
}

/// Does the work on the device that `--device` resolves to.
pub fn run<J: Job>(job: J, device: Device, out: &mut Terminal) -> Result {
    let open = |out: &mut Terminal| {
        refuse_f32(job.dtype(), J::DTYPE)?;
        first_fit(job.head_dim(), job.plans(), true, out)
    };
    match choose(device, open, out)? {
        Place::Cpu => on_cpu(job, out),
        Place::Gpu((gpu, proof)) => on_gpu(gpu, proof, job, out),
        #[cfg(feature = "emulator")]
        Place::Emulated => {
            use crate::backend::cuda::{emulated::Schedule, emulation::Emulated};
            refuse_f32(job.dtype(), J::DTYPE)?;
            let computes = "CUDA kernels, emulated, bf16".to_string();
            let meter = Meter { device: computes.clone(), memory: |_| machine::peak(), ..Meter::default() };
            let site = Site { place: Place::Emulated, hardware: machine::processor(), computes, meter };
            job.on(Cuda::new(Emulated::open(Schedule::default())?), site, out)
        }
    }
}

/// The operands of products on a CPU.
fn operands(dtype: ComputeDtype) -> Operands {
    match dtype {
        ComputeDtype::Auto | ComputeDtype::F32 => Operands::Full,
        ComputeDtype::Bf16 => Operands::Bf16,
    }
}

fn dtype_name(operands: Operands) -> &'static str {
    match operands {
        Operands::Full => "f32",
        Operands::Bf16 => "bf16",
    }
}

/// The CPU as reports name it; products in bf16 with the instructions that compute them.
pub fn cpu_name(threads: usize, dtype: ComputeDtype) -> String {
    let products = match operands(dtype) {
        Operands::Full => String::new(),
        bf16 => format!(", products in bf16 by {}", bf16.instructions()),
    };
    format!("cpu with {threads} threads, f32{products}")
}

fn on_cpu<J: Job>(job: J, out: &mut Terminal) -> Result {
    let planned = gib(check_memory(&job)?);
    let operands = operands(job.dtype());
    if operands == Operands::Bf16 && !operands.fast() {
        out.note(
            "note: products in bf16 are not faster than in f32 on this CPU; results are the same as with AVX512_BF16",
        );
    }
    set_threads(job.threads());
    let cpu = Cpu::<f32>::new(job.threads())?.rounding(operands);
    let threads = cpu.threads();
    let device = format!("{}, {planned:.2} GiB planned", cpu_name(threads, job.dtype()));
    let site = Site {
        place: Place::Cpu,
        hardware: machine::processor(),
        computes: format!("cpu {}, {threads} threads, {}", dtype_name(operands), operands.instructions()),
        meter: Meter { device, memory: |_| machine::peak(), ..Meter::default() },
    };
    job.on(cpu, site, out)
}

fn on_gpu(gpu: Gpu, proof: Proof, job: impl Job, out: &mut Terminal) -> Result {
    let (free, all) = gpu.driver().memory()?;
    let [free, all] = [free, all].map(|bytes| gib(bytes as u64));
    let Properties { gpu: which, capability, .. } = gpu.driver().properties().clone();
    let kernels =
        if capability == HOPPER && !(proof.hopper && gpu.hopper()) { ", attention kernels for all GPUs" } else { "" };
    let device = format!("{which}, bf16{kernels}, {free:.1} of {all:.1} GiB free");
    let meter = Meter { device, hardware: which.name.clone(), peak: peaks::bf16(&which.name), memory: used };
    if let Some(why) = proof.failed {
        out.note(&format!(
            "note: on {which} the attention kernels for Hopper {why}; those for all GPUs are used in their place. \
             Please report it"
        ));
    } else if let Some(why) = gpu.driver().refused() {
        out.note(&format!("note: the attention kernels for Hopper are not used, because a check refuses them: {why}"));
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
