//! Studies: several runs beside each other.

pub mod compare;
pub mod grid;
pub mod load;
pub mod stats;
