//! Offsets beyond 2^32, where 32-bit arithmetic wraps: the last rows of buffers of 4 to 17 GB.
//!
//! The memory is sparse, pages appear where they are touched, and of each launch only the blocks of the last rows run
//! ([`Far`]). An operation is written once, for rows `total - N..total`: with `total = N` on the CPU in f64, and with
//! `total` beyond 2^32 / width here. A product of ints that wraps lands among zeros, or outside of the memory.

use super::{Bound, Lab, Output, check};
use eyekern::backend::cpu::Cpu;
use eyekern::backend::cuda::device::{Args, Device, Product};
use eyekern::backend::cuda::emulated::{Blocks, Emulator, Memory, Schedule};
use eyekern::backend::cuda::{Arg, Cuda, Geometry, TensorMap};
use eyekern::backend::moments::{GROUP, Moments, Optim};
use eyekern::backend::nf4;
use eyekern::backend::{
    Act, AdamW, Affine, Backend, Elem, F, Gemm, Head, HeadOps, Heads, Memory as _, Norm, Number, Rows, S, Stored,
    Tokens, Turn, Update, scalar,
};
use eyekern::error::Result;

/// Rows that are looked at.
const N: usize = 70;
/// With `ROWS` of them before, offsets are beyond 2^32; as these wrap they are no multiple of the buffer's length.
const WIDTH: usize = 32_776;
const ROWS: usize = 131_072;

/// Sparse memory whose last bytes are what the host reads and writes; launches of which the last blocks run.
struct Far {
    emulator: Emulator,
    /// Rows at the end that the launches are for.
    rows: usize,
}

fn far(rows: usize) -> Cuda<Far> {
    Cuda::new(Far { emulator: Emulator::new(1 << 40, Schedule { seed: 1, threads: 2 }), rows })
}

impl Device for Far {
    type Memory = Memory<u8>;

    fn alloc(&self, bytes: usize) -> Result<Memory<u8>> {
        self.emulator.alloc_sparse(bytes)
    }
    fn address(memory: &Memory<u8>) -> u64 {
        memory.address()
    }
    fn hopper(&self) -> bool {
        true
    }
    fn tensor_map(&self, memory: &Memory<u8>, shape: [usize; 2]) -> Result<TensorMap> {
        self.emulator.tensor_map::<half::bf16>(memory.address(), shape, [64, 64], 128)
    }
    fn upload(&self, to: &mut Memory<u8>, bytes: &[u8]) -> Result {
        let first = to.len() - bytes.len();
        to.write_at(first, bytes)
    }
    fn download(&self, from: &Memory<u8>, bytes: &mut [u8]) -> Result {
        from.read_at(from.len() - bytes.len(), bytes)
    }
    /// Nothing: what is cleared here is new.
    fn clear(&self, _: &mut Memory<u8>, _: usize) -> Result {
        Ok(())
    }
    /// A block per row, as a rule; the tiles of attention are 64 rows, and numbered from the end where queries own
    /// them.
    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result {
        let rows = ["attention_delta", "attention_probs"].contains(&kernel);
        let tiles = kernel.starts_with("attention_") && !rows;
        let count = if tiles { self.rows.div_ceil(64) } else { self.rows }.min(geometry.grid[0] as usize) as u32;
        let backwards = kernel.starts_with("attention_fwd") || kernel.starts_with("attention_dq");
        let first = if backwards { 0 } else { geometry.grid[0] - count };
        // SAFETY: as in `Emulated`: the backend passes each kernel what it declares, in buffers of the shapes' size.
        unsafe { self.emulator.launch_blocks(kernel, geometry, &args.0, Blocks { first, count }) }
    }
    /// Nothing: products are a library's, and what is added to them is added to what lies there.
    fn product(&self, _: Product<Memory<u8>>, _: &mut Memory<u8>) -> Result {
        Ok(())
    }
}

// ---- buffers of `len` values that end in `values`

fn floats<B: Backend>(b: &B, len: usize, values: &[f64]) -> F<B> {
    ending(b, len, &values.iter().map(|&x| B::Float::of(x)).collect::<Vec<_>>())
}

fn stats<B: Backend>(b: &B, len: usize, values: &[f64]) -> S<B> {
    ending(b, len, &values.iter().map(|&x| B::Stat::of(x)).collect::<Vec<_>>())
}

