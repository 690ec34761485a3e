//! Projections and the low-rank adapters beside them.

use super::gemm::{Mat, gemm};
use super::real::Real;
use super::{Cpu, Dropout, Gemm, LinearOps, Lora, Rows, Stored};
use crate::error::Result;

impl<R: Real> LinearOps for Cpu<R> {
    fn linear(&self, s: Gemm, x: &Vec<R>, w: &Stored<Self>, bias: Option<&Vec<R>>, y: &mut Vec<R>) -> Result {
        self.times_weight(s, x, w, y);
        if let Some(bias) = bias {
            let alpha = R::of(s.alpha);
            self.blocks(&mut y[..s.rows * s.out], s.out, |_, rows| {
                for row in rows.chunks_exact_mut(s.out) {
                    row.iter_mut().zip(bias).for_each(|(out, &b)| *out += alpha * b);
                }
            });
        }
        Ok(())
    }

    fn linear_bwd(
        &self, s: Gemm, x: &Vec<R>, w: &Stored<Self>, dy: &Vec<R>, dx: Option<&mut Vec<R>>, dw: Option<&mut Vec<R>>,
        d_bias: Option<&mut Vec<R>>,
    ) -> Result {
        if let Some(dx) = dx {
            self.times_weight_bwd(s, dy, w, dx);
        }
        if let Some(dw) = dw {
            let (dyt, x) = (Mat::rows(dy, s.out).t(), Mat::rows(x, s.inp));
            self.run(|| gemm((s.out, s.inp, s.rows), dyt, x, dw, s.inp, s.alpha, true, self.mode()));
        }
        if let Some(d_bias) = d_bias {
            let alpha = R::of(s.alpha);
            self.column_sums(&mut d_bias[..s.out], s.rows, |t, c, sums| {
                sums.iter_mut().zip(&dy[t * s.out + c..]).for_each(|(sum, &dy)| *sum += alpha * dy);
            });
        }
        Ok(())
    }

    fn lora(
        &self, s: Lora, x: &Vec<R>, a: &Vec<R>, b: &Vec<R>, drop: Option<Dropout<Self>>, scratch: &mut Vec<R>,
        low: &mut Vec<R>, y: &mut Vec<R>,
    ) -> Result {
        let x = self.dropped(s, x, drop, scratch);
        self.run(|| {
            let (x, at) = (Mat::rows(x, s.inp), Mat::rows(a, s.inp).t());
            gemm((s.rows, s.rank, s.inp), x, at, low, s.rank, 1.0, false, self.mode());
            let (low, bt) = (Mat::rows(low, s.rank), Mat::rows(b, s.rank).t());
            gemm((s.rows, s.out, s.rank), low, bt, &mut y[s.col..], s.stride, s.scale, true, self.mode());
        });
        Ok(())
    }

    fn lora_bwd(
        &self, s: Lora, x: &Vec<R>, a: &Vec<R>, b: &Vec<R>, drop: Option<Dropout<Self>>, low: &Vec<R>, dy: &Vec<R>,
        scratch: &mut Vec<R>, d_low: &mut Vec<R>, dx: Option<&mut Vec<R>>, da: &mut Vec<R>, db: &mut Vec<R>,
    ) -> Result {
        let dy = &dy[s.col..];
        self.run(|| {
            let (dyt, low) = (Mat::rows(dy, s.stride).t(), Mat::rows(low, s.rank));
            gemm((s.out, s.rank, s.rows), dyt, low, db, s.rank, s.scale, true, self.mode());
            let (dy, b) = (Mat::rows(dy, s.stride), Mat::rows(b, s.rank));
            gemm((s.rows, s.rank, s.out), dy, b, d_low, s.rank, s.scale, false, self.mode());
        });
        let x = self.dropped(s, x, drop, scratch);
        self.run(|| {
            let (dlt, x) = (Mat::rows(d_low, s.rank).t(), Mat::rows(x, s.inp));
            gemm((s.rank, s.inp, s.rows), dlt, x, da, s.inp, 1.0, true, self.mode());
        });
        let Some(dx) = dx else { return Ok(()) };
        let (dl, a) = (Mat::rows(d_low, s.rank), Mat::rows(a, s.inp));
        match drop {
            None => self.run(|| gemm((s.rows, s.inp, s.rank), dl, a, dx, s.inp, 1.0, true, self.mode())),
            Some(drop) => {
                self.run(|| gemm((s.rows, s.inp, s.rank), dl, a, scratch, s.inp, 1.0, false, self.mode()));
                let size = s.rows * s.inp;
                self.blocks2((&mut dx[..size], s.inp), (&mut scratch[..size], s.inp), |first, dx, masked| {
                    drop.rows(first, s.inp, masked);
                    dx.iter_mut().zip(masked).for_each(|(dx, &mut d)| *dx += d);
                });
            }
        }
        Ok(())
    }
}

impl<R: Real> Cpu<R> {
    /// The adapter's input: `x` itself, or its masked copy in `scratch`.
    fn dropped<'a>(&self, s: Lora, x: &'a [R], drop: Option<Dropout<Self>>, scratch: &'a mut [R]) -> &'a [R] {
        match drop {
            None => x,
            Some(drop) => {
                self.masked(Rows { n: s.rows, width: s.inp }, drop, x, scratch);
                scratch
            }
        }
    }
}
