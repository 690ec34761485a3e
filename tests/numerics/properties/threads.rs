//! The same bits with any number of threads.

use crate::support::models::Method::{Full, Lora};
use crate::support::models::{self, COMPOSITE, DRY, Method, WET, all_gradients, batch, bits};
use eyekern::backend::AdamW;
use eyekern::backend::cpu::Real;
use eyekern::model::config::{Positions, Spec};
use eyekern::model::forward::Rates;
use eyekern::model::params::Param;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::train::step::{Machine, Update};

/// Everything that three optimiser steps leave behind.
#[derive(PartialEq)]
struct Trace {
    outcomes: Vec<[u64; 3]>,
    gradients: Vec<Vec<u64>>,
    weights: Vec<Vec<u32>>,
}

/// Several blocks of rows and of columns; products on either side of where they are shared among threads.
fn wide() -> Spec {
    let inverse = inverse_frequencies(16, 1e4, Scaling::Default);
    Spec {
        vocab: 1500,
        hidden: 128,
        inner: 200,
        layers: 2,
        q_heads: 8,
        kv_heads: 2,
        head_dim: 16,
        attn_scale: 0.25,
        positions: Positions::Rope { inverse, layers: vec![true; 2] },
        max_positions: 256,
        ..models::llama()
    }
}

fn trace<R: Real>(method: Method, rates: Rates, threads: usize) -> Trace {
    let spec = wide();
    let examples = models::examples(&[140, 33, 1, 96, 30, 2], spec.vocab, 0);
    let (many, few) = (batch(&examples[..5].iter().collect::<Vec<_>>(), None), batch(&[&examples[5]], None));
    let batches = [many, few];
    let mut machine = models::build::<R>((spec, 0.08), method, (COMPOSITE, rates), 300, threads);
    let adamw = AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    let (mut outcomes, mut gradients) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let update = Update { adamw, lr: 1e-2, max_norm: 1.0 };
        let outcome = machine.step(&batches, number, &update).expect("a step");
        gradients.extend(bits(&all_gradients(&mut machine)));
        assert!(outcome.loss.is_finite() && outcome.clipped);
        outcomes.push([outcome.loss, outcome.dpo, outcome.grad_norm].map(f64::to_bits));
    }
    let Machine { backend, model, .. } = &mut machine;
    let read = |p: Param<_>| p.values(backend).expect("reads").into_iter().map(f32::to_bits).collect();
    Trace { outcomes, gradients, weights: model.trained().into_iter().map(read).collect() }
}

fn threads_agree<R: Real>(method: Method, rates: Rates) {
    let one = trace::<R>(method, rates, 1);
    for threads in [1, 2, 3, 4] {
        assert!(trace::<R>(method, rates, threads) == one, "{threads} threads give other bits than one");
    }
}

#[test]
fn threads_do_not_change_a_bit_of_a_full_fine_tune() {
    threads_agree::<f32>(Full, DRY);
    threads_agree::<f32>(Full, WET);
}

#[test]
fn threads_do_not_change_a_bit_of_an_adapter() {
    threads_agree::<f32>(Lora, DRY);
    threads_agree::<f32>(Lora, WET);
}

/// In f64 no rounding of a sum to f32 can hide the order in which it was taken.
#[test]
fn threads_do_not_change_a_bit_in_f64() {
    threads_agree::<f64>(Full, WET);
}
