//! log p under the reference of the preference term: once, before the first step, as it does not change.

use super::epochs;
use super::events::Event;
use super::prepare::Prepared;
use super::setup::{lay_out, positions};
use super::step::Machine;
use crate::backend::Backend;
use crate::data::corpus::Corpus;
use crate::error::{Error, Result};
use crate::model::decoder::{Decoder, Init};
use crate::model::files::ModelFiles;
use std::path::Path;

/// log p of the supervised tokens of every example under the reference, for the training and the validation examples;
/// empty without a preference term.
#[derive(Default)]
pub struct References {
    /// Of the training examples.
    pub train: Vec<Vec<f32>>,
    /// Of the validation examples.
    pub validation: Vec<Vec<f32>>,
}

impl References {
    /// One pass over both corpora with adapters switched off; the values do not change while the model trains.
    pub fn of<B: Backend>(
        machine: &mut Machine<B>, prepared: &Prepared, on: &mut dyn FnMut(Event) -> Result,
    ) -> Result<References> {
        let mut pass = |corpus: &Corpus| -> Result<Vec<Vec<f32>>> {
            let order: Vec<usize> = (0..corpus.examples.len()).collect();
            let mut reference = vec![Vec::new(); order.len()];
            let mut done = 0;
            for indices in epochs::plan(&corpus.examples, &order, &prepared.recipe) {
                let batch = lay_out(&corpus.examples, &indices, None);
                let logp = machine.logp(&batch, false)?;
                for (bounds, &i) in batch.row_start.windows(2).zip(&indices) {
                    reference[i] = logp[bounds[0] as usize..bounds[1] as usize].to_vec();
                }
                done += indices.len();
                on(Event::Reference(done, order.len()))?;
            }
            Ok(reference)
        };
        let train = pass(&prepared.train)?;
        Ok(References { train, validation: prepared.validation.as_ref().map(pass).transpose()?.unwrap_or_default() })
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
    Decoder::build(b, files.spec, &Init::File(&files.checkpoint), None, positions)
}
