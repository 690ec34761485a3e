//! The same step, laid out differently.

use super::{BY_WEIGHT, LENGTHS, PLAIN, machine, packed, same, step};
use crate::support::models::Method::{Full, Lora};
use crate::support::models::{self, COMPOSITE, DRY, STD, WET, batch};
use eyekern::backend::cpu::{Cpu, Real};
use eyekern::data::{Batch, Example};
use eyekern::model::config::{Positions, Spec};
use eyekern::model::forward::Rates;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::train::feed::{Feed, chunks};
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings};

/// The sixteen examples as micro-batches of one and of eight, packed, padded, and in other orders.
fn layouts(examples: &[Example]) -> Vec<(&'static str, Vec<Batch>)> {
    let all: Vec<&Example> = examples.iter().collect();
    let shuffled: Vec<&Example> = (0..16).map(|i| all[(i * 11 + 5) % 16]).collect();
    let cut = |list: &[&Example], n: usize, pad| list.chunks(n).map(|c| batch(c, pad)).collect::<Vec<_>>();
    vec![
        ("16 x 1", cut(&all, 1, None)),
        ("2 x 8", cut(&all, 8, None)),
        ("packed", cut(&all, 16, None)),
        ("padded", cut(&all, 16, Some(0))),
        ("4 x 4 padded", cut(&all, 4, Some(3))),
        ("shuffled, packed", cut(&shuffled, 16, None)),
        ("shuffled, 16 x 1", cut(&shuffled, 1, None)),
        ("shuffled, 2 x 8 padded", cut(&shuffled, 8, Some(1))),
    ]
}

fn layouts_agree<R: Real>(rates: Rates, limit: f64) {
    for (spec, method, rule) in [
        (models::llama(), Full, COMPOSITE),
        (models::llama(), Lora, BY_WEIGHT),
        (models::gpt2(), Full, BY_WEIGHT),
        (models::bigcode(true), Lora, COMPOSITE),
        (models::starcoder2(), Full, COMPOSITE),
    ] {
        let mut machine = machine::<R>(&spec, method, rule, rates);
        let layouts = layouts(&models::examples(&LENGTHS, spec.vocab, 40));
        let expected = step(&mut machine, &layouts[0].1);
        for (what, batches) in &layouts[1..] {
            same(&format!("{} {method:?}, {what}", spec.model_type), &step(&mut machine, batches), &expected, limit);
        }
    }
}

#[test]
fn the_layout_of_a_step_does_not_matter_in_f64() {
    layouts_agree::<f64>(DRY, 1e-10);
}

#[test]
fn the_layout_of_a_step_does_not_matter_in_f32() {
    layouts_agree::<f32>(DRY, 1e-5);
}

/// A token's mask goes with its example and position, wherever they are put.
#[test]
fn the_layout_of_a_step_does_not_matter_under_dropout() {
    layouts_agree::<f64>(WET, 1e-10);
}

/// log p of a label is the same alone, packed and padded.
#[test]
fn log_probabilities_belong_to_the_example() {
    let spec = models::gpt2();
    let examples = models::examples(&LENGTHS, spec.vocab, 0);
    let mut machine = machine::<f64>(&spec, Full, COMPOSITE, WET);
    let alone: Vec<f32> =
        examples.iter().flat_map(|e| machine.logp(&batch(&[e], None), true).expect("forward")).collect();
    for pad in [None, Some(2)] {
        let together = batch(&examples.iter().collect::<Vec<_>>(), pad);
        let got = machine.logp(&together, true).expect("forward");
        assert!(got.len() == alone.len() && got.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-6), "{pad:?}");
    }
}

/// Pads are known by their place: which id they carry, also one that is a label elsewhere, changes nothing.
#[test]
fn the_id_of_a_pad_does_not_matter() {
    for (spec, method) in [(models::llama(), Full), (models::gpt2(), Lora)] {
        let examples = models::examples(&LENGTHS, spec.vocab, 0);
        let all: Vec<&Example> = examples.iter().collect();
        let mut machine = machine::<f64>(&spec, method, COMPOSITE, WET);
        let expected = step(&mut machine, &[batch(&all, Some(0))]);
        for pad in [examples[0].ids[19], spec.vocab as u32 - 1] {
            assert_eq!(step(&mut machine, &[batch(&all, Some(pad))]), expected, "pad {pad}");
        }
    }
}

/// An evaluation sees the loss that a step without dropout starts from.
#[test]
fn an_evaluation_is_a_step_without_dropout() {
    let spec = models::llama();
    let batches = packed(&models::examples(&LENGTHS, spec.vocab, 0));
    let mut wet = machine::<f64>(&spec, Full, BY_WEIGHT, WET);
    let dry = machine::<f64>(&spec, Full, BY_WEIGHT, DRY).gradients(&batches, 1).expect("gradients");
    let evaluated = wet.evaluate(&batches).expect("evaluates");
    assert_eq!((evaluated.loss, evaluated.sft, evaluated.dpo), (dry.loss, dry.sft, dry.dpo));
    assert_ne!(wet.gradients(&batches, 1).expect("gradients").loss, dry.loss);
}

/// With logits too many for one chunk, the head works in several; where each ends does not matter.
#[test]
fn the_chunks_of_the_head_do_not_matter() {
    let tiny = Spec { vocab: 330_000, hidden: 4, inner: 6, layers: 1, ..models::llama() };
    let positions = Positions::Rope { inverse: inverse_frequencies(6, 1e4, Scaling::Default), layers: vec![true] };
    let spec = Spec { positions, ..tiny };
    let examples = models::examples(&[30, 22, 9, 25, 4], spec.vocab, 0);
    let [with_reference] = packed(&examples);
    let without = Batch { ref_logp: Vec::new(), ..with_reference.clone() };
    let longest = examples.iter().map(Example::supervised).max().expect("examples");

    let b = Cpu::<f64>::new(2).expect("threads");
    let rows = Feed::new(&b, 90, longest, spec.hidden, spec.vocab, true).expect("allocates").chunk;
    assert!([true, false].into_iter().all(|whole| chunks(&without.row_start, rows, whole).len() > 2));

    let run = |rule: Rule, supervised: usize, batch: &Batch| {
        let b = Cpu::<f64>::new(2).expect("threads");
        let model = models::random(&b, spec.clone(), STD, true);
        let capacity = Capacity { tokens: 90, supervised };
        let mut machine = Machine::new(
            b,
            model,
            StepSettings { rule, rates: DRY, capacity, train: true, seed: 3, ..StepSettings::default() },
        )
        .expect("allocates");
        step(&mut machine, std::slice::from_ref(batch))
    };
    // the preference term asks for room for `supervised` rows in a chunk: with 90, all are in one
    same("whole examples", &run(COMPOSITE, longest, &with_reference), &run(COMPOSITE, 90, &with_reference), 1e-10);
    same("cut examples", &run(PLAIN, longest, &without), &run(COMPOSITE, 90, &without), 1e-10);

    // a frozen head cuts examples under the preference term, too; alone, each fits one chunk
    let cut = chunks(&with_reference.row_start, rows, false);
    assert!(longest <= rows && cut.iter().skip(1).any(|c| !with_reference.row_start.contains(&(c.first as u32))));
    let mut frozen = models::build::<f64>((spec.clone(), STD), Lora, (COMPOSITE, DRY), 90, 2);
    let alone: Vec<Batch> = examples.iter().map(|e| batch(&[e], None)).collect();
    let together = step(&mut frozen, std::slice::from_ref(&with_reference));
    same("a frozen head", &together, &step(&mut frozen, &alone), 1e-10);
}
