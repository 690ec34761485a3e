//! Bounds of what a rendering may cost.

use super::value::{Made, Value};

/// Steps of a rendering: hundreds of times what a long conversation needs.
const MOST_STEPS: u64 = 20_000_000;

/// Bytes that a rendering may make, all together: an end to one that doubles a text again and again.
const MOST_MADE: usize = 1 << 28;

/// What a rendering has cost.
#[derive(Default)]
pub(super) struct Budget {
    steps: u64,
    made: usize,
}

impl Budget {
    /// Counts a step.
    pub fn step(&mut self) -> Made<()> {
        self.steps += 1;
        if self.steps > MOST_STEPS { Err("it takes more steps than any conversation needs".into()) } else { Ok(()) }
    }

    /// Counts the entries of a list that an operation makes.
    pub fn make_entries(&mut self, count: usize) -> Made<()> {
        self.make(count.saturating_mul(size_of::<Value>()))
    }

    /// Counts what an operation has made.
    pub fn made(&mut self, value: &Value) -> Made<()> {
        match value.text() {
            Some(text) => self.make(text.len()),
            None => self.make_entries(value.length().unwrap_or(1)),
        }
    }

    /// Counts the bytes that an operation makes.
    pub fn make(&mut self, size: usize) -> Made<()> {
        self.made = self.made.saturating_add(size);
        if self.made > MOST_MADE { Err("it makes more text than any conversation needs".into()) } else { Ok(()) }
    }
}
