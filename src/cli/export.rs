//! `eyekern export`: merges an adapter into its model, saves the model in the Hugging Face layout, and checks it.

use super::device::Threads;
use super::terminal::Terminal;
use crate::backend::Backend;
use crate::backend::cpu::{Cpu, set_threads};
use crate::error::{Error, Result};
use crate::files;
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
use std::path::{Path, PathBuf};

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
    #[command(flatten)]
    pub threads: Threads,
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
    let threads = args.threads.threads.into();
    set_threads(threads);
    let model_files = ModelFiles::open(&args.model)?;
    let adapter = AdapterFiles::open(&args.adapter, &model_files.spec, &model_files.checkpoint)?;
    let sources = [model_files.dir.as_path(), &args.adapter];
    resume::check_vacant(&args.output, sources)?;
    let dtype = match args.dtype {
        Dtype::Auto => model_files.checkpoint.main_dtype(),
        Dtype::Float32 => Stored::F32,
        Dtype::BFloat16 => Stored::BF16,
        Dtype::Float16 => Stored::F16,
    };
    let tokenizer = model_files.tokenizer(None, Some(&args.adapter))?;
    let learned = ends::learned(&model_files.dir, &model_files.config, &args.adapter, tokenizer.as_ref())?;
    let ends = Aligned::of(&model_files.dir.join(save::CONFIG), &model_files.config, &sources, &learned)?;
    let cpu = Cpu::<f32>::new(threads)?;
    let positions = PROBE.min(model_files.spec.max_positions).max(2);
    let build =
        |files: &ModelFiles| Decoder::build(&cpu, files.spec.clone(), &Init::File(&files.checkpoint), None, positions);
    let mut model = build(&model_files)?;
    adapter.attach(&cpu, &mut model)?;
    let before = probe(&cpu, &model, positions)?;
    model.merge(&cpu)?;
    adapter.note.iter().chain(&ends.note).for_each(|note| out.note(&format!("note: {note}")));

    let (to, mut notes) = (args.output.as_path(), Vec::new());
    let made = !to.exists();
    let _lock = resume::lock(to, "output directory", &mut notes)?;
    notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let name = save::dtype_name(dtype);
    // another process may have been there in the meantime
    let done = resume::check_vacant(to, sources).and_then(|()| {
        let mut apart = 0.0;
        files::publish(to, &save::OF_FULL, |dir| {
            save::full(&cpu, &mut model, &ends.config, dtype, dir)?;
            save::copy_companions(&sources, dir)?;
            ends.write(dir)?;
            drop(model);
            let merged = ModelFiles::open(&dir.to_string_lossy())?;
            let after = probe(&cpu, &build(&merged)?, positions)?;
            apart = distance(&before, &after, model_files.spec.vocab);
            check(apart, dtype, to)
        })?;
        Ok(apart)
    });
    resume::remove_lock(to)?;
    if made && done.is_err() {
        // only where nothing else has come to be in it
        let _ = std::fs::remove_dir(to);
    }
    let (apart, limit) = (done?, tolerance(dtype));
    out.line(&format!(
        "{}: {} merged in {name}; log p of a probe of {positions} tokens differs by {apart:.1e} from the unmerged \
         model (limit {limit:e})",
        to.display(),
        args.adapter.display()
    ));
    Ok(())
}

/// Refuses a merged model that is not the unmerged one.
fn check(apart: f64, dtype: Stored, to: &Path) -> Result {
    let limit = tolerance(dtype);
    if apart <= limit {
        return Ok(());
    }
    let why = format!(
        "log p of a probe differs by {apart:.1e} from the unmerged model, more than the {limit:e} that {} allows; \
         nothing is saved, export as float32",
        save::dtype_name(dtype)
    );
    Err(Error::file(to, why))
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
