//! The arms of a controlled comparison: other weights, and for two of them other masks, than those of the data.
//!
//! An arm acts on the weights and roles of the supervised tokens of answers, after they are read or drawn and before
//! micro-batches are formed. So all arms of a seed train on the same rows in the same order, from the same initial
//! values, and on the same tokens (`artifact-baseline` excepted). docs/weights.md explains what each arm isolates.

use std::collections::HashMap;

use rayon::prelude::*;

use super::recipe::{Arm, Recipe};
use super::salience;
use crate::data::corpus::Corpus;
use crate::data::tokenizer::Tokenizer;
use crate::data::weights::drawn::Drawing;
use crate::data::{Example, IGNORE};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// What decides the weights of a run.
pub struct Weighing {
    /// What weights are drawn from, where they are not the data's own.
    pub drawing: Option<Drawing>,
    arm: Arm,
    constant: Option<f64>,
    seed: u64,
    eos: Option<u32>,
    /// How often each id is supervised in the training file, for the arm `frequency`.
    supervised: HashMap<u32, u32>,
}

/// A weight and a role: whether the token is on the path.
type Pair = (f32, bool);

/// Random blocks that an example or a file may use, so that epochs have their own.
const BLOCKS_PER_EPOCH: u32 = 1 << 24;

impl Weighing {
    /// Of a recipe, for the rows of its training file. Errors where the arm requires what the recipe lacks.
    pub fn new(recipe: &Recipe, tokenizer: Option<&Tokenizer>, train: &Corpus) -> Result<Weighing> {
        let (arm, eos) = (recipe.objective.arm, tokenizer.map(Tokenizer::eos));
        let mut supervised = HashMap::new();
        if arm == Arm::Frequency {
            for example in &train.examples {
                example.answer_at().for_each(|t| *supervised.entry(example.labels[t]).or_default() += 1);
            }
        }
        let (drawing, seed) = (salience::drawing(recipe)?, recipe.train.seed);
        Ok(Weighing { drawing, arm, constant: recipe.objective.arm_constant, seed, eos, supervised })
    }

    /// Whether every epoch has weights of its own.
    pub fn dynamic(&self) -> bool {
        self.drawing.as_ref().is_some_and(|drawing| drawing.salience.path.dynamic)
    }

    /// Writes the weights and roles of an epoch: draws them where they are drawn, then applies the arm. A pure function
    /// of the rows, the recipe and the epoch, whatever the threads. Returns what the user should know.
    pub fn weigh(&self, corpus: &mut Corpus, epoch: u32) -> Result<Option<String>> {
        if let Some(drawing) = &self.drawing {
            corpus.draw(drawing, epoch);
        }
        corpus.counts.weigh(&corpus.examples);
        let note = self.apply(corpus, epoch)?;
        corpus.counts.supervise(&corpus.examples, self.eos);
        Ok(note.map(|note| format!("{}: {note}", corpus.file.display())))
    }

