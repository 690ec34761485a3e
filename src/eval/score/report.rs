//! The table of a report.

use super::super::check::{Outcome, Verdict};
use super::panel::{COLUMNS, CONSTANTS};

/// How commands ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With exit status 0.
    pub pass: usize,
    /// With another exit status.
    pub fail: usize,
    /// By a signal, or they could not be started.
    pub error: usize,
    /// They did not end in time.
    pub timeout: usize,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        *match outcome.verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Fail => &mut self.fail,
            Verdict::Error => &mut self.error,
            Verdict::Timeout => &mut self.timeout,
        } += 1;
    }

    /// The share that passed.
    pub(super) fn rate(&self) -> f64 {
        self.pass as f64 / (self.pass + self.fail + self.error + self.timeout) as f64
    }
}

/// A metric of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// The best value: 1 or 100.
    pub scale: f64,
    /// The value of the predictions.
    pub value: f64,
    /// The values of the trivial predictors, in the order of [`COLUMNS`]; `None` for one that does not exist here.
    pub panel: [Option<f64>; COLUMNS.len()],
    /// The constants that are as good as the predictions, or better.
    pub tied: Vec<&'static str>,
}

impl Figure {
    /// A metric. `own` is the value of the predictions on the rows of the panel.
    pub(super) fn new(name: String, scale: f64, value: f64, own: f64, panel: [Option<f64>; COLUMNS.len()]) -> Figure {
        let worse = |constant: f64| constant < own - 1e-12 * scale;
        let constants = COLUMNS.into_iter().zip(panel).take(CONSTANTS.len());
        // NaN is not worse
        let tied = constants.filter(|(_, value)| value.is_some_and(|value| !worse(value)));
        Figure { name, scale, value, tied: tied.map(|(name, _)| name).collect(), panel }
    }
}

/// The scores of predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Number of references.
    pub rows: usize,
    /// Number of predictions.
    pub predictions: usize,
    /// The metrics: the headline first, then as they were asked for.
    pub figures: Vec<Figure>,
    /// Whether the first metric is a headline: whether there is one that no constant wins.
    pub headline: bool,
    /// How the commands of `--check` ended.
    pub checks: Option<Counts>,
    /// The statistics of the predictions, one after the other, where they were to be kept.
    pub stats: Option<Vec<f64>>,
}

impl Report {
    /// The first metric that no constant wins becomes the headline.
    pub(super) fn new(rows: usize, predictions: usize, mut figures: Vec<Figure>, checks: Option<Counts>) -> Report {
        let first = figures.iter().position(|figure| figure.tied.is_empty());
        if let Some(first) = first {
            figures[..=first].rotate_right(1);
        }
        Report { rows, predictions, figures, headline: first.is_some(), checks, stats: None }
    }

    /// The metric of the first line; `None` where a constant is as good as the predictions by every metric.
    pub fn headline(&self) -> Option<&Figure> {
        self.figures.first().filter(|_| self.headline)
    }
}
