//! Products of operands in bf16 with sums in f32, as the instruction `vdpbf16ps` computes them.
//!
//! A panel holds pairs of values that follow each other along the depth, in the 32 bits of a float: the earlier value
//! in the lower half. A step over a pair adds the product of the upper halves, then that of the lower halves. Each
//! addition is rounded once, denormal operands count as 0, and a denormal sum becomes 0 (Intel, "Architectures Software
//! Developer's Manual", volume 2, VDPBF16PS).
//!
//! A processor without the instruction computes the same bits from fused multiplications and additions. A product of
//! two such values is exact in f32, so only denormal sums could differ. [`may_underflow`] excludes them for nearly all
//! operands; for the others [`careful`] adds in f64.

use half::bf16;

/// Rounding of f32 to pairs, by the instructions of a processor.
pub(super) trait Rounding {
    /// Values that follow each other.
    #[inline(always)]
    fn line(from: &[f32; 16]) -> [f32; 8] {
        std::array::from_fn(|i| pair(nearest(from[2 * i]), nearest(from[2 * i + 1])))
    }

    /// Values of two rows.
    #[inline(always)]
    fn rows(first: &[f32; 8], second: &[f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| pair(nearest(first[i]), nearest(second[i])))
    }
}

/// The bits of the nearest bf16; of two the even one; of a denormal 0, as the instruction has it. Without a branch, so
/// that loops vectorise.
#[inline(always)]
fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // what is cut off must not make a NaN infinite
    let rounded = if bits & 0x7fff_ffff > 0x7f80_0000 { bits >> 16 | 0x40 } else { rounded };
    if bits & 0x7f80_0000 == 0 { bits >> 16 & 0x8000 } else { rounded }
}

/// Two bf16 as a panel holds them.
#[inline(always)]
fn pair(first: u32, second: u32) -> f32 {
    f32::from_bits(first | second << 16)
}

/// An operand as it is stored.
pub(super) trait Narrow: Copy + Default {
    /// Its bits in bf16.
    fn bits(self) -> u32;
    /// [`Rounding::line`].
    fn line<P: Rounding>(from: &[Self; 16]) -> [f32; 8];
    /// [`Rounding::rows`].
    fn rows<P: Rounding>(first: &[Self; 8], second: &[Self; 8]) -> [f32; 8];

    /// [`Narrow::line`] of at most 16 values; what is beyond them is 0.
    #[inline(always)]
    fn tail<P: Rounding>(from: &[Self]) -> [f32; 8] {
        let mut whole = [Self::default(); 16];
        whole[..from.len()].copy_from_slice(from);
        Self::line::<P>(&whole)
    }

    /// A value of each of two rows.
    #[inline(always)]
    fn pair(first: Self, second: Self) -> f32 {
        pair(first.bits(), second.bits())
    }

    /// [`least_exponent`] of these values.
    #[inline(always)]
    fn least_exponent(values: &[Self]) -> u32 {
        exponent(values.iter().map(|x| x.bits() as u16))
    }
}

impl Narrow for bf16 {
    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }
    #[inline(always)]
    fn line<P: Rounding>(from: &[bf16; 16]) -> [f32; 8] {
        std::array::from_fn(|i| pair(from[2 * i].bits(), from[2 * i + 1].bits()))
    }
    #[inline(always)]
    fn rows<P: Rounding>(first: &[bf16; 8], second: &[bf16; 8]) -> [f32; 8] {
        std::array::from_fn(|i| pair(first[i].bits(), second[i].bits()))
    }
}

impl Narrow for f32 {
    #[inline(always)]
    fn bits(self) -> u32 {
        nearest(self)
    }
    #[inline(always)]
    fn line<P: Rounding>(from: &[f32; 16]) -> [f32; 8] {
        P::line(from)
    }
    #[inline(always)]
    fn rows<P: Rounding>(first: &[f32; 8], second: &[f32; 8]) -> [f32; 8] {
        P::rows(first, second)
    }
}

/// The biased exponent of the operand nearest to 0 that is not 0; above all exponents where all are 0.
#[inline(always)]
pub(super) fn least_exponent(pairs: &[f32]) -> u32 {
    exponent(bytemuck::cast_slice(pairs).iter().copied())
}

#[inline(always)]
fn exponent(bits: impl Iterator<Item = u16>) -> u32 {
    // 0 becomes the largest
    let least = bits.map(|bits| (bits & 0x7fff).wrapping_sub(1)).fold(u16::MAX, u16::min);
    (u32::from(least) + 1) >> 7
}

/// Whether a sum of products of operands with these least exponents can be denormal, or an operand is.
///
/// A bf16 with biased exponent e is an integer times 2^(e - 134). All products, and so all their sums in f32, are then
/// integers times 2^(a + b - 268). If that is at least 2^-126, a sum is 0 or normal.
#[inline(always)]
pub(super) fn may_underflow(a: u32, b: u32) -> bool {
    a == 0 || b == 0 || a + b < 268 - 126
}

/// `sum + a b` of any operands: in f64, rounded once more to f32, which gives the bits of a single rounding
/// (Figueroa 1995, "When is double rounding innocuous?").
#[inline(always)]
pub(super) fn careful<const W: usize>(a: [f32; W], b: [f32; W], sum: [f32; W]) -> [f32; W] {
    // below it, a sum that is rounded to 24 bits is denormal
    const NORMAL: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1u64 << 25) as f64);
    let flushed = |x: f32| f64::from(if x.to_bits() & 0x7f80_0000 == 0 { f32::copysign(0.0, x) } else { x });
    std::array::from_fn(|i| {
        let sum = f64::from(sum[i]) + flushed(a[i]) * flushed(b[i]);
        if sum.abs() < NORMAL { f32::copysign(0.0, sum as f32) } else { sum as f32 }
    })
}

#[cfg(test)]
mod tests;
