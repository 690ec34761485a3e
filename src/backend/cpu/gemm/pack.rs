//! Operands in the order in which the kernel reads them.
//!
//! A block of `a` becomes panels of MR rows, one of `b` panels of NR columns; each panel is whole, the places beyond
//! the edge of the matrix are 0. So the kernel knows one shape only, reads memory in a line, and meets no two rows
//! whose addresses share a place of the cache. An `a` whose rows are in a line already is read where it is.

use super::Mat;
use super::lanes::Lanes;
use super::pairs::{Narrow, Rounding};
use crate::backend::cpu::Real;
use half::bf16;

/// A value of an operand as it is stored.
pub(in crate::backend) trait Widen<R>: Copy {
    /// The same in working precision.
    fn widen(self) -> R;
}

impl<R: Real> Widen<R> for R {
    #[inline(always)]
    fn widen(self) -> R {
        self
    }
}

impl<R: Real> Widen<R> for bf16 {
    #[inline(always)]
    fn widen(self) -> R {
        R::of_bf16(self)
    }
}

/// Steps of depth that are taken at a time: so many rows are read side by side, and what they write to a panel fills
/// lines of the cache.
const STEPS: usize = 8;

/// `to` becomes the panels of `a [m, depth]`, `[depth][MR]` each.
#[inline(always)]
pub(super) fn left<R: Real, const MR: usize>(a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
    for from in (0..depth).step_by(STEPS) {
        let steps = STEPS.min(depth - from);
        for (p, panel) in to.chunks_exact_mut(depth * MR).enumerate() {
            let rows = MR.min(m - p * MR);
            for (k, to) in (from..).zip(panel[from * MR..][..steps * MR].chunks_exact_mut(MR)) {
                let (row, a) = (a.row, &a.data[p * MR * a.row + k * a.col..]);
                if (rows, row) == (MR, 1) {
                    to.copy_from_slice(&a[..MR]);
                    continue;
                }
                for (i, to) in to.iter_mut().enumerate() {
                    *to = if i < rows { a[i * row] } else { R::of(0.0) };
                }
            }
        }
    }
}

/// `to` becomes the panels of `b [depth, n]`, `[depth][NR]` each.
#[inline(always)]
pub(super) fn right<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize, const NR: usize>(
    b: Mat<S>, n: usize, depth: usize, to: &mut [R],
) {
    if b.col == 1 {
        // over all panels: memory is read ahead in a line, but not from page to page
        for from in (0..depth).step_by(STEPS) {
            let steps = from..depth.min(from + STEPS);
            for (p, panel) in to.chunks_exact_mut(depth * NR).enumerate() {
                let columns = p * NR..n.min((p + 1) * NR);
                for (k, to) in steps.clone().zip(&mut panel.as_chunks_mut::<NR>().0[steps.clone()]) {
                    let row = &b.data[k * b.row..][columns.clone()];
                    if let Ok(row) = <&[S; NR]>::try_from(row) {
                        *to = row.map(S::widen);
                    } else {
                        to.iter_mut().zip(row).for_each(|(to, x)| *to = x.widen());
                        to[row.len()..].fill(R::of(0.0));
                    }
                }
            }
        }
        return;
    }
    for (p, panel) in to.chunks_exact_mut(depth * NR).enumerate() {
        let (b, columns) = (b.at(0, p * NR), NR.min(n - p * NR));
        let turned = if columns == NR && b.row == 1 { turn::<L, R, S, W, NR>(b, depth, panel) } else { 0 };
        for (k, to) in panel.chunks_exact_mut(NR).enumerate().skip(turned) {
            for (j, to) in to.iter_mut().enumerate() {
                *to = if j < columns { b.data[k * b.row + j * b.col].widen() } else { R::of(0.0) };
            }
        }
    }
}

