//! Evaluation of generated text.
//!
//! [`metrics`] has one file per family of metrics: pure functions of a prediction and its reference. [`score`] makes a
//! report of predictions and references, with the scores of trivial predictors beside it. [`rows`] reads the files.
//! [`check`] runs a command on predictions. [`attention`] has diagnostics of attention. [`mean`] has means with their
//! intervals, [`tails`] the distributions that intervals and tests use.

pub mod attention;
pub mod check;
pub mod mean;
pub mod metrics;
pub mod rows;
pub mod run;
pub mod score;
pub mod tails;
