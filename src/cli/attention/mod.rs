//! `eyekern attention`: diagnostics of the attention of one model, or of two on the same rows.

mod job;
mod output;
mod page;

use super::Device;
use super::device::{self, Threads};
use super::generate::job::Generation;
use super::generate::rows::Output;
use super::generate::{check_lengths, note_lengths};
use super::quantize::Quantize;
use super::rows::RowArgs;
use super::terminal::{Terminal, counted};
use crate::backend::ComputeDtype;
use crate::backend::cpu::set_threads;
use crate::data::contexts::{self, Context};
use crate::data::requests::Prompt;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::attention::figures::{HEADS, WHOLE, needs_path};
use crate::files;
use crate::model::files::ModelFiles;
use crate::model::peft::AdapterFiles;
use crate::model::quantized::Quantizer;
use crate::model::sample::Sampling;
use crate::model::{decode, ends};
use crate::train::recipe::Recipe;
use crate::train::{prepare, salience};
use clap::Args;
use job::Diagnosis;
use output::Lines;
use std::fs;
use std::path::{Path, PathBuf};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern attention --model DIR --data valid.java valid.cs --task translation -o looks
  eyekern attention --model DIR --adapter out --baseline-model DIR --data rows.jsonl --recipe recipe.toml -o looks
  eyekern attention --model DIR --data rows.jsonl --task completion --set salience.condition=reading -o looks \\
      --html looks.html

DIR of -o gets model.jsonl, baseline.jsonl, attention.json and attention.csv. docs/attention.md defines every figure. A
rerun resumes.";

/// Examples below which a note says that intervals are wide.
const ENOUGH: usize = 200;

/// Arguments of `eyekern attention`.
#[derive(Args, Debug)]
pub struct AttentionArgs {
    /// The model: a directory, or the id of a cached model.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// A PEFT adapter for the model.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// A second model, measured on the same rows: differences are the model minus the baseline. Default with
    /// --baseline-adapter: the model.
    #[arg(long, value_name = "DIR")]
    pub baseline_model: Option<String>,
    /// A PEFT adapter for the baseline.
    #[arg(long, value_name = "DIR")]
    pub baseline_adapter: Option<PathBuf>,
    #[command(flatten)]
    pub from: RowArgs,
    /// Language of the code. Default: the language that a row names, or that of the file's extension.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: Option<String>,
    /// Output directory.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Start over instead of resuming after the last complete example.
    #[arg(long)]
    pub overwrite: bool,
    /// Also write a page with the figures and heat-maps.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Rows of which heat-maps are kept: the first N.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub examples: u16,
    /// Maximum number of new tokens per row.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub max_new_tokens: u32,
    /// Rows that are generated together.
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    #[command(flatten)]
    pub quantize: Quantize,
    #[command(flatten)]
    pub threads: Threads,
}

/// One of the two models, its inputs checked.
struct Arm {
    files: ModelFiles,
    adapter: Option<AdapterFiles>,
    tokenizer: Option<Tokenizer>,
    ends: Vec<u32>,
    /// Where its lines are kept.
    lines: PathBuf,
}

impl Arm {
    fn open(
        model: &str, adapter: Option<&Path>, tokenizer: Option<&Path>, lines: PathBuf, quantizer: Option<Quantizer>,
        out: &mut Terminal,
    ) -> Result<Arm> {
        let files = ModelFiles::open(model)?.quantized(quantizer);
        let opened = adapter.map(|dir| AdapterFiles::open(dir, &files.spec, &files.checkpoint)).transpose()?;
        opened.iter().flat_map(|a| &a.note).for_each(|note| out.note(&format!("note: {note}")));
        let tokenizer = files.tokenizer(tokenizer, adapter)?;
        for note in tokenizer.iter().flat_map(|tokenizer| tokenizer.notes()) {
            out.note(&format!("note: {note}"));
        }
        let ends = ends::all(&files.dir, &files.config, adapter, tokenizer.as_ref())?;
        Ok(Arm { files, adapter: opened, tokenizer, ends, lines })
    }

