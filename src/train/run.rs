//! A run from a prepared recipe to saved files. Emits events and prints nothing.

use super::checkpoint::{self, Best, Progress};
use super::epochs::{self, Epochs};
use super::events::{Event, Stop};
use super::fingerprint::Fingerprint;
use super::meter::{Meter, Pace};
use super::prepare::{self, Prepared};
use super::recipe::{Method, Recipe};
use super::reference::{self, Cache, References};
use super::resume::{self, Resumed};
use super::step::{Machine, Outcome, StepSettings, Update};
use super::{log, metrics, schedule, setup, texts};
use crate::backend::{AdamW, Backend};
use crate::data::Batch;
use crate::data::corpus::Corpus;
use crate::error::{Error, Result};
use crate::eval::run::Task;
use crate::eval::score::Figure;
use crate::files;
use crate::model::adapter::AdapterInit;
use crate::model::decoder::Init;
use crate::model::files::Origin;
use crate::model::flops::Flops;
use crate::model::forward::Rates;
use crate::model::save;
use crate::model::state::{self, Saved};
use safetensors::Dtype;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs to the end and saves. `meter` tells of the device, for the log. `on` receives the events and may end the run at
/// once with an error; `stop` ends it after the step at hand, with a checkpoint. Gives the steps of this call: a
/// resumed run does not have the earlier ones.
pub fn run<B: Backend>(
    backend: B, meter: Meter<B>, prepared: Prepared, stop: &Stop, on: &mut dyn FnMut(Event) -> Result,
) -> Result<Vec<log::Step>> {
    let mut run = Run::start(backend, meter, prepared, on)?;
    run.train(stop, on)?;
    run.take_best(on)?;
    run.save(on)?;
    Ok(run.log)
}

struct Run<B: Backend> {
    prepared: Prepared,
    machine: Machine<B>,
    meter: Meter<B>,
    flops: Flops,
    references: References,
    metrics: metrics::Writer,
    fingerprint: Fingerprint,
    progress: Progress,
    /// Optimiser steps of the whole run.
    total: u64,
    /// The checkpoint to go back to, if there is one.
    last: Option<PathBuf>,
    log: Vec<log::Step>,
    /// Keeps other runs out of the output directory for as long as this one lives.
    _lock: File,
}

impl<B: Backend> Run<B> {
    fn start(
        mut backend: B, mut meter: Meter<B>, prepared: Prepared, on: &mut dyn FnMut(Event) -> Result,
    ) -> Result<Run<B>> {
        let (recipe, resumed) = (&prepared.recipe, prepared.resumed.as_ref());
        // here and not earlier: hashing reads all weights, which a run that cannot fit never should
        let fingerprint =
            Fingerprint::of(&backend, recipe, &prepared.origin, prepared.tokenizer.as_ref(), prepared.rows)?;
        let changes = resume::changes(resumed, &fingerprint)?;
        let seed = recipe.train.seed;
        let base = match &prepared.origin {
            Origin::Files(files) => files.values(),
            Origin::Random(..) => Init::Random { seed, std: 0.02, bf16: false },
        };
        let mut model = setup::model(&backend, &prepared, &base, &AdapterInit::Fresh { seed })?;
        if recipe.train.peak_tflops > 0.0 {
            meter.peak = Some(1e12 * recipe.train.peak_tflops);
        }
        let mut header = setup::header(&prepared, &mut model, &meter);
        let total = header.steps;
        let flops = Flops::of(&model);
        let other = recipe.reference_model().map(|dir| reference::model(&backend, dir, &prepared)).transpose()?;
        // a state that does not fit is refused before anything of the output is touched
        let saved = resumed.map(|r| Saved::open(&mut model, &r.found.dir.join(checkpoint::TENSORS)));
        let saved = saved.transpose()?;
        // the folder and its first line exist before any time is spent
        let (lock, metrics, notes) = resume::open(recipe, resumed, &mut header, &changes)?;
        write_recipe(recipe, &recipe.train.output_dir)?;
        on(Event::Header(&header))?;
        for note in prepared.notes.iter().chain(&notes) {
            on(Event::Note(note))?;
        }
        let settings = setup::settings(&prepared);
        let mut references = References::default();
        let own = settings.rule.gamma != 0.0 && other.is_none();
        let cache =
            (own || other.is_some()).then(|| Cache::of(&backend, recipe, &fingerprint, &meter.hardware)).flatten();
        let progress = resumed.map(|r| r.found.state.progress).unwrap_or_default();
        if let Some(plain) = other {
            // it comes and goes before the trained model's workspace is allocated
            let mut machine =
                Machine::new(backend, plain, StepSettings { train: false, rates: Rates::default(), ..settings })?;
            references = References::of(&mut machine, &prepared, &progress, total, cache.as_ref(), on)?;
            backend = machine.backend;
        }
        let mut machine = Machine::new(backend, model, settings)?;
        if own {
            references = References::of(&mut machine, &prepared, &progress, total, cache.as_ref(), on)?;
        }
        let (last, log) = Default::default();
        let mut run = Run {
            _lock: lock,
            machine,
            meter,
            flops,
            references,
            metrics,
            fingerprint,
            progress,
            total,
            last,
            log,
            prepared,
        };
        if let (Some(Resumed { found, .. }), Some(saved)) = (run.prepared.resumed.take(), saved) {
            // after the references, which are those of the model before training
            saved.restore(&run.machine.backend, &mut run.machine.model)?;
            run.last = Some(found.dir);
            if changes.iter().any(|change| change.starts_with("train.metric_for_best_model ")) {
                run.progress = Progress { best: None, since_best: 0, ..run.progress };
            }
            run.check_best(on)?;
        }
        Ok(run)
    }

