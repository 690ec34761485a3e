//! Which examples go into which micro-batch of which step: a pure function of recipe, lengths and seed.

use super::checkpoint::Progress;
use super::recipe::Recipe;
use crate::data::Example;
use crate::data::pack::{self, Batching};
use rayon::prelude::*;

/// One optimiser step: micro-batches as lists of indices into the examples.
pub type Step = Vec<Vec<usize>>;

/// The course of a run over its examples.
pub struct Epochs<'a> {
    examples: &'a [Example],
    recipe: &'a Recipe,
}

impl<'a> Epochs<'a> {
    /// Of `examples`, as the recipe says.
    pub fn new(examples: &'a [Example], recipe: &'a Recipe) -> Epochs<'a> {
        Epochs { examples, recipe }
    }

    /// Steps in `count` epochs; a part of an epoch is rounded up, as Hugging Face's Trainer does.
    fn steps_of(&self, count: f64) -> u64 {
        let whole = count.floor() as u32;
        // only packing to a budget depends on the order, and there may be very many epochs
        let same = self.recipe.data.batching != Batching::Tokens || !self.recipe.data.shuffle;
        let full = match same {
            true => u64::from(whole) * self.steps_in(0),
            false => (0..whole).into_par_iter().map(|e| self.steps_in(e)).sum(),
        };
        let part = count - count.floor();
        let rest = if part > 0.0 { (part * self.steps_in(whole) as f64).ceil() as u64 } else { 0 };
        (full + rest).max(1)
    }

    /// Steps of one epoch.
    fn steps_in(&self, epoch: u32) -> u64 {
        self.micro_batches(epoch).len().div_ceil(self.accumulate()) as u64
    }

    fn accumulate(&self) -> usize {
        self.recipe.train.gradient_accumulation_steps.max(1)
    }

    /// Optimiser steps of the run, which the schedule needs before the first: lays out every epoch once.
    pub fn total(&self) -> u64 {
        match self.recipe.train.max_steps {
            steps if steps > 0 => steps as u64,
            _ => self.steps_of(self.recipe.train.num_train_epochs),
        }
    }

    /// The steps of one epoch; the last may have fewer micro-batches.
    pub fn epoch(&self, epoch: u32) -> Vec<Step> {
        self.micro_batches(epoch).chunks(self.accumulate()).map(<[_]>::to_vec).collect()
    }

    /// The micro-batches of one epoch; they do not depend on how many steps the run has.
    pub fn micro_batches(&self, epoch: u32) -> Vec<Vec<usize>> {
        let order = pack::order(self.examples.len(), self.recipe.train.seed, epoch, self.recipe.data.shuffle);
        plan(self.examples, &order, self.recipe)
    }

    /// For each example, whether a run of `total` steps still trains on it from `progress` on.
    pub fn reached(&self, progress: &Progress, total: u64) -> Vec<bool> {
        let mut reached = vec![false; self.examples.len()];
        let (mut left, mut done) = (total.saturating_sub(progress.step), progress.step_of_epoch);
        for epoch in progress.epoch.. {
            let steps = self.epoch(epoch);
            let rest = steps.iter().skip(std::mem::take(&mut done));
            for step in rest.take(usize::try_from(left).unwrap_or(usize::MAX)) {
                left -= 1;
                step.iter().flatten().for_each(|&i| reached[i] = true);
            }
            if left == 0 || steps.is_empty() || !reached.contains(&false) {
                break;
            }
        }
        reached
    }
}

/// Micro-batches of `examples` in `order`, as the recipe's batching says.
pub fn plan(examples: &[Example], order: &[usize], recipe: &Recipe) -> Vec<Vec<usize>> {
    let size = recipe.train.per_device_train_batch_size;
    pack::plan(examples, order, recipe.data.batching, recipe.token_budget(), size)
}

