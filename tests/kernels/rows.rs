//! Norms, rotations, activations, embeddings, gathers.

use super::{Bound, Lab, Output, dropout};
use crate::compare;
use eyekern::backend::{Act, Affine, Backend, Heads, Norm, Rows, Stored, Turn};

/// Widths with and without 16-byte rows, below and above what a block takes at once.
const WIDTHS: [usize; 6] = [8, 36, 64, 250, 2310, 4200];

fn norms<B: Backend>(lab: &mut Lab<B>, width: usize, kind: Norm, p: f32, bias: bool) -> Vec<Output> {
    let tokens = lab.tokens(&[3, 1, 5], 10);
    let (n, key) = (tokens.count, lab.ids_of(&[9, 4]));
    let s = Rows { n, width };
    let (skip, branch) = (lab.float(n * width, 2.0), lab.float(n * width, 1.0));
    let (gain, shift) = (lab.float(width, 1.5), lab.float(width, 1.0));
    let affine = || Affine { gain: &gain, bias: bias.then_some(&shift) };
    let (mut sum, mut y, mut stat) = (lab.poison(n * width), lab.poison(n * width), lab.poison_stat(2 * n));
    let drop = dropout(p, &key, &tokens);
    lab.b.add_norm(s, kind, &skip, &branch, drop, &mut sum, affine(), &mut y, &mut stat).expect("add_norm");
    let mut out = vec![
        ("sum", Bound::Rms(2e-3), lab.read(&sum, n * width)),
        ("y after add", Bound::Rms(4e-3), lab.read(&y, n * width)),
    ];
    let (mut y, mut stat) = (lab.poison(n * width), lab.poison_stat(2 * n));
    lab.b.norm(s, kind, &skip, affine(), &mut y, &mut stat).expect("norm");
    out.push(("y", Bound::Rms(2e-3), lab.read(&y, n * width)));
    out.push(("stat", Bound::Rms(1e-5), lab.read_stat(&stat, 2 * n)));

    let (dy, d_skip) = (lab.float(n * width, 1.0), lab.float(n * width, 1.0));
    for with in [true, false] {
        let mut dx = lab.poison(n * width);
        let (mut d_gain, mut d_bias) = (lab.stat(width, 1.0), lab.stat(width, 1.0));
        let grads = (with.then_some(&mut d_gain), (with && bias).then_some(&mut d_bias));
        let skip_grad = with.then_some(&d_skip);
        lab.b.norm_bwd(s, kind, &skip, &gain, &stat, &dy, skip_grad, &mut dx, grads.0, grads.1).expect("norm_bwd");
        out.push(("dx", Bound::Rms(3e-3), lab.read(&dx, n * width)));
        out.push(("d_gain", Bound::Rms(1e-5), lab.read_stat(&d_gain, width)));
        out.push(("d_bias", Bound::Rms(1e-5), lab.read_stat(&d_bias, width)));
    }
    if p > 0.0 {
        let mut d_branch = lab.poison(n * width);
        lab.b.dropout_bwd(s, dropout(p, &key, &tokens).expect("p > 0"), &dy, &mut d_branch).expect("dropout_bwd");
        out.push(("d_branch", Bound::Rms(2e-3), lab.read(&d_branch, n * width)));
    }
    out
}

#[test]
fn norms_and_their_gradients() {
    for width in WIDTHS {
        for (kind, p, bias) in [
            (Norm::Rms { eps: 1e-5 }, 0.0, false),
            (Norm::Rms { eps: 1e-6 }, 0.3, false),
            (Norm::Layer { eps: 1e-5 }, 0.0, true),
            (Norm::Layer { eps: 1e-5 }, 0.1, true),
        ] {
            compare!(format!("{kind:?} of {width}, p {p}"), |lab: &mut Lab<_>| norms(lab, width, kind, p, bias));
        }
    }
}

fn rotation<B: Backend>(lab: &mut Lab<B>, q: usize, kv: usize, dim: usize) -> Vec<Output> {
    let tokens = lab.tokens(&[7, 1, 4], 10);
    let s = Heads { tokens: tokens.count, q, kv, dim, scale: 1.0 };
    let angles: Vec<f64> = (0..7 * dim / 2).map(|_| lab.uniform() * 6.0).collect();
    let table: Vec<f64> = angles
        .chunks(dim / 2)
        .flat_map(|row| row.iter().map(|a| a.cos()).chain(row.iter().map(|a| a.sin())).collect::<Vec<_>>())
        .collect();
    let (table, mut qkv) = (lab.stat_of(&table), lab.float(tokens.count * s.width(), 1.0));
    lab.b.rope(s, &tokens, &table, Turn::Forward, &mut qkv).expect("rope");
    let forward = lab.read(&qkv, tokens.count * s.width());
    let mut other = lab.float(tokens.count * s.width(), 1.0);
    lab.b.rope(s, &tokens, &table, Turn::Inverse, &mut other).expect("rope");
    let back = lab.read(&other, tokens.count * s.width());
    vec![("forward", Bound::Rms(2e-3), forward), ("inverse", Bound::Rms(2e-3), back)]
}

