//! Causal attention inside the segments of a packed buffer, without forming the whole score matrix.
//!
//! Work is cut into blocks of rows of the packed buffer. A block of queries needs the keys from the start of its first
//! row's segment up to itself. The query heads that share a key head are stacked: their rows are multiplied as one
//! matrix.
//!
//! Backward goes through the pairs of a block of queries and one of keys, and recomputes their probabilities from
//! `lse`. A pair adds to the gradients of both its blocks, so no two that run at the same time share a block, and each
//! gradient has one order: first every block with itself, then with the block before it, and so on.

use super::gemm::{Mat, Mode, gemm};
use super::real::Real;
use super::wide::{dot, exp_of_row, scaled, wide};
use super::{AttentionOps, BLOCK, Cpu, Dropout, Heads, Rows, Tokens};
use crate::error::Result;
use std::ops::Range;

/// Rows of a block in backward.
const SQUARE: usize = 2 * BLOCK;
/// Stacked queries that are handled at a time, about: so many share what it takes to pack their keys, and their scores
/// stay in the second cache.
const STACK: usize = 192;

/// Queries of each head that are handled at a time, of a task with at most `most`.
fn lines(s: Heads, most: usize) -> usize {
    (STACK * s.kv / s.q).clamp(1, most)
}

/// Values that forward works in: scores, queries, results.
pub(in crate::backend) fn room(s: Heads, keys: usize) -> usize {
    s.q / s.kv * lines(s, BLOCK) * (keys + 2 * s.dim)
}

/// Values that backward works in: scores, their gradient, queries, gradients of results.
pub(in crate::backend) fn room_bwd(s: Heads) -> usize {
    s.q / s.kv * lines(s, SQUARE) * (2 * SQUARE + 2 * s.dim)
}

/// Some queries of the heads that share the key head `kv`, and some keys.
struct Part {
    queries: Range<usize>,
    keys: Range<usize>,
    kv: usize,
}

/// What attention reads.
struct Input<'a, R: Real> {
    /// Of the products of a part.
    mode: Mode,
    s: Heads,
    tokens: &'a Tokens<Cpu<R>>,
    qkv: &'a [R],
    drop: Option<Dropout<'a, Cpu<R>>>,
}

impl<'a, R: Real> Input<'a, R> {
    /// Query heads for each key head.
    fn group(&self) -> usize {
        self.s.q / self.s.kv
    }

    /// Stacked queries of a part.
    fn stacked(&self, part: &Part) -> usize {
        self.group() * part.queries.len()
    }

    /// Which (query, head) each stacked row is.
    fn rows(&self, part: &Part) -> impl Iterator<Item = (usize, usize)> + use<R> {
        let (queries, first) = (part.queries.clone(), part.kv * self.group());
        (first..first + self.group()).flat_map(move |head| queries.clone().map(move |query| (query, head)))
    }

    /// Rows of the part's heads out of `data [T, width]`, which begins with all query heads: `to [stacked, dim]`.
    fn stack(&self, part: &Part, data: &[R], width: usize, to: &mut [R]) {
        let dim = self.s.dim;
        for ((query, head), to) in self.rows(part).zip(to.chunks_exact_mut(dim)) {
            to.copy_from_slice(&data[query * width + head * dim..][..dim]);
        }
    }

    /// The part's keys (`which` 0) or values (`which` 1).
    fn key_value(&self, part: &Part, which: usize) -> Mat<'a, R> {
        let width = self.s.width();
        Mat::rows(&self.qkv[part.keys.start * width + self.column(part, which)..], width)
    }

    /// Where they are in a row.
    fn column(&self, part: &Part, which: usize) -> usize {
        (self.s.q + which * self.s.kv + part.kv) * self.s.dim
    }

    /// `p = scale q kᵀ`, `q [stacked, dim]` and `p [stacked, keys]`; what a query may not see is left for
    /// [`Input::visible`] to tell.
    fn scores(&self, part: &Part, q: &mut [R], p: &mut [R]) {
        let (s, keys) = (self.s, part.keys.len());
        self.stack(part, self.qkv, s.width(), q);
        let shape = (self.stacked(part), keys, s.dim);
        gemm(shape, Mat::rows(q, s.dim), self.key_value(part, 0).t(), p, keys, s.scale, false, self.mode);
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

/// What backward reads beside the input.
struct Output<'a, R: Real> {
    input: Input<'a, R>,
    lse: &'a [R],
    dy: &'a [R],
    delta: &'a [R],
}

