//! From files to tokens: rows of text become [`Example`]s, examples become packed [`Batch`]es.
//!
//! `source` says where rows come from and `corpus` reads all of them. `template` holds the task templates and `chat`
//! the model's own, which `jinja` runs. `tokenizer` turns text into ids, by the files `beside` it, and `contain` turns
//! the panics of its library into errors. `reader` and `turns` read one `row`, `weights` gives its subwords their loss
//! weights, `cache` keeps prepared examples and `pack` lays them out. `requests` reads rows to continue, `contexts`
//! reads them with their references and scan paths. `survey` counts possible defects of data, and `shown` keeps a row
//! for display. Nothing here knows a model or a device.

mod beside;
pub mod cache;
pub mod chat;
mod contain;
pub mod contexts;
pub mod corpus;
mod counts;
pub mod cut;
pub mod jinja;
pub(crate) mod json;
pub(crate) mod lines;
pub mod pack;
mod reader;
pub mod requests;
mod row;
#[cfg(test)]
pub(crate) mod samples;
pub mod shown;
mod source;
pub mod survey;
pub mod template;
pub mod text;
pub mod tokenizer;
mod turns;
pub mod weights;

/// A label that is not supervised (the -100 of other trainers).
pub const IGNORE: u32 = u32::MAX;

/// One tokenised training example. The four vectors have the same length, one entry per token.
///
/// `labels`, `weights` and `path` belong to the token they stand at (the Hugging Face convention): the shift to
/// "predicted by the position before" happens once, in [`pack`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Index of the row in its corpus, from 0: the identity that random streams and caches are keyed by.
    pub row: u32,
    /// Token ids.
    pub ids: Vec<u32>,
    /// The id to predict at each position, or [`IGNORE`].
    pub labels: Vec<u32>,
    /// Loss weight of each label; finite, any sign. A weight of 0 still counts as supervised.
    pub weights: Vec<f32>,
    /// Whether the token lies on the scan path.
    pub path: Vec<bool>,
    /// How many of the first tokens are a prompt that `data.prompt_weight` supervises; 0 where there is none.
    pub prompt: u32,
}

impl Example {
    /// How many labels are supervised. The first token has no predecessor, so its label never counts.
    pub fn supervised(&self) -> usize {
        self.supervised_at().count()
    }

    /// Where the supervised tokens of answers stand: all but those of a prompt.
    pub fn answer_at(&self) -> impl Iterator<Item = usize> {
        let prompt = self.prompt as usize;
        self.supervised_at().filter(move |&t| t >= prompt)
    }

    /// Where the supervised tokens stand.
    pub fn supervised_at(&self) -> impl Iterator<Item = usize> {
        self.labels.iter().enumerate().skip(1).filter(|(_, label)| **label != IGNORE).map(|(t, _)| t)
    }
}

/// What crosses from data to a backend: examples laid end to end, no attention across their borders.
///
/// `T` tokens, `R` supervised rows, `E` examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids, `[T]`.
    pub ids: Vec<u32>,
    /// Position inside the example, `[T]`.
    pub pos: Vec<u32>,
    /// Index of the first token of the example that each token belongs to, `[T]`.
    pub seg_start: Vec<u32>,
    /// [`Example::row`] of the example that each token belongs to, `[T]`.
    pub example: Vec<u32>,
    /// Index (into `T`) of the hidden row that predicts each supervised label, ascending, `[R]`.
    pub rows: Vec<u32>,
    /// The supervised labels, `[R]`.
    pub labels: Vec<u32>,
    /// Loss weight of each supervised label, `[R]`.
    pub weights: Vec<f32>,
    /// 1 where the label lies on the scan path, else 0, `[R]`.
    pub path: Vec<u32>,
    /// First supervised row of each example, `[E + 1]`; the last entry is `R`.
    pub row_start: Vec<u32>,
    /// [`Example::row`] of each example, `[E]`.
    pub examples: Vec<u32>,
    /// log p of each supervised label under the reference model, `[R]`, or empty where no DPO term is asked for.
    pub ref_logp: Vec<f32>,
}
