//! A comparison as text, JSON and CSV.

use crate::choices::Choice;
use crate::cli::score::output::digits;
use crate::cli::terminal::{Terminal, counted};
use crate::error::{Error, Result};
use crate::study::compare::{Comparison, Study, Summary};
use crate::study::stats::SEEDS;
use std::path::Path;

/// A value with the digits that its scale deserves; log p has no scale.
pub fn value(value: f64, scale: Option<f64>) -> String {
    digits(value, scale.unwrap_or(1.0))
}

/// With its sign.
pub fn signed(number: f64, scale: Option<f64>) -> String {
    let text = value(number.abs(), scale);
    if number < 0.0 { format!("-{text}") } else { format!("+{text}") }
}

/// A p-value.
pub fn probability(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// The interval.
pub fn interval(c: &Comparison) -> String {
    format!("{} .. {}", signed(c.effect.low, c.scale), signed(c.effect.high, c.scale))
}

/// What a comparison says: the verdict, or why there is none.
pub fn verdict(c: &Comparison) -> String {
    match c.verdict {
        Some(verdict) => verdict.name().into(),
        None => "exploratory".into(),
    }
}

/// How to read the figures, a sentence each.
pub fn about(study: &Study) -> Vec<String> {
    let seeds = study.comparisons.iter().map(|c| c.effect.seeds).min().unwrap_or(0);
    let mut about = vec![format!(
        "baseline {}; {}; {}; primary: {}",
        study.baseline,
        counted(study.rows, "row"),
        counted(seeds, "paired seed"),
        if study.primary.is_empty() { "none declared".into() } else { study.primary.join(", ") }
    )];
    if study.primary.is_empty() {
        about.push("No metric was declared to decide (--primary), so every figure is exploratory.".into());
    } else if seeds < SEEDS {
        about.push(format!("Fewer than {SEEDS} seeds: figures are shown, a verdict is not."));
    }
    if let Some(c) = study.comparisons.first() {
        about.push(format!("Intervals (95 %) and p generalise to other {}.", c.effect.over));
    }
    about
}

/// Names and cells of the table of arms.
pub fn arms(study: &Study) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let names = vec!["arm", "seeds", "steps", "mean weight", "loss scale", "clipped", "EOS"];
    let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    let cells = |arm: &Summary| {
        vec![
            arm.arm.clone(),
            arm.seeds.len().to_string(),
            number(arm.steps, 0),
            number(arm.mean_weight, 4),
            number(arm.loss_scale, 4),
            number(arm.clipped, 3),
            number(arm.eos, 3),
        ]
    };
    (names, study.arms.iter().map(cells).collect())
}

/// Names and cells of the table of comparisons.
pub fn comparisons(study: &Study) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let names = vec!["metric", "arm", "baseline", "value", "difference", "95 % interval", "p", "p (Holm)", "verdict"];
    let cells = |c: &Comparison| {
        vec![
            c.metric.clone(),
            c.arm.clone(),
            value(c.baseline_value, c.scale),
            value(c.value, c.scale),
            signed(c.effect.mean, c.scale),
            interval(c),
            probability(c.effect.p),
            c.adjusted.map_or("-".into(), probability),
            verdict(c),
        ]
    };
    (names, ordered(study).map(cells).collect())
}

/// The primary comparisons first.
pub fn ordered(study: &Study) -> impl Iterator<Item = &Comparison> {
    let of = |primary: bool| study.comparisons.iter().filter(move |c| c.primary == primary);
    of(true).chain(of(false))
}

/// The tests of two checkpoints, a line for each primary comparison.
pub fn checkpoints(study: &Study) -> Vec<String> {
    let line = |c: &Comparison| {
        let pairs = c.pairs.iter().map(|pair| {
            let mcnemar = pair.mcnemar.map_or(String::new(), |p| format!(", McNemar {}", probability(p)));
            let difference = signed(pair.difference, c.scale);
            format!("seed {} {difference} (sign flip {}{mcnemar})", pair.seed, probability(pair.sign_flip))
        });
        format!("{} {}: {}", c.metric, c.arm, pairs.collect::<Vec<_>>().join("; "))
    };
    study.comparisons.iter().filter(|c| c.primary).map(line).collect()
}

/// Prints the study.
pub fn text(study: &Study, out: &mut Terminal) {
    about(study).iter().for_each(|line| out.line(line));
    for mark in &study.marks {
        let line = out.red(&format!("not fair: {mark}"));
        out.line(&line);
    }
    out.line("");
    table(arms(study), out);
    out.line("");
    table(comparisons(study), out);
    let checkpoints = checkpoints(study);
    if !checkpoints.is_empty() {
        out.line("\nThese two checkpoints of each seed (p says nothing of another run):");
        checkpoints.iter().for_each(|line| out.line(&format!("  {line}")));
    }
}

fn table((names, rows): (Vec<&str>, Vec<Vec<String>>), out: &mut Terminal) {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).chain([names[i].chars().count()]).max();
    let widths: Vec<usize> = (0..names.len()).map(|i| width(i).unwrap_or(0)).collect();
    let line = |cells: Vec<&str>| -> String {
        let cells = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &wide))| {
            if i < 2 && names[1] == "arm" || i == 0 { format!("{cell:wide$}") } else { format!("{cell:>wide$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let head = out.bold(&line(names.clone()));
    out.line(&head);
    for row in &rows {
        out.line(&line(row.iter().map(String::as_str).collect()));
    }
}

/// The study as JSON.
pub fn json(study: &Study) -> String {
    format!("{:#}\n", serde_json::to_value(study).expect("names and numbers"))
}

/// The comparisons as CSV.
pub fn csv(study: &Study) -> Result<String> {
    let broken = |e: csv::Error| Error::io(Path::new("standard output"), "write")(e.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = [
        "metric",
        "arm",
        "baseline",
        "scale",
        "baseline_value",
        "value",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "df",
        "rows",
        "seeds",
        "over",
        "verdict",
    ];
    writer.write_record(names).map_err(broken)?;
    for c in ordered(study) {
        let e = &c.effect;
        let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let numbers = [c.baseline_value, c.value, e.mean, e.low, e.high, e.p].map(|number| number.to_string());
        let first = [c.metric.clone(), c.arm.clone(), study.baseline.clone(), optional(c.scale)];
        let counts = [e.df.to_string(), e.examples.to_string(), e.seeds.to_string(), e.over.to_string(), verdict(c)];
        let line = first.into_iter().chain(numbers).chain([optional(c.adjusted)]).chain(counts);
        writer.write_record(line).map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::io(Path::new("standard output"), "write")(e.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
