//! `eyekern priors`: shows the priors of human attention, and builds priors from eye-tracking recordings.

use clap::Subcommand;

use super::terminal::Terminal;
use super::{EXIT_CODES, Format};
use crate::error::Result;
use crate::salience::Label;
use crate::salience::priors::Priors;

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

/// The labels of an n-gram, joined by an arrow where their order counts.
pub fn spell(ngram: &[Label], ordered: bool) -> String {
    let between = if ordered { " \u{2192} " } else { " \u{00b7} " };
    ngram.iter().map(|label| label.name()).collect::<Vec<_>>().join(between)
}

/// The rarity term of a token's weight, from the count of its n-gram.
pub fn rarity(count: u64) -> f64 {
    1.0 / (count as f64 + 2.0).ln()
}

/// A sentence on the order of n-grams.
pub fn order(priors: &Priors) -> &'static str {
    if priors.ordered() {
        "ordered: a \u{2192} b and b \u{2192} a are counted separately"
    } else {
        "without order: a \u{00b7} b counts both directions"
    }
}
