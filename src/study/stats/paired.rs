//! Tests of two checkpoints on the same examples. They say nothing of other runs: [`effect()`](super::effect()) does.

use super::usable;
use crate::random::{Purpose, Stream};
use crate::salience::beta::incomplete_beta;

/// McNemar's exact p, two-sided: of the examples that exactly one of two checkpoints has right, `b` are the first's and
/// `c` the second's. Twice P(X <= min(b, c)) for X of the binomial distribution of b + c fair draws, at most 1.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let (few, many) = (b.min(c) as f64, b.max(c) as f64);
    if few == many {
        return 1.0;
    }
    // P(X <= k) = I(1/2; n - k, k + 1)
    (2.0 * incomplete_beta(many, few + 1.0, 0.5)).min(1.0)
}

/// The p of a permutation test of paired differences, two-sided: the share of all choices of signs whose sum is at
/// least as far from 0 as that of `d`. All choices are counted if they are at most `draws`; differences of 0 give no
/// choice. Otherwise `draws` choices are drawn from `seed`, and p is (count + 1) / (draws + 1). Fails where a
/// difference is not finite.
pub fn sign_flip(d: &[f64], draws: u32, seed: u64) -> Result<f64, String> {
    d.iter().enumerate().try_for_each(|(i, &x)| usable(x, || format!("difference {}", i + 1)))?;
    let parts: Vec<f64> = d.iter().map(|x| x.abs()).filter(|&x| x > 0.0).collect();
    // Choices of equal sums may differ by rounding.
    let bound = d.iter().sum::<f64>().abs() - 1e-12 * parts.iter().sum::<f64>();
    let far = |bits: &mut dyn FnMut() -> u32| {
        let chunks = parts.chunks(32).map(|chunk| {
            let signs = bits();
            chunk.iter().enumerate().map(|(i, x)| if signs >> i & 1 == 1 { *x } else { -x }).sum::<f64>()
        });
        chunks.sum::<f64>().abs() >= bound
    };
    if parts.len() < 32 && 1u32 << parts.len() <= draws {
        let all = 1u32 << parts.len();
        let count = (0..all).filter(|&signs| far(&mut || signs)).count();
        return Ok(count as f64 / f64::from(all));
    }
    let mut stream = Stream::new(seed, Purpose::Signs, 0);
    let count = (0..draws).filter(|_| far(&mut || stream.word())).count();
    Ok((count as f64 + 1.0) / (f64::from(draws) + 1.0))
}
