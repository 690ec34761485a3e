//! Fused causal attention inside segments: head widths, grouped heads, tails, segments of one token.

use super::{Bound, Lab, Output, Reference, check, dropout};
use crate::compare;
use eyekern::backend::cuda::device::{Args, Device, Product};
use eyekern::backend::cuda::emulated::{Memory, Schedule};
use eyekern::backend::cuda::emulation::Emulated;
use eyekern::backend::cuda::{Cuda, Geometry, TensorMap};
use eyekern::backend::{Backend, Heads, Rows};
use eyekern::error::Result;

fn attention<B: Backend>(
    lab: &mut Lab<B>, (q, kv, dim): (usize, usize, usize), lengths: &[usize], p: f32,
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

/// Without dropout, by the kernels that serve all and by Hopper's, where those do it.
fn by_both(heads: (usize, usize, usize), lengths: &[usize]) {
    let case = format!("heads {heads:?}, segments {lengths:?}");
    compare!(case, |lab: &mut Lab<_>| attention(lab, heads, lengths, 0.0), portable: true);
    if matches!(heads.2, 64 | 128) {
        compare!(format!("{case}, Hopper"), |lab: &mut Lab<_>| attention(lab, heads, lengths, 0.0));
    }
}

/// Every compiled width, and widths that are padded to one.
#[test]
fn head_widths() {
    for dim in [8, 16, 32, 40, 64, 72, 80, 96, 104, 128, 136, 192, 200, 256] {
        by_both((2, 1, dim), &[70, 3]);
    }
}

#[test]
fn grouped_heads() {
    for heads in [(1, 1, 64), (4, 4, 64), (4, 2, 64), (6, 2, 32), (5, 1, 128), (3, 3, 128), (8, 2, 128), (6, 2, 64)] {
        by_both(heads, &[40, 65]);
    }
}

#[test]
fn segments_and_tails() {
    let lengths: [&[usize]; 10] = [
        &[1],
        &[1, 1, 1],
        &[64],
        &[65],
        &[63, 1, 64, 2],
        &[200],
        &[1, 130, 1],
        &[5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5],
        &[100, 300, 17],
        &[600], // more tiles than a ring of them has stages
    ];
    for lengths in lengths {
        by_both((2, 1, 64), lengths);
        by_both((1, 1, 128), lengths);
    }
    by_both((2, 1, 256), &[33, 1, 40]);
}

/// The masks are those of the CPU, so that the same reference holds.
#[test]
fn dropped_probabilities() {
    for (heads, p) in [((2, 1, 64), 0.1), ((2, 2, 32), 0.5), ((2, 1, 192), 0.2)] {
        compare!(format!("heads {heads:?}, p {p}"), |lab: &mut Lab<_>| attention(lab, heads, &[70, 9], p));
    }
}

/// The probabilities of the first, last and some other tokens of each segment, in no order and one of them twice; more
/// room than the longest needs.
fn probabilities<B: Backend>(
    lab: &mut Lab<B>, (q, kv, dim): (usize, usize, usize), lengths: &[usize], size: f64,
) -> Vec<Output> {
    let tokens = lab.tokens(lengths, 10);
    let s = Heads { tokens: tokens.count, q, kv, dim, scale: 1.0 / (dim as f64).sqrt() };
    let qkv = lab.float(tokens.count * s.width(), size);
    let mut rows = vec![tokens.count as u32 - 1];
    let mut first = 0;
    for &length in lengths {
        rows.extend([first + length / 2, first, first + length - 1].map(|row| row as u32));
        first += length;
    }
    let chosen = Rows { n: rows.len(), width: lengths.iter().max().expect("segments") + 3 };
    let (rows, n) = (lab.ids_of(&rows), chosen.n * q * chosen.width);
    let mut probs = lab.poison_stat(n);
    lab.b.attention_probs(s, chosen, &tokens, &rows, &qkv, &mut probs).expect("attention_probs");
    vec![("probs", Bound::Abs(1e-6), lab.read_stat(&probs, n))]
}

#[test]
fn probabilities_of_chosen_rows() {
    let case = |heads, lengths: &[usize], size| {
        let name = format!("heads {heads:?}, segments {lengths:?}, values up to {size}");
        compare!(name, |lab: &mut Lab<_>| probabilities(lab, heads, lengths, size));
    };
    for dim in [8, 16, 40, 64, 72, 80, 128, 136, 256] {
        case((2, 1, dim), &[70, 3], 1.5);
    }
    for heads in [(1, 1, 64), (4, 4, 32), (6, 2, 32), (5, 1, 128)] {
        case(heads, &[1, 40, 1, 130, 2], 1.5);
    }
    // scores of thousands: one probability of 1 and the rest of 0, without an overflow
    case((2, 1, 64), &[33, 2], 60.0);
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

/// A device of which Hopper's kernels do nothing.
struct Idle(Emulated);

impl Device for Idle {
    type Memory = Memory<u8>;

    fn alloc(&self, bytes: usize) -> Result<Memory<u8>> {
        self.0.alloc(bytes)
    }
    fn address(memory: &Memory<u8>) -> u64 {
        Emulated::address(memory)
    }
    fn hopper(&self) -> bool {
        true
    }
    fn tensor_map(&self, memory: &Memory<u8>, shape: [usize; 2]) -> Result<TensorMap> {
        self.0.tensor_map(memory, shape)
    }
    fn upload(&self, to: &mut Memory<u8>, bytes: &[u8]) -> Result {
        self.0.upload(to, bytes)
    }
    fn download(&self, from: &Memory<u8>, bytes: &mut [u8]) -> Result {
        self.0.download(from, bytes)
    }
    fn clear(&self, memory: &mut Memory<u8>, bytes: usize) -> Result {
        self.0.clear(memory, bytes)
    }
    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result {
        if kernel.contains("_sm90_") { Ok(()) } else { self.0.launch(kernel, geometry, args) }
    }
    fn product(&self, product: Product<Memory<u8>>, c: &mut Memory<u8>) -> Result {
        self.0.product(product, c)
    }
}

/// Where Hopper's kernels go wrong, the others are taken; where they do not, they stay.
#[test]
fn only_kernels_that_agree_are_used() {
    let device = || Emulated::open(Schedule { seed: 0, threads: 2 }).expect("an emulated device");
    Cuda::new(device()).proven().expect("agree");
    let why = Cuda::new(Idle(device())).proven().err().expect("disagree").to_string();
    let expected = "attention, 2 heads over 1 of 64 features: the kernels for Hopper and for all GPUs differ by 1.00e0";
    assert_eq!(why, expected);
    let cuda = Cuda::new(Idle(device())).portable();
    let run = attention(&mut Lab::new(&cuda, 1), (2, 1, 64), &[40], 0.0);
    let reference = attention(&mut Lab::new(&Reference::new(1).expect("a CPU"), 1), (2, 1, 64), &[40], 0.0);
    check("after the disagreement", &run, &reference);
}
