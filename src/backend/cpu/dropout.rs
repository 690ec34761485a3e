//! Inverted dropout by counter: the mask of a value is a pure function of who it is.

use super::real::Real;
use super::wide::wide;
use super::{Cpu, Dropout, Rows};
use crate::random::philox;

impl<R: Real> Dropout<'_, Cpu<R>> {
    /// `row *= mask`, 0 or 1 / (1 - p) for the values in the columns from `first` on of token `t`; `sub` tells heads of
    /// one module apart.
    ///
    /// Four neighbouring columns share one Philox block, whose counter is (column / 4, position, example, module). Word
    /// w drops its value where w / 2^32 < p.
    pub(super) fn apply(&self, t: usize, sub: u32, first: usize, row: &mut [R]) {
        let key = [self.key[0], self.key[1]];
        let who = [self.tokens.pos[t], self.tokens.example[t], self.module + sub];
        let p = f64::from(self.p);
        let (below, kept) = ((p * (1u64 << 32) as f64).ceil() as u32, R::of(1.0 / (1.0 - p)));
        // up to the first whole block, then a buffer of blocks at a time
        let mut words = [0; WORDS];
        let (mut column, mut rest) = (first, row);
        while !rest.is_empty() {
            let skip = column % 4;
            let n = (WORDS - skip).min(rest.len());
            draw(key, (column / 4) as u32, who, &mut words[..(skip + n).next_multiple_of(4)]);
            let (now, later) = rest.split_at_mut(n);
            mask(now, &words[skip..skip + n], below, kept);
            (column, rest) = (column + n, later);
        }
    }

    /// `rows *= mask` for whole rows from token `first` on.
    pub(super) fn rows(&self, first: usize, width: usize, rows: &mut [R]) {
        for (t, row) in (first..).zip(rows.chunks_exact_mut(width)) {
            self.apply(t, 0, 0, row);
        }
    }
}

/// Words that are drawn at a time.
const WORDS: usize = 256;

/// The blocks from `first` on.
fn draw(key: [u32; 2], first: u32, who: [u32; 3], words: &mut [u32]) {
    for (block, words) in (first..).zip(words.chunks_exact_mut(4)) {
        words.copy_from_slice(&philox(key, [block, who[0], who[1], who[2]]));
    }
}

wide! {
    fn mask<R: Real>(row: &mut [R], words: &[u32], below: u32, kept: R) {
        for (x, &word) in row.iter_mut().zip(words) {
            *x *= if word < below { R::of(0.0) } else { kept };
        }
    }
}

impl<R: Real> Cpu<R> {
    /// `y = mask * x`.
    pub(super) fn masked(&self, s: Rows, drop: Dropout<Self>, x: &[R], y: &mut [R]) {
        self.blocks(&mut y[..s.n * s.width], s.width, |first, rows| {
            rows.copy_from_slice(&x[first * s.width..][..rows.len()]);
            drop.rows(first, s.width, rows);
        });
    }
}