fn ending<B: Backend, T: Elem>(b: &B, len: usize, values: &[T]) -> B::Buf<T> {
    let mut buffer = b.alloc(len).expect("memory");
    b.write(&mut buffer, values).expect("writes");
    buffer
}

/// Runs `$op(lab, total)` for `$rows` rows on the CPU and for the last of `$total` here, and compares.
macro_rules! compare_far {
    ($name:expr, $op:expr, $rows:expr, $total:expr) => {{
        let (cpu, cuda) = (Cpu::<f64>::new(1).expect("a CPU"), far($rows));
        let reference: Vec<Output> = $op(&mut Lab::new(&cpu, 1), $rows);
        let found: Vec<Output> = $op(&mut Lab::new(&cuda, 1), $total);
        check($name, &found, &reference);
    }};
}

/// Tokens that end in one example of `n`.
fn tokens<B: Backend>(b: &B, total: usize, n: usize, ids: &[u32]) -> Tokens<B> {
    let start = vec![(total - n) as u32; n];
    let pos: Vec<u32> = (0..n as u32).collect();
    let example = ending(b, total, &vec![7; n]);
    Tokens {
        count: total,
        ids: ending(b, total, ids),
        pos: ending(b, total, &pos),
        seg_start: ending(b, total, &start),
        example,
    }
}

/// Three rows of everything that is a block per row or per 32 columns.
const FEW: usize = 3;

fn norms<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let (s, size, kind) = (Rows { n: total, width: WIDTH }, FEW * WIDTH, Norm::Layer { eps: 1e-5 });
    let [skip, branch, dy] = [2.0, 1.0, 1.0].map(|x| lab.values(size, x));
    let [skip, branch, dy] = [skip, branch, dy].map(|x| floats(lab.b, total * WIDTH, &x));
    let (gain, bias) = (lab.float(WIDTH, 1.5), lab.float(WIDTH, 1.0));
    let tokens = tokens(lab.b, total, FEW, &[1; FEW]);
    let key = lab.ids_of(&[9, 4]);
    let drop = super::dropout(0.2, &key, &tokens);
    let nan = vec![f64::NAN; size];
    let [mut sum, mut y, mut dx, mut masked] = [(); 4].map(|()| floats(lab.b, total * WIDTH, &nan));
    let mut stat = stats(lab.b, 2 * total, &[f64::NAN; 2 * FEW]);
    let affine = || Affine { gain: &gain, bias: Some(&bias) };
    lab.b.add_norm(s, kind, &skip, &branch, drop, &mut sum, affine(), &mut y, &mut stat).expect("add_norm");
    let mut out = vec![("y after add", Bound::Rms(4e-3), lab.read(&y, size))];
    lab.b.norm(s, kind, &sum, affine(), &mut y, &mut stat).expect("norm");
    let (mut d_gain, mut d_bias) = (lab.stat(WIDTH, 1.0), lab.stat(WIDTH, 1.0));
    let grads = (Some(&mut d_gain), Some(&mut d_bias));
    lab.b.norm_bwd(s, kind, &sum, &gain, &stat, &dy, Some(&skip), &mut dx, grads.0, grads.1).expect("norm_bwd");
    lab.b.dropout_bwd(s, drop.expect("p > 0"), &dy, &mut masked).expect("dropout_bwd");
    out.push(("sum", Bound::Rms(2e-3), lab.read(&sum, size)));
    out.push(("y", Bound::Rms(4e-3), lab.read(&y, size)));
    out.push(("stat", Bound::Rms(2e-3), lab.read_stat(&stat, 2 * FEW)));
    out.push(("dx", Bound::Rms(4e-3), lab.read(&dx, size)));
    out.push(("masked", Bound::Rms(2e-3), lab.read(&masked, size)));
    // the columns of the blocks that ran
    let last = |values: Vec<f64>| values[WIDTH.next_multiple_of(32) - 32 * FEW..].to_vec();
    out.push(("d_gain", Bound::Rms(4e-3), last(lab.read_stat(&d_gain, WIDTH))));
    out.push(("d_bias", Bound::Rms(1e-5), last(lab.read_stat(&d_bias, WIDTH))));
    out
}

