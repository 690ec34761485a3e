//! Metrics of generated text: pure functions of a prediction and its reference.
//!
//! A family computes one or more metrics from the same statistics. The statistics of a corpus are the sums of those of
//! its pairs, so corpus scores, scores per pair, and resampling over pairs read one table.

pub mod bleu;
pub mod chrf;
pub mod clean;
pub mod codebleu;
mod comments;
pub mod crystal;
mod dataflow;
pub mod edit;
pub mod exact;
mod keywords;
mod lcs;
mod list;
pub mod mean;
pub mod meteor;
pub mod ngrams;
pub mod parses;
pub mod rouge;
pub mod stem;
mod subtrees;
pub mod text;
pub mod tokens;
pub mod wordnet;

pub use list::{Lacking, Metrics, Setup, names, require, usual};

use crate::salience::syntax::{self, Language, Syntax};
use std::cell::OnceCell;

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
    /// Their syntax trees.
    pub trees: Trees,
}

/// Syntax trees of a pair, made when a metric first reads them. `None` inside: the parser refused the text.
#[derive(Default)]
pub struct Trees {
    hyp: OnceCell<Option<Syntax>>,
    reference: OnceCell<Option<Syntax>>,
}

impl Pair<'_> {
    /// The tree of the prediction; `None` if parsing it would not end in reasonable time.
    pub(crate) fn hyp_tree(&self, language: Language) -> Option<&Syntax> {
        self.trees.hyp.get_or_init(|| syntax::parse(self.hyp.as_bytes(), language).ok()).as_ref()
    }

    /// The tree of the reference; `None` if parsing it would not end in reasonable time.
    pub(crate) fn reference_tree(&self, language: Language) -> Option<&Syntax> {
        self.trees.reference.get_or_init(|| syntax::parse(self.reference.as_bytes(), language).ok()).as_ref()
    }
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
