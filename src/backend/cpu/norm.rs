//! RMSNorm and LayerNorm with the residual sum in front.
//!
//! With xhat = (x - mean) / dev and g = gain * dy:
//! dx = (g - mean(g) - xhat * mean(g * xhat)) / dev; RMSNorm is the same without the two means of x and g.

use super::real::Real;
use super::wide::{sum_of, sum_of_pairs, wide};
use super::{Affine, Cpu, Dropout, Norm, NormOps, Rows};
use crate::error::Result;

wide! {
    /// One row: `y = (x - mean) / dev * gain + bias`; gives mean and 1 / deviation.
    fn forward<R: Real>(kind: Norm, x: &[R], gain: &[R], bias: Option<&[R]>, y: &mut [R]) -> [R; 2] {
        let n = y.len();
        let (x, inv_width) = (&x[..n], R::of(1.0 / n as f64));
        let (mean, eps) = match kind {
            Norm::Rms { eps } => (R::of(0.0), eps),
            Norm::Layer { eps } => (sum_of(x, |x| x) * inv_width, eps),
        };
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) * inv_width;
        let inv_dev = R::of(1.0) / (variance + R::of(eps)).sqrt();
        for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
            *y = (x - mean) * inv_dev * gain;
        }
        if let Some(bias) = bias {
            y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
        }
        [mean, inv_dev]
    }

    /// One row: `dx` without what comes past the norm; `stat` is mean and 1 / deviation.
    fn backward<R: Real>(kind: Norm, x: &[R], gain: &[R], stat: &[R], dy: &[R], dx: &mut [R]) {
        let inv_width = R::of(1.0 / dx.len() as f64);
        let (mean, inv_dev) = (stat[0], stat[1]);
        for ((g, &gain), &dy) in dx.iter_mut().zip(gain).zip(dy) {
            *g = gain * dy;
        }
        let along = sum_of_pairs(dx, x, |g, x| g * ((x - mean) * inv_dev)) * inv_width;
        let level = match kind {
            Norm::Rms { .. } => R::of(0.0),
            Norm::Layer { .. } => sum_of(dx, |g| g) * inv_width,
        };
        for (g, &x) in dx.iter_mut().zip(x) {
            *g = (*g - level - (x - mean) * inv_dev * along) * inv_dev;
        }
    }
}

impl<R: Real> NormOps for Cpu<R> {
    fn norm(&self, s: Rows, kind: Norm, x: &Vec<R>, affine: Affine<Self>, y: &mut Vec<R>, stat: &mut Vec<R>) -> Result {
        let bias = affine.bias.map(|bias| &bias[..]);
        self.blocks2((&mut y[..s.n * s.width], s.width), (&mut stat[..s.n * 2], 2), |first, rows, stats| {
            let rows = rows.chunks_exact_mut(s.width).zip(x[first * s.width..].chunks_exact(s.width));
            for ((row, x), stat) in rows.zip(stats.chunks_exact_mut(2)) {
                stat.copy_from_slice(&forward(kind, x, affine.gain, bias, row));
            }
        });
        Ok(())
    }

    fn add_norm(
        &self, s: Rows, kind: Norm, skip: &Vec<R>, branch: &Vec<R>, drop: Option<Dropout<Self>>, sum: &mut Vec<R>,
        affine: Affine<Self>, y: &mut Vec<R>, stat: &mut Vec<R>,
    ) -> Result {
        self.blocks(&mut sum[..s.n * s.width], s.width, |first, rows| {
            rows.copy_from_slice(&branch[first * s.width..][..rows.len()]);
            if let Some(drop) = drop {
                drop.rows(first, s.width, rows);
            }
            rows.iter_mut().zip(&skip[first * s.width..]).for_each(|(sum, &skip)| *sum += skip);
        });
        self.norm(s, kind, sum, affine, y, stat)
    }

    fn norm_bwd(
        &self, s: Rows, kind: Norm, x: &Vec<R>, gain: &Vec<R>, stat: &Vec<R>, dy: &Vec<R>, d_skip: Option<&Vec<R>>,
        dx: &mut Vec<R>, d_gain: Option<&mut Vec<R>>, d_bias: Option<&mut Vec<R>>,
    ) -> Result {
        self.blocks(&mut dx[..s.n * s.width], s.width, |first, rows| {
            for (t, row) in (first..).zip(rows.chunks_exact_mut(s.width)) {
                let at = t * s.width..(t + 1) * s.width;
                backward(kind, &x[at.clone()], gain, &stat[2 * t..][..2], &dy[at.clone()], row);
                if let Some(skip) = d_skip {
                    row.iter_mut().zip(&skip[at]).for_each(|(dx, &skip)| *dx += skip);
                }
            }
        });
        if let Some(d) = d_gain {
            self.column_sums(&mut d[..s.width], s.n, |t, c, sums| {
                let (at, mean, inv_dev) = (t * s.width + c, stat[2 * t], stat[2 * t + 1]);
                for ((sum, &dy), &x) in sums.iter_mut().zip(&dy[at..]).zip(&x[at..]) {
                    *sum += dy * ((x - mean) * inv_dev);
                }
            });
        }
        if let Some(d) = d_bias {
            self.column_sums(&mut d[..s.width], s.n, |t, c, sums| {
                sums.iter_mut().zip(&dy[t * s.width + c..]).for_each(|(sum, &dy)| *sum += dy);
            });
        }
        Ok(())
    }

    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &Vec<R>, d_branch: &mut Vec<R>) -> Result {
        self.masked(s, drop, d_sum, d_branch);
        Ok(())
    }
}