fn activations<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let (s, mut out) = (Rows { n: total, width: WIDTH }, Vec::new());
    for kind in [Act::SwiGlu, Act::GeluErf] {
        let wide = WIDTH * kind.fan_in();
        let (x, dy) = (lab.values(FEW * wide, 3.0), lab.values(FEW * WIDTH, 1.0));
        let (x, dy) = (floats(lab.b, total * wide, &x), floats(lab.b, total * WIDTH, &dy));
        let mut y = floats(lab.b, total * WIDTH, &vec![f64::NAN; FEW * WIDTH]);
        let mut dx = floats(lab.b, total * wide, &vec![f64::NAN; FEW * wide]);
        lab.b.act(s, kind, &x, &mut y).expect("act");
        lab.b.act_bwd(s, kind, &x, &dy, &mut dx).expect("act_bwd");
        out.push(("y", Bound::Rms(2e-3), lab.read(&y, FEW * WIDTH)));
        out.push(("dx", Bound::Rms(3e-3), lab.read(&dx, FEW * wide)));
    }
    out
}

/// A projection of zeros leaves the bias.
fn biases<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let s = Gemm { rows: total, inp: 8, out: WIDTH, alpha: 0.5 };
    let (x, w) = (floats(lab.b, total * 8, &[]), Stored::Float(floats(lab.b, WIDTH * 8, &[])));
    let (bias, mut y) = (lab.float(WIDTH, 1.0), floats(lab.b, total * WIDTH, &[]));
    lab.b.linear(s, &x, &w, Some(&bias), &mut y).expect("linear");
    vec![("y", Bound::Exact, lab.read(&y, FEW * WIDTH))]
}

/// Rows beyond 2^32 values of a table, of its gradient, of the hidden rows; `total` rows of each.
fn tables<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let (s, size) = (Rows { n: total, width: WIDTH }, FEW * WIDTH);
    let last = total as u32 - 1;
    let tokens = Tokens {
        pos: ending(lab.b, total, &[last - 1, last, last]),
        ..tokens(lab.b, total, FEW, &[last, last - 1, last])
    };
    let [table, places, dy] = [(); 3].map(|()| lab.values(size, 1.0)).map(|x| floats(lab.b, total * WIDTH, &x));
    let (table, places) = (Stored::Float(table), Stored::Float(places));
    let nan = vec![f64::NAN; size];
    let [mut y, mut gathered, mut dx] = [(); 3].map(|()| floats(lab.b, total * WIDTH, &nan));
    lab.b.embed(s, &tokens, &table, Some(&places), 1.5, None, &mut y).expect("embed");
    let [mut d_table, mut d_places] = [(); 2].map(|()| lab.values(size, 1.0)).map(|x| stats(lab.b, total * WIDTH, &x));
    lab.b.embed_bwd(s, &tokens, 1.5, None, &dy, Some(&mut d_table), Some(&mut d_places)).expect("embed_bwd");
    let rows = ending(lab.b, total, &[last, last - 2, last - 1]);
    let coef = stats(lab.b, total, &[0.5, -2.0, 4.0]);
    lab.b.gather(s, &rows, &y, &mut gathered).expect("gather");
    lab.b.gather_bwd(s, &rows, 0, Some(&coef), &dy, &mut dx).expect("gather_bwd");
    vec![
        ("y", Bound::Rms(2e-3), lab.read(&y, size)),
        ("gathered", Bound::Rms(2e-3), lab.read(&gathered, size)),
        ("dx", Bound::Exact, lab.read(&dx, size)),
        ("d_table", Bound::Rms(1e-5), lab.read_stat(&d_table, size)),
        ("d_places", Bound::Rms(1e-5), lab.read_stat(&d_places, size)),
    ]
}

/// The last rows of a table in 4 bits, with blocks that share a scale.
fn coded<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let (s, len) = (Rows { n: FEW, width: WIDTH }, FEW * WIDTH);
    let bytes = |lab: &mut Lab<B>, n: usize| (0..n).map(|_| lab.below(256) as u8).collect::<Vec<_>>();
    let codes = bytes(lab, len / 2);
    // blocks and those that share a scale begin at the same values in few rows and in all
    let (block, all) = (64, total * WIDTH / 64 + 1);
    let few = len.div_ceil(block);
    let (scales, most) = (bytes(lab, few), lab.values(few.div_ceil(256), 0.5));
    let floats = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<_>>();
    let map = floats(lab.values(256, 1.0));
    let scales = nf4::Scales::Nested {
        codes: ending(lab.b, all, &scales),
        block: 256,
        absmax: ending(lab.b, all.div_ceil(256), &floats(most)),
        map: ending(lab.b, 256, &map),
        offset: 0.75,
    };
    let values = nf4::Coded { len: total * WIDTH, block, codes: ending(lab.b, total * WIDTH / 2, &codes), scales };
    let slices = vec![nf4::Slice { row: 0, rows: total, order: None, values }];
    let table = Stored::Nf4(nf4::Nf4 { cols: WIDTH, slices });
    let last = total as u32 - 1;
    let tokens = tokens(lab.b, FEW, FEW, &[last, last - 2, last - 1]);
    let mut y = lab.poison(len);
    lab.b.embed(s, &tokens, &table, None, 1.0, None, &mut y).expect("embed");
    vec![("y", Bound::Rms(2e-3), lab.read(&y, len))]
}

