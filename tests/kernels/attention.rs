//! Fused causal attention inside segments: head widths, grouped heads, tails, segments of one token.

use super::{Bound, Lab, Output, dropout};
use crate::compare;
use eyekern::backend::{Backend, Heads};

fn attention<B: Backend>(
    lab: &mut Lab<B>,
    (q, kv, dim): (usize, usize, usize),
    lengths: &[usize],
    p: f32,
) -> Vec<Output> {
    let tokens = lab.tokens(lengths, 10);
    let (n, key) = (tokens.count, lab.ids_of(&[6, 3]));
    let s = Heads { tokens: n, q, kv, dim, scale: 1.0 / (dim as f64).sqrt() };
    let (qkv, dy) = (lab.float(n * s.width(), 1.5), lab.float(n * q * dim, 1.0));
    let (mut y, mut lse) = (lab.poison(n * q * dim), lab.poison_stat(n * q));
    lab.b.attention(s, &tokens, &qkv, dropout(p, &key, &tokens), &mut y, &mut lse).expect("attention");
    let (mut delta, mut d_qkv) = (lab.poison_stat(n * q), lab.poison(n * s.width()));
    let drop = dropout(p, &key, &tokens);
    lab.b.attention_bwd(s, &tokens, &qkv, drop, &y, &lse, &dy, &mut delta, &mut d_qkv).expect("attention_bwd");
    let grads = lab.read(&d_qkv, n * s.width());
    let part = |from: usize, heads: usize| -> Vec<f64> {
        grads.chunks(s.width()).flat_map(|row| row[from * dim..(from + heads) * dim].to_vec()).collect()
    };
    // a query that sees itself alone has a probability of 1 whatever its score: the gradient is 0 but for rounding
    let scores = if lengths.iter().any(|&n| n > 1) { Bound::Rms(8e-3) } else { Bound::Abs(2e-2) };
    vec![
        ("y", Bound::Rms(3e-3), lab.read(&y, n * q * dim)),
        ("lse", Bound::Abs(1e-4), lab.read_stat(&lse, n * q)),
        ("delta", Bound::Rms(8e-3), lab.read_stat(&delta, n * q)),
        ("dq", scores, part(0, q)),
        ("dk", scores, part(q, kv)),
        ("dv", Bound::Rms(8e-3), part(q + kv, kv)),
    ]
}

/// Every compiled width, and widths that are padded to one.
#[test]
fn head_widths() {
    for dim in [8, 16, 32, 40, 64, 72, 80, 96, 104, 128, 136, 192, 200, 256] {
        compare!(format!("heads of {dim}"), |lab: &mut Lab<_>| attention(lab, (2, 1, dim), &[70, 3], 0.0));
    }
}

#[test]
fn grouped_heads() {
    for heads in [(1, 1, 64), (4, 4, 64), (4, 2, 64), (6, 2, 32), (5, 1, 128)] {
        compare!(format!("heads {heads:?}"), |lab: &mut Lab<_>| attention(lab, heads, &[40, 65], 0.0));
    }
}

#[test]
fn segments_and_tails() {
    let lengths: [&[usize]; 8] = [
        &[1],
        &[1, 1, 1],
        &[64],
        &[65],
        &[63, 1, 64, 2],
        &[200],
        &[1, 130, 1],
        &[5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5],
    ];
    for lengths in lengths {
        compare!(format!("segments {lengths:?}"), |lab: &mut Lab<_>| attention(lab, (2, 1, 64), lengths, 0.0));
    }
    compare!("wide segments", |lab: &mut Lab<_>| attention(lab, (2, 1, 256), &[33, 1, 40], 0.0));
}

/// The masks are those of the CPU, so that the same reference holds.
#[test]
fn dropped_probabilities() {
    for (heads, p) in [((2, 1, 64), 0.1), ((2, 2, 32), 0.5), ((2, 1, 192), 0.2)] {
        compare!(format!("heads {heads:?}, p {p}"), |lab: &mut Lab<_>| attention(lab, heads, &[70, 9], p));
    }
}

/// Scores far apart: one probability of 1 and the rest of 0, without an overflow.
#[test]
fn extreme_scores() {
    fn extreme<B: Backend>(lab: &mut Lab<B>) -> Vec<Output> {
        let tokens = lab.tokens(&[20, 12], 10);
        let (n, dim) = (tokens.count, 64);
        let s = Heads { tokens: n, q: 1, kv: 1, dim, scale: 1.0 };
        let qkv = lab.float(n * s.width(), 30.0);
        let (mut y, mut lse) = (lab.poison(n * dim), lab.poison_stat(n));
        lab.b.attention(s, &tokens, &qkv, None, &mut y, &mut lse).expect("attention");
        vec![("y", Bound::Rms(3e-3), lab.read(&y, n * dim)), ("lse", Bound::Rms(1e-6), lab.read_stat(&lse, n))]
    }
    compare!("scores of thousands", |lab: &mut Lab<_>| extreme(lab));
}