#[test]
fn rotations() {
    for (q, kv, dim) in [(4, 2, 16), (1, 1, 8), (3, 1, 80), (32, 8, 64)] {
        compare!(format!("rope {q} + {kv} heads of {dim}"), |lab: &mut Lab<_>| rotation(lab, q, kv, dim));
    }
}

fn activation<B: Backend>(lab: &mut Lab<B>, width: usize, kind: Act) -> Vec<Output> {
    let (n, inner) = (5, width * kind.fan_in());
    // far out, too: both tails of the sigmoid and of the error function
    let values: Vec<f64> = lab.values(n * inner, 12.0);
    let (x, dy) = (lab.float_of(&values), lab.float(n * width, 1.0));
    let (mut y, mut dx) = (lab.poison(n * width), lab.poison(n * inner));
    lab.b.act(Rows { n, width }, kind, &x, &mut y).expect("act");
    lab.b.act_bwd(Rows { n, width }, kind, &x, &dy, &mut dx).expect("act_bwd");
    vec![("y", Bound::Rms(2e-3), lab.read(&y, n * width)), ("dx", Bound::Rms(3e-3), lab.read(&dx, n * inner))]
}

#[test]
fn activations() {
    for width in WIDTHS {
        for kind in [Act::SwiGlu, Act::GeluTanh, Act::GeluErf] {
            compare!(format!("{kind:?} of {width}"), |lab: &mut Lab<_>| activation(lab, width, kind));
        }
    }
}

fn embedding<B: Backend>(lab: &mut Lab<B>, width: usize, learned: bool, p: f32) -> Vec<Output> {
    let vocab = 6; // few, so that ids repeat
    let tokens = lab.tokens(&[9, 1, 300], vocab);
    let (n, key) = (tokens.count, lab.ids_of(&[3, 2]));
    let s = Rows { n, width };
    let table = Stored::Float(lab.float(vocab * width, 1.0));
    let positions = Stored::Float(lab.float(300 * width, 1.0));
    let mut y = lab.poison(n * width);
    let places = learned.then_some(&positions);
    lab.b.embed(s, &tokens, &table, places, 1.5, dropout(p, &key, &tokens), &mut y).expect("embed");
    let dy = lab.float(n * width, 1.0);
    let (mut d_table, mut d_positions) = (lab.stat(vocab * width, 1.0), lab.stat(300 * width, 1.0));
    let places = learned.then_some(&mut d_positions);
    lab.b.embed_bwd(s, &tokens, 1.5, dropout(p, &key, &tokens), &dy, Some(&mut d_table), places).expect("embed_bwd");
    vec![
        ("y", Bound::Rms(2e-3), lab.read(&y, n * width)),
        ("d_table", Bound::Rms(1e-5), lab.read_stat(&d_table, vocab * width)),
        ("d_positions", Bound::Rms(1e-5), lab.read_stat(&d_positions, 300 * width)),
    ]
}

#[test]
fn embeddings() {
    for (width, learned, p) in [(8, false, 0.0), (36, true, 0.2), (520, true, 0.0)] {
        compare!(format!("embedding of {width}"), |lab: &mut Lab<_>| embedding(lab, width, learned, p));
    }
}

fn gathering<B: Backend>(lab: &mut Lab<B>, width: usize) -> Vec<Output> {
    let (total, rows) = (11, [0u32, 3, 4, 10]);
    let (x, index) = (lab.float(total * width, 1.0), lab.ids_of(&rows));
    let s = Rows { n: rows.len(), width };
    let (mut y, mut dx, mut scaled) =
        (lab.poison(rows.len() * width), lab.poison(total * width), lab.poison(total * width));
    lab.b.gather(s, &index, &x, &mut y).expect("gather");
    let dy = lab.float(rows.len() * width, 1.0);
    lab.b.gather_bwd(s, &index, total, None, &dy, &mut dx).expect("gather_bwd");
    let coef = lab.stat_of(&[0.3, 0.0, -1.7, 2.5e-6]);
    lab.b.gather_bwd(s, &index, total, Some(&coef), &dy, &mut scaled).expect("gather_bwd");
    vec![
        ("y", Bound::Exact, lab.read(&y, rows.len() * width)),
        ("dx", Bound::Exact, lab.read(&dx, total * width)),
        ("scaled dx", Bound::Rms(2e-3), lab.read(&scaled, total * width)),
    ]
}

#[test]
fn gathers() {
    for width in WIDTHS {
        compare!(format!("gather of {width}"), |lab: &mut Lab<_>| gathering(lab, width));
    }
}
