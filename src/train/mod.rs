//! From a recipe to a trained model.
//!
//! `prepare` reads the inputs that a `recipe` names, with the weights that `salience` asks for; `setup` makes the parts
//! of a run from them; `run` trains. `epochs` plans the steps, `feed` loads a micro-batch, `step` trains on it at the
//! rate of `schedule`, and `reference` adds log p of the DPO reference. `events` reports the run, `log` holds the lines
//! of metrics.jsonl, `metrics` writes them and `meter` times them. `checkpoint` writes what `resume` continues from,
//! where the `fingerprint` is the same. `estimate` counts memory and operations beforehand.

pub mod arms;
pub mod checkpoint;
pub mod epochs;
pub mod estimate;
pub mod events;
pub mod feed;
pub mod fingerprint;
pub mod likelihood;
pub mod log;
pub mod meter;
pub mod metrics;
pub mod prepare;
pub mod recipe;
pub mod reference;
pub mod resume;
pub mod run;
pub mod salience;
pub mod schedule;
mod setup;
pub mod step;
mod texts;
