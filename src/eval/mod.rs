//! Evaluation of generated text.
//!
//! [`metrics`] has one file per family of metrics: pure functions of a prediction and its reference. [`check`] runs a
//! command on predictions.

pub mod check;
pub mod metrics;
