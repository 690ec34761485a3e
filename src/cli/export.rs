//! `eyekern export`: merges an adapter into its model, saves the model in the Hugging Face layout, and checks it.

use super::terminal::Terminal;
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::error::{Error, Result};
use crate::model::decode::{Room, Session};
use crate::model::decoder::{Decoder, Init};
use crate::model::ends::{self, Aligned};
use crate::model::files::ModelFiles;
use crate::model::peft::AdapterFiles;
use crate::model::save;
use crate::random::{Purpose, Stream};
use crate::train::resume;
use clap::{Args, ValueEnum};
use safetensors::Dtype as Stored;
use std::path::PathBuf;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern export --model DIR --adapter out --merge -o merged
  eyekern export --model DIR --adapter out --merge -o merged --dtype bfloat16";

/// Arguments of `eyekern export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The model: a directory, or the id of a cached model.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// The PEFT adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Merge the adapter into the weights.
    #[arg(long, required = true)]
    pub merge: bool,
    /// Output directory; must not contain a model.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Data type of the saved weights.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
}

/// The data type of saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Dtype {
    /// The most frequent data type of the base model.
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with an exponent of 8 bits.
    BFloat16,
    /// 16 bits with an exponent of 5 bits.
    Float16,
}

/// Tokens of the probe that checks the merged model.
const PROBE: usize = 16;

/// Merges, saves, reads back and compares.
pub fn run(args: &ExportArgs, out: &mut Terminal) -> Result {
    let files = ModelFiles::open(&args.model)?;
    let adapter = AdapterFiles::open(&args.adapter, &files.spec, &files.checkpoint)?;
    resume::check_vacant(&args.output, [&files.dir, &args.adapter])?;
    let dtype = match args.dtype {
        Dtype::Auto => files.checkpoint.main_dtype(),
        Dtype::Float32 => Stored::F32,
        Dtype::BFloat16 => Stored::BF16,
        Dtype::Float16 => Stored::F16,
    };
    let folders = [files.dir.as_path(), &args.adapter];
    let tokenizer = files.tokenizer(None, Some(&args.adapter))?;
    let learned = ends::learned(&files.dir, &files.config, &args.adapter, tokenizer.as_ref())?;
    let ends = Aligned::of(&files.dir.join(save::CONFIG), &files.config, &folders, &learned)?;
    let cpu = Cpu::<f32>::new(0)?;
    let positions = PROBE.min(files.spec.max_positions).max(2);
    let build =
        |files: &ModelFiles| Decoder::build(&cpu, files.spec.clone(), &Init::File(&files.checkpoint), None, positions);
    let mut model = build(&files)?;
    adapter.attach(&cpu, &mut model)?;
    let before = probe(&cpu, &model, positions)?;
    model.merge(&cpu)?;
    save::full(&cpu, &mut model, &ends.config, dtype, &args.output)?;
    save::copy_companions(&folders, &args.output)?;
    ends.write(&args.output)?;
    adapter.note.iter().chain(&ends.note).for_each(|note| out.note(&format!("note: {note}")));
    drop(model);

    let merged = ModelFiles::open(&args.output.to_string_lossy())?;
    let after = probe(&cpu, &build(&merged)?, positions)?;
    let apart = distance(&before, &after, files.spec.vocab);
    let limit = tolerance(dtype);
    let name = save::dtype_name(dtype);
    if apart <= limit {
        out.line(&format!(
            "{}: {} merged in {name}; log p of a probe of {positions} tokens differs by {apart:.1e} from the unmerged \
             model (limit {limit:e})",
            args.output.display(),
            args.adapter.display()
        ));
        return Ok(());
    }
    let why = format!(
        "log p of a probe differs by {apart:.1e} from the unmerged model, more than the {limit:e} that {name} allows; \
         do not use these files, and export as float32"
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

/// The largest [`distance`] that rounding the weights may cause. An adapter in the wrong place causes whole nats.
/// docs/generate.md has measurements.
fn tolerance(dtype: Stored) -> f64 {
    match dtype {
        Stored::BF16 => 0.15,
        Stored::F16 => 0.02,
        _ => 1e-4,
    }
}

/// The mean over positions of the expected |difference of log p| under `before`.
fn distance(before: &[f64], after: &[f64], vocab: usize) -> f64 {
    let apart: f64 = before.iter().zip(after).map(|(a, b)| a.exp() * (a - b).abs()).sum();
    apart / (before.len() / vocab) as f64
}
