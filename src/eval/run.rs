//! Texts of a model for rows with a reference, and their scores.

use super::metrics::crystal::{Counter, SHARED};
use super::metrics::{Metrics, Setup};
use super::score::{Cleaning, Report, Row, Scorer};
use crate::backend::Backend;
use crate::data::cut::Unit;
use crate::data::requests::Prompt;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::decode::{Room, Session};
use crate::model::decoder::Decoder;
use crate::model::generate::{self, Continuation, Event, GenerationConfig};
use crate::model::sample::Sampling;
use std::path::{Path, PathBuf};

/// Rows to continue, and how their texts are scored.
#[derive(Clone, Debug)]
pub struct Task {
    /// The rows.
    pub prompts: Vec<Prompt>,
    /// What a text is cut to before it is scored, where the target was cut from code.
    pub unit: Unit,
    /// The largest number of tokens of a text.
    pub max_new_tokens: usize,
    /// Rows that are generated together.
    pub slots: usize,
    /// Ids that end a text.
    pub ends: Vec<u32>,
    /// Names of the metrics.
    pub metrics: Vec<String>,
    /// What metrics need beside the texts.
    pub setup: Setup,
    /// The model's folder, for messages.
    pub model: PathBuf,
}

/// Scores of a model's texts, and what they took.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The scores.
    pub report: Report,
    /// Tokens that were generated.
    pub tokens: usize,
}

impl Task {
    /// The room of a session for all rows.
    pub fn room(&self) -> Room {
        self.config(None).room(&self.prompts, self.slots)
    }

    /// Positions that the model must know.
    pub fn positions(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + self.max_new_tokens
    }

    fn config<'a>(&'a self, tokenizer: Option<&'a Tokenizer>) -> GenerationConfig<'a> {
        GenerationConfig {
            sampling: Sampling::default(),
            max_new_tokens: self.max_new_tokens,
            ends: &self.ends,
            stops: &[],
            tokenizer,
            model: &self.model,
        }
    }

    /// Greedy texts of the model for all rows, scored. `each` receives each text in the order of the rows, with its
    /// prediction: the text up to the end of its first unit.
    pub fn run<B: Backend>(
        &self, b: &B, model: &Decoder<B>, tokenizer: &Tokenizer,
        mut each: impl FnMut(&Prompt, &Continuation, &str) -> Result,
    ) -> Result<Scores> {
        let mut session = Session::new(b, model, self.room())?;
        let mut counter = Counter::default();
        self.prompts.iter().filter_map(|prompt| prompt.target_text.as_deref()).for_each(|text| counter.add(text));
        let setup = Setup { shared: Some(counter.shared(SHARED)), ..self.setup.clone() };
        let whole: Cleaning = Box::new(str::to_string);
        let mut scorer = Scorer::new(Metrics::named(self.metrics.iter().map(String::as_str), &setup)?, whole, None);
        let mut tokens = 0;
        generate::run(&mut session, &self.prompts, &self.config(Some(tokenizer)), |event| {
            let Event::Done(index, done) = event else { return Ok(()) };
            let prompt = &self.prompts[index];
            let prediction = prediction(prompt, &done.text, self.unit);
            tokens += done.ids.len();
            each(prompt, &done, prediction)?;
            scorer.push(row(prompt, prediction), &mut |_| Ok(()))
        })?;
        Ok(Scores { report: scorer.finish(&mut |_| Ok(()))?, tokens })
    }
}

/// The part of a text that is scored: its first unit, where the target was cut from code.
pub fn prediction<'t>(prompt: &Prompt, text: &'t str, unit: Unit) -> &'t str {
    prompt.before.as_ref().map_or(text, |before| before.first(text, unit))
}

/// The row that scores a prediction. The source of a target that was cut from code is the code before it.
fn row(prompt: &Prompt, prediction: &str) -> Row {
    Row {
        hyps: vec![prediction.to_string()],
        reference: prompt.target_text.clone().unwrap_or_default(),
        source: source(prompt).map(str::to_string),
    }
}

/// The source of a row: the code before a target that was cut from it, else the source that the row has.
pub fn source(prompt: &Prompt) -> Option<&str> {
    prompt.before.as_ref().map(|before| before.text.as_str()).or(prompt.source.as_deref())
}

/// Refuses rows without a reference to compare with.
pub fn check(prompts: &[Prompt], file: &Path) -> Result {
    let empty = |prompt: &&Prompt| prompt.target_text.as_deref().is_none_or(|text| text.trim().is_empty());
    match prompts.iter().find(empty) {
        None => Ok(()),
        Some(prompt) => {
            let why = "the row has no reference, so nothing can be compared with its text; give one, or drop the row";
            Err(Error::row(file, prompt.row as usize + 1, why))
        }
    }
}
