//! Weights in 4 bits.
//!
//! On a device they must give the bits of the same weights in bf16, which the host decoded and rounded: the values are
//! the same, and so are the products. The reference reads the decoded values in full.

use super::{Bound, Lab, Output, device};
use crate::compare;
use eyekern::backend::cuda::emulated::Schedule;
use eyekern::backend::nf4::{Coded, Host, Nf4, PerHead, Scales, Slice};
use eyekern::backend::plan::Plan;
use eyekern::backend::{Backend, Gemm, Head, LinearOps as _, Rows, Stored, Tokens};

type OnHost = Nf4<Vec<u8>, Vec<f32>>;

/// Sizes of a matrix: the rows of its slices with the heads of those that are stored by head, and blocks.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    slices: &'a [(usize, Option<PerHead>)],
    cols: usize,
    block: usize,
    /// Blocks that share a scale, with double quantisation.
    nested: Option<usize>,
}

/// Random codes and scales with all bits of f32.
fn tensor<B: Backend>(lab: &mut Lab<B>, len: usize, block: usize, nested: Option<usize>) -> Host {
    let blocks = len.div_ceil(block);
    let bytes = |lab: &mut Lab<B>, n: usize| (0..n).map(|_| lab.below(256) as u8).collect::<Vec<_>>();
    let floats = |lab: &mut Lab<B>, n: usize, least: f64, most: f64| {
        (0..n).map(|_| (least + (most - least) * lab.uniform()) as f32).collect::<Vec<_>>()
    };
    let codes = bytes(lab, len.div_ceil(2));
    let scales = match nested {
        None => Scales::Full(floats(lab, blocks, 0.01, 0.5)),
        Some(block) => Scales::Nested {
            codes: bytes(lab, blocks),
            block,
            absmax: floats(lab, blocks.div_ceil(block), 0.05, 0.2),
            map: floats(lab, 256, -1.0, 1.0),
            offset: floats(lab, 1, 0.2, 0.3)[0],
        },
    };
    Coded { len, block, codes, scales }
}

fn matrix<B: Backend>(lab: &mut Lab<B>, case: Case) -> OnHost {
    let mut w = Nf4 { cols: case.cols, slices: Vec::new() };
    for &(rows, order) in case.slices {
        let values = tensor(lab, rows * case.cols, case.block, case.nested);
        w.slices.push(Slice { row: w.rows(), rows, order, values });
    }
    w
}

/// In 4 bits, and as the working type of the backend.
fn both<B: Backend>(lab: &Lab<B>, w: &OnHost) -> [Stored<B>; 2] {
    let values: Vec<f64> = w.decode().into_iter().map(f64::from).collect();
    [Stored::Nf4(w.upload(lab.b).expect("memory")), Stored::Float(lab.float_of(&values))]
}

/// What operations give for `w`: each row of a table of it, a projection and its gradient, and the head's.
fn operations<B: Backend>(lab: &Lab<B>, w: &Stored<B>, [out, inp]: [usize; 2], x: &[f64], dy: &[f64]) -> Vec<Output> {
    let rows = x.len() / inp;
    let (x, dy) = (lab.float_of(x), lab.float_of(dy));
    let (mut y, mut dx, mut table) = (lab.poison(rows * out), lab.poison(rows * inp), lab.poison(out * inp));
    let ids: Vec<u32> = (0..out as u32).collect();
    lab.b.embed(Rows { n: out, width: inp }, &of_ids(lab, &ids), w, None, 1.0, None, &mut table).expect("embed");
    let s = Gemm { rows, inp, out, alpha: 0.7 };
    lab.b.linear(s, &x, w, None, &mut y).expect("linear");
    lab.b.linear_bwd(s, &x, w, &dy, Some(&mut dx), None, None).expect("linear_bwd");
    let s = Head { first: 0, rows, width: inp, vocab: out, scale: 0.5 };
    let labels = lab.ids_of(&vec![out as u32 - 1; rows]);
    let mut logits = lab.b.alloc::<B::Logit>(rows * out).expect("memory");
    let [mut logp, mut lse] = [(); 2].map(|()| lab.poison_stat(rows));
    let mut d_head = lab.poison(rows * inp);
    lab.b.head_unit(s, &x, w, &labels, &mut logits, &mut logp, &mut lse, &mut d_head).expect("head_unit");
    vec![
        ("table", Bound::Rms(2e-3), lab.read(&table, out * inp)),
        // weights and sums are rounded, by 2^-9 each at most
        ("y", Bound::Rms(4e-3), lab.read(&y, rows * out)),
        ("dx", Bound::Rms(4e-3), lab.read(&dx, rows * inp)),
        ("logp", Bound::Abs(2e-2), lab.read_stat(&logp, rows)),
        ("head's dx", Bound::Rms(5e-3), lab.read(&d_head, rows * inp)),
    ]
}

