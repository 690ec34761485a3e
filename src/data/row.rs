//! A row that was read, and its texts.

use std::ops::Range;

use super::Example;
use super::cut::Before;
use super::tokenizer::Piece;
use super::weights::drawn::Look;
use crate::salience::syntax::{Language, Parsed};

/// A row that was read.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Its tokens, at most `max_length`; the caller sets `row`.
    pub example: Example,
    /// Number of truncated tokens.
    pub cut: usize,
    /// Whether a chat template writes its first answer in another way when nothing follows.
    pub rewritten: bool,
    /// The code before the completion, where that was cut from the code.
    pub before: Option<Before>,
    /// The code that a scan path is drawn through, if weights are drawn.
    pub look: Option<Look>,
    /// How that code parsed; `None` if weights are not drawn, or drawn through a natural language.
    pub parsed: Option<Parsed>,
    /// Its texts, if they are kept; rows of `input_ids` have none.
    pub words: Option<Words>,
}

/// The texts of a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// The source of the target, as it is in the row: the code, the prompt, or the segments that are not trained.
    pub source: String,
    /// The trained text.
    pub target: String,
    /// Prompt and completion, or all segments, joined as the example has them.
    pub all: String,
    /// The position of each token in `all`, including truncated tokens; empty for a token without text.
    pub places: Vec<Range<usize>>,
    /// The text that scan paths are drawn through.
    pub looked_at: Option<String>,
    /// The language that the row names.
    pub lang: Option<Language>,
}

impl Words {
    /// Appends a text and its subwords.
    pub(crate) fn add(&mut self, text: &str, pieces: &[Piece]) {
        let at = self.all.len();
        self.all += text;
        self.places.extend(pieces.iter().map(|piece| at + piece.start..at + piece.end));
    }

    /// Appends EOS.
    pub(crate) fn end(&mut self) {
        self.places.push(self.all.len()..self.all.len());
    }
}
