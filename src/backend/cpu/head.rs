//! The LM head on active rows: log p of the labels, and its gradient in the place of the logits.

use super::gemm::{Mat, gemm};
use super::real::Real;
use super::wide::{exp_of_row, exp_scaled, exp_sum, maximum, scaled};
use super::{Cpu, Gemm, Head, HeadOps, Rows, Stored};
use crate::error::Result;

impl<R: Real> HeadOps for Cpu<R> {
    fn gather(&self, s: Rows, rows: &Vec<u32>, x: &Vec<R>, y: &mut Vec<R>) -> Result {
        for (&row, out) in rows[..s.n].iter().zip(y.chunks_exact_mut(s.width)) {
            out.copy_from_slice(&x[row as usize * s.width..][..s.width]);
        }
        Ok(())
    }

    fn gather_bwd(
        &self, s: Rows, rows: &Vec<u32>, total: usize, coef: Option<&Vec<R>>, dy: &Vec<R>, dx: &mut Vec<R>,
    ) -> Result {
        dx[..total * s.width].fill(R::of(0.0));
        for (i, (&row, grad)) in rows[..s.n].iter().zip(dy.chunks_exact(s.width)).enumerate() {
            let factor = coef.map_or(R::of(1.0), |coef| coef[i]);
            let out = &mut dx[row as usize * s.width..][..s.width];
            out.iter_mut().zip(grad).for_each(|(out, &grad)| *out = factor * grad);
        }
        Ok(())
    }

    fn head_logp(
        &self, s: Head, x: &Vec<R>, w: &Stored<Self>, labels: &Vec<u32>, logits: &mut Vec<R>, logp: &mut Vec<R>,
        lse: &mut Vec<R>,
    ) -> Result {
        self.logits(s, x, w, logits);
        let logits = &*logits;
        let (logp, lse) = (&mut logp[s.first..s.first + s.rows], &mut lse[s.first..s.first + s.rows]);
        self.blocks2((logp, 1), (lse, 1), |first, logp, lse| {
            for (r, (logp, lse)) in logp.iter_mut().zip(lse).enumerate() {
                let row = &logits[(first + r) * s.vocab..][..s.vocab];
                let max = maximum(row);
                *lse = max + exp_sum(row, max).ln();
                *logp = row[labels[s.first + first + r] as usize] - *lse;
            }
        });
        Ok(())
    }

    /// With one exponential a logit.
    fn head_unit(
        &self, s: Head, x: &Vec<R>, w: &Stored<Self>, labels: &Vec<u32>, logits: &mut Vec<R>, logp: &mut Vec<R>,
        lse: &mut Vec<R>, dx: &mut Vec<R>,
    ) -> Result {
        self.logits(s, x, w, logits);
        let rows = s.first..s.first + s.rows;
        let (logp, labels) = (&mut logp[rows.clone()], &labels[rows.clone()]);
        for ((logp, &label), row) in logp.iter_mut().zip(labels).zip(logits.chunks_exact(s.vocab)) {
            *logp = row[label as usize];
        }
        let (lse, logits) = (&mut lse[rows], &mut logits[..s.rows * s.vocab]);
        self.blocks2((logits, s.vocab), (lse, 1), |_, rows, lse| {
            for (row, lse) in rows.chunks_exact_mut(s.vocab).zip(lse) {
                let (max, total) = exp_of_row(row);
                scaled(row, R::of(1.0) / total);
                *lse = max + total.ln();
            }
        });
        for (((logp, lse), &label), row) in logp.iter_mut().zip(lse).zip(labels).zip(logits.chunks_exact_mut(s.vocab)) {
            *logp -= *lse;
            row[label as usize] = minus_one(*logp);
        }
        self.input_gradient(s, logits, w, dx);
        Ok(())
    }

    fn head_bwd(
        &self, s: Head, x: &Vec<R>, w: &Stored<Self>, labels: &Vec<u32>, logp: &Vec<R>, lse: &Vec<R>, coef: &Vec<R>,
        logits: &mut Vec<R>, dx: &mut Vec<R>, dw: Option<&mut Vec<R>>,
    ) -> Result {
        let logits = &mut logits[..s.rows * s.vocab];
        self.blocks(logits, s.vocab, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.vocab).enumerate() {
                let j = s.first + first + r;
                exp_scaled(row, lse[j], coef[j]);
                row[labels[j] as usize] = coef[j] * minus_one(logp[j]);
            }
        });
        let logits = &*logits;
        if let Some(dw) = dw {
            let x = &x[s.first * s.width..(s.first + s.rows) * s.width];
            let (dt, x) = (Mat::rows(logits, s.vocab).t(), Mat::rows(x, s.width));
            self.run(|| gemm((s.vocab, s.width, s.rows), dt, x, dw, s.width, s.scale, true, self.mode()));
        }
        self.input_gradient(s, logits, w, dx);
        Ok(())
    }
}

impl<R: Real> Cpu<R> {
    /// `logits = scale x Wᵀ` for the chunk's rows.
    fn logits(&self, s: Head, x: &[R], w: &Stored<Self>, logits: &mut [R]) {
        let x = &x[s.first * s.width..(s.first + s.rows) * s.width];
        self.times_weight(Gemm { rows: s.rows, inp: s.width, out: s.vocab, alpha: s.scale }, x, w, logits);
    }

    /// `dx = scale d_logits W` for the chunk's rows.
    fn input_gradient(&self, s: Head, d_logits: &[R], w: &Stored<Self>, dx: &mut [R]) {
        let dx = &mut dx[s.first * s.width..(s.first + s.rows) * s.width];
        self.times_weight_bwd(Gemm { rows: s.rows, inp: s.width, out: s.vocab, alpha: s.scale }, d_logits, w, dx);
    }
}

/// p - 1 without cancellation: at p near 1 the difference would lose every digit.
fn minus_one<R: Real>(logp: R) -> R {
    logp.exp_m1()
}
