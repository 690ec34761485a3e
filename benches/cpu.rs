//! What each operation of the trait costs on the CPU in f32, forward and backward.
//!
//! `cargo bench --bench cpu`, with a name behind `--` to filter. The shape is that of a model of 135 million parameters
//! (hidden 576, inner 1536, nine query heads over three of keys, a vocabulary of 49,152) on 256 tokens in two examples,
//! of which 64 are supervised; all cores. Elements are tokens, rows of the head, or values of the optimiser.

use criterion::{Criterion, SamplingMode, Throughput};
use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::{Moments, Optim};
use eyekern::backend::*;
use eyekern::choices::Choice;
use eyekern::error::Result;
use eyekern::random::{Purpose, Stream};
use std::time::Duration;

const T: usize = 256;
const HIDDEN: usize = 576;
const INNER: usize = 1536;
const VOCAB: usize = 49_152;
const SUPERVISED: usize = 64;
const RANK: usize = 16;

type B = Cpu<f32>;

/// `n` normal values of this deviation.
fn random(n: usize, deviation: f64) -> Vec<f32> {
    let mut stream = Stream::new(n as u64, Purpose::Init, 0);
    (0..n).map(|_| (deviation * stream.normal()) as f32).collect()
}

fn zeros(n: usize) -> Vec<f32> {
    vec![0.0; n]
}

fn ids(n: usize, f: impl Fn(usize) -> usize) -> Vec<u32> {
    (0..n).map(|i| f(i) as u32).collect()
}

/// Two examples of half the tokens each.
fn tokens() -> Tokens<B> {
    let half = T / 2;
    Tokens {
        count: T,
        ids: ids(T, |t| t * 7919 % VOCAB),
        pos: ids(T, |t| t % half),
        seg_start: ids(T, |t| t / half * half),
        example: ids(T, |t| t / half),
    }
}

fn time(c: &mut Criterion, name: &str, elements: usize, mut f: impl FnMut() -> Result) {
    let mut group = c.benchmark_group("cpu");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(elements as u64));
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    group.bench_function(name, |b| b.iter(|| f().expect("runs")));
    group.finish();
}

fn rows(c: &mut Criterion, b: &B) {
    let (s, tokens, key) = (Rows { n: T, width: HIDDEN }, tokens(), vec![1, 2]);
    let (x, dy, table) = (random(T * HIDDEN, 1.0), random(T * HIDDEN, 1.0), Stored::Float(random(VOCAB * HIDDEN, 0.1)));
    let (mut y, mut sum, mut dx) = (zeros(T * HIDDEN), zeros(T * HIDDEN), zeros(T * HIDDEN));
    let (mut stat, mut d_gain, mut d_table) = (zeros(2 * T), zeros(HIDDEN), zeros(VOCAB * HIDDEN));
    time(c, "embed", T, || b.embed(s, &tokens, &table, None, 1.0, None, &mut y));
    time(c, "embed backward", T, || b.embed_bwd(s, &tokens, 1.0, None, &dy, Some(&mut d_table), None));
    let (kind, gain) = (Norm::Rms { eps: 1e-5 }, random(HIDDEN, 1.0));
    let affine = || Affine { gain: &gain, bias: None };
    time(c, "norm", T, || b.norm(s, kind, &x, affine(), &mut y, &mut stat));
    time(c, "add_norm", T, || b.add_norm(s, kind, &x, &dy, None, &mut sum, affine(), &mut y, &mut stat));
    time(c, "norm backward", T, || {
        b.norm_bwd(s, kind, &x, &gain, &stat, &dy, Some(&sum), &mut dx, Some(&mut d_gain), None)
    });
    let drop = Dropout { p: 0.1, module: 1, key: &key, tokens: &tokens };
    time(c, "dropout backward", T, || b.dropout_bwd(s, drop, &dy, &mut dx));
    let (wide, up, d_up) = (Rows { n: T, width: INNER }, random(T * 2 * INNER, 1.0), random(T * INNER, 1.0));
    let (mut act, mut d_act) = (zeros(T * INNER), zeros(T * 2 * INNER));
    time(c, "act", T, || b.act(wide, Act::SwiGlu, &up, &mut act));
    time(c, "act backward", T, || b.act_bwd(wide, Act::SwiGlu, &up, &d_up, &mut d_act));
}

fn projections(c: &mut Criterion, b: &B) {
    let s = Gemm { rows: T, inp: HIDDEN, out: 2 * INNER, alpha: 1.0 };
    let (x, dy) = (random(T * s.inp, 1.0), random(T * s.out, 1.0));
    let w = Stored::Float(random(s.out * s.inp, 0.05));
    let (mut y, mut dx, mut dw) = (zeros(T * s.out), zeros(T * s.inp), zeros(s.out * s.inp));
    time(c, "linear", T, || b.linear(s, &x, &w, None, &mut y));
    time(c, "linear backward, frozen", T, || b.linear_bwd(s, &x, &w, &dy, Some(&mut dx), None, None));
    time(c, "linear backward", T, || b.linear_bwd(s, &x, &w, &dy, Some(&mut dx), Some(&mut dw), None));
    let l = Lora { rows: T, inp: s.inp, out: INNER, col: 0, stride: s.out, rank: RANK, scale: 2.0 };
    let (a, up) = (random(RANK * l.inp, 0.05), random(l.out * RANK, 0.05));
    let (mut low, mut d_low, mut scratch) = (zeros(T * RANK), zeros(T * RANK), zeros(0));
    let (mut da, mut db) = (zeros(RANK * l.inp), zeros(l.out * RANK));
    time(c, "lora", T, || b.lora(l, &x, &a, &up, None, &mut scratch, &mut low, &mut y));
    time(c, "lora backward", T, || {
        b.lora_bwd(l, &x, &a, &up, None, &low, &dy, &mut scratch, &mut d_low, Some(&mut dx), &mut da, &mut db)
    });
}

