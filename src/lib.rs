//! eyekern fine-tunes Hugging Face code models with **a weight on every token's loss**.
//!
//! Data flow, one module after the other:
//!
//! ```text
//! files -> data (rows, tokens, packed batches) -> model (one decoder, forward and backward)
//!       -> train (objective, step, run) -> a PEFT adapter or a Hugging Face model
//! ```
//!
//! * [`salience`] turns code into labelled tokens, scan paths and weights; it knows no model and no tokenizer.
//!   [`salience::gaze`] makes priors from eye-tracking recordings.
//! * [`render`] writes pictures, pages and event files from plain strings and numbers.
//! * [`data`] reads JSONL rows or parallel text, tokenises them and gives each subword its loss weight.
//! * [`backend`] lists the operations of a device, each beside its gradient. The CPU implements them in f32 for
//!   training and in f64 as the reference, CUDA in bf16, and [`backend::plan`] only counts.
//! * [`model`] is one decoder for ten architectures, which differ in a [`model::config::Spec`].
//! * [`eval`] scores generated text against references.
//! * [`train`] normalises, steps, schedules and saves.
//! * [`study`] compares runs.
//! * [`cli`] is the command, and the only place that prints.
//!
//! A module imports only the modules below it: choices, error, random < files < render < salience < data < backend <
//! model < eval < train < study < cli. `tests/docs/layout` checks this.
//!
//! Three rules of numerics: the loss of an optimiser step is normalised once over all its micro-batches, so that
//! splitting, packing or reordering changes nothing; every reduction has a fixed order, so that two runs give the same
//! bits with any number of threads; weight gradients accumulate in [`backend::Memory::Stat`].
#![deny(missing_docs)]
#![deny(unsafe_code)] // allowed only in the files that tests/docs/layout lists
#![warn(rustdoc::broken_intra_doc_links)]

pub mod backend;
pub mod choices;
pub mod cli;
pub mod data;
pub mod error;
pub mod eval;
pub mod files;
pub mod model;
pub mod random;
pub mod render;
pub mod salience;
pub mod study;
pub mod train;
