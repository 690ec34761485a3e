//! Dropout masks: the struct that kernels draw them by, and masked copies of rows.

use super::backend::Cuda;
use super::device::{Args, Device, halves};
use crate::backend::{Dropout, F, Rows};
use crate::error::Result;

impl<D: Device> Dropout<'_, Cuda<D>> {
    /// The kernels' struct of that name (kernels/dropout.cuh).
    pub(super) fn words(drop: Option<Self>) -> [u64; 5] {
        match drop {
            None => [0, 0, 0, 0, 1f32.to_bits().into()],
            Some(d) => {
                // p < 1, so that the threshold fits; u < p exactly where the word is below it
                let threshold = (f64::from(d.p) * (1u64 << 32) as f64).ceil() as u32;
                let scale = (1.0 / (1.0 - f64::from(d.p))) as f32;
                let (pos, example) = (d.tokens.pos.address(), d.tokens.example.address());
                [d.key.address(), pos, example, halves(threshold, d.module), scale.to_bits().into()]
            }
        }
    }
}

impl<D: Device> Cuda<D> {
    /// `y = mask * x`, or `y += mask * x`.
    pub(super) fn masked(&self, s: Rows, drop: Dropout<Self>, x: &F<Self>, y: &mut F<Self>, add: bool) -> Result {
        let args = Args::default()
            .address(x.address())
            .words(&Dropout::words(Some(drop)))
            .address(y.address())
            .int(s.width)
            .int(add.into());
        self.per_row("mask_rows", s.n, s.width, args)
    }
}
