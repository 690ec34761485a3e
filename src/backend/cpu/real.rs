//! The two floating-point types of the CPU backend behind one trait.

use super::gemm::Product;
use super::wide::exp32;
use crate::backend::Number;
use num_traits::{Float, NumAssign};

/// `f32` for training, `f64` for gradient checks.
pub trait Real: Number + Float + NumAssign + Product + From<f32> + std::iter::Sum + std::fmt::Debug {
    /// Widens a bf16 weight (exact).
    fn of_bf16(x: half::bf16) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// e^x for loops over rows: in f32 without a branch, so that they vectorise; in f64 the library's.
    fn exp_lane(self) -> Self;
}

macro_rules! real {
    ($t:ty, $erf:path, $exp:path) => {
        impl Real for $t {
            #[inline(always)]
            fn of_bf16(x: half::bf16) -> $t {
                // a shift, which vectorises; the crate's conversion looks for NaNs first
                <$t>::from(f32::from_bits(u32::from(x.to_bits()) << 16))
            }
            fn erf(self) -> $t {
                $erf(self)
            }
            #[inline(always)]
            fn exp_lane(self) -> $t {
                $exp(self)
            }
        }
    };
}
real!(f32, libm::erff, exp32);
real!(f64, libm::erf, f64::exp);
