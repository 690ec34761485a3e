//! From examples to a trained model: the recipe, the step, the schedule and the run.

pub mod epochs;
pub mod estimate;
pub mod feed;
pub mod metrics;
pub mod prepare;
pub mod recipe;
pub mod run;
pub mod salience;
pub mod schedule;
pub mod step;
