//! What a run will need, counted before anything is allocated: memory by what it is for, and the work of a step.
//!
//! The model, the workspace and the step are those of the run, built on [`Plan`]; the weights are not read.

use super::epochs::Epochs;
use super::prepare::Prepared;
use super::recipe::Normalize;
use super::setup;
use super::step::{Machine, Rule, StepSettings};
use crate::backend::moments::Moments;
use crate::backend::plan::{Counted, Plan};
use crate::backend::{Number, Stored};
use crate::data::pack::Totals;
use crate::error::Result;
use crate::model::adapter::AdapterInit;
use crate::model::config::Spec;
use crate::model::decode::Session;
use crate::model::decoder::{Decoder, Init};
use crate::model::files::Origin;
use crate::model::forward::Rates;
use crate::model::hub;
use crate::model::params::{Param, Train};
use crate::model::workspace::{Kept, Recompute, Workspace};
use serde::Serialize;

/// Bytes of a run on its device, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bytes {
    /// Working weights, adapters and the table of rotary angles.
    pub weights: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// AdamW's moments, and full-precision copies of weights where the working ones are narrower.
    pub optimiser: u64,
    /// What the forward pass keeps for backward.
    pub activations: u64,
    /// Everything else that is passed to operations: gradients of activations, the micro-batch, rows and logits of the
    /// head.
    pub workspace: u64,
    /// What the backend takes for itself.
    pub scratch: u64,
    /// The KV cache and the activations of an evaluation's texts.
    pub generation: u64,
    /// A reference model with its workspace, which comes and goes before activations and workspace are allocated.
    pub reference: u64,
}

impl Bytes {
    /// The most that is there at a time.
    pub fn total(&self) -> u64 {
        let model = self.weights + self.gradients + self.optimiser;
        model + self.scratch + self.reference.max(self.activations + self.workspace + self.generation)
    }

    /// Of a machine; all that the plan has counted is somewhere here.
    pub fn of<E: Number>(machine: &mut Machine<Plan<E>>) -> Bytes {
        let mut bytes = Bytes { scratch: machine.backend.scratch(), ..Bytes::default() };
        let model = &mut machine.model;
        bytes.weights = model.rope.as_ref().map_or(0, Counted::bytes);
        model.base_params().into_iter().for_each(|p| bytes.add(p));
        model.adapter_params().into_iter().for_each(|p| bytes.add(p));
        bytes.activations = activations(&machine.work);
        let attributed = bytes.weights + bytes.gradients + bytes.optimiser + bytes.activations;
        bytes.workspace = machine.backend.bytes() - attributed;
        bytes
    }

    fn add<E: Number>(&mut self, mut param: Param<Plan<E>>) {
        self.weights += match &param {
            Param::Matrix(matrix) => match &matrix.w {
                Stored::Float(w) | Stored::Bf16(w) => w.bytes(),
                Stored::Nf4(w) => w.buffers().into_iter().map(Counted::bytes).sum(),
            },
            Param::Dense(dense) => dense.w.bytes(),
        };
        let Some(Train { grad, moments, master }) = param.train() else { return };
        let moments = match moments {
            Moments::Full { m, v } => m.bytes() + v.bytes(),
            Moments::Coded { m, root } => [m, root].map(|part| part.codes.bytes() + part.absmax.bytes()).iter().sum(),
        };
        self.gradients += grad.bytes();
        self.optimiser += moments + master.as_ref().map_or(0, Counted::bytes);
    }
}

/// What a workspace keeps for backward.
fn activations<E: Number>(work: &Workspace<Plan<E>>) -> u64 {
    let of_block = |k: &Kept<Plan<E>>| {
        let Kept { h1, stat1, qkv, att, lse, h2, stat2, up, act, low } = k;
        let all = [h1, stat1, qkv, att, lse, h2, stat2, up, act].into_iter().chain(low.iter().flatten());
        all.map(Counted::bytes).sum::<u64>()
    };
    let streams = work.x.iter().chain(work.mid.iter()).map(Counted::bytes).sum::<u64>();
    streams + work.kept.iter().map(of_block).sum::<u64>()
}

/// Floating-point operations; a multiply-add counts 2, and attention counts the keys that a query sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Flops {
    /// From ids to log p.
    pub forward: f64,
    /// From log p to gradients.
    pub backward: f64,
    /// Of the forward pass once more, where `train.recompute` asks for it.
    pub recompute: f64,
}

/// The work of an optimiser step: means over the steps of the first epoch, as far as the run goes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Of a step.
    pub flops: Flops,
    /// Micro-batches of a step.
    pub micro_batches: f64,
    /// Tokens of a step; pads count where micro-batches are padded.
    pub tokens: f64,
    /// Labels of a step.
    pub supervised: f64,
    /// Optimiser steps of the run.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
}

/// Values of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parameters {
    /// Of the base model.
    pub model: usize,
    /// That are trained.
    pub trained: usize,
}

/// The model of the recipe on a plan.
fn build<E: Number>(plan: &Plan<E>, prepared: &Prepared) -> Result<Decoder<Plan<E>>> {
    let sizes = match &prepared.origin {
        Origin::Files(files) => files.sizes(),
        Origin::Random(..) => Init::Shapes { bf16: false },
    };
    setup::model(plan, prepared, &sizes, &AdapterInit::Shapes)
}

