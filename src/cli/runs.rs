//! `eyekern runs`: lists the runs below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::Format;
use super::terminal::Terminal;
use crate::error::Result;
use crate::files;
use crate::model::save;
use crate::study::grid::Record;
use crate::train::log::{Evaluation, History};
use crate::train::resume;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern runs
  eyekern runs grid --format json

A run is a folder with metrics.jsonl. Folders are searched to a depth of six.";

/// Arguments of `eyekern runs`.
#[derive(Args, Debug)]
pub struct RunsArgs {
    /// The folder that is searched.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How deep folders are searched.
const DEPTH: usize = 6;

/// A run in figures.
struct Run {
    dir: PathBuf,
    state: &'static str,
    history: History,
    record: Option<Record>,
}

/// Lists the runs, by folder.
pub fn run(args: &RunsArgs, out: &mut Terminal) -> Result {
    // a folder that cannot be read is told, those below it are passed over
    files::names(&args.dir)?;
    let mut found = Vec::new();
    search(&args.dir, DEPTH, &mut found, out);
    found.sort_by(|a, b| a.dir.cmp(&b.dir));
    if args.format == Format::Json {
        out.print(&format!("{:#}\n", Value::from_iter(found.iter().map(value))));
        return Ok(());
    }
    if found.is_empty() {
        out.line(&format!("no runs below {}", args.dir.display()));
        return Ok(());
    }
    let rows: Vec<[String; 7]> = found.iter().map(cells).collect();
    let names = ["run", "state", "step", "arm", "seed", "loss", "evaluation"].map(String::from);
    let wide: Vec<usize> =
        (0..7).map(|i| rows.iter().chain([&names]).map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for (i, row) in [&names].into_iter().chain(&rows).enumerate() {
        let line: Vec<String> = row.iter().zip(&wide).map(|(cell, &wide)| format!("{cell:wide$}")).collect();
        let line = line.join("  ").trim_end().to_string();
        out.line(&if i == 0 { out.bold(&line) } else { line });
    }
    Ok(())
}

fn search(dir: &Path, depth: usize, found: &mut Vec<Run>, out: &mut Terminal) {
    if dir.join("metrics.jsonl").is_file() {
        match read(dir) {
            Ok(run) => found.push(run),
            Err(error) => out.note(&format!("note: {error}")),
        }
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // links could lead in circles
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), depth, found, out);
        }
    }
}

fn read(dir: &Path) -> Result<Run> {
    let history = History::read(&dir.join("metrics.jsonl"))?;
    let done = [save::ADAPTER, save::MODEL, save::INDEX].iter().any(|name| dir.join(name).is_file());
    let state = match (done, resume::is_locked(dir)) {
        (_, true) => "running",
        (true, _) => "done",
        (false, _) if history.steps.is_empty() => "begun",
        (false, _) => "stopped",
    };
    let record = dir.parent().map(Record::read).transpose().ok().flatten().flatten();
    Ok(Run { dir: dir.into(), state, history, record })
}

/// The last evaluation's loss and headline.
fn evaluation(last: &Evaluation) -> String {
    let loss = last.eval_loss.map(|loss| format!("loss {loss:.4}"));
    let metric = last
        .metrics
        .iter()
        .next()
        .and_then(|(name, value)| Some(format!("{} {:.4}", name.trim_start_matches("eval_"), value.as_f64()?)));
    [loss, metric].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn cells(run: &Run) -> [String; 7] {
    let Run { dir, state, history, record } = run;
    let h = &history.header;
    let last = history.steps.last();
    let scored = record.as_ref().and_then(|record| {
        let (name, value) = record.metrics.iter().next()?;
        Some(format!("{name} {:.4}", value.as_f64()?))
    });
    [
        dir.display().to_string(),
        (*state).into(),
        format!("{}/{}", last.map_or(0, |step| step.step), h.steps),
        record.as_ref().map_or(h.arm.clone(), |record| record.arm.clone()),
        h.seed.to_string(),
        last.and_then(|step| step.loss).map_or("-".into(), |loss| format!("{loss:.4}")),
        scored.or(history.evaluations.last().map(evaluation)).unwrap_or_default(),
    ]
}

fn value(run: &Run) -> Value {
    let Run { dir, state, history, record } = run;
    json!({
        "run": dir,
        "state": state,
        "step": history.steps.last().map_or(0, |step| step.step),
        "header": history.header,
        "last_step": history.steps.last(),
        "last_evaluation": history.evaluations.last(),
        "metrics": record.as_ref().map(|record| record.metrics.clone()),
        "arm": record.as_ref().map_or(history.header.arm.clone(), |record| record.arm.clone()),
    })
}
