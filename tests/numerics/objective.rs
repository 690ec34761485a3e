//! The training objective against values that PyTorch worked out in float64 (`fixtures/make_objective.py` defines
//! them): log p of policy and reference, losses, and gradients of 20 settings of the objective, for an adapter whose
//! reference is the model without it, and for a full fine-tune whose reference is a second directory.
//!
//! Each setting runs with its rows in one packed batch, in one padded batch and in a micro-batch each. In f64 only the
//! reference limits the agreement: a batch carries it in f32, and beta multiplies that rounding.

use crate::support::{PLAIN, Setup, example, fixtures, json, machine, norm, num, nums, relative, worst};
use eyekern::backend::cpu::{Cpu, Real};
use eyekern::backend::{Backend, Modulation, Number};
use eyekern::data::{Batch, Example, pack};
use eyekern::model::{names, save};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Machine, Outcome, Rule};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What is allowed where log p is handed out in f32.
const LOGP: f64 = 1e-6;
/// What is allowed in f32.
const SINGLE: f64 = 1e-5;

/// What is allowed in f64: its own rounding, and beta times that of the reference.
fn double(case: &Value) -> f64 {
    if num(&case["gamma"]) == 0.0 { 1e-11 } else { (1e-6 * num(&case["beta"])).min(1e-5) }
}

fn document() -> Value {
    json(&fixtures().join("objective.json"))
}

fn folder(name: &str) -> PathBuf {
    fixtures().join("objective_model").join(name)
}

fn rows(document: &Value) -> Vec<Example> {
    let build = |(i, row): (usize, &Value)| {
        let part = |key: &str| nums(&row[key]);
        let path = part("path").iter().map(|&flag| flag != 0.0).collect();
        Example { path, ..example(i as u32, &part("input_ids"), &part("labels"), &part("weights")) }
    };
    document["rows"].as_array().expect("rows").iter().enumerate().map(build).collect()
}

/// The same rows as one packed batch, one padded batch, and a batch each in reverse order.
fn layouts(rows: &[Example]) -> [Vec<Batch>; 3] {
    let all: Vec<&Example> = rows.iter().collect();
    let alone = rows.iter().rev().map(|row| pack::batch(&[row], None)).collect();
    [vec![pack::batch(&all, None)], vec![pack::batch(&all, Some(2))], alone]
}

/// The policy of a case as a machine that trains it.
fn policy<R: Real>(name: &str, rule: Rule) -> Machine<Cpu<R>> {
    match name {
        "lora" => machine(&folder("base"), Some(&folder("adapter")), Setup { rule, ..Setup::plain(false) }),
        "full" => machine(&folder("policy"), None, Setup { rule, ..Setup::plain(true) }),
        other => panic!("policy {other}"),
    }
}

/// log p under the reference: our own model with its adapter switched off, or the directory it started from.
fn reference<R: Real>(name: &str, policy: &mut Machine<Cpu<R>>, batch: &Batch) -> Vec<f32> {
    match name {
        "lora" => policy.logp(batch, false).expect("forward"),
        _ => machine::<R>(&folder("base"), None, Setup::plain(false)).logp(batch, true).expect("forward"),
    }
}

fn rule(case: &Value) -> Rule {
    Rule {
        normalize: match case["normalize"].as_str().expect("a name") {
            "tokens" => Normalize::Tokens,
            "weights" => Normalize::Weights,
            _ => Normalize::None,
        },
        gamma: num(&case["gamma"]),
        beta: num(&case["beta"]),
        dpo_weights: case["dpo_weights"].as_bool().expect("a flag"),
        modulation: match (case["focal"].as_f64(), case["dft"].as_bool()) {
            (Some(exponent), _) => Modulation::Focal(exponent),
            (_, Some(true)) => Modulation::Probability,
            _ => Modulation::None,
        },
    }
}

/// |a - b| / max(1, |b|).
fn gap(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs().max(1.0)
}

fn gate(what: &str, error: f64, limit: f64) -> f64 {
    assert!(error <= limit, "{what}: error {error:.1e} above {limit:.0e}");
    error
}

/// Every trained tensor's gradient under the name and in the storage of its file.
fn gradients<B: Backend>(machine: &mut Machine<B>) -> BTreeMap<String, Vec<f64>> {
    let Machine { backend, model, .. } = machine;
    let read = |m: &eyekern::model::params::Dense<B>| {
        let mut host = vec![B::Stat::default(); m.len];
        backend.read(&m.train.as_ref().expect("is trained").grad, &mut host)?;
        Ok(host.into_iter().map(Number::f64).collect())
    };
    let adapter = model.export_adapter(read).expect("reads");
    let mut found: BTreeMap<String, Vec<f64>> = adapter.into_iter().map(|(name, _, grad)| (name, grad)).collect();
    for tensor in names::tensors(&model.spec) {
        if let Some(grad) = save::stored_gradient(backend, model, &tensor).expect("reads") {
            found.insert(tensor.name, grad);
        }
    }
    found
}