    fn train(&mut self, stop: &Stop, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let t = self.prepared.recipe.train.clone();
        let adamw =
            AdamW { beta1: t.adam_beta1, beta2: t.adam_beta2, eps: t.adam_epsilon, weight_decay: t.weight_decay };
        let total = self.total;
        let warmup = schedule::warmup_steps(t.warmup_ratio, t.warmup_steps, total);
        let mut done = self.progress.step_of_epoch;
        let (mut pace, mut ended) = (Pace::default(), Instant::now());
        for epoch in self.progress.epoch.. {
            if epoch > 0 && self.prepared.weighing.dynamic() {
                self.prepared.weighing.weigh(&mut self.prepared.train, epoch)?;
            }
            let steps = Epochs::new(&self.prepared.train.examples, &self.prepared.recipe).epoch(epoch);
            let per_epoch = steps.len();
            for (i, plan) in steps.into_iter().enumerate().skip(std::mem::take(&mut done)) {
                if self.progress.step >= total || self.out_of_patience(on)? {
                    return Ok(());
                }
                let lr = schedule::rate(t.lr_scheduler_type, t.learning_rate, warmup, total, self.progress.step);
                let step = self.progress.step + 1;
                let started = Instant::now();
                let batches: Vec<Batch> =
                    plan.iter().map(|b| self.batch(&self.prepared.train, &self.references.train, b)).collect();
                let outcome = self.machine.step(&batches, step, &Update { adamw, lr, max_norm: t.max_grad_norm })?;
                self.check_finite(&outcome, step, &plan)?;
                self.progress = Progress { step, epoch, step_of_epoch: i + 1, ..self.progress };
                let epoch = f64::from(epoch) + (i + 1) as f64 / per_epoch as f64;
                pace.step(std::mem::replace(&mut ended, Instant::now()).elapsed().as_secs_f64());
                let (seconds, flops) = (started.elapsed().as_secs_f64(), self.flops(&plan));
                let log = log::Step {
                    step,
                    epoch,
                    learning_rate: lr,
                    flops: Some(flops),
                    seconds,
                    mfu: self.meter.peak.map(|peak| flops / (seconds * peak)),
                    peak_bytes: (self.meter.memory)(&self.machine.backend),
                    seconds_left: pace.left(total - step),
                    ..log::Step::of(&outcome)
                };
                self.metrics.write(&log)?;
                self.log.push(log);
                on(Event::Step(&log))?;
                let last_of_epoch = i + 1 == per_epoch || step == total;
                let every = |steps: u64| if steps > 0 { step.is_multiple_of(steps) } else { last_of_epoch };
                let better = (every(t.eval_steps) || step == total) && self.evaluate(step, on)?;
                let asked = stop.asked().filter(|_| step < total);
                if every(t.save_steps) || (better && t.load_best_model_at_end) || asked.is_some() {
                    self.checkpoint(on)?;
                }
                if let Some(code) = asked {
                    return Err(Error::Interrupted { code, why: self.interrupted() });
                }
            }
        }
        Ok(())
    }

    /// Model FLOPs of a step over these micro-batches.
    fn flops(&self, plan: &[Vec<usize>]) -> f64 {
        let examples = plan.iter().flatten().map(|&i| &self.prepared.train.examples[i]);
        self.flops.step(examples.map(|e| (e.ids.len(), e.supervised())))
    }

    fn interrupted(&self) -> String {
        let dir = self.last.as_deref().unwrap_or(&self.prepared.recipe.train.output_dir).display();
        format!("interrupted after step {}; the same command with --resume auto goes on from {dir}", self.progress.step)
    }

