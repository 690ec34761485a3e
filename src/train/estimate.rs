//! What a run will need, counted before anything is allocated.

use super::prepare::{Origin, Prepared};
use super::recipe::Method;
use super::run;
use super::step::Machine;
use crate::backend::plan::Plan;
use crate::error::Result;
use crate::model::adapter::Start;
use crate::model::config::Spec;
use crate::model::decoder::{Decoder, Source};
use crate::model::hub;
use safetensors::Dtype;

/// Bytes of weights, gradients, optimiser state, activations and workspace of a CPU run. The weights of a
/// `reference_model` are counted too, as if they were f32.
pub fn bytes(prepared: &Prepared) -> Result<u64> {
    let plan = Plan::default();
    let (recipe, positions) = (&prepared.recipe, run::positions(prepared));
    let full = recipe.train.method == Method::Full;
    let bf16 = match &prepared.origin {
        Origin::Files(files) => files.checkpoint.main_dtype() == Dtype::BF16,
        Origin::Random(..) => false,
    };
    if let Some(dir) = recipe.objective.reference_model.as_ref().filter(|_| recipe.objective.gamma != 0.0) {
        let dir = hub::resolve(&dir.to_string_lossy(), |key| std::env::var(key).ok())?;
        let spec = Spec::load(&dir.join("config.json"))?;
        Decoder::build(&plan, spec, &Source::Shapes { bf16: false }, false, positions)?;
    }
    let spec = prepared.origin.spec().clone();
    let mut model = Decoder::build(&plan, spec, &Source::Shapes { bf16 }, full, positions)?;
    if !full {
        model.attach(&plan, &run::lora_config(recipe), &Start::Shapes, true)?;
    }
    Ok(Machine::new(plan, model, run::settings(prepared))?.backend.bytes())
}
