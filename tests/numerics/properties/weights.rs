//! What weights do to a gradient.

use super::{BY_WEIGHT, LENGTHS, PLAIN, Step, machine, packed, same, step};
use crate::support::difference;
use crate::support::models::Method::Full;
use crate::support::models::{self, COMPOSITE, DRY};
use eyekern::data::{Example, IGNORE};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::Rule;

fn scaled((loss, gradients): &Step, c: f64) -> Step {
    (c * loss, gradients.iter().map(|g| g.iter().map(|x| c * x).collect()).collect())
}

/// What is left of a step when a part of its objective is taken away.
fn without(whole: &Step, part: &Step) -> Step {
    (whole.0 - part.0, whole.1.iter().zip(&part.1).map(|(a, b)| difference(a, b)).collect())
}

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
