//! The mean difference of two arms over the same examples and seeds.
//!
//! D\[example, seed\] = mu + a_example + b_seed + noise, three independent effects of mean 0. With E examples and S
//! seeds, the mean over all cells has the variance V = var(a) / E + var(b) / S + var(noise) / (E S).
//!
//! * **Components** by analysis of variance. The mean squares A of examples, B of seeds and N of the rest have the
//!   expectations var(noise) + S var(a), var(noise) + E var(b) and var(noise), with E - 1, S - 1 and (E - 1)(S - 1)
//!   degrees of freedom. A component below 0 is set to 0, so E S V = max(A - N, 0) + max(B - N, 0) + N.
//! * **Degrees of freedom** by Satterthwaite: (E S V)^2 / (A^2 / (E - 1) + B^2 / (S - 1) + N^2 / ((E - 1)(S - 1))). All
//!   three mean squares count where a component is set to 0, too: the 0 is an estimate from as few seeds.
//! * **A mean square of few seeds is small by chance** in some tables. Its share in V is then small as well, and
//!   Satterthwaite's formula reports the many degrees of freedom of the examples just where V is too small. The formula
//!   is therefore taken at the upper 90 % bound of the ratio of B to N, in the same way at that of A to N, and the
//!   smaller result counts. V itself is not changed.

use super::usable;
use crate::choices::choices;
use crate::eval::tails::{critical, low_ratio, two_sided};

/// The number of seeds from which an effect has a verdict.
pub const SEEDS: usize = 5;

/// Differences of two arms in a metric: D\[example, seed\], complete.
pub struct Table {
    examples: usize,
    seeds: usize,
    /// Seed by seed.
    values: Vec<f64>,
}

impl Table {
    /// Arm minus baseline: for each seed the values of all examples, with the same seeds and the same examples in the
    /// same order. Fails where the shapes differ, are empty, or a difference is not finite.
    pub fn difference(arm: &[Vec<f64>], baseline: &[Vec<f64>]) -> Result<Table, String> {
        let examples = arm.first().map_or(0, Vec::len);
        if arm.len() != baseline.len() || examples == 0 {
            let (a, b) = (arm.len(), baseline.len());
            return Err(format!("{a} seeds with {examples} examples have no difference from {b} seeds"));
        }
        let mut values = Vec::with_capacity(arm.len() * examples);
        for (s, (arm, baseline)) in arm.iter().zip(baseline).enumerate() {
            if arm.len() != examples || baseline.len() != examples {
                let (a, b) = (arm.len(), baseline.len());
                return Err(format!(
                    "seed {} has {a} examples in the arm and {b} in the baseline; the first seed has {examples}",
                    s + 1
                ));
            }
            for (e, (x, y)) in arm.iter().zip(baseline).enumerate() {
                usable(x - y, || format!("the difference of example {} and seed {}", e + 1, s + 1))?;
                values.push(x - y);
            }
        }
        Ok(Table { examples, seeds: arm.len(), values })
    }
}

choices! {
    /// What an interval generalises to.
    Over {
        /// Other examples and other seeds.
        Both = "examples and seeds",
        /// Other examples, for this seed alone: the table has one seed.
        Examples = "examples",
        /// Other seeds, for this example alone: the table has one example.
        Seeds = "seeds",
        /// Nothing: the table has one value, and the interval is infinite.
        Nothing = "nothing",
    }
}

choices! {
    /// The sign of an effect, if the table shows it.
    Verdict {
        /// Fewer than five seeds, or one example.
        Withheld = "no verdict",
        /// The adjusted p is above 5 %.
        Open = "not shown",
        /// The arm has the higher mean.
        Higher = "higher",
        /// The arm has the lower mean.
        Lower = "lower",
    }
}

/// Variances of the three effects, 0 or above. A single seed or example leaves the noise in the other component.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Components {
    /// Of examples.
    pub example: f64,
    /// Of seeds.
    pub seed: f64,
    /// Of the rest.
    pub noise: f64,
}

/// A mean difference with its uncertainty.
///
/// Where no value of the table differs from another, the interval is that value, and p is 0, or 1 if the value is 0.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Effect {
    /// The mean over all cells.
    pub mean: f64,
    /// The lower end of the 95 % interval; minus infinity over nothing.
    pub low: f64,
    /// The upper end; infinity over nothing.
    pub high: f64,
    /// P of a mean at least as far from 0 without an effect, two-sided; 1 over nothing.
    pub p: f64,
    /// Degrees of freedom of the t distribution; 0 over nothing.
    pub df: f64,
    /// Variances of examples, seeds and noise.
    pub of: Components,
    /// What interval and p generalise to.
    pub over: Over,
    /// Number of examples.
    pub examples: usize,
    /// Number of seeds.
    pub seeds: usize,
}

