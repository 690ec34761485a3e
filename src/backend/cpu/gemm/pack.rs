//! Operands in the order in which the kernel reads them.
//!
//! A block of `a` becomes panels of MR rows, one of `b` panels of NR columns; each panel is whole, the places beyond the
//! edge of the matrix are 0. The depth is padded to a multiple of [`UNIT`]. So the kernel knows one shape only, reads
//! memory in a line, and meets no two rows whose addresses share a place of the cache.

use super::Mat;
use super::lanes::Lanes;
use crate::backend::cpu::Real;
use crate::backend::cpu::wide::{dot, sum_of_pairs, wide};
use half::bf16;

/// Steps of depth that rows are copied by: as many as a vector copies at a time.
pub(super) const UNIT: usize = 8;

/// A value of an operand as it is stored.
pub(in crate::backend) trait Stored<R>: Copy {
    /// The same in working precision.
    fn widen(self) -> R;
    /// The inner product.
    fn dot(a: &[R], b: &[Self]) -> R;
    /// `c += x b`.
    fn add(c: &mut [R], x: R, b: &[Self]);
}

wide! {
    fn dot_bf16<R: Real>(a: &[R], b: &[bf16]) -> R {
        sum_of_pairs(a, b, |a, b| a * R::of_bf16(b))
    }

    fn add_bf16<R: Real>(c: &mut [R], x: R, b: &[bf16]) {
        c.iter_mut().zip(b).for_each(|(c, &b)| *c += x * R::of_bf16(b));
    }

    fn add_row<R: Real>(c: &mut [R], x: R, b: &[R]) {
        c.iter_mut().zip(b).for_each(|(c, &b)| *c += x * b);
    }
}

impl<R: Real> Stored<R> for R {
    #[inline(always)]
    fn widen(self) -> R {
        self
    }
    fn dot(a: &[R], b: &[R]) -> R {
        dot(a, b)
    }
    fn add(c: &mut [R], x: R, b: &[R]) {
        add_row(c, x, b);
    }
}

impl<R: Real> Stored<R> for bf16 {
    #[inline(always)]
    fn widen(self) -> R {
        R::of_bf16(self)
    }
    fn dot(a: &[R], b: &[bf16]) -> R {
        dot_bf16(a, b)
    }
    fn add(c: &mut [R], x: R, b: &[bf16]) {
        add_bf16(c, x, b);
    }
}

/// How the panels of `a` are laid out: what is contiguous in memory is copied as it is.
pub(super) fn by_rows<R>(a: Mat<R>) -> bool {
    a.col == 1
}

/// `to` becomes the panels of `a [m, depth]`: `[depth / UNIT][MR][UNIT]` each where `a` lies by rows, else `[depth][MR]`.
#[inline(always)]
pub(super) fn left<R: Real, const MR: usize>(a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
    let padded = depth.next_multiple_of(UNIT);
    if !by_rows(a) {
        return columns_of::<R, MR>(a, m, depth, to);
    }
    for (p, panel) in to.chunks_exact_mut(MR * padded).enumerate() {
        rows_of::<R, MR>(a.at(p * MR, 0), MR.min(m - p * MR), depth, panel);
    }
}

#[inline(always)]
fn rows_of<R: Real, const MR: usize>(a: Mat<R>, rows: usize, depth: usize, panel: &mut [R]) {
    let (whole, rest) = panel.split_at_mut(depth / UNIT * MR * UNIT);
    let mut units: [&[[R; UNIT]]; MR] = [&[]; MR];
    for (i, units) in units.iter_mut().enumerate().take(rows) {
        *units = a.data[i * a.row..][..depth].as_chunks().0;
    }
    for (q, to) in whole.chunks_exact_mut(MR * UNIT).enumerate() {
        for (to, units) in to.chunks_exact_mut(UNIT).zip(units) {
            to.copy_from_slice(units.get(q).unwrap_or(&[R::of(0.0); UNIT]));
        }
    }
    rest.fill(R::of(0.0));
    for (i, to) in rest.chunks_exact_mut(UNIT).enumerate().take(rows) {
        let from = &a.data[i * a.row..][depth / UNIT * UNIT..depth];
        to[..from.len()].copy_from_slice(from);
    }
}

