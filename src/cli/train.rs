//! `eyekern train`: a recipe, run.

use super::device::{self, Job};
use super::dry_run;
use super::progress::Reporter;
use super::terminal::Terminal;
use super::{Device, TrainArgs, signals};
use crate::backend::Backend;
use crate::backend::cpu::cores;
use crate::backend::plan::Plan;
use crate::data::cache;
use crate::error::Result;
use crate::train::checkpoint::From;
use crate::train::estimate;
use crate::train::events::Stop;
use crate::train::meter::Meter;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Recipe};
use crate::train::resume::Resume;
use crate::train::run;
use std::path::PathBuf;

/// Loads the recipe from its layers and trains, or prints it, or counts what it would need.
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
    let from = match &args.resume {
        None => From::Start,
        Some(auto) if auto.as_os_str() == "auto" => From::Newest,
        Some(dir) => From::Folder(dir.clone()),
    };
    let prepared = Prepared::resuming(recipe, &Resume { from, allow_changed: args.allow_changed })?;
    if args.dry_run {
        return dry_run::run(&prepared, args.device, args.format, out);
    }
    let stop = Stop::default();
    signals::watch(&stop)?;
    out.outlive_reader();
    start(prepared, args.device, &stop, out)
}

/// Trains on the device that is asked for, until `stop` asks otherwise.
pub fn start(prepared: Prepared, device: Device, stop: &Stop, out: &mut Terminal) -> Result {
    device::run(Training { prepared, stop }, device, out)
}

struct Training<'a> {
    prepared: Prepared,
    stop: &'a Stop,
}

impl Job for Training<'_> {
    const REMEDY: &'static str = "lower data.max_tokens, train.per_device_train_batch_size or data.max_length, or train \
                                  adapters on a smaller model";

    fn bytes(&self) -> Result<u64> {
        let threads = cores(self.threads());
        Ok(estimate::bytes(|| Plan::cpu(threads), &self.prepared)?.total())
    }

    fn threads(&self) -> usize {
        self.prepared.recipe.train.threads
    }

    fn head_dim(&self) -> usize {
        self.prepared.origin.spec().head_dim
    }

    fn plans(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let (data, train) = (&self.prepared.recipe.data, &self.prepared.recipe.train);
        let cache = data.cache_dir.clone().or_else(|| cache::default_dir(|key| std::env::var(key).ok()));
        (cache.filter(|_| data.cache), Some(train.output_dir.join("products.json")))
    }

    fn on<B: Backend>(self, backend: B, meter: Meter<B>, out: &mut Terminal) -> Result {
        let Training { prepared, stop } = self;
        let mut reporter = Reporter::new(out, prepared.recipe.train.logging_steps, stop.clone());
        run::run(backend, meter, prepared, stop, &mut |event| reporter.event(event)).map(|_| ())
    }
}
