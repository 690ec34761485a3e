//! The emulator: right kernels give the reference's numbers, the same bits for every order of threads and any number
//! of host threads; each defect planted in kernels/tests is noticed, by the means that docs/emulator.md names.

use eyekern::backend::cuda::emulated::{Blocks, Emulator, Memory, Schedule};
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

// ---- root mean square norm

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

// ---- attention

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

// ---- product on Hopper

const M: usize = 128;
const N: usize = 256;
const K: usize = 384; // six steps through a ring of four stages

fn gemm(on: &Emulator, kernel: &str) -> Result<Vec<f32>> {
    let (a, b) = (on.upload(&narrow(&uniform(M * K, 5)))?, on.upload(&narrow(&uniform(N * K, 6)))?);
    let c = on.alloc::<f32>(M * N)?;
    let (a_map, b_map) = (on.tensor_map(&a, [M, K], [64, 64], 128)?, on.tensor_map(&b, [N, K], [128, 64], 128)?);
    let args = [Arg::Map(a_map), Arg::Map(b_map), c.arg(), Arg::I32(K as i32), Arg::I32(N as i32)];
    launch(on, kernel, Geometry { grid: [2, 2, 1], block: [256, 1, 1], shared: 98368 }, &args)?;
    c.read()
}

fn gemm_reference() -> Vec<f64> {
    let (a, b) = (narrow(&uniform(M * K, 5)), narrow(&uniform(N * K, 6)));
    let dot = |i: usize, j: usize| (0..K).map(|k| a[i * K + k].to_f64() * b[j * K + k].to_f64()).sum::<f64>();
    (0..M * N).map(|at| dot(at / N, at % N)).collect()
}

// ---- right kernels

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

// ---- planted defects that give wrong numbers

/// Wrong under seed 0, and under at least `others` of seven more.
fn differs(run: Run, kernel: &str, reference: &[f64], limit: f64, others: usize) {
    let right = |seed| run(&emulator(seed, 1), kernel).is_ok_and(|y| far(&y, reference) <= limit);
    assert!(!right(0), "{kernel} passes under seed 0");
    let count = (1..8).filter(|&seed| !right(seed)).count();
    assert!(count >= others, "{kernel} is wrong under {count} of 7 seeds");
}

#[test]
fn a_missing_barrier_is_noticed() {
    differs(rmsnorm, "test_rmsnorm_no_barrier", &rmsnorm_reference(), 2e-6, 7);
    differs(attention, "test_attention_no_barrier", &attention_reference(), 4e-3, 7);
}

#[test]
fn a_missing_wait_is_noticed() {
    differs(attention, "test_attention_no_wait", &attention_reference(), 4e-3, 7);
}

#[test]
fn copies_that_no_one_waits_for_are_noticed() {
    let text = message(attention(&emulator(0, 1), "test_attention_never_waits"));
    assert!(text.contains("the thread returns with 12 asynchronous copies that it never waited for"), "{text}");
}

#[test]
fn a_wrong_fragment_is_noticed() {
    differs(attention, "test_attention_wrong_fragment", &attention_reference(), 4e-3, 7);
}

#[test]
fn a_stage_released_too_early_is_noticed() {
    differs(gemm, "test_gemm_sm90_early_release", &gemm_reference(), 5e-5, 7);
}

// ---- planted defects that end the launch

#[test]
fn a_consumer_that_does_not_wait_is_noticed() {
    let text = message(gemm(&emulator(0, 1), "test_gemm_sm90_no_wait"));
    assert!(text.contains("mbarrier_arrive_expect: all 1 arrivals of this phase have come already"), "{text}");
}

#[test]
fn a_divergent_barrier_is_noticed() {
    for seed in 0..4 {
        let text = message(rmsnorm(&emulator(seed, 1), "test_rmsnorm_divergent_barrier"));
        assert!(text.contains("__syncthreads: divergent barrier: others wait at reduce.cu:"), "{text}");
    }
}

#[test]
fn half_a_warp_cannot_shuffle() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_lost_lane"));
    assert!(text.contains("no thread can go on: 128 wait in __syncthreads at reduce.cu:"), "{text}");
    assert!(text.contains("128 wait in shfl_xor at reduce.cu:"), "{text}");
}

