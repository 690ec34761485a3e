//! What a run will need, counted before anything is allocated.

use super::prepare::{Origin, Prepared};
use super::recipe::Method;
use super::run;
use super::step::Machine;
use crate::backend::plan::Plan;
use crate::error::Result;
use crate::model::adapter::Start;
use crate::model::decoder::{Decoder, Source};
use safetensors::Dtype;

/// Bytes of weights, gradients, optimiser state, activations and workspace of a CPU run.
pub fn bytes(prepared: &Prepared) -> Result<u64> {
    let plan = Plan::default();
    let recipe = &prepared.recipe;
    let full = recipe.train.method == Method::Full;
    let bf16 = match &prepared.origin {
        Origin::Files(files) => files.checkpoint.main_dtype() == Dtype::BF16,
        Origin::Random(..) => false,
    };
    let spec = prepared.origin.spec().clone();
    let mut model = Decoder::build(&plan, spec, &Source::Shapes { bf16 }, full, run::positions(prepared))?;
    if !full {
        model.attach(&plan, &run::lora_config(recipe), &Start::Shapes, true)?;
    }
    let machine = Machine::new(plan, model, run::rule(recipe), run::rates(recipe), run::capacity(prepared), true, 0)?;
    Ok(machine.backend.bytes())
}
