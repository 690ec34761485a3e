//! Gradient clipping and AdamW: a launch each over all tensors, and one more over those with moments in 8 bits.

use super::backend::{Buffer, Cuda};
use super::device::{Args, Device, halves};
use crate::backend::moments::Moments;
use crate::backend::{AdamW, Ids, Memory, OptimOps, S, Update};
use crate::error::Result;

/// Values of a block, and of a partial sum of the norm: the order of the sum follows from this and the lengths alone.
const PART: usize = 1 << 14;
const THREADS: u32 = 256;

/// A tensor as the kernels know it: `Tensor` of kernels/optim.cu, and what comes after it in `Coded`.
type Row = [u64; 8];
type CodedRow = [u64; 11];

/// What the optimiser keeps on the device from step to step.
pub(super) struct Optimiser<D: Device> {
    norm: Table<D>,
    update: Table<D>,
    coded: Table<D>,
    /// Partial sums of the gradient's norm.
    partials: Option<Buffer<D, f64>>,
}

impl<D: Device> Default for Optimiser<D> {
    fn default() -> Self {
        Optimiser { norm: Table::default(), update: Table::default(), coded: Table::default(), partials: None }
    }
}

/// The tensors of a launch, on the device. Parameters stay where they are, so that it is written once in a run.
struct Table<D: Device> {
    words: Vec<u64>,
    memory: Option<D::Memory>,
}

impl<D: Device> Default for Table<D> {
    fn default() -> Self {
        Table { words: Vec::new(), memory: None }
    }
}

impl<D: Device> Table<D> {
    /// Where `rows` lie on the device. They are compared by value, so an address that another tensor took over is no
    /// danger.
    fn place<const N: usize>(&mut self, device: &D, rows: &[[u64; N]]) -> Result<u64> {
        if let Some(memory) = &self.memory
            && self.words == rows.as_flattened()
        {
            return Ok(D::address(memory));
        }
        let mut memory = device.alloc(size_of_val(rows))?;
        device.upload(&mut memory, bytemuck::cast_slice(rows.as_flattened()))?;
        self.words = rows.as_flattened().to_vec();
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

impl<D: Device> OptimOps for Cuda<D> {
    fn clip(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result {
        let mut blocks = Blocks::default();
        let row = |(grad, len): &(&S<Self>, usize)| [0, 0, grad.address(), 0, 0, *len as u64, blocks.take(*len), 0];
        let rows: Vec<Row> = grads.iter().map(row).collect();
        let mut optimiser = self.optimiser.borrow_mut();
        let table = optimiser.norm.place(&self.device, &rows)?;
        let partials = match &mut optimiser.partials {
            Some(partials) if partials.len >= blocks.0 => partials,
            other => other.insert(self.alloc(blocks.0)?),
        };
        let args = Args::default().address(table).int(grads.len()).int(PART).address(partials.address());
        self.blocks("square_sum", [blocks.0, 1], THREADS, THREADS * 8, args)?;
        let args = Args::default().address(partials.address()).int(blocks.0).address(scalars.address());
        self.blocks("clip_factor", [1, 1], THREADS, THREADS * 8, args)
    }

    fn adamw(&self, k: AdamW, key: &Ids<Self>, scalars: &S<Self>, updates: &mut [Update<Self>]) -> Result {
        let (mut full, mut coded): (Vec<Row>, Vec<CodedRow>) = Default::default();
        let (mut blocks, mut blocks_coded) = (Blocks::default(), Blocks::default());
        for (number, u) in updates.iter().enumerate() {
            // a backend with masters gives one to every trained parameter
            let Some(master) = u.master.as_ref().map(|master| master.address()) else { continue };
            let (weight, grad, len, decays) = (u.weight.address(), u.grad.address(), u.len as u64, u.decay.into());
            match &*u.moments {
                Moments::Full { m, v } => {
                    let first = blocks.take(u.len);
                    full.push([weight, master, grad, m.address(), v.address(), len, first, decays]);
                }
                Moments::Coded { m, root } => {
                    let first = blocks_coded.take(u.len);
                    let [m_codes, root_codes] = [m, root].map(|part| part.codes.address());
                    let [m_most, root_most] = [m, root].map(|part| part.absmax.address());
                    let number = number as u64;
                    coded.push([
                        weight, master, grad, m_codes, root_codes, len, first, decays, m_most, root_most, number,
                    ]);
                }
            }
        }
        let mut optimiser = self.optimiser.borrow_mut();
        let step = |table: u64, count: usize| {
            let args = Args::default().address(table).int(count).int(PART).address(scalars.address());
            let adam = [(k.beta1, 1.0 - k.beta1), (k.beta2, 1.0 - k.beta2), (k.eps, k.weight_decay)];
            args.words(&adam.map(|(low, high)| halves((low as f32).to_bits(), (high as f32).to_bits())))
        };
        if !full.is_empty() {
            let args = step(optimiser.update.place(&self.device, &full)?, full.len());
            self.blocks("adamw", [blocks.0, 1], THREADS, 0, args)?;
        }
        if !coded.is_empty() {
            let args = step(optimiser.coded.place(&self.device, &coded)?, coded.len()).address(key.address());
            self.blocks("adamw_8bit", [blocks_coded.0, 1], THREADS, 0, args)?;
        }
        Ok(())
    }
}
