//! SwiGLU and the two GELUs.

use super::backend::Cuda;
use super::device::{Args, Device};
use crate::backend::enums::enumerator;
use crate::backend::{Act, ActOps, F, Rows};
use crate::error::Result;

/// The kernels' number of an activation.
fn number(kind: Act) -> usize {
    match kind {
        Act::SwiGlu => const { enumerator("SWIGLU") },
        Act::GeluTanh => const { enumerator("GELU_TANH") },
        Act::GeluErf => const { enumerator("GELU_ERF") },
    }
}

impl<D: Device> ActOps for Cuda<D> {
    fn act(&self, s: Rows, kind: Act, x: &F<Self>, y: &mut F<Self>) -> Result {
        let args = Args::default().addresses([x.address(), y.address()]).int(s.width).int(number(kind));
        self.per_row("act", s.n, s.width, args)
    }

    fn act_bwd(&self, s: Rows, kind: Act, x: &F<Self>, dy: &F<Self>, dx: &mut F<Self>) -> Result {
        let args = Args::default().addresses([x.address(), dy.address(), dx.address()]).int(s.width).int(number(kind));
        self.per_row("act_bwd", s.n, s.width, args)
    }
}
