//! Text from a model: prompts to their ends, token by token, as many at a time as a session has slots.

use super::decode::{Room, Session};
use super::sample::Sampling;
use crate::backend::Backend;
use crate::choices::choices;
use crate::data::requests::Prompt;
use crate::data::text::Growing;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

choices! {
    /// Why a continuation ended.
    Finish {
        /// The model ended it.
        Eos = "eos",
        /// A stop string came.
        Stop = "stop",
        /// It has as many tokens as were allowed.
        Length = "length",
    }
}

/// Settings of a generation that all its prompts share.
pub struct GenerationConfig<'a> {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The largest number of tokens of a continuation.
    pub max_new_tokens: usize,
    /// Ids that end a continuation; they are not part of it.
    pub ends: &'a [u32],
    /// Texts that end a continuation; it ends before them.
    pub stops: &'a [String],
    /// Makes text of ids; without one there is none.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The model's folder, for messages.
    pub model: &'a Path,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// Its tokens, those of a stop string included.
    pub ids: Vec<u32>,
    /// Its text; empty without a tokenizer.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// What a generation reports as it goes.
pub enum Event<'a> {
    /// More text of the prompt with this index.
    Piece(usize, &'a str),
    /// The continuation of the prompt with this index; they come in the order of the prompts.
    Done(usize, Continuation),
}

impl GenerationConfig<'_> {
    /// The room that [`run`] requires for these prompts, `slots` at a time.
    pub fn room(&self, prompts: &[Prompt], slots: usize) -> Room {
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.ids.len()).collect();
        Room::sliding(&lengths, slots, self.max_new_tokens)
    }
}

/// A continuation that is being written.
struct Open<'a> {
    index: usize,
    seen: Vec<u32>,
    prompt: usize,
    text: Option<Growing<'a>>,
}

impl<'a> Open<'a> {
    fn new(index: usize, ids: &'a [u32], config: &GenerationConfig<'a>) -> Open<'a> {
        let text = config.tokenizer.map(|tokenizer| Growing::new(tokenizer, config.stops, ids));
        Open { index, seen: ids.to_vec(), prompt: ids.len(), text }
    }

    /// Adds a token and the text that it completes; gives the reason to end, if there is one.
    fn push(
        &mut self, id: u32, config: &GenerationConfig, piece: &mut impl FnMut(usize, &str) -> Result,
    ) -> Result<Option<Finish>> {
        if config.ends.contains(&id) {
            return Ok(Some(Finish::Eos));
        }
        self.seen.push(id);
        if let Some(text) = &mut self.text {
            piece(self.index, &text.push(id)?)?;
        }
        let stopped = self.text.as_ref().is_some_and(Growing::stopped);
        let whole = self.seen.len() - self.prompt == config.max_new_tokens;
        Ok(if stopped { Some(Finish::Stop) } else { whole.then_some(Finish::Length) })
    }

    fn close(self, finish: Finish) -> Continuation {
        let text = self.text.map(|text| text.text().to_string()).unwrap_or_default();
        Continuation { ids: self.seen[self.prompt..].to_vec(), text, finish }
    }
}

/// Continues each prompt in a session with [`GenerationConfig::room`] for them. When a sequence ends, the next prompt
/// takes its slot, and is read in the pass that continues the others. The continuation of a prompt does not depend on
/// the others, but for the rounding of products over other numbers of rows.
///
/// Fails where logits are not finite, and with the errors of `event`.
pub fn run<B: Backend>(
    session: &mut Session<B>, prompts: &[Prompt], config: &GenerationConfig, mut event: impl FnMut(Event) -> Result,
) -> Result {
    session.clear();
    let (mut open, mut next): (BTreeMap<usize, Open>, Vec<(usize, u32)>) = Default::default();
    // continuations that wait for an earlier one
    let (mut done, mut reported): (BTreeMap<usize, Continuation>, usize) = Default::default();
    let mut waiting = prompts.iter().enumerate().peekable();
    while reported < prompts.len() {
        let mut fresh = Vec::new();
        while let Some((_, prompt)) = waiting.peek() {
            let Some(slot) = session.reserve(prompt.ids.len() + config.max_new_tokens) else { break };
            let Some((index, prompt)) = waiting.next() else { break };
            open.insert(slot, Open::new(index, &prompt.ids, config));
            fresh.push((slot, prompt.ids.as_slice()));
        }
        assert!(!(next.is_empty() && fresh.is_empty()), "a session without room for a prompt");
        let logits = session.pass(&next, &fresh)?;
        let slots: Vec<usize> = next.iter().map(|(slot, _)| *slot).chain(fresh.iter().map(|(slot, _)| *slot)).collect();
        let vocab = logits.len() / slots.len();
        let chosen = choose(logits, vocab, &slots, &open, prompts, config)?;
        next.clear();
        for (slot, id) in slots.into_iter().zip(chosen) {
            let Some(one) = open.get_mut(&slot) else { continue };
            let mut piece = |index, text: &str| event(Event::Piece(index, text));
            let Some(finish) = one.push(id, config, &mut piece)? else {
                next.push((slot, id));
                continue;
            };
            if let Some(text) = &mut one.text {
                piece(one.index, &text.finish())?;
            }
            session.release(slot);
            done.extend(open.remove(&slot).map(|one| (one.index, one.close(finish))));
        }
        while let Some(continuation) = done.remove(&reported) {
            event(Event::Done(reported, continuation))?;
            reported += 1;
        }
    }
    Ok(())
}

/// The next token of each slot, from its row of `logits [n, vocab]`.
fn choose(
    logits: &mut [f32], vocab: usize, slots: &[usize], open: &BTreeMap<usize, Open>, prompts: &[Prompt],
    config: &GenerationConfig,
) -> Result<Vec<u32>> {
    let one = |(slot, logits): (&usize, &mut [f32])| {
        let one = &open[slot];
        let row = prompts[one.index].row;
        config.sampling.choose(logits, &one.seen, row).ok_or_else(|| {
            let why = format!(
                "the model's logits are not finite after {} tokens of row {}; is the checkpoint or the adapter \
                 damaged?",
                one.seen.len(),
                row + 1
            );
            Error::file(config.model, why)
        })
    };
    slots.iter().zip(logits.chunks_exact_mut(vocab)).map(one).collect()
}
