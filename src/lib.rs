pub mod backend;
pub mod cli;
pub mod data;
pub mod error;
pub mod model;
pub mod random;
pub mod train;
