//! log p under the reference of the preference term: once, before the first step, as it does not change.

mod cache;

pub use cache::Cache;

use super::checkpoint::Progress;
use super::epochs::{self, Epochs};
use super::events::Event;
use super::likelihood::per_token;
use super::prepare::Prepared;
use super::setup::positions;
use super::step::Machine;
use crate::backend::Backend;
use crate::data::corpus::Corpus;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::files::ModelFiles;
use std::path::Path;

/// log p of the supervised tokens of each example under the reference, for the training and the validation examples;
/// empty without a preference term, and for training examples that the run does not reach.
#[derive(Default)]
pub struct References {
    /// Of the training examples.
    pub train: Vec<Vec<f32>>,
    /// Of the validation examples.
    pub validation: Vec<Vec<f32>>,
}

impl References {
    /// One pass over the training examples that a run of `total` steps reaches from `progress` on, and one over the
    /// validation examples, with adapters switched off; the values do not change while the model trains. A pass that
    /// another run made already is read from the cache.
    ///
    /// A training example is computed in its micro-batch of the first epoch. So its bits do not depend on how far a run
    /// goes or from which step it resumes.
    pub fn of<B: Backend>(
        machine: &mut Machine<B>, prepared: &Prepared, progress: &Progress, total: u64, cache: Option<&Cache>,
        on: &mut dyn FnMut(Event) -> Result,
    ) -> Result<References> {
        let mut pass = |corpus: &Corpus, plan: Vec<Vec<usize>>, reached: &[bool]| -> Result<Vec<Vec<f32>>> {
            let entry = cache.map(|cache| cache.entry(&corpus.examples, &plan));
            let file = corpus.file.display();
            if let Some((entry, found)) = entry.as_ref().and_then(|entry| Some((entry, entry.read()?))) {
                on(Event::Note(&format!("{file}: reference log p of an earlier run, read from {}", entry.dir())))?;
                return Ok(found);
            }
            let needed: Vec<_> = plan.iter().filter(|indices| indices.iter().any(|&i| reached[i])).cloned().collect();
            let whole = needed.len() == plan.len();
            let found = per_token(machine, corpus, needed, false, |done, all| on(Event::Reference(done, all)))?;
            if let Some(Err(why)) = entry.filter(|_| whole).map(|entry| entry.write(&found)) {
                on(Event::Note(&format!("{file}: reference log p not kept for the next run ({why})")))?;
            }
            Ok(found)
        };
        let epochs = Epochs::new(&prepared.train.examples, &prepared.recipe);
        let train = pass(&prepared.train, epochs.micro_batches(0), &epochs.reached(progress, total))?;
        let validation = prepared.validation.as_ref().map(|corpus| {
            let order: Vec<usize> = (0..corpus.examples.len()).collect();
            pass(corpus, epochs::plan(&corpus.examples, &order, &prepared.recipe), &vec![true; order.len()])
        });
        Ok(References { train, validation: validation.transpose()?.unwrap_or_default() })
    }
}

/// Another model as the reference: of any architecture, but with the same vocabulary.
pub fn model<B: Backend>(b: &B, dir: &Path, prepared: &Prepared) -> Result<Decoder<B>> {
    let files = ModelFiles::open(&dir.to_string_lossy())?;
    let (reference, policy) = (files.spec.vocab, prepared.origin.spec().vocab);
    if reference != policy {
        let why = format!(
            "the reference model has a vocabulary of {reference}, the trained one of {policy}; they must share it"
        );
        return Err(Error::file(&files.dir, why));
    }
    let positions = positions(prepared);
    files.spec.check_length(positions, &files.dir.join("config.json"))?;
    Decoder::build(b, files.spec.clone(), &files.values(), None, positions)
}
