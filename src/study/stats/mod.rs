//! Statistics of a comparison: pure functions of numbers. docs/studies.md gives the reasons and the checks.
//!
//! [`effect()`] is the mean difference of two arms over examples and seeds, [`jackknife()`] makes a metric of a corpus
//! one of examples, [`holm()`] corrects for several comparisons. [`mcnemar()`] and [`sign_flip()`] compare two
//! checkpoints. A function refuses what it has no answer for with a sentence that names the value, numbers that are not
//! finite among it, so no result is NaN.

mod effect;
mod holm;
mod jackknife;
mod paired;

pub use effect::{Components, Effect, Over, SEEDS, Table, Verdict, effect};
pub use holm::holm;
pub use jackknife::jackknife;
pub use paired::{mcnemar, sign_flip};

/// The largest magnitude of a value. Sums and products of a few such values stay finite.
const LARGEST: f64 = 1e100;

/// A value that sums and squares can be formed of, or what is wrong with it. `name` leads to the value.
fn usable(value: f64, name: impl FnOnce() -> String) -> Result<(), String> {
    match value.abs() <= LARGEST {
        true => Ok(()),
        false => Err(format!("{} is {value}; statistics require numbers between -1e100 and 1e100", name())),
    }
}
