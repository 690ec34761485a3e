//! The two floating-point types of the CPU backend behind one trait.

use crate::backend::Elem;
use num_traits::{Float, NumAssign};

/// `f32` for training, `f64` for gradient checks.
pub trait Real: Elem + Float + NumAssign + std::iter::Sum + std::fmt::Debug {
    /// Rounds to this type.
    fn of(x: f64) -> Self;
    /// Widens.
    fn f64(self) -> f64;
    /// Widens a bf16 weight (exact).
    fn of_bf16(x: half::bf16) -> Self;
    /// The error function.
    fn erf(self) -> Self;
}

macro_rules! real {
    ($t:ty, $erf:path) => {
        impl Real for $t {
            fn of(x: f64) -> $t {
                x as $t
            }
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn of_bf16(x: half::bf16) -> $t {
                // a shift, which vectorises; the crate's conversion looks for NaNs first
                <$t>::from(f32::from_bits(u32::from(x.to_bits()) << 16))
            }
            fn erf(self) -> $t {
                $erf(self)
            }
        }
    };
}
real!(f32, libm::erff);
real!(f64, libm::erf);

/// The largest of a row. A NaN is passed over here and met again in the sum, where it stays.
pub fn maximum<R: Real>(row: &[R]) -> R {
    row.iter().fold(R::neg_infinity(), |m, &x| m.max(x))
}

/// The inner product, in order.
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).map(|(&x, &y)| x * y).sum()
}
