//! Causal attention inside the segments of a packed buffer, without forming the whole score matrix.
//!
//! Work is cut into blocks of rows of the packed buffer. A block of queries needs the keys from the start of its first
//! row's segment up to itself; a block of keys receives gradients from the queries from itself to the end of its last
//! row's segment. Backward recomputes the probabilities from `lse` once per role (queries, keys), so every gradient
//! has one writer and one order.

use super::gemm::{Mat, gemm};
use super::real::Real;
use super::wide::{dot, exp_of_row, scaled, wide};
use super::{Cpu, Dropout, Heads, Tokens};
use std::ops::Range;

/// Probabilities of queries x keys and what backward needs beside them.
struct Tile<'a, R: Real> {
    s: Heads,
    tokens: &'a Tokens<Cpu<R>>,
    qkv: &'a [R],
    drop: Option<Dropout<'a, Cpu<R>>>,
}

impl<'a, R: Real> Tile<'a, R> {
    fn query(&self, t: usize, head: usize) -> Mat<'a, R> {
        let width = self.s.width();
        Mat::rows(&self.qkv[t * width + head * self.s.dim..], width)
    }

    /// Keys (`part` 0) or values (`part` 1) of the head that query head `head` reads.
    fn key_value(&self, t: usize, head: usize, part: usize) -> Mat<'a, R> {
        let width = self.s.width();
        let kv = head / (self.s.q / self.s.kv);
        Mat::rows(&self.qkv[t * width + (self.s.q + part * self.s.kv + kv) * self.s.dim..], width)
    }

    /// Scaled scores `[queries, keys]`; what a query may not see is left for [`Tile::visible`] to tell.
    fn scores(&self, queries: &Range<usize>, keys: &Range<usize>, head: usize, out: &mut [R]) {
        let (q, k) = (self.query(queries.start, head), self.key_value(keys.start, head, 0).t());
        gemm((queries.len(), keys.len(), self.s.dim), q, k, out, keys.len(), self.s.scale, false, 1);
    }

    /// Which of `keys` the query sees, counted from the first of them.
    fn visible(&self, query: usize, keys: &Range<usize>) -> Range<usize> {
        let start = (self.tokens.seg_start[query] as usize).clamp(keys.start, keys.end);
        let end = (query + 1).clamp(start, keys.end);
        start - keys.start..end - keys.start
    }

    /// `row *= mask` for the keys `visible` from `keys.start` on, if there is dropout.
    fn drop(&self, query: usize, head: usize, keys: &Range<usize>, visible: &Range<usize>, row: &mut [R]) {
        if let Some(drop) = self.drop.filter(|_| !visible.is_empty()) {
            let first = self.tokens.pos[keys.start + visible.start] as usize;
            drop.apply(query, head as u32, first, row);
        }
    }

    /// Scores in `p` become dropped probabilities; `ds`, holding dy Vᵀ, becomes the gradient of the scaled products
    /// q·k: `scale * P (mask * dy Vᵀ - delta)`.
    fn differentiate(
        &self,
        queries: &Range<usize>,
        keys: &Range<usize>,
        head: usize,
        lse: &[R],
        delta: &[R],
        p: &mut [R],
        ds: &mut [R],
    ) {
        let scale = R::of(self.s.scale);
        let rows = p.chunks_exact_mut(keys.len()).zip(ds.chunks_exact_mut(keys.len()));
        for (query, (p, ds)) in queries.clone().zip(rows) {
            let visible = self.visible(query, keys);
            for row in [&mut *p, &mut *ds] {
                row[..visible.start].fill(R::of(0.0));
                row[visible.end..].fill(R::of(0.0));
            }
            let (p, ds) = (&mut p[visible.clone()], &mut ds[visible.clone()]);
            let (lse, delta) = (lse[query * self.s.q + head], delta[query * self.s.q + head]);
            self.drop(query, head, keys, &visible, ds);
            gradient(p, ds, lse, delta, scale);
            self.drop(query, head, keys, &visible, p);
        }
    }
}

wide! {
    /// `p = e^(p - lse)`, `ds = scale p (ds - delta)`.
    fn gradient<R: Real>(p: &mut [R], ds: &mut [R], lse: R, delta: R, scale: R) {
        for (p, ds) in p.iter_mut().zip(ds) {
            *p = (*p - lse).exp_lane();
            *ds = scale * *p * (*ds - delta);
        }
    }
}