#[test]
fn shared_memory_has_bounds() {
    let text = message(attention(&emulator(0, 1), "test_attention_shared_past_end"));
    assert!(
        text.contains("ldmatrix_x4_trans: 16 bytes at byte 42976 of shared memory are outside its 40960"),
        "{text}"
    );
    // too little was asked for: the values lie at 24576
    let text = message(attention_in(&emulator(0, 1), "test_attention", 16384));
    assert!(text.contains("cp_async16: 16 bytes at byte 24576 of shared memory are outside its 16384"), "{text}");
}

#[test]
fn global_memory_has_bounds() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_global_past_end"));
    assert!(text.contains("load_128: 16 bytes at 0x") && text.contains("at its byte 20000"), "{text}");
    assert!(text.ends_with("block (4, 0, 0), thread (0, 0, 0)"), "{text}");
}

#[test]
fn wide_accesses_are_aligned() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_misaligned"));
    assert!(text.contains("load_128: 16 bytes at 0x") && text.contains("are not aligned to 16; block"), "{text}");
}

#[test]
fn messages_name_the_line() {
    let source = include_str!("../kernels/tests/attention.cu");
    let line = 1 + source.lines().position(|l| l.contains("planted: shared_past_end")).expect("the defect");
    let text = message(attention(&emulator(0, 1), "test_attention_shared_past_end"));
    assert!(text.starts_with(&format!("test_attention_shared_past_end: attention.cu:{line}: ")), "{text}");
}

// Plain accesses: AddressSanitizer ends the process instead, with the line (scripts/sanitize.sh).

#[test]
fn plain_stores_into_red_zones_are_noticed() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_shared_past_end"));
    assert!(text.contains("shared memory was written 0 bytes past the end of its 32 bytes; block ("), "{text}");
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_global_past_end_raw"));
    assert!(text.contains("global memory was written 8 bytes past the end of an allocation of 20000"), "{text}");
}

#[test]
fn plain_faults_do_not_end_the_process() {
    let text = message(rmsnorm(&emulator(0, 2), "test_rmsnorm_null_pointer"));
    assert!(text.contains("memory fault at address 0x40, after this operation; block ("), "{text}");
    assert!(text.ends_with("thread (77, 0, 0)"), "{text}");
    let text = message(rmsnorm(&emulator(3, 1), "test_rmsnorm_endless_recursion"));
    assert!(text.contains("the thread's stack of 60 KiB overflowed"), "{text}");
}

// ---- wrappers, one by one

/// Device memory with `values`.
fn up<T: bytemuck::Pod>(on: &Emulator, values: &[T]) -> Memory<T> {
    on.upload(values).expect("memory")
}

fn warp(on: &Emulator, kernel: &str, blocks: u32, args: &[Arg]) {
    launch(on, kernel, Geometry::line(blocks, 32, 512), args).expect("runs");
}

#[test]
fn lanes_exchange_values() {
    for seed in 0..4 {
        let on = emulator(seed, 1);
        let x: Vec<u32> = (0..32).map(|i| i * i + 5).collect();
        let (dx, out) = (up(&on, &x), up(&on, &[0u32; 96]));
        warp(&on, "test_lanes", 1, &[dx.arg(), out.arg()]);
        let out = out.read().expect("read");
        let votes = (0..32).filter(|&i| x[i].is_multiple_of(3)).fold(0u32, |bits, i| bits | 1 << i);
        for i in 0..32 {
            assert_eq!([out[i], out[32 + i], out[64 + i]], [x[i ^ 21], x[(i * 7 + 3) % 32], votes]);
        }
    }
}