/// Bytes of a run on a device that `plan` stands for; each call makes a new one. The weights of a `reference_model` are
/// counted as if they were f32 on a processor.
pub fn bytes<E: Number>(plan: impl Fn() -> Plan<E>, prepared: &Prepared) -> Result<Bytes> {
    let (recipe, settings) = (&prepared.recipe, setup::settings(prepared));
    let model = |plan: &Plan<E>| build(plan, prepared);
    let mut machine = of(plan(), model, settings)?;
    // one step, for what operations take
    if let Some(step) = Epochs::new(&prepared.train.examples, recipe).epoch(0).first() {
        let batch = |indices: &Vec<usize>| setup::lay_out(&prepared.train.examples, indices, setup::pad(recipe));
        let batches: Vec<_> = step.iter().map(batch).collect();
        machine.gradients(&batches, 1)?;
    }
    let mut bytes = Bytes::of(&mut machine);
    if let Some(texts) = &prepared.texts {
        let before = machine.backend.bytes();
        Session::new(&machine.backend, &machine.model, texts.room())?;
        bytes.generation = machine.backend.bytes() - before;
    }
    if let Some(dir) = recipe.reference_model() {
        let dir = hub::resolve(&dir.to_string_lossy())?;
        let spec = Spec::load(&dir.join("config.json"))?;
        let shapes = Init::Shapes { bf16: false };
        let model = |plan: &Plan<E>| Decoder::build(plan, spec, &shapes, None, setup::positions(prepared));
        let other = of(plan(), model, StepSettings { train: false, rates: Rates::default(), ..settings })?;
        bytes.reference = other.backend.bytes();
    }
    Ok(bytes)
}

/// A machine on a plan; the objective divides by a count, which no step refuses.
fn of<E: Number>(
    plan: Plan<E>, model: impl FnOnce(&Plan<E>) -> Result<Decoder<Plan<E>>>, settings: StepSettings,
) -> Result<Machine<Plan<E>>> {
    let model = model(&plan)?;
    let rule = Rule { normalize: Normalize::Tokens, ..settings.rule };
    Machine::new(plan, model, StepSettings { rule, ..settings })
}

/// Values of the recipe's model.
pub fn parameters(prepared: &Prepared) -> Result<Parameters> {
    let mut model = build(&Plan::default(), prepared)?;
    let model_values = model.base_params().iter().map(Param::len).sum();
    Ok(Parameters { model: model_values, trained: model.trained().iter().map(Param::len).sum() })
}

/// The work of a step and of the run; the same on every device.
pub fn work(prepared: &Prepared) -> Result<Work> {
    let settings = setup::settings(prepared);
    let machine = |recompute| of(Plan::default(), |b| build(b, prepared), StepSettings { recompute, ..settings });
    let [mut kept, mut anew] = [machine(Recompute::None)?, machine(settings.recompute)?];
    let examples = &prepared.train.examples;
    let epochs = Epochs::new(examples, &prepared.recipe);
    let (epoch, steps) = (epochs.epoch(0), epochs.total());
    let seen = epoch.len().min(usize::try_from(steps).unwrap_or(usize::MAX));
    let (mut sum, mut totals) = (Work::default(), Totals::default());
    for indices in epoch[..seen].iter().flatten() {
        let batch = setup::lay_out(examples, indices, setup::pad(&prepared.recipe));
        let tokens = batch.ids.len() as f64;
        let keys: f64 = batch.seg_start.iter().enumerate().map(|(t, &start)| (t + 1) as f64 - f64::from(start)).sum();
        // the plan takes the batch for one example, of half the square of its tokens
        let share = keys / (tokens * tokens / 2.0).max(1.0);
        let batch = std::slice::from_ref(&batch);
        let forward = flops(&mut kept, share, |m| m.evaluate(batch).map(drop))?;
        let without = flops(&mut kept, share, |m| m.gradients(batch, 1).map(drop))?;
        let with = flops(&mut anew, share, |m| m.gradients(batch, 1).map(drop))?;
        sum.flops.forward += forward;
        sum.flops.backward += without - forward;
        sum.flops.recompute += with - without;
        sum.tokens += tokens;
        sum.micro_batches += 1.0;
        totals = [totals, Totals::of(&batch[0], false)].into_iter().sum();
    }
    let mean = |total: f64| total / seen.max(1) as f64;
    let Flops { forward, backward, recompute } = sum.flops;
    Ok(Work {
        flops: Flops { forward: mean(forward), backward: mean(backward), recompute: mean(recompute) },
        micro_batches: mean(sum.micro_batches),
        tokens: mean(sum.tokens),
        supervised: mean(totals.supervised as f64),
        steps,
        epochs: steps as f64 / epoch.len().max(1) as f64,
    })
}

/// What `pass` takes, of attention only the share of keys that are seen.
fn flops(machine: &mut Machine<Plan>, share: f64, pass: impl FnOnce(&mut Machine<Plan>) -> Result) -> Result<f64> {
    let counted = |plan: &Plan| (plan.attention_flops() as f64, (plan.flops() - plan.attention_flops()) as f64);
    let before = counted(&machine.backend);
    pass(machine)?;
    let after = counted(&machine.backend);
    Ok((after.1 - before.1) + share * (after.0 - before.0))
}
