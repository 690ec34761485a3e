//! `eyekern train`: a recipe, run.

use super::report::Reporter;
use super::terminal::Terminal;
use super::{Device, TrainArgs};
use crate::backend::cpu::Cpu;
use crate::error::Result;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Recipe};
use crate::train::run;

/// Loads the recipe from its layers and trains, or prints it.
pub fn run(args: &TrainArgs, out: &mut Terminal) -> Result {
    let environment = recipe::environment();
    if args.print_config {
        let recipe = Recipe::layered(args.recipe.as_deref(), environment, &args.sets)?;
        out.print(&recipe.to_toml_commented());
        return Ok(());
    }
    let recipe = Recipe::load(args.recipe.as_deref(), environment, &args.sets)?;
    start(Prepared::from_recipe(recipe)?, args.device, out)
}

/// Chooses the device, the only place that does, and runs.
pub fn start(prepared: Prepared, device: Device, out: &mut Terminal) -> Result {
    let (threads, every) = (prepared.recipe.train.threads, prepared.recipe.train.logging_steps);
    match device {
        Device::Auto | Device::Cpu => {
            let cpu = Cpu::<f32>::new(threads)?;
            let mut reporter = Reporter::new(out, every, format!("cpu with {} threads, f32", cpu.threads()));
            run::run(cpu, prepared, &mut |event| reporter.event(event))?;
        }
    }
    Ok(())
}
