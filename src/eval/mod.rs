//! Evaluation: metrics of generated text.

pub mod metrics;
