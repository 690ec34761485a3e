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

/// An operand as it is stored.
pub(super) trait Narrow: Copy {
    /// The bits of the nearest bf16; of two the even one.
    fn bits(self) -> u32;

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
}

impl Narrow for f32 {
    /// Without a branch, so that loops vectorise.
    #[inline(always)]
    fn bits(self) -> u32 {
        let bits = self.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // what is cut off must not make a NaN infinite
        let quiet = bits >> 16 | 0x40;
        if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { nearest }
    }
}

/// Two values as a panel holds them.
#[inline(always)]
pub(super) fn pair<S: Narrow>(first: S, second: S) -> u32 {
    first.bits() | second.bits() << 16
}

/// At most 2 `W` values as pairs; what is beyond them is 0.
#[inline(always)]
pub(super) fn line<S: Narrow, const W: usize>(from: &[S]) -> [f32; W] {
    let mut to = [0.0; W];
    let (whole, rest) = from.as_chunks::<2>();
    for (to, &[first, second]) in to.iter_mut().zip(whole) {
        *to = f32::from_bits(pair(first, second));
    }
    if let [last] = rest {
        to[whole.len()] = f32::from_bits(last.bits());
    }
    to
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

/// [`Lanes::product`] of any operands: in f64, rounded once more to f32, which gives the bits of a single rounding
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
