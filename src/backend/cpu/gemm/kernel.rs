//! The innermost loops: tiles of the output, each held in registers over the whole depth.

#![allow(unsafe_code)] // a prefetch

use super::lanes::Lanes;
use super::pairs::may_underflow;
use super::{Left, ROWS, Tiles};
use crate::backend::cpu::Real;

/// Steps of depth that are laid out one after the other.
const UNIT: usize = 4;

/// The sums of a tile of `MR` rows and two vectors of columns.
type Sums<V, const MR: usize> = [[V; 2]; MR];

/// `c += alpha a b`, or `=`, for all tiles.
#[inline(always)]
pub(super) fn block<L: Lanes<R, W>, R: Real, const MR: usize, const W: usize>(
    Tiles { a, m, b, n, depth, ldc, alpha, add }: Tiles<R>, c: &mut [R],
) {
    let of_a = match a {
        Left::Panels(a) if L::CHECKED => least_exponents::<L, R, MR, W>(a, depth),
        _ => [0; ROWS],
    };
    for (j, b) in b.chunks_exact(depth * 2 * W).enumerate() {
        let of_b = if L::CHECKED { L::least_exponent(b) } else { 0 };
        let (b, columns) = (b.as_chunks::<W>().0, (2 * W).min(n - j * 2 * W));
        for i in (0..m).step_by(MR) {
            let rows = MR.min(m - i);
            let c = &mut c[i * ldc + j * 2 * W..];
            for row in 0..rows {
                fetch(&c[row * ldc]);
                fetch(&c[row * ldc + columns - 1]);
            }
            let sums = match a {
                Left::Rows(a) => {
                    // beyond the edge the last row is read again
                    let a = std::array::from_fn(|r| &a.data[(i + r.min(rows - 1)) * a.row..][..depth]);
                    by_rows::<L, R, MR, W>(a, b)
                }
                Left::Panels(a) => {
                    let a = &a[i * depth * L::PARTS..][..MR * depth * L::PARTS];
                    if L::CHECKED && may_underflow(of_a[i / MR], of_b) {
                        by_columns::<L, R, MR, W, true>(a.as_chunks().0, b)
                    } else {
                        by_columns::<L, R, MR, W, false>(a.as_chunks().0, b)
                    }
                }
            };
            if (rows, columns) == (MR, 2 * W) {
                put::<L, R, MR, W>(sums, c, ldc, alpha, add);
                continue;
            }
            // at the edge of `c` a whole tile beside it, of which what is there is copied back
            let mut whole = [[[R::of(0.0); W]; 2]; MR];
            let whole = whole.as_flattened_mut().as_flattened_mut();
            for i in 0..rows {
                copy::<L, R, W>(&c[i * ldc..][..columns], &mut whole[i * 2 * W..]);
            }
            put::<L, R, MR, W>(sums, whole, 2 * W, alpha, add);
            for i in 0..rows {
                copy::<L, R, W>(&whole[i * 2 * W..][..columns], &mut c[i * ldc..]);
            }
        }
    }
}

/// [`Lanes::least_exponent`] of each panel of the left operand.
#[inline(always)]
fn least_exponents<L: Lanes<R, W>, R, const MR: usize, const W: usize>(a: &[R], depth: usize) -> [u32; ROWS] {
    let mut least = [0; ROWS];
    for (least, panel) in least.iter_mut().zip(a.chunks_exact(MR * depth * L::PARTS)) {
        *least = L::least_exponent(panel);
    }
    least
}

/// A row of a tile, or less of it.
#[inline(always)]
fn copy<L: Lanes<R, W>, R: Real, const W: usize>(from: &[R], to: &mut [R]) {
    match from.as_chunks::<W>() {
        // by vectors: what these few take is mostly the call of a copy of any length
        ([first, second], []) => {
            let to = to.as_chunks_mut::<W>().0;
            L::store(L::load(first), &mut to[0]);
            L::store(L::load(second), &mut to[1]);
        }
        _ => to[..from.len()].copy_from_slice(from),
    }
}

/// A whole tile of `c` from its sums.
#[inline(always)]
fn put<L: Lanes<R, W>, R: Real, const MR: usize, const W: usize>(
    sums: Sums<L::Vector, MR>, c: &mut [R], ldc: usize, alpha: R, add: bool,
) {
    let alpha = L::splat(alpha);
    for (i, sums) in sums.iter().enumerate() {
        for (c, &sum) in c[i * ldc..][..2 * W].as_chunks_mut::<W>().0.iter_mut().zip(sums) {
            let before = if add { L::load(c) } else { L::splat(R::of(0.0)) };
            L::store(L::fused(alpha, sum, before), c);
        }
    }
}

/// Adds one step of depth, of a value or of a pair; `a(part, row)` is in parts already. Each sum goes over the depth in
/// its order: the same bits for every size of tile.
#[inline(always)]
fn step<L: Lanes<R, W>, R: Real, const MR: usize, const W: usize, const CAREFUL: bool>(
    a: impl Fn(usize, usize) -> R, b: &[[R; W]], sums: &mut Sums<L::Vector, MR>,
) {
    for part in 0..L::PARTS {
        let b = [L::part(L::load(&b[0]), part), L::part(L::load(&b[1]), part)];
        for (i, sums) in sums.iter_mut().enumerate() {
            let a = L::splat(a(part, i));
            *sums = [L::product::<CAREFUL>(a, b[0], sums[0]), L::product::<CAREFUL>(a, b[1], sums[1])];
        }
    }
}

/// Rows of `a` times a panel of `b`.
#[inline(always)]
fn by_rows<L: Lanes<R, W>, R: Real, const MR: usize, const W: usize>(
    a: [&[R]; MR], b: &[[R; W]],
) -> Sums<L::Vector, MR> {
    let mut sums = [[L::splat(R::of(0.0)); 2]; MR];
    let units = a.map(|row| row.as_chunks::<UNIT>().0);
    let (b, rest) = b.split_at(2 * UNIT * units[0].len());
    for (q, b) in b.chunks_exact(2 * UNIT).enumerate() {
        for (u, b) in b.chunks_exact(2).enumerate() {
            step::<L, R, MR, W, false>(|_, i| units[i][q][u], b, &mut sums);
        }
    }
    for (k, b) in (UNIT * units[0].len()..).zip(rest.chunks_exact(2)) {
        step::<L, R, MR, W, false>(|_, i| a[i][k], b, &mut sums);
    }
    sums
}

/// A panel of `a` times a panel of `b`.
#[inline(always)]
fn by_columns<L: Lanes<R, W>, R: Real, const MR: usize, const W: usize, const CAREFUL: bool>(
    a: &[[R; MR]], b: &[[R; W]],
) -> Sums<L::Vector, MR> {
    let mut sums = [[L::splat(R::of(0.0)); 2]; MR];
    let units = a.chunks_exact(UNIT * L::PARTS);
    let rest = units.remainder();
    let (b, b_rest) = b.split_at(2 * UNIT * units.len());
    for (a, b) in units.zip(b.chunks_exact(2 * UNIT)) {
        for (a, b) in a.chunks_exact(L::PARTS).zip(b.chunks_exact(2)) {
            step::<L, R, MR, W, CAREFUL>(|part, i| a[part][i], b, &mut sums);
        }
    }
    for (a, b) in rest.chunks_exact(L::PARTS).zip(b_rest.chunks_exact(2)) {
        step::<L, R, MR, W, CAREFUL>(|part, i| a[part][i], b, &mut sums);
    }
    sums
}

/// Asks for a line of memory that is needed soon.
#[inline(always)]
pub(super) fn fetch<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, on an address that exists.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}
