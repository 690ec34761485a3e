//! From examples to a trained model: the recipe, the step, the schedule and the run.

pub mod checkpoint;
pub mod epochs;
pub mod estimate;
pub mod events;
pub mod feed;
pub mod fingerprint;
pub mod history;
pub mod meter;
pub mod metrics;
pub mod prepare;
pub mod recipe;
pub mod reference;
pub mod resume;
pub mod run;
pub mod salience;
pub mod schedule;
pub mod step;
