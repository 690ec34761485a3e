//! Share of predictions that the grammar accepts.

use super::mean::Mean;
use super::{Family, Metric, Pair};
use crate::salience::syntax::Language;

/// `parse_valid`: 1 if the syntax tree of the prediction has neither an error nor an inserted token, mean over pairs.
/// A bare method or statement is accepted, and so is an empty prediction.
pub fn parses(language: Language) -> impl Family {
    Mean {
        metrics: &[Metric { name: "parse_valid", scale: 1.0 }],
        values: move |pair: &Pair, values: &mut [f64]| values[0] = f64::from(pair.hyp.tokens(language).valid),
    }
}
