//! Which examples go into which micro-batch of which step: a pure function of recipe, lengths and seed.

use super::recipe::Recipe;
use crate::data::Example;
use crate::data::pack::{self, Batching};

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
        let full: u64 = (0..whole).map(|e| self.epoch(e).len() as u64).sum();
        let part = count - count.floor();
        let rest = if part > 0.0 { (part * self.epoch(whole).len() as f64).ceil() as u64 } else { 0 };
        (full + rest).max(1)
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
        let order = pack::order(self.examples.len(), self.recipe.train.seed, epoch, self.recipe.data.shuffle);
        let accumulate = self.recipe.train.gradient_accumulation_steps;
        plan(self.examples, &order, self.recipe).chunks(accumulate.max(1)).map(<[_]>::to_vec).collect()
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
