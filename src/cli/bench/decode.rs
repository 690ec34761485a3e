//! `eyekern bench decode`: times generation.

use super::clock::Times;
use super::model::Weights;
use super::{Device, Dtype, Format, Site, Terminal, choice, header, model, object, peak};
use crate::backend::{Backend, ComputeDtype};
use crate::error::Result;
use crate::model::config::Spec;
use crate::model::decode::{Room, Session};
use crate::model::decoder::Decoder;
use crate::model::sample::Sampling;
use crate::random::{Purpose, Stream};
use clap::Args;
use serde_json::json;
use std::time::Instant;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern bench decode --shape 135m
  eyekern bench decode --shape 1b --batch 8 --prompt 512 --new-tokens 128 --format json

Each JSON line has the keys bench, engine, device, backend, shape, weights, batch, prompt, new_tokens, prefill_ms (time
to the first token of every prompt, median), tok_s (decoding speed of the whole batch after it, median), tok_s_min,
tok_s_max and peak_bytes.";

/// Arguments of `eyekern bench decode`.
#[derive(Args, Debug)]
pub struct DecodeArgs {
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
    /// Batch size: prompts decoded together.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Tokens per prompt.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt: u32,
    /// New tokens per prompt.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 19))]
    pub new_tokens: u32,
    /// Timed repeats.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Warm-up repeats.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub warmup: u32,
    /// Seed of the weights and the prompts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Output format; json prints one object per line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Generation from random prompts with a model with random weights.
pub struct Continuations<'a> {
    args: &'a DecodeArgs,
    /// The shape of the model.
    pub spec: Spec,
}

impl Continuations<'_> {
    /// The number format of products.
    pub fn dtype(&self) -> ComputeDtype {
        self.args.dtype.dtype
    }

    /// Reads the shape, so that an invalid shape is refused before a device is opened.
    pub fn new(args: &DecodeArgs) -> Result<Continuations<'_>> {
        let spec = model::spec(&args.shape)?;
        spec.check_length((args.prompt + args.new_tokens) as usize, args.shape.as_ref())?;
        Ok(Continuations { args, spec })
    }

    fn prompts(&self) -> Vec<Vec<u32>> {
        let args = self.args;
        let mut ids = Stream::new(args.seed, Purpose::Bench, 1);
        let mut id = || 4 + ids.below((self.spec.vocab.max(5) - 4) as u32);
        (0..args.batch).map(|_| (0..args.prompt).map(|_| id()).collect()).collect()
    }

    /// Times prefill and decoding, and prints a line.
    pub fn time<B: Backend>(self, b: &B, site: &Site<B>, out: &mut Terminal) -> Result {
        let args = self.args;
        if args.format == Format::Text {
            out.line(&header(site));
        }
        let prompts = self.prompts();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let source = model::init(args.seed, args.weights, args.dtype.dtype);
        let (length, more) = ((args.prompt + args.new_tokens) as usize, args.new_tokens as usize);
        let model = Decoder::build(b, self.spec, &source, None, length)?;
        let room = Room::of(prompts.iter().map(|p| p.len()), more);
        let mut session = Session::new(b, &model, room)?;
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for i in 0..args.warmup + args.repeats {
            let [first, rest] = continue_all(&mut session, &prompts, more)?;
            if i >= args.warmup {
                prefill.push(first);
                decode.push(rest);
            }
        }
        out.line(&line(args, site, b, Times::of(prefill), Times::of(decode)));
        Ok(())
    }
}

/// Seconds to the first token of each prompt, and for the tokens after it, by greedy decoding without an end token.
fn continue_all<B: Backend>(session: &mut Session<B>, prompts: &[&[u32]], more: usize) -> Result<[f64; 2]> {
    let greedy = |logits: &mut [f32]| Sampling::default().choose(logits, &[], 0).unwrap_or(0);
    let next = |logits: &mut [f32]| -> Vec<(usize, u32)> {
        let vocab = logits.len() / prompts.len();
        logits.chunks_exact_mut(vocab).map(greedy).enumerate().collect()
    };
    let start = Instant::now();
    let mut chosen = next(session.start(prompts, more)?);
    let first = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 1..more {
        chosen = next(session.pass(&chosen, &[])?);
    }
    Ok([first, start.elapsed().as_secs_f64()])
}

fn line<B: Backend>(args: &DecodeArgs, site: &Site<B>, b: &B, prefill: Times, decode: Times) -> String {
    // the first token of each prompt belongs to the prefill
    let tokens = f64::from(args.batch * (args.new_tokens - 1));
    let rate = |seconds: f64| tokens / seconds;
    match args.format {
        Format::Json => object(
            site,
            "decode",
            json!({
                "shape": args.shape, "weights": args.weights, "batch": args.batch, "prompt": args.prompt,
                "new_tokens": args.new_tokens,
                "prefill_ms": 1e3 * prefill.median, "tok_s": rate(decode.median),
                "tok_s_min": rate(decode.max), "tok_s_max": rate(decode.min), "peak_bytes": (site.meter.memory)(b),
            }),
        ),
        Format::Text => format!(
            "{} x {} tokens read in {:.1} ms, then {:.1} tok/s ({:.1} .. {:.1}){}",
            args.batch,
            args.prompt,
            1e3 * prefill.median,
            rate(decode.median),
            rate(decode.max),
            rate(decode.min),
            peak(site, b),
        ),
    }
}
