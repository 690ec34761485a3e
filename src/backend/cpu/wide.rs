//! Loops over rows, compiled for the vectors that the processor has, and the exponential that they can hold.
//!
//! A build for x86-64 may use 4 lanes only; [`wide!`] compiles a function a second time for AVX2 and picks at run time.
//! Both give the same bits: multiplications and additions are not contracted, and sums have [`LANES`] parts in either.

#![allow(unsafe_code)] // calls of functions that are compiled for AVX2

use super::real::Real;

/// Partial sums of a reduction: enough of them to fill the vectors and to hide the latency of an addition.
pub const LANES: usize = 16;

/// Defines a function over `R: Real` whose body is compiled for the baseline and for AVX2.
macro_rules! wide {
    ($(
        $(#[$doc:meta])*
        $v:vis fn $name:ident<R: Real>($($arg:ident: $t:ty),* $(,)?) $(-> $out:ty)? $body:block
    )*) => {$(
        $(#[$doc])*
        $v fn $name<R: Real>($($arg: $t),*) $(-> $out)? {
            #[inline(always)]
            fn body<R: Real>($($arg: $t),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2<R: Real>($($arg: $t),*) $(-> $out)? {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, as was just seen.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    )*};
}
pub(super) use wide;

/// e^x in f32, without a branch. The error is below 1.5 units in the last place, down to the smallest denormal
/// (the tests go through all x); NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial in r times 2^n (Cody and Waite 1980, with the coefficients of
/// Moshier's Cephes). 2^n in two factors, so that neither leaves the range of f32.
#[inline(always)]
pub fn exp32(x: f32) -> f32 {
    // adding it rounds to an integer, which stands in the low bits of the sum
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4; // few bits: a product with n is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // beyond these the result is 0 or infinite anyway; comparisons, because `clamp` is not for NaN
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + c;
    }
    let y = p * r * r + r + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    y * power(n >> 1) * power(n.wrapping_sub(n >> 1))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<R: Real>(x: R) -> R {
    R::of(1.0) / (R::of(1.0) + (-x).exp_lane())
}

/// The sum of `f(x)` over a row, in [`LANES`] parts that are added at the end.
#[inline(always)]
pub fn sum_of<R: Real>(row: &[R], f: impl Fn(R) -> R) -> R {
    sum_of_pairs(row, row, |x, _| f(x))
}

/// The sum of `f(a, b)` over two rows, in [`LANES`] parts that are added at the end.
#[inline(always)]
pub fn sum_of_pairs<A: Copy, B: Copy, R: Real>(a: &[A], b: &[B], f: impl Fn(A, B) -> R) -> R {
    let mut sums = [R::of(0.0); LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| f(a, b)).sum::<R>();
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(a, b);
        }
    }
    sums.into_iter().sum::<R>() + rest
}

wide! {
    /// The largest of a row. A NaN is passed over here and met again in the sum, where it stays.
    pub fn maximum<R: Real>(row: &[R]) -> R {
        let larger = |a: R, b: R| if b > a { b } else { a };
        let mut most = [R::neg_infinity(); LANES];
        let parts = row.chunks_exact(LANES);
        let rest = parts.remainder().iter().fold(R::neg_infinity(), |m, &x| larger(m, x));
        for part in parts {
            for (most, &x) in most.iter_mut().zip(part) {
                *most = larger(*most, x);
            }
        }
        most.into_iter().fold(rest, larger)
    }

    /// The inner product.
    pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
        sum_of_pairs(a, b, |a, b| a * b)
    }

    /// The sum of `e^(x - shift)` over a row.
    pub fn exp_sum<R: Real>(row: &[R], shift: R) -> R {
        sum_of(row, |x| (x - shift).exp_lane())
    }

    /// `row = factor e^(row - shift)`.
    pub fn exp_scaled<R: Real>(row: &mut [R], shift: R, factor: R) {
        row.iter_mut().for_each(|x| *x = factor * (*x - shift).exp_lane());
    }

    /// `row *= factor`.
    pub fn scaled<R: Real>(row: &mut [R], factor: R) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

/// `row = e^(row - max)`; gives the maximum and the sum.
pub fn exp_of_row<R: Real>(row: &mut [R]) -> (R, R) {
    let max = maximum(row);
    exp_scaled(row, max, R::of(1.0));
    (max, total(row))
}

wide! {
    fn total<R: Real>(row: &[R]) -> R {
        sum_of(row, |x| x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 101st float there is, against f64.
    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        let mut worst = 0.0f64;
        for bits in (0..u32::MAX).step_by(101) {
            let x = f32::from_bits(bits);
            let (y, exact) = (exp32(x), f64::from(x).exp());
            if x.is_nan() {
                assert!(y.is_nan());
            } else if exact > f64::from(f32::MAX) {
                assert!(y > f32::MAX * 0.999_999, "{x}: {y}");
            } else {
                // a unit in the last place, of denormals too
                let unit = (exact * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
                worst = worst.max((f64::from(y) - exact).abs() / unit);
            }
        }
        assert!(worst <= 1.5, "{worst} units");
        assert_eq!((exp32(0.0), exp32(f32::INFINITY), exp32(f32::NEG_INFINITY)), (1.0, f32::INFINITY, 0.0));
    }

    #[test]
    fn rows_of_any_length_are_reduced_whole() {
        for n in 0..70 {
            let row: Vec<f64> = (0..n).map(|i| f64::from((i * 7) % 23) - 11.5).collect();
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(maximum(&row), max);
            let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{n}: {a} and {b}");
            close(dot(&row, &row), row.iter().map(|x| x * x).sum());
            close(exp_sum(&row, 2.0), row.iter().map(|x| (x - 2.0).exp()).sum());
            let mut exps = row.clone();
            let (most, sum) = exp_of_row(&mut exps);
            assert_eq!(most, max);
            close(sum, row.iter().map(|x| (x - max).exp()).sum());
            exps.iter().zip(&row).for_each(|(&e, x)| close(e, (x - max).exp()));
        }
    }

    #[test]
    fn a_nan_is_not_lost() {
        let mut row = [1.0f32, f32::NAN, 2.0];
        assert!(exp_sum(&row, maximum(&row)).is_nan());
        assert!(exp_of_row(&mut row).1.is_nan());
    }
}
