//! The backend on CUDA: bf16 activations and working weights, f32 statistics, masters and gradients of weights.
//!
//! [`Cuda`] is written once over a [`Device`]. Each family of operations has a file of its own; this one has memory,
//! and the launches that they share.

use super::Geometry;
use super::device::{Args, Device};
use super::optim::Optimiser;
use crate::backend::*;
use crate::error::Result;
use half::bf16;
use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;

/// A CUDA device, or its emulation, as a backend.
pub struct Cuda<D: Device> {
    pub(super) device: D,
    /// Whether attention may use Hopper's instructions.
    pub(super) hopper: bool,
    /// Made at the first step and kept.
    pub(super) optimiser: RefCell<Optimiser<D>>,
    /// Values of a weight in 4 bits while an operation reads them; as long as the largest so far.
    pub(super) panel: RefCell<Option<Buffer<D, bf16>>>,
    /// What codes of 4 bits stand for.
    pub(super) levels: OnceCell<Buffer<D, f32>>,
}

/// `len` values in device memory.
pub struct Buffer<D: Device, T> {
    pub(super) memory: D::Memory,
    pub(super) len: usize,
    values: PhantomData<T>,
}

impl<D: Device, T> Buffer<D, T> {
    pub(super) fn address(&self) -> u64 {
        D::address(&self.memory)
    }
}

/// The address of an operand that may be left out.
pub(super) fn optional<D: Device, T>(buffer: Option<&Buffer<D, T>>) -> u64 {
    buffer.map_or(0, Buffer::address)
}

impl<D: Device> Cuda<D> {
    /// On this device.
    pub fn new(device: D) -> Cuda<D> {
        let hopper = device.hopper();
        Cuda { device, hopper, optimiser: RefCell::default(), panel: RefCell::default(), levels: OnceCell::new() }
    }

    /// Without kernels that are for one architecture only: those that serve all are used there, too.
    pub fn portable(self) -> Cuda<D> {
        Cuda { hopper: false, ..self }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// One block per row of `width` bf16 values, two packs of eight a thread, or more where that is less than the row.
    /// Shared memory holds the sums of the warps.
    pub(super) fn per_row(&self, kernel: &str, rows: usize, width: usize, args: Args) -> Result {
        let threads = width.div_ceil(16).next_multiple_of(32).clamp(32, 256) as u32;
        self.blocks(kernel, [rows, 1], threads, 32 * 4, args)
    }

    /// A block per 32 columns, 32 x 33 partial sums.
    pub(super) fn per_column(&self, kernel: &str, width: usize, args: Args) -> Result {
        self.blocks(kernel, [width.div_ceil(32), 1], 1024, 32 * 33 * 4, args)
    }

    /// A grid of blocks; nothing where it is empty.
    pub(super) fn blocks(&self, kernel: &str, grid: [usize; 2], threads: u32, shared: u32, args: Args) -> Result {
        if grid.contains(&0) {
            return Ok(());
        }
        let [x, y] = grid.map(|n| n as u32);
        self.device.launch(kernel, Geometry { grid: [x, y, 1], block: [threads, 1, 1], shared }, args)
    }
}

impl<D: Device> Memory for Cuda<D> {
    type Float = bf16;
    type Stat = f32;
    type Logit = f32;
    type Buf<T: Elem> = Buffer<D, T>;

    const MASTER: bool = true;
    const LOGIT_BYTES: usize = 512 << 20;

    fn alloc<T: Elem>(&self, n: usize) -> Result<Buffer<D, T>> {
        Ok(Buffer { memory: self.device.alloc(n * size_of::<T>())?, len: n, values: PhantomData })
    }

    fn write<T: Elem>(&self, dst: &mut Buffer<D, T>, host: &[T]) -> Result {
        assert!(host.len() <= dst.len, "a write of {} exceeds a buffer of {}", host.len(), dst.len);
        self.device.upload(&mut dst.memory, bytemuck::cast_slice(host))
    }

    fn read<T: Elem>(&self, src: &Buffer<D, T>, host: &mut [T]) -> Result {
        assert!(host.len() <= src.len, "a read of {} exceeds a buffer of {}", host.len(), src.len);
        self.device.download(&src.memory, bytemuck::cast_slice_mut(host))
    }

    fn zero<T: Elem>(&self, buf: &mut Buffer<D, T>, n: usize) -> Result {
        assert!(n <= buf.len, "{n} zeros exceed a buffer of {}", buf.len);
        self.device.clear(&mut buf.memory, n * size_of::<T>())
    }
}

impl<D: Device> Backend for Cuda<D> {}
