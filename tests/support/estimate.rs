//! The memory that a dry run predicts, and machines to compare it with.

use super::models::Method::{Full, Lora};
use super::models::{self, DRY, Method, WET};
use eyekern::backend::moments::Optim;
use eyekern::backend::plan::Plan;
use eyekern::backend::{AdamW, Backend, Number};
use eyekern::data::Batch;
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::Rates;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::model::workspace::Recompute;
use eyekern::train::estimate::Bytes;
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings, Update};

/// Tokens of a micro-batch.
pub const TOKENS: usize = 384;

/// The architectures of the other tests, with matrices of some size.
pub fn specs() -> [Spec; 5] {
    models::architectures().map(|spec| {
        let (layers, q_heads) = (4, 8);
        let kv_heads = if spec.kv_heads == spec.q_heads { q_heads } else { spec.kv_heads };
        let positions = match spec.positions {
            Positions::Learned => Positions::Learned,
            Positions::Rope { .. } => {
                Positions::Rope { inverse: inverse_frequencies(32, 1e4, Scaling::Default), layers: vec![true; layers] }
            }
        };
        let (vocab, hidden, inner, head_dim, max_positions) = (1500, 256, 640, 32, TOKENS);
        Spec { vocab, hidden, inner, layers, q_heads, kv_heads, head_dim, positions, max_positions, ..spec }
    })
}

/// One micro-batch of [`TOKENS`].
pub fn batches(spec: &Spec) -> [Batch; 1] {
    let list = models::examples(&[200, 100, 84], spec.vocab, 0);
    [models::batch(&list.iter().collect::<Vec<_>>(), None)]
}

/// Dropout, what is kept for backward, and how the optimiser keeps its moments.
pub type How = (Rates, Recompute, Optim);

/// A machine as a run builds it.
pub fn machine<B: Backend>(
    b: B, spec: &Spec, method: Method, (rates, recompute, optim): How, source: &Init, start: &AdapterInit,
) -> Machine<B> {
    let mut model =
        Decoder::build(&b, spec.clone(), source, (method == Full).then_some(optim), TOKENS).expect("builds");
    if method == Lora {
        let config = LoraConfig { r: 8, alpha: 8.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
        model.attach(&b, &config, start, Some(optim)).expect("attaches");
    }
    let capacity = Capacity { tokens: TOKENS, supervised: TOKENS };
    let settings = StepSettings { rule: Rule::default(), rates, capacity, recompute, ..StepSettings::default() };
    Machine::new(b, model, settings).expect("allocates")
}

/// Two steps.
pub fn steps<B: Backend>(machine: &mut Machine<B>, batches: &[Batch]) {
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    for step in 1..=2 {
        machine.step(batches, step, &Update { adamw, lr: 1e-4, max_norm: 1.0 }).expect("a step");
    }
}

/// What a dry run of two steps predicts.
pub fn predicted<E: Number>(plan: Plan<E>, spec: &Spec, method: Method, how: How) -> Bytes {
    let source = Init::Shapes { bf16: false };
    let mut machine = machine(plan, spec, method, how, &source, &AdapterInit::Shapes);
    steps(&mut machine, &batches(spec));
    Bytes::of(&mut machine)
}

/// Every architecture, what is trained and what is kept, with and without dropout, moments in full and in 8 bits.
pub fn cases(check: impl Fn(&Spec, Method, How)) {
    for spec in specs() {
        for method in [Full, Lora] {
            for how in [
                (DRY, Recompute::None, Optim::AdamW),
                (DRY, Recompute::Layer, Optim::AdamW8bit),
                (WET, Recompute::Layer, Optim::AdamW),
            ] {
                check(&spec, method, how);
            }
        }
    }
}

/// Fails where two numbers of bytes are a tenth apart.
pub fn close(spec: &Spec, method: Method, how: How, planned: u64, taken: u64) {
    let ratio = planned as f64 / taken as f64;
    println!("{:11} {method:?} {:?} {}: {planned} planned, {taken} taken, {ratio:.3}", spec.model_type, how.1, how.2);
    assert!((0.9..1.1).contains(&ratio), "{} {method:?} {how:?}: {planned} planned, {taken} taken", spec.model_type);
}

/// Random weights, and a new adapter.
pub const FRESH: (Init, AdapterInit) =
    (Init::Random { seed: 1, std: 0.02, bf16: false }, AdapterInit::Fresh { seed: 1 });