#[test]
fn rows_in_4_bits() {
    compare_far!("a table in 4 bits", coded, FEW, ROWS + FEW);
}

/// Rotations, with a table of angles that is as far.
fn rotations<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let s = Heads { tokens: total, q: 121, kv: 4, dim: 256, scale: 1.0 };
    let angles = if total == FEW { FEW } else { (1 << 24) + FEW };
    let pos: Vec<u32> = (0..FEW as u32).map(|i| angles as u32 - 1 - i).collect();
    let tokens = Tokens { pos: ending(lab.b, total, &pos), ..tokens(lab.b, total, FEW, &[0; FEW]) };
    let table = lab.values(FEW * s.dim, 1.0);
    let table = stats(lab.b, angles * s.dim, &table);
    let qkv = lab.values(FEW * s.width(), 1.0);
    let mut qkv = floats(lab.b, total * s.width(), &qkv);
    lab.b.rope(s, &tokens, &table, Turn::Forward, &mut qkv).expect("rope");
    vec![("qkv", Bound::Rms(2e-3), lab.read(&qkv, FEW * s.width()))]
}

#[test]
fn rows_of_norms() {
    compare_far!("norms", norms, FEW, ROWS + FEW);
}

#[test]
fn rows_of_activations() {
    compare_far!("activations", activations, FEW, ROWS + FEW);
}

#[test]
fn rows_of_biases() {
    compare_far!("biases", biases, FEW, ROWS + FEW);
}

#[test]
fn rows_of_tables() {
    compare_far!("tables", tables, FEW, ROWS + FEW);
}

#[test]
fn rows_of_rotations() {
    compare_far!("rotations", rotations, FEW, ROWS + FEW);
}

/// Eight heads and one of keys, 640 columns: the last example of 8.4 million tokens.
fn attention<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let s = Heads { tokens: total, q: 8, kv: 1, dim: 64, scale: 0.125 };
    let tokens = tokens(lab.b, total, N, &[0; N]);
    let (width, out) = (s.width(), s.q * s.dim);
    let (qkv, dy) = (lab.values(N * width, 1.5), lab.values(N * out, 1.0));
    let (qkv, dy) = (floats(lab.b, total * width, &qkv), floats(lab.b, total * out, &dy));
    let mut y = floats(lab.b, total * out, &vec![f64::NAN; N * out]);
    let mut d_qkv = floats(lab.b, total * width, &vec![f64::NAN; N * width]);
    let [mut lse, mut delta] = [(); 2].map(|()| stats(lab.b, total * s.q, &vec![f64::NAN; N * s.q]));
    lab.b.attention(s, &tokens, &qkv, None, &mut y, &mut lse).expect("attention");
    lab.b.attention_bwd(s, &tokens, &qkv, None, &y, &lse, &dy, &mut delta, &mut d_qkv).expect("attention_bwd");
    vec![
        ("y", Bound::Rms(3e-3), lab.read(&y, N * out)),
        ("lse", Bound::Abs(1e-4), lab.read_stat(&lse, N * s.q)),
        ("d_qkv", Bound::Rms(8e-3), lab.read(&d_qkv, N * width)),
    ]
}

#[test]
fn tokens_of_attention() {
    compare_far!("attention", attention, N, 131_250 * 64 + N);
}

