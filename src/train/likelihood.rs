//! log p of references: per token, and summed on and off the scan path of each row.

use super::epochs;
use super::recipe::Recipe;
use super::setup::lay_out;
use super::step::{Capacity, Machine, StepSettings};
use crate::backend::Backend;
use crate::data::corpus::Corpus;
use crate::data::{Example, IGNORE};
use crate::error::Result;
use crate::model::decoder::Decoder;

/// log p of the supervised tokens of each example in the micro-batches `plan`, with adapters on or off; empty for the
/// other examples. `on` receives the number of examples that are done, and of all.
pub(super) fn per_token<B: Backend>(
    machine: &mut Machine<B>, corpus: &Corpus, plan: Vec<Vec<usize>>, adapters: bool,
    mut on: impl FnMut(usize, usize) -> Result,
) -> Result<Vec<Vec<f32>>> {
    let mut found = vec![Vec::new(); corpus.examples.len()];
    let (mut done, all) = (0, plan.iter().map(Vec::len).sum());
    for indices in plan {
        let batch = lay_out(&corpus.examples, &indices, None);
        let logp = machine.logp(&batch, adapters)?;
        for (bounds, &i) in batch.row_start.windows(2).zip(&indices) {
            found[i] = logp[bounds[0] as usize..bounds[1] as usize].to_vec();
        }
        done += indices.len();
        on(done, all)?;
    }
    Ok(found)
}

/// log p of some tokens, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// The sum.
    pub logp: f64,
    /// Number of tokens.
    pub tokens: u64,
}

impl Sum {
    /// The mean per token; `None` without tokens.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.logp / self.tokens as f64)
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Sum) {
        self.logp += other.logp;
        self.tokens += other.tokens;
    }
}

/// log p of the reference of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Its line, from 0.
    pub row: u32,
    /// The supervised tokens on the scan path, and the others.
    pub sums: [Sum; 2],
}

/// log p of the reference of every row under a model with its adapter.
pub fn rows<B: Backend>(backend: B, model: Decoder<B>, corpus: &Corpus, recipe: &Recipe) -> Result<Vec<Row>> {
    let mut machine = Machine::new(backend, model, settings(corpus, recipe))?;
    let order: Vec<usize> = (0..corpus.examples.len()).collect();
    let plan = epochs::plan(&corpus.examples, &order, recipe);
    let found = per_token(&mut machine, corpus, plan, true, |_, _| Ok(()))?;
    let row = |(example, logp): (&Example, Vec<f32>)| {
        let mut sums = [Sum::default(); 2];
        let learned = example.labels.iter().zip(&example.path).skip(1).filter(|(label, _)| **label != IGNORE);
        for ((_, on_path), logp) in learned.zip(logp) {
            sums[usize::from(!on_path)].add(Sum { logp: logp.into(), tokens: 1 });
        }
        Row { row: example.row, sums }
    };
    Ok(corpus.examples.iter().zip(found).map(row).collect())
}

/// What [`rows`] makes a machine for.
pub fn settings(corpus: &Corpus, recipe: &Recipe) -> StepSettings {
    let capacity = Capacity {
        tokens: epochs::largest_batch(&corpus.examples, recipe),
        supervised: corpus.examples.iter().map(Example::supervised).max().unwrap_or(0),
    };
    StepSettings { train: false, capacity, ..StepSettings::default() }
}
