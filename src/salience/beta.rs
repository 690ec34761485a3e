//! The Beta distribution of a fixation probability, and a seeded draw from it.

use crate::random::Stream;

/// Beta(alpha, beta): the posterior of a fixation probability after `alpha - 1` fixations and `beta - 1` misses, under
/// a uniform prior. Both parameters are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beta {
    /// Fixations, plus 1.
    pub alpha: u64,
    /// Misses, plus 1.
    pub beta: u64,
}

impl Beta {
    /// alpha / (alpha + beta).
    pub fn mean(self) -> f64 {
        let (a, b) = (self.alpha as f64, self.beta as f64);
        a / (a + b)
    }

    /// Standard deviation.
    pub fn sd(self) -> f64 {
        let (a, b) = (self.alpha as f64, self.beta as f64);
        (a * b / (a + b + 1.0)).sqrt() / (a + b)
    }

    /// ln of the density at x: (alpha - 1) ln x + (beta - 1) ln(1 - x) - ln B(alpha, beta); minus infinity outside
    /// \[0, 1\].
    pub fn ln_pdf(self, x: f64) -> f64 {
        if !(0.0..=1.0).contains(&x) {
            return f64::NEG_INFINITY;
        }
        let (a, b) = (self.alpha as f64, self.beta as f64);
        // 0 ln 0 is 0 here: a parameter of 1 leaves its factor out.
        let power = |n: f64, ln: f64| if n == 0.0 { 0.0 } else { n * ln };
        power(a - 1.0, x.ln()) + power(b - 1.0, (-x).ln_1p()) - ln_beta(a, b)
    }

    /// P(theta <= x).
    pub fn cdf(self, x: f64) -> f64 {
        incomplete_beta(self.alpha as f64, self.beta as f64, x)
    }

    /// The x with P(theta <= x) = p, by bisection to the last bit.
    pub fn quantile(self, p: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.cdf(middle) < p { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }

    /// The interval that holds 95 % of the probability, with equal shares left out on both sides.
    pub fn interval(self) -> [f64; 2] {
        [self.quantile(0.025), self.quantile(0.975)]
    }

    /// A draw from the open interval (0, 1): X / (X + Y) of two Gamma variables. The number of words that it takes from
    /// the stream is itself random, so every draw that must be repeatable needs its own stream.
    pub fn sample(self, stream: &mut Stream) -> f64 {
        let x = gamma(self.alpha, stream);
        x / (x + gamma(self.beta, stream))
    }
}

/// The regularised incomplete beta function I(x; a, b) of positive a and b, by its continued fraction (DLMF 8.17.22) in
/// the modified Lentz form, on the side of the mean where it converges fast.
pub fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x >= 1.0 { 1.0 } else { 0.0 };
    }
    let front = |a: f64, b: f64, x: f64| (a * x.ln() + b * (-x).ln_1p() - ln_beta(a, b)).exp() / a;
    if x < (a + 1.0) / (a + b + 2.0) {
        front(a, b, x) * fraction(a, b, x)
    } else {
        1.0 - front(b, a, 1.0 - x) * fraction(b, a, 1.0 - x)
    }
}

/// ln B(a, b).
fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// The continued fraction of the incomplete beta function. It takes about sqrt(max(a, b)) iterations.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            step = c * d;
            h *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

/// A Gamma(shape, 1) variable for a shape of at least 1: Marsaglia and Tsang, "A simple method for generating gamma
/// variables" (ACM TOMS 2000), the exact test without the squeeze. It accepts at least 95 % of its proposals.
fn gamma(shape: u64, stream: &mut Stream) -> f64 {
    let d = shape.max(1) as f64 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && stream.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use statrs::distribution::{Beta as Oracle, Continuous, ContinuousCDF};

    #[test]
    fn density_and_intervals_are_those_of_statrs() {
        for (alpha, beta) in [(1, 1), (2, 1), (1, 8), (15, 719), (2900, 1587), (21937, 40381)] {
            let ours = Beta { alpha, beta };
            let oracle = Oracle::new(alpha as f64, beta as f64).expect("both are positive");
            for x in [1e-9, 0.003, 0.02, 0.3, 0.352, 0.35, 0.36, 0.65, 0.7, 0.999] {
                let (pdf, cdf) = (oracle.ln_pdf(x), oracle.cdf(x));
                assert!((ours.ln_pdf(x) - pdf).abs() <= 1e-9 * pdf.abs().max(1.0), "Beta({alpha}, {beta}) at {x}");
                assert!((ours.cdf(x) - cdf).abs() < 1e-9, "Beta({alpha}, {beta}) at {x}: {} {cdf}", ours.cdf(x));
            }
            let [low, high] = ours.interval();
            assert!((oracle.cdf(low) - 0.025).abs() < 1e-9 && (oracle.cdf(high) - 0.975).abs() < 1e-9);
        }
        // Beta(1, 1) is uniform
        let uniform = Beta { alpha: 1, beta: 1 };
        assert_eq!((uniform.ln_pdf(0.0), uniform.ln_pdf(1.0), uniform.ln_pdf(1.5)), (0.0, 0.0, f64::NEG_INFINITY));
        assert!((uniform.quantile(0.25) - 0.25).abs() < 1e-12);
        assert_eq!((uniform.cdf(-1.0), uniform.cdf(2.0)), (0.0, 1.0));
    }

    /// Kolmogorov-Smirnov test against statrs: sqrt(n) D exceeds 1.95 for one in a thousand correct samplers.
    #[test]
    fn draws_follow_the_beta_distribution() {
        let n = 20_000;
        for (index, (alpha, beta)) in
            [(1, 1), (2, 1), (1, 8), (15, 719), (2900, 1587), (21937, 40381)].iter().enumerate()
        {
            let prior = Beta { alpha: *alpha, beta: *beta };
            let oracle = Oracle::new(*alpha as f64, *beta as f64).expect("both are positive");
            let mut stream = Stream::new(5, Purpose::Path, index as u32);
            let mut draws: Vec<f64> = (0..n).map(|_| prior.sample(&mut stream)).collect();
            assert!(draws.iter().all(|&x| 0.0 < x && x < 1.0));
            draws.sort_by(f64::total_cmp);
            let distance = draws.iter().enumerate().fold(0.0f64, |d, (i, &x)| {
                let (cdf, n) = (oracle.cdf(x), n as f64);
                d.max((cdf - i as f64 / n).abs()).max((cdf - (i + 1) as f64 / n).abs())
            });
            let statistic = distance * (n as f64).sqrt();
            assert!(statistic < 1.95, "Beta({alpha}, {beta}): sqrt(n) D = {statistic}");
        }
    }

    #[test]
    fn mean_and_spread_by_hand() {
        let prior = Beta { alpha: 2, beta: 6 };
        assert_eq!(prior.mean(), 0.25);
        // variance = 2 * 6 / (8^2 * 9) = 1 / 48
        assert!((prior.sd() - (1.0f64 / 48.0).sqrt()).abs() < 1e-15);
        let same = |seed| prior.sample(&mut Stream::new(seed, Purpose::Path, 0));
        assert_eq!(same(3), same(3));
        assert_ne!(same(3), same(4));
    }
}
