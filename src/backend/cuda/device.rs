//! What the CUDA backend asks of a device: memory, launches, products. The driver is one, the emulator another, so that
//! everything above (launch geometry, the order of arguments, which kernel when) is the same code on both.

use super::arguments::{Arg, Geometry, TensorMap, WORDS};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The arguments of a kernel, in the order of its declaration.
#[derive(Debug, Default)]
pub struct Args(pub Vec<Arg>);

impl Args {
    fn and(mut self, arg: Arg) -> Args {
        self.0.push(arg);
        self
    }

    /// A pointer; 0 is null.
    pub fn address(self, address: u64) -> Args {
        self.and(Arg::Address(address))
    }

    /// Pointers, one after the other.
    pub fn addresses<const N: usize>(mut self, addresses: [u64; N]) -> Args {
        self.0.extend(addresses.map(Arg::Address));
        self
    }

    /// An `int`. What may exceed 2^31 is passed as [`Args::long`].
    pub fn int(self, n: usize) -> Args {
        debug_assert!(i32::try_from(n).is_ok(), "{n} is passed as an int");
        self.and(Arg::I32(n as i32))
    }

    /// An `int64_t`.
    pub fn long(self, n: usize) -> Args {
        self.and(Arg::I64(n as i64))
    }

    /// A `float`.
    pub fn float(self, x: f64) -> Args {
        self.and(Arg::F32(x as f32))
    }

    /// A `TensorMap`.
    pub fn map(self, map: TensorMap) -> Args {
        self.and(Arg::Map(map))
    }

    /// A structure by value, as words of 8 bytes.
    pub fn words(self, words: &[u64]) -> Args {
        let mut all = [0; WORDS];
        all[..words.len()].copy_from_slice(words);
        self.and(Arg::Struct(all, words.len() as u32))
    }
}

/// Two 32-bit fields of a struct that share a word, the first in the lower half.
pub fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A bf16 matrix inside a piece of memory, row-major.
#[derive(Debug)]
pub struct Operand<'a, M> {
    /// Where it lies.
    pub memory: &'a M,
    /// Its first value.
    pub first: usize,
    /// Values from row to row.
    pub ld: usize,
    /// Whether its transpose is meant.
    pub transposed: bool,
}

/// A row-major matrix of rows `ld` apart.
pub fn matrix<M>(memory: &M, first: usize, ld: usize) -> Operand<'_, M> {
    Operand { memory, first, ld, transposed: false }
}

/// The transpose of one.
pub fn transpose<M>(memory: &M, first: usize, ld: usize) -> Operand<'_, M> {
    Operand { memory, first, ld, transposed: true }
}

/// What a product is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Out {
    /// Activations.
    Bf16,
    /// Logits and gradients of weights.
    F32,
}

/// `c = alpha a b + bias`, or `c += alpha a b`; `a [m, k]`, `b [k, n]`, `c [m, n]`, sums in f32.
#[derive(Debug)]
pub struct Product<'a, M> {
    /// m, n, k.
    pub shape: (usize, usize, usize),
    /// Left.
    pub a: Operand<'a, M>,
    /// Right.
    pub b: Operand<'a, M>,
    /// Scale of the product.
    pub alpha: f64,
    /// Whether it is added to what is there.
    pub accumulate: bool,
    /// A bf16 value for each column, added before rounding.
    pub bias: Option<&'a M>,
    /// The format of `c`.
    pub out: Out,
    /// The first value of `c`.
    pub first: usize,
    /// Values from row to row of `c`.
    pub ld: usize,
}

impl<'a, M> Product<'a, M> {
    /// `c = a b` in bf16, its rows end to end.
    pub fn new(shape: (usize, usize, usize), a: Operand<'a, M>, b: Operand<'a, M>) -> Product<'a, M> {
        Product { shape, a, b, alpha: 1.0, accumulate: false, bias: None, out: Out::Bf16, first: 0, ld: shape.1 }
    }

    /// With a scale.
    pub fn times(self, alpha: f64) -> Product<'a, M> {
        Product { alpha, ..self }
    }

    /// In f32.
    pub fn wide(self) -> Product<'a, M> {
        Product { out: Out::F32, ..self }
    }

    /// Added to what is there.
    pub fn added(self) -> Product<'a, M> {
        Product { accumulate: true, ..self }
    }

    /// With its first value at `first` and its rows `ld` apart.
    pub fn at(self, first: usize, ld: usize) -> Product<'a, M> {
        Product { first, ld, ..self }
    }

    /// With a value added to each column.
    pub fn plus(self, bias: Option<&'a M>) -> Product<'a, M> {
        Product { bias, ..self }
    }
}

/// A device, or the emulation of one. Work is done in the order in which it is asked for; `download` waits for it.
pub trait Device {
    /// A piece of its memory, given back when dropped.
    type Memory;

    /// `bytes` zeros, aligned to 256 bytes.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;
    /// What kernels know it by.
    fn address(memory: &Self::Memory) -> u64;
    /// Whether it has the instructions of sm_90a (kernels/sm90.cuh), and kernels that use them.
    fn hopper(&self) -> bool;
    /// Describes a bf16 matrix `[rows, columns]` to TMA, in boxes of 64 rows and 64 columns, swizzled by 128 bytes.
    fn tensor_map(&self, memory: &Self::Memory, shape: [usize; 2]) -> Result<TensorMap>;
    /// Host to device.
    fn upload(&self, to: &mut Self::Memory, bytes: &[u8]) -> Result;
    /// Device to host.
    fn download(&self, from: &Self::Memory, bytes: &mut [u8]) -> Result;
    /// Sets the first bytes to zero.
    fn clear(&self, memory: &mut Self::Memory, bytes: usize) -> Result;
    /// Starts a kernel. Its arguments must be those of the kernel's declaration, and what they point to long enough.
    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result;
    /// A product of matrices.
    fn product(&self, product: Product<Self::Memory>, c: &mut Self::Memory) -> Result;
}
