//! eyekern fine-tunes Hugging Face code models with **a weight on every token's loss**.
//!
//! The way of the data, one module after the other:
//!
//! ```text
//! files -> data (rows, tokens, packed batches) -> model (one decoder, forward and backward)
//!       -> train (objective, step, run) -> a PEFT adapter or a Hugging Face model
//! ```
//!
//! * [`salience`] turns code into labelled tokens, scan paths and weights; it knows no model and no tokenizer.
//!   [`salience::gaze`] makes priors of one's own from eye tracker recordings.
//! * [`render`] writes pictures and pages, from plain strings and numbers.
//! * [`data`] reads JSONL rows or parallel text, tokenises them and carries weights over to subwords.
//! * [`backend`] lists what a device must do, each operation beside its gradient; the CPU does it in f32 for training
//!   and in f64 as the reference, and [`backend::plan`] only counts.
//! * [`model`] is one decoder for ten architectures: what differs is a [`model::config::Spec`].
//! * [`train`] normalises, steps, schedules and saves.
//! * [`cli`] is the command, and the only place that prints.
//!
//! A module imports only those below it (choices, error, random < files < render < salience < data < backend < model < train < cli); a test holds that.
//!
//! The numerics in three lines: the loss of an optimiser step is normalised once over all its micro-batches, so that
//! splitting, packing or reordering changes nothing; every reduction has a fixed order, so that two runs give the same
//! bits with any number of threads; weight gradients accumulate in [`backend::Backend::Stat`].
#![deny(missing_docs)]
#![deny(unsafe_code)] // lifted where tests/layout.rs says: the matrix product's raw call, the memory map, the doors to C
#![warn(rustdoc::broken_intra_doc_links)]

pub mod backend;
pub mod choices;
pub mod cli;
pub mod data;
pub mod error;
pub mod files;
pub mod model;
pub mod random;
pub mod render;
pub mod salience;
pub mod train;
