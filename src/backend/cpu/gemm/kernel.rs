//! The innermost loops: tiles of the output, each held in registers over the whole depth.

#![allow(unsafe_code)] // a prefetch

use super::Tiles;
use super::lanes::Lanes;
use super::pack::UNIT;
use crate::backend::cpu::Real;

/// `c += alpha a b`, or `=`, for all tiles of packed panels.
#[inline(always)]
pub(super) fn block<L: Lanes<R>, R: Real, const MR: usize, const NR: usize>(tiles: Tiles<R>, c: &mut [R]) {
    let Tiles { a, by_rows, m, b, n, depth, ldc, .. } = tiles;
    for (j, b) in b.chunks_exact(depth * NR).enumerate() {
        for (i, a) in a.chunks_exact(depth * MR).enumerate() {
            let (rows, columns) = (MR.min(m - i * MR), NR.min(n - j * NR));
            let c = &mut c[i * MR * ldc + j * NR..];
            if by_rows {
                tile::<L, R, MR, NR, true>(tiles, a, b, c, rows, columns);
            } else {
                tile::<L, R, MR, NR, false>(tiles, a, b, c, rows, columns);
            }
        }
    }
}

/// One tile of `c`, of which `rows` x `columns` are there.
#[inline(always)]
fn tile<L: Lanes<R>, R: Real, const MR: usize, const NR: usize, const BY_ROWS: bool>(
    Tiles { ldc, alpha, add, .. }: Tiles<R>,
    a: &[R],
    b: &[R],
    c: &mut [R],
    rows: usize,
    columns: usize,
) {
    let put = |c: &mut R, x: R| *c = if add { *c + alpha * x } else { alpha * x };
    if (rows, columns) == (MR, NR) {
        for i in 0..MR {
            fetch(&c[i * ldc]);
            fetch(&c[i * ldc + NR - 1]);
        }
        let sums = product::<L, R, MR, NR, BY_ROWS>(a, b);
        for (i, sums) in sums.iter().enumerate() {
            c[i * ldc..][..NR].iter_mut().zip(sums).for_each(|(c, &x)| put(c, x));
        }
    } else {
        // apart from the above: an index that is not known when it is compiled would keep `sums` out of registers
        let sums = product::<L, R, MR, NR, BY_ROWS>(a, b);
        for (i, sums) in sums.iter().enumerate().take(rows) {
            c[i * ldc..][..columns].iter_mut().zip(sums).for_each(|(c, &x)| put(c, x));
        }
    }
}

/// The sums of a tile, each over the depth in its order: the same bits for every size of tile.
#[inline(always)]
fn product<L: Lanes<R>, R: Real, const MR: usize, const NR: usize, const BY_ROWS: bool>(
    a: &[R],
    b: &[R],
) -> [[R; NR]; MR] {
    let mut sums = [[R::of(0.0); NR]; MR];
    for (a, b) in a.chunks_exact(MR * UNIT).zip(b.chunks_exact(UNIT * NR)) {
        for u in 0..UNIT {
            for i in 0..MR {
                let x = if BY_ROWS { a[i * UNIT + u] } else { a[u * MR + i] };
                for j in 0..NR {
                    sums[i][j] = L::fused(x, b[u * NR + j], sums[i][j]);
                }
            }
        }
    }
    sums
}

/// Asks for a line of memory that is needed soon.
#[inline(always)]
fn fetch<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, on an address that exists.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}
