//! What was seen, kept and left out while a corpus was read.

use super::rows::Row;
use super::{Example, IGNORE};

/// Counts over a corpus. All but `rows`, `truncated`, `without_supervision` and `split_copies` are over kept rows.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Rows read; blank lines are none.
    pub rows: usize,
    /// Rows that can be trained on.
    pub kept: usize,
    /// Tokens.
    pub tokens: usize,
    /// Supervised tokens (the first token of an example never is).
    pub supervised: usize,
    /// Supervised tokens on the scan path.
    pub on_path: usize,
    /// Rows whose last supervised token is EOS.
    pub eos_rows: usize,
    /// Rows cut at `max_length`.
    pub truncated: usize,
    /// Rows dropped because no token is supervised (after the cut).
    pub without_supervision: usize,
    /// Rows whose `code` was cut into a prompt and a completion: they had no content of their own, or a copy.
    pub split_copies: usize,
    /// Least weight of a supervised token.
    pub weight_min: f64,
    /// Mean weight of the supervised tokens.
    pub weight_mean: f64,
    /// Greatest weight of a supervised token.
    pub weight_max: f64,
}

impl Report {
    /// Supervised tokens as a share of all tokens, 0 to 1.
    pub fn share_supervised(&self) -> f64 {
        share(self.supervised, self.tokens)
    }

    /// Supervised tokens on the path as a share of the supervised tokens, 0 to 1.
    pub fn share_on_path(&self) -> f64 {
        share(self.on_path, self.supervised)
    }

    /// Kept rows that train EOS as a share of the kept rows, 0 to 1.
    pub fn share_eos(&self) -> f64 {
        share(self.eos_rows, self.kept)
    }

    /// Counts a row; whether it can be trained on. Its weights are counted by [`Report::weigh`].
    pub(crate) fn count(&mut self, row: &Row, eos: Option<u32>) -> bool {
        let example = &row.example;
        self.rows += 1;
        self.truncated += usize::from(row.truncated);
        self.split_copies += usize::from(row.split);
        if example.supervised() == 0 {
            self.without_supervision += 1;
            return false;
        }
        let last = example.labels.iter().rev().find(|&&label| label != IGNORE);
        self.eos_rows += usize::from(eos.is_some() && last.copied() == eos);
        self.tokens += example.ids.len();
        self.kept += 1;
        self.supervised += example.supervised();
        true
    }

    /// Counts the weights and roles of the rows that were kept, in place of earlier ones.
    pub(crate) fn weigh(&mut self, examples: &[Example]) {
        let (mut low, mut high, mut sum, mut on) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0);
        for example in examples {
            let tokens = example.labels.iter().zip(&example.weights).zip(&example.path);
            for ((_, &weight), &on_path) in tokens.skip(1).filter(|&((&label, _), _)| label != IGNORE) {
                let weight = f64::from(weight);
                (low, high) = (low.min(weight), high.max(weight));
                sum += weight;
                on += usize::from(on_path);
            }
        }
        if self.supervised > 0 {
            (self.weight_min, self.weight_max, self.weight_mean) = (low, high, sum / self.supervised as f64);
        }
        self.on_path = on;
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
