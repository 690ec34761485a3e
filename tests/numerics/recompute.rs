//! `train.recompute = "layer"` against `"none"`, which keeps every activation: the same losses and gradients to the
//! bit, whatever the architecture, what is trained, what is dropped and where it runs; and the memory that it saves.

use crate::support::models::Method::{Full, Lora};
use crate::support::models::{self, CAPACITY, DRY, STD, WET};
use crate::support::recompute::same_bits;
use eyekern::backend::cpu::Cpu;
use eyekern::model::config::Spec;
use eyekern::model::forward::Rates;
use eyekern::model::workspace::{Need, Recompute, Workspace};

/// Without dropout, with each kind alone, and with all of them.
const RATES: [Rates; 6] = [
    DRY,
    Rates { embd: 0.2, ..DRY },
    Rates { attention: 0.3, ..DRY },
    Rates { resid: 0.25, ..DRY },
    Rates { lora: 0.35, ..DRY },
    WET,
];

fn on_the_processor(spec: &Spec) {
    for method in [Full, Lora] {
        for rates in RATES {
            same_bits(|| Cpu::<f64>::new(1).expect("threads"), spec, method, rates);
            same_bits(|| Cpu::<f32>::new(2).expect("threads"), spec, method, rates);
        }
    }
}

#[test]
fn the_processor_gives_the_same_bits() {
    models::architectures().iter().for_each(on_the_processor);
}

/// One layer is computed anew by nobody, as its activations are still there.
#[test]
fn a_model_of_one_layer_gives_the_same_bits() {
    on_the_processor(&Spec { layers: 1, ..models::gpt2() });
}

/// What stays of a block is its input: the rest is there once. Values of a token by hand, for gpt2's block: two norms
/// with two statistics each, queries, keys and values, attention with its log-sum-exps, the stream in the middle, the
/// MLP before and after its activation.
#[test]
fn one_block_of_activations_is_kept() {
    let spec = models::gpt2();
    let block = (12 + 2) + 3 * 12 + (12 + 3) + 12 + (12 + 2) + 10 + 10;
    let (layers, stream) = (spec.layers, 12);
    let b = Cpu::<f64>::new(1).expect("threads");
    let model = models::random(&b, spec, STD, true);
    let values = |train, recompute| {
        let need = Need { tokens: CAPACITY, train, recompute, lora_dropout: false, resid_dropout: false };
        let work = Workspace::new(&b, &model, need).expect("allocates");
        let of_blocks = work.kept.iter().map(|k| {
            assert!(k.low.iter().flatten().all(Vec::is_empty));
            [&k.h1, &k.stat1, &k.qkv, &k.att, &k.lse, &k.h2, &k.stat2, &k.up, &k.act]
                .map(Vec::len)
                .iter()
                .sum::<usize>()
        });
        let streams = work.x.iter().chain(work.mid.iter()).map(Vec::len).sum::<usize>();
        of_blocks.sum::<usize>() + streams
    };
    assert_eq!(values(true, Recompute::None), CAPACITY * (layers * block + (layers + 1) * stream));
    assert_eq!(values(true, Recompute::Layer), CAPACITY * (block + (layers + 1) * stream));
    for recompute in [Recompute::None, Recompute::Layer] {
        assert_eq!(values(false, recompute), CAPACITY * (block + stream), "without backward nothing is kept");
    }
}
