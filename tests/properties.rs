//! What must hold for every model and every batch: how a step is cut up, packed, padded, ordered or threaded does not
//! change it; weights enter as documented; dropout follows the token; the plan counts what the CPU does.
//!
//! The composite objective is on wherever nothing else is said. The reference's log p is fixed per example: computed
//! anew it would be rounded to f32 anew.

mod support;

use eyekern::backend::cpu::{Cpu, Real};
use eyekern::backend::moments::{Moments, Optim};
use eyekern::backend::plan::Plan;
use eyekern::backend::{AdamW, Backend, Dropout, Rows, Tokens, Weight};
use eyekern::data::{Batch, Example, IGNORE};
use eyekern::model::adapter::{Adapter, LoraConfig, Start, Targets};
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::{Decoder, Mode, Projection, Rates, Source};
use eyekern::model::flops::Flops;
use eyekern::model::params::{Matrix, Param, Train};
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::model::workspace::{Grads, Kept, Need, Recompute, Workspace};
use eyekern::train::feed::{Feed, chunks};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Capacity, Machine, Rule, Settings, Update};
use support::models::Method::{Full, Lora};
use support::models::{self, COMPOSITE, DRY, Method, WET, all_gradients, batch, bits};
use support::{difference, norm, relative};

/// Sixteen uneven examples.
const LENGTHS: [usize; 16] = [20, 3, 1, 11, 7, 16, 2, 9, 5, 13, 1, 8, 18, 4, 6, 10];
/// Tokens of the sixteen when padded.
const CAPACITY: usize = 16 * 20;
/// Deviation of the matrices.
const STD: f64 = 0.4;

const BY_WEIGHT: Rule = Rule { normalize: Normalize::Weights, dpo_weights: true, ..COMPOSITE };
/// Without the preference term.
const PLAIN: Rule = Rule { gamma: 0.0, ..COMPOSITE };

fn machine<R: Real>(spec: &Spec, method: Method, rule: Rule, rates: Rates) -> Machine<Cpu<R>> {
    models::build((spec.clone(), STD), method, (rule, rates), CAPACITY, 1)
}

/// Loss, and a gradient per trained parameter.
type Step = (f64, Vec<Vec<f64>>);

/// The second step of a run.
fn step<R: Real>(machine: &mut Machine<Cpu<R>>, batches: &[Batch]) -> Step {
    let outcome = machine.gradients(batches, 2).expect("gradients");
    (outcome.loss, all_gradients(machine))
}

/// Fails where a loss or a gradient differs by more than `limit`, relatively and per parameter.
fn same(what: &str, got: &Step, expected: &Step, limit: f64) {
    let error = (got.0 - expected.0).abs() / expected.0.abs();
    assert!(error <= limit, "{what}: losses {} and {}", got.0, expected.0);
    assert_eq!(got.1.len(), expected.1.len());
    for (i, (a, b)) in got.1.iter().zip(&expected.1).enumerate() {
        let error = relative(a, b);
        assert!(error <= limit, "{what}: the gradients of parameter {i} differ by {error:.1e}");
    }
}

fn scaled((loss, gradients): &Step, c: f64) -> Step {
    (c * loss, gradients.iter().map(|g| g.iter().map(|x| c * x).collect()).collect())
}

/// What is left of a step when a part of its objective is taken away.
fn without(whole: &Step, part: &Step) -> Step {
    (whole.0 - part.0, whole.1.iter().zip(&part.1).map(|(a, b)| difference(a, b)).collect())
}

/// One batch of all examples.
fn packed(examples: &[Example]) -> [Batch; 1] {
    [batch(&examples.iter().collect::<Vec<_>>(), None)]
}

// ---- the same step, laid out differently

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
            Settings { rule, rates: DRY, capacity, train: true, seed: 3, ..Settings::default() },
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

// ---- what is the same model

