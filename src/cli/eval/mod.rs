//! `eyekern eval`: generates texts for rows with a reference, keeps them, and scores them.

mod job;
mod leaks;

use super::Device;
use super::device::{self, Dtype, Threads};
use super::generate::job::Generation;
use super::generate::rows::Output;
use super::generate::{check_lengths, note_lengths};
use super::quantize::Quantize;
use super::rows::RowArgs;
use super::score::{self, ScoreArgs, ScoreFormat, Scoring};
use super::terminal::Terminal;
use crate::backend::cpu::set_threads;
use crate::data::corpus::{self, DataSource};
use crate::data::cut::Unit;
use crate::data::requests::{self, Prompt};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::metrics::clean::Clean;
use crate::eval::run;
use crate::files;
use crate::model::ends;
use crate::model::files::ModelFiles;
use crate::model::peft::AdapterFiles;
use crate::model::sample::Sampling;
use crate::salience::syntax::Language;
use crate::train::recipe::Recipe;
use crate::train::{prepare, salience};
use clap::Args;
use job::Evaluation;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern eval --model DIR --data test.java test.cs --task translation -o base
  eyekern eval --model DIR --adapter out --data test.jsonl --recipe recipe.toml -o tuned
  eyekern eval --model DIR --data files.jsonl --task completion --cut statement --lang java -o completion

DIR gets predictions.jsonl, scores.json, scores.html, examples.jsonl, contributions.csv and references.jsonl.
docs/evaluation.md describes them and every metric. A rerun resumes.";

/// Arguments of `eyekern eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The model: a directory, or the id of a cached model.
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// A PEFT adapter for the model.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    #[command(flatten)]
    pub from: RowArgs,
    /// Output directory.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Start over instead of resuming after the last complete prediction.
    #[arg(long)]
    pub overwrite: bool,
    /// Language of predictions and references, and of code that is cut.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: Option<String>,
    /// Data that the model was trained on: lists the rows that occur there too. Given twice, two parallel text files.
    #[arg(long, value_name = "DATA")]
    pub against: Vec<PathBuf>,
    /// Leave out rows whose source occurs in the data of --against.
    #[arg(long, requires = "against")]
    pub drop_leaks: bool,
    /// Metrics, separated by commas, in the order of the report.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metrics: Vec<String>,
    /// What is removed from all texts before they are scored: none, artifact or fences.
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = score::clean)]
    pub clean: Clean,
    /// The folder dict of Princeton's WordNet, for meteor_wordnet.
    #[arg(long, value_name = "DIR")]
    pub wordnet: Option<PathBuf>,
    /// Command to run on each prediction; {} is the path of a file with the prediction. It is no sandbox.
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    /// Seconds after which a command is killed.
    #[arg(long, value_name = "S", default_value_t = 10.0, requires = "check", value_parser = score::seconds)]
    pub check_timeout: f64,
    /// Commands that run at the same time; 0 means one per CPU thread.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "check")]
    pub check_jobs: u16,
    /// Maximum number of new tokens per row.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub max_new_tokens: u32,
    /// Stop before this text. May be repeated.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Rows that are generated together.
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

/// The predictions in the output directory.
const PREDICTIONS: &str = "predictions.jsonl";

