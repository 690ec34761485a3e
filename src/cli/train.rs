//! `eyekern train`: a recipe, run.

use super::report::Reporter;
use super::terminal::Terminal;
use super::{Device, TrainArgs, machine};
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::libraries::{self, DRIVER};
use crate::backend::cuda::{Cuda, driver, padded_head};
use crate::data::cache;
use crate::error::{Error, Result};
use crate::train::estimate;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Recipe};
use crate::train::run;

/// Loads the recipe from its layers and trains, or prints it.
pub fn run(args: &TrainArgs, out: &mut Terminal) -> Result {
    let environment = recipe::environment();
    let priors = args.priors.iter().map(|file| format!("salience.priors={}", file.display()));
    let sets: Vec<String> = args.sets.iter().cloned().chain(priors).collect();
    if args.print_config {
        let recipe = Recipe::layered(args.recipe.as_deref(), environment, &sets)?;
        out.print(&recipe.to_toml_commented());
        return Ok(());
    }
    let recipe = Recipe::load(args.recipe.as_deref(), environment, &sets)?;
    start(Prepared::from_recipe(recipe)?, args.device, out)
}

/// Chooses the device, the only place that does, and runs.
pub fn start(prepared: Prepared, device: Device, out: &mut Terminal) -> Result {
    match device {
        Device::Auto => match driver::start().and_then(|_| gpu(&prepared)) {
            Ok(gpu) => on_gpu(gpu, prepared, out),
            // without a driver there is nothing to explain
            Err(_) if libraries::open(DRIVER, &[]).is_err() => on_cpu(prepared, out),
            Err(why) => {
                out.note(&format!("note: not on a GPU, but on the processor: {why}"));
                on_cpu(prepared, out)
            }
        },
        Device::Cpu => on_cpu(prepared, out),
        Device::Cuda => on_gpu(gpu(&prepared)?, prepared, out),
        #[cfg(feature = "emulator")]
        Device::Emulated => {
            use crate::backend::cuda::{emulated::Schedule, emulation::Emulated};
            let device = Emulated::open(Schedule::default())?;
            on(Cuda::new(device), "CUDA kernels, emulated, bf16".into(), prepared, out)
        }
    }
}

/// Runs on a backend, with reports that name it so.
fn on<B: Backend>(backend: B, name: String, prepared: Prepared, out: &mut Terminal) -> Result {
    let mut reporter = Reporter::new(out, prepared.recipe.train.logging_steps, name);
    run::run(backend, prepared, &mut |event| reporter.event(event)).map(|_| ())
}

fn on_cpu(prepared: Prepared, out: &mut Terminal) -> Result {
    let planned = gib(check_memory(&prepared)?);
    let cpu = Cpu::<f32>::new(prepared.recipe.train.threads)?;
    let name = format!("cpu with {} threads, f32, {planned:.2} GiB planned", cpu.threads());
    on(cpu, name, prepared, out)
}

/// The first GPU. Which algorithms its products use is kept with other caches, and recorded with the run.
fn gpu(prepared: &Prepared) -> Result<Gpu> {
    let recipe = &prepared.recipe;
    padded_head(prepared.origin.spec().head_dim)?;
    let cache = recipe.data.cache_dir.clone().or_else(|| cache::default_dir(|key| std::env::var(key).ok()));
    Gpu::open(0, cache.as_deref().filter(|_| recipe.data.cache), Some(recipe.train.output_dir.join("products.json")))
}

fn on_gpu(gpu: Gpu, prepared: Prepared, out: &mut Terminal) -> Result {
    let (free, all) = gpu.driver().memory()?;
    let [free, all] = [free, all].map(|bytes| gib(bytes as u64));
    let name = format!("{}, bf16, {free:.1} of {all:.1} GiB free", gpu.driver().properties().gpu);
    on(Cuda::new(gpu), name, prepared, out)
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// The bytes of a run; refuses one that cannot fit, before the system would end it without a word.
fn check_memory(prepared: &Prepared) -> Result<u64> {
    let needed = estimate::bytes(prepared)?;
    let available = machine::memory("MemAvailable").unwrap_or(u64::MAX);
    if needed <= available {
        return Ok(needed);
    }
    Err(Error::Device(format!(
        "out of memory: the run needs {:.1} GiB and {:.1} GiB are available; lower data.max_tokens, \
         train.per_device_train_batch_size or data.max_length, or train adapters on a smaller model",
        gib(needed),
        gib(available)
    )))
}
