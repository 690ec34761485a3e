//! Edit similarity.

use super::lcs::lcs;
use super::mean::Mean;
use super::{Family, Metric, Pair};

const METRICS: [Metric; 1] = [Metric { name: "edit_similarity", scale: 1.0 }];

/// `edit_similarity`: 2 LCS(p, r) / (|p| + |r|) over code points; 1 if both texts are empty. That is 1 minus the
/// normalised distance of insertions and deletions, `fuzz.ratio / 100` of rapidfuzz.
pub fn edit() -> impl Family {
    Mean { metrics: &METRICS, values }
}

fn values(pair: &Pair, values: &mut [f64]) {
    let [p, r] = pair.texts().map(|text| text.chars().map(u32::from).collect::<Vec<_>>());
    let length = p.len() + r.len();
    values[0] = if length == 0 { 1.0 } else { 2.0 * lcs(&p, &r) as f64 / length as f64 };
}
