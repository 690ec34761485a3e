//! Diagnostics of attention: where a model looks while it writes, and how well it predicts what people look at.
//!
//! [`figures`] has the definitions, [`measure`] the figures of one example, [`summary`] means over examples with
//! intervals, of one model or of two. docs/attention.md has the formulas for readers.

pub mod figures;
pub mod measure;
pub mod summary;
