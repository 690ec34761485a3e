//! Training from a program: a recipe built in code, a LoRA adapter, every step seen by a closure.
//!
//! The model is small, random and made on the spot; its directory is what `save_pretrained` would have written.
//!
//!     cargo run --release --example 03_train_lora

use eyekern::backend::cpu::Cpu;
use eyekern::data::corpus;
use eyekern::data::template::Task;
use eyekern::error::{Error, Result};
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::save;
use eyekern::train::events::{Event, Stop};
use eyekern::train::meter::Meter;
use eyekern::train::prepare::Prepared;
use eyekern::train::recipe::Recipe;
use eyekern::train::run;
use std::path::Path;

/// A random model and its tokenizer as a Hugging Face directory.
fn write_model(dir: &Path) -> Result {
    let config = serde_json::from_str(include_str!("../assets/demo/config.json")).expect("the demo's config is JSON");
    let spec = Spec::parse(&config, Path::new("assets/demo/config.json"))?;
    let cpu = Cpu::<f32>::new(0)?;
    let mut model = Decoder::build(&cpu, spec, &Init::Random { seed: 1, std: 0.1, bf16: false }, None, 1)?;
    save::full(&cpu, &mut model, &config, safetensors::Dtype::F32, dir)?;
    save::copy_companions(&[&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")], dir)
}

fn main() -> Result {
    let temporary = tempfile::tempdir().map_err(Error::io(&std::env::temp_dir(), "create"))?;
    let (model, output) = (temporary.path().join("model"), temporary.path().join("adapter"));
    write_model(&model)?;

    let mut recipe = Recipe::default();
    recipe.model.model_name_or_path = model.to_string_lossy().into_owned();
    let pairs = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/pairs.jsonl");
    recipe.data.train_file = corpus::DataSource::Jsonl(pairs);
    recipe.data.task = Task::Translation;
    recipe.data.max_tokens = 1024;
    recipe.salience.condition = Some("combined".into()); // weights from eye-tracking priors
    recipe.train.output_dir = output.clone();
    recipe.train.learning_rate = 1e-2;
    recipe.train.max_steps = 12;
    recipe.validate()?;

    let (cpu, prepared) = (Cpu::<f32>::new(0)?, Prepared::from_recipe(recipe)?);
    let log = run::run(cpu, Meter::default(), prepared, &Stop::default(), &mut |event| {
        match event {
            Event::Header(h) => println!("{} of {} values are trained", h.trainable, h.parameters + h.trainable),
            Event::Step(s) => {
                let [loss, path] = [s.loss, s.path_loss].map(|loss| loss.unwrap_or(f64::NAN));
                println!("step {:2}  loss {loss:.3}  on the path {path:.3}", s.step)
            }
            _ => {}
        }
        Ok(()) // an error here would stop the run
    })?;

    let losses: Vec<f64> = log.iter().filter_map(|step| step.loss).collect();
    assert!(losses[11] < 0.9 * losses[0], "the loss does not fall: {losses:?}");
    assert!(output.join("adapter_model.safetensors").is_file() && output.join("adapter_config.json").is_file());
    Ok(())
}