    fn out_of_patience(&self, on: &mut dyn FnMut(Event) -> Result) -> Result<bool> {
        let (patience, Progress { best, since_best, step, .. }) =
            (self.prepared.recipe.train.early_stopping_patience, self.progress);
        let Some(best) = best.filter(|_| patience > 0 && since_best >= patience) else { return Ok(false) };
        let side = if self.prepared.recipe.best_by().is_some() { "above" } else { "below" };
        let (measure, Best { step: then, value }) = (self.measure(), best);
        let note = format!(
            "stopped early after step {step}: {since_best} evaluations without a {measure} {side} {value:.4} of step \
             {then}"
        );
        on(Event::Note(&note)).map(|()| true)
    }

    /// Writes a checkpoint: all that a resume needs, and the model or adapter as at the end of a run, so that it can be
    /// tried out. Then removes what `train.save_total_limit` leaves no room for.
    fn checkpoint(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let t = &self.prepared.recipe.train;
        let (out, limit) = (t.output_dir.clone(), t.save_total_limit);
        let state = checkpoint::State { progress: self.progress, fingerprint: self.fingerprint.clone() };
        let written = checkpoint::write(&out, &state, |dir| {
            state::save(&self.machine.backend, &mut self.machine.model, &dir.join(checkpoint::TENSORS))?;
            self.metrics.copy(&dir.join(checkpoint::METRICS))?;
            self.save_to(dir).map(drop)
        });
        let dir = written.map_err(|e| {
            let why = format!("the checkpoint cannot be written: {e}{}", self.way_back());
            Error::file(&checkpoint::place(&out, self.progress.step), why)
        })?;
        checkpoint::prune(&out, limit, self.progress.best.map(|best| best.step))?;
        on(Event::Checkpoint(&dir))?;
        self.last = Some(dir);
        Ok(())
    }

    /// For the end of a sentence about a failure.
    fn way_back(&self) -> String {
        let told = |dir: &PathBuf| format!("; {} is whole, and --resume auto goes on from it", dir.display());
        self.last.as_ref().map(told).unwrap_or_default()
    }

    /// A best checkpoint that is wanted at the end must be there: somebody may have removed it, or moved the other one.
    fn check_best(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let t = &self.prepared.recipe.train;
        let Some(best) = self.progress.best.filter(|_| t.load_best_model_at_end) else { return Ok(()) };
        let dir = checkpoint::place(&t.output_dir, best.step);
        let Err(why) = checkpoint::open(&dir) else { return Ok(()) };
        self.progress = Progress { best: None, since_best: 0, ..self.progress };
        on(Event::Note(&format!(
            "{}: the best checkpoint is not whole ({why}); the best is sought anew",
            dir.display()
        )))
    }

    /// Puts the best model in place of the last, where the recipe wants it.
    fn take_best(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let t = &self.prepared.recipe.train;
        let wanted = self.progress.best.filter(|b| t.load_best_model_at_end && b.step != self.progress.step);
        let Some(best) = wanted else { return Ok(()) };
        let dir = checkpoint::place(&t.output_dir, best.step);
        checkpoint::open(&dir).map_err(|why| Error::file(&dir, format!("the best model cannot be loaded: {why}")))?;
        let saved = Saved::open(&mut self.machine.model, &dir.join(checkpoint::TENSORS))?;
        saved.restore(&self.machine.backend, &mut self.machine.model)?;
        let (measure, Best { step, value }) = (self.measure(), best);
        on(Event::Note(&format!("the best model is saved: that of step {step}, eval {measure} {value:.4}")))
    }

    /// What the best model is chosen by.
    fn measure(&self) -> &str {
        self.prepared.recipe.best_by().unwrap_or("loss")
    }

