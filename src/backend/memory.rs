//! Number types and buffers of a device.

use crate::choices::choices;
use crate::error::Result;
use half::bf16;

choices! {
    /// The number format of matrix products.
    ComputeDtype {
        /// f32 on a CPU, bf16 on a GPU.
        Auto = "auto",
        /// f32, on a CPU only: CUDA kernels compute in bf16.
        F32 = "f32",
        /// Operands rounded to bf16, sums in f32. For AMD's CPUs with AVX512_BF16; others compute the same bits, no
        /// faster than in f32.
        Bf16 = "bf16",
    }
}

/// An element of a device buffer.
pub trait Elem: bytemuck::Pod + Default + Send + Sync {}
impl Elem for u8 {}
impl Elem for u32 {}
impl Elem for f32 {}
impl Elem for f64 {}
impl Elem for bf16 {}

/// A floating-point element, converted on the host.
pub trait Number: Elem {
    /// Rounds to this type.
    fn of(x: f64) -> Self;
    /// Widens.
    fn f64(self) -> f64;
}

macro_rules! number {
    ($t:ty, $of:expr) => {
        impl Number for $t {
            #[inline(always)]
            fn of(x: f64) -> $t {
                $of(x)
            }
            fn f64(self) -> f64 {
                self.into()
            }
        }
    };
}
number!(f64, |x| x);
number!(f32, |x| x as f32);
// `bf16::from_f64` looks at half of the bits and rounds a value just above a tie as the tie
number!(bf16, |x| bf16::from_f32(x as f32));

/// A buffer in working precision.
pub type F<B> = <B as Memory>::Buf<<B as Memory>::Float>;
/// A buffer of statistics: losses, log-sum-exps, weight gradients, optimiser state.
pub type S<B> = <B as Memory>::Buf<<B as Memory>::Stat>;
/// A buffer of ids, positions, offsets.
pub type Ids<B> = <B as Memory>::Buf<u32>;

/// Memory of a device, in its number types.
pub trait Memory: Sized {
    /// Activations and working weights.
    type Float: Number;
    /// Statistics, gradients of weights, optimiser state.
    type Stat: Number;
    /// Logits, which need more than bf16: their differences are what a preference is made of.
    type Logit: Number;
    /// Device memory.
    type Buf<T: Elem>;

    /// Whether trained weights keep a copy in `Stat` beside the working copy.
    const MASTER: bool;
    /// Bytes that the logits of a chunk of rows may take, unless one example needs more. The head's weight is read once
    /// for each chunk.
    const LOGIT_BYTES: usize;

    /// `n` zeros.
    fn alloc<T: Elem>(&self, n: usize) -> Result<Self::Buf<T>>;
    /// Copies `host` to `dst[0..host.len()]`.
    fn write<T: Elem>(&self, dst: &mut Self::Buf<T>, host: &[T]) -> Result;
    /// Copies `src[0..host.len()]` to `host`.
    fn read<T: Elem>(&self, src: &Self::Buf<T>, host: &mut [T]) -> Result;
    /// Sets `buf[0..n]` to zero.
    fn zero<T: Elem>(&self, buf: &mut Self::Buf<T>, n: usize) -> Result;
}