impl<R: Real> Output<'_, R> {
    /// Adds to the gradients `later` of a block of queries and `earlier` of one of keys, rows of `d_qkv` from `at` on
    /// each; without `earlier` both are the same block.
    fn square(&self, (at, later): (usize, &mut [R]), mut earlier: Option<(usize, &mut [R])>, scratch: &mut [R]) {
        let (s, seg_start) = (self.input.s, &self.input.tokens.seg_start);
        let width = s.width();
        let end = at + later.len() / width;
        let (from, to) = earlier.as_ref().map_or((at, end), |(from, rows)| (*from, from + rows.len() / width));
        let most = if earlier.is_some() { SQUARE } else { BLOCK };
        // the first queries: those of later segments see none of the keys
        let end = at + (at..end).take_while(|&t| (seg_start[t] as usize) < to).count();
        for first in (at..end).step_by(lines(s, most)) {
            let queries = first..end.min(first + lines(s, most));
            let keys = from.max(seg_start[first] as usize)..to.min(queries.end);
            for kv in 0..s.kv {
                let part = Part { queries: queries.clone(), keys: keys.clone(), kv };
                let rows = earlier.as_mut().map_or(&mut *later, |(_, rows)| rows);
                let dq = self.part(&part, &mut rows[(keys.start - from) * width..], scratch);
                for ((query, head), dq) in self.input.rows(&part).zip(dq.chunks_exact(s.dim)) {
                    let sum = &mut later[(query - at) * width + head * s.dim..][..s.dim];
                    sum.iter_mut().zip(dq).for_each(|(sum, &dq)| *sum += dq);
                }
            }
        }
    }

    /// Adds to the gradients `rows` of the part's keys and values: `dk += dsᵀ q`, `dv += pᵀ dy`; gives that of its
    /// queries, `dq = ds k [stacked, dim]`.
    fn part<'a>(&self, part: &Part, rows: &mut [R], scratch: &'a mut [R]) -> &'a [R] {
        let (input, s, keys) = (&self.input, self.input.s, part.keys.len());
        let (stacked, width) = (input.stacked(part), s.width());
        let (q, rest) = scratch.split_at_mut(stacked * s.dim);
        let (dy, rest) = rest.split_at_mut(stacked * s.dim);
        let (p, rest) = rest.split_at_mut(stacked * keys);
        let ds = &mut rest[..stacked * keys];

        input.scores(part, q, p);
        input.stack(part, self.dy, s.q * s.dim, dy);
        let vt = input.key_value(part, 1).t();
        gemm((stacked, keys, s.dim), Mat::rows(dy, s.dim), vt, ds, keys, 1.0, false, input.mode);
        self.differentiate(part, p, ds);

        let (pt, dst) = (Mat::rows(p, keys).t(), Mat::rows(ds, keys).t());
        let shape = (keys, s.dim, stacked);
        gemm(shape, dst, Mat::rows(q, s.dim), &mut rows[input.column(part, 0)..], width, 1.0, true, input.mode);
        gemm(shape, pt, Mat::rows(dy, s.dim), &mut rows[input.column(part, 1)..], width, 1.0, true, input.mode);
        gemm((stacked, s.dim, keys), Mat::rows(ds, keys), input.key_value(part, 0), q, s.dim, 1.0, false, input.mode);
        q
    }

    /// Scores in `p` become dropped probabilities; `ds`, holding dy Vᵀ, becomes the gradient of the scaled products
    /// q·k: `scale * P (mask * dy Vᵀ - delta)`.
    fn differentiate(&self, part: &Part, p: &mut [R], ds: &mut [R]) {
        let (input, keys) = (&self.input, &part.keys);
        let scale = R::of(input.s.scale);
        let rows = p.chunks_exact_mut(keys.len()).zip(ds.chunks_exact_mut(keys.len()));
        for ((query, head), (p, ds)) in input.rows(part).zip(rows) {
            let visible = input.visible(query, keys);
            for row in [&mut *p, &mut *ds] {
                row[..visible.start].fill(R::of(0.0));
                row[visible.end..].fill(R::of(0.0));
            }
            let (p, ds) = (&mut p[visible.clone()], &mut ds[visible.clone()]);
            let at = query * input.s.q + head;
            input.drop(query, head, keys, &visible, ds);
            gradient(p, ds, self.lse[at], self.delta[at], scale);
            input.drop(query, head, keys, &visible, p);
        }
    }
}

