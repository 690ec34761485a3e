//! The rows of a timed step, the same for every engine: `benches/peers/torch_gpu_batch.py` draws them from the same
//! streams.

use super::lab::lengths;
use crate::data::{Batch, Example, IGNORE, pack};
use crate::random::{Purpose, Stream};
use clap::ValueEnum;

/// The content of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One example as long as the row.
    Full,
    /// Examples with lengths from --seg-lens, end to end; the last is cut at the end of the row.
    Packed,
    /// One example with a length from --seg-lens, and padding.
    Padded,
    /// The padded examples without their padding, end to end.
    Unpadded,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Packed => "packed",
            Kind::Padded => "padded",
            Kind::Unpadded => "unpadded",
        }
    }
}

/// The sizes of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Rows.
    pub batch: usize,
    /// Tokens of a row.
    pub seq: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Shortest and longest example of rows that are not full.
    pub lengths: (usize, usize),
    /// Seed.
    pub seed: u64,
}

impl Load {
    /// The batch, and the number of its tokens that are not padding.
    ///
    /// Slot `i` of `batch * seq` has the id `4 + below(vocab - 4)` of stream 1, a label where the i-th uniform of
    /// stream 2 is below `active`, and the weight `1 + 3 u` of stream 3; stream 0 draws lengths. So the kinds differ
    /// only in where examples begin and end.
    pub fn batch(&self, kind: Kind, active: f64) -> (Batch, usize) {
        let slots = self.batch * self.seq;
        let stream = |index| Stream::new(self.seed, Purpose::Bench, index);
        let [mut cuts, mut ids, mut labels, mut weights] = [0, 1, 2, 3].map(stream);
        let ids: Vec<u32> = (0..slots).map(|_| 4 + ids.below((self.vocab.max(5) - 4) as u32)).collect();
        let labels: Vec<u32> = ids.iter().map(|&id| if labels.uniform() < active { id } else { IGNORE }).collect();
        let weights: Vec<f32> = (0..slots).map(|_| (1.0 + 3.0 * weights.uniform()) as f32).collect();

        let (least, most) = (self.lengths.0.min(self.seq), self.lengths.1.min(self.seq));
        let mut examples = Vec::new();
        let mut real = 0;
        for row in 0..self.batch {
            let parts = match kind {
                Kind::Full => vec![self.seq],
                Kind::Packed => lengths(&mut cuts, self.seq, least, most),
                Kind::Padded | Kind::Unpadded => vec![least + cuts.below((most - least + 1) as u32) as usize],
            };
            let mut at = row * self.seq;
            for length in parts {
                let end = if kind == Kind::Padded { (row + 1) * self.seq } else { at + length };
                let mut labels = labels[at..end].to_vec();
                labels[length..].fill(IGNORE);
                examples.push(Example {
                    row: examples.len() as u32,
                    ids: ids[at..end].to_vec(),
                    labels,
                    weights: weights[at..end].to_vec(),
                    path: vec![false; end - at],
                    prompt: 0,
                });
                (at, real) = (end, real + length);
            }
        }
        (pack::batch(&examples.iter().collect::<Vec<_>>(), None), real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { batch: 3, seq: 40, vocab: 97, lengths: (7, 21), seed: 5 };

    #[test]
    fn kinds_have_the_same_tokens_at_other_places() {
        let (full, real) = LOAD.batch(Kind::Full, 1.0);
        assert_eq!((full.ids.len(), real, full.rows.len(), full.examples.len()), (120, 120, 117, 3));
        let (packed, real) = LOAD.batch(Kind::Packed, 1.0);
        assert_eq!((&packed.ids, real), (&full.ids, 120));
        let examples = packed.examples.len();
        assert!(examples > 6 && packed.rows.len() == 120 - examples, "{examples}");
        assert!(packed.pos.iter().all(|&pos| pos < 21));
        let (padded, real) = LOAD.batch(Kind::Padded, 1.0);
        assert_eq!((&padded.ids, padded.rows.len()), (&full.ids, real - 3));
        let (unpadded, same) = LOAD.batch(Kind::Unpadded, 1.0);
        assert_eq!((unpadded.ids.len(), same), (real, real));
        assert_eq!((&unpadded.labels, &unpadded.weights), (&padded.labels, &padded.weights));
    }

    #[test]
    fn a_share_of_labels_is_active_and_weights_lie_between_1_and_4() {
        let load = Load { batch: 16, seq: 1024, ..LOAD };
        let (batch, _) = load.batch(Kind::Full, 0.35);
        let share = batch.rows.len() as f64 / 16384.0;
        assert!((share - 0.35).abs() < 0.015, "{share}");
        assert!(batch.weights.iter().all(|w| (1.0..=4.0).contains(w)));
        assert!(batch.ids.iter().all(|id| (4..97).contains(id)));
    }
}
