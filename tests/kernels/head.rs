//! The LM head's rows and the objective.

use super::{Bound, Lab, Output};
use crate::compare;
use eyekern::backend::{Backend, Head, Modulation, Objective, Rows, Stored, scalar, tally};

/// Both ways through the head: log p, then the gradient by coefficients, and in one pass. Coefficients of 0 and below.
fn head<B: Backend>(lab: &mut Lab<B>, s: Head, size: f64) -> Vec<Output> {
    let Head { first, rows, width, vocab, .. } = s;
    let total = first + rows + 1;
    let (x, w) = (lab.float(total * width, size), Stored::Float(lab.float(vocab * width, 1.0)));
    let mut labels: Vec<u32> = (0..total).map(|_| lab.below(vocab) as u32).collect();
    (labels[first], labels[first + 1]) = (vocab as u32 - 1, 0);
    let labels = lab.ids_of(&labels);
    let mut logits = lab.b.alloc::<B::Logit>(rows * vocab).expect("memory");
    let zeros = |lab: &Lab<B>| (lab.stat_of(&vec![0.0; total]), lab.stat_of(&vec![0.0; total]));
    let (mut logp, mut lse) = zeros(lab);
    lab.b.head_logp(s, &x, &w, &labels, &mut logits, &mut logp, &mut lse).expect("head_logp");
    let mut coef = lab.values(total, 1.0);
    (coef[first], coef[first + 1]) = (0.0, -0.75);
    let coef = lab.stat_of(&coef);
    let (mut dx, mut dw) = (lab.float_of(&vec![0.0; total * width]), lab.stat(vocab * width, 1.0));
    lab.b.head_bwd(s, &x, &w, &labels, &logp, &lse, &coef, &mut logits, &mut dx, Some(&mut dw)).expect("head_bwd");

    let ((mut logp1, mut lse1), mut unit) = (zeros(lab), lab.float_of(&vec![0.0; total * width]));
    lab.b.head_unit(s, &x, &w, &labels, &mut logits, &mut logp1, &mut lse1, &mut unit).expect("head_unit");
    let order: Vec<u32> = (0..total as u32).rev().collect();
    let (order, mut scaled) = (lab.ids_of(&order), lab.poison(total * width));
    let all = Rows { n: total, width };
    lab.b.gather_bwd(all, &order, total, Some(&coef), &unit, &mut scaled).expect("gather_bwd");
    vec![
        ("logp", Bound::Abs(1e-4), lab.read_stat(&logp, total)),
        ("lse", Bound::Abs(1e-4), lab.read_stat(&lse, total)),
        ("dx", Bound::Rms(4e-3), lab.read(&dx, total * width)),
        ("dw", Bound::Rms(4e-3), lab.read_stat(&dw, vocab * width)),
        ("logp in one pass", Bound::Abs(1e-4), lab.read_stat(&logp1, total)),
        ("lse in one pass", Bound::Abs(1e-4), lab.read_stat(&lse1, total)),
        ("unit dx", Bound::Rms(4e-3), lab.read(&unit, total * width)),
        ("scaled dx", Bound::Rms(5e-3), lab.read(&scaled, total * width)), // rounded once more
    ]
}

/// Odd vocabularies, one below a block's width, one of several tiles.
#[test]
fn heads() {
    for vocab in [2, 97, 512, 513, 1500, 4001] {
        let s = Head { first: 2, rows: 5, width: 24, vocab, scale: 0.5 };
        compare!(format!("vocabulary {vocab}"), |lab: &mut Lab<_>| head(lab, s, 1.0));
    }
}

/// Vocabularies of the largest models, and one that is no multiple of anything.
#[test]
fn large_vocabularies() {
    for vocab in [256_000, 151_643] {
        let s = Head { first: 1, rows: 2, width: 8, vocab, scale: 1.0 };
        compare!(format!("vocabulary {vocab}"), |lab: &mut Lab<_>| head(lab, s, 4.0));
    }
}

