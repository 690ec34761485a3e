//! Vectors of values, on the processors that products are compiled for.

#![allow(unsafe_code)] // vectors from arrays

use super::pairs::{Rounding, careful, least_exponent};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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
    /// Whether [`Lanes::product`] has to be told which operands could make denormal sums.
    const CHECKED: bool = false;
    /// Of operands as a panel holds them, the least exponent, where they are checked.
    #[inline(always)]
    fn least_exponent(_panel: &[R]) -> u32 {
        0
    }
    /// How many multiplications a step takes: 2 where the two values of a [pair](super::pairs) are multiplied one after
    /// the other, else 1. With 2, panels of the left operand hold the two values in separate lines; panels of the right
    /// operand always hold pairs.
    const PARTS: usize = 1;
    /// The values of a vector of pairs that multiplication `part` takes.
    #[inline(always)]
    fn part(x: Self::Vector, _part: usize) -> Self::Vector {
        x
    }
    /// `sum` and the product of two operands. `CAREFUL` is for those that could make denormal sums.
    #[inline(always)]
    fn product<const CAREFUL: bool>(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector {
        Self::fused(a, b, sum)
    }
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
            type Vector = $vector;

            #[inline(always)]
            fn splat(x: $t) -> Self::Vector {
                // SAFETY: only functions that are compiled for these vectors have this lane.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            fn load(from: &[$t; $w]) -> Self::Vector {
                // SAFETY: as above; the array has the size of a vector, of any alignment.
                unsafe { $load(from.as_ptr()) }
            }
            #[inline(always)]
            fn store(x: Self::Vector, to: &mut [$t; $w]) {
                // SAFETY: as for `load`.
                unsafe { $store(to.as_mut_ptr(), x) }
            }
            #[inline(always)]
            fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: as for `splat`.
                unsafe { $fused(a, b, c) }
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

/// Pairs on any processor ([`pairs`](super::pairs)).
pub(super) struct BaselinePairs;

/// Pairs on x86-64 with FMA, with vectors of 32 or 64 bytes.
#[cfg(target_arch = "x86_64")]
pub(super) struct FmaPairs;

/// Pairs on x86-64 with AVX512_BF16.
#[cfg(target_arch = "x86_64")]
pub(super) struct Bf16Pairs;

/// [`Lanes`] of pairs that are those of values, but for the product.
macro_rules! pairs {
    ($lanes:ty, $values:ty, $w:literal, $vector:ty, $parts:literal, $part:expr, $product:expr) => {
        impl Lanes<f32, $w> for $lanes {
            type Vector = $vector;
            const CHECKED: bool = $parts > 1;
            const PARTS: usize = $parts;

            #[inline(always)]
            fn splat(x: f32) -> Self::Vector {
                <$values as Lanes<f32, $w>>::splat(x)
            }
            #[inline(always)]
            fn load(from: &[f32; $w]) -> Self::Vector {
                <$values as Lanes<f32, $w>>::load(from)
            }
            #[inline(always)]
            fn store(x: Self::Vector, to: &mut [f32; $w]) {
                <$values as Lanes<f32, $w>>::store(x, to);
            }
            #[inline(always)]
            fn fused(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                <$values as Lanes<f32, $w>>::fused(a, b, c)
            }
            #[inline(always)]
            fn transpose(square: &mut [[f32; 8]; 8]) {
                <$values as Lanes<f32, $w>>::transpose(square);
            }
            #[inline(always)]
            fn least_exponent(panel: &[f32]) -> u32 {
                least_exponent(panel)
            }
            #[inline(always)]
            fn part(x: Self::Vector, part: usize) -> Self::Vector {
                // SAFETY: only functions that are compiled for these instructions have this lane.
                #[allow(unused_unsafe)]
                unsafe {
                    $part(x, part)
                }
            }
            #[inline(always)]
            fn product<const CAREFUL: bool>(a: Self::Vector, b: Self::Vector, sum: Self::Vector) -> Self::Vector {
                if !CAREFUL {
                    // SAFETY: as for `part`.
                    #[allow(unused_unsafe)]
                    return unsafe { $product(a, b, sum) };
                }
                let array = |x| {
                    let mut array = [0.0; $w];
                    Self::store(x, &mut array);
                    array
                };
                Self::load(&careful(array(a), array(b), array(sum)))
            }
        }
    };
}
// products are exact, so rounding them first changes nothing
pairs!(BaselinePairs, Baseline, 4, [f32; 4], 2, part_of_array, <Baseline as Lanes<f32, 4>>::fused);
pairs!(BaselinePairs, Baseline, 8, [f32; 8], 2, part_of_array, <Baseline as Lanes<f32, 8>>::fused);
#[cfg(test)]
pairs!(BaselinePairs, Baseline, 16, [f32; 16], 2, part_of_array, <Baseline as Lanes<f32, 16>>::fused);
#[cfg(target_arch = "x86_64")]
pairs!(FmaPairs, Fma, 8, __m256, 2, part_of_8, <Fma as Lanes<f32, 8>>::fused);
#[cfg(target_arch = "x86_64")]
pairs!(FmaPairs, Fma, 16, __m512, 2, part_of_16, <Fma as Lanes<f32, 16>>::fused);
#[cfg(target_arch = "x86_64")]
pairs!(Bf16Pairs, Fma, 8, __m256, 1, whole, instruction_8);
#[cfg(target_arch = "x86_64")]
pairs!(Bf16Pairs, Fma, 16, __m512, 1, whole, instruction_16);

impl Rounding for BaselinePairs {}
#[cfg(target_arch = "x86_64")]
impl Rounding for FmaPairs {}
#[cfg(target_arch = "x86_64")]
impl Rounding for Bf16Pairs {
    #[inline(always)]
    fn line(from: &[f32; 16]) -> [f32; 8] {
        // SAFETY: only functions that are compiled for these instructions have this lane.
        unsafe { round_line(from) }
    }
    #[inline(always)]
    fn rows(first: &[f32; 8], second: &[f32; 8]) -> [f32; 8] {
        // SAFETY: as above.
        unsafe { round_rows(first, second) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512vl")]
#[inline]
fn round_line(from: &[f32; 16]) -> [f32; 8] {
    // SAFETY: arrays have the size of what is read and written; 16 bf16 are 8 pairs, bit for bit.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(from.as_ptr()))) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512vl")]
#[inline]
fn round_rows(first: &[f32; 8], second: &[f32; 8]) -> [f32; 8] {
    // SAFETY: as above; 8 bf16 are 128 bits.
    let bits = |from: &[f32; 8]| unsafe {
        _mm256_cvtepu16_epi32(std::mem::transmute::<__m128bh, __m128i>(_mm256_cvtneps_pbh(_mm256_loadu_ps(
            from.as_ptr(),
        ))))
    };
    // SAFETY: as above.
    unsafe { std::mem::transmute(_mm256_or_si256(bits(first), _mm256_slli_epi32::<16>(bits(second)))) }
}

/// The instruction takes both halves itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn whole<V>(x: V, _part: usize) -> V {
    x
}

/// The upper halves, or the lower ones.
#[inline(always)]
fn part_of_array<const W: usize>(x: [f32; W], part: usize) -> [f32; W] {
    x.map(|x| f32::from_bits(if part == 0 { x.to_bits() & 0xffff_0000 } else { x.to_bits() << 16 }))
}

/// The same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn part_of_8(x: __m256, part: usize) -> __m256 {
    let bits = _mm256_castps_si256(x);
    let half = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    _mm256_castsi256_ps(if part == 0 { _mm256_and_si256(bits, half) } else { _mm256_slli_epi32::<16>(bits) })
}

/// The same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn part_of_16(x: __m512, part: usize) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let half = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    _mm512_castsi512_ps(if part == 0 { _mm512_and_si512(bits, half) } else { _mm512_slli_epi32::<16>(bits) })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512vl")]
#[inline]
fn instruction_8(a: __m256, b: __m256, sum: __m256) -> __m256 {
    // SAFETY: the types differ only in what their bits mean.
    let pairs = |x| unsafe { std::mem::transmute::<__m256, __m256bh>(x) };
    _mm256_dpbf16_ps(sum, pairs(a), pairs(b))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f")]
#[inline]
fn instruction_16(a: __m512, b: __m512, sum: __m512) -> __m512 {
    // SAFETY: as above.
    let pairs = |x| unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
}

/// Within pairs of rows, within fours, then between halves of vectors: 24 shuffles, where a compiler left alone moves
/// 64 values one by one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(square: &mut [[f32; 8]; 8]) {
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
