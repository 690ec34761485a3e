//! From examples to a trained model: the recipe, the step, the schedule and the run.

pub mod feed;
pub mod recipe;
pub mod schedule;
pub mod step;