fn floats(matrix: &mut Matrix<Cpu<f64>>) -> &mut [f64] {
    match &mut matrix.w {
        Weight::Float(w) => w,
        Weight::Bf16(_) => panic!("nothing here is stored in bf16"),
    }
}

/// Adds a projection's adapters to its weights and takes them away.
fn merge(proj: &mut Projection<Cpu<f64>>) {
    let inp = proj.w.cols;
    let w = floats(&mut proj.w);
    for slice in &mut proj.slices {
        let Adapter { a, b, rank, scale } = slice.adapter.take().expect("every slice is adapted");
        for (i, value) in w[slice.col * inp..][..slice.out * inp].iter_mut().enumerate() {
            let (row, column) = (i / inp, i % inp);
            *value += scale * (0..rank).map(|r| b.w[row * rank + r] * a.w[r * inp + column]).sum::<f64>();
        }
    }
}

/// An adapter is a change of the weights, slice by slice and before the projection's multiplier.
#[test]
fn a_merged_adapter_is_the_same_model() {
    for spec in [models::llama(), models::gpt2(), models::bigcode(true), models::starcoder2()] {
        let batches = packed(&models::examples(&LENGTHS, spec.vocab, 0));
        let mut machine = machine::<f64>(&spec, Lora, BY_WEIGHT, DRY);
        let adapted = machine.evaluate(&batches).expect("evaluates").loss;
        machine.model.layers.iter_mut().flat_map(|l| &mut l.proj).for_each(merge);
        let merged = machine.evaluate(&batches).expect("evaluates").loss;
        assert!((merged - adapted).abs() <= 1e-12 * adapted.abs(), "{}: {merged} {adapted}", spec.model_type);
    }
}

fn scale(values: &mut [f64], c: f64) {
    values.iter_mut().for_each(|x| *x *= c);
}

/// Every multiplier is a factor on weights: on the embedding, the head, the queries, both outputs of a block.
#[test]
fn multipliers_fold_into_the_weights() {
    let spec = Spec { tied: false, embed_scale: 1.5, attn_scale: 0.5, residual_scale: 0.75, ..models::llama() };
    let spec = Spec { logit_scale: 0.625, ..spec };
    let batches = packed(&models::examples(&LENGTHS, spec.vocab, 0));
    let expected = machine::<f64>(&spec, Full, COMPOSITE, DRY).evaluate(&batches).expect("evaluates").loss;

    let plain = Spec { embed_scale: 1.0, attn_scale: 1.0, residual_scale: 1.0, logit_scale: 1.0, ..spec.clone() };
    let mut folded = machine::<f64>(&plain, Full, COMPOSITE, DRY);
    let model = &mut folded.model;
    scale(floats(&mut model.embed), spec.embed_scale);
    scale(floats(model.head.as_mut().expect("is untied")), spec.logit_scale);
    for [qkv, o, _, down] in model.layers.iter_mut().map(|l| &mut l.proj) {
        let queries = spec.attn_width();
        scale(&mut floats(&mut qkv.w)[..queries * spec.hidden], spec.attn_scale);
        scale(&mut qkv.bias.as_mut().expect("has biases").w[..queries], spec.attn_scale);
        for proj in [o, down] {
            scale(floats(&mut proj.w), spec.residual_scale);
            scale(&mut proj.bias.as_mut().expect("has biases").w, spec.residual_scale);
        }
    }
    let got = folded.evaluate(&batches).expect("evaluates").loss;
    assert!((got - expected).abs() <= 1e-12 * expected.abs(), "{got} {expected}");
}

