//! What must hold for every model and every batch: how a step is cut up, packed, padded, ordered or threaded does not
//! change it; weights enter as documented; dropout follows the token; the plan counts what the CPU does.
//!
//! The composite objective is on wherever nothing else is said. The reference's log p is fixed per example: computed
//! anew it would be rounded to f32 anew.

mod attention;
mod dropout;
mod equivalents;
mod layouts;
mod plan;
mod threads;
mod weights;

use crate::support::models::{self, COMPOSITE, Method, STD, all_gradients, batch};
use crate::support::relative;
use eyekern::backend::cpu::{Cpu, Real};
use eyekern::data::{Batch, Example};
use eyekern::model::config::Spec;
use eyekern::model::forward::Rates;
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Machine, Rule};

/// Sixteen uneven examples.
const LENGTHS: [usize; 16] = [20, 3, 1, 11, 7, 16, 2, 9, 5, 13, 1, 8, 18, 4, 6, 10];
/// Tokens of the sixteen when padded.
const CAPACITY: usize = 16 * 20;

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

/// One batch of all examples.
fn packed(examples: &[Example]) -> [Batch; 1] {
    [batch(&examples.iter().collect::<Vec<_>>(), None)]
}