    /// The rows as this model reads them. Refuses rows that it has no positions for.
    fn contexts(&self, args: &AttentionArgs, recipe: &Recipe) -> Result<Vec<Context>> {
        let (source, spec) = (&recipe.data.train_file, &self.files.spec);
        let reading = prepare::reading(recipe, source, self.tokenizer.as_ref())?;
        let drawing = salience::drawing(recipe)?;
        let most = args.from.most();
        let tokenizer = self.tokenizer.as_ref();
        let contexts = contexts::read(source, tokenizer, spec.vocab, &reading, drawing.as_ref(), most)?;
        check_lengths(Some(source), &self.files, &prompts(&contexts), args.max_new_tokens as usize)?;
        let longest = decode::longest(spec).unwrap_or(usize::MAX);
        if let Some(long) = contexts.iter().find(|context| context.example.ids.len() > longest) {
            let n = long.example.ids.len();
            let why = format!("the row has {n} tokens and the model {longest} positions; shorten the row, or drop it");
            return Err(Error::row(source.file(), long.example.row as usize + 1, why));
        }
        Ok(contexts)
    }

    /// Everything that determines the figures of a row, apart from the row.
    fn fingerprint(&self, args: &AttentionArgs, recipe: &Recipe, mapped: &[Vec<u32>]) -> Result<blake3::Hash> {
        let mut hash = blake3::Hasher::new();
        hash.update(self.files.digest()?.as_bytes());
        let adapter = self.adapter.as_ref().map(AdapterFiles::digest).transpose()?;
        let cut = (recipe.data.cut, recipe.data.cut_seed, recipe.data.fim, recipe.salience.source_lang);
        let tokenizer = self.tokenizer.as_ref().map(Tokenizer::inputs);
        let options = (args.max_new_tokens, args.examples, mapped, &self.files.quantizer);
        hash.update(format!("{:?}", (adapter, tokenizer, &self.ends, cut, options)).as_bytes());
        Ok(hash.finalize())
    }

    /// Measures the rows that the lines lack. `mapped` are the answers that maps are made of; without them, maps are
    /// made of the model's own.
    fn measure(
        self, args: &AttentionArgs, recipe: &Recipe, contexts: &[Context], mapped: Option<Vec<Vec<u32>>>,
        out: &mut Terminal,
    ) -> Result {
        let fingerprint = self.fingerprint(args, recipe, mapped.as_deref().unwrap_or_default())?;
        let prompts = prompts(contexts);
        let (output, done) = Output::open(&self.lines, &prompts, fingerprint, args.overwrite)?;
        if done == prompts.len() {
            return Ok(());
        }
        if done > 0 {
            out.note(&format!("note: {}: resuming after {done} of {} rows", self.lines.display(), prompts.len()));
        }
        note_lengths(&self.files, &prompts, args.max_new_tokens as usize, out);
        let generation = Generation {
            files: self.files,
            adapter: self.adapter,
            tokenizer: self.tokenizer,
            batch: usize::from(args.batch_size).min(prompts.len()),
            prompts,
            threads: args.threads.threads.into(),
            dtype: ComputeDtype::Auto,
            output: Some(output),
            sampling: Sampling::default(),
            max_new_tokens: args.max_new_tokens as usize,
            ends: self.ends,
            stops: Vec::new(),
        };
        let (contexts, examples) = (contexts.to_vec(), usize::from(args.examples));
        device::run(Diagnosis { generation, contexts, done, examples, mapped }, args.device, out)
    }
}

fn prompts(contexts: &[Context]) -> Vec<Prompt> {
    contexts.iter().map(|context| context.prompt.clone()).collect()
}

