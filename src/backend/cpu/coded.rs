//! AdamW on moments in 8 bits: the codes of [`crate::backend::moments`], and a step on them.

use super::optim::Step;
use super::real::Real;
use super::wide::{maximum, wide};
use crate::backend::moments::GROUP;
use crate::random::philox;

/// Codes and the largest magnitude of each group.
type Coded<'a, R> = (&'a mut [u8], &'a mut [R]);

/// Some of a parameter's values with their gradients and moments, from the first of a group on.
pub(super) struct Part<'a, R> {
    pub(super) w: &'a mut [R],
    pub(super) g: &'a [R],
    pub(super) m: Coded<'a, R>,
    pub(super) root: Coded<'a, R>,
}

/// One step on `part`, which begins at value `first`; `rounding` as in [`super::Cpu::update`].
pub(super) fn advance<R: Real>(k: &Step<R>, rounding: [u32; 3], first: usize, part: Part<R>) {
    let Part { w, g, m, root } = part;
    let groups = w.chunks_mut(GROUP).zip(g.chunks(GROUP));
    let moments = m.0.chunks_mut(GROUP).zip(m.1).zip(root.0.chunks_mut(GROUP).zip(root.1));
    for (i, ((w, g), (m, root))) in groups.zip(moments).enumerate() {
        advance_group(k, w, g, m, root, &draw(rounding, first + i * GROUP));
    }
}

/// 16 random bits for each value of the group that begins at value `first`, two in a word.
fn draw([seed, step, number]: [u32; 3], first: usize) -> [u32; GROUP / 2] {
    let mut words = [0; GROUP / 2];
    for (i, words) in (first as u64 / 8..).zip(words.chunks_exact_mut(4)) {
        words.copy_from_slice(&philox([seed, step], [i as u32, (i >> 32) as u32, number, u32::MAX]));
    }
    words
}

/// A code is the upper bits of a float in (0, 1], counted down from those of 1.
struct FloatFormat {
    /// Bits of a float below those that a code has.
    dropped: u32,
    /// The code of 1.
    top: u32,
}

/// 3 bits of mantissa; a sign goes before them.
const SIGNED: FloatFormat = FloatFormat { dropped: 20, top: 127 };
/// 4 bits of mantissa.
const UNSIGNED: FloatFormat = FloatFormat { dropped: 19, top: 255 };

impl FloatFormat {
    /// The code of `x` in [0, 1] after `bits` is added to what is dropped: half of it for the nearest, anything below
    /// it at random for the mean.
    #[inline(always)]
    fn code(&self, x: f32, bits: u32) -> u32 {
        ((x.to_bits() + bits) >> self.dropped).max(self.zero()) - self.zero()
    }

    #[inline(always)]
    fn value(&self, code: u32) -> f32 {
        f32::from_bits(if code == 0 { 0 } else { (code + self.zero()) << self.dropped })
    }

    /// The upper bits of what is 0 as a code.
    #[inline(always)]
    fn zero(&self) -> u32 {
        (1f32.to_bits() >> self.dropped) - self.top
    }
}

#[inline(always)]
fn widen<R: Real>(x: f32) -> R {
    R::of(f64::from(x))
}

wide! {
    /// One step on a group; `noise` has two values' random bits in a word.
    fn advance_group<R: Real>(
        k: &Step<R>,
        w: &mut [R],
        g: &[R],
        m: (&mut [u8], &mut R),
        root: (&mut [u8], &mut R),
        noise: &[u32; GROUP / 2],
    ) {
        let ((m_codes, m_most), (root_codes, root_most)) = (m, root);
        let n = w.len();
        let (mut m, mut root) = ([R::of(0.0); GROUP], [R::of(0.0); GROUP]);
        for (m, &code) in m.iter_mut().zip(&*m_codes) {
            let magnitude: R = widen(SIGNED.value(u32::from(code & 0x7f)));
            *m = *m_most * if code < 0x80 { magnitude } else { -magnitude };
        }
        for (root, &code) in root.iter_mut().zip(&*root_codes) {
            *root = *root_most * widen::<R>(UNSIGNED.value(u32::from(code)));
        }
        for (((w, &g), m), root) in w.iter_mut().zip(g).zip(&mut m).zip(&mut root) {
            let mut v = *root * *root;
            k.advance(g, m, &mut v, w);
            *root = v.sqrt();
        }
        (*m_most, *root_most) = (maximum(&m.map(R::abs)[..n]), maximum(&root[..n]));
        // what is divided by where all are 0
        let or_one = |most: R| if most > R::of(0.0) { most } else { R::of(1.0) };
        let (m_unit, root_unit) = (or_one(*m_most), or_one(*root_most));
        for (code, &m) in m_codes.iter_mut().zip(&m) {
            let magnitude = SIGNED.code((m.abs() / m_unit).f64() as f32, 1 << (SIGNED.dropped - 1));
            *code = magnitude as u8 | if m < R::of(0.0) { 0x80 } else { 0 };
        }
        for (i, (code, &root)) in root_codes.iter_mut().zip(&root).enumerate() {
            let noise = noise[i / 2] >> (i % 2 * 16) & 0xffff;
            let rounded = UNSIGNED.code((root / root_unit).f64() as f32, noise << (UNSIGNED.dropped - 16));
            *code = rounded.max(u32::from(root > R::of(0.0))) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code but 0 is a float of its own whose code it is; the top is 1, and so many steps below it are an octave.
    #[test]
    fn codes_are_floats_with_a_short_mantissa() {
        for (format, octave) in [(SIGNED, 8), (UNSIGNED, 16)] {
            assert_eq!(format.value(format.top), 1.0);
            assert_eq!(format.value(0), 0.0);
            for code in 1..=format.top {
                let x = format.value(code);
                assert_eq!(format.code(x, 0), code);
                assert!(format.value(code - 1) < x);
                if code > octave {
                    assert_eq!(format.value(code - octave), x / 2.0);
                }
            }
        }
    }
}
