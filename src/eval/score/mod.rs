//! Predictions and references as a table of metrics, with trivial predictors beside the predictions.
//!
//! Rows are scored in blocks of a fixed size, so memory does not grow with their number. The pairs of a block are
//! scored in parallel and summed in their order: a report has the same bits with any number of threads.

mod checks;
pub mod panel;
mod report;

pub use report::{Counts, Figure, Report};

use super::check::{Checker, Outcome};
use super::metrics::{Metrics, Pair, Text};
use crate::error::Result;
use checks::Checks;
use panel::{COLUMNS, CONSTANTS};
use rayon::prelude::*;

/// Rows of a block. The column `shuffled` depends on it.
const BLOCK: usize = 256;

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The predictions: one, or several samples.
    pub hyps: Vec<String>,
    /// The reference.
    pub reference: String,
    /// The source (of a translation or a summary), if there is one.
    pub source: Option<String>,
}

/// A scored prediction.
pub struct Example<'a> {
    /// Its row, from 0.
    pub row: usize,
    /// Its place among the predictions of the row, from 0.
    pub sample: usize,
    /// The prediction.
    pub hyp: &'a str,
    /// The reference.
    pub reference: &'a str,
    /// The metrics at the level of a sentence, in the order of [`Metrics::list`].
    pub values: &'a [f64],
    /// How the command of `--check` ended.
    pub check: Option<&'a Outcome>,
}

/// Receives each scored prediction, in the order of the rows.
pub type Sink<'a> = dyn FnMut(&Example) -> Result + 'a;

/// What is removed from every text before it is scored.
pub type Cleaning = Box<dyn Fn(&str) -> String + Send + Sync>;

/// The statistics of a pair, or their sums.
type Stats = Vec<f64>;

/// Scores rows as they come.
pub struct Scorer {
    metrics: Metrics,
    clean: Cleaning,
    checks: Option<Checks>,
    waiting: Vec<Row>,
    blocks: u32,
    rows: usize,
    predictions: usize,
    sums: Stats,
    /// The statistics of every prediction, where they are kept.
    kept: Option<Stats>,
    /// Sums of the trivial predictors; `None` where one does not exist for every row.
    columns: [Option<Stats>; COLUMNS.len()],
}

impl Scorer {
    /// A scorer of these metrics. `clean` is applied to every text first. With a checker, its command is run on every
    /// prediction.
    pub fn new(metrics: Metrics, clean: Cleaning, checker: Option<Checker>) -> Scorer {
        let zero = vec![0.0; metrics.width()];
        Scorer {
            metrics,
            clean,
            checks: checker.map(Checks::new),
            waiting: Vec::new(),
            blocks: 0,
            rows: 0,
            predictions: 0,
            kept: None,
            columns: std::array::from_fn(|_| Some(zero.clone())),
            sums: zero,
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Keeps the statistics of every prediction for the report: [`Report::stats`].
    pub fn keep_stats(&mut self) {
        self.kept = Some(Stats::new());
    }

    /// Adds a row. Fails where `sink` fails, and where a check is interrupted.
    pub fn push(&mut self, row: Row, sink: &mut Sink) -> Result {
        self.waiting.push(row);
        // two rows at least are left for the last block, where a reference needs another one to be exchanged with
        if self.waiting.len() < BLOCK + 2 {
            return Ok(());
        }
        let rest = self.waiting.split_off(BLOCK);
        let block = std::mem::replace(&mut self.waiting, rest);
        self.score(block, sink)
    }

    /// Scores what is left, and returns the report of all rows; there must be one at least.
    pub fn finish(mut self, sink: &mut Sink) -> Result<Report> {
        let block = std::mem::take(&mut self.waiting);
        self.score(block, sink)?;
        let values = self.metrics.corpus(&self.sums);
        let columns = self.columns.each_ref().map(|sums| sums.as_ref().map(|sums| self.metrics.corpus(sums)));
        let figure = |(i, metric): (usize, super::metrics::Metric)| {
            let panel = columns.each_ref().map(|values| values.as_ref().map(|values| values[i]));
            Figure::new(metric.name.into(), metric.scale, values[i], values[i], panel)
        };
        let mut figures: Vec<Figure> = self.metrics.list().enumerate().map(figure).collect();
        figures.extend(self.checks.iter().flat_map(Checks::figures));
        let checks = self.checks.map(|checks| checks.counts);
        Ok(Report { stats: self.kept, ..Report::new(self.rows, self.predictions, figures, checks) })
    }

    fn score(&mut self, mut block: Vec<Row>, sink: &mut Sink) -> Result {
        let run_on = |row: &Row| (self.clean)(&panel::run_on(&row.reference));
        let run_ons: Vec<String> = block.iter().map(run_on).collect();
        for row in &mut block {
            let texts = row.hyps.iter_mut().chain([&mut row.reference]).chain(&mut row.source);
            texts.for_each(|text| *text = (self.clean)(text));
        }
        let places = panel::shuffled(block.len(), self.blocks);
        let column = |row: usize, column: usize| match column {
            3 => block[row].source.as_deref(),
            4 => Some(run_ons[row].as_str()),
            5 => (block.len() > 1).then(|| block[places[row]].reference.as_str()),
            constant => Some(CONSTANTS[constant]),
        };
        let references: Vec<Text> = block.iter().map(|row| Text::new(&row.reference)).collect();
        let constants = CONSTANTS.map(Text::new);
        let scored: Vec<(Vec<Stats>, Vec<Option<Stats>>)> = (0..block.len())
            .into_par_iter()
            .map(|row| {
                let reference = &references[row];
                let stats = |text| self.metrics.stats(&Pair { hyp: &Text::new(text), reference });
                let shared = |hyp| self.metrics.stats(&Pair { hyp, reference });
                let trivial = |i: usize| match i {
                    5 => (block.len() > 1).then(|| shared(&references[places[row]])),
                    i if i < CONSTANTS.len() => Some(shared(&constants[i])),
                    i => column(row, i).map(stats),
                };
                let hyps = block[row].hyps.iter().map(|hyp| stats(hyp.as_str()));
                (hyps.collect(), (0..COLUMNS.len()).map(trivial).collect())
            })
            .collect();
        let outcomes = match &mut self.checks {
            Some(checks) => checks.run(self.rows, &block, column)?,
            None => vec![Vec::new(); block.len()],
        };
        for (i, (row, (hyps, trivial))) in block.iter().zip(&scored).enumerate() {
            for (sample, (hyp, stats)) in row.hyps.iter().zip(hyps).enumerate() {
                add(&mut self.sums, stats);
                self.kept.iter_mut().for_each(|kept| kept.extend(stats));
                sink(&Example {
                    row: self.rows + i,
                    sample,
                    hyp,
                    reference: &row.reference,
                    values: &self.metrics.sentence(stats),
                    check: outcomes[i].get(sample),
                })?;
            }
            for (sums, stats) in self.columns.iter_mut().zip(trivial) {
                match (sums.as_mut(), stats) {
                    (Some(sums), Some(stats)) => add(sums, stats),
                    _ => *sums = None,
                }
            }
        }
        self.blocks += 1;
        self.predictions += block.iter().map(|row| row.hyps.len()).sum::<usize>();
        self.rows += block.len();
        Ok(())
    }
}

fn add(sums: &mut [f64], stats: &[f64]) {
    sums.iter_mut().zip(stats).for_each(|(sum, stat)| *sum += stat);
}

#[cfg(test)]
mod tests;
