//! Projections and adapters.

use super::{Bound, Lab, Output, dropout};
use crate::compare;
use eyekern::backend::{Backend, Gemm, Lora, Stored};

fn projection<B: Backend>(lab: &mut Lab<B>, (rows, inp, out): (usize, usize, usize), alpha: f64) -> Vec<Output> {
    let s = Gemm { rows, inp, out, alpha };
    let (x, bias) = (lab.float(rows * inp, 1.0), lab.float(out, 1.0));
    let w = Stored::Float(lab.float(out * inp, 0.5));
    let mut y = lab.poison(rows * out);
    lab.b.linear(s, &x, &w, Some(&bias), &mut y).expect("linear");
    let mut plain = lab.poison(rows * out);
    lab.b.linear(s, &x, &w, None, &mut plain).expect("linear");
    let dy = lab.float(rows * out, 1.0);
    let mut dx = lab.poison(rows * inp);
    let (mut dw, mut d_bias) = (lab.stat(out * inp, 1.0), lab.stat(out, 1.0));
    lab.b.linear_bwd(s, &x, &w, &dy, Some(&mut dx), Some(&mut dw), Some(&mut d_bias)).expect("linear_bwd");
    vec![
        ("y", Bound::Rms(5e-3), lab.read(&y, rows * out)), // the sum is rounded twice
        ("without bias", Bound::Rms(2e-3), lab.read(&plain, rows * out)),
        ("dx", Bound::Rms(2e-3), lab.read(&dx, rows * inp)),
        ("dw", Bound::Rms(1e-5), lab.read_stat(&dw, out * inp)),
        ("d_bias", Bound::Rms(1e-5), lab.read_stat(&d_bias, out)),
    ]
}

#[test]
fn projections() {
    for shape in [(7, 16, 24), (1, 64, 8), (33, 40, 100)] {
        for alpha in [1.0, 0.22] {
            compare!(format!("projection {shape:?} x {alpha}"), |lab: &mut Lab<_>| projection(lab, shape, alpha));
        }
    }
}

fn adapter<B: Backend>(lab: &mut Lab<B>, p: f32, rank: usize) -> Vec<Output> {
    let tokens = lab.tokens(&[4, 1, 6], 10);
    let key = lab.ids_of(&[8, 1]);
    let rows = tokens.count;
    let s = Lora { rows, inp: 48, out: 16, col: 8, stride: 40, rank, scale: 0.5 };
    let (x, a, b) = (lab.float(rows * s.inp, 1.0), lab.float(rank * s.inp, 0.3), lab.float(s.out * rank, 0.3));
    let (mut scratch, mut low) = (lab.poison(rows * s.inp), lab.poison(rows * rank));
    let mut y = lab.float(rows * s.stride, 1.0);
    let drop = || dropout(p, &key, &tokens);
    lab.b.lora(s, &x, &a, &b, drop(), &mut scratch, &mut low, &mut y).expect("lora");
    let dy = lab.float(rows * s.stride, 1.0);
    let (mut d_low, mut dx) = (lab.poison(rows * rank), lab.float(rows * s.inp, 1.0));
    let (mut da, mut db) = (lab.stat(rank * s.inp, 1.0), lab.stat(s.out * rank, 1.0));
    let into = Some(&mut dx);
    lab.b
        .lora_bwd(s, &x, &a, &b, drop(), &low, &dy, &mut scratch, &mut d_low, into, &mut da, &mut db)
        .expect("lora_bwd");
    vec![
        ("y", Bound::Rms(3e-3), lab.read(&y, rows * s.stride)),
        ("dx", Bound::Rms(3e-3), lab.read(&dx, rows * s.inp)),
        ("da", Bound::Rms(4e-3), lab.read_stat(&da, rank * s.inp)),
        ("db", Bound::Rms(4e-3), lab.read_stat(&db, s.out * rank)),
    ]
}

#[test]
fn adapters() {
    for (p, rank) in [(0.0, 8), (0.0, 3), (0.25, 8)] {
        compare!(format!("adapter of rank {rank}, p {p}"), |lab: &mut Lab<_>| adapter(lab, p, rank));
    }
}