/// Along the depth over all panels, as [`right`] does it.
#[inline(always)]
fn columns_of<R: Real, const MR: usize>(a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
    let padded = depth.next_multiple_of(UNIT);
    to.chunks_exact_mut(padded * MR).for_each(|panel| panel[depth * MR..].fill(R::of(0.0)));
    for k in 0..depth {
        let from = &a.data[k * a.col..];
        let panels = to.chunks_exact_mut(padded * MR).map(|panel| &mut panel[k * MR..][..MR]);
        for (p, to) in panels.enumerate() {
            let rows = MR.min(m - p * MR);
            if rows == MR && a.row == 1 {
                to.copy_from_slice(&from[p * MR..][..MR]);
                continue;
            }
            for (i, to) in to.iter_mut().enumerate() {
                *to = if i < rows { from[(p * MR + i) * a.row] } else { R::of(0.0) };
            }
        }
    }
}

/// `to` becomes the panels of `b [depth, n]`, `[depth][NR]` each.
#[inline(always)]
pub(super) fn right<L: Lanes<R>, R: Real, S: Stored<R>, const NR: usize>(
    b: Mat<S>,
    n: usize,
    depth: usize,
    to: &mut [R],
) {
    let padded = depth.next_multiple_of(UNIT);
    to.chunks_exact_mut(padded * NR).for_each(|panel| panel[depth * NR..].fill(R::of(0.0)));
    if b.col == 1 {
        // along the rows, over all panels: memory is read ahead in a line, but not from page to page
        for k in 0..depth {
            let (chunks, rest) = b.data[k * b.row..][..n].as_chunks::<NR>();
            let mut places = to.chunks_exact_mut(padded * NR).map(|panel| &mut panel[k * NR..][..NR]);
            for (chunk, to) in chunks.iter().zip(places.by_ref()) {
                to.iter_mut().zip(chunk).for_each(|(to, x)| *to = x.widen());
            }
            if let Some(to) = places.next().filter(|_| !rest.is_empty()) {
                to.iter_mut().zip(rest).for_each(|(to, x)| *to = x.widen());
                to[rest.len()..].fill(R::of(0.0));
            }
        }
        return;
    }
    for (p, panel) in to.chunks_exact_mut(padded * NR).enumerate() {
        let (b, columns) = (b.at(0, p * NR), NR.min(n - p * NR));
        let turned = if columns == NR && b.row == 1 { turn::<L, R, S, NR>(b, depth, panel) } else { 0 };
        for (k, to) in panel[..depth * NR].chunks_exact_mut(NR).enumerate().skip(turned) {
            for (j, to) in to.iter_mut().enumerate() {
                *to = if j < columns { b.data[k * b.row + j * b.col].widen() } else { R::of(0.0) };
            }
        }
    }
}

/// Columns that are contiguous in memory become rows of the panel, by squares of 8; gives the depth that is done.
#[inline(always)]
fn turn<L: Lanes<R>, R: Real, S: Stored<R>, const NR: usize>(b: Mat<S>, depth: usize, panel: &mut [R]) -> usize {
    for (q, to) in panel[..depth / 8 * 8 * NR].chunks_exact_mut(8 * NR).enumerate() {
        for j in (0..NR).step_by(8) {
            let mut square = [[R::of(0.0); 8]; 8];
            for (i, row) in square.iter_mut().enumerate() {
                let from = &b.data[(j + i) * b.col + q * 8..][..8];
                row.iter_mut().zip(from).for_each(|(x, from)| *x = from.widen());
            }
            L::transpose(&mut square);
            for (i, row) in square.iter().enumerate() {
                to[i * NR + j..][..8].copy_from_slice(row);
            }
        }
    }
    depth / 8 * 8
}
