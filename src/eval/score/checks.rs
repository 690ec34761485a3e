//! The outcomes of `--check` over all rows: counts, pass@k, and the rates of trivial predictors.

use super::super::check::{Checker, Outcome, Task, Verdict};
use super::Row;
use super::panel::COLUMNS;
use super::report::{Counts, Figure};
use crate::error::Result;

/// Rows on which trivial predictions are checked, from the first: a check may take seconds.
const PANEL_ROWS: usize = 20;

/// The checks of a report.
pub(super) struct Checks {
    checker: Checker,
    pub(super) counts: Counts,
    /// The predictions of the first rows, on which the panel is checked too.
    early: Counts,
    panel: [Option<Counts>; COLUMNS.len()],
    /// Passed and all predictions of each row.
    passed: Vec<(u32, u32)>,
}

impl Checks {
    pub(super) fn new(checker: Checker) -> Checks {
        Checks {
            checker,
            counts: Counts::default(),
            early: Counts::default(),
            panel: [Some(Counts::default()); COLUMNS.len()],
            passed: Vec::new(),
        }
    }

    /// Checks the predictions of a block whose first row is `first`: the outcomes by row and sample.
    pub(super) fn run<'a>(
        &mut self, first: usize, block: &'a [Row], column: impl Fn(usize, usize) -> Option<&'a str>,
    ) -> Result<Vec<Vec<Outcome>>> {
        let task = |i: usize, sample, text| Task { row: first + i, sample, text };
        let samples =
            |(i, row): (usize, &'a Row)| row.hyps.iter().enumerate().map(move |(j, hyp)| (i, j, hyp.as_str()));
        let own: Vec<Task> = block.iter().enumerate().flat_map(samples).map(|(i, j, text)| task(i, j, text)).collect();
        let mut outcomes = self.checker.run(&own)?.into_iter();
        let outcomes: Vec<Vec<Outcome>> =
            block.iter().map(|row| outcomes.by_ref().take(row.hyps.len()).collect()).collect();
        let early = PANEL_ROWS.saturating_sub(first).min(block.len());
        for (i, row) in outcomes.iter().enumerate() {
            row.iter().for_each(|outcome| self.counts.add(outcome));
            row.iter().filter(|_| i < early).for_each(|outcome| self.early.add(outcome));
            let passed = row.iter().filter(|outcome| outcome.verdict == Verdict::Pass).count();
            self.passed.push((passed as u32, row.len() as u32));
        }
        for (place, counts) in self.panel.iter_mut().enumerate() {
            let tasks: Option<Vec<Task>> = (0..early).map(|i| Some(task(i, 0, column(i, place)?))).collect();
            match (counts.as_mut(), tasks) {
                (Some(counts), Some(tasks)) => self.checker.run(&tasks)?.iter().for_each(|outcome| counts.add(outcome)),
                _ => *counts = None,
            }
        }
        Ok(outcomes)
    }

    /// `check_pass`, and `check_pass@k` where every row has several predictions.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let panel = self.panel.map(|counts| counts.map(|counts| counts.rate()));
        let figure = |name: String, value| Figure::new(name, 1.0, value, self.early.rate(), panel);
        let most = self.passed.iter().map(|&(_, n)| n).min().unwrap_or(0);
        let steps = [2, 5, 10, 20, 50, 100, 200, 500].into_iter().filter(|&k| k < most).chain([most]);
        let mut figures = vec![figure("check_pass".into(), self.counts.rate())];
        for k in steps.filter(|&k| k > 1) {
            let sum: f64 = self.passed.iter().map(|&(passed, n)| pass_at(k, passed, n)).sum();
            figures.push(figure(format!("check_pass@{k}"), sum / self.passed.len() as f64));
        }
        figures
    }
}

/// The probability that one of k predictions passes, drawn from n without replacement where `passed` pass:
/// 1 - C(n - passed, k) / C(n, k) (Chen et al., "Evaluating large language models trained on code", 2021).
fn pass_at(k: u32, passed: u32, n: u32) -> f64 {
    if n - passed < k {
        return 1.0;
    }
    1.0 - (n - passed + 1..=n).map(|i| 1.0 - f64::from(k) / f64::from(i)).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_counts_the_draws() {
        for n in 1..=9_u32 {
            for passed in 0..=n {
                for k in 1..=n {
                    // every subset of k predictions; those below `passed` pass
                    let subsets = (0_u32..1 << n).filter(|set| set.count_ones() == k);
                    let (all, good) = subsets
                        .fold((0, 0), |(all, good), set| (all + 1, good + u32::from(set & ((1 << passed) - 1) != 0)));
                    let expected = f64::from(good) / f64::from(all);
                    assert!((pass_at(k, passed, n) - expected).abs() <= 1e-12, "{k} of {n}, {passed} pass");
                }
            }
        }
    }
}
