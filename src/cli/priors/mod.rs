//! `eyekern priors`: shows the priors of human attention, and builds priors from eye-tracking recordings.

use clap::Subcommand;

use super::terminal::Terminal;
use super::{EXIT_CODES, Format};
use crate::error::Result;

mod build;
mod figure;
mod scene;
mod show;

/// Subcommands of `eyekern priors`.
#[derive(Subcommand, Debug)]
pub enum PriorsCommand {
    /// Show how likely each label is to be fixated, and which labels are fixated after one another.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", show::HELP))]
    Show(show::ShowArgs),
    /// Build priors from eye-tracking recordings: samples, fixations, tokens, labels, counts.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", build::HELP))]
    Build(build::BuildArgs),
}

/// Runs the subcommand.
pub fn run(command: &PriorsCommand, out: &mut Terminal) -> Result {
    match command {
        PriorsCommand::Show(args) => show::run(args, out),
        PriorsCommand::Build(args) => build::run(args, out),
    }
}
