//! A generation on a device: `generate` and `eval` share it.

use super::rows::Output;
use crate::backend::plan::Plan;
use crate::backend::{Backend, ComputeDtype};
use crate::cli::device::{Job, Site};
use crate::cli::terminal::Terminal;
use crate::data::requests::Prompt;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::decode::{Room, Session};
use crate::model::decoder::Decoder;
use crate::model::files::ModelFiles;
use crate::model::generate::{self, Event, GenerationConfig};
use crate::model::peft::AdapterFiles;
use crate::model::sample::Sampling;
use std::time::Instant;

/// The checked inputs of a generation, before a device is chosen.
pub struct Generation {
    pub files: ModelFiles,
    pub adapter: Option<AdapterFiles>,
    pub tokenizer: Option<Tokenizer>,
    pub prompts: Vec<Prompt>,
    /// Prompts that are generated together.
    pub batch: usize,
    pub threads: usize,
    pub dtype: ComputeDtype,
    /// The file for rows; `None` prints text on the terminal.
    pub output: Option<Output>,
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    pub ends: Vec<u32>,
    pub stops: Vec<String>,
}

impl Generation {
    /// Positions that the model must know.
    pub fn positions(&self) -> usize {
        self.prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0) + self.max_new_tokens
    }

    /// Settings of the generation.
    pub fn config(&self) -> GenerationConfig<'_> {
        GenerationConfig {
            sampling: self.sampling,
            max_new_tokens: self.max_new_tokens,
            ends: &self.ends,
            stops: &self.stops,
            tokenizer: self.tokenizer.as_ref(),
            model: &self.files.dir,
        }
    }

    fn room(&self) -> Room {
        self.config().room(&self.prompts, self.batch)
    }

    /// The model without values, for `positions` positions.
    pub fn shapes(&self, plan: &Plan, positions: usize) -> Result<Decoder<Plan>> {
        let mut model = Decoder::build(plan, self.files.spec.clone(), &self.files.sizes(), None, positions)?;
        if let Some(adapter) = &self.adapter {
            adapter.attach_shapes(plan, &mut model)?;
        }
        Ok(model)
    }

    /// The model with its adapter, for `positions` positions.
    pub fn model<B: Backend>(&self, backend: &B, positions: usize) -> Result<Decoder<B>> {
        let mut model = Decoder::build(backend, self.files.spec.clone(), &self.files.values(), None, positions)?;
        if let Some(adapter) = &self.adapter {
            adapter.attach(backend, &mut model)?;
        }
        Ok(model)
    }

    /// Generates all rows, to the file or to the terminal.
    pub fn generate<B: Backend>(
        &mut self, backend: &B, model: &Decoder<B>, site: &Site<B>, out: &mut Terminal,
    ) -> Result {
        let mut output = self.output.take();
        let mut session = Session::new(backend, model, self.room())?;
        let (config, output) = (self.config(), &mut output);
        let (began, mut told) = (Instant::now(), Instant::now());
        let (of, mut tokens) = (self.prompts.len(), 0);
        generate::run(&mut session, &self.prompts, &config, |event| {
            let (index, done) = match event {
                Event::Piece(_, text) => {
                    if output.is_none() {
                        out.print(text);
                    }
                    return Ok(());
                }
                Event::Done(index, done) => (index, done),
            };
            match output {
                None => out.line(""),
                Some(output) => output.write(&self.prompts[index], &done, config.tokenizer.is_some(), Vec::new())?,
            }
            tokens += done.ids.len();
            let rows = index + 1;
            if rows == of || told.elapsed().as_secs() >= 10 {
                told = Instant::now();
                let speed = tokens as f64 / began.elapsed().as_secs_f64().max(1e-9);
                let rows = if output.is_some() { format!("{rows} of {of} rows, ") } else { String::new() };
                out.note(&format!("note: {rows}{tokens} tokens, {speed:.1} tokens/s on {}", site.meter.device));
            }
            Ok(())
        })
    }
}

impl Job for Generation {
    const REMEDY: &'static str = "lower --batch-size or --max-new-tokens, or shorten the prompts";

    fn bytes(&self) -> Result<u64> {
        let plan = Plan::default();
        let model = self.shapes(&plan, self.positions())?;
        Session::new(&plan, &model, self.room())?;
        Ok(plan.bytes())
    }

    fn head_dim(&self) -> usize {
        self.files.spec.head_dim
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn dtype(&self) -> ComputeDtype {
        self.dtype
    }

    fn on<B: Backend + 'static>(mut self, backend: B, site: Site<B>, out: &mut Terminal) -> Result {
        let model = self.model(&backend, self.positions())?;
        self.generate(&backend, &model, &site, out)
    }
}
