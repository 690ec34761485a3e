//! Attention of new tokens to keys and values that are kept from before.

use super::gemm::{Mat, gemm};
use super::real::{Real, maximum};
use super::{Cpu, Heads, Tokens};

/// `cache[at[t]] = qkv[t, q * dim..]`.
pub(super) fn remember<R: Real>(s: Heads, at: &[u32], qkv: &[R], cache: &mut [R]) {
    let kept = 2 * s.kv * s.dim;
    for (&at, row) in at[..s.tokens].iter().zip(qkv.chunks_exact(s.width())) {
        cache[at as usize * kept..][..kept].copy_from_slice(&row[s.q * s.dim..]);
    }
}

impl<R: Real> Cpu<R> {
    /// A task is a query head of a token; its scores are formed whole, since a row of them is short.
    pub(super) fn attend_cached(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        at: &[u32],
        qkv: &[R],
        cache: &[R],
        y: &mut [R],
    ) {
        let kept = 2 * s.kv * s.dim;
        self.blocks(&mut y[..s.tokens * s.q * s.dim], s.dim, |first, heads| {
            for (i, y) in heads.chunks_exact_mut(s.dim).enumerate() {
                let (t, head) = ((first + i) / s.q, (first + i) % s.q);
                let n = tokens.pos[t] as usize + 1;
                let key = (at[t] as usize + 1 - n) * kept + head / (s.q / s.kv) * s.dim;
                let query = Mat::rows(&qkv[t * s.width() + head * s.dim..], s.dim);
                let (keys, values) = (Mat::rows(&cache[key..], kept), Mat::rows(&cache[key + s.kv * s.dim..], kept));
                self.with_scratch(n, |p| {
                    gemm((1, n, s.dim), query, keys.t(), p, n, s.scale, false, 1);
                    let max = maximum(p);
                    p.iter_mut().for_each(|z| *z = (*z - max).exp());
                    let total = p.iter().copied().sum::<R>();
                    p.iter_mut().for_each(|z| *z /= total);
                    gemm((1, s.dim, n), Mat::rows(p, n), values, y, s.dim, 1.0, false, 1);
                });
            }
        });
    }
}
