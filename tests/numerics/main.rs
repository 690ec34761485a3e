//! The numbers of a training step: the objective against PyTorch, the optimiser's moments in 8 bits, recomputed
//! activations, and what must hold for every model and every batch. Also [`statistics`], the numbers of a comparison.

mod moments;
mod objective;
mod properties;
mod recompute;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