fn of_ids<B: Backend>(lab: &Lab<B>, ids: &[u32]) -> Tokens<B> {
    let [ids, pos, seg_start, example] = [(); 4].map(|()| lab.ids_of(ids));
    Tokens { count: 0, ids, pos, seg_start, example }
}

/// The operations on the weights of `case`; where the working type is bf16, the bits of both must be the same.
fn weights<B: Backend>(lab: &mut Lab<B>, case: Case) -> Vec<Output> {
    let host = matrix(lab, case);
    let (rows, shape) = (5, [host.rows(), host.cols]);
    let (x, dy) = (lab.values(rows * shape[1], 1.0), lab.values(rows * shape[0], 1.0));
    let [coded, plain] = both(lab, &host).map(|w| operations(lab, &w, shape, &x, &dy));
    if B::MASTER {
        same(&format!("{case:?}"), &coded, &plain);
    }
    coded
}

/// Two weights, one in 4 bits, have the same bits.
fn same(case: &str, coded: &[Output], plain: &[Output]) {
    for ((name, _, x), (_, _, y)) in coded.iter().zip(plain) {
        let differs = x.iter().zip(y).position(|(x, y)| x.to_bits() != y.to_bits());
        let shown = differs.map(|i| (i, x[i], y[i]));
        assert_eq!(shown, None, "{case}: {name}: place, value of the weight in 4 bits, value of the same in bf16");
    }
}

/// Columns with and without whole packs, blocks that begin inside a row, an odd number of codes, a short last block,
/// slices that begin at odd values, rows that a block of threads goes over twice.
#[test]
fn shapes() {
    let of_rows = |rows: &[usize]| rows.iter().map(|&rows| (rows, None)).collect::<Vec<_>>();
    for (rows, cols, block) in [
        (&[7][..], 13, 64),
        (&[33], 65, 64),
        (&[5], 640, 64),
        (&[64], 96, 64),
        (&[64, 16, 16], 96, 128),
        (&[5, 3, 2], 13, 32),
        (&[3, 1], 40, 8),
        (&[2, 1], 4200, 64),
        (&[1, 2], 1030, 4096),
    ] {
        for nested in [None, Some(256), Some(8)] {
            let slices = &of_rows(rows)[..];
            let case = Case { slices, cols, block, nested };
            compare!(format!("{case:?}"), |lab: &mut Lab<_>| weights(lab, case));
        }
    }
}

/// Rows that the file keeps by head, alone and between others.
#[test]
fn rows_by_head() {
    let (few, more) = (PerHead { heads: 3, dim: 5 }, PerHead { heads: 4, dim: 8 });
    for (slices, cols) in
        [(&[(45, Some(few))][..], 13), (&[(96, Some(more))], 32), (&[(7, None), (96, Some(more)), (45, Some(few))], 24)]
    {
        for nested in [None, Some(256)] {
            let case = Case { slices, cols, block: 64, nested };
            compare!(format!("{case:?}"), |lab: &mut Lab<_>| weights(lab, case));
        }
    }
}

/// A magnitude near 0, of which one rounding leaves something and two leave nothing: (1 + 2^-12)^2 - (1 + 2^-11).
#[test]
fn magnitudes_are_rounded_twice() {
    fn table<B: Backend>(lab: &mut Lab<B>) -> Vec<Output> {
        let (rows, cols) = (4, 64);
        let (near, codes) = (1.0 + 2f32.powi(-12), (0..rows * cols / 2).map(|i| i as u8).collect());
        let (absmax, map, offset) = (vec![near], vec![near; 256], -1.0 - 2f32.powi(-11));
        let scales = Scales::Nested { codes: vec![0; rows], block: 256, absmax, map, offset };
        let values = Coded { len: rows * cols, block: cols, codes, scales };
        let host = Nf4 { cols, slices: vec![Slice { row: 0, rows, order: None, values }] };
        let [coded, _] = both(lab, &host);
        let mut y = lab.poison(rows * cols);
        let tokens = of_ids(lab, &[0, 1, 2, 3]);
        lab.b.embed(Rows { n: rows, width: cols }, &tokens, &coded, None, 1.0, None, &mut y).expect("embed");
        vec![("values of nothing", Bound::Exact, lab.read(&y, rows * cols))]
    }
    compare!("rounded twice", table);
}

