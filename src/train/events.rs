//! What a run tells while it goes, and how it is asked to stop.

use super::epochs::Epochs;
use super::meter::Meter;
use super::prepare::Prepared;
use super::step::Outcome;
use crate::backend::Backend;
use crate::model::decoder::Decoder;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A wish to stop that may come at any time and from any thread: the run finishes its step, writes a checkpoint and
/// ends with [`crate::error::Error::Interrupted`].
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Asks; `code` is the exit status that the run is to end with. 0 is no wish.
    pub fn ask(&self, code: u8) {
        self.0.store(code.into(), Ordering::Relaxed);
    }

    /// The exit status that was asked for, if one was.
    pub fn asked(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|&code| code > 0)
    }

    /// The number behind it, for a handler of signals.
    pub fn cell(&self) -> Arc<AtomicUsize> {
        self.0.clone()
    }
}

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
    /// A checkpoint lies here.
    Checkpoint(&'a Path),
    /// The result lies here.
    Saved(&'a Path),
}

/// The run in numbers, known before it starts.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
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
    /// What computes.
    pub device: String,
    /// Its peak in FLOP/s, which MFU is a share of; `None` where it is unknown.
    pub peak_flops: Option<f64>,
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
    /// Model FLOPs of the step ([`crate::model::flops`]).
    pub flops: f64,
    /// Model FLOPs utilisation: their share of what the device could do in that time; `None` where its peak is unknown.
    pub mfu: Option<f64>,
    /// The most bytes of memory in use so far, where that is known.
    pub peak_bytes: Option<u64>,
    /// Seconds to the end of the run, evaluations and checkpoints included, by recent steps.
    pub left: Option<f64>,
}

/// One evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvalLog {
    /// Optimiser steps done.
    pub step: u64,
    /// Losses over the validation file.
    pub outcome: Outcome,
}

impl Header {
    /// Of a run with this model on this device.
    pub fn of<B: Backend>(p: &Prepared, model: &mut Decoder<B>, meter: &Meter<B>) -> Header {
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
            salience: p.drawing.as_ref().map(super::salience::describe),
            normalize: recipe.objective.normalize.to_string(),
            arm: recipe.objective.arm.to_string(),
            gamma: recipe.objective.gamma,
            steps: Epochs::new(&p.train.examples, recipe).total(),
            seed: recipe.train.seed,
            device: meter.device.clone(),
            peak_flops: meter.peak,
        }
    }
}
