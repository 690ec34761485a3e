//! `eyekern ablate`: trains and evaluates a recipe with several arms and seeds, cell by cell.

mod cell;

use super::device::Threads;
use super::overrides::Overrides;
use super::score::output::digits;
use super::terminal::{Terminal, counted};
use super::{Device, signals};
use crate::backend::cpu::set_threads;
use crate::data::corpus::DataSource;
use crate::data::jinja::Date;
use crate::error::{Error, Result};
use crate::model::files::ModelFiles;
use crate::study::grid::{self, Asked, Cell, Column, Record};
use crate::train::events::Stop;
use crate::train::fingerprint;
use crate::train::recipe::{self, Recipe};
use crate::train::resume;
use cell::Common;
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Instant;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern ablate recipe.toml --arms uniform,shuffled,data --seeds 5 -o grid
  eyekern ablate recipe.toml --arms uniform,full,full+dpo,reading --seeds 5 --baseline uniform --primary chrf -o grid
  eyekern ablate recipe.toml --arms uniform,data --seeds 3 --set train.max_steps=200 --rows 100 -o grid

The same command resumes after an interruption, to the same results. docs/studies.md leads from a recipe to an answer;
docs/weights.md lists the arms.";

/// Arguments of `eyekern ablate`.
#[derive(Args, Debug)]
pub struct AblateArgs {
    /// The recipe that all cells share.
    #[arg(value_name = "RECIPE.toml")]
    pub recipe: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Arms, separated by commas: values of objective.arm, `full`, and the overlays dpo, reading, writing and combined,
    /// alone or behind an arm and +.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    pub arms: Vec<String>,
    /// Number of seeds: train.seed of the recipe and the ones behind it.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub seeds: u16,
    /// The folder of the grid.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Rows that every cell is evaluated on: a JSONL file, or two parallel text files. Default: data.validation_file.
    #[arg(long, value_name = "DATA", num_args = 1..=2)]
    pub data: Vec<PathBuf>,
    /// Evaluate the first N rows only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,
    /// The arm that `eyekern compare` compares others with. Declared once, before the first cell.
    #[arg(long, value_name = "ARM")]
    pub baseline: Option<String>,
    /// The metrics that decide, separated by commas; all others are exploratory. Declared once, before the first cell.
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub primary: Vec<String>,
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    #[command(flatten)]
    pub threads: Threads,
}

/// Computes the cells that are not done.
pub fn run(args: &AblateArgs, out: &mut Terminal) -> Result {
    set_threads(args.threads.threads.into());
    let (mut common, asked) = common(args)?;
    let columns: Vec<Column> = asked.arms.iter().map(|name| Column::of(name, &common.recipe)).collect::<Result<_>>()?;
    let mut notes = Vec::new();
    let _lock = resume::lock(&args.output, "-o", &mut notes)?;
    notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let before = Asked::read(&args.output)?;
    common.date(before.as_ref().and_then(|before| before.chat_date.clone()))?;
    Asked { chat_date: common.chat_date(), ..asked.clone() }.keep(&args.output)?;

    // whatever can be refused is, before the first cell is computed
    let cells = grid::cells(&args.output, &columns, &asked.seeds);
    let mut waiting = Vec::new();
    let mut done = Vec::new();
    for cell in &cells {
        let (recipe, inputs) = common.of(cell)?;
        match cell.done(&inputs)? {
            Some(record) => done.push(record),
            None => waiting.push((cell, recipe, inputs)),
        }
    }
    out.line(&format!(
        "{} and {}: {} in {}, {} done",
        counted(columns.len(), "arm"),
        counted(asked.seeds.len(), "seed"),
        counted(cells.len(), "cell"),
        args.output.display(),
        done.len()
    ));
    let stop = Stop::default();
    signals::watch(&stop)?;
    out.outlive_reader();
    let (total, started) = (waiting.len(), Instant::now());
    let mut failed = Vec::new();
    for (i, (cell, recipe, inputs)) in waiting.into_iter().enumerate() {
        let name =
            format!("[{}/{}] {} seed {}", done.len() + failed.len() + 1, cells.len(), cell.column.name, cell.seed);
        match common.compute(cell, recipe, inputs, &stop) {
            Ok(record) => {
                let left = started.elapsed().as_secs_f64() / (i + 1) as f64 * (total - i - 1) as f64;
                out.line(&format!("{name}: {}{}", figures(&record, &asked.primary), time_left(left)));
                done.push(record);
                grid::write_table(&args.output, &ordered(&cells, &done))?;
            }
            Err(error @ Error::Interrupted { .. }) => return Err(interrupted(error)),
            Err(error) => {
                let log = cell.dir.join(cell::LOG);
                out.note(&format!("{name} failed: {error} ({})", log.display()));
                failed.push((name, error));
            }
        }
        if let Some(code) = stop.asked() {
            return Err(interrupted(Error::Interrupted { code, why: String::new() }));
        }
    }
    grid::write_table(&args.output, &ordered(&cells, &done))?;
    summary(&columns, &done, &asked.primary, out);
    match failed.into_iter().next() {
        None => {
            let baseline = asked.baseline.or_else(|| asked.arms.first().cloned()).unwrap_or_default();
            out.line(&format!("\nNext: eyekern compare {} --baseline {baseline}", args.output.display()));
            Ok(())
        }
        Some((name, error)) => {
            out.note(&format!("{name} failed; the same command tries the failed cells again"));
            Err(error)
        }
    }
}

