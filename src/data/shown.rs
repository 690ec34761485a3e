//! A whole row for display: every subword with its weight and the weight's origin, the code with its scan path, and the
//! truncated text.

use super::IGNORE;
use super::row::{Row, Words};
use super::tokenizer::Tokenizer;
use super::weights::drawn::{Drawing, Drawn, Look, Weighs};
use crate::salience::scanpath::ScanPath;
use crate::salience::weights::{Parts, Weight};
use crate::salience::{Label, Span};

/// The origin of a subword's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A token of the code with this label.
    Label(Label),
    /// A token of the code without a label.
    Unlabelled,
    /// No token of the code: whitespace, punctuation, words that are not in the code.
    NoToken,
    /// The code as a whole.
    Whole,
    /// The data.
    Data,
    /// A supervised prompt: `data.prompt_weight`.
    Prompt,
    /// The end of the text.
    End,
}

impl Kind {
    /// The name in lists and pages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Label(label) => label.name(),
            Kind::Unlabelled => "token without label",
            Kind::NoToken => "no token",
            Kind::Whole => "whole code",
            Kind::Data => "given by the data",
            Kind::Prompt => "prompt",
            Kind::End => "EOS",
        }
    }

    /// The kind of the token at `t` of a row.
    pub(crate) fn of(row: &Row, t: usize, eos: Option<u32>) -> Kind {
        let example = &row.example;
        let end = t + 1 == example.ids.len() && row.cut == 0 && example.ids.get(t).copied() == eos;
        match row.look.as_ref().map(|look| (look, look.by.get(t))) {
            None | Some((_, None | Some(Weighs::Given))) if end => Kind::End,
            None => Kind::Data,
            Some((_, None | Some(Weighs::Given))) => Kind::Prompt,
            Some((_, Some(Weighs::Rest))) => Kind::NoToken,
            Some((_, Some(Weighs::Whole))) => Kind::Whole,
            Some((look, Some(Weighs::Like(place)))) => {
                look.spans.get(*place as usize).and_then(|span| span.label).map_or(Kind::Unlabelled, Kind::Label)
            }
        }
    }
}

/// One subword of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Subword {
    /// Token id.
    pub id: u32,
    /// The id to predict, if the subword is supervised.
    pub label: Option<u32>,
    /// The text that it adds; empty for a later part of a character.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its loss weight.
    pub weight: f32,
    /// Whether it lies on the scan path.
    pub on_path: bool,
    /// The origin of its weight.
    pub kind: Kind,
    /// The token of [`Scan::spans`] that gives its weight.
    pub token: Option<usize>,
    /// The terms of its weight, if it is drawn from a scan path.
    pub parts: Option<Parts>,
}

/// The code, with its scan path.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub spans: Vec<Span>,
    /// Their weights.
    pub weights: Vec<Weight>,
    /// The path through its tokens.
    pub path: ScanPath,
}

/// A row as the first epoch trains on it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its line, from 1.
    pub line: usize,
    /// Whether it can be trained on, that is, has a supervised token.
    pub kept: bool,
    /// Its subwords, at most `max_length`.
    pub subwords: Vec<Subword>,
    /// Number and text of the truncated subwords.
    pub cut: (usize, String),
    /// Whether the completion was made by cutting `code` in two.
    pub split: bool,
    /// The code with its scan path, if weights are drawn.
    pub scan: Option<Scan>,
}

impl Shown {
    /// Builds a whole row whose weights have been drawn.
    pub(crate) fn new(row: &Row, tokenizer: Option<&Tokenizer>, drawing: Option<&Drawing>) -> Shown {
        let example = &row.example;
        let drawn = row.look.as_ref().zip(drawing).map(|(look, drawing)| (look, drawing.of(look, example.row, 0)));
        let eos = tokenizer.map(Tokenizer::eos);
        let mut written = 0;
        let mut subword = |t: usize| {
            let id = example.ids[t];
            let by = drawn.as_ref().and_then(|(look, drawn)| Some((look.by.get(t).copied()?, drawn)));
            let token = match by {
                Some((Weighs::Like(place), _)) => Some(place as usize),
                _ => None,
            };
            Subword {
                id,
                label: Some(example.labels[t]).filter(|&label| label != IGNORE && t > 0),
                text: text(row, t, &mut written, tokenizer),
                bytes: tokenizer.map(|tokenizer| tokenizer.token_bytes(id)).unwrap_or_default(),
                weight: example.weights[t],
                on_path: example.path[t],
                kind: Kind::of(row, t, eos),
                token,
                parts: by.and_then(|(by, drawn)| drawn.weight(by)).map(|weight| weight.parts),
            }
        };
        Shown {
            line: example.row as usize + 1,
            kept: example.supervised() > 0,
            subwords: (0..example.ids.len()).map(&mut subword).collect(),
            cut: (row.cut, lost(row)),
            split: row.before.is_some(),
            scan: drawn.and_then(|(look, drawn)| scan(row.words.as_ref()?, look, drawn)),
        }
    }
}

/// The text that the token at `t` adds after `written` bytes. Special tokens without text are shown by their names, ids
/// without a tokenizer as numbers.
fn text(row: &Row, t: usize, written: &mut usize, tokenizer: Option<&Tokenizer>) -> String {
    let id = row.example.ids[t];
    let place = row.words.as_ref().and_then(|words| Some((&words.all, words.places.get(t)?)));
    match (place, tokenizer) {
        (Some((all, place)), _) if !place.is_empty() => {
            let start = place.start.max(*written);
            *written = place.end.max(*written);
            all.get(start..place.end).unwrap_or_default().to_string()
        }
        (_, Some(tokenizer)) => tokenizer.token_text(id),
        _ => format!("{id} "),
    }
}

/// The text after the last token that was kept.
fn lost(row: &Row) -> String {
    let kept = row.example.ids.len();
    let words = row.words.as_ref().filter(|_| row.cut > 0);
    let text = words.and_then(|words| words.all.get(words.places.get(kept)?.start..));
    text.unwrap_or_default().to_string()
}

fn scan(words: &Words, look: &Look, drawn: Drawn) -> Option<Scan> {
    let text = words.looked_at.clone()?;
    Some(Scan { text, spans: look.spans.clone(), weights: drawn.tokens, path: drawn.path })
}
