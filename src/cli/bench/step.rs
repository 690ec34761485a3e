//! `eyekern bench step`: times training steps.

use super::clock::Times;
use super::load::{Kind, Load};
use super::model::Weights;
use super::{Device, Dtype, Format, Site, Terminal, choice, header, model, object, peak};
use crate::backend::moments::Optim;
use crate::backend::{AdamW, Backend, ComputeDtype};
use crate::choices::Choice;
use crate::error::{Error, Result};
use crate::model::adapter::{AdapterInit, LoraConfig, Targets};
use crate::model::config::Spec;
use crate::model::decoder::Decoder;
use crate::train::step::{Capacity, Machine, StepSettings, Update};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::time::Instant;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern bench step --shape 15m --batch 4 --seq 256
  eyekern bench step --shape 1b --rows full,packed --active 1.0,0.35 --format json

Each JSON line has the keys bench, engine, device, backend, shape, weights, method, optim, rank, batch, seq, rows,
active, slots, real_tokens, supervised_tokens, step_ms (median), step_ms_min, step_ms_max, tok_s, slots_s, supervised_s,
peak_bytes, trained and loss.";

/// Arguments of `eyekern bench step`.
#[derive(Args, Debug)]
pub struct StepArgs {
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    #[command(flatten)]
    pub dtype: Dtype,
    /// Storage of the weights: auto is the number format of products.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = choice::<Weights>())]
    pub weights: Weights,
    /// Shape of the model: 1b, 135m, 15m, tiny, or a directory with a config.json.
    #[arg(long, value_name = "SHAPE", default_value = "tiny")]
    pub shape: String,
    /// Training method.
    #[arg(long, value_enum, default_value_t = Method::Lora)]
    pub method: Method,
    /// Optimiser.
    #[arg(long, value_name = "NAME", default_value = Optim::AdamW.name(), value_parser = choice::<Optim>())]
    pub optim: Optim,
    /// LoRA rank, on every projection.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub rank: u32,
    /// Batch size: rows per step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Sequence length: tokens per row.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub seq: u32,
    /// Shares of supervised tokens; each is timed separately.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "1.0", value_parser = share)]
    pub active: Vec<f64>,
    /// Kinds of rows; each is timed separately.
    #[arg(long, value_enum, value_name = "KIND,..", value_delimiter = ',', default_value = "full")]
    pub rows: Vec<Kind>,
    /// Minimum and maximum segment length of rows that are not full.
    #[arg(long, value_name = "MIN,MAX", default_value = "128,640", value_parser = lengths)]
    pub seg_lens: (u32, u32),
    /// Timed steps.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Warm-up steps.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
    /// Seed of the weights and the rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Output format; json prints one object per line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// The training method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// LoRA adapters on every projection.
    Lora,
    /// All weights.
    Full,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let inside = |x: &f64| *x > 0.0 && *x <= 1.0;
    text.parse().ok().filter(inside).ok_or_else(|| "give shares above 0 and at most 1".to_string())
}

fn lengths(text: &str) -> std::result::Result<(u32, u32), String> {
    let parts = text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let ordered = |&(a, b): &(u32, u32)| 2 <= a && a <= b;
    parts
        .filter(ordered)
        .ok_or_else(|| "give two lengths of at least 2, the shorter first, such as 128,640".to_string())
}

/// AdamW with the defaults of PyTorch and clipping at 1, as for the other engines.
const UPDATE: Update =
    Update { adamw: AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }, lr: 1e-4, max_norm: 1.0 };

/// Steps of one model on every selected kind of rows and share of supervised tokens.
pub struct Steps<'a> {
    args: &'a StepArgs,
    /// The shape of the model.
    pub spec: Spec,
}

