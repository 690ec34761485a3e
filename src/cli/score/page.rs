//! The page of scores, as the plain strings of [`crate::render::html::score`].

use super::output::{Scored, about, cell, digits, headline, remark};
use crate::cli::terminal::counted;
use crate::eval::check::Verdict;
use crate::eval::score::Example;
use crate::eval::score::panel::COLUMNS;
use crate::render::html::score::{Metric, Page, Row};
use std::collections::BTreeMap;

/// Predictions on the page, at most.
const MOST: usize = 200;

/// Metrics that order rows well, because few rows are equal by them.
const GRADED: [&str; 3] = ["edit_similarity", "rougeL", "chrf"];

/// The worst predictions, so that memory does not grow with their number.
pub struct Worst<'a> {
    columns: Vec<&'a str>,
    /// The place of the metric that orders them; `None` where there is no metric, and the check orders them.
    by: Option<usize>,
    most: usize,
    rows: BTreeMap<(u64, usize, usize), Row>,
}

impl<'a> Worst<'a> {
    /// None yet. `columns` are the names of the metrics; without a page, none is kept.
    pub fn new(columns: &[&'a str], page: bool) -> Worst<'a> {
        let place = |name: &str| columns.iter().position(|column| *column == name);
        let by = GRADED.iter().find_map(|name| place(name)).or((!columns.is_empty()).then_some(0));
        Worst { columns: columns.to_vec(), by, most: if page { MOST } else { 0 }, rows: BTreeMap::new() }
    }

    /// Keeps a prediction, if it is one of the worst.
    pub fn add(&mut self, example: &Example) {
        let passed = example.check.is_some_and(|check| check.verdict == Verdict::Pass);
        let value = self.by.map_or(f64::from(u8::from(passed)), |by| example.values[by]);
        // the bits of numbers from 0 have their order; NaN becomes 0
        let key = (value.max(0.0).to_bits(), example.row, example.sample);
        if self.rows.len() >= self.most && self.rows.last_key_value().is_none_or(|(last, _)| *last < key) {
            return;
        }
        let figures = self.columns.iter().zip(example.values);
        let row = Row {
            title: format!("Row {}", example.row + 1),
            figures: figures.map(|(name, value)| (name.to_string(), format!("{value:.4}"))).collect(),
            notes: example
                .check
                .map(|check| format!("check: {} {}", check.verdict.name(), check.output))
                .into_iter()
                .collect(),
            hyp: example.hyp.into(),
            reference: example.reference.into(),
        };
        self.rows.insert(key, row);
        if self.rows.len() > self.most {
            self.rows.pop_last();
        }
    }
}

/// The page of a report.
pub fn page(scored: &Scored, worst: Worst) -> Page {
    let report = scored.report;
    let columns = ["metric", "value", "scale"].into_iter().chain(COLUMNS).chain([""]);
    let metrics = report.figures.iter().enumerate().map(|(i, figure)| {
        let panel = figure.panel.iter().map(|value| cell(*value, figure.scale));
        let first = [figure.name.clone(), digits(figure.value, figure.scale), figure.scale.to_string()];
        Metric {
            cells: first.into_iter().chain(panel).chain([remark(figure)]).collect(),
            best: report.headline && i == 0,
            alert: !figure.tied.is_empty(),
        }
    });
    let by = worst.by.map_or("the check", |by| worst.columns[by]);
    let shown = match worst.rows.len() {
        n if n < report.predictions => {
            format!("The {n} worst of {} by {by}.", counted(report.predictions, "prediction"))
        }
        n => format!("{} by {by}, the worst first.", counted(n, "prediction")),
    };
    Page {
        title: format!("eyekern score: {}", scored.args.hyp.display()),
        headline: headline(report),
        about: vec![format!("references: {}", scored.args.reference.display()), about(scored)],
        columns: columns.map(String::from).collect(),
        metrics: metrics.collect(),
        shown,
        rows: worst.rows.into_values().collect(),
    }
}
