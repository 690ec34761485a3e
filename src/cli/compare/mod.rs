//! `eyekern compare`: arms of a grid, or evaluations, beside a baseline.

mod output;
mod page;

use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::files;
use crate::render::html;
use crate::study::{compare, load};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern compare grid --baseline uniform --primary chrf,strict_exact
  eyekern compare grid --baseline uniform --html study.html
  eyekern compare base-eval tuned-eval --baseline base-eval --format csv

docs/studies.md explains every figure.";

/// Arguments of `eyekern compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Folders of `eyekern ablate`, of its cells, or of `eyekern eval`; the last are arms by the name of the folder.
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// The arm that the others are compared with. Default: that of the grid.
    #[arg(long, value_name = "ARM")]
    pub baseline: Option<String>,
    /// The metrics that decide, separated by commas; all others are exploratory. Default: those of the grid.
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub primary: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = CompareFormat::Text)]
    pub format: CompareFormat,
    /// Also write a page: forest plot, loss curves, predictions that differ.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The output format of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompareFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
    /// One row per arm and metric.
    Csv,
}

/// Reads the folders, compares, prints.
pub fn run(args: &CompareArgs, out: &mut Terminal) -> Result {
    let (arms, asked) = load::arms(&args.folders)?;
    let Some(baseline) = args.baseline.clone().or(asked.baseline.clone()) else {
        let known: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        let why = format!("which arm is the baseline? give --baseline: {}", known.join(", "));
        return Err(Error::Usage(why));
    };
    let given: Vec<String> =
        args.primary.iter().map(|name| name.trim().into()).filter(|name: &String| !name.is_empty()).collect();
    let primary = if given.is_empty() { asked.primary.clone() } else { given.clone() };
    let mut study = compare::compare(&arms, &baseline, &primary)?;
    if !given.is_empty() && !asked.primary.is_empty() && given != asked.primary {
        let why = format!(
            "the primary metrics are {}, and the grid declared {} before its first cell",
            given.join(", "),
            asked.primary.join(", ")
        );
        study.marks.insert(0, why);
    }
    if let Some(file) = &args.html {
        files::write(file, html::study::render(&page::page(&study, &arms)))?;
    }
    match args.format {
        CompareFormat::Text => output::text(&study, out),
        CompareFormat::Json => out.print(&output::json(&study)),
        CompareFormat::Csv => out.print(&output::csv(&study)?),
    }
    if let (Some(file), CompareFormat::Text) = (&args.html, args.format) {
        out.line(&format!("\nwrote {}", file.display()));
    }
    Ok(())
}
