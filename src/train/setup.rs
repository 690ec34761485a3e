//! From prepared inputs to the parts of a run: sizes, settings, the model on a device, the header. The run, its
//! reference pass and its estimate share them.

use super::epochs::{self, Epochs};
use super::log::Header;
use super::meter::Meter;
use super::prepare::Prepared;
use super::recipe::{Arm, Method, Recipe};
use super::salience;
use super::step::{Capacity, Rule, StepSettings};
use crate::backend::{Backend, Modulation};
use crate::data::corpus::Corpus;
use crate::data::pack::{self, Batching};
use crate::data::{Batch, Example};
use crate::error::Result;
use crate::eval::run::Task;
use crate::model::adapter::{AdapterInit, LoraConfig};
use crate::model::decoder::{Decoder, Init};
use crate::model::forward::Rates;

/// Positions that the model must know: those of the longest example, or of the longest text of an evaluation.
pub(super) fn positions(prepared: &Prepared) -> usize {
    let texts = prepared.texts.as_ref().map(Task::positions);
    examples(prepared).map(|e| e.ids.len()).chain(texts).max().unwrap_or(1)
}

fn examples(prepared: &Prepared) -> impl Iterator<Item = &Example> {
    prepared.corpora().flat_map(|corpus| &corpus.examples)
}

/// Objective, dropout and the largest micro-batch of the run, evaluation included.
pub(super) fn settings(prepared: &Prepared) -> StepSettings {
    let recipe = &prepared.recipe;
    let (o, m) = (&recipe.objective, &recipe.model);
    let largest = |corpus: &Corpus| epochs::largest_batch(&corpus.examples, recipe);
    StepSettings {
        rule: Rule {
            normalize: o.normalize,
            gamma: o.gamma,
            beta: o.beta,
            dpo_weights: o.dpo_weights,
            modulation: match o.arm {
                Arm::Focal => Modulation::Focal(o.arm_focal),
                Arm::Dft => Modulation::Probability,
                _ => Modulation::None,
            },
        },
        rates: Rates {
            embd: m.embd_dropout,
            attention: m.attention_dropout,
            resid: m.resid_dropout,
            lora: if recipe.train.method == Method::Lora { recipe.lora.lora_dropout } else { 0.0 },
        },
        capacity: Capacity {
            tokens: prepared.corpora().map(largest).max().unwrap_or(0),
            supervised: examples(prepared).map(Example::supervised).max().unwrap_or(0),
        },
        train: true,
        recompute: recipe.train.recompute,
        seed: recipe.train.seed,
    }
}

/// The micro-batch of these examples, padded with `pad` if it is given ([`pack::batch`]).
pub(super) fn lay_out(examples: &[Example], indices: &[usize], pad: Option<u32>) -> Batch {
    let chosen: Vec<&Example> = indices.iter().map(|&i| &examples[i]).collect();
    pack::batch(&chosen, pad)
}

/// The id that pads micro-batches, if the recipe pads them.
pub(super) fn pad(recipe: &Recipe) -> Option<u32> {
    (recipe.data.batching == Batching::Padded).then_some(0)
}

/// The model of the recipe with values from `base`, and with adapters where they are trained.
pub(super) fn model<B: Backend>(b: &B, prepared: &Prepared, base: &Init, adapters: &AdapterInit) -> Result<Decoder<B>> {
    let (spec, t) = (prepared.origin.spec().clone(), &prepared.recipe.train);
    let full = t.method == Method::Full;
    let mut model = Decoder::build(b, spec, base, full.then_some(t.optim), positions(prepared))?;
    if !full {
        model.attach(b, &lora_config(&prepared.recipe), adapters, Some(t.optim))?;
    }
    Ok(model)
}

/// The adapters of the recipe.
pub(super) fn lora_config(recipe: &Recipe) -> LoraConfig {
    let l = &recipe.lora;
    LoraConfig {
        r: l.r,
        alpha: l.lora_alpha,
        dropout: l.lora_dropout,
        rslora: l.use_rslora,
        targets: l.target_modules.clone(),
    }
}

/// The header of a run with this model on this device.
pub(super) fn header<B: Backend>(p: &Prepared, model: &mut Decoder<B>, meter: &Meter<B>) -> Header {
    let (recipe, counts) = (&p.recipe, &p.train.counts);
    Header {
        model: recipe.model.model_name_or_path.clone(),
        model_type: p.origin.spec().model_type.clone(),
        parameters: model.base_params().iter().map(|p| p.len()).sum(),
        trainable: model.trained().iter().map(|p| p.len()).sum(),
        method: recipe.train.method.to_string(),
        rows: counts.kept,
        rows_read: counts.rows,
        tokens: counts.tokens,
        supervised: counts.share_supervised(),
        eos: p.tokenizer.as_ref().map(|_| counts.share_eos()),
        on_path: counts.share_on_path(),
        weights: [counts.weight_min, counts.weight_mean, counts.weight_max],
        salience: p.weighing.drawing.as_ref().map(salience::describe),
        code: (counts.code.rows > 0).then(|| counts.code.clone()),
        normalize: recipe.objective.normalize.to_string(),
        arm: recipe.objective.arm.to_string(),
        gamma: recipe.objective.gamma,
        steps: Epochs::new(&p.train.examples, recipe).total(),
        seed: recipe.train.seed,
        device: meter.device.clone(),
        peak_flops: meter.peak,
    }
}