/// Columns that are contiguous in memory become rows of the panel, by squares of 8; gives the depth that is done.
#[inline(always)]
fn turn<L: Lanes<R, W>, R: Real, S: Widen<R>, const W: usize, const NR: usize>(
    b: Mat<S>, depth: usize, panel: &mut [R],
) -> usize {
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

/// `to` becomes the panels of `b [depth, n]` in bf16: `[ceil(depth / 2)][N]` [`pairs`](super::pairs) each. Places
/// beyond the matrix are 0.
#[inline(always)]
pub(super) fn pairs<L: Lanes<f32, W> + Rounding, S: Narrow, const W: usize, const N: usize>(
    b: Mat<S>, n: usize, depth: usize, to: &mut [f32],
) {
    let lines = depth.div_ceil(2);
    if b.row == 1 && b.col != 1 {
        for (p, panel) in to.chunks_exact_mut(lines * N).enumerate() {
            turn_pairs::<L, S, W, N>(b.at(0, p * N), N.min(n - p * N), depth, panel);
        }
        return;
    }
    for from in (0..lines).step_by(STEPS / 2) {
        let steps = from..lines.min(from + STEPS / 2);
        for (p, panel) in to.chunks_exact_mut(lines * N).enumerate() {
            let columns = N.min(n - p * N);
            for (q, to) in steps.clone().zip(&mut panel.as_chunks_mut::<N>().0[steps.clone()]) {
                let first = &b.data[2 * q * b.row + p * N * b.col..];
                let second = (2 * q + 1 < depth).then(|| &b.data[(2 * q + 1) * b.row + p * N * b.col..]);
                if let (true, Some(second)) = ((b.col, columns) == (1, N), second) {
                    join::<L, S, N>(&first[..N], &second[..N], to);
                    continue;
                }
                let at = |row: &[S], j: usize| if j < columns { row[j * b.col] } else { S::default() };
                for (j, to) in to.iter_mut().enumerate() {
                    *to = S::pair(at(first, j), second.map_or(S::default(), |second| at(second, j)));
                }
            }
        }
    }
}

/// `to` becomes the panels of `a [m, depth]` in bf16: `[ceil(depth / 2)][parts][MR]`, the pairs or, where the
/// processor takes them apart, their upper halves and then their lower ones.
#[inline(always)]
pub(super) fn left_pairs<L: Lanes<f32, W>, P: Lanes<f32, W> + Rounding, const W: usize, const MR: usize>(
    a: Mat<f32>, m: usize, depth: usize, to: &mut [f32],
) {
    if L::PARTS == 1 {
        return pairs::<P, f32, W, MR>(a.t(), m, depth, to);
    }
    let values = depth.div_ceil(2) * MR;
    for (p, panel) in to.chunks_exact_mut(2 * values).enumerate() {
        // written from the front, read from the back half: a line of pairs is read before it is written over
        pairs::<P, f32, W, MR>(a.at(p * MR, 0).t(), MR.min(m - p * MR), depth, &mut panel[values..]);
        for at in (0..values).step_by(MR) {
            let line: [f32; MR] = std::array::from_fn(|i| panel[values + at + i]);
            let apart = panel[2 * at..][..2 * MR].as_chunks_mut::<MR>().0;
            apart[0] = line.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000));
            apart[1] = line.map(|x| f32::from_bits(x.to_bits() << 16));
        }
    }
}

/// Two rows of a panel that are contiguous in memory.
#[inline(always)]
fn join<L: Rounding, S: Narrow, const N: usize>(first: &[S], second: &[S], to: &mut [f32; N]) {
    let ((a, a_rest), (b, b_rest)) = (first.as_chunks::<8>(), second.as_chunks::<8>());
    let (to, rest) = to.as_chunks_mut::<8>();
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = S::rows::<L>(a, b);
    }
    for ((to, &a), &b) in rest.iter_mut().zip(a_rest).zip(b_rest) {
        *to = S::pair(a, b);
    }
}

/// A panel of columns that are contiguous in memory, by squares of 8 pairs.
#[inline(always)]
fn turn_pairs<L: Lanes<f32, W> + Rounding, S: Narrow, const W: usize, const N: usize>(
    b: Mat<S>, columns: usize, depth: usize, panel: &mut [f32],
) {
    for (q, to) in panel.chunks_mut(8 * N).enumerate() {
        for j in (0..N).step_by(8) {
            let mut square = [[0.0f32; 8]; 8];
            for (i, row) in square.iter_mut().enumerate().take(columns.saturating_sub(j)) {
                let from = &b.data[(j + i) * b.col + 16 * q..];
                *row = match from.first_chunk::<16>() {
                    Some(from) if 16 * (q + 1) <= depth => S::line::<L>(from),
                    _ => S::tail::<L>(&from[..16.min(depth - 16 * q)]),
                };
            }
            L::transpose(&mut square);
            for (to, row) in to.chunks_exact_mut(N).zip(&square) {
                let to = &mut to[j..N.min(j + 8)];
                to.copy_from_slice(&row[..to.len()]);
            }
        }
    }
}
