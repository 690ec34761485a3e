//! The mean of one sample.

use super::tails::critical;
use super::{unit, usable};

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
