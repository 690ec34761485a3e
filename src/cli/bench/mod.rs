//! `eyekern bench`: times kernels, training steps and generation. `docs/bench.md` explains the measurements.

use clap::Subcommand;

use super::device::{self, Dtype, Job, Site};
use super::machine::gib;
use super::terminal::Terminal;
use super::{Device, EXIT_CODES, Format, choice};
use crate::backend::{Backend, ComputeDtype};
use crate::error::Result;
use serde_json::Value;

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
mod sizes;
mod step;

/// Subcommands of `eyekern bench`.
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Time each operation of the backend on its own.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", kernels::HELP))]
    Kernels(kernels::KernelsArgs),
    /// Time training steps of a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", step::HELP))]
    Step(step::StepArgs),
    /// Time generation by a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", decode::HELP))]
    Decode(decode::DecodeArgs),
}

/// Something to time, on any device.
enum Bench<'a> {
    Kernels(&'a kernels::KernelsArgs),
    Steps(step::Steps<'a>),
    Continuations(decode::Continuations<'a>),
}

/// Times on the chosen device.
pub fn run(command: &BenchCommand, out: &mut Terminal) -> Result {
    let (bench, device) = match command {
        BenchCommand::Kernels(args) => (Bench::Kernels(args), args.device),
        BenchCommand::Step(args) => (Bench::Steps(step::Steps::new(args)?), args.device),
        BenchCommand::Decode(args) => (Bench::Continuations(decode::Continuations::new(args)?), args.device),
    };
    device::run(bench, device, out)
}

impl Job for Bench<'_> {
    const REMEDY: &'static str = "";

    /// Not counted.
    fn bytes(&self) -> Result<u64> {
        Ok(0)
    }

    fn dtype(&self) -> ComputeDtype {
        match self {
            Bench::Kernels(args) => args.dtype.dtype,
            Bench::Steps(steps) => steps.dtype(),
            Bench::Continuations(continuations) => continuations.dtype(),
        }
    }

    fn head_dim(&self) -> usize {
        match self {
            Bench::Kernels(_) => sizes::HEAD_DIM,
            Bench::Steps(steps) => steps.spec.head_dim,
            Bench::Continuations(continuations) => continuations.spec.head_dim,
        }
    }

    fn on<B: Backend + 'static>(self, backend: B, site: Site<B>, out: &mut Terminal) -> Result {
        match self {
            Bench::Kernels(args) => kernels::time(args, &backend, &site, out),
            Bench::Steps(steps) => steps.time(backend, &site, out),
            Bench::Continuations(continuations) => continuations.time(&backend, &site, out),
        }
    }
}

/// The first line of a report for people.
fn header<B>(site: &Site<B>) -> String {
    format!("{}, {}", site.hardware, site.computes)
}

/// The peak memory so far at the end of a line for people, where it is known.
fn peak<B>(site: &Site<B>, b: &B) -> String {
    (site.meter.memory)(b).map_or(String::new(), |bytes| format!(", peak {:.2} GiB", gib(bytes)))
}

/// One measurement as a line of JSON: the keys of every line, then those of `more`.
fn object<B>(site: &Site<B>, bench: &str, more: Value) -> String {
    let mut line = serde_json::json!({
        "bench": bench,
        "engine": concat!("eyekern ", env!("CARGO_PKG_VERSION")),
        "device": site.hardware,
        "backend": site.computes,
    });
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    line.to_string()
}
