//! Gradient clipping and AdamW: a launch each over all tensors.

use super::backend::{Buffer, Cuda};
use super::device::{Args, Device};
use crate::backend::{AdamW, Backend, S, Update};
use crate::error::Result;

/// Values of a block, and of a partial sum of the norm: the order of the sum follows from this and the lengths alone.
const PART: usize = 1 << 14;
const THREADS: u32 = 256;

/// A tensor as the kernels know it: `Tensor` of kernels/optim.cu.
type Row = [u64; 8];

/// What the optimiser keeps on the device from step to step.
pub(super) struct Optimiser<D: Device> {
    norm: Table<D>,
    update: Table<D>,
    /// Partial sums of the gradient's norm.
    partials: Option<Buffer<D, f64>>,
}

impl<D: Device> Default for Optimiser<D> {
    fn default() -> Self {
        Optimiser { norm: Table::default(), update: Table::default(), partials: None }
    }
}

/// The tensors of a launch, on the device. Parameters stay where they are, so that it is written once in a run.
struct Table<D: Device> {
    rows: Vec<Row>,
    memory: Option<D::Memory>,
}

impl<D: Device> Default for Table<D> {
    fn default() -> Self {
        Table { rows: Vec::new(), memory: None }
    }
}

impl<D: Device> Table<D> {
    /// Where `rows` lie on the device. They are compared by value, so an address that another tensor took over is no
    /// danger.
    fn place(&mut self, device: &D, rows: Vec<Row>) -> Result<u64> {
        if let Some(memory) = &self.memory
            && self.rows == rows
        {
            return Ok(D::address(memory));
        }
        let mut memory = device.alloc(size_of_val(rows.as_slice()))?;
        device.upload(&mut memory, bytemuck::cast_slice(&rows))?;
        self.rows = rows;
        Ok(D::address(self.memory.insert(memory)))
    }
}

/// Hands out blocks to one tensor after the other.
#[derive(Default)]
struct Blocks(usize);

impl Blocks {
    /// The first block of a tensor of `len` values.
    fn take(&mut self, len: usize) -> u64 {
        let first = self.0 as u64;
        self.0 += len.div_ceil(PART);
        first
    }
}

impl<D: Device> Cuda<D> {
    pub(super) fn clip_factor(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result {
        let mut blocks = Blocks::default();
        let row = |(grad, len): &(&S<Self>, usize)| [0, 0, grad.address(), 0, 0, *len as u64, blocks.take(*len), 0];
        let rows: Vec<Row> = grads.iter().map(row).collect();
        let mut optimiser = self.optimiser.borrow_mut();
        let table = optimiser.norm.place(&self.device, rows)?;
        let partials = match &mut optimiser.partials {
            Some(partials) if partials.len >= blocks.0 => partials,
            other => other.insert(self.alloc(blocks.0)?),
        };
        let args = Args::default().address(table).int(grads.len()).int(PART).address(partials.address());
        self.blocks("square_sum", [blocks.0, 1], THREADS, THREADS * 8, args)?;
        let args = Args::default().address(partials.address()).int(blocks.0).address(scalars.address());
        self.blocks("clip_factor", [1, 1], THREADS, THREADS * 8, args)
    }

    pub(super) fn update(&self, k: AdamW, scalars: &S<Self>, updates: &[Update<Self>]) -> Result {
        let mut blocks = Blocks::default();
        // a backend with masters gives one to every trained parameter
        let row = |u: &Update<Self>| {
            let master = u.master.as_ref()?.address();
            let first = blocks.take(u.len);
            let (weight, grad) = (u.weight.address(), u.grad.address());
            Some([weight, master, grad, u.m.address(), u.v.address(), u.len as u64, first, u.decay.into()])
        };
        let rows: Vec<Row> = updates.iter().filter_map(row).collect();
        let count = rows.len();
        let args = Args::default()
            .address(self.optimiser.borrow_mut().update.place(&self.device, rows)?)
            .int(count)
            .int(PART)
            .address(scalars.address())
            .float(k.beta1)
            .float(k.beta2)
            .float(k.eps)
            .float(k.weight_decay);
        self.blocks("adamw", [blocks.0, 1], THREADS, 0, args)
    }
}
