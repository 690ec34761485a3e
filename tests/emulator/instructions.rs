//! Each instruction does what its description says.

use super::{emulator, launch, narrow, uniform};
use eyekern::backend::cuda::emulated::{Emulator, Memory};
use eyekern::backend::cuda::{Arg, Geometry};
use half::bf16;

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
