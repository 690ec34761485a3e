//! Means over examples with 95 % intervals.

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

/// Running mean and sum of squared deviations (Welford 1962).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Running {
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
        let half = if self.n > 1 { quantile(n - 1.0) * (self.squares / (n - 1.0) / n).sqrt() } else { f64::NAN };
        let mean = if self.n > 0 { self.mean } else { f64::NAN };
        Interval { n: self.n, mean, low: mean - half, high: mean + half }
    }
}

/// The 97.5 % quantile of Student's t, by bisection of its tail.
fn quantile(df: f64) -> f64 {
    let (mut low, mut high) = (1.9, 13.0);
    while high - low > 1e-12 * high {
        let t = 0.5 * (low + high);
        // P(|T| > t) = I_x(df / 2, 1 / 2), x = df / (df + t²)
        if beta(df / (df + t * t), 0.5 * df, 0.5) > 0.05 { low = t } else { high = t }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function, by Lentz's continued fraction (Press et al. 2007, section 6.4).
fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    let small = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p();
    let (mut c, mut d) = (1.0, 1.0 / small(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for part in [even, odd] {
            d = 1.0 / small(1.0 + part * d);
            c = small(1.0 + part / c);
            h *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front.exp() * h / a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The printed table of the t distribution (scipy.stats.t.ppf(0.975, df)).
    #[test]
    fn quantiles_are_those_of_the_table() {
        let table = [
            (1.0, 12.706204736432095),
            (2.0, 4.302652729911275),
            (3.0, 3.182446305284263),
            (5.0, 2.570581835636314),
            (10.0, 2.2281388519649385),
            (30.0, 2.0422724563012373),
            (199.0, 1.971956544249395),
            (100000.0, 1.959987707534146),
        ];
        for (df, t) in table {
            assert!((quantile(df) - t).abs() <= 1e-8 * t, "{df}: {} and {t}", quantile(df));
        }
    }

    /// 1, 2, 3, 4: mean 2.5, s² = 5/3, t = 3.182446 for 3 degrees of freedom.
    #[test]
    fn an_interval_is_that_of_the_formula() {
        let mut running = Running::default();
        [1.0, f64::NAN, 2.0, 3.0, 4.0].into_iter().for_each(|x| running.add(x));
        let half = 3.182446305284263 * (5.0 / 3.0 / 4.0f64).sqrt();
        let Interval { n, mean, low, high } = running.interval();
        assert!(n == 4 && mean == 2.5 && (low - 2.5 + half).abs() < 1e-8 && (high - 2.5 - half).abs() < 1e-8);
        let mut one = Running::default();
        assert!(one.interval().mean.is_nan());
        one.add(3.0);
        assert!(one.interval().mean == 3.0 && one.interval().low.is_nan());
    }
}
