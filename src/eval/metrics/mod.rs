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

use crate::salience::syntax::Language;
use codebleu::Program;
use std::sync::OnceLock;
use tokens::Tokens;

/// A metric of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Name in reports, and after `--metrics`.
    pub name: &'static str,
    /// The best value: 1 or 100.
    pub scale: f64,
}

/// A text, and what metrics read from its syntax tree: it is parsed when a metric first needs it, once for all pairs
/// that it occurs in. All metrics of a text read it as code of the same language.
pub struct Text<'a> {
    text: &'a str,
    tokens: OnceLock<Tokens<'a>>,
    program: OnceLock<Program>,
}

impl<'a> Text<'a> {
    /// A text that is not parsed yet.
    pub fn new(text: &'a str) -> Text<'a> {
        Text { text, tokens: OnceLock::new(), program: OnceLock::new() }
    }

    /// Its syntax tokens.
    fn tokens(&self, language: Language) -> &Tokens<'a> {
        self.tokens.get_or_init(|| Tokens::of(self.text, language))
    }

    /// What CodeBLEU reads from its tree.
    fn program(&self, language: Language) -> &Program {
        self.program.get_or_init(|| Program::of(self.text, language))
    }
}

/// The texts of one row.
#[derive(Clone, Copy)]
pub struct Pair<'t, 'a> {
    /// The prediction.
    pub hyp: &'t Text<'a>,
    /// The reference.
    pub reference: &'t Text<'a>,
}

impl<'a> Pair<'_, 'a> {
    /// The prediction and the reference.
    fn texts(&self) -> [&'a str; 2] {
        [self.hyp.text, self.reference.text]
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
