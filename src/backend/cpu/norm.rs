//! RMSNorm and LayerNorm with the residual sum in front.
//!
//! With xhat = (x - mean) / dev and g = gain * dy:
//! dx = (g - mean(g) - xhat * mean(g * xhat)) / dev; RMSNorm is the same without the two means of x and g.

use super::real::Real;
use super::{Affine, Cpu, Dropout, Norm, Rows};

impl<R: Real> Cpu<R> {
    /// `sum = skip + mask * branch`.
    pub(super) fn residual(&self, s: Rows, skip: &[R], branch: &[R], drop: Option<Dropout<Self>>, sum: &mut [R]) {
        self.blocks(&mut sum[..s.n * s.width], s.width, |first, rows| {
            let at = first * s.width;
            for (i, out) in rows.iter_mut().enumerate() {
                let mask = drop.map_or(R::of(1.0), |d| d.factor(first + i / s.width, 0, i % s.width));
                *out = skip[at + i] + mask * branch[at + i];
            }
        });
    }

    pub(super) fn normalise(&self, s: Rows, kind: Norm, x: &[R], affine: Affine<Self>, y: &mut [R], stat: &mut [R]) {
        let inv_width = R::of(1.0 / s.width as f64);
        self.blocks2((&mut y[..s.n * s.width], s.width), (&mut stat[..s.n * 2], 2), |first, rows, stats| {
            for (r, (row, stat)) in rows.chunks_exact_mut(s.width).zip(stats.chunks_exact_mut(2)).enumerate() {
                let x = &x[(first + r) * s.width..][..s.width];
                let (mean, eps) = match kind {
                    Norm::Rms { eps } => (R::of(0.0), eps),
                    Norm::Layer { eps } => (x.iter().copied().sum::<R>() * inv_width, eps),
                };
                let variance = x.iter().map(|&v| (v - mean) * (v - mean)).sum::<R>() * inv_width;
                let inv_dev = R::of(1.0) / (variance + R::of(eps)).sqrt();
                for (c, out) in row.iter_mut().enumerate() {
                    let bias = affine.bias.map_or(R::of(0.0), |b| b[c]);
                    *out = (x[c] - mean) * inv_dev * affine.gain[c] + bias;
                }
                stat[0] = mean;
                stat[1] = inv_dev;
            }
        });
    }

    pub(super) fn normalise_bwd(
        &self,
        s: Rows,
        kind: Norm,
        x: &[R],
        gain: &[R],
        stat: &[R],
        dy: &[R],
        d_skip: Option<&Vec<R>>,
        dx: &mut [R],
        d_gain: Option<&mut Vec<R>>,
        d_bias: Option<&mut Vec<R>>,
    ) {
        let inv_width = R::of(1.0 / s.width as f64);
        let xhat = |t: usize, c: usize| (x[t * s.width + c] - stat[2 * t]) * stat[2 * t + 1];
        self.blocks(&mut dx[..s.n * s.width], s.width, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.width).enumerate() {
                let t = first + r;
                let g = |c: usize| gain[c] * dy[t * s.width + c];
                let along = (0..s.width).map(|c| g(c) * xhat(t, c)).sum::<R>() * inv_width;
                let mean = match kind {
                    Norm::Rms { .. } => R::of(0.0),
                    Norm::Layer { .. } => (0..s.width).map(g).sum::<R>() * inv_width,
                };
                for (c, out) in row.iter_mut().enumerate() {
                    let skip = d_skip.map_or(R::of(0.0), |d| d[t * s.width + c]);
                    *out = skip + (g(c) - mean - xhat(t, c) * along) * stat[2 * t + 1];
                }
            }
        });
        if let Some(d) = d_gain {
            self.column_sums(&mut d[..s.width], s.n, |t, c| dy[t * s.width + c] * xhat(t, c));
        }
        if let Some(d) = d_bias {
            self.column_sums(&mut d[..s.width], s.n, |t, c| dy[t * s.width + c]);
        }
    }
}
