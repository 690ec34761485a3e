//! Clipping and AdamW.

use super::{Bound, Lab, Output};
use crate::compare;
use eyekern::backend::{AdamW, Backend, Update, scalar};

fn step<B: Backend>(lab: &mut Lab<B>, lengths: &[usize], max_norm: f64) -> Vec<Output> {
    let mut scalars = vec![0.0; scalar::SCALARS];
    (scalars[scalar::LR], scalars[scalar::MAX_NORM]) = (0.01, max_norm);
    (scalars[scalar::BIAS1], scalars[scalar::BIAS2]) = (1.0 - 0.9f64.powi(3), 1.0 - 0.999f64.powi(3));
    let mut scalars = lab.stat_of(&scalars);
    let mut out = Vec::new();
    let mut tensors: Vec<_> = lengths
        .iter()
        .map(|&n| {
            let values = lab.values(n, 1.0);
            let (weight, master) = (lab.float_of(&values), lab.stat_of(&values));
            let grad = lab.stat(n, 0.7);
            let v: Vec<f64> = lab.values(n, 0.3).into_iter().map(f64::abs).collect();
            (weight, master, grad, lab.stat(n, 0.2), lab.stat_of(&v), n)
        })
        .collect();
    let grads: Vec<_> = tensors.iter().map(|t| (&t.2, t.5)).collect();
    lab.b.clip(&grads, &mut scalars).expect("clip");
    let k = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
    let mut updates: Vec<Update<B>> = tensors
        .iter_mut()
        .enumerate()
        .map(|(i, (weight, master, grad, m, v, len))| Update {
            len: *len,
            weight,
            master: B::MASTER.then_some(master),
            grad,
            m,
            v,
            decay: i % 2 == 0,
        })
        .collect();
    lab.b.adamw(k, &scalars, &mut updates).expect("adamw");
    drop(updates);
    out.push(("scalars", Bound::Rms(1e-6), lab.read_stat(&scalars, scalar::SCALARS)));
    for (weight, master, _, m, v, n) in &tensors {
        out.push(("weight", Bound::Rms(2e-3), lab.read(weight, *n)));
        // the reference has no masters: its weights are as exact
        let exact = if B::MASTER { lab.read_stat(master, *n) } else { lab.read(weight, *n) };
        out.push(("master", Bound::Rms(1e-6), exact));
        out.push(("m", Bound::Rms(1e-6), lab.read_stat(m, *n)));
        out.push(("v", Bound::Rms(1e-6), lab.read_stat(v, *n)));
    }
    out
}

#[test]
fn a_step_of_the_optimiser() {
    for max_norm in [0.0, 1.0, 1e6] {
        compare!(format!("max_norm {max_norm}"), |lab: &mut Lab<_>| step(lab, &[1, 300, 20_000, 7], max_norm));
    }
}
