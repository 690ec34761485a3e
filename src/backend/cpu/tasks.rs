//! Work in parts that threads share: what a part is never depends on how many threads there are.

use super::{BLOCK, Cpu, Real};
use rayon::prelude::*;

impl<R: Real> Cpu<R> {
    /// Runs `f` where rayon's iterators use this backend's threads.
    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Calls `f(i, chunk)` on chunks of `size` values of `data`, in parallel where there are threads.
    pub(super) fn chunks<T: Send>(&self, data: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
        if size == 0 {
            return;
        }
        match self.threads {
            1 => data.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk)),
            _ => self.run(|| data.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk))),
        }
    }

    /// As [`Cpu::chunks`], on two buffers with as many chunks.
    pub(super) fn chunks2<T: Send, U: Send>(
        &self, (a, size_a): (&mut [T], usize), (b, size_b): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
    ) {
        if size_a == 0 || size_b == 0 {
            return;
        }
        match self.threads {
            1 => {
                let pairs = a.chunks_mut(size_a).zip(b.chunks_mut(size_b));
                pairs.enumerate().for_each(|(i, (x, y))| f(i, x, y));
            }
            _ => self.run(|| {
                let pairs = a.par_chunks_mut(size_a).zip(b.par_chunks_mut(size_b));
                pairs.enumerate().for_each(|(i, (x, y))| f(i, x, y));
            }),
        }
    }

    /// Calls `f(i, earlier, later)` on the chunks `i` and `i + apart` of `data`, for all `i` that have both.
    pub(super) fn pairs<T: Send>(
        &self, data: &mut [T], size: usize, apart: usize, f: impl Fn(usize, &mut [T], &mut [T]) + Sync + Send,
    ) {
        // every chunk is the earlier of one pair and the later of another, so half of the pairs at a time
        for first in [0, apart] {
            let half = data.split_at_mut((first * size).min(data.len())).1;
            self.chunks(half, 2 * apart * size, |i, chunks| {
                let (earlier, later) = chunks.split_at_mut((apart * size).min(chunks.len()));
                self.chunks2((earlier, size), (later, size), |j, earlier, later| {
                    f(first + 2 * apart * i + j, earlier, later);
                });
            });
        }
    }

    /// Calls `f(first_row, rows)` on blocks of rows of `data [_, width]`, in parallel where there are threads.
    pub(super) fn blocks<T: Send>(&self, data: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
        self.chunks(data, BLOCK * width, |i, rows| f(i * BLOCK, rows));
    }

    /// As [`Cpu::blocks`], on two buffers with the same rows.
    pub(super) fn blocks2<T: Send, U: Send>(
        &self, (a, width_a): (&mut [T], usize), (b, width_b): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
    ) {
        self.chunks2((a, BLOCK * width_a), (b, BLOCK * width_b), |i, a, b| f(i * BLOCK, a, b));
    }

    /// Sums over rows, in their order: `f(row, column, sums)` adds what a row has from a column on. Columns in
    /// parallel.
    pub(super) fn column_sums(&self, out: &mut [R], rows: usize, f: impl Fn(usize, usize, &mut [R]) + Sync + Send) {
        self.blocks(out, 1, |first, sums| (0..rows).for_each(|row| f(row, first, sums)));
    }
}