fn probabilities<B: Backend>(lab: &mut Lab<B>, total: usize) -> Vec<Output> {
    let s = Heads { tokens: total, q: 8, kv: 1, dim: 64, scale: 0.125 };
    let tokens = tokens(lab.b, total, N, &[0; N]);
    let qkv = lab.values(N * s.width(), 1.5);
    let qkv = floats(lab.b, total * s.width(), &qkv);
    let rows: Vec<u32> = (total - N..total).rev().map(|row| row as u32).collect();
    let rows = ending(lab.b, total, &rows);
    let mut probs = stats(lab.b, total * s.q * N, &vec![f64::NAN; N * s.q * N]);
    let chosen = Rows { n: total, width: N };
    lab.b.attention_probs(s, chosen, &tokens, &rows, &qkv, &mut probs).expect("attention_probs");
    vec![("probs", Bound::Abs(1e-6), lab.read_stat(&probs, N * s.q * N))]
}

#[test]
fn rows_of_probabilities() {
    compare_far!("attention_probs", probabilities, N, 131_250 * 64 + N);
}

/// Logits that lie there already: a chunk of 16,780 rows of 256,000.
#[test]
fn rows_of_logits() {
    let (vocab, total) = (256_000, 16_780);
    let on = far(2);
    let mut lab = Lab::new(&on, 1);
    let values: Vec<f32> = lab.values(2 * vocab, 6.0).into_iter().map(|x| x as f32).collect();
    let labels = [5, vocab as u32 - 1];
    let s = Head { first: 0, rows: total, width: 8, vocab, scale: 1.0 };
    let (x, w) = (floats(&on, total * 8, &[]), Stored::Float(floats(&on, vocab * 8, &[])));
    let (ids, mut dx) = (ending(&on, total, &labels), floats(&on, total * 8, &[]));
    let [mut logp, mut lse] = [(); 2].map(|()| stats(&on, total, &[f64::NAN; 2]));
    let coef = stats(&on, total, &[1.0; 2]);

    let wide = |row: usize| values[row * vocab..(row + 1) * vocab].iter().map(|&z| f64::from(z));
    let expected = [0, 1].map(|row| wide(row).map(f64::exp).sum::<f64>().ln());
    let holds = |logits: &eyekern::backend::cuda::Buffer<Far, f32>,
                 logp: &S<Cuda<Far>>,
                 lab: &Lab<Cuda<Far>>,
                 gradient: bool| {
        for (row, got) in lab.read_stat(logp, 2).into_iter().enumerate() {
            let z = f64::from(values[row * vocab + labels[row] as usize]);
            assert!((got - (z - expected[row])).abs() <= 1e-4, "log p of row {row}: {got}");
        }
        if !gradient {
            return;
        }
        // bf16 in the front half of each row
        let mut host = vec![0f32; 2 * vocab];
        on.read(logits, &mut host).expect("reads");
        for row in 0..2 {
            let bytes: &[half::bf16] = bytemuck::cast_slice(&host[row * vocab..(row + 1) * vocab]);
            for (v, z) in wide(row).enumerate() {
                let own = f64::from(u8::from(v == labels[row] as usize));
                let (d, p) = (bytes[v].to_f64(), (z - expected[row]).exp() - own);
                assert!((d - p).abs() <= 5e-3 * p.abs(), "row {row}, column {v}: {d} and {p}");
            }
        }
    };
    let mut logits = ending(&on, total * vocab, &values);
    on.head_logp(s, &x, &w, &ids, &mut logits, &mut logp, &mut lse).expect("head_logp");
    holds(&logits, &logp, &lab, false);
    on.head_bwd(s, &x, &w, &ids, &logp, &lse, &coef, &mut logits, &mut dx, None).expect("head_bwd");
    holds(&logits, &logp, &lab, true);
    on.write(&mut logits, &values).expect("writes");
    let mut again = stats(&on, total, &[f64::NAN; 2]);
    on.head_unit(s, &x, &w, &ids, &mut logits, &mut again, &mut lse, &mut dx).expect("head_unit");
    holds(&logits, &again, &lab, true);
}

