//! `eyekern train`: a recipe, run.

use super::report::Reporter;
use super::terminal::Terminal;
use super::{Device, TrainArgs, machine};
use crate::backend::cpu::Cpu;
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
    let (threads, every) = (prepared.recipe.train.threads, prepared.recipe.train.logging_steps);
    match device {
        Device::Auto | Device::Cpu => {
            let planned = gib(check_memory(&prepared)?);
            let cpu = Cpu::<f32>::new(threads)?;
            let device = format!("cpu with {} threads, f32, {planned:.2} GiB planned", cpu.threads());
            let mut reporter = Reporter::new(out, every, device);
            run::run(cpu, prepared, &mut |event| reporter.event(event))?;
        }
        #[cfg(feature = "emulator")]
        Device::Emulated => {
            use crate::backend::cuda::{Cuda, emulated::Schedule, emulation::Emulated};
            let device = "CUDA kernels, emulated, bf16".to_string();
            let mut reporter = Reporter::new(out, every, device);
            let cuda = Cuda::new(Emulated::open(Schedule::default())?);
            run::run(cuda, prepared, &mut |event| reporter.event(event))?;
        }
    }
    Ok(())
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
