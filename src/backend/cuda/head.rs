//! The LM head on active rows, and the objective between its two passes.

use super::backend::{Buffer, Cuda};
use super::device::{Args, Device, Out, Product};
use super::linear::{matrix, transpose};
use crate::backend::{F, Head, Ids, Objective, S, Weight};
use crate::error::Result;

/// Threads of a block that owns a row of logits.
const ROW: u32 = 512;

impl<D: Device> Cuda<D> {
    pub(super) fn logp(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Weight<Self>,
        labels: &Ids<Self>,
        logits: &mut Buffer<D, f32>,
        logp: &mut S<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        let product = Product {
            shape: (s.rows, s.vocab, s.width),
            a: matrix(&x.memory, s.first * s.width, s.width),
            b: transpose(&w.bf16().memory, 0, s.width),
            alpha: s.scale,
            accumulate: false,
            out: Out::F32,
            first: 0,
            ld: s.vocab,
        };
        self.device.product(product, &mut logits.memory)?;
        let args = Args::default()
            .address(logits.address())
            .address(labels.address())
            .address(logp.address())
            .address(lse.address())
            .int(s.vocab)
            .int(s.first);
        self.blocks("head_logp", [s.rows, 1], ROW, 32 * 4, args)
    }

    pub(super) fn logp_bwd(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Weight<Self>,
        labels: &Ids<Self>,
        logp: &S<Self>,
        lse: &S<Self>,
        coef: &S<Self>,
        logits: &mut Buffer<D, f32>,
        dx: &mut F<Self>,
        dw: Option<&mut S<Self>>,
    ) -> Result {
        let args = Args::default()
            .address(logits.address())
            .address(labels.address())
            .address(logp.address())
            .address(lse.address())
            .address(coef.address())
            .int(s.vocab)
            .int(s.first);
        self.blocks("head_dlogits", [s.rows, 1], ROW, 0, args)?;
        // bf16 gradients stand in the front half of each row of f32 logits
        let ld = 2 * s.vocab;
        let product = Product {
            shape: (s.rows, s.width, s.vocab),
            a: matrix(&logits.memory, 0, ld),
            b: matrix(&w.bf16().memory, 0, s.width),
            alpha: s.scale,
            accumulate: false,
            out: Out::Bf16,
            first: s.first * s.width,
            ld: s.width,
        };
        self.device.product(product, &mut dx.memory)?;
        let Some(dw) = dw else { return Ok(()) };
        let product = Product {
            shape: (s.vocab, s.width, s.rows),
            a: transpose(&logits.memory, 0, ld),
            b: matrix(&x.memory, s.first * s.width, s.width),
            alpha: s.scale,
            accumulate: true,
            out: Out::F32,
            first: 0,
            ld: s.width,
        };
        self.device.product(product, &mut dw.memory)
    }

    pub(super) fn coefficients(
        &self,
        s: Objective,
        row_start: &Ids<Self>,
        logp: &S<Self>,
        weight: &S<Self>,
        path: &Ids<Self>,
        ref_logp: &S<Self>,
        scalars: &S<Self>,
        coef: &mut S<Self>,
        tally: &mut S<Self>,
    ) -> Result {
        let args = Args::default()
            .address(row_start.address())
            .address(logp.address())
            .address(weight.address())
            .address(path.address())
            .address(ref_logp.address())
            .address(scalars.address())
            .address(coef.address())
            .address(tally.address())
            .int(s.first)
            .int(s.rows)
            .int(s.first_example)
            .int(s.examples)
            .float(s.gamma)
            .float(s.beta)
            .int(s.weighted_pairs.into());
        let threads = 256;
        self.blocks("objective", [1, 1], threads, threads * 8, args)
    }
}
