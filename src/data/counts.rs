//! What was seen, kept and left out while a corpus was read.

use super::row::Row;
use super::{Example, IGNORE};
use crate::salience::syntax::Parsing;

/// Counts over a corpus. All but `rows`, `truncated`, `without_supervision`, `split_copies`, `rewritten` and `code` are
/// over kept rows.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
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
    /// Rows of `messages` whose chat template writes an earlier answer in another way than when it is generated.
    #[serde(default)]
    pub rewritten: usize,
    /// How the code that weights are drawn through parses; without rows if they are not drawn.
    pub code: Parsing,
    /// Least weight of a supervised token.
    pub weight_min: f64,
    /// Mean weight of the supervised tokens.
    pub weight_mean: f64,
    /// Greatest weight of a supervised token.
    pub weight_max: f64,
}

impl Counts {
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

    /// Counts a row; whether it can be trained on. Its weights are counted by [`Counts::weigh`].
    pub(crate) fn count(&mut self, row: &Row, eos: Option<u32>) -> bool {
        let example = &row.example;
        self.rows += 1;
        self.truncated += usize::from(row.cut > 0);
        self.split_copies += usize::from(row.before.is_some());
        self.rewritten += usize::from(row.rewritten);
        if let Some(parsed) = row.parsed {
            self.code.add(example.row as usize + 1, parsed);
        }
        if example.supervised() == 0 {
            self.without_supervision += 1;
            return false;
        }
        self.eos_rows += usize::from(learns_end(example, eos));
        self.tokens += example.ids.len();
        self.kept += 1;
        self.supervised += example.supervised();
        true
    }

    /// Counts what is supervised in the rows that were kept, in place of earlier counts, and their weights.
    pub(crate) fn supervise(&mut self, examples: &[Example], eos: Option<u32>) {
        self.supervised = examples.iter().map(Example::supervised).sum();
        self.eos_rows = examples.iter().filter(|example| learns_end(example, eos)).count();
        self.weigh(examples);
    }

    /// Counts the weights and roles of the rows that were kept, in place of earlier ones.
    pub(crate) fn weigh<'a>(&mut self, examples: impl IntoIterator<Item = &'a Example>) {
        let mut weights = Weights::default();
        examples.into_iter().for_each(|example| weights.add(example));
        self.take(&weights);
    }

    /// Takes over weights and roles that were counted, in place of earlier ones.
    pub(crate) fn take(&mut self, weights: &Weights) {
        if self.supervised > 0 {
            (self.weight_min, self.weight_max) = (weights.low, weights.high);
            self.weight_mean = weights.sum / self.supervised as f64;
        }
        self.on_path = weights.on_path;
    }
}

/// The weights and roles of supervised tokens, as they are counted.
pub(crate) struct Weights {
    low: f64,
    high: f64,
    sum: f64,
    on_path: usize,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, on_path: 0 }
    }
}

impl Weights {
    pub(crate) fn add(&mut self, example: &Example) {
        for t in example.supervised_at() {
            let weight = f64::from(example.weights[t]);
            (self.low, self.high) = (self.low.min(weight), self.high.max(weight));
            self.sum += weight;
            self.on_path += usize::from(example.path[t]);
        }
    }
}

/// Whether the last supervised token of an example is EOS.
pub(crate) fn learns_end(example: &Example, eos: Option<u32>) -> bool {
    let last = example.labels.iter().rev().find(|&&label| label != IGNORE);
    eos.is_some() && last.copied() == eos
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
