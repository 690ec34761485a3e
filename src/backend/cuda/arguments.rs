//! What a launch passes to a kernel.

use std::ffi::c_void;

/// The shape of a launch, in blocks and threads, and the dynamic shared memory of a block in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes.
    pub shared: u32,
}

impl Geometry {
    /// `blocks` in a row of `threads` in a row.
    pub fn line(blocks: u32, threads: u32, shared: u32) -> Geometry {
        Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared }
    }
}

/// A matrix as TMA is told of it; opaque.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct TensorMap(pub(crate) [u64; 16]);

/// One argument of a kernel, by value. Drivers take a pointer to each ([`Arg::pointer`]) and no types, so a wrong order
/// goes unnoticed there; the emulator compares kind and size with the kernel's parameters.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A device address.
    Address(u64),
    /// `int`.
    I32(i32),
    /// `uint32_t`.
    U32(u32),
    /// `int64_t`.
    I64(i64),
    /// `uint64_t`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// `TensorMap`.
    Map(TensorMap),
    /// A structure of so many words of 8 bytes.
    Struct([u64; WORDS], u32),
}

/// The most words of a structure that is passed by value.
pub const WORDS: usize = 5;

impl Arg {
    /// Where the value lies, as `cuLaunchKernel` takes it. The callee only reads.
    pub fn pointer(&self) -> *mut c_void {
        match self {
            Arg::Address(x) | Arg::U64(x) => (&raw const *x).cast_mut().cast(),
            Arg::I32(x) => (&raw const *x).cast_mut().cast(),
            Arg::U32(x) => (&raw const *x).cast_mut().cast(),
            Arg::I64(x) => (&raw const *x).cast_mut().cast(),
            Arg::F32(x) => (&raw const *x).cast_mut().cast(),
            Arg::Map(x) => (&raw const *x).cast_mut().cast(),
            Arg::Struct(x, _) => (&raw const *x).cast_mut().cast(),
        }
    }

    /// Kind (`p` pointer, `i` integer, `f` floating point, `s` structure) and size in bytes.
    pub fn kind(&self) -> (u8, u32) {
        match self {
            Arg::Address(_) => (b'p', 8),
            Arg::I32(_) | Arg::U32(_) => (b'i', 4),
            Arg::I64(_) | Arg::U64(_) => (b'i', 8),
            Arg::F32(_) => (b'f', 4),
            Arg::Map(_) => (b's', 128),
            Arg::Struct(_, words) => (b's', 8 * words),
        }
    }
}
