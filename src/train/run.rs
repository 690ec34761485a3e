//! A run from a prepared recipe to saved files. Emits events and prints nothing.

use super::epochs::{self, Epochs};
use super::prepare::{ModelFiles, Origin, Prepared};
use super::recipe::{Method, Recipe, SaveDtype};
use super::step::{Capacity, Machine, Outcome, Rule, Settings, Update};
use super::{metrics, schedule};
use crate::backend::{AdamW, Backend};
use crate::data::corpus::Corpus;
use crate::data::pack::{self, Batching};
use crate::data::{Batch, Example};
use crate::error::{Error, Result};
use crate::files;
use crate::model::adapter::{LoraConfig, Start};
use crate::model::decoder::{Decoder, Rates, Source};
use crate::model::save;
use safetensors::Dtype;
use std::path::Path;
use std::time::Instant;

/// What the run tells while it goes.
pub enum Event<'a> {
    /// Before the first step.
    Header(&'a Header),
    /// Something the user should know.
    Note(&'a str),
    /// Reference log-probabilities: examples done, of all.
    Reference(usize, usize),
    /// After an optimiser step.
    Step(&'a StepLog),
    /// After an evaluation.
    Evaluation(&'a EvalLog),
    /// The result lies here.
    Saved(&'a Path),
}

/// The run in numbers, known before it starts.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Header {
    /// Name or directory of the model.
    pub model: String,
    /// Its `model_type`.
    pub model_type: String,
    /// Values of the base model.
    pub parameters: usize,
    /// Values that are trained.
    pub trainable: usize,
    /// "lora" or "full".
    pub method: String,
    /// Rows that are trained on.
    pub rows: usize,
    /// Rows of the file.
    pub rows_read: usize,
    /// Tokens of an epoch, without padding.
    pub tokens: usize,
    /// Share of supervised tokens.
    pub supervised: f64,
    /// Share of rows whose EOS is supervised; unknown without a tokenizer.
    pub eos: Option<f64>,
    /// Share of supervised tokens on the scan path.
    pub on_path: f64,
    /// Smallest, mean and largest weight.
    pub weights: [f64; 3],
    /// What weights are drawn from; `None`: they are the data's own.
    pub salience: Option<String>,
    /// What the loss is divided by.
    pub normalize: String,
    /// Which weights are used.
    pub arm: String,
    /// Factor on the preference term.
    pub gamma: f64,
    /// Optimiser steps of the run.
    pub steps: u64,
    /// Seed.
    pub seed: u64,
}

/// One optimiser step.
#[derive(Clone, Copy, Debug)]
pub struct StepLog {
    /// From 1.
    pub step: u64,
    /// Of so many.
    pub total: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Losses, norm, totals.
    pub outcome: Outcome,
    /// Wall time of the step in seconds.
    pub seconds: f64,
}

/// One evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvalLog {
    /// Optimiser steps done.
    pub step: u64,
    /// Losses over the validation file.
    pub outcome: Outcome,
}

/// Runs to the end and saves; `on` receives the events and may stop the run with an error.
pub fn run<B: Backend>(backend: B, prepared: Prepared, on: &mut dyn FnMut(Event) -> Result) -> Result<Vec<StepLog>> {
    let mut run = Run::start(backend, prepared, on)?;
    run.train(on)?;
    run.save(on)?;
    Ok(run.log)
}

/// log p of the supervised tokens of every example under the reference, for the training and the validation examples;
/// empty without a preference term.
#[derive(Default)]
struct References {
    train: Vec<Vec<f32>>,
    validation: Vec<Vec<f32>>,
}

struct Run<B: Backend> {
    prepared: Prepared,
    machine: Machine<B>,
    references: References,
    metrics: metrics::Writer,
    log: Vec<StepLog>,
}

impl<B: Backend> Run<B> {
    fn start(mut backend: B, prepared: Prepared, on: &mut dyn FnMut(Event) -> Result) -> Result<Run<B>> {
        let recipe = &prepared.recipe;
        let mut model = build(&backend, &prepared)?;
        let header = header(&prepared, &mut model);
        let other = match &recipe.objective.reference_model {
            Some(dir) if recipe.objective.gamma != 0.0 => Some(reference_model(&backend, dir, &prepared)?),
            _ => None,
        };
        // the folder and its first line exist before any time is spent
        let mut metrics = metrics::Writer::create(&recipe.train.output_dir)?;
        metrics.header(&header)?;
        on(Event::Header(&header))?;
        for note in &prepared.notes {
            on(Event::Note(note))?;
        }
        let settings = settings(&prepared);
        let mut references = References::default();
        let own = settings.rule.gamma != 0.0 && other.is_none();
        if let Some(plain) = other {
            // it comes and goes before the trained model's workspace is allocated
            let mut machine =
                Machine::new(backend, plain, Settings { train: false, rates: Rates::default(), ..settings })?;
            references = References::of(&mut machine, &prepared, on)?;
            backend = machine.backend;
        }
        let mut machine = Machine::new(backend, model, settings)?;
        if own {
            references = References::of(&mut machine, &prepared, on)?;
        }
        Ok(Run { machine, references, metrics, log: Vec::new(), prepared })
    }

    fn train(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let t = self.prepared.recipe.train.clone();
        let adamw =
            AdamW { beta1: t.adam_beta1, beta2: t.adam_beta2, eps: t.adam_epsilon, weight_decay: t.weight_decay };
        let total = Epochs::new(&self.prepared.train.examples, &self.prepared.recipe).total();
        let warmup = schedule::warmup_steps(t.warmup_ratio, t.warmup_steps, total);
        let mut step = 0;
        for epoch in 0.. {
            if let Some(drawing) = self.prepared.drawing.as_ref().filter(|d| epoch > 0 && d.salience.path.dynamic) {
                self.prepared.train.draw(drawing, epoch);
            }
            let steps = Epochs::new(&self.prepared.train.examples, &self.prepared.recipe).epoch(epoch);
            let per_epoch = steps.len();
            for (i, plan) in steps.into_iter().enumerate() {
                if step == total {
                    return Ok(());
                }
                let lr = schedule::rate(t.lr_scheduler_type, t.learning_rate, warmup, total, step);
                step += 1;
                let started = Instant::now();
                let batches: Vec<Batch> =
                    plan.iter().map(|b| self.batch(&self.prepared.train, &self.references.train, b)).collect();
                let outcome = self.machine.step(&batches, step, &Update { adamw, lr, max_norm: t.max_grad_norm })?;
                self.check_finite(&outcome, step, &plan)?;
                let epoch = f64::from(epoch) + (i + 1) as f64 / per_epoch as f64;
                let log = StepLog { step, total, epoch, lr, outcome, seconds: started.elapsed().as_secs_f64() };
                self.metrics.step(&log)?;
                self.log.push(log);
                on(Event::Step(&log))?;
                let last_of_epoch = i + 1 == per_epoch || step == total;
                let due =
                    if t.eval_steps > 0 { step.is_multiple_of(t.eval_steps) || step == total } else { last_of_epoch };
                if due {
                    self.evaluate(step, on)?;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, step: u64, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let Some(validation) = &self.prepared.validation else { return Ok(()) };
        let order: Vec<usize> = (0..validation.examples.len()).collect();
        let plan = epochs::plan(&validation.examples, &order, &self.prepared.recipe);
        let batches: Vec<Batch> = plan.iter().map(|b| self.batch(validation, &self.references.validation, b)).collect();
        let log = EvalLog { step, outcome: self.machine.evaluate(&batches)? };
        self.metrics.evaluation(&log)?;
        on(Event::Evaluation(&log))
    }

    fn batch(&self, corpus: &Corpus, reference: &[Vec<f32>], indices: &[usize]) -> Batch {
        let pad = (self.prepared.recipe.data.batching == Batching::Padded).then_some(0);
        let mut batch = lay_out(&corpus.examples, indices, pad);
        if !reference.is_empty() {
            batch.ref_logp = indices.iter().flat_map(|&i| reference[i].iter().copied()).collect();
        }
        batch
    }

    /// A loss or a gradient that is not finite ends the run at once, with the rows that gave it.
    fn check_finite(&self, outcome: &Outcome, step: u64, plan: &[Vec<usize>]) -> Result {
        if outcome.loss.is_finite() {
            if outcome.grad_norm.is_finite() {
                return Ok(());
            }
            let why =
                "the gradient is not finite; lower train.learning_rate or look at the largest weights of the data";
            return Err(Error::Training { step, why: why.into() });
        }
        let examples = || plan.iter().flatten().map(|&i| &self.prepared.train.examples[i]);
        let rows: Vec<String> = examples().take(8).map(|e| (e.row + 1).to_string()).collect();
        let largest = examples().flat_map(|e| &e.weights).fold(0f32, |m, w| m.max(w.abs()));
        let remedy = match step {
            1 => "no update has been made yet, so look at those rows and at the values of the model",
            _ => "lower train.learning_rate or mend those rows",
        };
        Err(Error::Training {
            step,
            why: format!(
                "the loss is {}; it came from rows {}{} of {}, whose largest weight is {largest:?}; {remedy}",
                outcome.loss,
                rows.join(", "),
                if examples().count() > rows.len() { ", ..." } else { "" },
                self.prepared.train.file.display()
            ),
        })
    }

    fn save(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let Prepared { recipe, origin, .. } = &self.prepared;
        let out = &recipe.train.output_dir;
        let m = &mut self.machine;
        match recipe.train.method {
            Method::Lora => {
                let base = &recipe.model.model_name_or_path;
                save::adapter(&m.backend, &m.model, &lora_config(recipe), base, dtype(recipe, origin), out)?
            }
            Method::Full => save::full(&m.backend, &mut m.model, origin.config(), dtype(recipe, origin), out)?,
        }
        if let Origin::Files(files) = origin {
            save::copy_companions(&files.dir, out)?;
        }
        if let Some(path) = &recipe.model.tokenizer {
            let dir = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            save::copy_companions(dir.unwrap_or(path), out)?;
        }
        files::write(&out.join("recipe.resolved.toml"), recipe.to_toml_commented())?;
        on(Event::Saved(out))
    }
}

fn all_examples(prepared: &Prepared) -> impl Iterator<Item = &Example> {
    prepared.train.examples.iter().chain(prepared.validation.iter().flat_map(|v| &v.examples))
}

/// Positions that the model must know: those of the longest example.
pub(super) fn positions(prepared: &Prepared) -> usize {
    all_examples(prepared).map(|e| e.ids.len()).max().unwrap_or(1)
}

/// Objective, dropout and the largest micro-batch of the run, evaluation included.
pub(super) fn settings(prepared: &Prepared) -> Settings {
    let recipe = &prepared.recipe;
    let (o, m) = (&recipe.objective, &recipe.model);
    let largest = |c: &Corpus| epochs::largest_batch(&c.examples, recipe);
    Settings {
        rule: Rule { normalize: o.normalize, gamma: o.gamma, beta: o.beta, dpo_weights: o.dpo_weights },
        rates: Rates {
            embd: m.embd_dropout,
            attention: m.attention_dropout,
            resid: m.resid_dropout,
            lora: if recipe.train.method == Method::Lora { recipe.lora.lora_dropout } else { 0.0 },
        },
        capacity: Capacity {
            tokens: largest(&prepared.train).max(prepared.validation.as_ref().map_or(0, largest)),
            supervised: all_examples(prepared).map(Example::supervised).max().unwrap_or(0),
        },
        train: true,
        seed: recipe.train.seed,
    }
}

fn lay_out(examples: &[Example], indices: &[usize], pad: Option<u32>) -> Batch {
    let chosen: Vec<&Example> = indices.iter().map(|&i| &examples[i]).collect();
    pack::batch(&chosen, pad)
}

impl References {
    /// One pass over both corpora with adapters switched off; the values do not change while the model trains.
    fn of<B: Backend>(
        machine: &mut Machine<B>,
        prepared: &Prepared,
        on: &mut dyn FnMut(Event) -> Result,
    ) -> Result<References> {
        let mut pass = |corpus: &Corpus| -> Result<Vec<Vec<f32>>> {
            let order: Vec<usize> = (0..corpus.examples.len()).collect();
            let mut reference = vec![Vec::new(); order.len()];
            let mut done = 0;
            for indices in epochs::plan(&corpus.examples, &order, &prepared.recipe) {
                let batch = lay_out(&corpus.examples, &indices, None);
                let logp = machine.logp(&batch, false)?;
                for (bounds, &i) in batch.row_start.windows(2).zip(&indices) {
                    reference[i] = logp[bounds[0] as usize..bounds[1] as usize].to_vec();
                }
                done += indices.len();
                on(Event::Reference(done, order.len()))?;
            }
            Ok(reference)
        };
        let train = pass(&prepared.train)?;
        Ok(References { train, validation: prepared.validation.as_ref().map(pass).transpose()?.unwrap_or_default() })
    }
}

/// The model of the recipe on a device, with fresh adapters where they are trained.
fn build<B: Backend>(b: &B, prepared: &Prepared) -> Result<Decoder<B>> {
    let recipe = &prepared.recipe;
    let full = recipe.train.method == Method::Full;
    let source = match &prepared.origin {
        Origin::Files(files) => Source::File(&files.checkpoint),
        Origin::Random(..) => Source::Random { seed: recipe.train.seed, std: 0.02 },
    };
    let mut model = Decoder::build(b, prepared.origin.spec().clone(), &source, full, positions(prepared))?;
    if !full {
        model.attach(b, &lora_config(recipe), &Start::Fresh { seed: recipe.train.seed }, true)?;
    }
    Ok(model)
}

/// Another model as the reference: of any architecture, but with the same vocabulary.
fn reference_model<B: Backend>(b: &B, dir: &Path, prepared: &Prepared) -> Result<Decoder<B>> {
    let files = ModelFiles::open(&dir.to_string_lossy())?;
    let (reference, policy) = (files.spec.vocab, prepared.origin.spec().vocab);
    if reference != policy {
        let why = format!(
            "the reference model has a vocabulary of {reference}, the trained one of {policy}; they must share it"
        );
        return Err(Error::file(&files.dir, why));
    }
    let positions = positions(prepared);
    files.spec.check_length(positions, &files.dir.join("config.json"))?;
    Decoder::build(b, files.spec, &Source::File(&files.checkpoint), false, positions)
}

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

/// The dtype of what is saved: the recipe's, else that of most of the checkpoint for a full model and f32 for an adapter.
fn dtype(recipe: &Recipe, origin: &Origin) -> Dtype {
    match (recipe.train.save_dtype, recipe.train.method, origin) {
        (SaveDtype::Float32, ..) => Dtype::F32,
        (SaveDtype::Bfloat16, ..) => Dtype::BF16,
        (SaveDtype::Float16, ..) => Dtype::F16,
        (SaveDtype::Auto, Method::Full, Origin::Files(files)) => files.checkpoint.main_dtype(),
        (SaveDtype::Auto, ..) => Dtype::F32,
    }
}

fn header<B: Backend>(p: &Prepared, model: &mut Decoder<B>) -> Header {
    let (recipe, report) = (&p.recipe, &p.train.report);
    Header {
        model: recipe.model.model_name_or_path.clone(),
        model_type: p.origin.spec().model_type.clone(),
        parameters: model.base_params().iter().map(|p| p.len()).sum(),
        trainable: model.trained().iter().map(|p| p.len()).sum(),
        method: recipe.train.method.to_string(),
        rows: report.kept,
        rows_read: report.rows,
        tokens: report.tokens,
        supervised: report.share_supervised(),
        eos: p.tokenizer.as_ref().map(|_| report.share_eos()),
        on_path: report.share_on_path(),
        weights: [report.weight_min, report.weight_mean, report.weight_max],
        salience: p.drawing.as_ref().map(super::salience::describe),
        normalize: recipe.objective.normalize.to_string(),
        arm: recipe.objective.arm.to_string(),
        gamma: recipe.objective.gamma,
        steps: Epochs::new(&p.train.examples, recipe).total(),
        seed: recipe.train.seed,
    }
}
