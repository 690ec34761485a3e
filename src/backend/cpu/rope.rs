//! Rotary positions on the packed buffer, in place. The gradient of a rotation is the rotation back.

use super::real::Real;
use super::{Cpu, Heads, RopeOps, Tokens, Turn};
use crate::error::Result;

impl<R: Real> RopeOps for Cpu<R> {
    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &Vec<R>, turn: Turn, qkv: &mut Vec<R>) -> Result {
        let (width, half) = (s.width(), s.dim / 2);
        let sign = R::of(if turn == Turn::Forward { 1.0 } else { -1.0 });
        self.blocks(&mut qkv[..s.tokens * width], width, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(width).enumerate() {
                let angles = &table[tokens.pos[first + r] as usize * s.dim..][..s.dim];
                let (cos, sin) = angles.split_at(half);
                for head in row[..(s.q + s.kv) * s.dim].chunks_exact_mut(s.dim) {
                    let (low, high) = head.split_at_mut(half);
                    for i in 0..half {
                        let (a, b, sin) = (low[i], high[i], sign * sin[i]);
                        low[i] = a * cos[i] - b * sin;
                        high[i] = b * cos[i] + a * sin;
                    }
                }
            }
        });
        Ok(())
    }
}