/// Checks the inputs, measures one model or two, and writes what was found.
pub fn run(args: &AttentionArgs, out: &mut Terminal) -> Result {
    set_threads(args.threads.threads.into());
    let mut recipe = args.from.recipe(&args.model)?;
    if let Some(name) = &args.lang {
        recipe.salience.source_lang = Some(name.parse()?);
    }
    let lines = |name: &str| args.output.join(name);
    let own = recipe.model.tokenizer.clone();
    let quantizer = args.quantize.quantizer().or_else(|| recipe.quantizer());
    let model =
        Arm::open(&args.model, args.adapter.as_deref(), own.as_deref(), lines("model.jsonl"), quantizer.clone(), out)?;
    let baseline = match (&args.baseline_model, &args.baseline_adapter) {
        (None, None) => None,
        (other, adapter) => {
            let name = other.as_ref().unwrap_or(&args.model);
            let own = own.filter(|_| *name == args.model);
            Some(Arm::open(name, adapter.as_deref(), own.as_deref(), lines("baseline.jsonl"), quantizer, out)?)
        }
    };
    let contexts = model.contexts(args, &recipe)?;
    if let Some(baseline) = &baseline {
        same(&contexts, &baseline.contexts(args, &recipe)?, recipe.data.train_file.file())?;
    }
    for name in ["model.jsonl", "baseline.jsonl", "attention.json", "attention.csv"] {
        files::refuse_input("-o", &lines(name), &args.from.data)?;
    }
    if let Some(file) = &args.html {
        files::refuse_input("--html", file, &args.from.data)?;
    }
    note(&contexts, out);

    fs::create_dir_all(&args.output).map_err(Error::io(&args.output, "create"))?;
    // for the texts of tokens on the page; the other one moves to the device with its model
    let named = recipe.model.tokenizer.as_deref();
    let again = args.html.is_some().then(|| model.files.tokenizer(named, args.adapter.as_deref())).transpose()?;
    let tokenizer = again.flatten();
    let mut kept = Lines { model: model.lines.clone(), baseline: None };
    model.measure(args, &recipe, &contexts, None, out)?;
    if let Some(baseline) = baseline {
        kept.baseline = Some(baseline.lines.clone());
        let mapped = kept.answers(usize::from(args.examples).min(contexts.len()))?;
        baseline.measure(args, &recipe, &contexts, Some(mapped), out)?;
    }
    let found = output::read(&kept, usize::from(args.examples))?;
    files::write(&args.output.join("attention.json"), format!("{:#}\n", output::json(&found, args)))?;
    files::write(&args.output.join("attention.csv"), output::csv(&found))?;
    output::text(&found, out);
    if let Some(file) = &args.html {
        files::write(file, page::page(&found, args, &contexts, tokenizer.as_ref()))?;
        out.line(&format!("wrote {}", file.display()));
    }
    out.line(&format!("wrote {}", args.output.display()));
    Ok(())
}

/// Refuses a baseline that reads a row as other tokens: its figures could not be paired.
fn same(model: &[Context], baseline: &[Context], file: &Path) -> Result {
    match model.iter().zip(baseline).find(|(a, b)| a.example.ids != b.example.ids || a.example.path != b.example.path) {
        None => Ok(()),
        Some((context, _)) => {
            let why = "the tokenizer of the baseline reads the row as other tokens than that of the model, so nothing \
                       can be paired; compare models with the same tokenizer";
            Err(Error::row(file, context.example.row as usize + 1, why))
        }
    }
}

/// Notes what the rows cannot show.
fn note(contexts: &[Context], out: &mut Terminal) {
    if contexts.len() < ENOUGH {
        out.note(&format!(
            "note: {}; intervals over fewer than {ENOUGH} are wide and rest on few rows",
            counted(contexts.len(), "example")
        ));
    }
    let some = |found: &dyn Fn(&Prompt) -> bool| contexts.iter().any(|context| found(&context.prompt));
    if some(&|prompt| prompt.path.iter().zip(&prompt.ids).any(|(on, _)| *on)) {
        return;
    }
    let (names, why) = match some(&|prompt| prompt.path.contains(&true)) {
        true => (vec!["gaze_mass"], "no token of a prompt is on a scan path"),
        false => {
            let left_out = |name: &&str| needs_path(name) && !name.ends_with("_with_sink");
            let names = HEADS.into_iter().chain(WHOLE).filter(left_out).collect();
            (names, "no token is on a scan path; set salience.condition, or give rows with `path`")
        }
    };
    out.note(&format!("note: left out: {}, because {why}", names.join(", ")));
}
