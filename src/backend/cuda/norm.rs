//! RMSNorm and LayerNorm, with the residual sum in front.

use super::backend::{Cuda, optional};
use super::device::{Args, Device};
use crate::backend::{Affine, Dropout, F, Norm, NormOps, Rows, S};
use crate::error::Result;

/// Whether means are taken off, and what is added to the variance.
fn layer(kind: Norm) -> (usize, f64) {
    match kind {
        Norm::Rms { eps } => (0, eps),
        Norm::Layer { eps } => (1, eps),
    }
}

impl<D: Device> NormOps for Cuda<D> {
    fn norm(
        &self, s: Rows, kind: Norm, x: &F<Self>, affine: Affine<Self>, y: &mut F<Self>, stat: &mut S<Self>,
    ) -> Result {
        let (layer, eps) = layer(kind);
        let args = Args::default()
            .addresses([x.address(), affine.gain.address(), optional(affine.bias), y.address(), stat.address()])
            .int(s.width)
            .float(eps)
            .int(layer);
        self.per_row("row_norm", s.n, s.width, args)
    }

    fn add_norm(
        &self, s: Rows, kind: Norm, skip: &F<Self>, branch: &F<Self>, drop: Option<Dropout<Self>>, sum: &mut F<Self>,
        affine: Affine<Self>, y: &mut F<Self>, stat: &mut S<Self>,
    ) -> Result {
        let (layer, eps) = layer(kind);
        let args = Args::default()
            .addresses([skip.address(), branch.address()])
            .words(&Dropout::words(drop))
            .addresses([sum.address(), affine.gain.address(), optional(affine.bias), y.address(), stat.address()])
            .int(s.width)
            .float(eps)
            .int(layer);
        self.per_row("row_add_norm", s.n, s.width, args)
    }

    fn norm_bwd(
        &self, s: Rows, kind: Norm, x: &F<Self>, gain: &F<Self>, stat: &S<Self>, dy: &F<Self>,
        d_skip: Option<&F<Self>>, dx: &mut F<Self>, d_gain: Option<&mut S<Self>>, d_bias: Option<&mut S<Self>>,
    ) -> Result {
        let args = Args::default()
            .addresses([x.address(), gain.address(), stat.address(), dy.address(), optional(d_skip), dx.address()])
            .int(s.width)
            .int(layer(kind).0);
        self.per_row("row_norm_bwd", s.n, s.width, args)?;
        if let Some(d) = d_gain {
            let args = Args::default()
                .addresses([dy.address(), x.address(), stat.address(), d.address()])
                .int(s.n)
                .int(s.width);
            self.per_column("gain_sum", s.width, args)?;
        }
        match d_bias {
            Some(d) => self.column_sum(s, dy, 1.0, d),
            None => Ok(()),
        }
    }

    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &F<Self>, d_branch: &mut F<Self>) -> Result {
        self.masked(s, drop, d_sum, d_branch, false)
    }
}

impl<D: Device> Cuda<D> {
    /// `out[c] += alpha sum_t dy[t, c]`.
    pub(super) fn column_sum(&self, s: Rows, dy: &F<Self>, alpha: f64, out: &mut S<Self>) -> Result {
        let args = Args::default()
            .address(dy.address())
            .float(alpha)
            .address(out.address())
            .int(s.n)
            .int(s.width)
            .int(s.width);
        self.per_column("column_sum", s.width, args)
    }
}
