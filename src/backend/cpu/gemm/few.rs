//! Products with few rows, as in each step of a generation: `b` is read once and as it is stored, since packing it
//! would take longer than the product.
//!
//! Each value is summed in an order that follows from the depth and the form of `b` alone: a row has the same bits
//! whichever rows it is multiplied with.

use super::kernel::fetch;
use super::lanes::Lanes;
use super::pack::Widen;
use super::{Mat, Plain};
use crate::backend::cpu::Real;
use half::bf16;

/// So many rows are few: with more, a panel of `b` is used often enough to be worth packing.
pub(in crate::backend::cpu) const FEW: usize = 32;

/// Rows of `c`, all as long; those beyond the product are empty.
pub(super) type Lines<'a, R> = [&'a mut [R]; FEW];

/// Values that lie in a line: whole vectors and what is left.
type Line<'a, T, const W: usize> = (&'a [[T; W]], &'a [T]);

/// The left operand, each row in a line, and what becomes of the product.
#[derive(Clone, Copy)]
pub(super) struct Few<'a, R> {
    pub a: Mat<'a, R>,
    /// Rows.
    pub m: usize,
    pub depth: usize,
    pub alpha: R,
    /// Whether the result is added to what is there.
    pub add: bool,
}

impl<'a, R: Real> Few<'a, R> {
    /// `MR` rows of `a` from `i` on, in whole vectors, and what is left of each.
    #[inline(always)]
    fn rows<const MR: usize, const W: usize>(&self, i: usize) -> [Line<'a, R, W>; MR] {
        lines(self.a, i, self.depth)
    }

    /// A value of `c` from its sum.
    #[inline(always)]
    pub fn put(&self, sum: R, c: &mut R) {
        *c = if self.add { *c + self.alpha * sum } else { self.alpha * sum };
    }
}

/// `N` lines of a matrix from `first` on, `len` values of each in whole vectors, and what is left. Written as a loop:
/// what a compiler makes of closures here are calls.
#[inline(always)]
fn lines<T, const N: usize, const W: usize>(x: Mat<'_, T>, first: usize, len: usize) -> [Line<'_, T, W>; N] {
    let mut lines: [Line<T, W>; N] = [(&[], &[]); N];
    for (i, line) in lines.iter_mut().enumerate() {
        let (whole, rest) = x.data[(first + i) * x.row..][..len].as_chunks::<W>();
        *line = (&whole[..len / W], rest);
    }
    lines
}

/// Calls `$tile::<rows, N>` on the rows of `$few`, four at a time.
macro_rules! by_fours {
    ($few:ident, $tile:ident::<$n:tt>($($arg:expr),*)) => {
        for i in (0..$few.m).step_by(4) {
            match $few.m - i {
                1 => $tile::<L, R, S, W, 1, $n>($few, i, $($arg),*),
                2 => $tile::<L, R, S, W, 2, $n>($few, i, $($arg),*),
                3 => $tile::<L, R, S, W, 3, $n>($few, i, $($arg),*),
                _ => $tile::<L, R, S, W, 4, $n>($few, i, $($arg),*),
            }
        }
    };
}

/// `c = alpha a b`, or `+=`; the rows or the columns of `b` lie in a line. `c` has as many columns as are wanted.
#[inline(always)]
pub(super) fn product<L: Lanes<R, W>, R: Real, const W: usize>(few: Few<R>, b: Plain<R>, c: &mut Lines<R>) {
    match b {
        Plain::Full(b) if b.row == 1 => columns::<L, R, R, W>(few, b, c),
        Plain::Full(b) => rows::<L, R, R, W>(few, b, c),
        Plain::Bf16(b) if b.row == 1 => columns::<L, R, bf16, W>(few, b, c),
        Plain::Bf16(b) => rows::<L, R, bf16, W>(few, b, c),
    }
}

/// Columns of `b` lie in a line: `c` has inner products, of which a tile shares what it loads.
#[inline(always)]
fn columns<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize>(few: Few<R>, b: Mat<S>, c: &mut Lines<R>) {
    let (n, mut j) = (c[0].len(), 0);
    // a single row waits for memory, unless many columns are under way
    while few.m == 1 && j + 6 <= n {
        dots::<L, R, S, W, 1, 6>(few, 0, b, j, c);
        j += 6;
    }
    while j + 3 <= n {
        by_fours!(few, dots::<3>(b, j, c));
        j += 3;
    }
    while j < n {
        by_fours!(few, dots::<1>(b, j, c));
        j += 1;
    }
}

