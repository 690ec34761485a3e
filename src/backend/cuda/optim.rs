//! Launches of gradient clipping and AdamW.

use super::backend::{Buffer, Cuda};
use super::device::{Args, Device};
use crate::backend::{AdamW, Backend, S, Update};
use crate::error::Result;

/// Values per partial sum of the norm: the order of the sum follows from this and the lengths alone.
const PART: usize = 1 << 14;
const THREADS: u32 = 256;

impl<D: Device> Cuda<D> {
    pub(super) fn clip_factor(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result {
        let count: usize = grads.iter().map(|(_, len)| len.div_ceil(PART)).sum();
        let mut kept = self.partials.borrow_mut();
        let partials: &mut Buffer<D, f64> = match &mut *kept {
            Some(partials) if partials.len >= count => partials,
            other => other.insert(self.alloc(count)?),
        };
        let mut first = 0;
        for (grad, len) in grads {
            let parts = len.div_ceil(PART);
            let partial = partials.address() + (first * size_of::<f64>()) as u64;
            let args = Args::default().address(grad.address()).long(*len).int(PART).address(partial);
            self.blocks("square_sum", [parts, 1], THREADS, THREADS * 8, args)?;
            first += parts;
        }
        let args = Args::default().address(partials.address()).int(count).address(scalars.address());
        self.blocks("clip_factor", [1, 1], THREADS, THREADS * 8, args)
    }

    pub(super) fn update(&self, k: AdamW, scalars: &S<Self>, u: &mut Update<Self>) -> Result {
        // a backend with masters gives one to every trained parameter
        let Some(master) = &u.master else { return Ok(()) };
        let args = Args::default()
            .address(u.weight.address())
            .address(master.address())
            .address(u.grad.address())
            .address(u.m.address())
            .address(u.v.address())
            .long(u.len)
            .address(scalars.address())
            .float(k.beta1)
            .float(k.beta2)
            .float(k.eps)
            .float(if u.decay { k.weight_decay } else { 0.0 });
        self.blocks("adamw", [u.len.div_ceil(THREADS as usize), 1], THREADS, 0, args)
    }
}
