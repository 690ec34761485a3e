//! Vectors of values, on the processors that products are compiled for.

#![allow(unsafe_code)] // vectors from arrays

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