/// Rotation sees distances only, and only in layers that rotate.
#[test]
fn rotation_is_relative() {
    let inverse = vec![1.0, 0.25, 0.0625]; // exact, so that angles of shifted positions are
    let with = |layers: Vec<bool>, place: fn(u32) -> u32| {
        let positions = Positions::Rope { inverse: inverse.clone(), layers };
        let spec = Spec { positions, ..models::llama() };
        let [mut batch] = packed(&models::examples(&LENGTHS, spec.vocab, 0));
        batch.pos.iter_mut().for_each(|p| *p = place(*p));
        machine::<f64>(&spec, Full, COMPOSITE, DRY).evaluate(&[batch]).expect("evaluates").loss
    };
    for layers in [vec![true; 3], vec![false, true, false]] {
        let here = with(layers.clone(), |p| p);
        assert!((with(layers.clone(), |p| p + 17) - here).abs() <= 1e-12 * here.abs(), "{layers:?}: shifted");
        assert!((with(layers.clone(), |p| 2 * p) - here).abs() >= 1e-6 * here.abs(), "{layers:?}: stretched");
    }
    assert_eq!(with(vec![false; 3], |p| p), with(vec![false; 3], |p| 2 * p));
    let mixed = [vec![true, true, false], vec![true, false, true], vec![false, true, true]].map(|l| with(l, |p| p));
    assert!(mixed[0] != mixed[1] && mixed[1] != mixed[2] && mixed[0] != mixed[2], "{mixed:?}");
}

// ---- the same bits

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

// ---- weights

fn with_weights(examples: &[Example], f: impl Fn(f32) -> f32) -> Vec<Example> {
    let changed = |e: &Example| Example { weights: e.weights.iter().map(|&w| f(w)).collect(), ..e.clone() };
    examples.iter().map(changed).collect()
}

/// Three times the weights: three times the cross-entropy under "tokens", while the preference term, whose means are
/// weighted, stays; under "weights" everything stays.
#[test]
fn scaling_the_weights_scales_what_it_should() {
    let spec = models::llama();
    let examples = models::examples(&LENGTHS, spec.vocab, 0);
    let (before, after) = (packed(&examples), packed(&with_weights(&examples, |w| 3.0 * w)));
    for normalize in [Normalize::Tokens, Normalize::None] {
        let mut plain = machine::<f64>(&spec, Full, Rule { normalize, ..PLAIN }, DRY);
        let alone = step(&mut plain, &before);
        same("cross-entropy", &step(&mut plain, &after), &scaled(&alone, 3.0), 1e-12);

        let mut both = machine::<f64>(&spec, Full, Rule { normalize, dpo_weights: true, ..COMPOSITE }, DRY);
        let preference = without(&step(&mut both, &before), &alone);
        same("preference", &without(&step(&mut both, &after), &scaled(&alone, 3.0)), &preference, 1e-10);
    }
    let mut by_weight = machine::<f64>(&spec, Full, BY_WEIGHT, DRY);
    let expected = step(&mut by_weight, &before);
    same("by weight", &step(&mut by_weight, &after), &expected, 1e-12);
}

/// A label of weight 0 adds nothing to the sum but one to the count; an ignored one adds to neither.
#[test]
fn a_weight_of_zero_counts() {
    let spec = models::llama();
    let examples = models::examples(&LENGTHS, spec.vocab, 0);
    let ignored: Vec<Example> = examples
        .iter()
        .map(|e| Example {
            labels: e.labels.iter().zip(&e.weights).map(|(&l, &w)| if w == 0.0 { IGNORE } else { l }).collect(),
            ..e.clone()
        })
        .collect();
    let count = |list: &[Example]| list.iter().map(Example::supervised).sum::<usize>() as f64;
    let (all, rest) = (count(&examples), count(&ignored));
    assert!(rest < all - 5.0);
    let mut plain = machine::<f64>(&spec, Full, PLAIN, DRY);
    let (zero, none) = (step(&mut plain, &packed(&examples)), step(&mut plain, &packed(&ignored)));
    same("tokens", &scaled(&zero, all), &scaled(&none, rest), 1e-12);
    let outcome = plain.evaluate(&packed(&examples)).expect("evaluates");
    assert_eq!((outcome.totals.supervised as f64, outcome.totals.tokens), (all, LENGTHS.iter().sum::<usize>() as u64));
}

