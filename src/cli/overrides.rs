//! Changes to a recipe, as several commands take them.

use clap::Args;
use std::path::PathBuf;

/// Changes to a recipe.
#[derive(Args, Debug)]
pub struct Overrides {
    /// Set one recipe key; overrides the recipe and the environment. May be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Draw weights from these priors; short for --set salience.priors=FILE.
    #[arg(long, value_name = "FILE")]
    pub priors: Option<PathBuf>,
}

impl Overrides {
    /// As assignments of keys; a later one overrides an earlier one.
    pub fn assignments(&self) -> Vec<String> {
        let priors = self.priors.iter().map(|file| format!("salience.priors={}", file.display()));
        self.sets.iter().cloned().chain(priors).collect()
    }
}
