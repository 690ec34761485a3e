//! Means over examples with 95 % intervals.

use super::tails::critical;
use serde::Serialize;

/// A mean over examples and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Examples that have the figure.
    pub n: u64,
    /// Their mean; NaN without examples.
    pub mean: f64,
    /// Lower end; NaN below two examples.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Running mean and sum of squared deviations (Welford 1962): memory does not grow with the number of values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    n: u64,
    mean: f64,
    squares: f64,
}

impl Running {
    /// Adds a value; one that is not a number does not count.
    pub fn add(&mut self, x: f64) {
        if x.is_finite() {
            self.n += 1;
            let before = x - self.mean;
            self.mean += before / self.n as f64;
            self.squares += before * (x - self.mean);
        }
    }

    /// `mean ± t s / sqrt n`, `s` the standard deviation, `t` the 97.5 % quantile of Student's t with n - 1 degrees of
    /// freedom.
    pub fn interval(&self) -> Interval {
        let n = self.n as f64;
        let half = if self.n > 1 { critical(n - 1.0) * (self.squares / (n - 1.0) / n).sqrt() } else { f64::NAN };
        let mean = if self.n > 0 { self.mean } else { f64::NAN };
        Interval { n: self.n, mean, low: mean - half, high: mean + half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(values: &[f64]) -> Interval {
        let mut running = Running::default();
        values.iter().for_each(|x| running.add(*x));
        running.interval()
    }

    /// 1, 2, 3, 4: mean 2.5, s² = 5/3, t = 3.182446 for 3 degrees of freedom.
    #[test]
    fn an_interval_is_that_of_the_formula() {
        let half = 3.182446305284263 * (5.0 / 3.0 / 4.0f64).sqrt();
        let Interval { n, mean, low, high } = running(&[1.0, f64::NAN, 2.0, 3.0, 4.0]);
        assert!(n == 4 && mean == 2.5 && (low - 2.5 + half).abs() < 1e-8 && (high - 2.5 - half).abs() < 1e-8);
    }

    #[test]
    fn values_without_spread_and_without_company() {
        assert_eq!(running(&[0.1; 7]), Interval { n: 7, mean: 0.1, low: 0.1, high: 0.1 });
        assert!(running(&[]).n == 0 && running(&[f64::NAN]).mean.is_nan());
        assert!(running(&[3.0]).mean == 3.0 && running(&[3.0]).low.is_nan() && running(&[3.0]).high.is_nan());
    }
}
