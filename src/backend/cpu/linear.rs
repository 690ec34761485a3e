//! Projections and the low-rank adapters beside them.

use super::gemm::{Mat, gemm};
use super::real::Real;
use super::{Cpu, Dropout, Gemm, Lora, Rows, Stored};

impl<R: Real> Cpu<R> {
    pub(super) fn project(&self, s: Gemm, x: &[R], w: &Stored<Self>, bias: Option<&Vec<R>>, y: &mut [R]) {
        self.times_weight(s, x, w, y);
        if let Some(bias) = bias {
            let alpha = R::of(s.alpha);
            self.blocks(&mut y[..s.rows * s.out], s.out, |_, rows| {
                for row in rows.chunks_exact_mut(s.out) {
                    row.iter_mut().zip(bias).for_each(|(out, &b)| *out += alpha * b);
                }
            });
        }
    }

    pub(super) fn project_bwd(
        &self,
        s: Gemm,
        x: &[R],
        w: &Stored<Self>,
        dy: &[R],
        dx: Option<&mut Vec<R>>,
        dw: Option<&mut Vec<R>>,
        d_bias: Option<&mut Vec<R>>,
    ) {
        if let Some(dx) = dx {
            self.times_weight_bwd(s, dy, w, dx);
        }
        if let Some(dw) = dw {
            let (dyt, x) = (Mat::rows(dy, s.out).t(), Mat::rows(x, s.inp));
            self.run(|| gemm((s.out, s.inp, s.rows), dyt, x, dw, s.inp, s.alpha, true, self.threads));
        }
        if let Some(d_bias) = d_bias {
            let alpha = R::of(s.alpha);
            self.column_sums(&mut d_bias[..s.out], s.rows, |t, c, sums| {
                sums.iter_mut().zip(&dy[t * s.out + c..]).for_each(|(sum, &dy)| *sum += alpha * dy);
            });
        }
    }

    pub(super) fn adapt(
        &self,
        s: Lora,
        x: &[R],
        a: &[R],
        b: &[R],
        drop: Option<Dropout<Self>>,
        scratch: &mut [R],
        low: &mut [R],
        y: &mut [R],
    ) {
        let x = self.dropped(s, x, drop, scratch);
        self.run(|| {
            let (x, at) = (Mat::rows(x, s.inp), Mat::rows(a, s.inp).t());
            gemm((s.rows, s.rank, s.inp), x, at, low, s.rank, 1.0, false, self.threads);
            let (low, bt) = (Mat::rows(low, s.rank), Mat::rows(b, s.rank).t());
            gemm((s.rows, s.out, s.rank), low, bt, &mut y[s.col..], s.stride, s.scale, true, self.threads);
        });
    }

    pub(super) fn adapt_bwd(
        &self,
        s: Lora,
        x: &[R],
        a: &[R],
        b: &[R],
        drop: Option<Dropout<Self>>,
        low: &[R],
        dy: &[R],
        scratch: &mut [R],
        d_low: &mut [R],
        dx: Option<&mut Vec<R>>,
        da: &mut [R],
        db: &mut [R],
    ) {
        let dy = &dy[s.col..];
        self.run(|| {
            let (dyt, low) = (Mat::rows(dy, s.stride).t(), Mat::rows(low, s.rank));
            gemm((s.out, s.rank, s.rows), dyt, low, db, s.rank, s.scale, true, self.threads);
            let (dy, b) = (Mat::rows(dy, s.stride), Mat::rows(b, s.rank));
            gemm((s.rows, s.rank, s.out), dy, b, d_low, s.rank, s.scale, false, self.threads);
        });
        let x = self.dropped(s, x, drop, scratch);
        self.run(|| {
            let (dlt, x) = (Mat::rows(d_low, s.rank).t(), Mat::rows(x, s.inp));
            gemm((s.rank, s.inp, s.rows), dlt, x, da, s.inp, 1.0, true, self.threads);
        });
        let Some(dx) = dx else { return };
        let (dl, a) = (Mat::rows(d_low, s.rank), Mat::rows(a, s.inp));
        match drop {
            None => self.run(|| gemm((s.rows, s.inp, s.rank), dl, a, dx, s.inp, 1.0, true, self.threads)),
            Some(drop) => {
                self.run(|| gemm((s.rows, s.inp, s.rank), dl, a, scratch, s.inp, 1.0, false, self.threads));
                let size = s.rows * s.inp;
                self.blocks2((&mut dx[..size], s.inp), (&mut scratch[..size], s.inp), |first, dx, masked| {
                    drop.rows(first, s.inp, masked);
                    dx.iter_mut().zip(masked).for_each(|(dx, &mut d)| *dx += d);
                });
            }
        }
    }

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
