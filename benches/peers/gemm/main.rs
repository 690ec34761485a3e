//! Matrix products of the CPU backend and of the crate `gemm`, in GFLOP/s.
//!
//! `cargo run --release --manifest-path benches/peers/gemm/Cargo.toml -- --bench`, with a name behind it to filter.
//! Shapes are the projections of models of 135 million
//! and 1 billion parameters (SmolLM2-135M, Llama-3.2-1B): one row as in decoding, 512 and 1024 rows as in training; all
//! cores. `bf16 weights` is eyekern in f32 with weights stored in bf16, `bf16` with all operands rounded to bf16 too;
//! the crate has neither. `products.py` beside this folder adds PyTorch's products.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use eyekern::backend::cpu::{Cpu, Operands};
use eyekern::backend::{Gemm, LinearOps, Stored};
use eyekern::random::{Purpose, Stream};
use half::bf16;
use std::time::Duration;

type B = Cpu<f32>;

/// Name, input and output features of the projections.
const SHAPES: [(&str, usize, usize); 8] = [
    ("135m qkv", 576, 960),
    ("135m o", 576, 576),
    ("135m up", 576, 3072),
    ("135m down", 1536, 576),
    ("1b qkv", 2048, 3072),
    ("1b o", 2048, 2048),
    ("1b up", 2048, 16384),
    ("1b down", 8192, 2048),
];

const ROWS: [usize; 3] = [1, 512, 1024];

/// Wall time, with the throughput of `Elements` operations in GFLOP/s.
struct Flops(WallTime);

impl Measurement for Flops {
    type Intermediate = <WallTime as Measurement>::Intermediate;
    type Value = Duration;

    fn start(&self) -> Self::Intermediate {
        self.0.start()
    }

    fn end(&self, start: Self::Intermediate) -> Duration {
        self.0.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Flops {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Elements(operations) = throughput else {
            return self.0.formatter().scale_throughputs(typical, throughput, values);
        };
        // values are in nanoseconds
        values.iter_mut().for_each(|value| *value = *operations as f64 / *value);
        "GFLOP/s"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_for_machines(values)
    }
}

/// A row-major matrix, or its transpose: values, and the strides of columns and rows.
struct Mat<'a>(&'a [f32], isize, isize);

impl Mat<'_> {
    fn rows(values: &[f32], stride: usize) -> Mat<'_> {
        Mat(values, 1, stride as isize)
    }

    fn t(self) -> Self {
        Mat(self.0, self.2, self.1)
    }

    /// Whether it has these many rows and columns.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        (rows - 1) * self.2 as usize + (cols - 1) * (self.1 as usize) < self.0.len()
    }
}

