//! `eyekern score`: metrics of predictions, made by anything, against references.

mod contributions;
mod examples;
pub(super) mod output;
mod page;

use super::device::Threads;
use super::signals;
use super::terminal::Terminal;
use crate::backend::cpu::{cores, set_threads};
use crate::choices::Choice;
use crate::data::template::Task;
use crate::error::{Error, Result};
use crate::eval::check::{self, Checker};
use crate::eval::metrics::clean::Clean;
use crate::eval::metrics::crystal::{Counter, SHARED, Shared};
use crate::eval::metrics::{self, Metrics, Setup};
use crate::eval::rows::{Files, Texts};
use crate::eval::score::{Cleaning, Example, Report, Scorer};
use crate::files;
use crate::render::html;
use crate::salience::syntax::Language;
use crate::train::events::Stop;
use clap::{Args, ValueEnum};
use examples::Examples;
use output::Scored;
use page::Worst;
use std::path::PathBuf;
use std::time::Duration;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern score --hyp generated.jsonl --ref generated.jsonl --task completion --lang java
  eyekern score --hyp test.output --ref test.cs --src test.java --task translation --html scores.html
  eyekern score --hyp out.py --ref gold.py --task completion --metrics strict_exact --check 'python3 -m py_compile {}'

docs/evaluation.md defines every metric and the fields of the output.";

/// Arguments of `eyekern score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Predictions: one per line, or JSONL rows as `eyekern generate` writes them.
    #[arg(long, value_name = "FILE")]
    pub hyp: PathBuf,
    /// References, in the order of the predictions.
    #[arg(long = "ref", value_name = "FILE")]
    pub reference: PathBuf,
    /// Sources: what was translated, summarised or completed.
    #[arg(long, value_name = "FILE")]
    pub src: Option<PathBuf>,
    /// Key of the prediction in a JSONL row.
    #[arg(long, value_name = "KEY")]
    pub hyp_key: Option<String>,
    /// Key of the reference in a JSONL row.
    #[arg(long, value_name = "KEY")]
    pub ref_key: Option<String>,
    /// Key of the source in a JSONL row.
    #[arg(long, value_name = "KEY", requires = "src")]
    pub src_key: Option<String>,
    /// Task, which chooses the usual metrics: completion, translation, summarization or copy.
    #[arg(long, value_name = "TASK", value_parser = super::task)]
    pub task: Task,
    /// Language of predictions and references: java, c-sharp, python, javascript, typescript, go, c, cpp or rust. By
    /// default the language of the references' extension; else c-sharp for translations.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: Option<String>,
    /// Metrics, separated by commas, in the order of the report.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metrics: Vec<String>,
    /// What is removed from all texts before they are scored: none, artifact or fences.
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = clean)]
    pub clean: Clean,
    /// The n-grams that CrystalBLEU leaves out, one per line; by default the 500 most common ones of the references.
    #[arg(long, value_name = "FILE")]
    pub shared_ngrams: Option<PathBuf>,
    /// The folder dict of Princeton's WordNet, for meteor_wordnet.
    #[arg(long, value_name = "DIR")]
    pub wordnet: Option<PathBuf>,
    /// Predictions of each reference, one after the other.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub samples: u16,
    /// Command to run on each prediction; {} is the path of a file with the prediction. No shell runs it, and it is no
    /// sandbox.
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    /// Seconds after which a command is killed.
    #[arg(long, value_name = "S", default_value_t = 10.0, requires = "check", value_parser = seconds)]
    pub check_timeout: f64,
    /// Commands that run at the same time; 0 means one per CPU thread.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "check")]
    pub check_jobs: u16,
    /// Output format.
    #[arg(long, value_enum, default_value_t = ScoreFormat::Text)]
    pub format: ScoreFormat,
    /// Also write a page with the worst predictions beside their references.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write what each row contributes to every metric of the corpus, as CSV: the pseudo-values of the jackknife,
    /// whose mean is the metric.
    #[arg(long, value_name = "FILE")]
    pub contributions: Option<PathBuf>,
    /// Also write the metrics of each prediction: CSV where the name ends in .csv, else JSONL.
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
}

/// The output format of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScoreFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
    /// One row per metric.
    Csv,
}

/// A time in seconds: above 0, at most a day.
pub(super) fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86400.0);
    seconds.ok_or_else(|| "give seconds, above 0 and at most 86400".into())
}

/// A cleaning by its name.
pub(super) fn clean(name: &str) -> std::result::Result<Clean, String> {
    Clean::from_name(name).ok_or_else(|| format!("choose one of {}", Clean::names()))
}

/// The metric that counts the n-grams of all references first.
const CRYSTAL: &str = "crystalbleu";

/// The name before `@` of the metrics of `--check`.
const CHECK: &str = "check_pass";

/// Scores the files and prints the report.
pub fn run(args: &ScoreArgs, out: &mut Terminal) -> Result {
    set_threads(args.threads.threads.into());
    let scoring = Scoring::new(args, out)?;
    let language = scoring.language;
    let report = scoring.run()?;
    let scored = Scored { report: &report, args, language };
    match args.format {
        ScoreFormat::Text => output::text(&scored, out),
        ScoreFormat::Json => out.print(&output::json(&scored)),
        ScoreFormat::Csv => out.print(&output::csv(&report)?),
    }
    Ok(())
}

/// Checked arguments.
pub struct Scoring<'a> {
    args: &'a ScoreArgs,
    /// The language of predictions and references, if one is known.
    pub language: Option<Language>,
    setup: Setup,
    names: Vec<&'a str>,
    checker: Option<Checker>,
    stop: Stop,
}

