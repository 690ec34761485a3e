//! What is the same model.

use super::{BY_WEIGHT, LENGTHS, machine, packed};
use crate::support::models::Method::{Full, Lora};
use crate::support::models::{self, COMPOSITE, DRY};
use eyekern::backend::Stored;
use eyekern::backend::cpu::Cpu;
use eyekern::model::adapter::Adapter;
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::Projection;
use eyekern::model::params::Matrix;

fn floats(matrix: &mut Matrix<Cpu<f64>>) -> &mut [f64] {
    match &mut matrix.w {
        Stored::Float(w) => w,
        Stored::Bf16(_) | Stored::Nf4(_) => panic!("everything here is stored in full"),
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