#[test]
fn numbers_are_rounded_as_ptx_says() {
    let on = emulator(0, 2);
    let mut x = uniform(1024, 8);
    x.iter_mut().enumerate().for_each(|(i, v)| *v *= 2f32.powi(i as i32 % 40 - 20));
    // ties to even both ways, overflow to infinity, signed zeros, subnormals, infinities, NaN with any payload
    let special = [
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_8001,
        0x7f7f_ffff,
        0x8000_0000,
        0x0000_0001,
        0x0080_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffff_ffff,
    ];
    special.iter().enumerate().for_each(|(i, &bits)| x[i] = f32::from_bits(bits));
    let n = x.len();
    let dx = up(&on, &x);
    let pairs = up(&on, &vec![0u32; n]);
    let [wide, powers, logs, roots] = [(); 4].map(|()| up(&on, &vec![0f32; n]));
    warp(&on, "test_numbers", 32, &[dx.arg(), pairs.arg(), wide.arg(), powers.arg(), logs.arg(), roots.arg()]);
    let (pairs, wide) = (pairs.read().expect("read"), wide.read().expect("read"));
    let (powers, logs, roots) = (powers.read().expect("read"), logs.read().expect("read"), roots.read().expect("read"));
    let near = |a: f32, b: f64| a.is_nan() && b.is_nan() || f64::from(a) == b || ((f64::from(a) - b) / b).abs() < 3e-7;
    for (i, &v) in x.iter().enumerate() {
        let expected = if v.is_nan() {
            0x7fff_7fff
        } else {
            u32::from(bf16::from_f32(v).to_bits()) | u32::from(bf16::from_f32(-v).to_bits()) << 16
        };
        assert_eq!(pairs[i], expected, "{v:e} {:#x}", v.to_bits());
        assert_eq!(wide[i].to_bits(), pairs[i] << 16);
        let flushed = if v.is_subnormal() { 0.0 } else { f64::from(v) };
        let power = flushed.exp2() as f32;
        assert!(
            near(powers[i], if power.is_subnormal() { 0.0 } else { f64::from(power) }),
            "2^{v:e} = {:e}",
            powers[i]
        );
        let log = flushed.abs().log2();
        assert!(near(logs[i], log) || (f64::from(logs[i]) - log).abs() < 3e-7, "log2 {v:e} = {:e}", logs[i]);
        assert!(near(roots[i], flushed.abs().sqrt().recip()), "1 / sqrt {v:e} = {:e}", roots[i]);
    }
}

#[test]
fn bits_arrive_by_every_width_and_conversion() {
    let on = emulator(3, 1);
    let x: Vec<u16> = (0..256).map(|i| i * 251 + 7).collect();
    let (dx, out) = (up(&on, &x), up(&on, &[0u16; 6 * 256]));
    warp(&on, "test_moves", 1, &[dx.arg(), out.arg()]);
    assert_eq!(out.read().expect("read"), x.repeat(6));

    let x = [1.5f32, -0.1, 3.4e38, 1e-40, f32::INFINITY, 65504.5, -0.0, 257.0 / 256.0];
    let x: Vec<f32> = x.into_iter().cycle().take(64).collect();
    let (dx, out) = (up(&on, &x), up(&on, &[0u32; 256]));
    warp(&on, "test_conversions", 2, &[dx.arg(), out.arg(), Arg::I32(64)]);
    let rounded = |x: f32| bf16::from_f32(x).to_f32().to_bits();
    let parts: [&dyn Fn(f32) -> u32; 4] = [&rounded, &f32::to_bits, &|x| rounded(-x), &rounded];
    let expected: Vec<u32> = parts.iter().flat_map(|part| x.iter().map(|&x| part(x))).collect();
    assert_eq!(out.read().expect("read"), expected);
}

