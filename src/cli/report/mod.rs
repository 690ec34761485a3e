//! `eyekern report`: a page of a run, made from the lines that it has logged so far.

mod page;

use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::files;
use crate::render::html::run::render;
use crate::train::log::History;
use clap::Args;
use std::path::{Path, PathBuf};

pub const HELP: &str = "\
Examples:
  eyekern report out
  eyekern report out -o page.html --svg loss.svg

The run may be in progress, interrupted or finished: report reads metrics.jsonl and recipe.resolved.toml.
docs/training.md describes the page.";

/// Arguments of `eyekern report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The train.output_dir of a run, or one of its checkpoints.
    #[arg(value_name = "RUN_DIR")]
    pub run: PathBuf,
    /// Output file. Default: report.html in RUN_DIR.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also write the loss curve to this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Reads the run and writes its page.
pub fn run(args: &ReportArgs, out: &mut Terminal) -> Result {
    let (lines, toml) = (args.run.join("metrics.jsonl"), args.run.join("recipe.resolved.toml"));
    for (flag, file) in [("-o", &args.output), ("--svg", &args.svg)] {
        if let Some(file) = file {
            files::refuse_input(flag, file, [&lines, &toml])?;
        }
    }
    let history = History::read(&lines)?;
    let recipe = recipe(&toml)?;
    if let Some(file) = &args.svg {
        files::write(file, page::loss(&history))?;
        out.line(&format!("wrote {}", file.display()));
    }
    let file = args.output.clone().unwrap_or_else(|| args.run.join("report.html"));
    files::write(&file, render(&page::page(&history, &args.run, recipe)))?;
    out.line(&format!("wrote {}", file.display()));
    Ok(())
}

/// The recipe of the run; older runs write it at their end only.
fn recipe(path: &Path) -> Result<Option<String>> {
    match files::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "read")(e)),
    }
}
