//! `eyekern bench`: how fast kernels and training steps are on this machine. `docs/bench.md` says what is measured.

use clap::Subcommand;

use super::terminal::Terminal;
use super::{Device, EXIT_CODES, Format};
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::gpu::Gpu;
use crate::data::cache;
use crate::error::Result;
use serde_json::Value;
use site::Site;

mod attention;
mod case;
mod clock;
mod decode;
mod head;
mod kernels;
mod lab;
mod load;
mod model;
mod optim;
mod products;
mod rows;
mod site;
mod step;

/// What `eyekern bench` is asked for.
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Time each operation of the backend alone.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", kernels::HELP))]
    Kernels(kernels::KernelsArgs),
    /// Time whole training steps of a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", step::HELP))]
    Step(step::StepArgs),
    /// Time the continuation of prompts by a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", decode::HELP))]
    Decode(decode::DecodeArgs),
}

/// Something to time, on any device.
trait Job {
    fn on<B: Site>(self, b: B, out: &mut Terminal) -> Result;
}

/// Times what is asked for.
pub fn run(command: &BenchCommand, out: &mut Terminal) -> Result {
    match command {
        BenchCommand::Kernels(args) => start(kernels::Kernels(args), args.device, out),
        BenchCommand::Step(args) => start(step::Steps::new(args)?, args.device, out),
        BenchCommand::Decode(args) => start(decode::Continuations::new(args)?, args.device, out),
    }
}

fn start(job: impl Job, device: Device, out: &mut Terminal) -> Result {
    match device {
        Device::Auto => match gpu(out) {
            Ok(gpu) => job.on(gpu, out),
            Err(_) => job.on(Cpu::<f32>::new(0)?, out),
        },
        Device::Cpu => job.on(Cpu::<f32>::new(0)?, out),
        Device::Cuda => job.on(gpu(out)?, out),
        #[cfg(feature = "emulator")]
        Device::Emulated => {
            use crate::backend::cuda::{emulated::Schedule, emulation::Emulated};
            job.on(Cuda::new(Emulated::open(Schedule::default())?), out)
        }
    }
}

/// The first GPU, with the algorithms of products that training has chosen there.
fn gpu(out: &mut Terminal) -> Result<Cuda<Gpu>> {
    let cache = cache::default_dir(|key| std::env::var(key).ok());
    super::device::cuda(Gpu::open(0, cache.as_deref(), None)?, out)
}

/// One measurement as a line of JSON: what every line has, then what this one adds.
fn object<B: Site>(b: &B, bench: &str, more: Value) -> String {
    let mut line = serde_json::json!({
        "bench": bench,
        "engine": concat!("eyekern ", env!("CARGO_PKG_VERSION")),
        "device": b.device(),
        "backend": b.backend(),
    });
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    line.to_string()
}