impl<R: Real> AttentionOps for Cpu<R> {
    fn attention(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &Vec<R>, drop: Option<Dropout<Self>>, y: &mut Vec<R>,
        lse: &mut Vec<R>,
    ) -> Result {
        let input = Input { mode: self.mode().alone(), s, tokens, qkv, drop };
        let out = s.q * s.dim;
        self.blocks2((&mut y[..s.tokens * out], out), (&mut lse[..s.tokens * s.q], s.q), |at, y, lse| {
            let end = at + lse.len() / s.q;
            self.with_scratch(room(s, end - tokens.seg_start[at] as usize), |scratch| {
                for first in (at..end).step_by(lines(s, BLOCK)) {
                    let queries = first..end.min(first + lines(s, BLOCK));
                    let keys = tokens.seg_start[first] as usize..queries.end;
                    for kv in 0..s.kv {
                        let part = Part { queries: queries.clone(), keys: keys.clone(), kv };
                        let (q, rest) = scratch.split_at_mut(input.stacked(&part) * s.dim);
                        let (of_part, p) = rest.split_at_mut(input.stacked(&part) * s.dim);
                        input.scores(&part, q, p);
                        for ((query, head), row) in input.rows(&part).zip(p.chunks_exact_mut(keys.len())) {
                            let visible = input.visible(query, &keys);
                            row[..visible.start].fill(R::of(0.0));
                            row[visible.end..].fill(R::of(0.0));
                            let row = &mut row[visible.clone()];
                            let (max, total) = exp_of_row(row);
                            scaled(row, R::of(1.0) / total);
                            input.drop(query, head, &keys, &visible, row);
                            lse[(query - at) * s.q + head] = max + total.ln();
                        }
                        let shape = (input.stacked(&part), s.dim, keys.len());
                        let v = input.key_value(&part, 1);
                        gemm(shape, Mat::rows(p, keys.len()), v, of_part, s.dim, 1.0, false, input.mode);
                        for ((query, head), of_part) in input.rows(&part).zip(of_part.chunks_exact(s.dim)) {
                            y[(query - at) * out + head * s.dim..][..s.dim].copy_from_slice(of_part);
                        }
                    }
                }
            });
        });
        Ok(())
    }

    fn attention_bwd(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &Vec<R>, drop: Option<Dropout<Self>>, y: &Vec<R>, lse: &Vec<R>,
        dy: &Vec<R>, delta: &mut Vec<R>, d_qkv: &mut Vec<R>,
    ) -> Result {
        let (out, width) = (s.q * s.dim, s.width());
        self.blocks(&mut delta[..s.tokens * s.q], s.q, |first, rows| {
            for (i, delta) in rows.iter_mut().enumerate() {
                let at = first * out + i * s.dim;
                *delta = dot(&dy[at..at + s.dim], &y[at..at + s.dim]);
            }
        });
        let input = Input { mode: self.mode().alone(), s, tokens, qkv, drop };
        let output = Output { input, lse, dy, delta };
        let (d_qkv, size) = (&mut d_qkv[..s.tokens * width], SQUARE * width);
        self.chunks(d_qkv, size, |i, rows| {
            rows.fill(R::of(0.0));
            self.with_scratch(room_bwd(s), |scratch| output.square((i * SQUARE, rows), None, scratch));
        });
        let block_of_start = |i: usize| tokens.seg_start[i * SQUARE] as usize / SQUARE;
        let reach = (0..s.tokens.div_ceil(SQUARE)).map(|i| i - block_of_start(i)).max();
        for apart in 1..=reach.unwrap_or(0) {
            self.pairs(d_qkv, size, apart, |i, earlier, later| {
                if block_of_start(i + apart) <= i {
                    let (earlier, later) = ((i * SQUARE, earlier), ((i + apart) * SQUARE, later));
                    self.with_scratch(room_bwd(s), |scratch| output.square(later, Some(earlier), scratch));
                }
            });
        }
        Ok(())
    }

    /// A task is a row: its scores are formed in their place.
    fn attention_probs(
        &self, s: Heads, chosen: Rows, tokens: &Tokens<Self>, rows: &Vec<u32>, qkv: &Vec<R>, probs: &mut Vec<R>,
    ) -> Result {
        let (keys, group) = (chosen.width, s.q / s.kv);
        self.chunks(&mut probs[..chosen.n * s.q * keys], s.q * keys, |i, probs| {
            let t = rows[i] as usize;
            let start = tokens.seg_start[t] as usize;
            let seen = t + 1 - start;
            for (kv, probs) in probs.chunks_exact_mut(group * keys).enumerate() {
                let queries = Mat::rows(&qkv[t * s.width() + kv * group * s.dim..], s.dim);
                let of_keys = Mat::rows(&qkv[start * s.width() + (s.q + kv) * s.dim..], s.width());
                gemm((group, seen, s.dim), queries, of_keys.t(), probs, keys, s.scale, false, self.mode().alone());
                for row in probs.chunks_exact_mut(keys) {
                    let (row, behind) = row.split_at_mut(seen);
                    let (_, total) = exp_of_row(row);
                    scaled(row, R::of(1.0) / total);
                    behind.fill(R::of(0.0));
                }
            }
        });
        Ok(())
    }
}
