//! Attention alone, over segments of many blocks: forward against its definition, backward against forward.

use eyekern::backend::cpu::Cpu;
use eyekern::backend::{AttentionOps, Dropout, Heads, Tokens};
use eyekern::random::{Purpose, Stream};

const KEY: [u32; 2] = [5, 3];

/// Segments of these lengths, end to end.
fn tokens(lengths: &[usize]) -> Tokens<Cpu<f64>> {
    let (mut pos, mut seg_start, mut example) = (Vec::new(), Vec::new(), Vec::new());
    for (row, &n) in (0..).zip(lengths) {
        seg_start.extend(vec![pos.len() as u32; n]);
        pos.extend(0..n as u32);
        example.extend(vec![row; n]);
    }
    Tokens { count: pos.len(), ids: vec![0; pos.len()], pos, seg_start, example }
}

/// Uneven segments: some within a block of rows, some over many, some that begin or end with one.
const SEGMENTS: [&[usize]; 5] = [&[300], &[1, 200, 3, 64, 130], &[64, 128, 64], &[150, 10, 10, 10, 150], &[1; 70]];
/// (query heads, key heads, width).
const HEADS: [(usize, usize, usize); 5] = [(1, 1, 16), (6, 2, 8), (4, 4, 20), (16, 1, 4), (40, 1, 4)];

fn cases() -> impl Iterator<Item = (Heads, Tokens<Cpu<f64>>)> {
    SEGMENTS.iter().flat_map(|lengths| {
        HEADS.iter().map(|&(q, kv, dim)| {
            let tokens = tokens(lengths);
            (Heads { tokens: tokens.count, q, kv, dim, scale: 0.7 / (dim as f64).sqrt() }, tokens)
        })
    })
}

fn random(n: usize, index: u32) -> Vec<f64> {
    let mut stream = Stream::new(11, Purpose::Bench, index);
    (0..n).map(|_| stream.normal()).collect()
}

fn dropout<'a>(p: f32, key: &'a Vec<u32>, tokens: &'a Tokens<Cpu<f64>>) -> Option<Dropout<'a, Cpu<f64>>> {
    (p > 0.0).then_some(Dropout { p, module: 40, key, tokens })
}

fn forward(b: &Cpu<f64>, s: Heads, tokens: &Tokens<Cpu<f64>>, p: f32, qkv: &Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let key = KEY.to_vec();
    let drop = dropout(p, &key, tokens);
    let (mut y, mut lse) = (vec![f64::NAN; s.tokens * s.q * s.dim], vec![f64::NAN; s.tokens * s.q]);
    b.attention(s, tokens, qkv, drop, &mut y, &mut lse).expect("attention");
    (y, lse)
}

/// `softmax(scale q kᵀ) v` over the tokens of the own segment up to the own, and the logarithm of the softmax's sum.
#[test]
fn attention_is_its_definition() {
    let b = Cpu::<f64>::new(1).expect("threads");
    for (s, tokens) in cases() {
        let qkv = random(s.tokens * s.width(), 0);
        let at = |t: usize, head: usize| &qkv[t * s.width() + head * s.dim..][..s.dim];
        let (y, lse) = forward(&b, s, &tokens, 0.0, &qkv);
        for (t, head) in (0..s.tokens).flat_map(|t| (0..s.q).map(move |head| (t, head))) {
            let (kv, seen) = (s.q + head / (s.q / s.kv), tokens.seg_start[t] as usize..=t);
            let score = |u: usize| s.scale * at(t, head).iter().zip(at(u, kv)).map(|(q, k)| q * k).sum::<f64>();
            let exp: Vec<f64> = seen.clone().map(|u| score(u).exp()).collect();
            let total: f64 = exp.iter().sum();
            assert!((lse[t * s.q + head] - total.ln()).abs() < 1e-12, "lse of token {t}, head {head}, {s:?}");
            for d in 0..s.dim {
                let value: f64 = seen.clone().zip(&exp).map(|(u, exp)| exp / total * at(u, kv + s.kv)[d]).sum();
                let got = y[(t * s.q + head) * s.dim + d];
                assert!((got - value).abs() < 1e-12, "token {t}, head {head}, column {d}, {s:?}: {got} for {value}");
            }
        }
    }
}

/// Along random directions within the queries, the keys or the values, with and without dropout; backward by threads.
#[test]
fn its_gradient_is_the_slope_of_its_output() {
    const STEP: f64 = 1e-4;
    let (b, threads) = (Cpu::<f64>::new(1).expect("threads"), Cpu::<f64>::new(3).expect("threads"));
    for (s, tokens) in cases() {
        for p in [0.0, 0.4] {
            let (qkv, dy) = (random(s.tokens * s.width(), 1), random(s.tokens * s.q * s.dim, 2));
            let (y, lse) = forward(&b, s, &tokens, p, &qkv);
            let (mut delta, mut d_qkv) = (vec![f64::NAN; lse.len()], vec![f64::NAN; qkv.len()]);
            let key = KEY.to_vec();
            let drop = dropout(p, &key, &tokens);
            threads.attention_bwd(s, &tokens, &qkv, drop, &y, &lse, &dy, &mut delta, &mut d_qkv).expect("backward");
            let parts = [("queries", 0..s.q), ("keys", s.q..s.q + s.kv), ("values", s.q + s.kv..s.q + 2 * s.kv)];
            for (index, (name, heads)) in (3..).zip(parts) {
                let mut way = random(qkv.len(), index);
                let outside = |i: usize| !heads.contains(&(i % s.width() / s.dim));
                way.iter_mut().enumerate().filter(|&(i, _)| outside(i)).for_each(|(_, x)| *x = 0.0);
                let value = |step: f64| -> f64 {
                    let moved = qkv.iter().zip(&way).map(|(x, u)| x + step * u).collect();
                    forward(&b, s, &tokens, p, &moved).0.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
                };
                let slope = (value(STEP) - value(-STEP)) / (2.0 * STEP);
                let terms: Vec<f64> = d_qkv.iter().zip(&way).map(|(g, u)| g * u).collect();
                let (expected, size) = (terms.iter().sum::<f64>(), terms.iter().map(|x| x * x).sum::<f64>().sqrt());
                let error = (slope - expected).abs() / size.max(1.0);
                let starts = &tokens.seg_start;
                assert!(error < 1e-6, "{name}, p {p}, {s:?}, segments from {starts:?}: {slope} for {expected}");
            }
        }
    }
}
