//! The columns of EyeMulator's published data, which the arm `artifact` reads.

use serde_json::Value;

use crate::data::json::{self, Object, given, list, token};
use crate::salience::artifact::Recorded;

/// The names of the columns: mask, n-gram, label.
const NAMES: [&str; 3] = ["mask", "ngram_indices", "semantic_token_sequence"];

/// The columns of a row; `None` where it lacks one.
pub(crate) fn columns(row: &Object) -> Option<[&Value; 3]> {
    let [mask, ngrams, labels] = NAMES.map(|name| given(row, name));
    Some([mask?, ngrams?, labels?])
}

/// Mask, n-gram and label of each token, as the published data have them: lists of the same length.
pub(crate) fn read(columns: [&Value; 3]) -> Result<Vec<Recorded>, String> {
    let mut lists = [&[][..]; 3];
    for ((column, key), values) in lists.iter_mut().zip(NAMES).zip(columns) {
        *column = list(key, values)?;
    }
    let [mask, ngrams, labels] = lists;
    if mask.len() != ngrams.len() || mask.len() != labels.len() {
        let lengths = NAMES.iter().zip(lists).map(|(key, list)| format!("`{key}` has {}", list.len()));
        return Err(format!("{}; give one entry per token", lengths.collect::<Vec<_>>().join(", ")));
    }
    let number = |key: usize, at: usize| {
        let value = &lists[key][at];
        token(value)
            .ok_or_else(|| format!("`{}`[{at}] is {}, not a whole number from 0", NAMES[key], json::brief(value)))
    };
    let entry = |at| Ok(Recorded { masked: number(0, at)? != 0, ngram: number(1, at)?, label: number(2, at)? });
    (0..mask.len()).map(entry).collect()
}
