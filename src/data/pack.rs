//! Laying examples out: which go together, in which order, and what a backend gets.

use std::collections::VecDeque;
use std::iter::Sum;

use super::{Batch, Example, IGNORE};
use crate::choices::choices;
use crate::random::{Purpose, Stream};

choices! {
    /// How micro-batches are formed.
    Batching {
        /// As many whole examples as fit a token budget, end to end without padding.
        Tokens = "tokens",
        /// A fixed number of examples, end to end without padding.
        Examples = "examples",
        /// A fixed number of examples, each padded to the longest.
        Padded = "padded",
    }
}

/// The order of `n` examples in an epoch: a pure function of seed and epoch, or as they stand.
pub fn order(n: usize, seed: u64, epoch: u32, shuffle: bool) -> Vec<usize> {
    if shuffle { Stream::new(seed, Purpose::Shuffle, epoch).permutation(n) } else { (0..n).collect() }
}

/// Waiting examples that are looked at to fill a micro-batch.
const LOOK_AHEAD: usize = 64;

/// Micro-batches as lists of indices into `examples`; each index of `order` comes up exactly once.
///
/// [`Batching::Tokens`] takes the next example and fills up to `max_tokens` with the first that fit of a window of 64
/// waiting ones; an example longer than the budget is alone. The others take `batch_size` examples in order.
pub fn plan(
    examples: &[Example], order: &[usize], batching: Batching, max_tokens: usize, batch_size: usize,
) -> Vec<Vec<usize>> {
    if batching != Batching::Tokens {
        return order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect();
    }
    let length = |index: usize| examples.get(index).map_or(0, |e| e.ids.len());
    // with less room than this, no look at the window finds one that fits
    let shortest = order.iter().map(|&index| length(index)).min().unwrap_or(0).max(1);
    let mut rest = order.iter().copied();
    let mut window: VecDeque<usize> = rest.by_ref().take(LOOK_AHEAD).collect();
    let mut batches = Vec::new();
    while let Some(first) = window.pop_front() {
        window.extend(rest.next());
        // The next example always goes in, so none is overtaken for ever.
        let mut left = max_tokens.saturating_sub(length(first));
        let mut batch = vec![first];
        let mut at = 0;
        while left >= shortest
            && let Some(&index) = window.get(at)
        {
            if length(index) <= left {
                left -= length(index);
                batch.push(index);
                window.remove(at);
                window.extend(rest.next());
            } else {
                at += 1;
            }
        }
        batches.push(batch);
    }
    batches
}

/// Lays examples end to end. The label at position t of an example is predicted by its hidden row t - 1, so its
/// first label never counts.
///
/// With `pad`, each example is filled up with this id to the length of the longest. Pads have positions of their
/// own, belong to the example before them and carry no supervision: they are known by place, not by id.
pub fn batch(examples: &[&Example], pad: Option<u32>) -> Batch {
    let longest = examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let mut batch = Batch { row_start: vec![0], ..Batch::default() };
    for example in examples {
        let start = batch.ids.len() as u32;
        let length = pad.map_or(example.ids.len(), |_| longest);
        batch.ids.extend(&example.ids);
        batch.ids.resize(start as usize + length, pad.unwrap_or(0));
        batch.pos.extend(0..length as u32);
        batch.seg_start.resize(batch.ids.len(), start);
        batch.example.resize(batch.ids.len(), example.row);
        let labels = example.labels.iter().zip(&example.weights).zip(&example.path);
        for (predictor, ((&label, &weight), &on_path)) in (start..).zip(labels.skip(1)) {
            if label != IGNORE {
                batch.rows.push(predictor);
                batch.labels.push(label);
                batch.weights.push(weight);
                batch.path.push(u32::from(on_path));
            }
        }
        batch.row_start.push(batch.rows.len() as u32);
        batch.examples.push(example.row);
    }
    batch
}

