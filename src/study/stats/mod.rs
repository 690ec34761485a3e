//! Statistics of a comparison: pure functions of numbers. docs/studies.md gives the reasons and the checks.
//!
//! A function refuses what it has no answer for with a sentence that names the value. A number that is not finite is
//! refused by all of them, so no result is NaN.

mod student;

pub use student::{Interval, mean_interval};

/// The largest magnitude of a value. Sums and products of a few such values stay finite.
const LARGEST: f64 = 1e100;

/// A value that sums and squares can be formed of, or what is wrong with it. `name` leads to the value.
fn usable(value: f64, name: impl FnOnce() -> String) -> Result<(), String> {
    match value.abs() <= LARGEST {
        true => Ok(()),
        false => Err(format!("{} is {value}; statistics require numbers between -1e100 and 1e100", name())),
    }
}
