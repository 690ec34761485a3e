//! What of a processor the loops of a product are compiled for, and the choice at run time.

#![allow(unsafe_code)] // calls of functions that are compiled for AVX2 or AVX-512; vectors from arrays

use super::few::{Few, Lines, product};
use super::kernel::block;
use super::pack::{left, right};
use super::{Mat, ROOM_OF, Right, Tiles};
use half::bf16;
use std::cell::Cell;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Vectors of `W` values, and what is done with them by other instructions on other processors.
pub(super) trait Lanes<R, const W: usize> {
    /// What a register holds.
    type Vector: Copy;
    /// The same value in all places.
    fn splat(x: R) -> Self::Vector;
    /// From memory.
    fn load(from: &[R; W]) -> Self::Vector;
    /// To memory.
    fn store(x: Self::Vector, to: &mut [R; W]);
    /// `a b + c`, rounded once where there is an instruction for it.
    fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Swaps rows and columns.
    fn transpose(square: &mut [[R; 8]; 8]);
}

/// Any processor: no fused multiplication and addition, which is a slow function where there is no instruction.
pub(super) struct Baseline;

impl<R: num_traits::Float, const W: usize> Lanes<R, W> for Baseline {
    type Vector = [R; W];

    #[inline(always)]
    fn splat(x: R) -> [R; W] {
        [x; W]
    }
    #[inline(always)]
    fn load(from: &[R; W]) -> [R; W] {
        *from
    }
    #[inline(always)]
    fn store(x: [R; W], to: &mut [R; W]) {
        *to = x;
    }
    #[inline(always)]
    fn fused(a: [R; W], b: [R; W], c: [R; W]) -> [R; W] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn transpose(square: &mut [[R; 8]; 8]) {
        swap(square);
    }
}

fn swap<T: Copy>(square: &mut [[T; 8]; 8]) {
    let from = *square;
    for (i, row) in square.iter_mut().enumerate() {
        *row = std::array::from_fn(|j| from[j][i]);
    }
}

/// x86-64 with FMA, with vectors of 32 or 64 bytes.
#[cfg(target_arch = "x86_64")]
pub(super) struct Fma;

/// Written with the instructions by name: what a compiler makes of loops over arrays keeps all sums of a tile in
/// registers, or it does not, and then takes twice the time.
#[cfg(target_arch = "x86_64")]
macro_rules! lanes {
    ($t:ty, $w:literal, $vector:ident, $splat:ident, $load:ident, $store:ident, $fused:ident, $transpose:expr) => {
        impl Lanes<$t, $w> for Fma {
            type Vector = std::arch::x86_64::$vector;

            #[inline(always)]
            fn splat(x: $t) -> Self::Vector {
                // SAFETY: only functions that are compiled for these vectors have this lane.
                unsafe { std::arch::x86_64::$splat(x) }
            }
            #[inline(always)]
            fn load(from: &[$t; $w]) -> Self::Vector {
                // SAFETY: as above; the array has the size of a vector, of any alignment.
                unsafe { std::arch::x86_64::$load(from.as_ptr()) }
            }
            #[inline(always)]
            fn store(x: Self::Vector, to: &mut [$t; $w]) {
                // SAFETY: as for `load`.
                unsafe { std::arch::x86_64::$store(to.as_mut_ptr(), x) }
            }
            #[inline(always)]
            fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: as for `splat`.
                unsafe { std::arch::x86_64::$fused(a, b, c) }
            }
            #[inline(always)]
            fn transpose(square: &mut [[$t; 8]; 8]) {
                // SAFETY: as for `splat`; all of them have AVX2.
                #[allow(unused_unsafe)]
                unsafe {
                    $transpose(square)
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
lanes!(f32, 8, __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, transpose);
#[cfg(target_arch = "x86_64")]
lanes!(f32, 16, __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, transpose);
#[cfg(target_arch = "x86_64")]
lanes!(f64, 4, __m256d, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, swap);
#[cfg(target_arch = "x86_64")]
lanes!(f64, 8, __m512d, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, swap);

/// Within pairs of rows, within fours, then between halves of vectors: 24 shuffles, where a compiler left alone moves
/// 64 values one by one.
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
type OfFew<R> = unsafe fn(Few<R>, Right<R>, &mut Lines<R>);

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
    few: OfFew<R>,
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

    /// [`product`].
    pub(super) fn multiply_few(&self, few: Few<R>, b: Right<R>, c: &mut Lines<R>) {
        // SAFETY: as in `pack_left`.
        unsafe { (self.few)(few, b, c) }
    }
}

/// A kernel of tiles of `$mr` rows and two vectors of `$w` columns, compiled with `$feature`. Products with few rows
/// have vectors of `$few` on every processor, since the bits of an inner product depend on their width.
macro_rules! kernel {
    ($t:ty, $lanes:ty, $mr:literal x 2 x $w:literal, $few:literal $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        fn pack_left(a: Mat<$t>, m: usize, depth: usize, to: &mut [$t]) {
            left::<$t, $mr>(a, m, depth, to);
        }
        $(#[target_feature(enable = $feature)])?
        fn pack_right(b: Right<$t>, n: usize, depth: usize, to: &mut [$t]) {
            match b {
                Right::Full(b) => right::<$lanes, $t, $t, $w, { 2 * $w }>(b, n, depth, to),
                Right::Bf16(b) => right::<$lanes, $t, bf16, $w, { 2 * $w }>(b, n, depth, to),
            }
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply(tiles: Tiles<$t>, c: &mut [$t]) {
            block::<$lanes, $t, $mr, $w>(tiles, c);
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply_few(few: Few<$t>, b: Right<$t>, c: &mut Lines<$t>) {
            product::<$lanes, $t, $few>(few, b, c);
        }
        Kernel { mr: $mr, nr: 2 * $w, left: pack_left, right: pack_right, block: multiply, few: multiply_few }
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
    /// Lends room for packed panels to `f`, apart for left and right operands; what it holds is unspecified. Each
    /// thread keeps its own, so that a warm step allocates nothing.
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
                        Some(kernel!($t, Fma, 12 x 2 x $wide, $narrow, "avx512f"))
                    }
                    #[cfg(target_arch = "x86_64")]
                    Target::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                        Some(kernel!($t, Fma, 6 x 2 x $narrow, $narrow, "avx2,fma"))
                    }
                    Target::Baseline => Some(kernel!($t, Baseline, $base x 2 x 4, $narrow)),
                    _ => None,
                }
            }

            fn with_room<T>(side: Side, f: impl FnOnce(&mut [$t]) -> T) -> T {
                thread_local! {
                    static ROOM: [Cell<Vec<$t>>; 2] = const { [Cell::new(Vec::new()), Cell::new(Vec::new())] };
                }
                let mut room = ROOM.with(|room| room[side as usize].take());
                if room.is_empty() {
                    // all that is ever asked for, and a cache line to begin on the next; what is not used takes no
                    // memory
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
product!(f32, 8, 16, 4);
product!(f64, 4, 8, 2);
