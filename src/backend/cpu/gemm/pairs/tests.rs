//! Products of pairs against a model of `vdpbf16ps` that is written from its definition, value by value.

use super::super::few::{FEW, Few};
use super::super::target::{Kernel, wide_pairs};
use super::super::{DEPTH, Mat, Operands, Plain, Product, Right, Target, blocks, few_rows};
use super::{Narrow, careful, least_exponent, may_underflow};
use crate::random::{Purpose, Stream};
use half::bf16;

/// Every 101st float there is, and those beside a tie.
#[test]
fn floats_become_the_nearest_bf16() {
    let ties = [0x3f80_8000u32, 0x3f81_8000, 0x7f7f_8000, 0x7f80_0001, 0xffff_ffff, 0x8000];
    for bits in (0..u32::MAX).step_by(101).chain(ties.into_iter().flat_map(|bits| bits - 1..=bits.saturating_add(1))) {
        let x = f32::from_bits(bits);
        let (found, expected) = (bf16::from_bits(x.bits() as u16), rounded(x));
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "{x:e} ({bits:#x}): {found} for {expected}");
    }
}

/// `sum + a b` with one rounding to 24 bits and no denormals, of operands or results. `mul_add` rounds denormals to
/// fewer bits, and so may reach the least normal number from below: the exact sum, in units of 2^-300, decides.
fn fused(sum: f32, a: f32, b: f32) -> f32 {
    let operand = |x: f32| if x.is_subnormal() { f32::copysign(0.0, x) } else { x };
    let (a, b) = (operand(a), operand(b));
    let rounded = a.mul_add(b, sum);
    if rounded.abs() > f32::MIN_POSITIVE || rounded.is_nan() {
        return rounded;
    }
    if rounded.abs() == f32::MIN_POSITIVE {
        // both are small here or cancel; 2^-126 is 2^174 units, and half a step of 24 bits below it 2^149
        let exact = |x: f64| (x.abs() < 2f64.powi(-100)).then(|| (x * 2f64.powi(226)) as i128);
        let product = f64::from(a) * f64::from(b);
        if let (Some(sum), Some(product)) = (exact(f64::from(sum)), exact(product)) {
            // in units of 2^-226 here: products of normal bf16 near the border have no bits below them
            let limit = (1i128 << 100) - (1 << 75);
            if (sum + product).abs() >= limit {
                return rounded;
            }
        } else {
            return rounded;
        }
    }
    f32::copysign(0.0, rounded)
}

/// One step over pairs: the upper halves first.
fn dot(sum: f32, [a0, a1]: [f32; 2], [b0, b1]: [f32; 2]) -> f32 {
    fused(fused(sum, a1, b1), a0, b0)
}

#[test]
fn sums_are_rounded_once_and_flushed() {
    let (least, tiny) = (f32::MIN_POSITIVE, f32::from_bits(1 << 16));
    let power = |n: i32| 2f32.powi(n);
    // sum, product, result
    let cases = [
        (0.0, [power(-63), power(-63)], least),
        (0.0, [power(-63), power(-64)], 0.0),
        (-0.0, [power(-63), -power(-64)], -0.0),
        (least, [power(-63), -power(-63)], 0.0),
        (2.0 * least, [power(-63), -power(-63)], least),
        // to 24 bits, half a step below the least normal number is a tie, a step is not
        (least, [power(-75), -power(-76)], least),
        (least, [power(-75), -power(-75)], 0.0),
        (1.0, [tiny, power(100)], 1.0),
        (0.0, [tiny, power(126)], 0.0),
        // a step of the sum is 2^-23: a tie, and a tie with something behind it
        (1.0, [power(-12), power(-12)], 1.0),
        (1.0, [power(-12), power(-12) * 1.0078125], 1.0 + f32::EPSILON),
    ];
    for (sum, [a, b], expected) in cases {
        let found = careful([a], [b], [sum]);
        assert_eq!(found[0].to_bits(), expected.to_bits(), "{sum:e} + {a:e} x {b:e}: {:e} for {expected:e}", found[0]);
        assert_eq!(fused(sum, a, b).to_bits(), expected.to_bits(), "the model: {sum:e} + {a:e} x {b:e}");
    }
}

#[test]
fn the_least_exponent_excludes_denormal_sums() {
    let of = |values: [f32; 4]| least_exponent(&[[0, 1], [2, 3]].map(|[i, j]| f32::pair(values[i], values[j])));
    assert_eq!(of([1.0, -4.0, 0.0, 8.0]), 127);
    assert_eq!(of([1.0, 4.0, -0.0, -0.5]), 126);
    assert_eq!(least_exponent(&[f32::from_bits(1), 1.0]), 0, "a denormal bf16 as it is stored");
    assert!(of([0.0; 4]) > 255 && !may_underflow(of([0.0; 4]), 1));
    // 255/128 2^-56 times 2^-56 is an integer times 2^-126; half of it is none
    assert!(!may_underflow(71, 71) && may_underflow(70, 71) && may_underflow(0, 255) && may_underflow(255, 0));
}

/// A value as operands are rounded: denormals count as 0.
fn rounded(x: f32) -> bf16 {
    bf16::from_f32(if x.is_subnormal() { 0.0 * x } else { x })
}

