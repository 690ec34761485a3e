//! `eyekern generate`: generates text to the terminal, or rows to a file.

pub(super) mod job;
pub(super) mod rows;

use super::Device;
use super::device::{self, Dtype, Threads};
use super::quantize::Quantize;
use super::terminal::Terminal;
use crate::backend::cpu::set_threads;
use crate::data::corpus::DataSource;
use crate::data::requests::{self, Prompt};
use crate::data::template::Task;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files;
use crate::model::decode;
use crate::model::ends;
use crate::model::files::ModelFiles;
use crate::model::peft::AdapterFiles;
use crate::model::sample::Sampling;
use clap::Args;
use job::Generation;
use rows::Output;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern generate --model DIR --adapter out --prompt 'int add(int a, int b) {'
  eyekern generate --model DIR --task translation --file Account.java --stop '### '
  eyekern generate --model DIR --adapter out --data test.jsonl -o generated.jsonl --batch-size 16

Without --prompt, --file or --data, the prompt is read from standard input. docs/generate.md describes the fields of
the output.";

/// Arguments of `eyekern generate`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("source").args(["prompt", "file", "data"]))]
pub struct GenerateArgs {
    /// The model: a directory, or the id of a cached model.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// A PEFT adapter for the model.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The prompt.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// A file with the prompt.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Rows of prompts in the formats of training data: a JSONL file, or two parallel text files.
    #[arg(long, value_name = "ROWS.jsonl", num_args = 1..=2, requires = "output")]
    pub data: Vec<PathBuf>,
    /// Output file for the generated rows: one JSON object per line.
    #[arg(short, long, value_name = "OUT.jsonl", requires = "data")]
    pub output: Option<PathBuf>,
    /// Overwrite an existing output file instead of resuming after its last complete line.
    #[arg(long, requires = "output")]
    pub overwrite: bool,
    /// Prompt template for code: none, completion, translation, summarization or copy.
    #[arg(long, value_name = "TASK", default_value = "none", value_parser = super::task)]
    pub task: Task,
    /// Maximum number of new tokens per prompt.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub max_new_tokens: u32,
    /// Sampling temperature; 0 is greedy decoding.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Sample from the K most likely tokens.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Sample from the most likely tokens with a total probability of P (nucleus sampling).
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Repetition penalty: logits of earlier tokens are divided by R, negative logits multiplied by R.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    pub repetition_penalty: f32,
    /// Sampling seed; 0 by default.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Stop before this text. May be repeated.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Batch size: rows generated at the same time. The next row takes the place of a row that has ended.
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    #[command(flatten)]
    pub dtype: Dtype,
    #[command(flatten)]
    pub quantize: Quantize,
    #[command(flatten)]
    pub threads: Threads,
}

/// Reads and checks the inputs, then generates.
pub fn run(args: &GenerateArgs, out: &mut Terminal) -> Result {
    let threads = args.threads.threads.into();
    set_threads(threads);
    let sampling = sampling(args)?;
    if args.stop.iter().any(String::is_empty) {
        return Err(Error::Usage("--stop is empty, so every text would end at once; give the text to stop at".into()));
    }
    let files = ModelFiles::open(&args.model)?.quantized(args.quantize.quantizer());
    let adapter =
        args.adapter.as_deref().map(|dir| AdapterFiles::open(dir, &files.spec, &files.checkpoint)).transpose()?;
    adapter.iter().flat_map(|a| &a.note).for_each(|note| out.note(&format!("note: {note}")));
    let tokenizer = files.tokenizer(None, args.adapter.as_deref())?;
    if let (None, false) = (&tokenizer, args.stop.is_empty()) {
        return Err(Error::file(&files.dir, "there is no tokenizer.json, which --stop requires; omit --stop"));
    }
    for note in tokenizer.iter().flat_map(|tokenizer| tokenizer.notes()) {
        out.note(&format!("note: {note}"));
    }
    let ends = ends::all(&files.dir, &files.config, args.adapter.as_deref(), tokenizer.as_ref())?;
    let source = DataSource::of(&args.data);
    let mut prompts = match (&source, &tokenizer) {
        (None, Some(tokenizer)) => vec![text_prompt(args, tokenizer, files.spec.vocab)?],
        (None, None) => {
            let why = "there is no tokenizer.json, which text prompts require; add the model's tokenizer.json, or give \
                       --data with rows of `input_ids`";
            return Err(Error::file(&files.dir, why));
        }
        (Some(source), tokenizer) => requests::read(source, tokenizer.as_ref(), files.spec.vocab, args.task)?,
    };
    let max_new_tokens = args.max_new_tokens as usize;
    check_lengths(source.as_ref(), &files, &prompts, max_new_tokens)?;
    let output = match &args.output {
        None => None,
        Some(file) => {
            files::refuse_input("-o", file, &args.data)?;
            let fingerprint =
                fingerprint(args, &files, adapter.as_ref(), tokenizer.as_ref(), (&sampling, ends.as_slice()))?;
            let (output, done) = Output::open(file, &prompts, fingerprint, args.overwrite)?;
            if done > 0 {
                out.note(&format!("note: {}: resuming after {done} of {} rows", file.display(), prompts.len()));
            }
            prompts.drain(..done);
            Some(output)
        }
    };
    if prompts.is_empty() {
        return Ok(());
    }
    note_lengths(&files, &prompts, max_new_tokens, out);
    let batch = usize::from(args.batch_size).min(prompts.len());
    let stops = args.stop.clone();
    let job = Generation {
        files,
        adapter,
        tokenizer,
        prompts,
        batch,
        threads,
        dtype: args.dtype.dtype,
        output,
        sampling,
        max_new_tokens,
        ends,
        stops,
    };
    device::run(job, args.device, out)
}

