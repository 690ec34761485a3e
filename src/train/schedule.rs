//! The learning rate as a function of the optimiser step.
//!
//! The shapes are those of the Hugging Face trainer (`get_*_schedule` in transformers' optimization.py), so that a
//! recipe moved over from there trains with the same rates: step `s`, counted from 0, uses `base * shape(s)`. With a
//! warm-up the first step therefore has rate 0, as it has there.

use super::recipe::Schedule;

/// The learning rate of optimiser step `step` (from 0) out of `total`, of which the first `warmup` rise linearly.
pub fn rate(schedule: Schedule, base: f64, warmup: u64, total: u64, step: u64) -> f64 {
    if schedule != Schedule::Constant && step < warmup {
        return base * (step as f64 / warmup as f64);
    }
    let decay = total.saturating_sub(warmup).max(1) as f64;
    let shape = match schedule {
        Schedule::Constant | Schedule::ConstantWithWarmup => 1.0,
        Schedule::Linear => total.saturating_sub(step) as f64 / decay,
        Schedule::Cosine => {
            let progress = (step - warmup) as f64 / decay;
            (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
        }
    };
    base * shape
}

/// How many steps warm up: `steps` where it is given, else `ratio` of the run, rounded up.
pub fn warmup_steps(ratio: f64, steps: u64, total: u64) -> u64 {
    if steps > 0 { steps } else { (ratio * total as f64).ceil() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, base: f64, warmup: u64, total: u64, steps: u64) -> Vec<f64> {
        (0..steps).map(|s| rate(schedule, base, warmup, total, s)).collect()
    }

    /// Equal to the last bit or so: the same formula, perhaps another libm.
    fn same(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() <= 1e-15 * w.abs() + 1e-18, "{got:?}\n{want:?}");
        }
    }

    #[test]
    fn cosine_falls_over_half_a_period() {
        let want = [0.0, 0.003, 0.002560660171779821, 0.0015, 0.0004393398282201788, 0.0];
        same(&rates(Schedule::Cosine, 3e-3, 1, 5, 6), &want);
        same(&rates(Schedule::Cosine, 1.0, 0, 3, 3), &[1.0, 0.75, 0.25]);
    }

    #[test]
    fn linear_rises_and_falls_to_zero() {
        same(&rates(Schedule::Linear, 1.0, 2, 6, 8), &[0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
        same(&rates(Schedule::Linear, 2e-4, 0, 4, 4), &[2e-4, 1.5e-4, 1e-4, 0.5e-4]);
    }

    #[test]
    fn constant_knows_a_warm_up_only_by_name() {
        same(&rates(Schedule::Constant, 0.1, 4, 6, 3), &[0.1; 3]);
        same(&rates(Schedule::ConstantWithWarmup, 0.1, 4, 6, 6), &[0.0, 0.025, 0.05, 0.075, 0.1, 0.1]);
    }

    #[test]
    fn odd_lengths_stay_finite() {
        for schedule in [Schedule::Constant, Schedule::ConstantWithWarmup, Schedule::Linear, Schedule::Cosine] {
            for (warmup, total) in [(0, 0), (0, 1), (1, 1), (5, 3), (3, 3)] {
                for got in rates(schedule, 1.0, warmup, total, 8) {
                    assert!((0.0..=1.0).contains(&got), "{schedule:?} {warmup} {total}: {got}");
                }
            }
        }
    }

    #[test]
    fn warm_up_is_steps_before_ratio() {
        assert_eq!(warmup_steps(0.03, 0, 101), 4);
        assert_eq!(warmup_steps(0.5, 7, 100), 7);
        assert_eq!(warmup_steps(0.0, 0, 100), 0);
        assert_eq!(warmup_steps(1.0, 0, 100), 100);
    }
}
