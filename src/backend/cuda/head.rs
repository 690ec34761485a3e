//! The LM head on active rows.

use super::backend::{Buffer, Cuda, optional};
use super::device::{Args, Device, Product, matrix, transpose};
use crate::backend::{F, Head, HeadOps, Ids, Memory, Rows, S, Stored};
use crate::error::Result;

/// Threads of a block that owns a row of logits.
const ROW: u32 = 512;

impl<D: Device> HeadOps for Cuda<D> {
    fn gather(&self, s: Rows, rows: &Ids<Self>, x: &F<Self>, y: &mut F<Self>) -> Result {
        let args = Args::default().addresses([rows.address(), x.address(), y.address()]).int(s.width);
        self.per_row("gather", s.n, s.width, args)
    }

    fn gather_bwd(
        &self, s: Rows, rows: &Ids<Self>, total: usize, coef: Option<&S<Self>>, dy: &F<Self>, dx: &mut F<Self>,
    ) -> Result {
        self.zero(dx, total * s.width)?;
        let args = Args::default().addresses([rows.address(), optional(coef), dy.address(), dx.address()]).int(s.width);
        self.per_row("scatter", s.n, s.width, args)
    }

    fn head_logp(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logits: &mut Buffer<D, f32>,
        logp: &mut S<Self>, lse: &mut S<Self>,
    ) -> Result {
        self.logits(s, x, w, logits)?;
        self.rows_of_logits("head_logp", s, labels, logits, logp, lse)
    }

    fn head_unit(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logits: &mut Buffer<D, f32>,
        logp: &mut S<Self>, lse: &mut S<Self>, dx: &mut F<Self>,
    ) -> Result {
        self.logits(s, x, w, logits)?;
        self.rows_of_logits("head_unit", s, labels, logits, logp, lse)?;
        self.through(s, w, logits, dx)
    }

    fn head_bwd(
        &self, s: Head, x: &F<Self>, w: &Stored<Self>, labels: &Ids<Self>, logp: &S<Self>, lse: &S<Self>,
        coef: &S<Self>, logits: &mut Buffer<D, f32>, dx: &mut F<Self>, dw: Option<&mut S<Self>>,
    ) -> Result {
        let args = Args::default()
            .addresses([logits.address(), labels.address(), logp.address(), lse.address(), coef.address()])
            .int(s.vocab)
            .int(s.first);
        self.blocks("head_dlogits", [s.rows, 1], ROW, 0, args)?;
        self.through(s, w, logits, dx)?;
        let Some(dw) = dw else { return Ok(()) };
        let (d, x) = (transpose(&logits.memory, 0, 2 * s.vocab), matrix(&x.memory, s.first * s.width, s.width));
        let product = Product::new((s.vocab, s.width, s.rows), d, x).times(s.scale).wide().added();
        self.device.product(product, &mut dw.memory)
    }
}

impl<D: Device> Cuda<D> {
    /// `logits = scale x Wᵀ` of the chunk.
    fn logits(&self, s: Head, x: &F<Self>, w: &Stored<Self>, logits: &mut Buffer<D, f32>) -> Result {
        self.with_bf16(w, |w| {
            let (x, w) = (matrix(&x.memory, s.first * s.width, s.width), transpose(&w.memory, 0, s.width));
            let product = Product::new((s.rows, s.vocab, s.width), x, w).times(s.scale).wide();
            self.device.product(product, &mut logits.memory)
        })
    }

    /// `dx = scale d W` of the chunk, from the bf16 gradients in the front half of each row of f32 logits.
    fn through(&self, s: Head, w: &Stored<Self>, logits: &Buffer<D, f32>, dx: &mut F<Self>) -> Result {
        self.with_bf16(w, |w| {
            let (d, w) = (matrix(&logits.memory, 0, 2 * s.vocab), matrix(&w.memory, 0, s.width));
            let product = Product::new((s.rows, s.width, s.vocab), d, w).times(s.scale).at(s.first * s.width, s.width);
            self.device.product(product, &mut dx.memory)
        })
    }

    /// `head_logp` or `head_unit`: a block per row of logits.
    fn rows_of_logits(
        &self, kernel: &str, s: Head, labels: &Ids<Self>, logits: &mut Buffer<D, f32>, logp: &mut S<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        let args = Args::default()
            .addresses([logits.address(), labels.address(), logp.address(), lse.address()])
            .int(s.vocab)
            .int(s.first);
        self.blocks(kernel, [s.rows, 1], ROW, 32 * 4, args)
    }
}
