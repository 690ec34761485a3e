//! The page of a comparison, as the plain strings of [`crate::render::html::study`].

use super::output;
use crate::files;
use crate::render::chart::{Chart, Kind, Line, draw};
use crate::render::forest::{self, Forest};
use crate::render::html::study::{Page, Row, Table};
use crate::render::svg::SERIES;
use crate::study::compare::Study;
use crate::study::load::{Arm, Sample};
use crate::train::log::History;
use serde_json::Value;

/// Predictions on the page, at most.
const MOST: usize = 60;

/// The page of a study.
pub fn page(study: &Study, arms: &[Arm]) -> Page {
    let table = |(names, rows): (Vec<&str>, Vec<Vec<String>>)| Table {
        columns: names.into_iter().map(String::from).collect(),
        rows,
    };
    let (shown, rows) = differing(study, arms);
    Page {
        title: format!("eyekern compare: baseline {}", study.baseline),
        about: output::about(study),
        marks: study.marks.iter().map(|mark| format!("Not fair: {mark}.")).collect(),
        forests: forests(study),
        arms: table(output::arms(study)),
        comparisons: table(output::comparisons(study)),
        checkpoints: output::checkpoints(study),
        charts: losses(arms).into_iter().collect(),
        shown,
        rows,
    }
}

/// A forest plot per metric, the primary ones first.
fn forests(study: &Study) -> Vec<String> {
    let mut metrics: Vec<&String> = Vec::new();
    for c in output::ordered(study) {
        if !metrics.contains(&&c.metric) {
            metrics.push(&c.metric);
        }
    }
    let forest = |metric: &&String| {
        let of: Vec<_> = study.comparisons.iter().filter(|c| c.metric == **metric).collect();
        let primary = if of[0].primary { "primary" } else { "exploratory" };
        let lines = of.iter().map(|c| forest::Line {
            name: c.arm.clone(),
            middle: c.effect.mean,
            ends: [c.effect.low, c.effect.high],
            note: format!("{} ({})", output::signed(c.effect.mean, c.scale), output::interval(c)),
        });
        let title = format!("{metric}: difference from {} ({primary})", study.baseline);
        forest::draw(&Forest { title: &title, lines: lines.collect() })
    };
    metrics.iter().map(forest).collect()
}

/// The loss of the first seed of every arm, where the logs are there.
fn losses(arms: &[Arm]) -> Option<String> {
    let mut lines = Vec::new();
    for (arm, colour) in arms.iter().zip(SERIES.iter().cycle()) {
        let sample = arm.samples.first()?;
        let log = sample.dir.parent()?.join("run").join("metrics.jsonl");
        let Ok(history) = History::read(&log) else { continue };
        let points: Vec<(f64, f64)> =
            history.steps.iter().filter_map(|step| Some((step.step as f64, step.loss?))).collect();
        if !points.is_empty() {
            lines.push(Line { name: &arm.name, colour, kind: Kind::Curve, points });
        }
    }
    let title = "training loss of the first seed (weighted: compare shapes, not heights)";
    (!lines.is_empty()).then(|| draw(&Chart { title, from_zero: false, lines }))
}

/// A line of predictions.jsonl.
fn predictions(sample: &Sample) -> Vec<Value> {
    let text = files::read_to_string(sample.dir.join("predictions.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The predictions of the first shared seed that differ between the baseline and the last other arm, and which they
/// are: those first in which the arm gains or loses most.
fn differing(study: &Study, arms: &[Arm]) -> (String, Vec<Row>) {
    let find = |name: &str| arms.iter().find(|arm| arm.name == name);
    let other = study.arms.last().map(|arm| arm.arm.as_str()).unwrap_or_default();
    let (Some(base), Some(arm)) = (find(&study.baseline), find(other)) else { return Default::default() };
    let pair = arm.samples.iter().find_map(|a| Some((base.samples.iter().find(|b| b.seed == a.seed)?, a)));
    let Some((b, a)) = pair else { return Default::default() };
    let metric = study.primary.first().or(study.comparisons.first().map(|c| &c.metric)).cloned().unwrap_or_default();
    let values = |sample: &Sample| sample.values(&metric).unwrap_or_default().to_vec();
    let (of_base, of_arm) = (values(b), values(a));
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_string();
    let mut rows: Vec<(f64, Row)> = Vec::new();
    for (i, (x, y)) in predictions(b).iter().zip(predictions(a)).enumerate() {
        let (of_b, of_a) = (text(x, "prediction"), text(&y, "prediction"));
        if of_b == of_a {
            continue;
        }
        let gain = of_arm.get(i).zip(of_base.get(i)).map_or(0.0, |(a, b)| a - b);
        let title = format!("Row {}: {metric} {gain:+.3}", x["row"]);
        rows.push((gain, Row { title, baseline: of_b, arm: of_a, reference: text(x, "target") }));
    }
    rows.sort_by(|(a, _), (b, _)| b.abs().total_cmp(&a.abs()));
    let all = rows.len();
    rows.truncate(MOST);
    let shown = format!(
        "{} of {} predictions of seed {} differ between {} and {other}; {} are shown, the largest differences in \
         {metric} first.",
        all,
        study.rows,
        a.seed,
        study.baseline,
        rows.len()
    );
    (shown, rows.into_iter().map(|(_, row)| row).collect())
}
