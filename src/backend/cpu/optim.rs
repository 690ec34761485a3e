//! Gradient clipping and AdamW.

use super::coded::{self, Part};
use super::real::Real;
use super::wide::wide;
use super::{AdamW, BLOCK, Cpu, OptimOps, Update, scalar};
use crate::backend::moments::{GROUP, Moments};
use crate::error::Result;

/// Values per partial sum of the norm: the order of the sum is fixed by this, not by the threads. Also a task of the
/// update.
pub(super) const PART: usize = 4096;

/// What a step is the same for in all values of a tensor.
pub(super) struct Step<R> {
    beta1: R,
    /// 1 - beta1, rounded once: in f32 the difference of the rounded beta2 would be off by up to 1e-4.
    rest1: R,
    beta2: R,
    rest2: R,
    eps: R,
    clip: R,
    shrink: R,
    rate: R,
    root2: R,
}

impl<R: Real> Step<R> {
    fn new(k: AdamW, scalars: &[R], decay: bool) -> Step<R> {
        let (lr, one) = (scalars[scalar::LR], R::of(1.0));
        Step {
            beta1: R::of(k.beta1),
            rest1: R::of(1.0 - k.beta1),
            beta2: R::of(k.beta2),
            rest2: R::of(1.0 - k.beta2),
            eps: R::of(k.eps),
            clip: scalars[scalar::CLIP],
            shrink: if decay { one - lr * R::of(k.weight_decay) } else { one },
            rate: lr / scalars[scalar::BIAS1],
            root2: scalars[scalar::BIAS2].sqrt(),
        }
    }

    /// One value.
    #[inline(always)]
    pub(super) fn advance(&self, g: R, m: &mut R, v: &mut R, w: &mut R) {
        let g = g * self.clip;
        *m = self.beta1 * *m + self.rest1 * g;
        *v = self.beta2 * *v + self.rest2 * g * g;
        *w = *w * self.shrink - self.rate * *m / (v.sqrt() / self.root2 + self.eps);
    }
}

wide! {
    fn advance_all<R: Real>(k: &Step<R>, w: &mut [R], g: &[R], m: &mut [R], v: &mut [R]) {
        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            k.advance(g, m, v, w);
        }
    }
}

impl<R: Real> OptimOps for Cpu<R> {
    /// PyTorch's `clip_grad_norm_`: factor = min(1, max_norm / (norm + 1e-6)).
    fn clip(&self, grads: &[(&Vec<R>, usize)], scalars: &mut Vec<R>) -> Result {
        use rayon::prelude::*;
        let square = |part: &[R]| part.iter().map(|g| g.f64() * g.f64()).sum::<f64>();
        let mut total = 0.0;
        for (grad, len) in grads {
            let grad = &grad[..*len];
            total += if self.alone(*len) {
                grad.chunks(PART).map(square).sum::<f64>()
            } else {
                self.run(|| grad.par_chunks(PART).map(square).collect::<Vec<_>>()).iter().sum()
            };
        }
        let max = scalars[scalar::MAX_NORM].f64();
        scalars[scalar::SQ_NORM] = R::of(total);
        scalars[scalar::CLIP] = R::of(if max > 0.0 { (max / (total.sqrt() + 1e-6)).min(1.0) } else { 1.0 });
        Ok(())
    }

    fn adamw(&self, k: AdamW, key: &Vec<u32>, scalars: &Vec<R>, updates: &mut [Update<Self>]) -> Result {
        if scalars[scalar::SQ_NORM].is_finite() {
            updates.iter_mut().zip(0..).for_each(|(u, number)| self.update(k, [key[0], key[1], number], scalars, u));
        }
        Ok(())
    }
}

impl<R: Real> Cpu<R> {
    /// Whether one thread goes through so many values: there is no other, or they are not worth it.
    fn alone(&self, values: usize) -> bool {
        self.threads == 1 || values < PART * BLOCK
    }

    /// `rounding` is what moments in 8 bits are rounded by: seed, step, and the parameter's number.
    fn update(&self, k: AdamW, rounding: [u32; 3], scalars: &[R], u: &mut Update<Self>) {
        use rayon::prelude::*;
        let k = Step::new(k, scalars, u.decay);
        let (n, alone) = (u.len, self.alone(u.len));
        let (w, g) = (&mut u.weight[..n], &u.grad[..n]);
        match u.moments {
            Moments::Full { m, v } => {
                let (m, v) = (&mut m[..n], &mut v[..n]);
                if alone {
                    return advance_all(&k, w, g, m, v);
                }
                let (m, v) = (m.par_chunks_mut(PART), v.par_chunks_mut(PART));
                let all = w.par_chunks_mut(PART).zip(g.par_chunks(PART)).zip(m).zip(v);
                self.run(|| all.for_each(|(((w, g), m), v)| advance_all(&k, w, g, m, v)));
            }
            Moments::Coded { m, root } => {
                const MAXIMA: usize = PART / GROUP;
                let (m, root) = ((&mut m.codes[..n], &mut m.absmax[..]), (&mut root.codes[..n], &mut root.absmax[..]));
                if alone {
                    return coded::advance(&k, rounding, 0, Part { w, g, m, root });
                }
                let m = m.0.par_chunks_mut(PART).zip(m.1.par_chunks_mut(MAXIMA));
                let root = root.0.par_chunks_mut(PART).zip(root.1.par_chunks_mut(MAXIMA));
                let all = w.par_chunks_mut(PART).zip(g.par_chunks(PART)).zip(m).zip(root).enumerate();
                self.run(|| {
                    all.for_each(|(i, (((w, g), m), root))| {
                        coded::advance(&k, rounding, i * PART, Part { w, g, m, root });
                    });
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first moments of a gradient of 1 are 1 - beta1 and 1 - beta2, to the rounding of f32.
    #[test]
    fn one_minus_beta_is_rounded_once() {
        let k = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        let mut scalars = vec![1.0f32; scalar::SCALARS];
        scalars[scalar::LR] = 1e-3;
        let (mut m, mut v, mut w) = (0.0, 0.0, 0.0);
        Step::new(k, &scalars, false).advance(1.0, &mut m, &mut v, &mut w);
        assert_eq!((m, v), (0.1, 0.001));
    }
}