    fn apply(&self, corpus: &mut Corpus, epoch: u32) -> Result<Option<String>> {
        let examples = &mut corpus.examples;
        match self.arm {
            Arm::Data | Arm::Semantic | Arm::Rarity | Arm::ShuffledLabels | Arm::Artifact => {}
            Arm::Uniform | Arm::Focal | Arm::Dft => each(examples, |_, _, _| 1.0),
            Arm::Constant => {
                let weight = self.constant.unwrap_or_else(|| mean(examples, |_| true).unwrap_or(1.0));
                each(examples, |_, _, _| weight as f32);
                return Ok(Some(format!("every supervised token weighs {weight:.6} (arm constant)")));
            }
            Arm::Path => {
                let Some(mean) = mean(examples, |on_path| on_path) else {
                    let why = "no supervised token is on a path, which objective.arm = \"path\" requires; set \
                               salience.condition, or give rows a `path`";
                    return Err(Error::file(&corpus.file, why));
                };
                let weight = self.constant.unwrap_or(mean);
                each(examples, |_, _, on_path| if on_path { weight as f32 } else { 1.0 });
                return Ok(Some(format!("supervised tokens on the path weigh {weight:.6}, the others 1 (arm path)")));
            }
            Arm::Shuffled => examples.par_iter_mut().for_each(|example| {
                let at: Vec<usize> = example.answer_at().collect();
                let pairs: Vec<Pair> = at.iter().map(|&t| (example.weights[t], example.path[t])).collect();
                let order = self.stream(Purpose::Shuffled, example.row, epoch).permutation(pairs.len());
                for (t, from) in at.into_iter().zip(order) {
                    (example.weights[t], example.path[t]) = pairs[from];
                }
            }),
            Arm::RandomMatched => {
                let pairs: Vec<Pair> = examples
                    .iter()
                    .flat_map(|example| example.answer_at().map(|t| (example.weights[t], example.path[t])))
                    .collect();
                let mut order = self.stream(Purpose::Matched, 0, epoch).permutation(pairs.len()).into_iter();
                for example in examples {
                    let at: Vec<usize> = example.answer_at().collect();
                    for (t, from) in at.into_iter().zip(order.by_ref()) {
                        (example.weights[t], example.path[t]) = pairs[from];
                    }
                }
            }
            Arm::Inverse => {
                let twice = 2.0 * mean(examples, |_| true).unwrap_or(1.0);
                let (mut clamped, mut all) = (0usize, 0usize);
                for example in examples.iter() {
                    example.answer_at().for_each(|t| {
                        all += 1;
                        clamped += usize::from(f64::from(example.weights[t]) > twice);
                    });
                }
                each(examples, |weight, _, _| (twice - f64::from(weight)).max(0.0) as f32);
                let share = 100.0 * clamped as f64 / all.max(1) as f64;
                let note =
                    format!("{share:.2} % of the supervised tokens would weigh less than 0 and weigh 0 (arm inverse)");
                return Ok(Some(note));
            }
            Arm::Frequency => each(examples, |_, label, _| {
                let count = self.supervised.get(&label).copied().unwrap_or(0);
                (1.0 + 1.0 / (f64::from(count) + 2.0).ln()) as f32
            }),
            Arm::ArtifactBaseline => self.baseline(examples)?,
        }
        Ok(None)
    }

    /// Of an example or a file, and of an epoch where epochs have weights of their own.
    fn stream(&self, purpose: Purpose, index: u32, epoch: u32) -> Stream {
        let epoch = if self.dynamic() { epoch } else { 0 };
        Stream::new(self.seed, purpose, index).from_block(epoch.wrapping_mul(BLOCKS_PER_EPOCH))
    }

    /// Supervises every token but EOS, as the collator of the published baseline does, whose padding is EOS.
    fn baseline(&self, examples: &mut [Example]) -> Result {
        let eos = self.eos.ok_or_else(|| {
            let why = "objective.arm = \"artifact-baseline\" leaves EOS out, and without a tokenizer it is unknown; \
                       name one in model.tokenizer";
            Error::Usage(why.into())
        })?;
        for example in examples {
            let labels = example.ids.iter().map(|&id| if id == eos { IGNORE } else { id });
            (example.labels, example.prompt) = (labels.collect(), 0);
            example.weights.fill(1.0);
            example.path.fill(false);
        }
        Ok(())
    }
}

/// Sets each weight of an answer by weight, label and role.
fn each(examples: &mut [Example], weight: impl Fn(f32, u32, bool) -> f32 + Sync) {
    examples.par_iter_mut().for_each(|example| {
        let at: Vec<usize> = example.answer_at().collect();
        for t in at {
            example.weights[t] = weight(example.weights[t], example.labels[t], example.path[t]);
        }
    });
}

/// The mean weight of the supervised tokens of answers with these roles, summed in the order of the file; `None`
/// without any.
fn mean(examples: &[Example], role: impl Fn(bool) -> bool) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for example in examples {
        for t in example.answer_at().filter(|&t| role(example.path[t])) {
            sum += f64::from(example.weights[t]);
            count += 1;
        }
    }
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests;
