//! Text from a model: a batch of prompts to its end, token by token.

use super::decode::Session;
use super::sample::Sampling;
use crate::backend::Backend;
use crate::choices::choices;
use crate::data::requests::Prompt;
use crate::data::text::Growing;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
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

/// One that is being written.
struct Open<'a> {
    seen: Vec<u32>,
    prompt: usize,
    text: Option<Growing<'a>>,
    finish: Option<Finish>,
}

/// Continues each prompt. `piece(i, text)` is given the text of prompt `i` as it comes. What a prompt gets does not
/// depend on the others, but for the rounding of products over other numbers of rows.
pub fn batch<B: Backend>(
    session: &mut Session<B>, prompts: &[Prompt], config: &GenerationConfig, mut piece: impl FnMut(usize, &str),
) -> Result<Vec<Continuation>> {
    let ids: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
    let open = |ids| {
        let text = config.tokenizer.map(|tokenizer| Growing::new(tokenizer, config.stops, ids));
        Open { seen: ids.to_vec(), prompt: ids.len(), text, finish: None }
    };
    let mut all: Vec<Open> = ids.iter().copied().map(open).collect();
    let mut logits = session.start(&ids, config.max_new_tokens)?;
    let mut going: Vec<usize> = (0..all.len()).collect();
    loop {
        let mut next = Vec::new();
        let vocab = logits.len() / going.len().max(1);
        for (&i, logits) in going.iter().zip(logits.chunks_exact_mut(vocab.max(1))) {
            let (one, row) = (&mut all[i], prompts[i].row);
            let Some(id) = config.sampling.choose(logits, &one.seen, row) else {
                let why = format!(
                    "the model's logits are not finite after {} tokens of row {}; is the checkpoint or the adapter \
                     damaged?",
                    one.seen.len(),
                    row + 1
                );
                return Err(Error::file(config.model, why));
            };
            if config.ends.contains(&id) {
                one.finish = Some(Finish::Eos);
            } else {
                one.seen.push(id);
                if let Some(text) = &mut one.text {
                    piece(i, &text.push(id)?);
                }
                if one.text.as_ref().is_some_and(Growing::stopped) {
                    one.finish = Some(Finish::Stop);
                } else if one.seen.len() - one.prompt == config.max_new_tokens {
                    one.finish = Some(Finish::Length);
                } else {
                    next.push((i, id));
                }
            }
            if let (Some(_), Some(text)) = (one.finish, &mut one.text) {
                piece(i, &text.finish());
            }
        }
        if next.is_empty() {
            break;
        }
        logits = session.step(&next)?;
        going = next.iter().map(|&(i, _)| i).collect();
    }
    let close = |one: Open| Continuation {
        ids: one.seen[one.prompt..].to_vec(),
        text: one.text.map(|text| text.text().to_string()).unwrap_or_default(),
        finish: one.finish.unwrap_or(Finish::Length),
    };
    Ok(all.into_iter().map(close).collect())
}