impl Effect {
    /// The verdict at `adjusted`, the p after the correction for all comparisons.
    pub fn verdict(&self, adjusted: f64) -> Verdict {
        match (self.over, self.mean) {
            (Over::Both, mean) if self.seeds >= SEEDS => match (adjusted <= 0.05, mean > 0.0) {
                (false, _) => Verdict::Open,
                (true, true) => Verdict::Higher,
                (true, false) => Verdict::Lower,
            },
            _ => Verdict::Withheld,
        }
    }
}

/// The largest magnitude, or 1 where all values are 0. Divided by it, values have squares that do not vanish below the
/// smallest number, and equal values are exactly 1.
fn unit(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    if largest > 0.0 { largest } else { 1.0 }
}

/// Mean squares, or degrees of freedom, of examples, seeds and the rest.
type Three = [f64; 3];

/// E S V from the mean squares.
fn variance([a, b, n]: Three) -> f64 {
    (a - n).max(0.0) + (b - n).max(0.0) + n
}

/// Satterthwaite's degrees of freedom of [`variance`].
fn satterthwaite(squares: Three, df: Three) -> f64 {
    variance(squares).powi(2) / (0..3).map(|i| squares[i].powi(2) / df[i]).sum::<f64>()
}

/// The degrees of freedom: the smaller of Satterthwaite's at the upper bound of examples and at that of seeds.
fn freedom(squares: Three, df: Three) -> f64 {
    let [a, b, n] = squares;
    let bound = |square: f64, i: usize| square / low_ratio(df[i], df[2]);
    satterthwaite([bound(a, 0), b, n], df).min(satterthwaite([a, bound(b, 1), n], df))
}

/// The mean difference of a table, with its interval and p.
pub fn effect(table: &Table) -> Effect {
    let (examples, seeds) = (table.examples, table.seeds);
    let (e, s) = (examples as f64, seeds as f64);
    let unit = unit(&table.values);
    let mean = table.values.iter().map(|x| x / unit).sum::<f64>() / (e * s);
    let (squares, df) = (mean_squares(table, unit, mean), [e - 1.0, s - 1.0, (e - 1.0) * (s - 1.0)]);
    let [a, b, n] = squares;
    let (over, total, df) = match (examples, seeds) {
        (1, 1) => (Over::Nothing, 0.0, 0.0),
        (_, 1) => (Over::Examples, a, df[0]),
        (1, _) => (Over::Seeds, b, df[1]),
        _ if variance(squares) == 0.0 => (Over::Both, 0.0, df[0].min(df[1])),
        _ => (Over::Both, variance(squares), freedom(squares, df)),
    };
    let error = (total / (e * s)).sqrt();
    let (half, p) = match (over, error > 0.0) {
        (Over::Nothing, _) => (f64::INFINITY, 1.0),
        (_, true) => (critical(df) * error, two_sided(mean / error, df)),
        (_, false) => (0.0, if mean == 0.0 { 1.0 } else { 0.0 }),
    };
    let component = |square: f64, count: f64| ((square - n).max(0.0) / count) * unit * unit;
    let of = Components { example: component(a, s), seed: component(b, e), noise: n * unit * unit };
    let [low, high] = [mean - half, mean + half].map(|end| end * unit);
    Effect { mean: mean * unit, low, high, p, df, of, over, examples, seeds }
}

/// The mean squares of examples, seeds and the rest, in squares of `unit`; 0 without degrees of freedom.
fn mean_squares(table: &Table, unit: f64, mean: f64) -> Three {
    let (e, s) = (table.examples as f64, table.seeds as f64);
    let columns: Vec<Vec<f64>> =
        table.values.chunks(table.examples).map(|c| c.iter().map(|x| x / unit - mean).collect()).collect();
    let of_seed: Vec<f64> = columns.iter().map(|column| column.iter().sum::<f64>() / e).collect();
    let of_example: Vec<f64> =
        (0..table.examples).map(|i| columns.iter().map(|column| column[i]).sum::<f64>() / s).collect();
    let rest = columns.iter().zip(&of_seed).flat_map(|(column, b)| {
        let cells = column.iter().zip(&of_example);
        cells.map(move |(x, a)| (x - a - b).powi(2))
    });
    let square = |sum: f64, df: f64| if df > 0.0 { sum / df } else { 0.0 };
    [
        square(s * of_example.iter().map(|a| a * a).sum::<f64>(), e - 1.0),
        square(e * of_seed.iter().map(|b| b * b).sum::<f64>(), s - 1.0),
        square(rest.sum(), (e - 1.0) * (s - 1.0)),
    ]
}
