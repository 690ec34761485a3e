//! A case to time: its name, its least cost, and how to make its inputs.

use super::lab::Lab;
use crate::backend::Backend;
use crate::error::Result;

/// Runs an operation once on its own inputs.
pub type Call<B> = Box<dyn FnMut(&B) -> Result>;

/// A closure as a call; fixes the type of its argument.
pub fn call<B: Backend>(f: impl FnMut(&B) -> Result + 'static) -> Result<Call<B>> {
    Ok(Box::new(f))
}

type Make<B> = Box<dyn Fn(&mut Lab<B>) -> Result<Call<B>>>;

/// The least cost of a call for any implementation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Each input read once and each output written once, in bytes.
    pub bytes: usize,
    /// FLOPs of products; a multiply-add counts 2.
    pub flops: usize,
}

/// An operation at one shape.
pub struct Case<B: Backend> {
    /// Its name for `--only`.
    pub name: &'static str,
    /// In words, `16384 x 2048`.
    pub shape: String,
    /// Its least cost.
    pub cost: Cost,
    /// Makes inputs and the call on them.
    pub make: Make<B>,
}

impl<B: Backend> Case<B> {
    /// A case that moves `bytes` and multiplies nothing.
    pub fn moving(
        name: &'static str, shape: String, bytes: usize, make: impl Fn(&mut Lab<B>) -> Result<Call<B>> + 'static,
    ) -> Case<B> {
        Case { name, shape, cost: Cost { bytes, flops: 0 }, make: Box::new(make) }
    }

    /// A case with products.
    pub fn product(
        name: &'static str, shape: String, cost: Cost, make: impl Fn(&mut Lab<B>) -> Result<Call<B>> + 'static,
    ) -> Case<B> {
        Case { name, shape, cost, make: Box::new(make) }
    }
}
