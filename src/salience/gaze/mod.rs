//! From eye tracker recordings to priors: raw samples -> fixations -> tokens -> labels -> counts.
//!
//! 1. A recording is read row by row ([`recording`]), by a [`mapping`] of its columns and units.
//! 2. Samples become fixations by dispersion threshold ([`fixations`]).
//! 3. A fixation goes to the token box that contains it, else to the nearest within a radius, else it is unmapped
//!    ([`boxes`]).
//! 4. Tokens carry labels; what was fixated and in which order is counted ([`build`]).
//!
//! Units throughout: pixels from the upper left corner of the screen, milliseconds.

pub mod boxes;
pub mod build;
pub mod fixations;
pub mod mapping;
pub mod recording;
pub mod screens;
pub mod table;

#[cfg(test)]
mod tests;
