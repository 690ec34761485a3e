//! Masks belong to their token, module and step.

use super::{CAPACITY, packed};
use crate::support::models::{self, COMPOSITE, DRY, STD, WET};
use crate::support::{difference, norm, relative};
use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::Optim;
use eyekern::backend::{Dropout, NormOps, Rows, Tokens};
use eyekern::data::{Batch, Example};
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::{Mode, Rates};
use eyekern::model::params::Param;
use eyekern::model::workspace::{Need, Recompute, Workspace};
use eyekern::train::feed::Feed;
use eyekern::train::step::{Capacity, Machine, StepSettings};

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
    Machine::new(
        b,
        model,
        StepSettings { rule: COMPOSITE, rates, capacity, train: true, seed, ..StepSettings::default() },
    )
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
    let mut model =
        Decoder::build(b, spec, &Init::Random { seed: 5, std: STD, bf16: false }, None, 64).expect("builds");
    let config = LoraConfig { r: 2, alpha: 2.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
    model.attach(b, &config, &AdapterInit::Fresh { seed: 1 }, Some(Optim::AdamW)).expect("attaches");
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
