//! `eyekern export`: an adapter folded into its model, saved as Hugging Face saves one and read back.

use super::terminal::Terminal;
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::error::{Error, Result};
use crate::model::adapter::AdapterFiles;
use crate::model::decode::{Room, Session};
use crate::model::decoder::{Decoder, Init};
use crate::model::save;
use crate::random::{Purpose, Stream};
use crate::train::prepare::ModelFiles;
use crate::train::resume;
use clap::{Args, ValueEnum};
use safetensors::Dtype as Stored;
use std::path::PathBuf;

/// Examples for its help.
pub const HELP: &str = "\
Examples:
  eyekern export --model DIR --adapter out --merge -o merged
  eyekern export --model DIR --adapter out --merge -o merged --dtype bfloat16";

/// What `eyekern export` is asked for.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The model: a directory, or the id of a cached one.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// The adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Add the adapter to the weights.
    #[arg(long, required = true)]
    pub merge: bool,
    /// Where the model goes: a directory that holds none yet.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// What its weights are stored as; auto is what most of the base model's are.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
}

/// What weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Dtype {
    /// What most of the base model's weights are.
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits, 8 of them the exponent.
    BFloat16,
    /// 16 bits, 5 of them the exponent.
    Float16,
}

/// Tokens of the probe that the merged model is checked with.
const PROBE: usize = 16;

/// Merges, saves, reads back and compares.
pub fn run(args: &ExportArgs, out: &mut Terminal) -> Result {
    let files = ModelFiles::open(&args.model)?;
    let adapter = AdapterFiles::open(&args.adapter)?;
    resume::check_vacant(&args.output, [&files.dir, &args.adapter])?;
    let dtype = match args.dtype {
        Dtype::Auto => files.checkpoint.main_dtype(),
        Dtype::Float32 => Stored::F32,
        Dtype::BFloat16 => Stored::BF16,
        Dtype::Float16 => Stored::F16,
    };
    let cpu = Cpu::<f32>::new(0)?;
    let positions = PROBE.min(files.spec.max_positions).max(2);
    let build =
        |files: &ModelFiles| Decoder::build(&cpu, files.spec.clone(), &Init::File(&files.checkpoint), None, positions);
    let mut model = build(&files)?;
    adapter.attach(&cpu, &mut model)?;
    let before = probe(&cpu, &model, positions)?;
    model.merge(&cpu)?;
    save::full(&cpu, &mut model, &files.config, dtype, &args.output)?;
    save::copy_companions(&[&files.dir, &args.adapter], &args.output)?;
    drop(model);

    let merged = ModelFiles::open(&args.output.to_string_lossy())?;
    let after = probe(&cpu, &build(&merged)?, positions)?;
    let apart = distance(&before, &after, files.spec.vocab);
    let limit = tolerance(dtype);
    let name = save::dtype_name(dtype);
    if apart <= limit {
        out.line(&format!(
            "{}: {} merged in {name}; log p of a probe of {positions} tokens is {apart:.1e} from the unmerged model's \
             (at most {limit:e})",
            args.output.display(),
            args.adapter.display()
        ));
        return Ok(());
    }
    let why = format!(
        "log p of a probe is {apart:.1e} from the unmerged model's, and {limit:e} is what {name} allows; the files \
         stay, but do not use them: export as float32"
    );
    Err(Error::file(&args.output, why))
}

/// Log p of every token at every position of a probe of pseudo-random ids, `[positions - 1, vocab]`.
fn probe<B: Backend>(b: &B, model: &Decoder<B>, positions: usize) -> Result<Vec<f64>> {
    let mut stream = Stream::new(0, Purpose::Bench, 0);
    let ids: Vec<u32> = (0..positions).map(|_| stream.below(model.spec.vocab as u32)).collect();
    let prompts: Vec<&[u32]> = (1..positions).map(|n| &ids[..n]).collect();
    let mut session = Session::new(b, model, Room::of(1..positions, 0))?;
    let logits = session.start(&prompts, 0)?;
    let rows = logits.chunks_exact(model.spec.vocab);
    Ok(rows
        .flat_map(|row| {
            let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = most + row.iter().map(|z| (z - most).exp()).sum::<f64>().ln();
            row.into_iter().map(move |z| z - lse)
        })
        .collect())
}

/// What rounding the weights may move the probe by ([`distance`]); an adapter in the wrong place moves it by whole
/// nats. docs/generate.md has what was measured.
fn tolerance(dtype: Stored) -> f64 {
    match dtype {
        Stored::BF16 => 0.15,
        Stored::F16 => 0.02,
        _ => 1e-4,
    }
}

/// The expectation of |difference of log p| under the first, over the positions.
fn distance(before: &[f64], after: &[f64], vocab: usize) -> f64 {
    let apart: f64 = before.iter().zip(after).map(|(a, b)| a.exp() * (a - b).abs()).sum();
    apart / (before.len() / vocab) as f64
}