/// Normal values times powers of 2 up to `spread` below 1, some of them 0 or denormal.
fn values(stream: &mut Stream, n: usize, spread: u32) -> Vec<f32> {
    let mut draw = || {
        let x = stream.normal() * 2f64.powi(-(stream.below(spread + 1) as i32));
        match stream.below(40) {
            0..4 => 0.0,
            4 => f32::from_bits((1 << 23) - 1 - stream.below(1 << 16)),
            _ => x as f32,
        }
    };
    (0..n).map(|_| draw()).collect()
}

/// The value of `c` for a row and a column, as the kernels are to sum it: `parts` sums over every so many pairs of each
/// stretch of `depth` values.
fn expected(a: &[f32], b: &[f32], before: f32, parts: usize, depth: usize) -> f32 {
    let [a, b] = [a, b].map(|x| x.iter().map(|&x| rounded(x).to_f32()).collect::<Vec<f32>>());
    let mut c = before;
    for (a, b) in a.chunks(depth).zip(b.chunks(depth)) {
        let mut sums = vec![0.0; parts];
        let at = |x: &[f32], i: usize| [x[i], x.get(i + 1).copied().unwrap_or(0.0)];
        for (p, i) in (0..a.len()).step_by(2).enumerate() {
            sums[p % parts] = dot(sums[p % parts], at(a, i), at(b, i));
        }
        while sums.len() > 1 {
            let (low, high) = sums.split_at(sums.len() / 2);
            sums = low.iter().zip(high).map(|(x, y)| x + y).collect();
        }
        c += sums[0];
    }
    c
}

/// Every kernel that this processor can run, the instruction's among them where it has it, has the bits of the model:
/// operands of all sizes, those whose sums are denormal among them, few rows and many, in each form.
#[test]
fn kernels_have_the_bits_of_the_instruction() {
    let of_target = |target: Target| Some((format!("{target:?}"), f32::kernel(target, Operands::Bf16)?));
    let mut kernels: Vec<(String, Kernel<f32>)> = Target::ALL.into_iter().filter_map(of_target).collect();
    kernels.push(("tiles as of AVX-512".into(), wide_pairs()));
    println!("{:?}", kernels.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let mut stream = Stream::new(17, Purpose::Bench, 0);
    let mut flushed = 0;
    for (m, n, k) in [(1, 1, 1), (5, 37, 16), (13, 35, 19), (29, 70, 65), (14, 9, 2 * DEPTH + 7)] {
        for spread in [0, 60, 75] {
            let (a, b) = (values(&mut stream, m * k, spread), values(&mut stream, k * n, spread));
            let start: Vec<f32> = values(&mut stream, m * n, 2 * spread);
            // what is stored may be denormal
            let stored =
                |&x: &f32| if x.is_subnormal() { bf16::from_bits((x.to_bits() >> 16) as u16) } else { rounded(x) };
            let narrow: Vec<bf16> = b.iter().map(stored).collect();
            for turned in [false, true] {
                let column = |j: usize| -> Vec<f32> {
                    (0..k).map(|l| if turned { b[j * k + l] } else { b[l * n + j] }).collect()
                };
                for (few, a_turned) in [(true, false), (false, false), (false, true)] {
                    if few && !turned {
                        continue; // is packed like many
                    }
                    let row = |i: usize| -> Vec<f32> {
                        (0..k).map(|l| if a_turned { a[l * m + i] } else { a[i * k + l] }).collect()
                    };
                    // parts of the depth are as long as can be, in steps of 8
                    let depth = k.div_ceil(k.div_ceil(2 * DEPTH)).next_multiple_of(8);
                    let (parts, depth) = if few { (8, k) } else { (1, depth) };
                    let model: Vec<f32> =
                        (0..m * n).map(|at| expected(&row(at / n), &column(at % n), start[at], parts, depth)).collect();
                    flushed += model.iter().zip(&start).filter(|(c, before)| c == before).count();
                    for (name, kernel) in &kernels {
                        for wide in [true, false] {
                            let left = if a_turned { Mat::rows(&a, m).t() } else { Mat::rows(&a, k) };
                            let full = if turned { Mat::rows(&b, k).t() } else { Mat::rows(&b, n) };
                            let narrow = if turned { Mat::rows(&narrow, k).t() } else { Mat::rows(&narrow, n) };
                            let right = Right::Plain(if wide { Plain::Full(full) } else { Plain::Bf16(narrow) });
                            let mut c = start.clone();
                            if few {
                                assert!(m <= FEW && kernel.takes_few(right, k));
                                let few = Few { a: left, m, depth: k, alpha: 1.0, add: true };
                                few_rows(*kernel, few, right, &mut c, n, 1);
                            } else {
                                blocks(*kernel, (m, n, k), left, right, &mut c, n, 1.0, true, 1);
                            }
                            let what =
                                format!("{name}, {m} x {n} x {k}, spread {spread}, {turned} {few} {a_turned} {wide}");
                            for (i, (found, model)) in c.iter().zip(&model).enumerate() {
                                assert!(found.to_bits() == model.to_bits(), "{what} at {i}: {found:e} for {model:e}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(flushed > 100, "{flushed} sums vanish: too few denormals");
}
