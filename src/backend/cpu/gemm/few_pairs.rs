//! Products with few rows whose operands are bf16: inner products of [`pairs`](super::pairs) with columns of `b` as
//! they are stored.
//!
//! A sum has `W` parts, and each takes every `W`-th pair, whatever the processor.

use super::few::{Few, Lines, total};
use super::kernel::fetch;
use super::lanes::Lanes;
use super::pairs::{Narrow, Rounding, least_exponent, may_underflow};
use super::{Mat, Plain};

/// Pairs in a vector. An instruction of this width suffices where memory decides.
const W: usize = 8;

/// `c = alpha a b`, or `+=`; rows of `few.a` hold pairs, columns of `b` lie in a line. `c` has as many columns as are
/// wanted.
#[inline(always)]
pub(super) fn product<L: Lanes<f32, W> + Rounding>(few: Few<f32>, b: Plain<f32>, c: &mut Lines<f32>) {
    match b {
        Plain::Full(b) => columns::<L, f32>(few, b, c),
        Plain::Bf16(b) => columns::<L, half::bf16>(few, b, c),
    }
}

#[inline(always)]
fn columns<L: Lanes<f32, W> + Rounding, S: Narrow>(few: Few<f32>, b: Mat<S>, c: &mut Lines<f32>) {
    let (n, mut j) = (c[0].len(), 0);
    // a single row waits for memory, unless many columns are under way
    while few.m == 1 && j + 6 <= n {
        dots::<L, S, 1, 6>(few, 0, b, j, c);
        j += 6;
    }
    while j + 3 <= n {
        by_fours::<L, S, 3>(few, b, j, c);
        j += 3;
    }
    while j < n {
        by_fours::<L, S, 1>(few, b, j, c);
        j += 1;
    }
}

/// `N` columns from `j` on and all rows, four at a time.
#[inline(always)]
fn by_fours<L: Lanes<f32, W> + Rounding, S: Narrow, const N: usize>(
    few: Few<f32>, b: Mat<S>, j: usize, c: &mut Lines<f32>,
) {
    for i in (0..few.m).step_by(4) {
        match few.m - i {
            1 => dots::<L, S, 1, N>(few, i, b, j, c),
            2 => dots::<L, S, 2, N>(few, i, b, j, c),
            3 => dots::<L, S, 3, N>(few, i, b, j, c),
            _ => dots::<L, S, 4, N>(few, i, b, j, c),
        }
    }
}

/// A tile of `MR` rows from `i` on and `N` columns from `j` on.
#[inline(always)]
fn dots<L: Lanes<f32, W> + Rounding, S: Narrow, const MR: usize, const N: usize>(
    few: Few<f32>, i: usize, b: Mat<S>, j: usize, c: &mut Lines<f32>,
) {
    let mut rows: [&[f32]; MR] = [&[]; MR];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &few.a.data[(i + r) * few.a.row..][..few.depth.div_ceil(2)];
    }
    let mut columns: [&[S]; N] = [&[]; N];
    for (s, column) in columns.iter_mut().enumerate() {
        *column = &b.data[(j + s) * b.col..][..few.depth];
    }
    // the columns of the next tile are on their way while the first rows are multiplied
    let next = if i == 0 { b.data.get((j + N) * b.col..).unwrap_or_default() } else { &[] };
    let sums = if L::CHECKED && careful::<S, MR, N>(&rows, &columns) {
        inner::<L, S, MR, N, true>(&rows, &columns, next)
    } else {
        inner::<L, S, MR, N, false>(&rows, &columns, next)
    };
    for (r, sums) in sums.into_iter().enumerate() {
        for (s, sum) in sums.into_iter().enumerate() {
            few.put(total::<L, f32, W>(sum), &mut c[i + r][j + s]);
        }
    }
}

/// Whether a sum of the tile could be denormal.
#[inline(always)]
fn careful<S: Narrow, const MR: usize, const N: usize>(rows: &[&[f32]; MR], columns: &[&[S]; N]) -> bool {
    let of_rows = rows.iter().map(|row| least_exponent(row)).min();
    let of_columns = columns.iter().map(|column| S::least_exponent(column)).min();
    may_underflow(of_rows.unwrap_or(0), of_columns.unwrap_or(0))
}

/// Inner products of rows and columns, in `W` parts each; asks for what is `next` in memory.
#[inline(always)]
fn inner<L: Lanes<f32, W> + Rounding, S: Narrow, const MR: usize, const N: usize, const CAREFUL: bool>(
    rows: &[&[f32]; MR], columns: &[&[S]; N], next: &[S],
) -> [[L::Vector; N]; MR] {
    let mut sums = [[L::splat(0.0); N]; MR];
    let whole = columns[0].len() / (2 * W);
    for q in 0..whole {
        let mut b = [L::splat(0.0); N];
        for (b, column) in b.iter_mut().zip(columns) {
            *b = L::load(&S::line::<L>(column[2 * W * q..].first_chunk().expect("a whole vector")));
        }
        if let Some(next) = next.get(2 * W * N * q) {
            fetch(next);
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            let a = L::load(row[W * q..].first_chunk().expect("a whole vector"));
            add::<L, N, CAREFUL>(a, &b, sums);
        }
    }
    if columns[0].len() > 2 * W * whole {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let mut last = [0.0; W];
            let rest = &row[W * whole..];
            last[..rest.len()].copy_from_slice(rest);
            let mut b = [L::splat(0.0); N];
            for (b, column) in b.iter_mut().zip(columns) {
                *b = L::load(&S::tail::<L>(&column[2 * W * whole..]));
            }
            add::<L, N, CAREFUL>(L::load(&last), &b, sums);
        }
    }
    sums
}

/// Adds the products of a vector of pairs with those of each column.
#[inline(always)]
fn add<L: Lanes<f32, W>, const N: usize, const CAREFUL: bool>(
    a: L::Vector, b: &[L::Vector; N], sums: &mut [L::Vector; N],
) {
    for part in 0..L::PARTS {
        let a = L::part(a, part);
        for (sum, &b) in sums.iter_mut().zip(b) {
            *sum = L::product::<CAREFUL>(a, L::part(b, part), *sum);
        }
    }
}
