//! The page of a run, as the plain strings of [`crate::render::html::run`].

use crate::cli::machine::gib;
use crate::cli::progress::{self, span};
use crate::render::chart::{Chart, Kind, Line, draw};
use crate::render::html::Fact;
use crate::render::html::run::Page;
use crate::render::svg::{SERIES, short};
use crate::train::log::{Changes, Evaluation, History, Step};
use serde_json::Value;
use std::path::Path;

/// The page of a run.
pub fn page(h: &History, dir: &Path, recipe: Option<String>) -> Page {
    let about = progress::facts(&h.header).into_iter().map(|(name, text)| match name {
        "" => text,
        name => format!("{name}: {text}"),
    });
    let (columns, evaluations) = evaluations(h);
    Page {
        title: format!("eyekern report: {}", dir.display()),
        about: about.collect(),
        notes: notes(h, recipe.is_some()),
        facts: facts(h),
        charts: if h.steps.is_empty() && h.evaluations.is_empty() { Vec::new() } else { charts(h) },
        columns,
        evaluations,
        recipe,
    }
}

fn notes(h: &History, recipe: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let (done, all) = (h.steps.last().map_or(0, |s| s.step), h.header.steps);
    if done == 0 {
        notes.push("No step is complete yet.".into());
    } else if done < all {
        notes.push(format!(
            "The run is not finished: {done} of {all} steps are complete. It is in progress, stopped early or was \
             interrupted."
        ));
    }
    if h.cut {
        notes.push("The last line of metrics.jsonl is incomplete and was skipped.".into());
    }
    let lost = h.steps.iter().filter(|s| s.loss.is_none() || s.grad_norm.is_none()).count();
    if lost > 0 {
        notes.push(format!("{lost} steps have a loss or gradient that is not finite; the curves have gaps there."));
    }
    for Changes { resumed, changes } in &h.changes {
        notes.push(format!("Resumed after step {resumed} with changes: {}.", changes.join(", ")));
    }
    if !recipe {
        notes.push("There is no recipe.resolved.toml in this folder.".into());
    }
    notes
}

/// The evaluation with the lowest loss; the first of equal ones, like the run.
fn best(h: &History) -> Option<&Evaluation> {
    let finite = h.evaluations.iter().filter(|e| e.eval_loss.is_some_and(f64::is_finite));
    finite.reduce(|best, e| if e.eval_loss < best.eval_loss { e } else { best })
}

fn facts(h: &History) -> Vec<Fact> {
    let Some(last) = h.steps.last() else { return Vec::new() };
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String, meaning: String| {
        facts.push(Fact { name: name.into(), value, meaning, alert: false });
    };
    let (n, all) = (h.steps.len(), h.header.steps);
    let seconds: f64 = h.steps.iter().map(|s| s.seconds).sum();
    let sum = |f: fn(&Step) -> u64| h.steps.iter().map(f).sum::<u64>();
    fact("steps", format!("{} of {all}", last.step), format!("{:.2} epochs", last.epoch));
    if let Some(left) = last.seconds_left.filter(|_| last.step < all) {
        fact("time left", span(left), "as of the last step".into());
    }
    // single steps are noisy: the mean of the last tenth and of the first
    let part = n.div_ceil(10);
    let mean = |steps: &[Step]| {
        let finite: Vec<f64> = steps.iter().filter_map(|s| s.loss).collect();
        finite.iter().sum::<f64>() / finite.len() as f64
    };
    let (first, end) = (mean(&h.steps[..part]), mean(&h.steps[n - part..]));
    fact(
        "loss",
        decimal(Some(end)),
        format!("mean of the last {part} steps; of the first {part}: {}", decimal(Some(first))),
    );
    if let Some(best) = best(h) {
        let last = h.evaluations.last().and_then(|e| e.eval_loss);
        fact(
            "best evaluation",
            decimal(best.eval_loss),
            format!("loss at step {}; at the last: {}", best.step, decimal(last)),
        );
    }
    let clipped = h.steps.iter().filter(|s| s.clipped).count();
    fact("clipped", format!("{:.1} %", 100.0 * clipped as f64 / n as f64), format!("{clipped} of {n} steps"));
    let (tokens, supervised) = (sum(|s| s.tokens), sum(|s| s.supervised_tokens));
    fact("tokens", short(tokens as f64), format!("through the model; {} of them supervised", short(supervised as f64)));
    fact("time", span(seconds), "in steps, without evaluations and checkpoints".into());
    let rate = |count: u64| short((count as f64 / seconds.max(1e-9)).round());
    fact("tokens/s", rate(tokens), format!("{} supervised", rate(supervised)));
    let flops: f64 = h.steps.iter().filter_map(|s| s.flops).sum();
    if let Some(peak) = h.header.peak_flops.filter(|_| flops > 0.0) {
        let mfu = format!("{:.1} %", 100.0 * flops / (seconds.max(1e-9) * peak));
        fact("MFU", mfu, format!("model FLOPs, of a peak of {} TFLOP/s", short(peak / 1e12)));
    }
    if let Some(bytes) = h.steps.iter().filter_map(|s| s.peak_bytes).max() {
        let meaning = "peak: of the process on a CPU, of the whole device on a GPU";
        fact("memory", format!("{:.2} GiB", gib(bytes)), meaning.into());
    }
    facts
}

