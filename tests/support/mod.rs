//! What several contracts share: reading fixtures, building machines from them, measuring errors.
#![allow(dead_code)] // every test binary uses its own part of this

pub mod estimate;
pub mod folder;
pub mod models;
pub mod recompute;
pub mod trials;

use eyekern::backend::cpu::{Cpu, Real};
use eyekern::backend::moments::Optim;
use eyekern::backend::{Backend, Modulation};
use eyekern::data::{Example, IGNORE};
use eyekern::model::adapter::{AdapterInit, LoraConfig};
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::decode::{Room, Session};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::Rates;
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The plain objective of the parity fixtures: weighted cross-entropy over the count of supervised tokens.
pub const PLAIN: Rule =
    Rule { normalize: Normalize::Tokens, gamma: 0.0, beta: 0.1, dpo_weights: false, modulation: Modulation::None };

/// A tensor of a fixture, widened to f64.
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// All tensors of a safetensors file.
pub fn arrays(file: &Path) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let parsed = SafeTensors::deserialize(&bytes).expect("a fixture is valid safetensors");
    let widen = |dtype: Dtype, b: &[u8]| -> Vec<f64> {
        match dtype {
            Dtype::F32 => b.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect(),
            Dtype::I64 => b.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap()) as f64).collect(),
            other => panic!("fixture dtype {other:?}"),
        }
    };
    let read =
        |v: safetensors::tensor::TensorView| Array { shape: v.shape().to_vec(), values: widen(v.dtype(), v.data()) };
    parsed.iter().map(|(name, view)| (name.to_string(), read(view))).collect()
}

pub fn json(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).expect("a fixture is valid JSON")
}

/// A number of a fixture's JSON.
pub fn num(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("not a number: {v}"))
}

pub fn nums(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(num).collect()
}

/// One example from a fixture's rows; -100 is not supervised.
pub fn example(row: u32, ids: &[f64], labels: &[f64], weights: &[f64]) -> Example {
    Example {
        row,
        ids: ids.iter().map(|&x| x as u32).collect(),
        labels: labels.iter().map(|&x| if x < 0.0 { IGNORE } else { x as u32 }).collect(),
        weights: weights.iter().map(|&x| x as f32).collect(),
        path: vec![false; ids.len()],
        prompt: 0,
    }
}

/// Settings of a machine made from files.
pub struct Setup {
    pub train_base: bool,
    pub rule: Rule,
    pub rates: Rates,
    pub threads: usize,
}

impl Setup {
    pub fn plain(train_base: bool) -> Setup {
        Setup { train_base, rule: PLAIN, rates: Rates::default(), threads: 1 }
    }
}

/// A machine from a model directory, with the adapter of a directory beside it where one is given.
pub fn machine<R: Real>(model: &Path, adapter: Option<&Path>, setup: Setup) -> Machine<Cpu<R>> {
    let spec = Spec::load(&model.join("config.json")).expect("a fixture's config is supported");
    machine_of(spec, model, adapter, setup)
}

pub fn machine_of<R: Real>(spec: Spec, model: &Path, adapter: Option<&Path>, setup: Setup) -> Machine<Cpu<R>> {
    let b = Cpu::<R>::new(setup.threads).expect("threads");
    machine_on(b, spec, model, adapter, setup)
}

/// The same on any backend.
pub fn machine_on<B: Backend>(b: B, spec: Spec, model: &Path, adapter: Option<&Path>, setup: Setup) -> Machine<B> {
    let checkpoint = Checkpoint::open(model).expect("a fixture's weights");
    machine_from(b, spec, &Init::File(&checkpoint), adapter, setup)
}

