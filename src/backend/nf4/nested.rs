//! The second quantisation: the largest magnitudes of blocks, in 8 bits, with the bits of bitsandbytes 0.50 on the CPU.

use super::{NESTED_BLOCK, Scales};
use std::sync::LazyLock;

/// Magnitudes in 8 bits: their mean, and what they differ from it by.
pub(super) fn encode(magnitudes: &[f32]) -> Scales<Vec<u8>, Vec<f32>> {
    static LEVELS: LazyLock<Vec<f32>> = LazyLock::new(levels);
    static CODES: LazyLock<Vec<u8>> = LazyLock::new(|| codes(&LEVELS));
    let offset = mean(magnitudes);
    let mut absmax = Vec::with_capacity(magnitudes.len().div_ceil(NESTED_BLOCK));
    let mut codes = vec![0; magnitudes.len()];
    for (codes, block) in codes.chunks_mut(NESTED_BLOCK).zip(magnitudes.chunks(NESTED_BLOCK)) {
        let most = block.iter().fold(0.0f32, |most, x| most.max((x - offset).abs()));
        absmax.push(most);
        // a block that is its mean has codes of 0, whose level is multiplied by 0
        for (code, x) in codes.iter_mut().zip(block).filter(|_| most > 0.0) {
            let place = (((x - offset) * (1.0 / most)).clamp(-1.0, 1.0) + 1.0) * 0.5 * STEPS + 0.5;
            *code = CODES[place as usize];
        }
    }
    Scales::Nested { codes, block: NESTED_BLOCK, absmax, map: LEVELS.clone(), offset }
}

/// The last of the steps from -1 to 1 that a value is rounded to before its level is looked up.
const STEPS: f32 = 65_535.0;

/// The level nearest to each step, of two the lower. A value takes the level of its step: in one case of a thousand
/// that is not the nearest.
fn codes(levels: &[f32]) -> Vec<u8> {
    let between: Vec<f32> = levels.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
    let value = |step: u16| -1.0 + 2.0 * f32::from(step) / STEPS;
    (0..=u16::MAX).map(|step| between.partition_point(|middle| *middle < value(step)) as u8).collect()
}

/// 256 levels from -1 to 1, denser towards 0: a sign, up to seven zero bits that stand for powers of ten, and the
/// middle of a part of [0.1, 1] (Dettmers 2016, arXiv 1511.04561).
fn levels() -> Vec<f32> {
    let mut levels = vec![0.0, 1.0];
    for i in 0..7 {
        let parts = 1usize << i;
        let step = (1.0f32 - 0.1) / parts as f32;
        // from the nearer end and with one rounding, as torch.linspace
        let bound = |k: usize| match k < parts.div_ceil(2) {
            true => step.mul_add(k as f32, 0.1),
            false => (-step).mul_add((parts - k) as f32, 1.0),
        };
        let power = 10f64.powi(i - 6) as f32;
        levels.extend((0..parts).map(|k| power * ((bound(k) + bound(k + 1)) / 2.0)).flat_map(|x| [x, -x]));
    }
    levels.sort_by(f32::total_cmp);
    levels
}

/// The mean in the order in which torch adds on one thread: eight lanes of four sums, each a cascade.
pub(super) fn mean(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<8>();
    let mut sum = 0.0;
    match whole {
        [] => sum = fours(&values.iter().map(|&x| [x]).collect::<Vec<_>>())[0],
        _ => rest.iter().copied().chain(fours(whole)).for_each(|x| sum += x),
    }
    sum / values.len() as f32
}

type Lanes<const N: usize> = [f32; N];

fn add<const N: usize>(to: &mut Lanes<N>, x: Lanes<N>) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// The sum of rows, of which every fourth goes to the same cascade.
fn fours<const N: usize>(rows: &[Lanes<N>]) -> Lanes<N> {
    let (whole, rest) = rows.as_chunks::<4>();
    let [mut sum, others @ ..] = cascade(whole);
    rest.iter().chain(&others).for_each(|&x| add(&mut sum, x));
    sum
}

/// The sums of each of four columns: partial sums of `step` terms are added to sums of `step` of them, and so on, so
/// that no sum takes up many small terms.
fn cascade<const N: usize>(rows: &[[Lanes<N>; 4]]) -> [Lanes<N>; 4] {
    const DEPTH: usize = 4;
    let bits = usize::BITS - rows.len().max(2).saturating_sub(1).leading_zeros();
    let power = (bits / DEPTH as u32).max(4);
    let step = 1usize << power;
    let mut sums = [[[0.0; N]; 4]; DEPTH];
    let add_row = |to: &mut [Lanes<N>; 4], row: &[Lanes<N>; 4]| to.iter_mut().zip(row).for_each(|(to, &x)| add(to, x));
    let mut groups = rows.chunks_exact(step);
    for (i, group) in (1..).map(|i| i * step).zip(&mut groups) {
        group.iter().for_each(|row| add_row(&mut sums[0], row));
        for level in 1..DEPTH {
            let below = std::mem::replace(&mut sums[level - 1], [[0.0; N]; 4]);
            add_row(&mut sums[level], &below);
            if i & ((step - 1) << (level as u32 * power)) != 0 {
                break;
            }
        }
    }
    groups.remainder().iter().for_each(|row| add_row(&mut sums[0], row));
    let [mut first, others @ ..] = sums;
    others.iter().for_each(|sum| add_row(&mut first, sum));
    first
}