fn attention(c: &mut Criterion, b: &B) {
    let (s, tokens) = (Heads { tokens: T, q: 9, kv: 3, dim: 64, scale: 0.125 }, tokens());
    let (mut qkv, table) = (random(T * s.width(), 1.0), random(T * s.dim, 1.0));
    time(c, "rope", T, || b.rope(s, &tokens, &table, Turn::Forward, &mut qkv));
    let (qkv, dy) = (random(T * s.width(), 1.0), random(T * s.q * s.dim, 1.0));
    let (mut y, mut lse, mut delta) = (zeros(T * s.q * s.dim), zeros(T * s.q), zeros(T * s.q));
    let mut d_qkv = zeros(T * s.width());
    time(c, "attention", T, || b.attention(s, &tokens, &qkv, None, &mut y, &mut lse));
    time(c, "attention backward", T, || b.attention_bwd(s, &tokens, &qkv, None, &y, &lse, &dy, &mut delta, &mut d_qkv));
}

fn head(c: &mut Criterion, b: &B) {
    let (n, gathered) = (SUPERVISED, Rows { n: SUPERVISED, width: HIDDEN });
    let s = Head { first: 0, rows: n, width: HIDDEN, vocab: VOCAB, scale: 1.0 };
    let (hidden, w) = (random(T * HIDDEN, 1.0), Stored::Float(random(VOCAB * HIDDEN, 0.05)));
    let (places, labels) = (ids(n, |i| i * T / SUPERVISED), ids(n, |i| i * 613 % VOCAB));
    let (mut x, mut dx, mut d_hidden) = (zeros(n * HIDDEN), zeros(n * HIDDEN), zeros(T * HIDDEN));
    let (mut logits, mut dw) = (zeros(n * VOCAB), zeros(VOCAB * HIDDEN));
    let (mut logp, mut lse, mut coef) = (zeros(n), zeros(n), zeros(n));
    time(c, "gather", n, || b.gather(gathered, &places, &hidden, &mut x));
    time(c, "head_logp", n, || b.head_logp(s, &x, &w, &labels, &mut logits, &mut logp, &mut lse));
    let o = Objective { rows: n, examples: 2, gamma: 0.1, beta: 0.1, ..Objective::default() };
    let (starts, weight, path) = (ids(3, |e| e * n / 2), random(n, 1.0), ids(n, |i| i % 2));
    let (reference, scalars, mut sums) = (zeros(n), vec![1.0; scalar::SCALARS], zeros(tally::TALLY));
    time(c, "objective", n, || {
        b.objective(o, &starts, &logp, &weight, &path, &reference, &scalars, &mut coef, &mut sums)
    });
    // the logits are gradients from the second time on: other numbers, the same work
    time(c, "head backward", n, || {
        b.head_bwd(s, &x, &w, &labels, &logp, &lse, &coef, &mut logits, &mut dx, Some(&mut dw))
    });
    time(c, "head_unit", n, || b.head_unit(s, &x, &w, &labels, &mut logits, &mut logp, &mut lse, &mut dx));
    time(c, "gather backward", n, || b.gather_bwd(gathered, &places, T, Some(&coef), &dx, &mut d_hidden));
}

fn optimiser(c: &mut Criterion, b: &B) {
    let len = 2 * INNER * HIDDEN;
    let (mut weight, grad) = (random(len, 0.05), random(len, 0.01));
    let mut scalars = vec![1e-3, 0.1, 0.001, 1.0, 1.0, 1.0, 0.0, 1.0];
    let (k, key) = (AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }, vec![1, 2]);
    time(c, "clip", len, || b.clip(&[(&grad, len)], &mut scalars));
    for optim in [Optim::AdamW, Optim::AdamW8bit] {
        let mut moments = Moments::new(b, len, optim).expect("memory");
        time(c, optim.name(), len, || {
            let (weight, moments) = (&mut weight, &mut moments);
            let update = Update { len, weight, master: None, grad: &grad, moments, decay: true };
            b.adamw(k, &key, &scalars, &mut [update])
        });
    }
}

fn main() {
    let b = B::new(0).expect("threads");
    let mut criterion = Criterion::default().configure_from_args().without_plots();
    for family in [rows, projections, attention, head, optimiser] {
        family(&mut criterion, &b);
    }
    criterion.final_summary();
}
