//! One thing to time: what it is called, what it costs at least, and how its inputs are made.

use super::lab::Lab;
use crate::backend::Backend;
use crate::error::Result;

/// Does the work once, on inputs of its own.
pub type Call<B> = Box<dyn FnMut(&B) -> Result>;

/// A closure as a call, with its argument's type known.
pub fn call<B: Backend>(f: impl FnMut(&B) -> Result + 'static) -> Result<Call<B>> {
    Ok(Box::new(f))
}

type Make<B> = Box<dyn Fn(&mut Lab<B>) -> Result<Call<B>>>;

/// What a call costs at least, whoever does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Each input read once and each output written once, in bytes.
    pub bytes: usize,
    /// Operations of products; a multiply-add counts 2.
    pub flops: usize,
}

/// An operation at one shape.
pub struct Case<B: Backend> {
    /// As `--only` takes it.
    pub name: &'static str,
    /// In words, `16384 x 2048`.
    pub shape: String,
    /// At least.
    pub cost: Cost,
    /// Makes inputs and the call on them.
    pub make: Make<B>,
}

impl<B: Backend> Case<B> {
    /// What moves `bytes` and multiplies nothing.
    pub fn moving(
        name: &'static str,
        shape: String,
        bytes: usize,
        make: impl Fn(&mut Lab<B>) -> Result<Call<B>> + 'static,
    ) -> Case<B> {
        Case { name, shape, cost: Cost { bytes, flops: 0 }, make: Box::new(make) }
    }

    /// What multiplies.
    pub fn product(
        name: &'static str,
        shape: String,
        cost: Cost,
        make: impl Fn(&mut Lab<B>) -> Result<Call<B>> + 'static,
    ) -> Case<B> {
        Case { name, shape, cost, make: Box::new(make) }
    }
}
