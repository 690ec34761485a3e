//! How fast a run is: the device it is on, and the time that is left.

use crate::backend::Backend;

/// What a run is told of its device. The default knows nothing.
pub struct Meter<B> {
    /// What computes, for reports.
    pub device: String,
    /// Its model, where another may compute other bits; empty on CPUs, all of which compute the same.
    pub hardware: String,
    /// Multiplications and additions a second that it can do at best, for MFU; `None` where that is unknown.
    pub peak: Option<f64>,
    /// The most bytes of memory that were in use so far.
    pub memory: fn(&B) -> Option<u64>,
}

impl<B: Backend> Default for Meter<B> {
    fn default() -> Self {
        Meter { device: String::new(), hardware: String::new(), peak: None, memory: |_| None }
    }
}

/// What a new time weighs in the mean: that of 20 steps ago weighs a third of it.
const NEW: f64 = 0.05;

/// The time of a step, as a mean in which recent ones weigh more. It knows only steps of this process: those before a
/// resume may have been on another machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    sum: f64,
    weight: f64,
}

impl Pace {
    /// A step took so many seconds, with all that came between it and the one before.
    pub fn step(&mut self, seconds: f64) {
        self.sum = (1.0 - NEW) * self.sum + NEW * seconds;
        self.weight = (1.0 - NEW) * self.weight + NEW;
    }

    /// Seconds that so many more steps will take.
    pub fn left(&self, steps: u64) -> Option<f64> {
        (self.weight > 0.0).then(|| steps as f64 * self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_recent_steps() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(5), None, "before the first step");
        pace.step(2.0);
        assert!((pace.left(5).expect("known") - 10.0).abs() < 1e-12, "one time is the mean");
        pace.step(4.0);
        // (0.95 * 2 + 4) / 1.95 a step
        assert!((pace.left(3).expect("known") - 3.0 * 5.9 / 1.95).abs() < 1e-12);
        (0..200).for_each(|_| pace.step(1.0));
        let left = pace.left(10).expect("known");
        assert!((left - 10.0).abs() < 0.01, "{left}: early steps are forgotten");
        assert_eq!(pace.left(0), Some(0.0));
    }
}
