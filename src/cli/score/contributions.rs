//! The file of `--contributions`: what each row contributes to every metric of the corpus.

use crate::error::{Error, Result};
use crate::eval::metrics::Metrics;
use crate::eval::score::Report;
use crate::files;
use crate::study::stats::jackknife;
use std::path::Path;

/// To 12 decimals: behind them is the rounding of the sums that a pseudo-value is a difference of. So a metric that is
/// a mean over rows has the values of the rows.
fn rounded(x: f64) -> f64 {
    // no -0
    (x * 1e12).round() / 1e12 + 0.0
}

/// Writes a line per row with the pseudo-values of all metrics. The report must have kept its statistics.
pub fn write(path: &Path, metrics: &Metrics, report: &Report) -> Result {
    let stats = report.stats.as_deref().unwrap_or_default();
    let mut columns = Vec::new();
    for (i, metric) in metrics.list().enumerate() {
        let values = jackknife(stats, metrics.width(), |sums| metrics.corpus(sums)[i]);
        columns.push((metric.name, values.map_err(|why| Error::file(path, format!("{}: {why}", metric.name)))?));
    }
    let broken = |e: csv::Error| Error::io(path, "write")(e.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["row"].into_iter().chain(columns.iter().map(|(name, _)| *name))).map_err(broken)?;
    for row in 0..report.rows {
        let values = columns.iter().map(|(_, values)| rounded(values[row]).to_string());
        writer.write_record([(row + 1).to_string()].into_iter().chain(values)).map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::io(path, "write")(e.into_error()))?;
    files::write(path, bytes)
}