#[test]
fn groups_of_copies_are_waited_for_in_order() {
    for seed in 0..4 {
        let on = emulator(seed, 1);
        let x: Vec<u32> = (0..384).map(|i| i * 3 + 1).collect();
        let (dx, out) = (up(&on, &x), up(&on, &[0u32; 384]));
        launch(&on, "test_copies", Geometry::line(1, 32, 1536), &[dx.arg(), out.arg()]).expect("runs");
        let kept = |i: u32| if i / 4 % 32 % 3 == i / 128 { 0 } else { x[i as usize] };
        assert_eq!(out.read().expect("read"), (0..384).map(kept).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn wgmma_takes_operands_that_threads_wrote() {
    let on = emulator(1, 1);
    let whole = |n: usize, step: usize| -> Vec<f32> { (0..n).map(|i| ((i * step) % 15) as f32 - 7.0).collect() };
    let (a, b) = (whole(64 * 64, 7), whole(128 * 64, 11));
    let (da, db, dc) = (up(&on, &narrow(&a)), up(&on, &narrow(&b)), up(&on, &vec![0f32; 64 * 128]));
    launch(&on, "test_wgmma_stored", Geometry::line(1, 128, 24576), &[da.arg(), db.arg(), dc.arg()]).expect("runs");
    let dot = |at: usize| (0..64).map(|k| a[at / 128 * 64 + k] * b[at % 128 * 64 + k]).sum::<f32>();
    assert_eq!(dc.read().expect("read"), (0..64 * 128).map(dot).collect::<Vec<_>>());
}

/// PTX ISA, "Warp-level matrix load instruction: ldmatrix": lane l receives of each matrix row l / 4, columns
/// 2 (l % 4) and the next; transposed, the same of the transposed matrix.
#[test]
fn ldmatrix_gives_each_lane_its_fragment() {
    for seed in 0..4 {
        let on = emulator(seed, 1);
        let x: Vec<u16> = (0..256).map(|i| i * 3 + 1).collect();
        let dx = up(&on, &x);
        let (plain, transposed) = (up(&on, &[0u32; 128]), up(&on, &[0u32; 128]));
        warp(&on, "test_ldmatrix", 1, &[dx.arg(), plain.arg(), transposed.arg()]);
        let (plain, transposed) = (plain.read().expect("read"), transposed.read().expect("read"));
        for (lane, matrix) in (0..32).flat_map(|l| (0..4).map(move |m| (l, m))) {
            let at = |row: usize, column: usize| u32::from(x[(matrix % 2 * 8 + row) * 16 + matrix / 2 * 8 + column]);
            let (row, column) = (lane / 4, lane % 4 * 2);
            assert_eq!(plain[lane * 4 + matrix], at(row, column) | at(row, column + 1) << 16);
            assert_eq!(transposed[lane * 4 + matrix], at(column, row) | at(column + 1, row) << 16);
        }
    }
}

#[test]
fn mma_multiplies_whole_numbers_exactly() {
    for seed in 0..4 {
        let on = emulator(seed, 1);
        let whole = |n: usize, step: usize| -> Vec<f32> { (0..n).map(|i| ((i * step) % 31) as f32 - 15.0).collect() };
        let (a, b, c) = (whole(256, 7), whole(128, 11), whole(128, 5));
        let (da, db, dc) = (up(&on, &narrow(&a)), up(&on, &narrow(&b)), up(&on, &c));
        let d = up(&on, &[0f32; 128]);
        warp(&on, "test_mma", 1, &[da.arg(), db.arg(), dc.arg(), d.arg()]);
        let d = d.read().expect("read");
        for (row, column) in (0..16).flat_map(|r| (0..8).map(move |c| (r, c))) {
            let product: f32 = (0..16).map(|k| a[row * 16 + k] * b[column * 16 + k]).sum();
            assert_eq!(d[row * 8 + column], c[row * 8 + column] + product, "row {row}, column {column}");
        }
    }
}

#[test]
fn named_barriers_pair_a_producer_with_a_consumer() {
    for seed in 0..8 {
        let on = emulator(seed, 1);
        let x = uniform(40, 9);
        let (dx, y) = (up(&on, &x), up(&on, &[0f32; 40]));
        let args = [dx.arg(), y.arg(), Arg::I32(40)];
        launch(&on, "test_named_barriers", Geometry::line(1, 64, 4), &args).expect("runs");
        let expected: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
        assert_eq!(y.read().expect("read"), expected, "seed {seed}");
    }
}

#[test]
fn atomics_count_every_thread() {
    let on = emulator(5, 4);
    let (sum, count, zeros) = (up(&on, &[0f32]), up(&on, &[1u32]), up(&on, &[7u32; 128]));
    let args = [sum.arg(), count.arg(), zeros.arg()];
    launch(&on, "test_atomics_and_zeros", Geometry { grid: [3, 2, 1], block: [16, 4, 2], shared: 512 }, &args)
        .expect("runs");
    assert_eq!((sum.read().expect("read"), count.read().expect("read")), (vec![384.0], vec![1 + 3 * 768]));
    assert_eq!(zeros.read().expect("read"), [0; 128]);
}

// ---- the device

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

// ---- what lies beyond 32 bits

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
