//! Gradient clipping and AdamW.

use super::real::Real;
use super::{AdamW, BLOCK, Cpu, Update, scalar};

/// Values per partial sum of the norm: the order of the sum is fixed by this, not by the threads.
const PART: usize = 4096;

impl<R: Real> Cpu<R> {
    /// PyTorch's `clip_grad_norm_`: factor = min(1, max_norm / (norm + 1e-6)).
    pub(super) fn clip_factor(&self, grads: &[(&Vec<R>, usize)], scalars: &mut [R]) {
        use rayon::prelude::*;
        let square = |part: &[R]| part.iter().map(|g| g.f64() * g.f64()).sum::<f64>();
        let mut total = 0.0;
        for (grad, len) in grads {
            let grad = &grad[..*len];
            total += if len / PART < BLOCK {
                grad.chunks(PART).map(square).sum::<f64>()
            } else {
                self.run(|| grad.par_chunks(PART).map(square).collect::<Vec<_>>()).iter().sum()
            };
        }
        let max = scalars[scalar::MAX_NORM].f64();
        scalars[scalar::SQ_NORM] = R::of(total);
        scalars[scalar::CLIP] = R::of(if max > 0.0 { (max / (total.sqrt() + 1e-6)).min(1.0) } else { 1.0 });
    }

    pub(super) fn update(&self, k: AdamW, scalars: &[R], u: &mut Update<Self>) {
        use rayon::prelude::*;
        let lr = scalars[scalar::LR];
        let (beta1, beta2, one) = (R::of(k.beta1), R::of(k.beta2), R::of(1.0));
        let step = lr / scalars[scalar::BIAS1];
        let root2 = scalars[scalar::BIAS2].sqrt();
        let shrink = if u.decay { one - lr * R::of(k.weight_decay) } else { one };
        let (eps, clip) = (R::of(k.eps), scalars[scalar::CLIP]);
        let apply = |(((w, m), v), g): (((&mut R, &mut R), &mut R), &R)| {
            let g = *g * clip;
            *m = beta1 * *m + (one - beta1) * g;
            *v = beta2 * *v + (one - beta2) * g * g;
            *w = *w * shrink - step * *m / (v.sqrt() / root2 + eps);
        };
        let n = u.len;
        let (w, m, v, g) = (&mut u.weight[..n], &mut u.m[..n], &mut u.v[..n], &u.grad[..n]);
        if n < PART * BLOCK {
            w.iter_mut().zip(m).zip(v).zip(g).for_each(apply);
        } else {
            self.run(|| {
                let (w, m, v) = (w.par_chunks_mut(PART), m.par_chunks_mut(PART), v.par_chunks_mut(PART));
                w.zip(m).zip(v).zip(g.par_chunks(PART)).for_each(|(((w, m), v), g)| {
                    w.iter_mut().zip(m).zip(v).zip(g).for_each(apply);
                });
            });
        }
    }
}
