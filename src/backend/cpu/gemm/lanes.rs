//! What of a processor the loops of a product are compiled for, and the choice at run time.

#![allow(unsafe_code)] // calls of functions that are compiled for AVX2 or AVX-512; vectors from arrays

use super::kernel::block;
use super::pack::{left, right};
use super::{Mat, ROOM_OF, Right, Tiles};
use half::bf16;
use std::cell::Cell;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Operations that are other instructions on other processors.
pub(super) trait Lanes<R> {
    /// `a b + c`, rounded once where there is an instruction for it.
    fn fused(a: R, b: R, c: R) -> R;
    /// Swaps rows and columns.
    fn transpose(square: &mut [[R; 8]; 8]);
}

/// Any processor: no fused multiplication and addition, which is a slow function where there is no instruction.
pub(super) struct Baseline;

/// x86-64 with FMA, with vectors of 32 or 64 bytes.
#[cfg(target_arch = "x86_64")]
pub(super) struct Fma;

fn swap<T: Copy>(square: &mut [[T; 8]; 8]) {
    let from = *square;
    for (i, row) in square.iter_mut().enumerate() {
        *row = std::array::from_fn(|j| from[j][i]);
    }
}

impl<R: num_traits::Float> Lanes<R> for Baseline {
    #[inline(always)]
    fn fused(a: R, b: R, c: R) -> R {
        a * b + c
    }
    #[inline(always)]
    fn transpose(square: &mut [[R; 8]; 8]) {
        swap(square);
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes<f64> for Fma {
    #[inline(always)]
    fn fused(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn transpose(square: &mut [[f64; 8]; 8]) {
        swap(square);
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes<f32> for Fma {
    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn transpose(square: &mut [[f32; 8]; 8]) {
        // SAFETY: only functions that are compiled for AVX2 or more have this lane.
        unsafe { transpose(square) }
    }
}

/// Within pairs of rows, within fours, then between halves of vectors: 24 shuffles, where a compiler left alone moves 64
/// values one by one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(square: &mut [[f32; 8]; 8]) {
    use std::arch::x86_64::*;
    // SAFETY: eight floats are a vector, bit for bit.
    let r: [__m256; 8] = unsafe { std::mem::transmute(*square) };
    let (mut pairs, mut fours, mut whole) = (r, r, r);
    for i in [0, 2, 4, 6] {
        pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for i in [0, 4] {
        for half in [0, 1] {
            let (a, b) = (pairs[i + half], pairs[i + half + 2]);
            fours[i + 2 * half] = _mm256_shuffle_ps::<0x44>(a, b);
            fours[i + 2 * half + 1] = _mm256_shuffle_ps::<0xee>(a, b);
        }
    }
    for i in 0..4 {
        whole[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
        whole[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
    }
    // SAFETY: as above.
    *square = unsafe { std::mem::transmute::<[__m256; 8], [[f32; 8]; 8]>(whole) };
}

type PackLeft<R> = unsafe fn(Mat<R>, usize, usize, &mut [R]);
type PackRight<R> = unsafe fn(Right<R>, usize, usize, &mut [R]);
type Block<R> = unsafe fn(Tiles<R>, &mut [R]);

/// The loops of a product for the processor at hand.
#[derive(Clone, Copy)]
pub struct Kernel<R> {
    /// Rows of a tile.
    pub(super) mr: usize,
    /// Columns of a tile, a multiple of 8.
    pub(super) nr: usize,
    left: PackLeft<R>,
    right: PackRight<R>,
    block: Block<R>,
}

impl<R> Kernel<R> {
    /// [`left`].
    pub(super) fn pack_left(&self, a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
        // SAFETY: `Product::kernel` gives a function only where the processor has what it was compiled for.
        unsafe { (self.left)(a, m, depth, to) }
    }

    /// [`right`].
    pub(super) fn pack_right(&self, b: Right<R>, n: usize, depth: usize, to: &mut [R]) {
        // SAFETY: as in `pack_left`.
        unsafe { (self.right)(b, n, depth, to) }
    }

    /// [`block`].
    pub(super) fn multiply(&self, tiles: Tiles<R>, c: &mut [R]) {
        // SAFETY: as in `pack_left`.
        unsafe { (self.block)(tiles, c) }
    }
}

/// A kernel of tiles MR x NR over `$t`, compiled with `$feature`.
macro_rules! kernel {
    ($t:ty, $lanes:ty, $mr:literal x $nr:literal $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        fn pack_left(a: Mat<$t>, m: usize, depth: usize, to: &mut [$t]) {
            left::<$t, $mr>(a, m, depth, to);
        }
        $(#[target_feature(enable = $feature)])?
        fn pack_right(b: Right<$t>, n: usize, depth: usize, to: &mut [$t]) {
            match b {
                Right::Full(b) => right::<$lanes, $t, $t, $nr>(b, n, depth, to),
                Right::Bf16(b) => right::<$lanes, $t, bf16, $nr>(b, n, depth, to),
            }
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply(tiles: Tiles<$t>, c: &mut [$t]) {
            block::<$lanes, $t, $mr, $nr>(tiles, c);
        }
        Kernel { mr: $mr, nr: $nr, left: pack_left, right: pack_right, block: multiply }
    }};
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// x86-64 with AVX-512.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Any processor.
    Baseline,
}

impl Target {
    /// From the fastest on.
    pub(super) const ALL: [Target; 3] = [Target::Avx512, Target::Avx2, Target::Baseline];
}

/// A type that there are kernels for.
pub trait Product: Copy + 'static {
    /// The kernel for a target, if this processor is one.
    fn kernel(target: Target) -> Option<Kernel<Self>>;
    /// Lends room for packed panels to `f`, apart for left and right operands; what it holds is unspecified. Each thread
    /// keeps its own, so that a warm step allocates nothing.
    fn with_room<T>(side: Side, f: impl FnOnce(&mut [Self]) -> T) -> T;
}

/// An operand of a product.
#[derive(Clone, Copy)]
pub enum Side {
    /// The one whose rows are those of the result.
    Left,
    /// The one whose columns are.
    Right,
}

/// Tiles are as large as the vector registers hold beside two vectors of `b` and one of `a`.
macro_rules! product {
    ($t:ty, $narrow:literal, $wide:literal, $base:literal) => {
        impl Product for $t {
            fn kernel(target: Target) -> Option<Kernel<$t>> {
                match target {
                    #[cfg(target_arch = "x86_64")]
                    Target::Avx512 if is_x86_feature_detected!("avx512f") => {
                        Some(kernel!($t, Fma, 12 x $wide, "avx512f"))
                    }
                    #[cfg(target_arch = "x86_64")]
                    Target::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                        Some(kernel!($t, Fma, 6 x $narrow, "avx2,fma"))
                    }
                    Target::Baseline => Some(kernel!($t, Baseline, $base x 8)),
                    _ => None,
                }
            }

            fn with_room<T>(side: Side, f: impl FnOnce(&mut [$t]) -> T) -> T {
                thread_local! {
                    static ROOM: [Cell<Vec<$t>>; 2] = const { [Cell::new(Vec::new()), Cell::new(Vec::new())] };
                }
                let mut room = ROOM.with(|room| room[side as usize].take());
                if room.is_empty() {
                    // all that is ever asked for, and a cache line to begin on the next; what is not used takes no memory
                    room = vec![0.0; ROOM_OF[side as usize] + LINE / size_of::<$t>()];
                }
                let start = room.as_ptr().align_offset(LINE);
                let result = f(&mut room[start..]);
                ROOM.with(|kept| kept[side as usize].set(room));
                result
            }
        }
    };
}
product!(f32, 16, 32, 4);
product!(f64, 8, 16, 2);
