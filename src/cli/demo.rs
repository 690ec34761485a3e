//! `eyekern demo`: a small random model memorises 64 Java-to-C# pairs, with token weights drawn from the built-in
//! eye-tracking priors.
//!
//! Model, tokenizer and data are embedded. `eyekern train` can train on the written files.

use super::terminal::{Role, Terminal};
use super::{Device, train};
use crate::data::corpus::{self, Corpus};
use crate::data::template::Task;
use crate::data::tokenizer::Tokenizer;
use crate::data::{Example, IGNORE};
use crate::error::{Error, Result};
use crate::files;
use crate::model::config::Spec;
use crate::model::files::Origin;
use crate::train::events::Stop;
use crate::train::prepare::{self, Prepared};
use crate::train::recipe::{Method, Recipe, Schedule};
use clap::Args;
use std::path::{Path, PathBuf};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern demo
  eyekern demo --steps 20 --output-dir trained";

/// Arguments of `eyekern demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Output folder for the data, a recipe and the trained model.
    #[arg(long, value_name = "DIR", default_value = "eyekern-demo")]
    pub output_dir: PathBuf,
    /// Seed of the initial weights and the data order.
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = clap::value_parser!(u64).range(..1 << 63))]
    pub seed: u64,
    /// Optimiser steps. Default: enough to memorise the examples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub steps: Option<u64>,
}

const PAIRS: &str = include_str!("../../assets/demo/pairs.jsonl");
const TOKENIZER: &str = include_str!("../../assets/demo/tokenizer.json");
const TOKENIZER_CONFIG: &str = include_str!("../../assets/demo/tokenizer_config.json");
const MODEL: &str = include_str!("../../assets/demo/config.json");
const RECIPE: &str = include_str!("../../assets/demo/recipe.toml");

/// The row to show.
const SHOWN: usize = 0;

/// Enough to memorise the pairs; under a minute on two cores.
const STEPS: u64 = 160;

/// Shows an example, trains, and suggests the next commands.
pub fn run(args: &DemoArgs, out: &mut Terminal) -> Result {
    let recipe = recipe(args);
    let tokenizer = Tokenizer::from_bytes(TOKENIZER.as_bytes(), Some("<|endoftext|>"))?;
    let config = serde_json::from_str(MODEL).map_err(|e| Error::Usage(format!("the built-in config: {e}")))?;
    let spec = Spec::parse(&config, Path::new("the built-in config"))?;
    let name = Path::new("assets/demo/pairs.jsonl");
    let corpus = corpus::read_str(
        PAIRS,
        name,
        Some(&tokenizer),
        spec.vocab,
        &prepare::reading(&recipe, &recipe.data.train_file, None)?,
    )?;

    let model = recipe.train.output_dir.clone();
    let prepared = Prepared::new(recipe, Origin::Random(Box::new(spec), config), Some(tokenizer), corpus, None)?;
    show(&prepared, out);
    write_inputs(&args.output_dir, &model)?;
    train::start(prepared, Device::Cpu, &Stop::default(), out)?;
    next(&args.output_dir, out);
    Ok(())
}

fn recipe(args: &DemoArgs) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.model.model_name_or_path = "a new small model".into();
    recipe.data.train_file = corpus::DataSource::Jsonl(args.output_dir.join("pairs.jsonl"));
    recipe.data.task = Task::Translation;
    recipe.data.max_tokens = 2048;
    recipe.salience.condition = Some("combined".into());
    let t = &mut recipe.train;
    t.method = Method::Full;
    t.output_dir = args.output_dir.join("model");
    t.learning_rate = 3e-3;
    t.lr_scheduler_type = Schedule::Cosine;
    t.warmup_steps = 10;
    t.weight_decay = 0.01;
    t.seed = args.seed;
    t.max_steps = args.steps.unwrap_or(STEPS) as i64;
    t.logging_steps = (args.steps.unwrap_or(STEPS) / 8).max(1);
    recipe
}

/// One example with its tokens coloured by weight; unsupervised tokens are dim.
fn show(prepared: &Prepared, out: &mut Terminal) {
    let Prepared { train: Corpus { examples, counts, .. }, tokenizer: Some(tokenizer), .. } = prepared else { return };
    let Some(example) = examples.get(SHOWN) else { return };
    let (low, high) = (counts.weight_min as f32, counts.weight_max as f32);
    let title = out.bold("One example, coloured by the weight of each token's loss");
    out.line(&format!("{title} (dim: the prompt, not supervised)\n"));
    let text = paint(example, tokenizer, low, high, out);
    out.line(&text);
    out.line(&format!("\n{}\n", out.weight_scale(low, high)));
}

fn paint(example: &Example, tokenizer: &Tokenizer, low: f32, high: f32, out: &Terminal) -> String {
    let mut text = String::new();
    for ((&id, &label), &weight) in example.ids.iter().zip(&example.labels).zip(&example.weights) {
        let role = if label == IGNORE { Role::Masked } else { Role::Off };
        text += &out.paint_weight(&tokenizer.token_text(id), weight, low, high, role);
    }
    text
}

/// Writes the data, the tokenizer and a recipe that trains the new model further.
fn write_inputs(dir: &Path, model: &Path) -> Result {
    let recipe = dir.join("recipe.toml");
    if std::fs::read(&recipe).is_ok_and(|text| text != RECIPE.as_bytes()) {
        return Err(Error::file(
            &recipe,
            "differs from the demo's recipe and would be overwritten; choose another --output-dir",
        ));
    }
    std::fs::create_dir_all(model).map_err(Error::io(model, "create"))?;
    files::write(&dir.join("pairs.jsonl"), PAIRS)?;
    files::write(&recipe, RECIPE)?;
    files::write(&model.join("tokenizer.json"), TOKENIZER)?;
    files::write(&model.join("tokenizer_config.json"), TOKENIZER_CONFIG)
}

fn next(dir: &Path, out: &mut Terminal) {
    let (recipe, uniform) = (dir.join("recipe.toml"), dir.join("uniform"));
    let (recipe, uniform) = (recipe.display(), uniform.display());
    let title = out.bold("Next:");
    out.line(&format!("\n{title}"));
    for (command, why) in [
        (format!("eyekern train {recipe}"), "a LoRA adapter on this model, with the DPO term"),
        (
            format!("eyekern train {recipe} --set objective.arm=uniform --set train.output_dir={uniform}"),
            "the same without weights",
        ),
        (format!("eyekern train {recipe} --print-config"), "every key, explained"),
    ] {
        out.line(&format!("  {command}\n      {}", out.dim(why)));
    }
    out.line("In a checkout, run `cargo run --release --` instead of `eyekern`.");
}

#[cfg(test)]
mod tests {
    use crate::cli::{Command, parse};

    #[test]
    fn demo_takes_its_flags() {
        let Ok(Command::Demo(args)) = parse("eyekern demo --output-dir d --seed 7 --steps 3") else {
            panic!("not demo")
        };
        assert_eq!((args.output_dir, args.seed, args.steps), ("d".into(), 7, Some(3)));
        let Ok(Command::Demo(args)) = parse("eyekern demo") else { panic!("not demo") };
        assert_eq!((args.output_dir, args.seed, args.steps), ("eyekern-demo".into(), 42, None));
        assert!(parse("eyekern demo --steps 0").is_err());
        assert!(parse("eyekern demo --seed 9223372036854775808").is_err(), "a recipe could not hold it");
    }
}
