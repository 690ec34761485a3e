//! `eyekern bench step`.

use super::clock::Times;
use super::load::{Kind, Load};
use super::site::Site;
use super::{Format, Job, Method, StepArgs, Terminal, model, object};
use crate::backend::AdamW;
use crate::error::Result;
use crate::model::adapter::{AdapterInit, LoraConfig, Targets};
use crate::model::config::Spec;
use crate::model::decoder::{Decoder, Init};
use crate::train::step::{Capacity, Machine, StepSettings, Update};
use serde_json::json;
use std::time::Instant;

/// AdamW as PyTorch has it by default, with clipping at 1: what the other engines are given too.
const UPDATE: Update =
    Update { adamw: AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }, lr: 1e-4, max_norm: 1.0 };

/// Steps of one model on every kind of rows and share of labels that was asked for.
pub struct Steps<'a> {
    args: &'a StepArgs,
    spec: Spec,
}

impl Steps<'_> {
    /// Reads the shape, so that a wrong one is told before a device is opened.
    pub fn new(args: &StepArgs) -> Result<Steps<'_>> {
        let spec = model::spec(&args.shape)?;
        spec.check_length(args.seq as usize, args.shape.as_ref())?;
        Ok(Steps { args, spec })
    }

    fn machine<B: Site>(&self, b: B) -> Result<(Machine<B>, usize)> {
        let args = self.args;
        let source = Init::Random { seed: args.seed, std: 0.02 };
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
}

impl Job for Steps<'_> {
    fn on<B: Site>(self, b: B, out: &mut Terminal) -> Result {
        let args = self.args;
        if args.format == Format::Text {
            out.line(&format!("{}, {}", b.device(), b.backend()));
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
            out.line(&row.line(args, &machine.backend));
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
    fn line<B: Site>(&self, args: &StepArgs, b: &B) -> String {
        let slots = args.batch as usize * args.seq as usize;
        let [median, min, max] = [self.times.median, self.times.min, self.times.max].map(|t| 1e3 * t);
        let rate = |n: usize| n as f64 / self.times.median;
        match args.format {
            Format::Json => object(
                b,
                "step",
                json!({
                    "shape": args.shape,
                    "method": if args.method == Method::Full { "full" } else { "lora" },
                    "optim": args.optim,
                    "rank": if args.method == Method::Full { None } else { Some(args.rank) },
                    "batch": args.batch, "seq": args.seq, "rows": self.kind.name(), "active": self.active,
                    "slots": slots, "real_tokens": self.real, "supervised_tokens": self.supervised,
                    "step_ms": median, "step_ms_min": min, "step_ms_max": max,
                    "tok_s": rate(self.real), "slots_s": rate(slots), "supervised_s": rate(self.supervised),
                    "peak_bytes": b.peak(), "trained": self.trained, "loss": self.loss,
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
                b.peak().map_or(String::new(), |n| format!(", peak {:.2} GiB", n as f64 / (1u64 << 30) as f64)),
            ),
        }
    }
}