/// The same with values from anywhere.
pub fn machine_from<B: Backend>(b: B, spec: Spec, values: &Init, adapter: Option<&Path>, setup: Setup) -> Machine<B> {
    let train = setup.train_base.then_some(Optim::AdamW);
    let mut decoder = Decoder::build(&b, spec, values, train, 256).expect("builds");
    if let Some(dir) = adapter {
        attach(&b, &mut decoder, dir);
    }
    let capacity = Capacity { tokens: 512, supervised: 512 };
    let settings = StepSettings {
        rule: setup.rule,
        rates: setup.rates,
        capacity,
        train: true,
        seed: 1,
        ..StepSettings::default()
    };
    Machine::new(b, decoder, settings).expect("allocates")
}

pub fn attach<B: Backend>(b: &B, decoder: &mut Decoder<B>, dir: &Path) -> LoraConfig {
    let config = LoraConfig::load(&dir.join("adapter_config.json")).expect("adapter config");
    let file = dir.join("adapter_model.safetensors");
    let weights = Checkpoint::files(file.clone(), &[file]).expect("adapter weights");
    decoder.attach(b, &config, &AdapterInit::File(&weights), Some(Optim::AdamW)).expect("attaches");
    config
}

/// Logits of rows that come one after the other into `slots` slots, a row in the place of one that has ended. Of row i,
/// the first `given(i)` tokens are read in one pass, the others one by one; there are logits after each token from the
/// `given(i)`-th on.
pub fn in_slots<B: Backend>(
    b: &B, model: &Decoder<B>, rows: &[Vec<u32>], slots: usize, given: impl Fn(usize) -> usize,
) -> Vec<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    let mut session = Session::new(b, model, Room::sliding(&lengths, slots, 0)).expect("allocates");
    let mut all = vec![Vec::new(); rows.len()];
    let read = |all: &[Vec<_>], row: usize| given(row).min(lengths[row]) - 1 + all[row].len();
    // slot and row of each sequence that is being read
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut waiting = 0..rows.len();
    while !(waiting.is_empty() && open.is_empty()) {
        let next: Vec<(usize, u32)> = open.iter().map(|&(slot, row)| (slot, rows[row][read(&all, row)])).collect();
        let mut fresh = Vec::new();
        while let Some(slot) = lengths.get(waiting.start).and_then(|&length| session.reserve(length)) {
            let row = waiting.next().expect("a row");
            open.push((slot, row));
            fresh.push((slot, &rows[row][..given(row).min(lengths[row])]));
        }
        let logits = session.pass(&next, &fresh).expect("a pass");
        for (&(_, row), logits) in open.iter().zip(logits.chunks(model.spec.vocab)) {
            all[row].push(logits.to_vec());
        }
        let (done, rest) = open.into_iter().partition(|&(_, row)| read(&all, row) == lengths[row]);
        open = rest;
        Vec::into_iter(done).for_each(|(slot, _)| session.release(slot));
    }
    all
}

/// NLL of every supervised token, in order; tokens are read one by one through the cache, in two slots.
pub fn cached_nll<B: Backend>(b: &B, model: &Decoder<B>, examples: &[Example]) -> Vec<f64> {
    let rows: Vec<Vec<u32>> = examples.iter().map(|e| e.ids.clone()).collect();
    let mut list = Vec::new();
    for (e, logits) in examples.iter().zip(in_slots(b, model, &rows, 2, |_| 1)) {
        for t in (1..e.ids.len()).filter(|&t| e.labels[t] != IGNORE) {
            let row: Vec<f64> = logits[t - 1].iter().map(|&z| f64::from(z)).collect();
            let most = row.iter().copied().fold(f64::MIN, f64::max);
            let lse = most + row.iter().map(|z| (z - most).exp()).sum::<f64>().ln();
            list.push(lse - row[e.labels[t] as usize]);
        }
    }
    list
}

/// |a - b|_2 / |b|_2.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    norm(&difference(a, b)) / norm(b).max(1e-30)
}

pub fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

pub fn norm(a: &[f64]) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The larger of two, where NaN wins: a NaN must never pass a gate.
pub fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The folder of fixtures that live in the project.
pub fn fixtures() -> PathBuf {
    // as it is when the test runs, not when it was built: tests are also carried to machines without the checkout
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests").join("fixtures")
}
