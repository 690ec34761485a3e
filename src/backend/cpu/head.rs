//! The LM head on active rows: log p of the labels, and its gradient in the place of the logits.

use super::gemm::{Mat, gemm};
use super::real::{Real, maximum};
use super::{Cpu, Gemm, Head, Weight};

impl<R: Real> Cpu<R> {
    pub(super) fn logp(
        &self,
        s: Head,
        x: &[R],
        w: &Weight<Self>,
        labels: &[u32],
        logits: &mut [R],
        logp: &mut [R],
        lse: &mut [R],
    ) {
        let x = &x[s.first * s.width..(s.first + s.rows) * s.width];
        self.times_weight(Gemm { rows: s.rows, inp: s.width, out: s.vocab, alpha: s.scale }, x, w, logits);
        let logits = &*logits;
        let (logp, lse) = (&mut logp[s.first..s.first + s.rows], &mut lse[s.first..s.first + s.rows]);
        self.blocks2((logp, 1), (lse, 1), |first, logp, lse| {
            for (r, (logp, lse)) in logp.iter_mut().zip(lse).enumerate() {
                let row = &logits[(first + r) * s.vocab..][..s.vocab];
                let max = maximum(row);
                *lse = max + row.iter().map(|&z| (z - max).exp()).sum::<R>().ln();
                *logp = row[labels[s.first + first + r] as usize] - *lse;
            }
        });
    }

    /// Without `coef` the gradient of each row's `-log p`.
    pub(super) fn logp_bwd(
        &self,
        s: Head,
        x: &[R],
        w: &Weight<Self>,
        labels: &[u32],
        logp: &[R],
        lse: &[R],
        coef: Option<&Vec<R>>,
        logits: &mut [R],
        dx: &mut [R],
        dw: Option<&mut Vec<R>>,
    ) {
        let logits = &mut logits[..s.rows * s.vocab];
        self.blocks(logits, s.vocab, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.vocab).enumerate() {
                let j = s.first + first + r;
                let coef = coef.map_or(R::of(1.0), |coef| coef[j]);
                for z in row.iter_mut() {
                    *z = coef * (*z - lse[j]).exp();
                }
                // p - 1 without cancellation: at p near 1 the difference would lose every digit
                row[labels[j] as usize] = coef * logp[j].exp_m1();
            }
        });
        let logits = &*logits;
        let rows = s.first * s.width..(s.first + s.rows) * s.width;
        let (x, dx) = (&x[rows.clone()], &mut dx[rows]);
        self.run(|| {
            self.panels(w, s.vocab, s.width, |first, n, w| {
                let (d, w) = (Mat::rows(&logits[first..], s.vocab), Mat::rows(w, s.width));
                gemm((s.rows, s.width, n), d, w, dx, s.width, s.scale, first > 0, self.threads);
            });
            if let Some(dw) = dw {
                let (dt, x) = (Mat::rows(logits, s.vocab).t(), Mat::rows(x, s.width));
                gemm((s.vocab, s.width, s.rows), dt, x, dw, s.width, s.scale, true, self.threads);
            }
        });
    }
}