/// Reads and checks the inputs, generates, and scores.
pub fn run(args: &EvalArgs, out: &mut Terminal) -> Result {
    set_threads(args.threads.threads.into());
    let recipe = recipe(args)?;
    let source = &recipe.data.train_file;
    if args.stop.iter().any(String::is_empty) {
        return Err(Error::Usage("--stop is empty, so every text would end at once; give the text to stop at".into()));
    }
    let quantizer = args.quantize.quantizer().or_else(|| recipe.quantizer());
    let model = ModelFiles::open(&args.model)?.quantized(quantizer);
    let adapter =
        args.adapter.as_deref().map(|dir| AdapterFiles::open(dir, &model.spec, &model.checkpoint)).transpose()?;
    adapter.iter().flat_map(|a| &a.note).for_each(|note| out.note(&format!("note: {note}")));
    let tokenizer = model.tokenizer(recipe.model.tokenizer.as_deref(), args.adapter.as_deref())?;
    let tokenizer = tokenizer.ok_or_else(|| {
        Error::file(&model.dir, "there is no tokenizer.json, which eval requires; add the model's tokenizer.json")
    })?;
    tokenizer.notes().iter().for_each(|note| out.note(&format!("note: {note}")));
    let reading = prepare::reading(&recipe, source, Some(&tokenizer))?;
    let mut prompts = requests::read_as(source, Some(&tokenizer), model.spec.vocab, &reading, args.from.most())?;
    leaks::check(args, (source, &mut prompts), &reading, &tokenizer, model.spec.vocab, out)?;
    run::check(&prompts, source.file())?;
    let max_new_tokens = args.max_new_tokens as usize;
    check_lengths(Some(source), &model, &prompts, max_new_tokens)?;
    let scores = scores(args, &recipe, &prompts)?;
    let scoring = Scoring::new(&scores, out)?;
    let mut corpus = corpus::read(source, Some(&tokenizer), model.spec.vocab, &reading)?;
    let kept: Vec<u32> = prompts.iter().map(|prompt| prompt.row).collect();
    corpus.keep(|row| kept.binary_search(&row).is_ok());
    if let Some(drawing) = salience::drawing(&recipe)? {
        corpus.draw(&drawing, 0);
    }

    fs::create_dir_all(&args.output).map_err(Error::io(&args.output, "create"))?;
    let ends = ends::all(&model.dir, &model.config, args.adapter.as_deref(), Some(&tokenizer))?;
    let fingerprint = fingerprint(args, &recipe, &model, adapter.as_ref(), &tokenizer, &ends)?;
    let file = args.output.join(PREDICTIONS);
    let (mut output, done) = Output::open(&file, &prompts, fingerprint, args.overwrite)?;
    output.unit = Some(recipe.data.cut);
    if done > 0 {
        out.note(&format!("note: {}: resuming after {done} of {} rows", file.display(), prompts.len()));
    }
    prompts.drain(..done);
    note_lengths(&model, &prompts, max_new_tokens, out);
    let generation = Generation {
        files: model,
        adapter,
        tokenizer: Some(tokenizer),
        batch: usize::from(args.batch_size).min(prompts.len()).max(1),
        prompts,
        threads: args.threads.threads.into(),
        dtype: args.dtype.dtype,
        output: Some(output),
        sampling: Sampling::default(),
        max_new_tokens,
        ends,
        stops: args.stop.clone(),
    };
    let references = args.output.join("references.jsonl");
    let likelihood = job::Likelihood { corpus, recipe: recipe.clone(), file: references };
    device::run(Evaluation { generation, likelihood }, args.device, out)?;

    let language = scoring.language;
    let report = scoring.run()?;
    let scored = score::output::Scored { report: &report, args: &scores, language };
    let mut object = score::output::value(&scored);
    object["references"] = job::summary(&args.output.join("references.jsonl"))?;
    object["generation"] = json!({
        "model": args.model,
        "adapter": args.adapter,
        "data": args.from.data,
        "max_new_tokens": args.max_new_tokens,
        "stop": args.stop,
        "dtype": args.dtype.dtype,
        "cut": recipe.data.cut.to_string(),
        "cut_seed": recipe.data.cut_seed,
        "fim": recipe.data.fim,
        "dropped_leaks": args.drop_leaks,
    });
    files::write(&args.output.join("scores.json"), format!("{object:#}\n"))?;
    score::output::text(&scored, out);
    job::print(&object["references"], out);
    out.line(&format!("\nwrote {}", args.output.display()));
    Ok(())
}

/// The recipe with what the command line says.
fn recipe(args: &EvalArgs) -> Result<Recipe> {
    let mut recipe = args.from.recipe(&args.model)?;
    if let (Some(name), true) = (&args.lang, recipe.data.cut != Unit::Half) {
        recipe.salience.source_lang = Some(name.parse()?);
    }
    Ok(recipe)
}

/// How the predictions are scored.
fn scores(args: &EvalArgs, recipe: &Recipe, prompts: &[Prompt]) -> Result<ScoreArgs> {
    let file = args.output.join(PREDICTIONS);
    let of_file = match &recipe.data.train_file {
        DataSource::Parallel(_, target) => Language::from_path(target).ok(),
        DataSource::Jsonl(_) => None,
    };
    let of_rows = || {
        let mut languages = prompts.iter().map(|prompt| prompt.before.as_ref().and_then(|before| before.language));
        let first = languages.next().flatten()?;
        languages.all(|language| language == Some(first)).then_some(first)
    };
    let lang = match &args.lang {
        Some(name) => Some(name.clone()),
        None => recipe.eval.lang.or(of_file).or_else(of_rows).map(|language| language.name().to_string()),
    };
    let key = |name: &str| Some(name.to_string());
    Ok(ScoreArgs {
        hyp: file.clone(),
        reference: file.clone(),
        src: Some(file),
        hyp_key: key("prediction"),
        ref_key: key("target"),
        src_key: key("source"),
        task: recipe.data.task,
        lang,
        metrics: args.metrics.clone(),
        clean: args.clean,
        shared_ngrams: None,
        wordnet: args.wordnet.clone(),
        samples: 1,
        check: args.check.clone(),
        check_timeout: args.check_timeout,
        check_jobs: args.check_jobs,
        format: ScoreFormat::Text,
        html: Some(args.output.join("scores.html")),
        examples: Some(args.output.join("examples.jsonl")),
        contributions: Some(args.output.join("contributions.csv")),
        threads: Threads { threads: args.threads.threads },
    })
}

/// A hash of everything that determines the prediction of a row, apart from its prompt.
fn fingerprint(
    args: &EvalArgs, recipe: &Recipe, model: &ModelFiles, adapter: Option<&AdapterFiles>, tokenizer: &Tokenizer,
    ends: &[u32],
) -> Result<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    hash.update(model.digest()?.as_bytes());
    let adapter = adapter.map(AdapterFiles::digest).transpose()?;
    let cut = (recipe.data.cut, recipe.data.cut_seed, recipe.salience.source_lang);
    let format = (args.dtype.dtype, &model.quantizer);
    let inputs = (adapter, tokenizer.inputs(), ends, args.max_new_tokens, &args.stop, cut, format);
    hash.update(format!("{inputs:?}").as_bytes());
    Ok(hash.finalize())
}
