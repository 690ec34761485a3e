//! SwiGLU and the two GELUs.

use super::real::Real;
use super::wide::{sigmoid, wide};
use super::{Act, ActOps, Cpu, Rows};
use crate::error::Result;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Cubic coefficient of GELU's tanh form (Hendrycks and Gimpel 2016).
const CUBIC: f64 = 0.044715;

/// Value and derivative at `x` of the exact GELU.
#[inline(always)]
fn gelu_erf<R: Real>(x: R) -> (R, R) {
    let (one, half) = (R::of(1.0), R::of(0.5));
    let cdf = half * (one + (x * R::of(FRAC_1_SQRT_2)).erf());
    let pdf = (-half * x * x).exp_lane() * R::of(1.0 / (2.0 * PI).sqrt());
    (x * cdf, cdf + x * pdf)
}

/// Value and derivative at `x` of its tanh form.
#[inline(always)]
fn gelu_tanh<R: Real>(x: R) -> (R, R) {
    let one = R::of(1.0);
    // (1 + tanh u) / 2 is the sigmoid of 2 u
    let twice = R::of(2.0 * (2.0 / PI).sqrt());
    let cdf = sigmoid(twice * (x + R::of(CUBIC) * x * x * x));
    let slope = twice * (one + R::of(3.0 * CUBIC) * x * x);
    (x * cdf, cdf + x * cdf * (one - cdf) * slope)
}

wide! {
    /// `y [I] = act(x [I * fan_in])` of one row.
    fn forward<R: Real>(kind: Act, x: &[R], y: &mut [R]) {
        match kind {
            Act::SwiGlu => {
                let (gate, up) = x.split_at(y.len());
                for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(gate) * up;
                }
            }
            Act::GeluErf => y.iter_mut().zip(x).for_each(|(y, &x)| *y = gelu_erf(x).0),
            Act::GeluTanh => y.iter_mut().zip(x).for_each(|(y, &x)| *y = gelu_tanh(x).0),
        }
    }

    /// `dx [I * fan_in] = act'(x) dy [I]` of one row.
    fn backward<R: Real>(kind: Act, x: &[R], dy: &[R], dx: &mut [R]) {
        match kind {
            Act::SwiGlu => {
                let n = dy.len();
                let (gate, up) = x.split_at(n);
                let (d_gate, d_up) = dx.split_at_mut(n);
                let (up, d_gate, d_up) = (&up[..n], &mut d_gate[..n], &mut d_up[..n]);
                for c in 0..n {
                    let sig = sigmoid(gate[c]);
                    d_gate[c] = dy[c] * up[c] * sig * (R::of(1.0) + gate[c] * (R::of(1.0) - sig));
                    d_up[c] = dy[c] * gate[c] * sig;
                }
            }
            Act::GeluErf => dx.iter_mut().zip(x).zip(dy).for_each(|((dx, &x), &dy)| *dx = dy * gelu_erf(x).1),
            Act::GeluTanh => dx.iter_mut().zip(x).zip(dy).for_each(|((dx, &x), &dy)| *dx = dy * gelu_tanh(x).1),
        }
    }
}

impl<R: Real> ActOps for Cpu<R> {
    fn act(&self, s: Rows, kind: Act, x: &Vec<R>, y: &mut Vec<R>) -> Result {
        let inner = s.width * kind.fan_in();
        self.blocks(&mut y[..s.n * s.width], s.width, |first, rows| {
            for (row, x) in rows.chunks_exact_mut(s.width).zip(x[first * inner..].chunks_exact(inner)) {
                forward(kind, x, row);
            }
        });
        Ok(())
    }

    fn act_bwd(&self, s: Rows, kind: Act, x: &Vec<R>, dy: &Vec<R>, dx: &mut Vec<R>) -> Result {
        let inner = s.width * kind.fan_in();
        self.blocks(&mut dx[..s.n * inner], inner, |first, rows| {
            let (x, dy) = (x[first * inner..].chunks_exact(inner), dy[first * s.width..].chunks_exact(s.width));
            for ((row, x), dy) in rows.chunks_exact_mut(inner).zip(x).zip(dy) {
                backward(kind, x, dy, row);
            }
        });
        Ok(())
    }
}
