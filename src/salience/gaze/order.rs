//! Samples of several recordings that were sorted into one another.

use std::path::Path;

use crate::error::{Error, Result};

type Point = Option<(f64, f64)>;

/// Eyes do not move this far, in pixels, for a single sample; nor are they in two such places at one time.
const APART: f64 = 100.0;

/// The order of the samples of a recording. Mixed samples look like one person whose eyes are in two places, or who
/// changes the snippet again and again in the time of a few samples.
#[derive(Default)]
pub struct Order {
    /// The points of the last two samples, the last first.
    before: [Point; 2],
    /// Samples that lie elsewhere than the sample before them, at the same time or between two that lie together; and
    /// the line of the first of them.
    jumps: (u64, usize),
    /// Changes from one snippet or participant to another.
    changes: u64,
}

impl Order {
    /// Takes in the next sample. `changed`: it is of another snippet or participant; `same_time`: it has the time of
    /// the sample before it.
    pub fn row(&mut self, point: Point, changed: bool, same_time: bool, line: usize) {
        let [last, before] = if changed { [None; 2] } else { self.before };
        let jump = apart(point, last) == Some(true);
        if jump && (same_time || apart(last, before) == Some(true) && apart(point, before) == Some(false)) {
            self.jumps = (self.jumps.0 + 1, if self.jumps.0 == 0 { line } else { self.jumps.1 });
        }
        self.changes += u64::from(changed);
        self.before = [point, last];
    }

    /// Refuses mixed samples. `kept`: the number of samples.
    pub fn check(&self, file: &Path, kept: u64) -> Result {
        let remedy = "the rows of several recordings are mixed: set `recording` in the mapping to the column that \
                      tells them apart and keep the rows of each together, or put each into a file of its own";
        if let (jumps @ 10.., line) = self.jumps
            && 10 * jumps > kept
        {
            let why =
                format!("{jumps} of {kept} samples jump away from the sample before them and back, first this one");
            return Err(Error::row(file, line, format!("{why}; {remedy}")));
        }
        if self.changes >= 20 && 4 * self.changes > kept {
            let why = format!("the snippet or participant changes {} times in {kept} samples", self.changes);
            return Err(Error::file(file, format!("{why}; {remedy}")));
        }
        Ok(())
    }
}

/// Whether two points are of different places; `None` without one of them.
fn apart(a: Point, b: Point) -> Option<bool> {
    let ((x, y), (u, v)) = a.zip(b)?;
    Some((x - u).hypot(y - v) > APART)
}
