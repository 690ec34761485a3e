//! Families whose corpus value is the mean of the values of its pairs.

use super::{Family, Metric, Pair};

/// Metrics with a value per pair, and a function that writes these values.
pub struct Mean<F> {
    /// The metrics, in the order of values.
    pub metrics: &'static [Metric],
    /// Writes one value per metric, zero before.
    pub values: F,
}

impl<F: Fn(&Pair, &mut [f64]) + Send + Sync> Family for Mean<F> {
    fn metrics(&self) -> &[Metric] {
        self.metrics
    }

    /// The values and the number of pairs.
    fn width(&self) -> usize {
        self.metrics.len() + 1
    }

    fn stats(&self, pair: &Pair, stats: &mut [f64]) {
        let (count, values) = stats.split_last_mut().expect("a family has a metric");
        (self.values)(pair, values);
        *count = 1.0;
    }

    fn corpus(&self, sums: &[f64], values: &mut [f64]) {
        let (count, sums) = sums.split_last().expect("a family has a metric");
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum / count);
    }
}
