//! Trivial predictors. Their scores stand beside those of the predictions: a metric that a constant wins measures
//! something else than the quality of the predictions.

use crate::random::{Purpose, Stream};

/// The predictors, by the names of their columns: the constants first.
pub const COLUMNS: [&str; 6] = ["empty", "}", "public", "source", "run_on", "shuffled"];

/// The first columns: predictions that ignore the row.
pub const CONSTANTS: [&str; 3] = ["", "}", "public"];

/// The seed of the column `shuffled`.
const SEED: u64 = 0;

/// The prediction of the column `run_on`: the reference, and a next prompt that quotes its start, as models write that
/// do not stop.
pub fn run_on(reference: &str) -> String {
    let start: String = reference.chars().take(100).collect();
    format!("{reference}\n\n### Instruction:\nContinue.\n{start}")
}

/// Places of `n` rows such that none stays where it is (if there are two or more): a single cycle, drawn by the
/// algorithm of Sattolo, "An algorithm to generate a random cyclic permutation" (1986).
pub fn shuffled(n: usize, block: u32) -> Vec<usize> {
    let mut draws = Stream::new(SEED, Purpose::Panel, block);
    let mut places: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        places.swap(last, draws.below(last as u32) as usize);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_keeps_its_place() {
        for n in [2, 3, 10, 257] {
            let places = shuffled(n, 7);
            assert!(places.iter().enumerate().all(|(row, &place)| row != place));
            let mut sorted = places.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n).collect::<Vec<_>>());
        }
        assert_eq!((shuffled(0, 0), shuffled(1, 0)), (vec![], vec![0]));
        assert_ne!(shuffled(50, 0), shuffled(50, 1));
    }
}