/// The last block and a bit of a tensor of 2^32 values.
fn optimiser<B: Backend>(lab: &mut Lab<B>, total: usize, optim: Optim) -> Vec<Output> {
    let len = if total == 2 { PARTS } else { (1 << 32) - (1 << 14) + PARTS };
    let values = lab.values(PARTS, 1.0);
    let (mut weight, mut master) = (floats(lab.b, len, &values), stats(lab.b, len, &values));
    let [grad, m, mut v] = [0.7, 0.2, 0.3].map(|x| lab.values(PARTS, x));
    v.iter_mut().for_each(|v| *v = v.abs());
    let [grad, m, v] = [&grad, &m, &v].map(|x| stats(lab.b, len, x));
    let mut moments = match optim {
        Optim::AdamW => Moments::Full { m, v },
        Optim::AdamW8bit => Moments::new(lab.b, len, optim).expect("memory"),
    };
    let mut scalars = vec![0.0; scalar::SCALARS];
    (scalars[scalar::LR], scalars[scalar::BIAS1], scalars[scalar::BIAS2]) = (0.01, 0.3, 0.4);
    scalars[scalar::MAX_NORM] = 1.0;
    let mut scalars = lab.stat_of(&scalars);
    lab.b.clip(&[(&grad, len)], &mut scalars).expect("clip");
    let k = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
    let (w, copy) = (&mut weight, B::MASTER.then_some(&mut master));
    let update = Update { len, weight: w, master: copy, grad: &grad, moments: &mut moments, decay: true };
    let key = lab.ids_of(&[1, 2]);
    lab.b.adamw(k, &key, &scalars, &mut [update]).expect("adamw");
    let mut out = vec![
        ("scalars", Bound::Rms(1e-6), lab.read_stat(&scalars, scalar::SCALARS)),
        ("weight", Bound::Rms(2e-3), lab.read(&weight, PARTS)),
    ];
    match &moments {
        Moments::Full { m, v } => {
            out.push(("m", Bound::Rms(1e-6), lab.read_stat(m, PARTS)));
            out.push(("v", Bound::Rms(1e-6), lab.read_stat(v, PARTS)));
        }
        Moments::Coded { m, root } => {
            for part in [m, root] {
                // from 0 on, 1 - beta2 in f32 is all there is
                out.push(("maxima", Bound::Rms(1e-5), lab.read_stat(&part.absmax, PARTS.div_ceil(GROUP))));
            }
            // the root is rounded by its place, which is another there
            let mut codes = vec![0u8; PARTS];
            lab.b.read(&m.codes, &mut codes).expect("reads");
            out.push(("m in 8 bits", Bound::Rms(2e-3), codes.into_iter().map(f64::from).collect()));
        }
    }
    out
}

/// A block's values and five more.
const PARTS: usize = (1 << 14) + 5;

#[test]
fn values_of_the_optimiser() {
    compare_far!("optimiser", |lab: &mut Lab<_>, total| optimiser(lab, total, Optim::AdamW), 2, 3);
    compare_far!("in 8 bits", |lab: &mut Lab<_>, total| optimiser(lab, total, Optim::AdamW8bit), 2, 3);
}

#[test]
fn casts() {
    let on = Emulator::new(1 << 40, Schedule { seed: 1, threads: 2 });
    let n = (1u64 << 32) + 300;
    let geometry = Geometry::line(n.div_ceil(256) as u32, 256, 0);
    let blocks = Blocks { first: geometry.grid[0] - 2, count: 2 };
    let (mut wide, mut narrow) = (on.alloc_sparse(4 * n as usize).unwrap(), on.alloc_sparse(2 * n as usize).unwrap());
    let values: Vec<half::bf16> = (0..300).map(|i| half::bf16::from_f32(i as f32)).collect();
    let first = 1usize << 32;
    narrow.write_at(2 * first, bytemuck::cast_slice(&values)).expect("writes");
    // SAFETY: both have n values
    unsafe { on.launch_blocks("widen_bf16", geometry, &[narrow.arg(), wide.arg(), Arg::U64(n)], blocks) }
        .expect("runs");
    let mut got = [0f32; 300];
    wide.read_at(4 * first, bytemuck::cast_slice_mut(&mut got)).expect("reads");
    assert!(got.iter().enumerate().all(|(i, &x)| x == half::bf16::from_f32(i as f32).to_f32()));
    got.iter_mut().for_each(|x| *x = -*x);
    wide.write_at(4 * first, bytemuck::cast_slice(&got)).expect("writes");
    // SAFETY: as above
    unsafe { on.launch_blocks("round_bf16", geometry, &[wide.arg(), narrow.arg(), Arg::U64(n)], blocks) }
        .expect("runs");
    let mut back = [half::bf16::ZERO; 300];
    narrow.read_at(2 * first, bytemuck::cast_slice_mut(&mut back)).expect("reads");
    assert!(back.iter().zip(&values).all(|(x, y)| *x == -*y));
}
