//! Inverted dropout by counter: the mask of a value is a pure function of who it is.

use super::real::Real;
use super::{Cpu, Dropout, Rows};
use crate::random::philox;

impl<R: Real> Dropout<'_, Cpu<R>> {
    /// 0 or 1 / (1 - p) for the value in `column` of token `t`; `sub` tells heads of one module apart.
    ///
    /// Four neighbouring columns share one Philox block, whose counter is (column / 4, position, example, module).
    pub(super) fn factor(&self, t: usize, sub: u32, column: usize) -> R {
        let counter = [(column / 4) as u32, self.tokens.pos[t], self.tokens.example[t], self.module + sub];
        let word = philox([self.key[0], self.key[1]], counter)[column % 4];
        let uniform = f64::from(word) / (1u64 << 32) as f64;
        if uniform < f64::from(self.p) { R::of(0.0) } else { R::of(1.0 / (1.0 - f64::from(self.p))) }
    }
}

impl<R: Real> Cpu<R> {
    /// `y = mask * x`.
    pub(super) fn masked(&self, s: Rows, drop: Dropout<Self>, x: &[R], y: &mut [R]) {
        self.blocks(&mut y[..s.n * s.width], s.width, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.width).enumerate() {
                let t = first + r;
                for (c, (out, &value)) in row.iter_mut().zip(&x[t * s.width..]).enumerate() {
                    *out = value * drop.factor(t, 0, c);
                }
            }
        });
    }
}