/// What all cells share, checked, and what is asked for.
fn common(args: &AblateArgs) -> Result<(Common<'_>, Asked)> {
    let sets = args.overrides.assignments();
    let recipe = Recipe::load(Some(&args.recipe), recipe::environment(), &sets)?;
    for key in ["objective.arm", "train.seed", "train.output_dir"] {
        if sets.iter().any(|set| set.split('=').next() == Some(key)) && key != "train.seed" {
            let why = format!("--set {key}: every cell sets it; use --arms and -o");
            return Err(Error::Usage(why));
        }
    }
    let data = match (DataSource::of(&args.data), &recipe.data.validation_file) {
        (Some(data), _) => data,
        (None, Some(data)) => data.clone(),
        (None, None) => {
            let why = "which rows are the cells evaluated on? set data.validation_file, or give --data";
            return Err(Error::Usage(why.into()));
        }
    };
    let model = ModelFiles::open(&recipe.model.model_name_or_path)?;
    let tokenizer = model.tokenizer(recipe.model.tokenizer.as_deref(), None)?;
    let seeds = (0..u64::from(args.seeds)).map(|i| recipe.train.seed.wrapping_add(i)).collect();
    let mut arms: Vec<String> = Vec::new();
    for name in args.arms.iter().map(|name| name.trim().to_string()).filter(|name| !name.is_empty()) {
        if !arms.contains(&name) {
            arms.push(name);
        }
    }
    let asked = Asked { arms, seeds, baseline: args.baseline.clone(), primary: args.primary.clone(), chat_date: None };
    if let Some(baseline) = asked.baseline.as_ref().filter(|baseline| !asked.arms.contains(baseline)) {
        return Err(Error::Usage(format!("--baseline {baseline} is none of --arms")));
    }
    let content = fingerprint::content(&data)?.map(fingerprint::hashed);
    let uses_date = tokenizer.as_ref().and_then(|t| t.chat()).is_some_and(|chat| chat.uses_date());
    let date = (uses_date && recipe.data.chat_date.is_none()).then(Date::today);
    let digest = model.digest()?;
    Ok((Common { args, recipe, sets, data, content, digest, tokenizer, date }, asked))
}

/// An interruption of a grid.
fn interrupted(error: Error) -> Error {
    match error {
        Error::Interrupted { code, .. } => {
            Error::Interrupted { code, why: "interrupted; the same command resumes".into() }
        }
        other => other,
    }
}

/// Records in the order of the cells.
fn ordered(cells: &[Cell], records: &[Record]) -> Vec<Record> {
    let of = |cell: &Cell| records.iter().find(|r| r.arm == cell.column.name && r.seed == cell.seed).cloned();
    cells.iter().filter_map(of).collect()
}

/// The metrics of a record, the primary ones first.
fn first<'a>(record: &'a Record, primary: &[String]) -> Vec<&'a String> {
    let mut names: Vec<&String> = record.metrics.keys().collect();
    names.sort_by_key(|name| primary.iter().position(|first| first == *name).unwrap_or(usize::MAX));
    names
}

/// A cell in a line.
fn figures(record: &Record, primary: &[String]) -> String {
    let t = &record.training;
    let loss = t.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
    let metrics = first(record, primary).into_iter().take(3).filter_map(|name| {
        let scale = record.scales.get(name).and_then(Value::as_f64).unwrap_or(1.0);
        Some(format!("{name} {}", digits(record.metrics.get(name)?.as_f64()?, scale)))
    });
    let metrics: Vec<String> = metrics.collect();
    format!("{}{loss}; {}; {:.0} s", counted(t.steps as usize, "step"), metrics.join(", "), record.seconds)
}

/// `, about 3 minutes left`; nothing where it is less than a second.
fn time_left(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => String::new(),
        s if s < 90.0 => format!(", about {s:.0} seconds left"),
        s if s < 5400.0 => format!(", about {:.0} minutes left", s / 60.0),
        s => format!(", about {:.1} hours left", s / 3600.0),
    }
}

/// The means of each arm over its seeds, with the least and the greatest value.
fn summary(columns: &[Column], records: &[Record], primary: &[String], out: &mut Terminal) {
    let Some(example) = records.first() else { return };
    let names: Vec<&String> = first(example, primary).into_iter().take(4).collect();
    let wide = columns.iter().map(|column| column.name.len()).max().unwrap_or(0).max(4);
    let head: String = names.iter().map(|name| format!("  {name:>24}")).collect();
    out.line(&format!("\n{}", out.bold(&format!("{:wide$} seeds{head}", "arm"))));
    for column in columns {
        let of: Vec<&Record> = records.iter().filter(|record| record.arm == column.name).collect();
        let cell = |name: &String| {
            let values: Vec<f64> = of.iter().filter_map(|record| record.metrics.get(name)?.as_f64()).collect();
            if values.is_empty() {
                return format!("  {:>24}", "-");
            }
            let scale = example.scales.get(name).and_then(Value::as_f64).unwrap_or(1.0);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            let [mean, low, high] = [mean, low, high].map(|value| digits(value, scale));
            format!("  {:>24}", format!("{mean} ({low} .. {high})"))
        };
        let cells: String = names.iter().copied().map(cell).collect();
        out.line(&format!("{:wide$} {:>5}{cells}", column.name, of.len()));
    }
}