fn sampling(args: &GenerateArgs) -> Result<Sampling> {
    let usage = |why: String| Err(Error::Usage(why));
    let (t, r, p) = (args.temperature, args.repetition_penalty, args.top_p.unwrap_or(1.0));
    if !(t.is_finite() && t >= 0.0) {
        return usage(format!("--temperature {t} is out of range; give a number above 0, or 0 for greedy decoding"));
    }
    if !(r.is_finite() && r > 0.0) {
        return usage(format!("--repetition-penalty {r} is out of range; give a number above 0; 1 is no penalty"));
    }
    if !(p > 0.0 && p <= 1.0) {
        return usage(format!("--top-p {p} is out of range; give a probability above 0 and at most 1"));
    }
    let sampling =
        [("--top-k", args.top_k.is_some()), ("--top-p", args.top_p.is_some()), ("--seed", args.seed.is_some())];
    if let (0.0, Some((name, _))) = (t, sampling.iter().find(|(_, given)| *given)) {
        return usage(format!("{name} has no effect on greedy decoding; add --temperature 1, or omit it"));
    }
    let (top_k, seed) = (args.top_k.unwrap_or(0) as usize, args.seed.unwrap_or(0));
    Ok(Sampling { temperature: t, top_k, top_p: p, repetition_penalty: r, seed })
}

/// The prompt of the command line, of a file or of standard input.
fn text_prompt(args: &GenerateArgs, tokenizer: &Tokenizer, vocab: usize) -> Result<Prompt> {
    let stdin = Path::new("standard input");
    let (place, bytes) = match (&args.prompt, &args.file) {
        (Some(text), _) => (Path::new("--prompt"), text.clone().into_bytes()),
        (_, Some(file)) => (file.as_path(), files::read(file).map_err(Error::io(file, "read"))?),
        _ if std::io::stdin().is_terminal() => {
            let why = "no prompt: give --prompt, --file or --data, or text on standard input";
            return Err(Error::Usage(why.into()));
        }
        _ => (stdin, files::read_all(std::io::stdin()).map_err(Error::io(stdin, "read"))?),
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() + 1;
        Error::file(place, format!("not UTF-8 (at byte {at}); save the file as UTF-8"))
    })?;
    requests::text(&text, tokenizer, vocab, args.task).map_err(|why| Error::file(place, why))
}

/// A hash of the inputs that determine the text of a row, apart from its prompt: the bytes of the model, the adapter
/// and the tokenizer, and the options. Paths of files, the device and the batch size are not part of it.
fn fingerprint(
    args: &GenerateArgs, model: &ModelFiles, adapter: Option<&AdapterFiles>, tokenizer: Option<&Tokenizer>,
    chosen: (&Sampling, &[u32]),
) -> Result<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    hash.update(model.digest()?.as_bytes());
    let adapter = adapter.map(AdapterFiles::digest).transpose()?;
    let format = (args.dtype.dtype, &model.quantizer);
    let inputs = (adapter, tokenizer.map(Tokenizer::inputs), chosen, args.max_new_tokens, &args.stop, format);
    hash.update(format!("{inputs:?}").as_bytes());
    Ok(hash.finalize())
}

/// Notes that rotary positions exceed those that the model was made for.
pub(super) fn note_lengths(files: &ModelFiles, prompts: &[Prompt], max_new_tokens: usize, out: &mut Terminal) {
    let (longest, known) = (prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0), files.spec.max_positions);
    if longest + max_new_tokens > known {
        out.note(&format!(
            "note: a prompt of {longest} tokens and --max-new-tokens {max_new_tokens} exceed the {known} positions \
             that the model was made for; text beyond them may be poor"
        ));
    }
}

/// Refuses prompts that leave no room for the new tokens.
pub(super) fn check_lengths(
    source: Option<&DataSource>, files: &ModelFiles, prompts: &[Prompt], max_new_tokens: usize,
) -> Result {
    let Some(limit) = decode::longest(&files.spec) else { return Ok(()) };
    let Some(long) = prompts.iter().find(|p| p.ids.len() + max_new_tokens > limit) else { return Ok(()) };
    let n = long.ids.len();
    let why = format!(
        "a prompt of {n} tokens and --max-new-tokens {max_new_tokens} exceed the {limit} positions of the model; {}",
        if n < limit { format!("lower --max-new-tokens to {}", limit - n) } else { "shorten the prompt".into() }
    );
    Err(match source {
        None => Error::Usage(why),
        Some(source) => Error::row(source.file(), long.row as usize + 1, why),
    })
}
