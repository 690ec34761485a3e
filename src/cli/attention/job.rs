//! The part of the diagnostics that a device does: answers, and the attention with which they are written.

use crate::backend::Backend;
use crate::backend::plan::Plan;
use crate::cli::device::{Job, Site};
use crate::cli::generate::job::Generation;
use crate::cli::terminal::Terminal;
use crate::data::contexts::Context;
use crate::error::Result;
use crate::eval::attention::measure::{extent, measure};
use crate::eval::attention::summary::fields;
use crate::model::attention::{Extent, Observer};
use crate::model::decode::{Room, Session};
use crate::model::generate::{self, Continuation, Event};
use std::time::Instant;

/// A generation whose attention is looked at.
pub struct Diagnosis {
    /// Its prompts are those of all rows.
    pub generation: Generation,
    pub contexts: Vec<Context>,
    /// Rows that are kept already.
    pub done: usize,
    /// Rows of which a map is made.
    pub examples: usize,
    /// The answers that maps are made of; `None`: the model's own.
    pub mapped: Option<Vec<Vec<u32>>>,
}

impl Diagnosis {
    fn positions(&self) -> usize {
        let lengths = self.contexts.iter().map(|context| context.example.ids.len());
        lengths.max().unwrap_or(0).max(self.generation.positions()).max(self.extent().longest)
    }

    /// The largest room of a group: rows are answered in groups of `batch`, each of which begins with an empty session,
    /// so that a resumed run has the bits of one that was not interrupted.
    fn room(&self) -> Room {
        let config = self.generation.config();
        let groups = self.generation.prompts.chunks(self.generation.batch);
        groups.map(|group| config.room(group, group.len())).fold(Room::default(), |a, b| Room {
            slots: a.slots.max(b.slots),
            tokens: a.tokens.max(b.tokens),
            rows: a.rows.max(b.rows),
        })
    }

    fn extent(&self) -> Extent {
        let most = self.generation.max_new_tokens;
        let own = vec![most; self.examples.min(self.contexts.len())];
        let mapped = self.mapped.as_ref().map(|mapped| mapped.iter().map(Vec::len).collect());
        extent(&self.contexts, most, &mapped.unwrap_or(own))
    }
}

impl Job for Diagnosis {
    const REMEDY: &'static str = Generation::REMEDY;

    fn bytes(&self) -> Result<u64> {
        let plan = Plan::default();
        let model = self.generation.shapes(&plan, self.positions())?;
        Session::new(&plan, &model, self.room())?;
        let observer = Observer::new(&plan, &model, self.extent())?;
        Ok(plan.bytes() + observer.host())
    }

    fn head_dim(&self) -> usize {
        self.generation.head_dim()
    }

    fn threads(&self) -> usize {
        self.generation.threads()
    }

    fn on<B: Backend + 'static>(mut self, backend: B, site: Site<B>, out: &mut Terminal) -> Result {
        let model = self.generation.model(&backend, self.positions())?;
        let mut session = Session::new(&backend, &model, self.room())?;
        let mut observer = Observer::new(&backend, &model, self.extent())?;
        let Some(mut output) = self.generation.output.take() else { return Ok(()) };
        let (config, batch) = (self.generation.config(), self.generation.batch);
        let sizes = (model.spec.layers, model.spec.q_heads);
        let (began, mut told, of) = (Instant::now(), Instant::now(), self.contexts.len());
        for first in (self.done / batch * batch..of).step_by(batch) {
            let group = &self.generation.prompts[first..of.min(first + batch)];
            let mut answers: Vec<Continuation> = Vec::with_capacity(group.len());
            generate::run(&mut session, group, &config, |event| {
                if let Event::Done(_, answer) = event {
                    answers.push(answer);
                }
                Ok(())
            })?;
            for (row, answer) in (first..).zip(&answers).filter(|(row, _)| *row >= self.done) {
                let context = &self.contexts[row];
                let other = self.mapped.as_ref().and_then(|mapped| mapped.get(row));
                let mapped = (row < self.examples).then(|| other.unwrap_or(&answer.ids).as_slice());
                let measured = measure(&mut observer, sizes, context, &answer.ids, mapped)?;
                output.write(&context.prompt, answer, config.tokenizer.is_some(), fields(&measured, sizes.0))?;
                if row + 1 == of || told.elapsed().as_secs() >= 10 {
                    told = Instant::now();
                    let (rows, s) = (row + 1 - self.done, began.elapsed().as_secs_f64().max(1e-9));
                    let speed = rows as f64 / s;
                    out.note(&format!("note: {} of {of} rows, {speed:.2} rows/s on {}", row + 1, site.meter.device));
                }
            }
        }
        Ok(())
    }
}