/// The list of lists of a gradient, flat.
fn flat(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(flat).collect(),
        None => vec![num(value)],
    }
}

/// Worst error of log p against a list per row.
fn logp_error(got: &[f32], expected: &Value) -> f64 {
    let expected = flat(expected);
    assert_eq!(got.len(), expected.len(), "supervised tokens");
    got.iter().zip(&expected).map(|(&a, &b)| gap(f64::from(a), b)).fold(0.0, worst)
}

/// log p of policies and references, and the mean losses on and off the path.
fn log_probabilities<R: Real>(limit: f64) {
    let document = document();
    let rows = rows(&document);
    let batch = pack::batch(&rows.iter().collect::<Vec<_>>(), None);
    for name in ["lora", "full"] {
        let expected = &document["policies"][name];
        let mut machine = policy::<R>(name, PLAIN);
        let error = logp_error(&machine.logp(&batch, true).expect("forward"), &expected["logp"]);
        gate(&format!("{name}: log p"), error, LOGP.max(limit));
        let given = reference(name, &mut machine, &batch);
        gate(&format!("{name}: reference"), logp_error(&given, &document["ref_logp"]), LOGP.max(limit));
        let outcome = machine.evaluate(std::slice::from_ref(&batch)).expect("evaluates");
        gate("on the path", gap(outcome.on_path, num(&expected["nll_on_path"])), limit);
        gate("off the path", gap(outcome.off_path, num(&expected["nll_off_path"])), limit);
    }
}

fn check_losses(outcome: &Outcome, case: &Value, limit: f64) -> f64 {
    let preference = num(&case["gamma"]) != 0.0;
    assert_eq!(outcome.totals.pairs as f64, num(&case["pairs"]), "pairs");
    let dpo = if preference { gap(outcome.dpo, num(&case["dpo"])) } else { outcome.dpo };
    let losses = [("loss", outcome.loss), ("sft", outcome.sft)].map(|(key, got)| (key, gap(got, num(&case[key]))));
    losses.into_iter().chain([("dpo", dpo)]).map(|(key, error)| gate(key, error, limit)).fold(0.0, worst)
}

/// Norms of all gradients, and the small ones value by value.
fn check_gradients(got: &BTreeMap<String, Vec<f64>>, case: &Value, limit: f64) -> f64 {
    let expected = case["grad_l2"].as_object().expect("norms");
    assert!(got.keys().eq(expected.keys().collect::<BTreeSet<_>>()), "trained tensors");
    let norms = expected.iter().map(|(name, l2)| {
        let error = (norm(&got[name]) - num(l2)).abs() / num(l2);
        gate(&format!("norm of the gradient of {name}"), error, limit)
    });
    let entire = case["grad"].as_object().expect("gradients").iter().map(|(name, grad)| {
        let error = relative(&got[name], &flat(grad));
        gate(&format!("gradient of {name}"), error, limit)
    });
    norms.chain(entire).fold(0.0, worst)
}

/// Every case in every layout.
fn cases<R: Real>(limit: fn(&Value) -> f64) {
    let document = document();
    let rows = rows(&document);
    let (mut loss, mut gradient) = (0.0, 0.0);
    for case in document["cases"].as_array().expect("cases") {
        let name = case["policy"].as_str().expect("a name");
        let mut machine = policy::<R>(name, rule(case));
        for mut batches in layouts(&rows) {
            for batch in &mut batches {
                batch.ref_logp = reference(name, &mut machine, batch);
            }
            let evaluated = machine.evaluate(&batches).expect("evaluates");
            loss = worst(loss, check_losses(&evaluated, case, limit(case)));
            let outcome = machine.gradients(&batches, 1).expect("gradients");
            loss = worst(loss, check_losses(&outcome, case, limit(case)));
            gradient = worst(gradient, check_gradients(&gradients(&mut machine), case, limit(case)));
        }
    }
    println!("worst errors: losses {loss:.1e}, gradients {gradient:.1e}");
}

#[test]
fn log_probabilities_in_f64() {
    log_probabilities::<f64>(1e-11);
}

#[test]
fn log_probabilities_in_f32() {
    log_probabilities::<f32>(SINGLE);
}

#[test]
fn losses_and_gradients_in_f64() {
    cases::<f64>(double);
}

#[test]
fn losses_and_gradients_in_f32() {
    cases::<f32>(|_| SINGLE);
}
