//! Metrics of generated text: pure functions of a prediction and its reference.
//!
//! A family computes one or more metrics from the same statistics. The statistics of a corpus are the sums of those of
//! its pairs, so corpus scores, scores per pair, and resampling over pairs read one table.

pub mod bleu;
pub mod chrf;
pub mod clean;
pub mod edit;
pub mod exact;
mod lcs;
pub mod mean;
pub mod meteor;
pub mod ngrams;
pub mod rouge;
pub mod stem;
pub mod text;
pub mod wordnet;

/// A metric of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Name in reports, and after `--metrics`.
    pub name: &'static str,
    /// The best value: 1 or 100.
    pub scale: f64,
}

/// Texts of one row. What metrics parse from them is parsed once.
pub struct Pair<'a> {
    /// The prediction.
    pub hyp: &'a str,
    /// The reference.
    pub reference: &'a str,
    /// The source (of a translation or a summary), if the user gave one.
    pub source: Option<&'a str>,
}

/// Metrics that share statistics.
pub trait Family: Send + Sync {
    /// Its metrics, in the order of values.
    fn metrics(&self) -> &[Metric];
    /// Number of statistics per pair.
    fn width(&self) -> usize;
    /// Writes the statistics of one pair to `stats` (`width` values, zero before).
    fn stats(&self, pair: &Pair, stats: &mut [f64]);
    /// Writes one value per metric to `values`, from the summed statistics of one or more pairs.
    fn corpus(&self, sums: &[f64], values: &mut [f64]);
    /// The same for the statistics of a single pair, where the sentence level is defined otherwise (BLEU).
    fn sentence(&self, stats: &[f64], values: &mut [f64]) {
        self.corpus(stats, values)
    }
}