/// A tile of `MR` rows from `i` on and `N` columns from `j` on.
#[inline(always)]
fn dots<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize, const MR: usize, const N: usize>(
    few: Few<R>, i: usize, b: Mat<S>, j: usize, c: &mut Lines<R>,
) {
    let a: [_; MR] = few.rows::<MR, W>(i);
    let columns: [_; N] = lines::<S, N, W>(b.t(), j, few.depth);
    // the columns of the next tile are on their way while the first rows are multiplied
    let next = if i == 0 { b.data.get((j + N) * b.col..).unwrap_or_default() } else { &[] };
    for (r, (sums, a)) in inner::<L, R, S, W, MR, N>(few.depth / W, &a, &columns, next).into_iter().zip(a).enumerate() {
        for (s, (sum, column)) in sums.into_iter().zip(columns).enumerate() {
            let mut sum = total::<L, R, W>(sum);
            for (&a, b) in a.1.iter().zip(column.1) {
                sum += a * b.widen();
            }
            few.put(sum, &mut c[i + r][j + s]);
        }
    }
}

/// The sum of the parts of a vector, by halves.
#[inline(always)]
pub(super) fn total<L: Lanes<R, W>, R: Real, const W: usize>(sum: L::Vector) -> R {
    let mut parts = [R::of(0.0); W];
    L::store(sum, &mut parts);
    let mut width = W;
    while width > 1 {
        width /= 2;
        for p in 0..width {
            parts[p] += parts[p + width];
        }
    }
    parts[0]
}

/// Inner products of rows and columns of `n` vectors, in `W` parts each; asks for what is `next` in memory.
#[inline(always)]
fn inner<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize, const MR: usize, const N: usize>(
    n: usize, rows: &[Line<R, W>; MR], columns: &[Line<S, W>; N], next: &[S],
) -> [[L::Vector; N]; MR] {
    let mut sums = [[L::splat(R::of(0.0)); N]; MR];
    for q in 0..n {
        let mut b = [L::splat(R::of(0.0)); N];
        for (b, column) in b.iter_mut().zip(columns) {
            *b = load::<L, R, S, W>(&column.0[q]);
        }
        if let Some(next) = next.get(q * N * W) {
            fetch(next);
        }
        for (sums, a) in sums.iter_mut().zip(rows) {
            let a = L::load(&a.0[q]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = L::fused(a, b, *sum);
            }
        }
    }
    sums
}

/// A vector of values as they are stored.
#[inline(always)]
fn load<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize>(from: &[S; W]) -> L::Vector {
    let mut wide = [R::of(0.0); W];
    for (wide, from) in wide.iter_mut().zip(from) {
        *wide = from.widen();
    }
    L::load(&wide)
}

/// Rows of `b` lie in a line: `c` is a sum of them, held in registers.
#[inline(always)]
fn rows<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize>(few: Few<R>, b: Mat<S>, c: &mut Lines<R>) {
    let (n, mut j) = (c[0].len(), 0);
    while few.m == 1 && j + 8 * W <= n {
        sums::<L, R, S, W, 1, 8>(few, 0, b, j, c);
        j += 8 * W;
    }
    while j + 2 * W <= n {
        by_fours!(few, sums::<2>(b, j, c));
        j += 2 * W;
    }
    for j in j..n {
        for (i, c) in c[..few.m].iter_mut().enumerate() {
            let [(a, _)] = few.rows::<1, 1>(i);
            let column = b.data[j..].iter().step_by(b.row);
            few.put(a.iter().zip(column).fold(R::of(0.0), |sum, (&[a], &b)| sum + a * b.widen()), &mut c[j]);
        }
    }
}

/// A tile of `MR` rows from `i` on and `N` vectors of columns from `j` on.
#[inline(always)]
fn sums<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize, const MR: usize, const N: usize>(
    few: Few<R>, i: usize, b: Mat<S>, j: usize, c: &mut Lines<R>,
) {
    let a: [_; MR] = few.rows::<MR, 1>(i);
    let mut sums = [[L::splat(R::of(0.0)); N]; MR];
    for k in 0..few.depth {
        let line = b.data[k * b.row + j..][..N * W].as_chunks::<W>().0;
        let mut b = [L::splat(R::of(0.0)); N];
        for (b, values) in b.iter_mut().zip(line) {
            *b = load::<L, R, S, W>(values);
        }
        for (sums, a) in sums.iter_mut().zip(&a) {
            let a = L::splat(a.0[k][0]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = L::fused(a, b, *sum);
            }
        }
    }
    for (sums, c) in sums.into_iter().zip(&mut c[i..]) {
        for (sum, c) in sums.into_iter().zip(c[j..][..N * W].as_chunks_mut::<W>().0) {
            let before = if few.add { L::load(c) } else { L::splat(R::of(0.0)) };
            L::store(L::fused(L::splat(few.alpha), sum, before), c);
        }
    }
}
