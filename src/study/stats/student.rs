//! Student's t distribution, and the mean of one sample.

use super::usable;
use crate::salience::beta::incomplete_beta;

/// The share of probability outside an interval.
const OUTSIDE: f64 = 0.05;

/// From here on the tail is a function of the normal tail: the continued fraction of the incomplete beta function would
/// take sqrt(df) steps, and its factor would lose digits to ln of the gamma function.
const LARGE: f64 = 1000.0;

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The lower end; minus infinity for a single value.
    pub low: f64,
    /// The upper end; infinity for a single value.
    pub high: f64,
}

/// The mean of independent values with its 95 % interval by the t distribution. Fails without values, and where one is
/// not finite or above 1e100 in magnitude.
pub fn mean_interval(values: &[f64]) -> Result<Interval, String> {
    if values.is_empty() {
        return Err("there are no values; a mean requires at least one".into());
    }
    values.iter().enumerate().try_for_each(|(i, &x)| usable(x, || format!("value {}", i + 1)))?;
    // Divided by the largest magnitude, squares do not vanish below the smallest number.
    let n = values.len() as f64;
    let unit = unit(values);
    let mean = values.iter().map(|x| x / unit).sum::<f64>() / n;
    if n == 1.0 {
        return Ok(Interval { mean: mean * unit, low: f64::NEG_INFINITY, high: f64::INFINITY });
    }
    let squares: f64 = values.iter().map(|x| (x / unit - mean).powi(2)).sum();
    let half = critical(n - 1.0) * (squares / (n - 1.0) / n).sqrt();
    Ok(Interval { mean: mean * unit, low: (mean - half) * unit, high: (mean + half) * unit })
}

/// The largest magnitude, or 1 where all values are 0.
pub(super) fn unit(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    if largest > 0.0 { largest } else { 1.0 }
}

/// P(|T| >= |t|) of Student's t with `df` > 0 degrees of freedom.
///
/// I(df / (df + t^2); df / 2, 1 / 2), the regularised incomplete beta function; for large `df` erfc(z / sqrt 2) with the
/// z of Hill, "Algorithm 395: Student's t-distribution" (CACM 1970).
pub fn two_sided(t: f64, df: f64) -> f64 {
    let square = t * t;
    if df > LARGE {
        let (a, y) = (df - 0.5, (df - 0.5) * (square / df).ln_1p());
        let b = 48.0 * a * a;
        let tail = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b);
        let z = ((tail + y + 3.0) / b + 1.0) * y.sqrt();
        return libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2);
    }
    match square < 1.0 {
        true => 1.0 - incomplete_beta(0.5, df / 2.0, square / (df + square)),
        false => incomplete_beta(df / 2.0, 0.5, df / (df + square)),
    }
}

/// The t that |T| exceeds with a probability of 5 %, by bisection to the last bit.
pub fn critical(df: f64) -> f64 {
    let (mut low, mut high) = (0.0, 2.0);
    while two_sided(high, df) > OUTSIDE && high < f64::MAX.sqrt() / 2.0 {
        (low, high) = (high, 2.0 * high);
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high {
            return middle;
        }
        if two_sided(middle, df) > OUTSIDE { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ContinuousCDF, StudentsT};

    /// Below the freedom at which the continued fraction of statrs ends early.
    #[test]
    fn the_tail_is_that_of_statrs() {
        for df in [1.0 / 3.0, 1.0, 2.0, 3.63, 4.0, 49.0, 299.0, 999.9, 1000.1, 5000.0, 30_000.0] {
            let oracle = StudentsT::new(0.0, 1.0, df).expect("positive");
            for t in [0.0, 1e-3, 0.1, 0.99, 1.01, 1.96, 2.8, 4.0, 12.0, 100.0] {
                let (ours, expected) = (two_sided(t, df), 2.0 * oracle.sf(t));
                assert!((ours - expected).abs() <= 1e-10 * expected.max(1e-30), "t {t}, df {df}: {ours} {expected}");
                assert_eq!(two_sided(-t, df), ours);
            }
            assert!((two_sided(critical(df), df) - 0.05).abs() < 1e-13, "df {df}");
        }
    }

    #[test]
    fn values_without_spread_without_company_and_without_a_number() {
        let same = mean_interval(&[0.1; 7]).expect("finite");
        assert_eq!(same, Interval { mean: 0.1, low: 0.1, high: 0.1 });
        assert_eq!(mean_interval(&[0.0; 3]).expect("finite"), Interval { mean: 0.0, low: 0.0, high: 0.0 });
        let single = mean_interval(&[-2.0]).expect("finite");
        assert_eq!(single, Interval { mean: -2.0, low: f64::NEG_INFINITY, high: f64::INFINITY });
        assert_eq!(mean_interval(&[]), Err("there are no values; a mean requires at least one".into()));
        for wrong in [f64::NAN, f64::INFINITY, -1e101] {
            let message = format!("value 2 is {wrong}; statistics require numbers between -1e100 and 1e100");
            assert_eq!(mean_interval(&[1.0, wrong]), Err(message));
        }
    }

    /// Neither overflow nor underflow: the same figures at any scale.
    #[test]
    fn a_mean_scales_with_its_values() {
        let values = [0.3, -0.2, 0.9, 0.4, 0.05];
        let base = mean_interval(&values).expect("finite");
        for scale in [1e-300, 1e-5, 1e100] {
            let scaled = mean_interval(&values.map(|x| x * scale)).expect("finite");
            for (a, b) in [(scaled.mean, base.mean), (scaled.low, base.low), (scaled.high, base.high)] {
                assert!((a / scale - b).abs() < 1e-12, "{scale}: {a} {b}");
            }
        }
    }
}