/// `c = a b`, or `c += a b`, by the crate: `a [m, k]`, `b [k, n]`, `c [m, n]`.
fn product([m, n, k]: [usize; 3], a: Mat, b: Mat, c: &mut [f32], add: bool) {
    assert!(a.holds(m, k) && b.holds(k, n) && c.len() >= m * n);
    let threads = gemm::Parallelism::Rayon(0); // all
    // SAFETY: the crate reads and writes elements of these shapes only, which are inside the slices by the assertion
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.0.as_ptr(),
            a.1,
            a.2,
            b.0.as_ptr(),
            b.1,
            b.2,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

/// `y = x Wᵀ` by the crate.
fn forward(s: Gemm, x: &[f32], w: &[f32], y: &mut [f32]) {
    product([s.rows, s.out, s.inp], Mat::rows(x, s.inp), Mat::rows(w, s.inp).t(), y, false);
}

/// `dx = dy W` by the crate.
fn d_input(s: Gemm, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    product([s.rows, s.inp, s.out], Mat::rows(dy, s.out), Mat::rows(w, s.inp), dx, false);
}

/// `dW += dyᵀ x` by the crate.
fn d_weight(s: Gemm, dy: &[f32], x: &[f32], dw: &mut [f32]) {
    product([s.out, s.inp, s.rows], Mat::rows(dy, s.out).t(), Mat::rows(x, s.inp), dw, true);
}

/// `n` normal values.
fn random(n: usize) -> Vec<f32> {
    let mut stream = Stream::new(n as u64, Purpose::Bench, 0);
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// Checks on a small shape that both form the same products.
fn check(b: &B) {
    let s = Gemm { rows: 37, inp: 70, out: 53, alpha: 1.0 };
    let (x, dy, w) = (random(s.rows * s.inp), random(s.rows * s.out), random(s.out * s.inp));
    let stored = Stored::Float(w.clone());
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![1.0; w.len()]);
    let [mut y2, mut dx2, mut dw2] = [&y, &dx, &dw].map(Vec::clone);
    b.linear(s, &x, &stored, None, &mut y).expect("runs");
    b.linear_bwd(s, &x, &stored, &dy, Some(&mut dx), Some(&mut dw), None).expect("runs");
    forward(s, &x, &w, &mut y2);
    d_input(s, &dy, &w, &mut dx2);
    d_weight(s, &dy, &x, &mut dw2);
    for (name, ours, theirs) in [("forward", y, y2), ("dx", dx, dx2), ("dW", dw, dw2)] {
        // sums of up to 70 products of magnitude 1, rounded at 2^-24
        let same = ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 1e-4);
        assert!(same, "{name}: the two products differ");
    }
}

fn shape(c: &mut Criterion<Flops>, [b, rounding]: [&B; 2], name: &str, s: Gemm) {
    let (x, dy, w) = (random(s.rows * s.inp), random(s.rows * s.out), random(s.out * s.inp));
    let narrow = Stored::Bf16(w.iter().map(|&w| bf16::from_f32(w)).collect());
    let stored = Stored::Float(w.clone());
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);

    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(2 * (s.rows * s.inp * s.out) as u64));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let mut time = |what: &str, f: &mut dyn FnMut()| {
        group.bench_function(BenchmarkId::new(what, s.rows), |b| b.iter(&mut *f));
    };
    time("forward, bf16", &mut || rounding.linear(s, &x, &narrow, None, &mut y).expect("runs"));
    time("forward, bf16 weights", &mut || b.linear(s, &x, &narrow, None, &mut y).expect("runs"));
    time("forward", &mut || b.linear(s, &x, &stored, None, &mut y).expect("runs"));
    time("forward, gemm", &mut || forward(s, &x, &w, &mut y));
    if s.rows > 1 {
        let mut backward = |b: &B, w| b.linear_bwd(s, &x, w, &dy, Some(&mut dx), None, None).expect("runs");
        time("dx, bf16", &mut || backward(rounding, &narrow));
        time("dx, bf16 weights", &mut || backward(b, &narrow));
        time("dx", &mut || backward(b, &stored));
        time("dx, gemm", &mut || d_input(s, &dy, &w, &mut dx));
        time("dW, bf16", &mut || rounding.linear_bwd(s, &x, &stored, &dy, None, Some(&mut dw), None).expect("runs"));
        time("dW", &mut || b.linear_bwd(s, &x, &stored, &dy, None, Some(&mut dw), None).expect("runs"));
        time("dW, gemm", &mut || d_weight(s, &dy, &x, &mut dw));
    }
    group.finish();
}

fn main() {
    let b = B::new(0).expect("threads");
    check(&b);
    let rounding = B::new(0).expect("threads").rounding(Operands::Bf16);
    let [full, bf16] = [Operands::Full, Operands::Bf16].map(Operands::instructions);
    println!("{} threads, f32 by {full}, bf16 by {bf16}", b.threads());
    let mut criterion = Criterion::default().with_measurement(Flops(WallTime)).configure_from_args().without_plots();
    for (name, inp, out) in SHAPES {
        for rows in ROWS {
            shape(&mut criterion, [&b, &rounding], name, Gemm { rows, inp, out, alpha: 1.0 });
        }
    }
    criterion.final_summary();
}
