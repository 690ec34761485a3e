//! `eyekern bench kernels`: times each operation of the backend on its own.

use super::case::Case;
use super::clock::{Times, measure};
use super::lab::Lab;
use super::{Device, Format, Site, Terminal, attention, head, header, object, optim, products, rows};
use crate::backend::{Backend, Heads};
use crate::cli::device::Place;
use crate::error::{Error, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern bench kernels
  eyekern bench kernels --only attention,head --size full --format json

Each JSON line has the keys bench, engine, device, backend, case, shape, median_us, min_us, max_us, bytes, flops, gb_s,
tflop_s and memory_share: the bandwidth relative to the faster of the cases `copy` and `zero` of the same run.";

/// Arguments of `eyekern bench kernels`.
#[derive(Args, Debug)]
pub struct KernelsArgs {
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Time only the cases with these names.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Size of the cases. Default: suited to the device.
    #[arg(long, value_enum)]
    pub size: Option<Size>,
    /// Timed repeats per case.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Output format; json prints one object per line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// The size of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// A smoke test.
    Tiny,
    /// For a CPU.
    Small,
    /// Llama-3.2-1B with 16,384 tokens, for a GPU.
    Full,
}

/// The shapes of a size.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// Hidden features.
    pub hidden: usize,
    /// Inner features of the MLP.
    pub inner: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Query heads.
    pub q: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Features of a head.
    pub dim: usize,
    /// Length of an example; divides `tokens`.
    pub length: usize,
    /// Rank of an adapter.
    pub rank: usize,
    /// Parameters of the optimiser's step.
    pub parameters: usize,
    /// Shares of active rows.
    pub active: &'static [f64],
    /// Query heads, key heads, features and length of each attention; length 0 is packed segments.
    pub attention: &'static [(usize, usize, usize, usize)],
    /// Shortest and longest packed segment.
    pub segments: (usize, usize),
}

/// Features of a head of the largest cases; the CUDA kernels have every width that is timed.
pub const HEAD_DIM: usize = FULL.dim;

const FULL: Sizes = Sizes {
    tokens: 16384,
    hidden: 2048,
    inner: 8192,
    vocab: 128_256,
    q: 32,
    kv: 8,
    dim: 64,
    length: 1024,
    rank: 32,
    parameters: 22_544_384,
    active: &[1.0, 0.35],
    attention: &[
        (32, 8, 64, 256),
        (32, 8, 64, 512),
        (32, 8, 64, 1024),
        (32, 8, 64, 2048),
        (32, 8, 64, 4096),
        (32, 8, 64, 0),
        (16, 8, 128, 256),
        (16, 8, 128, 1024),
        (16, 8, 128, 4096),
        (16, 8, 128, 0),
        (32, 32, 80, 1024),
        (8, 1, 256, 1024),
    ],
    segments: (100, 300),
};

const SMALL: Sizes = Sizes {
    tokens: 1024,
    hidden: 576,
    inner: 1536,
    vocab: 8192,
    q: 9,
    kv: 3,
    dim: 64,
    length: 256,
    rank: 16,
    parameters: 1 << 20,
    active: &[1.0, 0.35],
    attention: &[(9, 3, 64, 256), (9, 3, 64, 1024), (9, 3, 64, 0), (4, 2, 128, 256)],
    segments: (100, 300),
};

const TINY: Sizes = Sizes {
    tokens: 48,
    hidden: 32,
    inner: 64,
    vocab: 96,
    q: 4,
    kv: 2,
    dim: 8,
    length: 24,
    rank: 8,
    parameters: 1000,
    active: &[0.5],
    attention: &[(4, 2, 8, 24), (2, 1, 16, 0)],
    segments: (5, 15),
};

impl Sizes {
    fn of(size: Size) -> Sizes {
        match size {
            Size::Tiny => TINY,
            Size::Small => SMALL,
            Size::Full => FULL,
        }
    }

    /// The attention of the model over this many tokens.
    pub fn heads(&self, tokens: usize) -> Heads {
        Heads { tokens, q: self.q, kv: self.kv, dim: self.dim, scale: 1.0 / (self.dim as f64).sqrt() }
    }

    /// Tokens and heads, in words.
    pub fn shape(&self) -> String {
        format!("{} tokens, {}/{} heads of {}", self.tokens, self.q, self.kv, self.dim)
    }
}

