//! `eyekern bench kernels`: times each operation of the backend on its own.

use super::case::Case;
use super::clock::{Times, measure};
use super::lab::Lab;
use super::sizes::{Size, Sizes};
use super::{Device, Dtype, Format, Site, Terminal, attention, head, header, object, optim, products, rows};
use crate::backend::Backend;
use crate::cli::device::Place;
use crate::error::{Error, Result};
use clap::Args;
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
    #[command(flatten)]
    pub dtype: Dtype,
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
