//! Studies: several runs beside each other.

pub mod stats;
