//! Tails of the t distribution and of the F distribution.

use crate::salience::beta::incomplete_beta;

/// The share of probability outside an interval.
const OUTSIDE: f64 = 0.05;

/// From here on the tail is a function of the normal tail: the continued fraction of the incomplete beta function would
/// take sqrt(df) steps, and its factor would lose digits to ln of the gamma function.
const LARGE: f64 = 1000.0;

/// P(|T| >= |t|) of Student's t with `df` > 0 degrees of freedom.
///
/// I(df / (df + t^2); df / 2, 1 / 2), the regularised incomplete beta function; for large `df` erfc(z / sqrt 2) with
/// the z of Hill, "Algorithm 395: Student's t-distribution" (CACM 1970).
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

/// The t that |T| exceeds with a probability of 5 %.
pub fn critical(df: f64) -> f64 {
    let mut high = 2.0;
    while two_sided(high, df) > OUTSIDE && high < 1e150 {
        high *= 2.0;
    }
    bisect(0.0, high, |t| two_sided(t, df) > OUTSIDE)
}

/// The value that F falls below with a probability of 10 %, at `a` and `b` degrees of freedom. u = a F / (a F + b) has
/// the distribution function I(u; a / 2, b / 2).
pub fn low_ratio(a: f64, b: f64) -> f64 {
    let u = bisect(0.0, 1.0, |u| incomplete_beta(a / 2.0, b / 2.0, u) < 0.1);
    u * b / ((1.0 - u) * a)
}

/// The place between `low` and `high` where `before` turns false, to the last bit.
fn bisect(mut low: f64, mut high: f64, before: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high {
            return middle;
        }
        if before(middle) { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

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
    fn the_low_ratio_is_that_of_statrs() {
        for (a, b) in [(1.0, 1.0), (2.0, 98.0), (4.0, 196.0), (4.0, 1196.0), (49.0, 196.0), (9.0, 2691.0)] {
            let oracle = FisherSnedecor::new(a, b).expect("positive");
            assert!((oracle.cdf(low_ratio(a, b)) - 0.1).abs() < 1e-12, "F({a}, {b}): {}", low_ratio(a, b));
        }
    }

    /// `2 * scipy.stats.t.sf(x, df)` and `scipy.stats.t.ppf(0.975, df)` of scipy 1.17.1, where statrs is not exact.
    #[test]
    fn tails_at_extreme_freedom_are_those_of_scipy() {
        for (df, at, far, quantile) in [
            (0.4, 0.553799286604896, 0.24569407304178612, 642.8272461565283),
            (1500.0, 0.13382484070348594, 9.587704100824518e-32, 1.9615467538950184),
            (5e4, 0.133620716495385, 3.945977891710269e-33, 1.9600114310936798),
            (1e6, 0.1336147182367928, 3.571685124765094e-33, 1.959966356814107),
            (1e8, 0.13361440569470745, 3.553150964269021e-33, 1.9599640082627663),
        ] {
            for (ours, expected) in [(two_sided(1.5, df), at), (two_sided(12.0, df), far), (critical(df), quantile)] {
                assert!((ours / expected - 1.0).abs() < 1e-11, "df {df}: {ours} {expected}");
            }
        }
    }
}