impl Steps<'_> {
    /// The number format of products.
    pub fn dtype(&self) -> ComputeDtype {
        self.args.dtype.dtype
    }

    /// Reads the shape, so that an invalid shape is refused before a device is opened.
    pub fn new(args: &StepArgs) -> Result<Steps<'_>> {
        if (args.method, args.weights) == (Method::Full, Weights::Nf4) {
            let why = "--weights nf4 is for --method lora: weights in 4 bits are not trained";
            return Err(Error::Usage(why.into()));
        }
        let spec = model::spec(&args.shape)?;
        spec.check_length(args.seq as usize, args.shape.as_ref())?;
        Ok(Steps { args, spec })
    }

    fn machine<B: Backend>(&self, b: B) -> Result<(Machine<B>, usize)> {
        let args = self.args;
        let source = model::init(args.seed, args.weights, args.dtype.dtype);
        let (positions, full) = (args.seq as usize, args.method == Method::Full);
        let mut model = Decoder::build(&b, self.spec.clone(), &source, full.then_some(args.optim), positions)?;
        if !full {
            let (r, targets) = (args.rank as usize, Targets::AllLinear);
            let lora = LoraConfig { r, alpha: 2.0 * r as f64, dropout: 0.0, rslora: false, targets };
            model.attach(&b, &lora, &AdapterInit::Fresh { seed: args.seed }, Some(args.optim))?;
        }
        let trained = model.trained().iter().map(|p| p.len()).sum();
        let capacity = Capacity { tokens: args.batch as usize * args.seq as usize, supervised: 0 };
        Ok((Machine::new(b, model, StepSettings { capacity, seed: args.seed, ..StepSettings::default() })?, trained))
    }

    /// Times steps and prints a line for each kind of rows and share of labels.
    pub fn time<B: Backend>(&self, b: B, site: &Site<B>, out: &mut Terminal) -> Result {
        let args = self.args;
        if args.format == Format::Text {
            out.line(&header(site));
        }
        let (mut machine, trained) = self.machine(b)?;
        let (vocab, seq) = (machine.model.spec.vocab, args.seq as usize);
        let lengths = (args.seg_lens.0 as usize, args.seg_lens.1 as usize);
        let load = Load { batch: args.batch as usize, seq, vocab, lengths, seed: args.seed };
        let mut step = 0;
        for (&kind, &active) in args.rows.iter().flat_map(|kind| args.active.iter().map(move |share| (kind, share))) {
            let (batch, real) = load.batch(kind, active);
            let supervised = batch.rows.len();
            let batches = [batch];
            let (mut seconds, mut loss) = (Vec::new(), 0.0);
            for i in 0..args.warmup + args.steps {
                step += 1;
                let start = Instant::now();
                loss = machine.step(&batches, step, &UPDATE)?.loss;
                if i >= args.warmup {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
            let row = Row { kind, active, real, supervised, times: Times::of(seconds), trained, loss };
            out.line(&row.line(args, site, &machine.backend));
        }
        Ok(())
    }
}

/// One measurement.
struct Row {
    kind: Kind,
    active: f64,
    real: usize,
    supervised: usize,
    times: Times,
    trained: usize,
    loss: f64,
}

impl Row {
    fn line<B: Backend>(&self, args: &StepArgs, site: &Site<B>, b: &B) -> String {
        let slots = args.batch as usize * args.seq as usize;
        let [median, min, max] = [self.times.median, self.times.min, self.times.max].map(|t| 1e3 * t);
        let rate = |n: usize| n as f64 / self.times.median;
        match args.format {
            Format::Json => object(
                site,
                "step",
                json!({
                    "shape": args.shape, "weights": args.weights,
                    "method": if args.method == Method::Full { "full" } else { "lora" },
                    "optim": args.optim,
                    "rank": if args.method == Method::Full { None } else { Some(args.rank) },
                    "batch": args.batch, "seq": args.seq, "rows": self.kind.name(), "active": self.active,
                    "slots": slots, "real_tokens": self.real, "supervised_tokens": self.supervised,
                    "step_ms": median, "step_ms_min": min, "step_ms_max": max,
                    "tok_s": rate(self.real), "slots_s": rate(slots), "supervised_s": rate(self.supervised),
                    "peak_bytes": (site.meter.memory)(b), "trained": self.trained, "loss": self.loss,
                }),
            ),
            Format::Text => format!(
                "{} rows, {} of {slots} slots are tokens, {} supervised: {median:.1} ms ({min:.1} .. {max:.1}), \
                 {:.0} tok/s, {:.0} supervised/s, loss {:.4}{}",
                self.kind.name(),
                self.real,
                self.supervised,
                rate(self.real),
                rate(self.supervised),
                self.loss,
                peak(site, b),
            ),
        }
    }
}
