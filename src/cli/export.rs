//! `eyekern export`: merges an adapter into its model, or quantises a model, saves it in the Hugging Face layout, and
//! checks it.

use super::device::Threads;
use super::quantize::Quantize;
use super::terminal::Terminal;
use crate::backend::Backend;
use crate::backend::cpu::{Cpu, set_threads};
use crate::error::{Error, Result};
use crate::files;
use crate::model::decode::{Room, Session};
use crate::model::decoder::Decoder;
use crate::model::ends::{self, Aligned};
use crate::model::files::ModelFiles;
use crate::model::peft::AdapterFiles;
use crate::model::{save, save_nf4};
use crate::random::{Purpose, Stream};
use crate::train::resume;
use clap::{Args, ValueEnum};
use safetensors::Dtype as Stored;
use std::path::{Path, PathBuf};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern export --model DIR --adapter out --merge -o merged
  eyekern export --model DIR --adapter out --merge -o merged --dtype bfloat16
  eyekern export --model merged --quantize nf4 -o merged-nf4";

/// Arguments of `eyekern export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The model: a directory, or the id of a cached model.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// The PEFT adapter.
    #[arg(long, value_name = "DIR", requires = "merge")]
    pub adapter: Option<PathBuf>,
    /// Merge the adapter into the weights.
    #[arg(long, requires = "adapter")]
    pub merge: bool,
    /// Output directory; must not contain a model.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Data type of the saved weights.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    #[command(flatten)]
    pub quantize: Quantize,
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

/// Merges or quantises, saves, reads back and compares.
pub fn run(args: &ExportArgs, out: &mut Terminal) -> Result {
    let threads = args.threads.threads.into();
    set_threads(threads);
    let (adapter, quantizer) = match (&args.adapter, args.quantize.quantizer()) {
        (None, None) => {
            let why = "nothing to do: give --adapter with --merge, or --quantize nf4";
            return Err(Error::Usage(why.into()));
        }
        (Some(_), Some(_)) => {
            let why = "--merge and --quantize are two steps: merge first, then quantise the merged model";
            return Err(Error::Usage(why.into()));
        }
        (adapter, quantizer) => (adapter.as_deref(), quantizer),
    };
    let model = ModelFiles::open(&args.model)?.quantized(quantizer);
    if model.quantizer.is_some() && model.checkpoint.tensors().any(|(name, ..)| model.checkpoint.is_coded(name)) {
        return Err(Error::file(
            model.checkpoint.origin(),
            "its weights are in 4 bits already; give the 16-bit original",
        ));
    }
    let opened = adapter.map(|dir| AdapterFiles::open(dir, &model.spec, &model.checkpoint)).transpose()?;
    let sources = [model.dir.as_path(), adapter.unwrap_or(&model.dir)];
    resume::check_vacant(&args.output, sources)?;
    let dtype = match args.dtype {
        Dtype::Auto => model.checkpoint.main_dtype(),
        Dtype::Float32 => Stored::F32,
        Dtype::BFloat16 => Stored::BF16,
        Dtype::Float16 => Stored::F16,
    };
    let tokenizer = model.tokenizer(None, adapter)?;
    let config = model.dir.join(save::CONFIG);
    let ends = match adapter {
        Some(adapter) => {
            let learned = ends::learned(&model.dir, &model.config, adapter, tokenizer.as_ref())?;
            Some(Aligned::of(&config, &model.config, &sources, &learned)?)
        }
        None => None,
    };
    let cpu = Cpu::<f32>::new(threads)?;
    let positions = PROBE.min(model.spec.max_positions).max(2);
    let build = |files: &ModelFiles| Decoder::build(&cpu, files.spec.clone(), &files.values(), None, positions);
    let mut merged = build(&model)?;
    if let Some(adapter) = &opened {
        adapter.attach(&cpu, &mut merged)?;
    }
    let before = probe(&cpu, &merged, positions)?;
    let told = opened.iter().flat_map(|adapter| &adapter.note).chain(ends.iter().flat_map(|ends| &ends.note));
    told.for_each(|note| out.note(&format!("note: {note}")));
    if opened.is_some() {
        if model.is_coded() {
            let why =
                "the adapter is merged into decoded 4-bit weights; merging into the 16-bit original is more accurate";
            out.note(&format!("note: {}: {why}", model.checkpoint.origin().display()));
        }
        merged.merge(&cpu)?;
    }

    let (to, mut notes) = (args.output.as_path(), Vec::new());
    let made = !to.exists();
    let _lock = resume::lock(to, "output directory", &mut notes)?;
    notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let (name, limit) = (save::dtype_name(dtype), tolerance(dtype));
    // another process may have been there in the meantime
    let done = resume::check_vacant(to, sources).and_then(|()| {
        let mut apart = 0.0;
        files::publish(to, &save::OF_FULL, |dir| {
            let config = ends.as_ref().map_or(&model.config, |ends| &ends.config);
            match &model.quantizer {
                Some(quantizer) => save_nf4::write(&model, config, quantizer, dtype, dir)?,
                None => save::full(&cpu, &mut merged, config, dtype, dir)?,
            }
            save::copy_companions(&sources, dir)?;
            ends.as_ref().map_or(Ok(()), |ends| ends.write(dir))?;
            drop(merged);
            let written = ModelFiles::open(&dir.to_string_lossy())?;
            let after = probe(&cpu, &build(&written)?, positions)?;
            apart = distance(&before, &after, model.spec.vocab);
            check(apart, dtype, to)
        })?;
        Ok(apart)
    });
    resume::remove_lock(to)?;
    if made && done.is_err() {
        // only where nothing else has come to be in it
        let _ = std::fs::remove_dir(to);
    }
    let what = match adapter {
        Some(adapter) => format!("{} merged in {name}", adapter.display()),
        None => format!("{} in NF4, all else in {name}", args.model),
    };
    let than = if adapter.is_some() { "the unmerged model" } else { "the model quantised on load" };
    out.line(&format!(
        "{}: {what}; log p of a probe of {positions} tokens differs by {:.1e} from {than} (limit {limit:e})",
        to.display(),
        done?
    ));
    Ok(())
}

/// Refuses a saved model that is another than the one in memory.
fn check(apart: f64, dtype: Stored, to: &Path) -> Result {
    let limit = tolerance(dtype);
    if apart <= limit {
        return Ok(());
    }
    let why = format!(
        "log p of a probe differs by {apart:.1e} from the model before it was saved, more than the {limit:e} that {} \
         allows; nothing is saved, export as float32",
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
