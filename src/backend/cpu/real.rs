//! The two floating-point types of the CPU backend behind one trait.

use crate::backend::Elem;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// `f32` for training, `f64` for gradient checks.
pub trait Real:
    Elem
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + std::iter::Sum
    + std::fmt::Debug
{
    /// Smallest value: the start of a maximum.
    const LOWEST: Self;
    /// Rounds to this type.
    fn of(x: f64) -> Self;
    /// Widens.
    fn f64(self) -> f64;
    /// Widens a bf16 weight (exact).
    fn of_bf16(x: half::bf16) -> Self;
    /// e^x.
    fn exp(self) -> Self;
    /// e^x - 1 without cancellation.
    fn exp_m1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// The larger of two.
    fn max(self, other: Self) -> Self;
}

macro_rules! real {
    ($t:ty, $erf:path) => {
        impl Real for $t {
            const LOWEST: $t = <$t>::NEG_INFINITY;
            fn of(x: f64) -> $t {
                x as $t
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn of_bf16(x: half::bf16) -> $t {
                <$t>::from(x)
            }
            fn exp(self) -> $t {
                <$t>::exp(self)
            }
            fn exp_m1(self) -> $t {
                <$t>::exp_m1(self)
            }
            fn ln(self) -> $t {
                <$t>::ln(self)
            }
            fn sqrt(self) -> $t {
                <$t>::sqrt(self)
            }
            fn tanh(self) -> $t {
                <$t>::tanh(self)
            }
            fn erf(self) -> $t {
                $erf(self)
            }
            fn max(self, other: $t) -> $t {
                <$t>::max(self, other)
            }
        }
    };
}
real!(f32, libm::erff);
real!(f64, libm::erf);

/// The largest of a row. A NaN is passed over here and met again in the sum, where it stays.
pub fn maximum<R: Real>(row: &[R]) -> R {
    row.iter().fold(R::LOWEST, |m, &x| m.max(x))
}

/// The inner product, in order.
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).map(|(&x, &y)| x * y).sum()
}
