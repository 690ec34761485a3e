//! `eyekern train`: runs a recipe.

use super::device::{self, Job, Site};
use super::dry_run;
use super::overrides::Overrides;
use super::progress::Reporter;
use super::terminal::Terminal;
use super::{Device, Format, signals};
use crate::backend::cpu::{cores, set_threads};
use crate::backend::plan::Plan;
use crate::backend::{Backend, ComputeDtype};
use crate::error::Result;
use crate::train::checkpoint::From;
use crate::train::estimate;
use crate::train::events::Stop;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Recipe};
use crate::train::resume::Resume;
use crate::train::run;
use clap::Args;
use std::path::PathBuf;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern train recipe.toml --print-config
  eyekern train recipe.toml --set train.lr_scheduler_type=cosine --set lora.r=32
  eyekern train recipe.toml --resume auto
  eyekern train recipe.toml --dry-run --device cuda

Ctrl-C finishes the step and writes a checkpoint; a second Ctrl-C stops immediately.
Environment variables set recipe keys too: EYEKERN_TRAIN__LEARNING_RATE=2e-4.";

/// Arguments of `eyekern train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The recipe. Without it, the environment and --set must supply every key that has no default.
    #[arg(value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Compute device.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Resume from this checkpoint folder; auto resumes from the newest checkpoint in train.output_dir, if there is
    /// one.
    #[arg(long, value_name = "auto|DIR")]
    pub resume: Option<PathBuf>,
    /// Resume even if the recipe, data, tokenizer or model differ from those of the checkpoint.
    #[arg(long, requires = "resume")]
    pub allow_changed: bool,
    /// Print the resulting recipe with an explanation of every key, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Count the memory, operations and steps of the run from the model's shapes and the data, and exit. Does not
    /// require the device.
    #[arg(long, conflicts_with = "print_config")]
    pub dry_run: bool,
    /// Output format of --dry-run.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "dry_run")]
    pub format: Format,
}

/// Loads the recipe from its layers and trains, prints the recipe, or counts its memory and work.
pub fn run(args: &TrainArgs, out: &mut Terminal) -> Result {
    let environment = recipe::environment();
    let sets = args.overrides.assignments();
    if args.print_config {
        let recipe = Recipe::layered(args.recipe.as_deref(), environment, &sets)?;
        out.print(&recipe.to_toml_commented());
        return Ok(());
    }
    let recipe = Recipe::load(args.recipe.as_deref(), environment, &sets)?;
    set_threads(recipe.train.threads);
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

/// Trains on the device until the end or until `stop` requests an early end.
pub fn start(prepared: Prepared, device: Device, stop: &Stop, out: &mut Terminal) -> Result {
    device::run(Training { prepared, stop }, device, out)
}

struct Training<'a> {
    prepared: Prepared,
    stop: &'a Stop,
}

impl Job for Training<'_> {
    const REMEDY: &'static str = "lower data.max_tokens, train.per_device_train_batch_size or data.max_length, or \
                                  train adapters on a smaller model";

    fn bytes(&self) -> Result<u64> {
        let threads = cores(self.threads());
        Ok(estimate::bytes(|| Plan::cpu(threads), &self.prepared)?.total())
    }

    const DTYPE: &'static str = "train.compute_dtype";

    fn dtype(&self) -> ComputeDtype {
        self.prepared.recipe.train.compute_dtype
    }

    fn threads(&self) -> usize {
        self.prepared.recipe.train.threads
    }

    fn head_dim(&self) -> usize {
        self.prepared.origin.spec().head_dim
    }

    fn plans(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let recipe = &self.prepared.recipe;
        (recipe.cache_dir(), Some(recipe.train.output_dir.join("products.json")))
    }

    fn on<B: Backend + 'static>(self, backend: B, site: Site<B>, out: &mut Terminal) -> Result {
        let Training { prepared, stop } = self;
        let mut reporter = Reporter::new(out, prepared.recipe.train.logging_steps, stop.clone());
        run::run(backend, site.meter, prepared, stop, &mut |event| reporter.event(event)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{Command, Device, Format, parse};

    #[test]
    fn train_takes_its_flags() {
        let Ok(Command::Train(args)) = parse("eyekern train r.toml --set a.b=1 --set c.d=-2 --device cpu") else {
            panic!("not train")
        };
        assert_eq!(args.recipe, Some("r.toml".into()));
        assert_eq!(args.overrides.assignments(), ["a.b=1", "c.d=-2"]);
        assert_eq!((args.device, args.print_config), (Device::Cpu, false));
        let Ok(Command::Train(args)) = parse("eyekern train --priors p.json --set a.b=1") else { panic!("not train") };
        assert_eq!(args.overrides.assignments(), ["a.b=1", "salience.priors=p.json"]);
        let Ok(Command::Train(args)) = parse("eyekern train --print-config") else { panic!("not train") };
        assert_eq!((args.recipe, args.device, args.print_config), (None, Device::Auto, true));
        let Ok(Command::Train(args)) = parse("eyekern train r.toml --dry-run --format json") else {
            panic!("not train")
        };
        assert_eq!((args.dry_run, args.format), (true, Format::Json));
    }
}
