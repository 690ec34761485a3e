//! `eyekern priors`: look at the priors of human attention, and build them from gaze recordings.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::terminal::Terminal;
use super::{EXIT_CODES, Format};
use crate::error::Result;

mod build;
mod figure;
mod scene;
mod show;

const SHOW_HELP: &str = "\
Examples:
  eyekern priors show --condition reading
  eyekern priors show --priors mine.json --svg mine.svg

JSON has condition, source, ordered, built, labels (id, label, c1, ntok, mono, alpha, beta, mean, interval), aggregate
and monograms, bigrams, trigrams (ids, labels, count, rarity), the most frequent first.";

const BUILD_HELP: &str = "\
Examples:
  eyekern priors build --gaze gaze/*.csv.gz --boxes boxes.csv --snippets code -o priors.json
  eyekern priors build --gaze P01.tsv --mapping tobii.toml --boxes boxes.csv --snippets code -o priors.json --svg pictures

Without --mapping a recording has the columns time_ms, x_px, y_px and snippet, and its file is named after the participant.
docs/priors.md explains the tables and has mappings for Tobii, Gazepoint and EyeLink.";

/// What `eyekern priors` is asked for.
#[derive(Subcommand, Debug)]
pub enum PriorsCommand {
    /// Show how likely each label is to be looked at, and which labels are looked at after one another.
    #[command(after_help = format!("{EXIT_CODES}\n\n{SHOW_HELP}"))]
    Show(ShowArgs),
    /// Build priors from eye tracker recordings: samples, fixations, tokens, labels, counts.
    #[command(after_help = format!("{EXIT_CODES}\n\n{BUILD_HELP}"))]
    Build(BuildArgs),
}

/// What `eyekern priors build` is asked for.
#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Recordings: text with a header line, plain or gzipped.
    #[arg(long, value_name = "G.csv[.gz]", num_args = 1.., required = true)]
    pub gaze: Vec<PathBuf>,
    /// Where each token stood on the screen: snippet, token, byte_start, x_px, y_px, w_px, h_px, perhaps screen_h.
    #[arg(long, value_name = "B.csv")]
    pub boxes: PathBuf,
    /// The folder with the code of each snippet, named like the snippet.
    #[arg(long, value_name = "DIR")]
    pub snippets: PathBuf,
    /// The file of priors to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Names of columns and units of the recordings.
    #[arg(long, value_name = "M.toml")]
    pub mapping: Option<PathBuf>,
    /// The screen of each participant: id, screen_w, screen_h in pixels.
    #[arg(long, value_name = "P.csv")]
    pub participants: Option<PathBuf>,
    /// What to call the condition in the file.
    #[arg(long, value_name = "NAME", default_value = "reading")]
    pub condition: String,
    /// Who measured this and under which licence, for the file.
    #[arg(long, value_name = "TEXT", default_value = "own recordings")]
    pub source: String,
    /// Largest (max x - min x) + (max y - min y) of a fixation, in pixels.
    #[arg(long, value_name = "PX", default_value_t = 60.0)]
    pub dispersion_px: f64,
    /// Shortest fixation, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub min_ms: f64,
    /// Samples farther apart than this, in milliseconds, are not of one fixation.
    #[arg(long, value_name = "MS", default_value_t = 60.0)]
    pub gap_ms: f64,
    /// How far from a token's box, in pixels, a fixation may lie and still belong to it.
    #[arg(long, value_name = "PX", default_value_t = 25.0)]
    pub radius_px: f64,
    /// Also draw the fixations of each participant over each snippet, into this folder.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// Draw those of this participant only.
    #[arg(long, value_name = "ID", requires = "svg")]
    pub svg_participant: Option<String>,
}

/// What `eyekern priors show` is asked for.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// reading, writing or combined; with --priors, a condition of the file (not needed where it has one only).
    #[arg(long, value_name = "NAME")]
    pub condition: Option<String>,
    /// A file of priors instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub priors: Option<PathBuf>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How many bigrams and trigrams to show as text and in the picture.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=40))]
    pub top: u16,
    /// Also draw the densities and the most frequent n-grams.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(command: &PriorsCommand, out: &mut Terminal) -> Result {
    match command {
        PriorsCommand::Show(args) => show::run(args, out),
        PriorsCommand::Build(args) => build::run(args, out),
    }
}
