//! A step with `train.recompute = "layer"` beside one with `"none"`.

use super::models::{self, CAPACITY, COMPOSITE, Method, STD, micro_batches};
use eyekern::backend::Backend;
use eyekern::data::Batch;
use eyekern::model::config::Spec;
use eyekern::model::forward::Rates;
use eyekern::model::workspace::Recompute;
use eyekern::train::step::{Capacity, Machine, StepSettings};

fn machine<B: Backend>(b: B, spec: &Spec, method: Method, rates: Rates, recompute: Recompute) -> Machine<B> {
    let capacity = Capacity { tokens: CAPACITY, supervised: CAPACITY };
    let settings = StepSettings { rule: COMPOSITE, rates, capacity, recompute, seed: 3, ..StepSettings::default() };
    models::machine(b, (spec.clone(), STD), method, settings)
}

/// Losses and gradients of two steps, with an evaluation between them that leaves its own activations behind.
fn steps<B: Backend>(mut machine: Machine<B>, batches: &[Batch]) -> Vec<Vec<Vec<u64>>> {
    let mut seen = Vec::new();
    for step in [4, 5] {
        let loss = machine.gradients(batches, step).expect("gradients").loss;
        let mut lists = models::all_gradients(&mut machine);
        assert!(lists.iter().any(|list| list.iter().any(|&g| g != 0.0)), "something is trained");
        lists.push(vec![loss, machine.evaluate(batches).expect("evaluates").loss]);
        seen.push(models::bits(&lists));
    }
    seen
}

/// Fails where the two give different bits on backends that `open` makes.
pub fn same_bits<B: Backend>(open: impl Fn() -> B, spec: &Spec, method: Method, rates: Rates) {
    let batches = micro_batches(spec);
    let [kept, anew] = [Recompute::None, Recompute::Layer]
        .map(|recompute| steps(machine(open(), spec, method, rates, recompute), &batches));
    assert!(kept == anew, "{} {method:?} {rates:?}", spec.model_type);
}
