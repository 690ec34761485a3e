//! `eyekern train`: a recipe, run.

use super::device::{self, Job};
use super::report::Reporter;
use super::terminal::Terminal;
use super::{Device, TrainArgs};
use crate::backend::Backend;
use crate::data::cache;
use crate::error::Result;
use crate::train::estimate;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Recipe};
use crate::train::run;
use std::path::PathBuf;

/// Loads the recipe from its layers and trains, or prints it.
pub fn run(args: &TrainArgs, out: &mut Terminal) -> Result {
    let environment = recipe::environment();
    let priors = args.priors.iter().map(|file| format!("salience.priors={}", file.display()));
    let sets: Vec<String> = args.sets.iter().cloned().chain(priors).collect();
    if args.print_config {
        let recipe = Recipe::layered(args.recipe.as_deref(), environment, &sets)?;
        out.print(&recipe.to_toml_commented());
        return Ok(());
    }
    let recipe = Recipe::load(args.recipe.as_deref(), environment, &sets)?;
    start(Prepared::from_recipe(recipe)?, args.device, out)
}

/// Trains on the device that is asked for.
pub fn start(prepared: Prepared, device: Device, out: &mut Terminal) -> Result {
    device::run(prepared, device, out)
}

impl Job for Prepared {
    const REMEDY: &'static str = "lower data.max_tokens, train.per_device_train_batch_size or data.max_length, or train \
                                  adapters on a smaller model";

    fn bytes(&self) -> Result<u64> {
        estimate::bytes(self)
    }

    fn threads(&self) -> usize {
        self.recipe.train.threads
    }

    fn head_dim(&self) -> usize {
        self.origin.spec().head_dim
    }

    fn plans(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let data = &self.recipe.data;
        let cache = data.cache_dir.clone().or_else(|| cache::default_dir(|key| std::env::var(key).ok()));
        (cache.filter(|_| data.cache), Some(self.recipe.train.output_dir.join("products.json")))
    }

    fn on<B: Backend>(self, backend: B, name: String, out: &mut Terminal) -> Result {
        let mut reporter = Reporter::new(out, self.recipe.train.logging_steps, name);
        run::run(backend, self, &mut |event| reporter.event(event)).map(|_| ())
    }
}
