//! The emulator: right kernels give the reference's numbers, the same bits for every order of threads and any number
//! of host threads; each defect planted in kernels/tests is noticed, by the means that docs/emulator.md names.

mod defects;
mod instructions;

use eyekern::backend::cuda::emulated::{Blocks, Emulator, Schedule};
use eyekern::backend::cuda::{Arg, Geometry};
use eyekern::error::Result;
use eyekern::random::{Purpose, Stream};
use half::bf16;

const MEMORY: u64 = 64 << 20;

fn emulator(seed: u64, threads: u32) -> Emulator {
    Emulator::new(MEMORY, Schedule { seed, threads })
}

fn launch(on: &Emulator, kernel: &str, geometry: Geometry, args: &[Arg]) -> Result {
    // SAFETY: arguments are memory of `on` with the shapes that the kernel's header asks for. What the planted defects
    // touch beyond them lies in red zones.
    unsafe { on.launch(kernel, geometry, args) }
}

fn uniform(n: usize, seed: u32) -> Vec<f32> {
    let mut stream = Stream::new(17, Purpose::Init, seed);
    (0..n).map(|_| (stream.uniform() * 2.0 - 1.0) as f32).collect()
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn far(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error = |(&a, &b): (&f32, &f64)| (f64::from(a) - b).abs();
    a.iter().zip(b).map(error).fold(0.0, |most: f64, e| if most.is_nan() || e <= most { most } else { e })
}

/// The message of a launch that must fail.
fn message(result: Result<Vec<f32>>) -> String {
    match result {
        Ok(_) => panic!("the launch succeeded"),
        Err(e) => e.to_string(),
    }
}

const ROWS: usize = 5;
const WIDTH: usize = 1000;

fn rmsnorm(on: &Emulator, kernel: &str) -> Result<Vec<f32>> {
    let x = on.upload(&uniform(ROWS * WIDTH, 1))?;
    let y = on.alloc::<f32>(ROWS * WIDTH)?;
    let args = [x.arg(), y.arg(), Arg::I32(WIDTH as i32), Arg::F32(1e-6)];
    launch(on, kernel, Geometry::line(ROWS as u32, 256, 32), &args)?;
    y.read()
}

fn rmsnorm_reference() -> Vec<f64> {
    let x = uniform(ROWS * WIDTH, 1);
    let scale = |row: &[f32]| (row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / WIDTH as f64 + 1e-6).sqrt();
    x.chunks(WIDTH).flat_map(|row| row.iter().map(move |&v| f64::from(v) / scale(row))).collect()
}

const HEADS: usize = 2;
const LENGTH: usize = 150; // a tail of 22 in the last tile
const DIM: usize = 64;

/// Outputs, then log-sum-exps.
fn attention(on: &Emulator, kernel: &str) -> Result<Vec<f32>> {
    attention_in(on, kernel, 40960)
}

fn attention_in(on: &Emulator, kernel: &str, shared: u32) -> Result<Vec<f32>> {
    let n = HEADS * LENGTH * DIM;
    let [q, k, v] = [2, 3, 4].map(|seed| narrow(&uniform(n, seed)));
    let (q, k, v) = (on.upload(&q)?, on.upload(&k)?, on.upload(&v)?);
    let (o, lse) = (on.alloc::<bf16>(n)?, on.alloc::<f32>(HEADS * LENGTH)?);
    let scale = std::f32::consts::LOG2_E / (DIM as f32).sqrt();
    let args = [q.arg(), k.arg(), v.arg(), o.arg(), lse.arg(), Arg::I32(LENGTH as i32), Arg::F32(scale)];
    let grid = [LENGTH.div_ceil(64) as u32, HEADS as u32, 1];
    launch(on, kernel, Geometry { grid, block: [128, 1, 1], shared }, &args)?;
    Ok(o.read()?.iter().map(|x| x.to_f32()).chain(lse.read()?).collect())
}

fn attention_reference() -> Vec<f64> {
    let tensor = |seed| narrow(&uniform(HEADS * LENGTH * DIM, seed));
    let [q, k, v] = [2, 3, 4].map(tensor);
    let row = |t: &[bf16], head: usize, i: usize| -> Vec<f64> {
        t[(head * LENGTH + i) * DIM..][..DIM].iter().map(|x| x.to_f64()).collect()
    };
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for (head, i) in (0..HEADS).flat_map(|h| (0..LENGTH).map(move |i| (h, i))) {
        let query = row(&q, head, i);
        let dot = |j| row(&k, head, j).iter().zip(&query).map(|(a, b)| a * b).sum::<f64>();
        let p: Vec<f64> = (0..=i).map(|j| (dot(j) / (DIM as f64).sqrt()).exp()).collect();
        let sum: f64 = p.iter().sum();
        let mut o = vec![0.0; DIM];
        for (j, p) in p.iter().enumerate() {
            o.iter_mut().zip(row(&v, head, j)).for_each(|(o, v)| *o += p / sum * v);
        }
        out.extend(o);
        lse.push(sum.ln());
    }
    out.extend(lse);
    out
}

const M: usize = 128;
const N: usize = 256;
const K: usize = 384; // six steps through a ring of four stages

fn gemm(on: &Emulator, kernel: &str) -> Result<Vec<f32>> {
    let (a, b) = (on.upload(&narrow(&uniform(M * K, 5)))?, on.upload(&narrow(&uniform(N * K, 6)))?);
    let c = on.alloc::<f32>(M * N)?;
    let (a_map, b_map) = (
        on.tensor_map::<u16>(a.address(), [M, K], [64, 64], 128)?,
        on.tensor_map::<u16>(b.address(), [N, K], [128, 64], 128)?,
    );
    let args = [Arg::Map(a_map), Arg::Map(b_map), c.arg(), Arg::I32(K as i32), Arg::I32(N as i32)];
    launch(on, kernel, Geometry { grid: [2, 2, 1], block: [256, 1, 1], shared: 98368 }, &args)?;
    c.read()
}

fn gemm_reference() -> Vec<f64> {
    let (a, b) = (narrow(&uniform(M * K, 5)), narrow(&uniform(N * K, 6)));
    let dot = |i: usize, j: usize| (0..K).map(|k| a[i * K + k].to_f64() * b[j * K + k].to_f64()).sum::<f64>();
    (0..M * N).map(|at| dot(at / N, at % N)).collect()
}

type Run = fn(&Emulator, &str) -> Result<Vec<f32>>;

/// Right under every order, and the same bits under all of them.
fn holds(run: Run, kernel: &str, reference: &[f64], limit: f64) {
    let first = run(&emulator(0, 1), kernel).expect("runs");
    let error = far(&first, reference);
    assert!(error <= limit, "{kernel}: error {error}");
    for (seed, threads) in [(0, 3), (1, 1), (2, 2), (3, 1), (4, 4), (5, 1), (6, 2), (7, 1)] {
        let other = run(&emulator(seed, threads), kernel).expect("runs");
        assert!(bits(&other) == bits(&first), "{kernel}: seed {seed} on {threads} threads gives other bits");
    }
}

#[test]
fn a_reduction_is_right_in_every_order() {
    // 250 additions and a reciprocal root per row: a few units in the last place of values up to 1.8
    holds(rmsnorm, "test_rmsnorm", &rmsnorm_reference(), 2e-6);
}

#[test]
fn attention_is_right_in_every_order() {
    // probabilities and outputs are rounded to bf16: 2^-9 of values up to 1
    holds(attention, "test_attention", &attention_reference(), 4e-3);
}

#[test]
fn a_product_by_tma_and_wgmma_is_right_in_every_order() {
    // 384 products of bf16, exact in f32, summed in f32
    holds(gemm, "test_gemm_sm90", &gemm_reference(), 5e-5);
}

#[test]
fn a_failed_launch_leaves_the_device_usable() {
    let on = emulator(0, 2);
    for _ in 0..20 {
        assert!(rmsnorm(&on, "test_rmsnorm_lost_lane").is_err());
        assert!(attention(&on, "test_attention_shared_past_end").is_err());
        assert!(far(&rmsnorm(&on, "test_rmsnorm").expect("runs"), &rmsnorm_reference()) <= 2e-6);
    }
    assert_eq!(on.free_bytes(), MEMORY, "all memory was freed");
}

#[test]
fn arguments_are_compared_with_the_kernel() {
    let on = emulator(0, 1);
    let x = on.alloc::<f32>(8).expect("memory");
    let shape = Geometry::line(1, 32, 32);
    let refused = |args: &[Arg]| launch(&on, "test_rmsnorm", shape, args).expect_err("refused").to_string();
    let (n, eps) = (Arg::I32(8), Arg::F32(1e-6));
    assert_eq!(refused(&[x.arg(), x.arg(), n]), "test_rmsnorm takes 4 arguments, not 3");
    assert_eq!(
        refused(&[x.arg(), x.arg(), eps, n]),
        "test_rmsnorm: argument 3 must be an integer of 4 bytes, not a floating-point number of 4 bytes"
    );
    assert_eq!(
        refused(&[x.arg(), Arg::Address(64), n, eps]),
        "test_rmsnorm: argument 2: 0x40 lies in no memory of the device"
    );
    let freed = on.alloc::<f32>(8).expect("memory").arg();
    assert!(refused(&[x.arg(), freed, n, eps]).ends_with("lies in no memory of the device"));
    let unknown = launch(&on, "rms", shape, &[]).expect_err("refused").to_string();
    assert!(
        unknown.starts_with("no kernel is called rms; there are ") && unknown.contains("test_rmsnorm"),
        "{unknown}"
    );
    let wide = launch(&on, "test_rmsnorm", Geometry::line(1, 2048, 32), &[x.arg(), x.arg(), n, eps]);
    assert_eq!(wide.expect_err("refused").to_string(), "a block of 2048 x 1 x 1 threads: 1 to 1024 are possible");
}

#[test]
fn memory_is_finite_and_starts_as_nan() {
    let on = Emulator::new(1 << 20, Schedule { seed: 0, threads: 1 });
    let x = on.alloc::<f32>(1 << 17).expect("half of it");
    assert!(x.read().expect("read").iter().all(|v| v.is_nan()));
    let full = on.alloc::<f32>(1 << 18).map(|_| ()).expect_err("full").to_string();
    assert_eq!(full, "out of memory: 1048576 bytes were asked for and 524288 are free");
    drop(x);
    assert!(on.alloc::<f32>(1 << 18).is_ok());
    let mut small = on.upload(&[1.0f32, 2.0]).expect("memory");
    let long = small.write(&[0.0; 3]).expect_err("too long").to_string();
    assert_eq!(long, "12 bytes at byte 0 reach past the end of an allocation of 8 bytes");
    assert_eq!(small.read().expect("read"), [1.0, 2.0]);
}

#[test]
fn kernels_have_names() {
    let names = Emulator::kernels();
    assert!(names.is_sorted() && names.contains(&"test_attention".to_string()), "{names:?}");
    assert_eq!(far(&[1.0], &[1.5]), 0.5);
    assert!(far(&[1.0, f32::NAN, 1.0], &[1.5, 0.0, 1.0]).is_nan(), "a NaN must not hide");
}

/// Five blocks' worth of values in sparse memory: those of the blocks that run are written, the others stay 0.
#[test]
fn some_blocks_of_a_launch() {
    let (on, n, geometry) = (emulator(0, 2), 1200, Geometry::line(5, 256, 0));
    let x = on.upload(&vec![bf16::ONE; n]).expect("memory");
    let y = on.alloc_sparse(4 * n).expect("memory");
    let run = |n: usize, first: u32, count: u32| {
        let args = [x.arg(), y.arg(), Arg::U64(n as u64)];
        // SAFETY: both have n values; what is beyond is refused
        unsafe { on.launch_blocks("widen_bf16", geometry, &args, Blocks { first, count }) }
    };
    run(n, 2, 2).expect("runs");
    let mut got = vec![0f32; n];
    y.read_at(0, bytemuck::cast_slice_mut(&mut got)).expect("reads");
    assert!(got.iter().enumerate().all(|(i, &x)| x == f32::from(u8::from((512..1024).contains(&i)))));
    assert!(run(n, 4, 2).expect_err("refused").to_string().ends_with("blocks outside of the grid"));
    let beyond = run(n + 1, 4, 1).expect_err("refused").to_string();
    assert!(beyond.contains("2 bytes at") && beyond.contains("reach past the end"), "{beyond}");
}