/// Whether example `e` of a batch enters the DPO term: it has supervised tokens on the path and off it, and, where
/// the term takes weighted means, the weights of both sides sum to more than 0.
pub fn is_pair(batch: &Batch, e: usize, weighted: bool) -> bool {
    let bounds = batch.row_start.get(e).zip(batch.row_start.get(e + 1));
    let rows = bounds.map_or(0..0, |(&start, &end)| start as usize..end as usize);
    let (mut count, mut sum) = ([0u32; 2], [0f64; 2]);
    for (&on_path, &weight) in batch.path.iter().zip(&batch.weights).skip(rows.start).take(rows.len()) {
        let side = usize::from(on_path != 0);
        count[side] += 1;
        sum[side] += f64::from(weight);
    }
    count.iter().all(|&n| n > 0) && (!weighted || sum.iter().all(|&s| s > 0.0))
}

/// What an optimiser step is normalised by: known before its first micro-batch runs, summed over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Tokens that go through the model, padding included.
    pub tokens: u64,
    /// Supervised tokens; those of weight 0 count too.
    pub supervised: u64,
    /// Sum of the weights of the supervised tokens.
    pub weight_sum: f64,
    /// Examples that enter the DPO term ([`is_pair`]).
    pub pairs: u64,
    /// Examples that do not.
    pub pairs_skipped: u64,
}