/// Dividing by a sum of weights that is not positive would turn learning into forgetting.
#[test]
fn a_sum_of_weights_that_is_not_positive_is_refused() {
    let spec = models::llama();
    let examples = models::examples(&LENGTHS, spec.vocab, 0);
    let mut machine = machine::<f64>(&spec, Full, BY_WEIGHT, DRY);
    for (weight, sum) in [(0.0, 0.0), (-0.5, -0.5)] {
        let batches = packed(&with_weights(&examples, |_| weight));
        let sum = sum * batches[0].rows.len() as f64;
        let error = machine.gradients(&batches, 7).expect_err("is refused");
        let expected = format!(
            "training stopped at step 7: the weights of the step sum to {sum}, by which objective.normalize = \
            \"weights\" would divide; use \"tokens\""
        );
        assert_eq!((error.to_string(), error.exit_code()), (expected, 1));
        assert!(machine.evaluate(&batches).is_err());
    }
    // what counts is the sum over the step, not over a micro-batch
    let [negative] = packed(&with_weights(&examples[..3], |_| -0.5));
    let [positive] = packed(&with_weights(&examples[3..], |_| 0.5));
    machine.gradients(&[negative, positive], 7).expect("the step's sum is positive");
}

// ---- dropout

/// Tokens of two examples: rows 4 and 9, at these positions.
fn tokens(rows: [u32; 2], positions: [u32; 6]) -> Tokens<Cpu<f64>> {
    let example = [rows[0]; 3].into_iter().chain([rows[1]; 3]).collect();
    Tokens { count: 6, ids: vec![0; 6], pos: positions.to_vec(), seg_start: vec![0, 0, 0, 3, 3, 3], example }
}

const WIDTH: usize = 500;

/// The masks of six tokens, `[6][WIDTH]`.
fn masks(tokens: &Tokens<Cpu<f64>>, key: [u32; 2], module: u32, p: f32) -> Vec<Vec<f64>> {
    let b = Cpu::<f64>::new(1).expect("threads");
    let mut mask = vec![0.0; 6 * WIDTH];
    let key = key.to_vec();
    let drop = Dropout { p, module, key: &key, tokens };
    b.dropout_bwd(Rows { n: 6, width: WIDTH }, drop, &vec![1.0; 6 * WIDTH], &mut mask).expect("masks");
    mask.chunks(WIDTH).map(<[f64]>::to_vec).collect()
}

/// A mask is a function of seed, step, module, example and position, and of nothing else.
#[test]
fn a_mask_follows_its_token() {
    let here = tokens([4, 9], [0, 1, 2, 0, 1, 2]);
    let base = masks(&here, [1, 1], 7, 0.3);
    let swapped = masks(&tokens([9, 4], [2, 1, 0, 2, 1, 0]), [1, 1], 7, 0.3);
    assert_eq!(swapped, base.iter().rev().cloned().collect::<Vec<_>>());
    for i in 0..6 {
        assert!((0..i).all(|j| base[i] != base[j]), "tokens share a mask");
    }
    for other in [masks(&here, [2, 1], 7, 0.3), masks(&here, [1, 2], 7, 0.3), masks(&here, [1, 1], 8, 0.3)] {
        assert!((0..6).all(|t| other[t] != base[t]), "seed, step or module do not matter");
    }
    let kept = 1.0 / (1.0 - f64::from(0.3f32));
    assert!(base.iter().flatten().all(|&m| m == 0.0 || m == kept));
    let zeros = base.iter().flatten().filter(|&&m| m == 0.0).count() as f64 / (6 * WIDTH) as f64;
    assert!((zeros - 0.3).abs() < 0.03, "a share of {zeros} is dropped");
}