    /// Whether the evaluation is the best so far; `false` without validation data.
    fn evaluate(&mut self, step: u64, on: &mut dyn FnMut(Event) -> Result) -> Result<bool> {
        let Some(validation) = &self.prepared.validation else { return Ok(false) };
        let began = Instant::now();
        let order: Vec<usize> = (0..validation.examples.len()).collect();
        let plan = epochs::plan(&validation.examples, &order, &self.prepared.recipe);
        let batches: Vec<Batch> = plan.iter().map(|b| self.batch(validation, &self.references.validation, b)).collect();
        let outcome = self.machine.evaluate(&batches)?;
        let mut log = log::Evaluation::of(step, &outcome);
        if let Some(texts) = &self.prepared.texts {
            self.generate(texts, &mut log)?;
        }
        log.eval_seconds = Some(began.elapsed().as_secs_f64());
        self.metrics.write(&log)?;
        on(Event::Evaluation(&log))?;
        let value = match self.prepared.recipe.best_by() {
            None => outcome.loss,
            Some(name) => log.metrics.get(&format!("eval_{name}")).and_then(Value::as_f64).unwrap_or(f64::NAN),
        };
        let exceeds = |best: &Best| match self.prepared.recipe.best_by() {
            None => value < best.value,
            Some(_) => value > best.value,
        };
        let better = self.progress.best.as_ref().map_or(value.is_finite(), exceeds);
        if better {
            self.progress = Progress { best: Some(Best { step, value }), since_best: 0, ..self.progress };
        } else {
            self.progress.since_best += 1;
        }
        Ok(better)
    }

    /// Generates the texts of an evaluation, writes them beside the run and scores them.
    fn generate(&self, task: &Task, log: &mut log::Evaluation) -> Result {
        let Some(tokenizer) = &self.prepared.tokenizer else { return Ok(()) };
        let began = Instant::now();
        let mut lines = String::new();
        let scores = task.run(&self.machine.backend, &self.machine.model, tokenizer, |prompt, done, prediction| {
            lines += &texts::line(prompt, done, prediction);
            Ok(())
        })?;
        texts::write(&self.prepared.recipe.train.output_dir, log.step, lines)?;
        let figure = |figure: &Figure| (format!("eval_{}", figure.name), Value::from(figure.value));
        log.metrics = scores.report.figures.iter().map(figure).collect();
        log.eval_generated_tokens = Some(scores.tokens as u64);
        log.eval_generate_seconds = Some(began.elapsed().as_secs_f64());
        Ok(())
    }

    fn batch(&self, corpus: &Corpus, reference: &[Vec<f32>], indices: &[usize]) -> Batch {
        let mut batch = setup::lay_out(&corpus.examples, indices, setup::pad(&self.prepared.recipe));
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
            return Err(Error::Training { step, why: format!("{why}{}", self.way_back()) });
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
                "the loss is {}; it came from rows {}{} of {}, whose largest weight is {largest:?}; {remedy}{}",
                outcome.loss,
                rows.join(", "),
                if examples().count() > rows.len() { ", ..." } else { "" },
                self.prepared.train.file.display(),
                self.way_back()
            ),
        })
    }

    fn save(&mut self, on: &mut dyn FnMut(Event) -> Result) -> Result {
        let out = self.prepared.recipe.train.output_dir.clone();
        let last: &[&str] = match self.prepared.recipe.train.method {
            Method::Lora => &save::OF_ADAPTER,
            Method::Full => &save::OF_FULL,
        };
        let mut note = None;
        files::publish(&out, last, |dir| {
            note = self.save_to(dir)?;
            Ok(())
        })?;
        if let Some(note) = note {
            on(Event::Note(&note))?;
        }
        on(Event::Saved(&out))
    }

    /// The adapter or model with all that belongs beside it. Weights that outgrew float16 are saved in float32, since a
    /// run should not end with nothing; the note says so.
    fn save_to(&mut self, out: &Path) -> Result<Option<String>> {
        let Prepared { recipe, origin, ends, .. } = &self.prepared;
        let m = &mut self.machine;
        let mut dtype = prepare::saved_dtype(recipe, origin);
        let fits = save::fits(&m.backend, &mut m.model, dtype)?;
        if !fits {
            dtype = Dtype::F32;
        }
        match recipe.train.method {
            Method::Lora => {
                let base = &recipe.model.model_name_or_path;
                save::adapter(&m.backend, &m.model, &setup::lora_config(recipe), base, dtype, out)?
            }
            Method::Full => {
                let config = ends.as_ref().map_or(origin.config(), |ends| &ends.config);
                save::full(&m.backend, &mut m.model, config, dtype, out)?
            }
        }
        let model = match origin {
            Origin::Files(files) => Some(files.dir.as_path()),
            Origin::Random(..) => None,
        };
        let sources: Vec<&Path> = model.into_iter().chain(recipe.model.tokenizer.as_deref()).collect();
        save::copy_companions(&sources, out)?;
        ends.iter().try_for_each(|ends| ends.write(out))?;
        write_recipe(recipe, out)?;
        let note = "trained values are beyond float16's 65504, so the weights are saved as float32";
        Ok((!fits).then(|| note.to_string()))
    }
}

/// The recipe as it runs.
fn write_recipe(recipe: &Recipe, out: &Path) -> Result {
    files::write(&out.join(resume::RECIPE), recipe.to_toml_commented())
}