impl<'a> Scoring<'a> {
    /// Checks the arguments; no text is read.
    pub fn new(args: &'a ScoreArgs, out: &mut Terminal) -> Result<Scoring<'a>> {
        let language = language(args)?;
        let setup = Setup { language, wordnet: args.wordnet.clone(), shared: None };
        let names = names(args, &setup, out)?;
        let stop = Stop::default();
        let checker = checker(args, language, &stop)?;
        let inputs = [Some(&args.hyp), Some(&args.reference), args.src.as_ref()];
        let outputs =
            [("--html", &args.html), ("--examples", &args.examples), ("--contributions", &args.contributions)];
        for (i, (flag, file)) in outputs.into_iter().enumerate() {
            let Some(file) = file else { continue };
            files::refuse_input(flag, file, inputs.into_iter().flatten())?;
            if let Some((other, _)) = outputs[..i].iter().find(|(_, other)| other.as_ref() == Some(file)) {
                return Err(Error::Usage(format!("{other} and {flag} name the same file; name two")));
            }
        }
        if args.contributions.is_some() && args.samples > 1 {
            let why = "--contributions requires one prediction per row; leave out --samples";
            return Err(Error::Usage(why.into()));
        }
        Ok(Scoring { args, language, setup, names, checker, stop })
    }

    /// Reads the files, scores them, and writes the page and the metrics of each prediction.
    pub fn run(self) -> Result<Report> {
        let Scoring { args, language, mut setup, names, checker, stop } = self;
        let (input, code, clean) = (input(args), args.task != Task::Summarization, args.clean);
        let clean: Cleaning = Box::new(move |text| clean.apply(text, code).into_owned());
        let mut counter = (names.contains(&CRYSTAL) && args.shared_ngrams.is_none()).then(Counter::default);
        input.check(&clean, |reference| counter.iter_mut().for_each(|counter| counter.add(reference)))?;
        setup.shared = match &args.shared_ngrams {
            Some(file) => Some(Shared::read(file)?),
            None => counter.map(|counter| counter.shared(SHARED)),
        };
        signals::watch(&stop)?;
        let mut scorer = Scorer::new(Metrics::named(names, &setup)?, clean, checker);
        if args.contributions.is_some() {
            scorer.keep_stats();
        }
        let columns: Vec<&str> = scorer.metrics().list().map(|metric| metric.name).collect();
        let mut examples = args.examples.as_deref().map(|file| Examples::create(file, &columns, args)).transpose()?;
        let mut worst = Worst::new(&columns, args.html.is_some());
        let mut sink = |example: &Example| {
            worst.add(example);
            examples.as_mut().map_or(Ok(()), |examples| examples.write(example))
        };
        for row in input.open()? {
            check::stopped(stop.asked())?;
            scorer.push(row?, &mut sink)?;
        }
        let metrics = scorer.metrics().clone();
        let report = scorer.finish(&mut sink)?;
        if let Some(file) = &args.contributions {
            contributions::write(file, &metrics, &report)?;
        }
        if let Some(file) = &args.html {
            let scored = Scored { report: &report, args, language };
            files::write(file, html::score::render(&page::page(&scored, worst)))?;
        }
        examples.map_or(Ok(()), Examples::finish)?;
        Ok(report)
    }
}

/// The language that predictions are parsed as, if one is known.
fn language(args: &ScoreArgs) -> Result<Option<Language>> {
    if let Some(name) = &args.lang {
        return name.parse().map(Some);
    }
    Ok(match args.task {
        Task::Summarization => None,
        Task::Translation => Some(Language::from_path(&args.reference).unwrap_or(Language::CSharp)),
        Task::Completion | Task::Copy | Task::None => Language::from_path(&args.reference).ok(),
    })
}

/// The metrics of the report: those that were named, or the usual ones that can be computed.
fn names<'a>(args: &'a ScoreArgs, setup: &Setup, out: &mut Terminal) -> Result<Vec<&'a str>> {
    if args.metrics.is_empty() {
        let (usual, lacking) = metrics::usual(args.task, setup);
        for (reason, names) in lacking {
            out.note(&format!("note: left out: {} ({reason})", names.join(", ")));
        }
        return Ok(usual);
    }
    let names: Vec<&str> = args.metrics.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    let (checks, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.split('@').next() == Some(CHECK));
    if let (Some(name), None) = (checks.first(), &args.check) {
        return Err(Error::Usage(format!("the metric {name} needs a command; name it with --check")));
    }
    if names.is_empty() && args.check.is_none() {
        return Err(Error::Usage("--metrics names no metric; name one, or leave the option out".into()));
    }
    metrics::require(&names, setup)?;
    Ok(names)
}

fn input(args: &ScoreArgs) -> Files {
    let texts = |file: &PathBuf, key: &Option<String>| Texts { file: file.clone(), key: key.clone() };
    Files {
        hyp: texts(&args.hyp, &args.hyp_key),
        reference: texts(&args.reference, &args.ref_key),
        source: args.src.as_ref().map(|file| texts(file, &args.src_key)),
        samples: args.samples.into(),
        numbered: args.task == Task::Summarization,
    }
}

fn checker(args: &ScoreArgs, language: Option<Language>, stop: &Stop) -> Result<Option<Checker>> {
    let Some(command) = &args.check else { return Ok(None) };
    let extension = language.map_or("txt", Language::extension);
    let jobs = if args.check_jobs > 0 { args.check_jobs.into() } else { cores(args.threads.threads.into()) };
    let timeout = Duration::from_secs_f64(args.check_timeout);
    let stop = stop.clone();
    Checker::new(command, extension, timeout, jobs, Box::new(move || stop.asked())).map(Some)
}