fn seeded(rates: Rates, seed: u64) -> Machine<Cpu<f64>> {
    let b = Cpu::<f64>::new(1).expect("threads");
    let mut model = models::random(&b, models::llama(), STD, false);
    models::adapt(&b, &mut model);
    let capacity = Capacity { tokens: CAPACITY, supervised: CAPACITY };
    Machine::new(b, model, Settings { rule: COMPOSITE, rates, capacity, train: true, seed, ..Settings::default() })
        .expect("allocates")
}

/// Each kind of dropout acts, and draws anew with the seed, the step and the example.
#[test]
fn every_kind_of_dropout_draws() {
    let kinds = [
        Rates { embd: 0.3, ..DRY },
        Rates { attention: 0.3, ..DRY },
        Rates { resid: 0.3, ..DRY },
        Rates { lora: 0.3, ..DRY },
    ];
    let (here, there) = (models::examples(&[20], 29, 0), models::examples(&[20], 29, 0));
    let renamed = packed(&there.into_iter().map(|e| Example { row: 77, ..e }).collect::<Vec<_>>());
    let here = packed(&here);
    let renamed = [Batch { ref_logp: here[0].ref_logp.clone(), ..renamed[0].clone() }];
    let loss = |rates, seed, batches: &[Batch], step| seeded(rates, seed).gradients(batches, step).expect("runs").loss;
    let dry = loss(DRY, 1, &here, 1);
    assert_eq!(dry, loss(DRY, 2, &renamed, 5), "without dropout neither seed, row nor step matters");
    for rates in kinds {
        let base = loss(rates, 1, &here, 1);
        assert_eq!(base, loss(rates, 1, &here, 1));
        for other in [dry, loss(rates, 2, &here, 1), loss(rates, 1, &here, 2), loss(rates, 1, &renamed, 1)] {
            assert_ne!(base, other, "{rates:?}");
        }
        let high = loss(rates, 1 + (1 << 32), &here, 1);
        assert_ne!(base, high, "the upper half of the seed counts");
    }
}

