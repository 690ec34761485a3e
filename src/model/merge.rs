//! Adapters folded into the weights beside them.

use super::checkpoint::Values;
use super::decoder::{Decoder, Projection};
use super::params::Matrix;
use crate::backend::Backend;
use crate::error::Result;
use rayon::prelude::*;

impl<B: Backend> Decoder<B> {
    /// `W += scale B A` for every adapter, in f32 whatever the weight was stored as; then there are none. For a model
    /// whose base is frozen.
    pub fn merge(&mut self, b: &B) -> Result {
        let projections = self.layers.iter_mut().flat_map(|l| l.proj.iter_mut());
        projections.filter(|p| p.slices.iter().any(|s| s.adapter.is_some())).try_for_each(|p| merge(b, p))
    }
}

fn merge<B: Backend>(b: &B, p: &mut Projection<B>) -> Result {
    let (rows, cols) = (p.w.rows, p.w.cols);
    let mut w = p.w.values(b)?;
    for slice in &mut p.slices {
        let Some(adapter) = slice.adapter.take() else { continue };
        let (low, high, rank) = (adapter.a.values(b)?, adapter.b.values(b)?, adapter.rank);
        let slice = w[slice.col * cols..(slice.col + slice.out) * cols].par_chunks_exact_mut(cols);
        slice.zip(high.par_chunks_exact(rank)).for_each(|(w, high)| {
            // the sum first and the weight last, as PEFT does: small updates are not lost one by one
            let mut update = vec![0.0f32; cols];
            for (low, &coefficient) in low.chunks_exact(cols).zip(high) {
                update.iter_mut().zip(low).for_each(|(u, &a)| *u += coefficient * a);
            }
            w.iter_mut().zip(update).for_each(|(w, u)| *w += adapter.scale as f32 * u);
        });
    }
    p.w = Matrix::new(b, rows, cols, Values::F32(w), None)?;
    Ok(())
}