fn decimal(value: Option<f64>) -> String {
    value.filter(|v| v.is_finite()).map_or("not finite".into(), |v| format!("{v:.4}"))
}

/// Columns and rows of the table, and which row is the best.
fn evaluations(h: &History) -> (Vec<String>, Vec<(Vec<String>, bool)>) {
    type Column = (&'static str, fn(&Evaluation) -> Option<f64>);
    let all: [Column; 4] = [
        ("loss", |e| e.eval_loss),
        ("path", |e| e.eval_path_loss),
        ("off path", |e| e.eval_off_path_loss),
        ("dpo", |e| e.eval_dpo_loss.filter(|x| *x != 0.0)),
    ];
    let told = |f: &fn(&Evaluation) -> Option<f64>| h.evaluations.iter().any(|e| f(e).is_some());
    let columns: Vec<&Column> = all.iter().enumerate().filter(|(i, c)| *i == 0 || told(&c.1)).map(|(_, c)| c).collect();
    let best = best(h).map(|e| e.step);
    let metrics: Vec<&String> = h.evaluations.last().iter().flat_map(|e| e.metrics.keys()).collect();
    let row = |e: &Evaluation| {
        let of_texts = metrics.iter().map(|name| e.metrics.get(*name).and_then(Value::as_f64));
        let cells = columns.iter().map(|c| c.1(e)).chain(of_texts).map(decimal);
        (std::iter::once(e.step.to_string()).chain(cells).collect(), Some(e.step) == best)
    };
    let names = std::iter::once("step").chain(columns.iter().map(|c| c.0)).map(str::to_string);
    let names = names.chain(metrics.iter().map(|name| name.trim_start_matches("eval_").replace('_', " "))).collect();
    (names, h.evaluations.iter().map(row).collect())
}

fn line<'a>(h: &History, name: &'a str, colour: usize, f: impl Fn(&Step) -> Option<f64>) -> Line<'a> {
    let points = h.steps.iter().map(|s| (s.step as f64, f(s).unwrap_or(f64::NAN))).collect();
    Line { name, colour: SERIES[colour], kind: Kind::Curve, points }
}

/// The loss curve: training, on the path, off it, and evaluations as dots.
pub fn loss(h: &History) -> String {
    let mut lines = vec![
        line(h, "off path", 2, |s| s.off_path_loss),
        line(h, "path", 3, |s| s.path_loss),
        line(h, "loss", 0, |s| s.loss),
    ];
    lines.retain(|l| l.name == "loss" || l.points.iter().any(|p| p.1.is_finite()));
    let points: Vec<(f64, f64)> =
        h.evaluations.iter().map(|e| (e.step as f64, e.eval_loss.unwrap_or(f64::NAN))).collect();
    if !points.is_empty() {
        lines.push(Line { name: "evaluation", colour: SERIES[1], kind: Kind::Dots, points });
    }
    draw(&Chart { title: "Loss, nats per token", from_zero: false, lines })
}

fn charts(h: &History) -> Vec<String> {
    let clipped = Line { kind: Kind::Feet, ..line(h, "clipped", 1, |s| Some(f64::from(u8::from(s.clipped)))) };
    let rate = |count: u64, s: &Step| (s.seconds > 0.0).then(|| count as f64 / s.seconds);
    let mut charts = vec![
        loss(h),
        draw(&Chart {
            title: "Gradient norm before clipping",
            from_zero: true,
            lines: vec![clipped, line(h, "norm", 0, |s| s.grad_norm)],
        }),
        draw(&Chart {
            title: "Learning rate",
            from_zero: true,
            lines: vec![line(h, "rate", 0, |s| Some(s.learning_rate))],
        }),
        draw(&Chart {
            title: "Tokens/s",
            from_zero: true,
            lines: vec![
                line(h, "all", 0, |s| rate(s.tokens, s)),
                line(h, "supervised", 2, |s| rate(s.supervised_tokens, s)),
            ],
        }),
    ];
    if h.steps.iter().any(|s| s.dpo_loss.is_some_and(|x| x != 0.0)) {
        let lines = vec![line(h, "dpo", 3, |s| s.dpo_loss)];
        charts.insert(1, draw(&Chart { title: "Preference loss, nats", from_zero: false, lines }));
    }
    charts
}