/// Rows that are the same in every column, whatever the layer: embeddings and biases of 1, projections of 0, one A.
fn constant(b: &Cpu<f64>) -> Decoder<Cpu<f64>> {
    let spec = Spec { hidden: 24, inner: 24, ..models::llama() };
    let mut model = Decoder::build(b, spec, &Source::Random { seed: 5, std: STD }, None, 64).expect("builds");
    let config = LoraConfig { r: 2, alpha: 2.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
    model.attach(b, &config, &Start::Fresh { seed: 1 }, Some(Optim::AdamW)).expect("attaches");
    let fill = |mut p: Param<_>, x: f64| p.set(b, &vec![x; p.len()]).expect("writes");
    fill(Param::Matrix(&mut model.embed), 1.0);
    for proj in model.layers.iter_mut().flat_map(|l| &mut l.proj) {
        fill(Param::Matrix(&mut proj.w), 0.0);
        fill(Param::Dense(proj.bias.as_mut().expect("this model has every bias")), 1.0);
    }
    for (i, mut param) in model.adapter_params().into_iter().enumerate().filter(|(i, _)| i % 2 == 0) {
        let same: Vec<f64> = (0..param.len()).map(|j| 1.0 + (j % 7) as f64).collect();
        param.set(b, &same).unwrap_or_else(|e| panic!("A of adapter {}: {e}", i / 2));
    }
    model
}

/// What a forward pass of 20 tokens keeps.
fn kept(b: &Cpu<f64>, model: &Decoder<Cpu<f64>>, rates: Rates) -> Workspace<Cpu<f64>> {
    let need = Need { tokens: 20, train: true, recompute: Recompute::None, lora_dropout: true, resid_dropout: true };
    let mut work = Workspace::new(b, model, need).expect("allocates");
    let mut feed = Feed::new(b, 20, 1, model.spec.hidden, model.spec.vocab, false).expect("allocates");
    let [batch] = packed(&models::examples(&[13, 7], model.spec.vocab, 0));
    feed.load(b, &batch).expect("loads");
    let (key, adapters) = (vec![1, 1], true);
    let mode = Mode { adapters, dropout: Some((&rates, &key)) };
    model.forward(b, &mut work, &feed.tokens, &mode).expect("forward");
    work
}

/// Fails where two lists are the same up to a factor.
fn all_differ(what: &str, lists: &[Vec<f64>]) {
    let unit = |list: &[f64]| list.iter().map(|x| x / norm(list)).collect::<Vec<f64>>();
    let units: Vec<Vec<f64>> = lists.iter().map(|list| unit(list)).collect();
    for i in 0..units.len() {
        for j in 0..i {
            assert!(relative(&units[i], &units[j]) > 1e-2, "{what}: modules {j} and {i} share a mask");
        }
    }
}

/// Where every module sees the same constant rows, only its mask can make what it does with them its own.
#[test]
fn every_module_draws_its_own_mask() {
    let b = Cpu::<f64>::new(1).expect("threads");
    let model = constant(&b);
    let adapted = kept(&b, &model, Rates { lora: 0.4, ..DRY });
    let low: Vec<Vec<f64>> = adapted.kept.iter().flat_map(|k| k.low.iter().flatten().cloned()).collect();
    assert_eq!(low.len(), 7 * model.spec.layers);
    all_differ("adapters", &low);

    let work = kept(&b, &model, Rates { lora: 0.0, ..WET });
    let minus = |a: &[f64], b: &[f64]| difference(&a[..20 * 24], &b[..20 * 24]);
    let mut streams = vec![work.x[0].clone()];
    let mut heads = Vec::new();
    for (l, k) in work.kept.iter().enumerate() {
        streams.extend([minus(&work.mid[l], &work.x[l]), minus(&work.x[l + 1], &work.mid[l])]);
        heads.extend((0..4).map(|h| (1..20).map(|t| k.att[t * 24 + h * 6]).collect::<Vec<f64>>()));
    }
    all_differ("residual branches", &streams);
    all_differ("attention heads", &heads);
}

// ---- the plan

/// Values in the buffers of a parameter: itself and what trains it.
fn values(param: &mut Param<Cpu<f32>>) -> usize {
    let own = match param {
        Param::Dense(p) => p.w.len(),
        Param::Matrix(p) => match &p.w {
            Weight::Float(w) => w.len(),
            Weight::Bf16(_) => panic!("nothing here is stored in bf16"),
        },
    };
    let Some(Train { grad, moments, master }) = param.train() else { return own };
    let Moments::Full { m, v } = moments else { panic!("they are kept in full") };
    own + grad.len() + m.len() + v.len() + master.as_ref().map_or(0, Vec::len)
}

/// Bytes of a model's buffers on the CPU.
fn model_bytes(model: &mut Decoder<Cpu<f32>>) -> usize {
    let base: usize = model.base_params().iter_mut().map(values).sum();
    let adapters: usize = model.adapter_params().iter_mut().map(values).sum();
    4 * (base + adapters + model.rope.as_ref().map_or(0, Vec::len))
}

/// Bytes of a workspace's buffers on the CPU.
fn workspace_bytes(work: &Workspace<Cpu<f32>>) -> usize {
    let Workspace { capacity: _, x, mid, kept, branch, hidden, final_stat, scratch, grads } = work;
    let of_block = |k: &Kept<Cpu<f32>>| {
        let Kept { h1, stat1, qkv, att, lse, h2, stat2, up, act, low } = k;
        let low: usize = low.iter().flatten().map(Vec::len).sum();
        low + [h1, stat1, qkv, att, lse, h2, stat2, up, act].map(Vec::len).iter().sum::<usize>()
    };
    let of_grads = |g: &Grads<Cpu<f32>>| {
        let Grads { dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low } = g;
        [dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low].map(Vec::len).iter().sum::<usize>()
    };
    let rest: usize = [branch, hidden, final_stat, scratch].map(Vec::len).iter().sum();
    let blocks: usize = kept.iter().map(of_block).sum();
    4 * (rest + x.iter().chain(mid.iter()).map(Vec::len).sum::<usize>() + blocks + grads.as_ref().map_or(0, of_grads))
}

/// Llama of 2 layers: hidden 8, inner 12, 2 query heads and 1 key head of 6, vocabulary 16, tied, no biases.
fn tiny() -> Spec {
    let inverse = inverse_frequencies(6, 1e4, Scaling::Default);
    Spec {
        vocab: 16,
        hidden: 8,
        inner: 12,
        layers: 2,
        q_heads: 2,
        kv_heads: 1,
        positions: Positions::Rope { inverse, layers: vec![true; 2] },
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        ..models::llama()
    }
}

/// Values of a block's projections in [`tiny`]: 8 -> (2 + 2) x 6, 12 -> 8, 8 -> 2 x 12, 12 -> 8.
const BLOCK: usize = 8 * 24 + 12 * 8 + 8 * 24 + 12 * 8;
/// Values of [`tiny`]: embedding, two blocks with two norms each, last norm.
const TINY: usize = 16 * 8 + 2 * (BLOCK + 2 * 8) + 8;
/// Inputs plus outputs of the seven adapted slices of a block: q, k, v, o, gate, up, down.
const ENDS: usize = (8 + 12) + (8 + 6) + (8 + 6) + (12 + 8) + (8 + 12) + (8 + 12) + (12 + 8);
/// Rank of the adapters of [`models::adapt`].
const RANK: usize = 2;

fn on<B: Backend>(b: &B, method: Method) -> Decoder<B> {
    let mut model =
        Decoder::build(b, tiny(), &Source::Shapes { bf16: false }, (method == Full).then_some(Optim::AdamW), 32)
            .expect("builds");
    if method == Lora {
        let config = LoraConfig { r: RANK, alpha: 1.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
        model.attach(b, &config, &Start::Shapes, Some(Optim::AdamW)).expect("attaches");
    }
    model
}

/// The dry run allocates what the CPU allocates, and that is what the shapes say.
#[test]
fn the_plan_counts_the_bytes_of_the_cpu() {
    let rope = 32 * 6;
    for (method, expected) in [(Full, 4 * TINY + rope), (Lora, TINY + rope + 4 * 2 * RANK * ENDS)] {
        let (plan, cpu) = (Plan::default(), Cpu::<f32>::new(1).expect("threads"));
        let (planned, mut model) = (on(&plan, method), on(&cpu, method));
        assert_eq!(plan.bytes(), 4 * expected as u64, "{method:?}");
        assert_eq!(plan.bytes(), model_bytes(&mut model) as u64, "{method:?}");
        for (train, dropout) in [(false, false), (true, false), (true, true)] {
            for recompute in [Recompute::None, Recompute::Layer] {
                let need = Need { tokens: 10, train, recompute, lora_dropout: dropout, resid_dropout: dropout };
                let before = plan.bytes();
                Workspace::new(&plan, &planned, need).expect("allocates");
                let work = Workspace::new(&cpu, &model, need).expect("allocates");
                assert_eq!(plan.bytes() - before, workspace_bytes(&work) as u64, "{method:?} {need:?}");
            }
        }
    }
}

/// FLOPs of a training step by hand: a product of an [m, k] and a [k, n] matrix takes 2 m n k.
#[test]
fn the_plan_counts_the_flops_of_the_formula() {
    let batches = packed(&models::examples(&[6, 4], 16, 0));
    let (tokens, rows) = (10, batches[0].rows.len());
    let linear = 2 * tokens * BLOCK;
    let attention = 2 * 2 * tokens * tokens * 12 / 2; // scores and sums over two heads of 6, half of them causal
    let head = 2 * rows * 16 * 8;
    // backward: two products for each of the forward's; attention forms its scores anew, five for two
    let full = 2 * (3 * linear + attention + attention * 5 / 2) + 3 * head;
    // frozen: no weight gradients, and none for the input of the first block, which nothing trained lies before
    let low = 2 * tokens * RANK * ENDS;
    let unneeded = 2 * tokens * 8 * 24 + 3 * 2 * tokens * RANK * 8;
    let lora = 2 * (2 * linear + attention + attention * 5 / 2) + 2 * head + 2 * 3 * low - unneeded;
    for (method, expected) in [(Full, full), (Lora, lora)] {
        let plan = Plan::default();
        let model = on(&plan, method);
        let capacity = Capacity { tokens, supervised: tokens };
        let mut machine = Machine::new(
            plan,
            model,
            Settings { rule: COMPOSITE, rates: DRY, capacity, train: true, seed: 1, ..Settings::default() },
        )
        .expect("allocates");
        let (before, bytes) = (machine.backend.flops(), machine.backend.bytes());
        machine.gradients(&batches, 1).expect("plans");
        assert_eq!(machine.backend.flops() - before, expected as u64, "{method:?}");
        assert_eq!(machine.backend.bytes(), bytes, "a step allocates nothing");
    }
}

/// Model FLOPs by hand, and beside what a step over one example launches.
#[test]
fn model_flops_are_those_of_the_formula_and_of_the_plan() {
    // a block's matrices have 576 values and its adapters 2 x 128, and there are two blocks. All trained: 2 FLOPs for
    // each value, three times. Frozen: twice, less the 384 of the lowest block's input and the 96 of its adapters'
    // inputs. Attention: two products over two heads of 6, half of them causal, three times. Head: 16 x 8 values.
    let by_hand = |method| match method {
        Full => Flops { token: 2 * 3 * 2 * 576, square: 2 * 3 * 24, row: 3 * 256 },
        Lora => Flops { token: 2 * (2 * 2 * 576 + 3 * 2 * 256) - 384 - 96, square: 2 * 3 * 24, row: 2 * 256 },
    };
    for method in [Full, Lora] {
        let plan = Plan::default();
        let model = on(&plan, method);
        let flops = Flops::of(&model);
        assert_eq!(flops, by_hand(method), "{method:?}");
        let capacity = Capacity { tokens: 10, supervised: 10 };
        let mut machine = Machine::new(plan, model, Settings { capacity, ..Settings::default() }).expect("allocates");
        let examples = models::examples(&[10], 16, 0);
        machine.gradients(&packed(&examples), 1).expect("plans");
        // the scores that backward forms anew, half of what attention takes forward, are no model FLOPs
        let anew = 2 * (2 * 10 * 10 * 12) / 2;
        let counted = flops.step(examples.iter().map(|e| (e.ids.len(), e.supervised())));
        assert_eq!(counted + f64::from(anew), machine.backend.flops() as f64, "{method:?}");
        // two examples do not see one another, and what is not supervised does not reach the head
        let two = flops.step([(6, 2), (4, 0)].into_iter());
        assert_eq!(two, (10 * flops.token + (36 + 16) * flops.square + 2 * flops.row) as f64);
    }
}

/// A batch or an example beyond what was allocated is an error, not a panic.
#[test]
fn what_does_not_fit_is_refused() {
    let refused = |capacity: Capacity| {
        let b = Cpu::<f64>::new(1).expect("threads");
        let model = models::random(&b, models::llama(), STD, true);
        let settings = Settings { rule: COMPOSITE, capacity, ..Settings::default() };
        let mut machine = Machine::new(b, model, settings).expect("allocates");
        let examples = models::examples(&[9, 20], machine.model.spec.vocab, 1);
        let batch = models::batch(&examples.iter().collect::<Vec<_>>(), None);
        machine.gradients(&[batch], 1).expect_err("too large").to_string()
    };
    let text = refused(Capacity { tokens: 20, supervised: 20 });
    assert!(text.contains("29 tokens was given to a machine made for 20"), "{text}");
}