/// The gradient of a label that is all but certain: p - 1 without cancellation.
#[test]
fn certain_labels() {
    fn certain<B: Backend>(lab: &mut Lab<B>, logit: f64) -> Vec<Output> {
        let (vocab, width) = (33, 8);
        let s = Head { first: 0, rows: 1, width, vocab, scale: 1.0 };
        // logits are `logit` for the label and 0 elsewhere
        let (mut x, mut w) = (vec![0.0; width], vec![0.0; vocab * width]);
        (x[0], w[7 * width]) = (logit, 1.0);
        let (x, w, labels) = (lab.float_of(&x), Stored::Float(lab.float_of(&w)), lab.ids_of(&[7]));
        let mut logits = lab.b.alloc::<B::Logit>(vocab).expect("memory");
        let (mut logp, mut lse) = (lab.poison_stat(1), lab.poison_stat(1));
        lab.b.head_logp(s, &x, &w, &labels, &mut logits, &mut logp, &mut lse).expect("head_logp");
        let (coef, mut dx, mut unit) = (lab.stat_of(&[1.0]), lab.poison(width), lab.poison(width));
        lab.b.head_bwd(s, &x, &w, &labels, &logp, &lse, &coef, &mut logits, &mut dx, None).expect("head_bwd");
        lab.b.head_unit(s, &x, &w, &labels, &mut logits, &mut logp, &mut lse, &mut unit).expect("head_unit");
        // dx[0] is p - 1 of the label
        vec![
            ("p - 1", Bound::Rms(5e-3), lab.read(&dx, width)),
            ("p - 1 in one pass", Bound::Rms(5e-3), lab.read(&unit, width)),
        ]
    }
    for logit in [4.0, 7.0, 10.5, 14.0] {
        compare!(format!("logit {logit}"), |lab: &mut Lab<_>| certain(lab, logit));
    }
}

fn objective<B: Backend>(
    lab: &mut Lab<B>, (gamma, weighted): (f64, bool), examples: usize, modulation: Modulation,
) -> Vec<Output> {
    let lengths: Vec<usize> = (0..examples).map(|e| e * 7 % 11).collect();
    let mut starts = vec![0u32];
    lengths.iter().for_each(|n| starts.push(starts[starts.len() - 1] + *n as u32));
    let rows = starts[examples] as usize;
    let negative = |values: Vec<f64>| values.into_iter().map(|x| -(x.abs() + 0.01) * 4.0).collect::<Vec<_>>();
    let (logp, reference) = (lab.values(rows, 1.0), lab.values(rows, 1.0));
    let (logp, reference) = (lab.stat_of(&negative(logp)), lab.stat_of(&negative(reference)));
    let weight = lab.stat(rows, 2.0);
    let path: Vec<u32> = (0..rows).map(|_| u32::from(lab.uniform() < 0.4)).collect();
    let (path, starts) = (lab.ids_of(&path), lab.ids_of(&starts));
    let mut scalars = vec![0.0; scalar::SCALARS];
    (scalars[scalar::INV_NORM], scalars[scalar::INV_PAIRS]) = (0.125, 0.25);
    let scalars = lab.stat_of(&scalars);
    let (mut coef, mut sums) = (lab.poison_stat(rows), lab.stat_of(&[0.5; tally::TALLY]));
    let s = Objective {
        first: 0,
        rows,
        first_example: 0,
        examples,
        gamma,
        beta: 0.5,
        weighted_pairs: weighted,
        modulation,
    };
    lab.b.objective(s, &starts, &logp, &weight, &path, &reference, &scalars, &mut coef, &mut sums).expect("objective");
    vec![
        ("coef", Bound::Rms(1e-6), lab.read_stat(&coef, rows)),
        ("sums", Bound::Rms(1e-6), lab.read_stat(&sums, tally::TALLY)),
    ]
}

#[test]
fn objectives() {
    use Modulation::{Focal, Probability};
    for (gamma, weighted, examples, modulation) in [
        (0.0, false, 4, Modulation::None),
        (0.3, false, 9, Modulation::None),
        (0.3, true, 9, Modulation::None),
        (1.0, false, 300, Modulation::None),
        (0.0, false, 40, Focal(2.0)),
        (0.3, true, 9, Focal(0.5)),
        (0.3, false, 40, Probability),
    ] {
        let name = format!("objective, gamma {gamma}, weighted {weighted}, {examples} examples, {modulation:?}");
        compare!(name, |lab: &mut Lab<_>| objective(lab, (gamma, weighted), examples, modulation));
    }
}
