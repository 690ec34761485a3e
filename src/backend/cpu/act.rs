//! SwiGLU and the two GELUs.

use super::real::Real;
use super::{Act, Cpu, Rows};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Cubic coefficient of GELU's tanh form (Hendrycks and Gimpel 2016).
const CUBIC: f64 = 0.044715;

/// Value and derivative of a one-input activation at `x`.
fn gelu<R: Real>(kind: Act, x: R) -> (R, R) {
    let (one, half) = (R::of(1.0), R::of(0.5));
    if kind == Act::GeluErf {
        let cdf = half * (one + (x * R::of(FRAC_1_SQRT_2)).erf());
        let pdf = (-half * x * x).exp() * R::of(1.0 / (2.0 * PI).sqrt());
        return (x * cdf, cdf + x * pdf);
    }
    let root = R::of((2.0 / PI).sqrt());
    let t = (root * (x + R::of(CUBIC) * x * x * x)).tanh();
    let slope = root * (one + R::of(3.0 * CUBIC) * x * x) * (one - t * t);
    (half * x * (one + t), half * (one + t) + half * x * slope)
}

fn sigmoid<R: Real>(x: R) -> R {
    R::of(1.0) / (R::of(1.0) + (-x).exp())
}

impl<R: Real> Cpu<R> {
    pub(super) fn activate(&self, s: Rows, kind: Act, x: &[R], y: &mut [R]) {
        let inner = s.width * kind.fan_in();
        self.blocks(&mut y[..s.n * s.width], s.width, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.width).enumerate() {
                let x = &x[(first + r) * inner..][..inner];
                for (c, out) in row.iter_mut().enumerate() {
                    *out = match kind {
                        Act::SwiGlu => x[c] * sigmoid(x[c]) * x[s.width + c],
                        _ => gelu(kind, x[c]).0,
                    };
                }
            }
        });
    }

    pub(super) fn activate_bwd(&self, s: Rows, kind: Act, x: &[R], dy: &[R], dx: &mut [R]) {
        let inner = s.width * kind.fan_in();
        self.blocks(&mut dx[..s.n * inner], inner, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(inner).enumerate() {
                let x = &x[(first + r) * inner..][..inner];
                let dy = &dy[(first + r) * s.width..][..s.width];
                for c in 0..s.width {
                    match kind {
                        Act::SwiGlu => {
                            let (gate, up, sig) = (x[c], x[s.width + c], sigmoid(x[c]));
                            row[c] = dy[c] * up * sig * (R::of(1.0) + gate * (R::of(1.0) - sig));
                            row[s.width + c] = dy[c] * gate * sig;
                        }
                        _ => row[c] = dy[c] * gelu(kind, x[c]).1,
                    }
                }
            }
        });
    }
}