/// A large weight, a small one and the large one again take turns in the panel.
fn turns<B: Backend>(lab: &mut Lab<B>) -> Vec<Output> {
    let large = Case { slices: &[(33, None), (8, None)], cols: 72, block: 64, nested: Some(256) };
    let small = Case { slices: &[(9, None)], cols: 72, block: 64, nested: None };
    let [large, small] = [large, small].map(|case| matrix(lab, case));
    let x = lab.values(5 * 72, 1.0);
    let run = |weights: [&Stored<B>; 3]| {
        let x = lab.float_of(&x);
        let mut all = Vec::new();
        for (name, w, out) in [("large", weights[0], 41), ("small", weights[1], 9), ("again", weights[2], 41)] {
            let mut y = lab.poison(5 * out);
            lab.b.linear(Gemm { rows: 5, inp: 72, out, alpha: 1.0 }, &x, w, None, &mut y).expect("linear");
            all.push((name, y, 5 * out));
        }
        // read after all of them
        all.into_iter().map(|(name, y, n)| (name, Bound::Rms(4e-3), lab.read(&y, n))).collect::<Vec<Output>>()
    };
    let ([large, in_bf16], [small, small_in_bf16]) = (both(lab, &large), both(lab, &small));
    let (coded, plain) = (run([&large, &small, &large]), run([&in_bf16, &small_in_bf16, &in_bf16]));
    if B::MASTER {
        same("one after the other", &coded, &plain);
    }
    coded
}

#[test]
fn weights_take_turns() {
    compare!("one after the other", turns);
}

/// Tables of tokens and of positions, which are read at the same time.
fn tables<B: Backend>(lab: &mut Lab<B>) -> Vec<Output> {
    let case = |rows| Case { slices: rows, cols: 40, block: 64, nested: None };
    let [table, places] = [case(&[(19, None)]), case(&[(11, None)])].map(|case| matrix(lab, case));
    let ([table, wide], [places, wide_places]) = (both(lab, &table), both(lab, &places));
    let (tokens, s) = (of_ids(lab, &[3, 0, 10, 7]), Rows { n: 4, width: 40 });
    let run = |table: &Stored<B>, places: &Stored<B>| {
        let mut y = lab.poison(4 * 40);
        lab.b.embed(s, &tokens, table, Some(places), 1.5, None, &mut y).expect("embed");
        vec![("y", Bound::Rms(4e-3), lab.read(&y, 4 * 40))]
    };
    let coded = run(&table, &places);
    if B::MASTER {
        same("two tables", &coded, &run(&wide, &wide_places));
        same("two tables again", &run(&table, &places), &coded);
    }
    coded
}

#[test]
fn two_tables() {
    compare!("two tables", tables);
}

/// What the dry run counts beside the buffers is what a device takes: the longest weight in bf16. The levels are left
/// out.
#[test]
fn the_panel_is_counted() {
    /// What `taken` grows by with projections by three weights.
    fn growth<B: Backend>(b: &B, taken: impl Fn(&B) -> u64) -> u64 {
        let lab = &mut Lab::new(b, 1);
        let (cols, most) = (72, 96);
        let weights = [&[(41, None)][..], &[(64, None), (32, None)], &[(9, None)]].map(|slices| {
            let host = matrix(lab, Case { slices, cols, block: 64, nested: Some(256) });
            (host.rows(), Stored::Nf4(host.upload(b).expect("memory")))
        });
        let (x, mut y) = (lab.float(cols, 1.0), lab.poison(most));
        let before = taken(b);
        for (out, w) in &weights {
            let s = Gemm { rows: 1, inp: cols, out: *out, alpha: 1.0 };
            b.linear(s, &x, w, None, &mut y).expect("linear");
        }
        taken(b) - before
    }
    let panel = 96 * 72 * 2;
    assert_eq!(growth(&Plan::cuda(), Plan::scratch), panel);
    assert_eq!(growth(&Plan::cpu(1), Plan::scratch), 0);
    let emulated = device::emulated(Schedule { seed: 1, threads: 1 });
    let levels = 16 * 4;
    assert_eq!(growth(&emulated, |b| u64::MAX - b.device().free_bytes()), panel + levels);
}

#[test]
fn other_blocks_are_refused() {
    let emulated = device::emulated(Schedule { seed: 1, threads: 1 });
    let lab = &mut Lab::new(&emulated, 1);
    for (block, nested, refused) in [(48, None, 48), (4, None, 4), (64, Some(100), 100)] {
        let host = matrix(lab, Case { slices: &[(3, None)], cols: 64, block, nested });
        let w = Stored::Nf4(host.upload(lab.b).expect("memory"));
        let (x, mut y) = (lab.float(64, 1.0), lab.poison(3));
        let s = Gemm { rows: 1, inp: 64, out: 3, alpha: 1.0 };
        let why = lab.b.linear(s, &x, &w, None, &mut y).expect_err("a block of another size").to_string();
        assert_eq!(
            why,
            format!(
                "4-bit weights in blocks of {refused} are not supported on CUDA, only powers of 2 from 8 on; train on \
                 the CPU (--device cpu)"
            )
        );
    }
}