/// The largest number of sets of inputs.
const SETS: u64 = 16;

/// The size of cases that suits a device, and bytes of input that exceed its caches: cases rotate among as many sets of
/// inputs as make this up.
fn suited(place: Place) -> (Size, u64) {
    match place {
        Place::Cpu => (Size::Small, 128 << 20),
        Place::Gpu(()) => (Size::Full, 256 << 20),
        #[cfg(feature = "emulator")]
        Place::Emulated => (Size::Tiny, 0),
    }
}

/// Times the selected cases.
pub fn time<B: Backend + 'static>(args: &KernelsArgs, b: &B, site: &Site<B>, out: &mut Terminal) -> Result {
    let (size, cache) = suited(site.place);
    let cases = wanted(all::<B>(Sizes::of(args.size.unwrap_or(size))), &args.only)?;
    if args.format == Format::Text {
        out.line(&header(site));
        out.line(&format!(
            "{:15} {:>12} {:>23} {:>9} {:>9} {:>7}  shape",
            "case", "us", "min .. max", "GB/s", "TFLOP/s", "memory"
        ));
    }
    let mut best = 0.0;
    for case in &cases {
        // two at least: one set may fit where two do not
        let sets = (cache / (case.cost.bytes as u64).max(1)).clamp(1, SETS - 1) + 1;
        let times = timed(b, case, sets as usize, args.repeats)?;
        let rate = case.cost.bytes as f64 / times.median;
        if FLOOR.contains(&case.name) {
            best = f64::max(best, rate);
        }
        let wanted = args.only.is_empty() || args.only.iter().any(|name| name == case.name);
        if wanted {
            out.line(&line(site, case, times, (best > 0.0).then_some(rate / best), args.format));
        }
    }
    Ok(())
}

/// The fastest cases that go through memory, as a reference for the others: they always run, and first.
const FLOOR: [&str; 2] = ["zero", "copy"];

fn all<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    [rows::cases(s), products::cases(s), attention::cases(s), head::cases(s), optim::cases(s)]
        .into_iter()
        .flatten()
        .collect()
}

/// Keeps the cases with these names and the floor; all cases without names.
fn wanted<B: Backend>(cases: Vec<Case<B>>, only: &[String]) -> Result<Vec<Case<B>>> {
    if let Some(name) = only.iter().find(|name| !cases.iter().any(|case| case.name == *name)) {
        let mut names: Vec<&str> = Vec::new();
        for case in &cases {
            if !names.contains(&case.name) {
                names.push(case.name);
            }
        }
        return Err(Error::Usage(format!("--only: unknown case {name}; the cases are {}", names.join(", "))));
    }
    let kept = |name: &str| only.is_empty() || FLOOR.contains(&name) || only.iter().any(|one| one == name);
    Ok(cases.into_iter().filter(|case| kept(case.name)).collect())
}

fn timed<B: Backend>(b: &B, case: &Case<B>, sets: usize, repeats: u32) -> Result<Times> {
    let mut lab = Lab::new(b);
    let mut calls = (0..sets).map(|_| (case.make)(&mut lab)).collect::<Result<Vec<_>>>()?;
    measure(b, &mut calls, repeats)
}

fn line<B: Backend>(site: &Site<B>, case: &Case<B>, times: Times, share: Option<f64>, format: Format) -> String {
    let [median, min, max] = [times.median, times.min, times.max].map(|t| t * 1e6);
    let (bytes, flops) = (case.cost.bytes as f64, case.cost.flops as f64);
    let (rate, speed) = (bytes / times.median / 1e9, flops / times.median / 1e12);
    match format {
        Format::Json => object(
            site,
            "kernel",
            json!({
                "case": case.name, "shape": case.shape,
                "median_us": median, "min_us": min, "max_us": max,
                "bytes": case.cost.bytes, "flops": case.cost.flops,
                "gb_s": rate, "tflop_s": speed, "memory_share": share,
            }),
        ),
        Format::Text => {
            let speed = if case.cost.flops > 0 { format!("{speed:.3}") } else { String::new() };
            let share = share.map_or(String::new(), |s| format!("{:.0} %", 100.0 * s));
            let range = format!("{min:.1} .. {max:.1}");
            format!("{:15} {median:>12.1} {range:>23} {rate:>9.1} {speed:>9} {share:>7}  {}", case.name, case.shape)
        }
    }
}
