//! From eye tracker recordings to priors: raw samples -> fixations -> tokens -> labels -> counts.
//!
//! 1. A recording is read row by row ([`recording`]), with a [`mapping`] of its columns and units: text with a header,
//!    XML or BIDS; samples or fixations; on the screen or in lines and columns of a source file ([`source`]).
//! 2. Samples become fixations by dispersion threshold ([`fixations`]).
//! 3. A fixation is assigned to the token box that contains it, otherwise to the nearest box within a radius, otherwise
//!    it is unmapped ([`boxes`]).
//! 4. Fixated tokens have labels; the labels and their order are counted ([`build`]).
//!
//! All units are pixels from the upper left corner of the screen, and milliseconds.

mod bids;
pub mod boxes;
pub mod build;
pub mod fixations;
pub mod mapping;
mod order;
pub mod recording;
pub mod screens;
pub mod source;
pub mod table;
mod text;
mod xml;

#[cfg(test)]
mod tests;