/// Tokens of the largest micro-batch that any order of `examples` can give.
pub fn largest_batch(examples: &[Example], recipe: &Recipe) -> usize {
    let mut lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let (longest, total) = (lengths.first().copied().unwrap_or(0), lengths.iter().sum::<usize>());
    let size = recipe.train.per_device_train_batch_size.min(lengths.len());
    match recipe.data.batching {
        Batching::Tokens => recipe.token_budget().min(total).max(longest),
        Batching::Examples => lengths.iter().take(size).sum(),
        Batching::Padded => longest * size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let of = |&n: &usize| Example { ids: vec![0; n], ..Example::default() };
        lengths.iter().map(of).collect()
    }

    fn recipe(batching: Batching, size: usize, accumulate: usize, epochs: f64) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.data.batching = batching;
        recipe.data.max_tokens = 10;
        recipe.train.per_device_train_batch_size = size;
        recipe.train.gradient_accumulation_steps = accumulate;
        recipe.train.num_train_epochs = epochs;
        recipe
    }

    #[test]
    fn steps_are_counted_as_the_trainer_of_transformers_counts_them() {
        let e = examples(&[3; 10]);
        // 10 examples in threes: 4 micro-batches, 2 steps an epoch
        assert_eq!(Epochs::new(&e, &recipe(Batching::Examples, 3, 2, 3.0)).total(), 6);
        assert_eq!(Epochs::new(&e, &recipe(Batching::Examples, 3, 2, 1.2)).total(), 3);
        assert_eq!(Epochs::new(&e, &recipe(Batching::Examples, 3, 4, 0.01)).total(), 1);
        let mut limited = recipe(Batching::Examples, 3, 2, 3.0);
        limited.train.max_steps = 17;
        assert_eq!(Epochs::new(&e, &limited).total(), 17);
    }

    /// The closed form and the parallel sum against every epoch laid out.
    #[test]
    fn very_many_epochs_are_counted_right_and_at_once() {
        let e = examples(&[2, 9, 4, 12, 1, 5, 5, 3, 7, 7, 6]);
        for (batching, shuffle) in
            [Batching::Tokens, Batching::Examples, Batching::Padded].into_iter().flat_map(|b| [(b, false), (b, true)])
        {
            let mut r = recipe(batching, 3, 2, 300.5);
            r.data.shuffle = shuffle;
            let epochs = Epochs::new(&e, &r);
            let whole: usize = (0..300).map(|epoch| epochs.epoch(epoch).len()).sum();
            let part = (0.5 * epochs.epoch(300).len() as f64).ceil() as u64;
            assert_eq!(epochs.total(), whole as u64 + part, "{batching} {shuffle}");
        }
        // laid out one by one, these would take hours
        let mut r = recipe(Batching::Examples, 3, 2, 4e9);
        assert_eq!(Epochs::new(&e, &r).total(), 8_000_000_000);
        (r.data.batching, r.data.shuffle) = (Batching::Tokens, false);
        assert_eq!(Epochs::new(&e, &r).total(), 4_000_000_000 * Epochs::new(&e, &r).epoch(0).len() as u64);
    }

    #[test]
    fn a_run_reaches_the_rows_of_its_steps() {
        let e = examples(&[3; 10]);
        let r = recipe(Batching::Examples, 2, 2, 1.0);
        let epochs = Epochs::new(&e, &r);
        let rows = |epoch: u32, steps: std::ops::Range<usize>| -> Vec<usize> {
            let mut rows: Vec<usize> = epochs.epoch(epoch)[steps].iter().flatten().flatten().copied().collect();
            rows.sort_unstable();
            rows
        };
        let reached = |step, epoch, step_of_epoch, total| -> Vec<usize> {
            let progress = Progress { step, epoch, step_of_epoch, ..Progress::default() };
            let reached = epochs.reached(&progress, total);
            (0..e.len()).filter(|&i| reached[i]).collect()
        };
        // three steps an epoch, the last of two rows
        assert_eq!(reached(0, 0, 0, 1), rows(0, 0..1));
        assert_eq!(reached(1, 0, 1, 3), rows(0, 1..3));
        assert_eq!(reached(0, 0, 0, 3), (0..10).collect::<Vec<_>>());
        assert_eq!(reached(4, 1, 1, 5), rows(1, 1..2));
        let mut over = [rows(0, 2..3), rows(1, 0..1)].concat();
        over.sort_unstable();
        over.dedup();
        assert_eq!(reached(2, 0, 2, 4), over);
        assert_eq!(reached(0, 0, 0, u64::MAX).len(), 10);
        assert!(reached(5, 1, 2, 5).is_empty() && reached(6, 1, 3, 5).is_empty());
    }

    #[test]
    fn the_largest_batch_bounds_every_epoch() {
        let e = examples(&[2, 9, 4, 12, 1, 5, 5, 3]);
        for batching in [Batching::Tokens, Batching::Examples, Batching::Padded] {
            let r = recipe(batching, 3, 2, 1.0);
            let bound = largest_batch(&e, &r);
            for epoch in 0..50 {
                for batch in Epochs::new(&e, &r).epoch(epoch).concat() {
                    let lengths: Vec<usize> = batch.iter().map(|&i| e[i].ids.len()).collect();
                    let longest = lengths.iter().max().copied().unwrap_or(0);
                    let tokens =
                        if batching == Batching::Padded { longest * lengths.len() } else { lengths.iter().sum() };
                    assert!(tokens <= bound, "{batching}: {tokens} > {bound}");
                }
            }
        }
    }
}