impl Totals {
    /// The totals of one micro-batch. `weighted_pairs`: the DPO term takes weighted means.
    pub fn of(batch: &Batch, weighted_pairs: bool) -> Totals {
        let examples = batch.examples.len();
        let pairs = (0..examples).filter(|&e| is_pair(batch, e, weighted_pairs)).count();
        Totals {
            tokens: batch.ids.len() as u64,
            supervised: batch.rows.len() as u64,
            weight_sum: batch.weights.iter().copied().map(f64::from).sum(),
            pairs: pairs as u64,
            pairs_skipped: (examples - pairs) as u64,
        }
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(totals: I) -> Totals {
        totals.fold(Totals::default(), |sum, one| Totals {
            tokens: sum.tokens + one.tokens,
            supervised: sum.supervised + one.supervised,
            weight_sum: sum.weight_sum + one.weight_sum,
            pairs: sum.pairs + one.pairs,
            pairs_skipped: sum.pairs_skipped + one.pairs_skipped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example(row: u32, length: usize) -> Example {
        Example {
            row,
            ids: vec![7; length],
            labels: vec![7; length],
            weights: vec![1.0; length],
            path: vec![false; length],
            prompt: 0,
        }
    }

    fn two() -> [Example; 2] {
        let n = IGNORE;
        [
            Example {
                row: 4,
                ids: vec![10, 11, 12, 13],
                labels: vec![10, n, 12, 13],
                weights: vec![9.0, 9.0, 0.5, -2.0],
                path: vec![true, true, true, false],
                prompt: 0,
            },
            Example {
                row: 2,
                ids: vec![20, 21],
                labels: vec![n, 21],
                weights: vec![9.0, 3.0],
                path: vec![false, true],
                prompt: 0,
            },
        ]
    }

    #[test]
    fn a_packed_batch_is_as_documented() {
        let [a, b] = two();
        let expected = Batch {
            ids: vec![10, 11, 12, 13, 20, 21],
            pos: vec![0, 1, 2, 3, 0, 1],
            seg_start: vec![0, 0, 0, 0, 4, 4],
            example: vec![4, 4, 4, 4, 2, 2],
            rows: vec![1, 2, 4],
            labels: vec![12, 13, 21],
            weights: vec![0.5, -2.0, 3.0],
            path: vec![1, 0, 1],
            row_start: vec![0, 2, 3],
            examples: vec![4, 2],
            ref_logp: vec![],
        };
        assert_eq!(batch(&[&a, &b], None), expected);
        assert_eq!(batch(&[], None), Batch { row_start: vec![0], ..Batch::default() });
    }

    #[test]
    fn pads_are_known_by_place() {
        let [mut a, b] = two();
        // The id of the pad is an ordinary one in example a, and stays supervised there.
        a.ids[3] = 0;
        a.labels[3] = 0;
        let padded = batch(&[&b, &a], Some(0));
        assert_eq!(padded.ids, [20, 21, 0, 0, 10, 11, 12, 0]);
        assert_eq!(padded.pos, [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(padded.seg_start, [0, 0, 0, 0, 4, 4, 4, 4]);
        assert_eq!(padded.example, [2, 2, 2, 2, 4, 4, 4, 4]);
        assert_eq!(padded.rows, [0, 5, 6]);
        assert_eq!(padded.labels, [21, 12, 0]);
        assert_eq!(padded.row_start, [0, 1, 3]);
    }

    #[test]
    fn totals_count_what_the_normalisers_need() {
        let [mut a, b] = two();
        let expected = Totals { tokens: 6, supervised: 3, weight_sum: 1.5, pairs: 1, pairs_skipped: 1 };
        assert_eq!(Totals::of(&batch(&[&a, &b], None), false), expected);
        // The weights off the path sum to -2: no weighted mean.
        let skipped = Totals { pairs: 0, pairs_skipped: 2, ..expected };
        assert_eq!(Totals::of(&batch(&[&a, &b], None), true), skipped);
        a.weights[3] = 2.0;
        assert_eq!(Totals::of(&batch(&[&a, &b], None), true).pairs, 1);
        a.weights[2] = 0.0;
        assert_eq!(Totals::of(&batch(&[&a, &b], None), true).pairs, 0);

        let [a, b] = two();
        let apart = [batch(&[&a], None), batch(&[&b], None)];
        assert_eq!(apart.iter().map(|b| Totals::of(b, false)).sum::<Totals>(), expected);
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch() {
        assert_eq!(order(4, 1, 0, false), [0, 1, 2, 3]);
        assert_eq!(order(50, 1, 2, true), order(50, 1, 2, true));
        assert_ne!(order(50, 1, 2, true), order(50, 1, 3, true));
        assert_ne!(order(50, 1, 2, true), order(50, 2, 2, true));
        let mut sorted = order(50, 1, 2, true);
        sorted.sort_unstable();
        assert_eq!(sorted, order(50, 0, 0, false));
    }

    #[test]
    fn gaps_are_filled_by_the_first_that_fit() {
        let lengths = [6, 5, 4, 3, 1, 20, 2];
        let examples: Vec<_> = lengths.iter().map(|&n| example(0, n)).collect();
        let order = order(7, 0, 0, false);
        let plan = |batching, size| plan(&examples, &order, batching, 10, size);
        assert_eq!(plan(Batching::Tokens, 1), vec![vec![0, 2], vec![1, 3, 4], vec![5], vec![6]]);
        assert_eq!(plan(Batching::Examples, 3), vec![vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(plan(Batching::Padded, 0).len(), 7);
    }

    #[test]
    fn only_a_window_overtakes() {
        // 64 examples that do not fit behind the first, then one that would.
        let mut lengths = vec![6];
        lengths.extend([5; 64]);
        lengths.push(4);
        let examples: Vec<_> = lengths.iter().map(|&n| example(0, n)).collect();
        let first = |n: usize| plan(&examples, &order(n, 0, 0, false), Batching::Tokens, 10, 1)[0].clone();
        assert_eq!(first(66), [0]);
        let mut short = order(66, 0, 0, false);
        short.remove(1);
        assert_eq!(plan(&examples, &short, Batching::Tokens, 10, 1)[0], [0, 65]);
    }

    proptest! {
        #[test]
        fn a_plan_holds_each_example_once_and_keeps_the_budget(
            lengths in prop::collection::vec(0usize..40, 0..300),
            budget in 0usize..64,
            size in 1usize..9,
            seed: u64,
        ) {
            let examples: Vec<_> = lengths.iter().map(|&n| example(0, n)).collect();
            let order = order(lengths.len(), seed, 0, true);
            for batching in [Batching::Tokens, Batching::Examples, Batching::Padded] {
                let plan = plan(&examples, &order, batching, budget, size);
                let mut seen = plan.concat();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
                let place = |index: usize| order.iter().position(|&i| i == index);
                for batch in &plan {
                    prop_assert!(batch.windows(2).all(|w| place(w[0]) < place(w[1])));
                    match batching {
                        Batching::Tokens => prop_assert!(
                            batch.len() == 1 || batch.iter().map(|&i| lengths[i]).sum::<usize>() <= budget
                        ),
                        _ => prop_assert!(batch.len() <= size),
                    }
                }
                // Nothing starves: the first of each micro-batch is the earliest that is left.
                let mut left = order.clone();
                for batch in &plan {
                    prop_assert_eq!(batch.first(), left.first());
                    left.retain(|i| !batch.contains(i));
                }
            }
        }
    }
}