impl<R: Real> Cpu<R> {
    pub(super) fn attend(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &[R],
        drop: Option<Dropout<Self>>,
        y: &mut [R],
        lse: &mut [R],
    ) {
        let tile = Tile { s, tokens, qkv, drop };
        let out = s.q * s.dim;
        self.blocks2((&mut y[..s.tokens * out], out), (&mut lse[..s.tokens * s.q], s.q), |first, y, lse| {
            let queries = first..first + lse.len() / s.q;
            let keys = tokens.seg_start[first] as usize..queries.end;
            self.with_scratch(queries.len() * keys.len(), |p| {
                for head in 0..s.q {
                    tile.scores(&queries, &keys, head, p);
                    for (i, query) in queries.clone().enumerate() {
                        let row = &mut p[i * keys.len()..][..keys.len()];
                        let visible = tile.visible(query, &keys);
                        row[..visible.start].fill(R::of(0.0));
                        row[visible.end..].fill(R::of(0.0));
                        let row = &mut row[visible.clone()];
                        let (max, total) = exp_of_row(row);
                        scaled(row, R::of(1.0) / total);
                        tile.drop(query, head, &keys, &visible, row);
                        lse[i * s.q + head] = max + total.ln();
                    }
                    let (p, v) = (Mat::rows(p, keys.len()), tile.key_value(keys.start, head, 1));
                    let shape = (queries.len(), s.dim, keys.len());
                    gemm(shape, p, v, &mut y[head * s.dim..], out, 1.0, false, 1);
                }
            });
        });
    }

    pub(super) fn attend_bwd(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &[R],
        drop: Option<Dropout<Self>>,
        y: &[R],
        lse: &[R],
        dy: &[R],
        delta: &mut [R],
        d_qkv: &mut [R],
    ) {
        let tile = Tile { s, tokens, qkv, drop };
        let (out, width) = (s.q * s.dim, s.width());
        self.blocks(&mut delta[..s.tokens * s.q], s.q, |first, rows| {
            for (i, delta) in rows.iter_mut().enumerate() {
                let at = first * out + i * s.dim;
                *delta = dot(&dy[at..at + s.dim], &y[at..at + s.dim]);
            }
        });
        let delta = &*delta;
        let grad = |t: usize, head: usize| Mat::rows(&dy[t * out + head * s.dim..], out);

        self.blocks(&mut d_qkv[..s.tokens * width], width, |first, rows| {
            rows.fill(R::of(0.0));
            let own = first..first + rows.len() / width;
            let before = tokens.seg_start[first] as usize..own.end;
            let reach = (own.end..s.tokens).take_while(|&t| (tokens.seg_start[t] as usize) < own.end).count();
            let after = first..own.end + reach;
            let size = own.len() * before.len().max(after.len());
            self.with_scratch(2 * size, |scratch| {
                let (p, ds) = scratch.split_at_mut(size);
                for head in 0..s.q {
                    let kv = head / (s.q / s.kv);
                    // own rows as queries: dq = ds k
                    tile.scores(&own, &before, head, p);
                    let vt = tile.key_value(before.start, head, 1).t();
                    gemm((own.len(), before.len(), s.dim), grad(first, head), vt, ds, before.len(), 1.0, false, 1);
                    tile.differentiate(&own, &before, head, lse, delta, p, ds);
                    let (dsm, k) = (Mat::rows(ds, before.len()), tile.key_value(before.start, head, 0));
                    gemm((own.len(), s.dim, before.len()), dsm, k, &mut rows[head * s.dim..], width, 1.0, true, 1);

                    // own rows as keys and values: dk += dsᵀ q, dv += pᵀ dy, over the query heads that share them
                    tile.scores(&after, &own, head, p);
                    let vt = tile.key_value(first, head, 1).t();
                    gemm((after.len(), own.len(), s.dim), grad(first, head), vt, ds, own.len(), 1.0, false, 1);
                    tile.differentiate(&after, &own, head, lse, delta, p, ds);
                    let shape = (own.len(), s.dim, after.len());
                    let (pt, dst) = (Mat::rows(p, own.len()).t(), Mat::rows(ds, own.len()).t());
                    gemm(shape, dst, tile.query(first, head), &mut rows[(s.q + kv) * s.dim..], width, 1.0, true, 1);
                    let dv = &mut rows[(s.q + s.kv + kv) * s.dim..];
                    gemm(shape, pt, grad(first, head), dv, width, 1.0, true, 1);
                }
            });
        });
    }
}
