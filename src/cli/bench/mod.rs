//! `eyekern bench`: how fast kernels and training steps are on this machine. `docs/bench.md` says what is measured.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};

use super::terminal::Terminal;
use super::{Device, EXIT_CODES, Format};
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::moments::Optim;
use crate::choices::Choice;
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

const KERNELS_HELP: &str = "\
Examples:
  eyekern bench kernels
  eyekern bench kernels --only attention,head --size full --format json

A line of JSON has bench, engine, device, backend, case, shape, median_us, min_us, max_us, bytes, flops, gb_s, tflop_s
and memory_share: the bytes a second over those of the faster of the cases `copy` and `zero` of the same run.";

const STEP_HELP: &str = "\
Examples:
  eyekern bench step --shape 15m --batch 4 --seq 256
  eyekern bench step --shape 1b --rows full,packed --active 1.0,0.35 --format json

Rows: full ones; packed ones, of segments whose lengths are drawn from --seg-lens; padded ones, each of one segment and
padding; unpadded ones, the same segments without padding. A line of JSON has bench, engine, device, backend, shape,
method, optim, rank, batch, seq, rows, active, slots, real_tokens, supervised_tokens, step_ms (median), step_ms_min,
step_ms_max, tok_s, slots_s, supervised_s, peak_bytes, trained and loss.";

const DECODE_HELP: &str = "\
Examples:
  eyekern bench decode --shape 135m
  eyekern bench decode --shape 1b --batch 8 --prompt 512 --new-tokens 128 --format json

A line of JSON has bench, engine, device, backend, shape, batch, prompt, new_tokens, prefill_ms (to the first token of
each prompt, median), tok_s (of the tokens after it, all prompts together, median), tok_s_min, tok_s_max and peak_bytes.";

/// What `eyekern bench` is asked for.
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Time each operation of the backend alone.
    #[command(after_help = format!("{EXIT_CODES}\n\n{KERNELS_HELP}"))]
    Kernels(KernelsArgs),
    /// Time whole training steps of a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{STEP_HELP}"))]
    Step(StepArgs),
    /// Time the continuation of prompts by a model with random weights.
    #[command(after_help = format!("{EXIT_CODES}\n\n{DECODE_HELP}"))]
    Decode(DecodeArgs),
}

/// What `eyekern bench kernels` is asked for.
#[derive(Args, Debug)]
pub struct KernelsArgs {
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Only the cases of these names.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How large the cases are; without it, as large as suits the device.
    #[arg(long, value_enum)]
    pub size: Option<Size>,
    /// Timed repeats of a case.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// For people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How large the cases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// To see that a case runs.
    Tiny,
    /// For a processor.
    Small,
    /// Llama-3.2-1B with 16,384 tokens, for a GPU.
    Full,
}

/// What `eyekern bench step` is asked for.
#[derive(Args, Debug)]
pub struct StepArgs {
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// The model's shape: 1b, 135m, 15m, tiny, or a directory with a config.json. Its weights are random.
    #[arg(long, value_name = "SHAPE", default_value = "tiny")]
    pub shape: String,
    /// What is trained.
    #[arg(long, value_enum, default_value_t = Method::Lora)]
    pub method: Method,
    /// How the optimiser keeps its moments.
    #[arg(long, value_name = "NAME", default_value = Optim::AdamW.name(), value_parser = optims())]
    pub optim: Optim,
    /// Rank of the adapters, on every projection.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub rank: u32,
    /// Rows of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Tokens of a row.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub seq: u32,
    /// Shares of tokens with a label, each timed on its own.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "1.0", value_parser = share)]
    pub active: Vec<f64>,
    /// What rows are made of, each timed on its own.
    #[arg(long, value_enum, value_name = "KIND,..", value_delimiter = ',', default_value = "full")]
    pub rows: Vec<load::Kind>,
    /// The shortest and the longest segment of rows that are not full.
    #[arg(long, value_name = "MIN,MAX", default_value = "128,640", value_parser = lengths)]
    pub seg_lens: (u32, u32),
    /// Timed steps.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Steps before those.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
    /// Seed of weights and rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// For people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What `eyekern bench decode` is asked for.
#[derive(Args, Debug)]
pub struct DecodeArgs {
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// The model's shape: 1b, 135m, 15m, tiny, or a directory with a config.json. Its weights are random.
    #[arg(long, value_name = "SHAPE", default_value = "tiny")]
    pub shape: String,
    /// Prompts that are continued together.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Tokens of a prompt.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt: u32,
    /// Tokens of a continuation.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 19))]
    pub new_tokens: u32,
    /// Timed repeats.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Repeats before those.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub warmup: u32,
    /// Seed of weights and prompts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// For people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Adapters on every projection.
    Lora,
    /// Everything.
    Full,
}

fn optims() -> impl TypedValueParser<Value = Optim> {
    let names = PossibleValuesParser::new(Optim::ALL.iter().map(|optim| optim.name()));
    names.map(|name| Optim::from_name(&name).unwrap_or_default())
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let inside = |x: &f64| *x > 0.0 && *x <= 1.0;
    text.parse().ok().filter(inside).ok_or_else(|| "a share is above 0 and at most 1".to_string())
}

fn lengths(text: &str) -> std::result::Result<(u32, u32), String> {
    let parts = text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let ordered = |&(a, b): &(u32, u32)| 2 <= a && a <= b;
    parts.filter(ordered).ok_or_else(|| "two lengths from 2 on, the shorter first, such as 128,640".to_string())
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
