//! A report as text, JSON and CSV.

use super::ScoreArgs;
use crate::cli::terminal::{Terminal, counted};
use crate::error::{Error, Result};
use crate::eval::score::panel::COLUMNS;
use crate::eval::score::{Figure, Report};
use crate::salience::syntax::Language;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A report and what it was made with.
pub struct Scored<'a> {
    pub report: &'a Report,
    pub args: &'a ScoreArgs,
    pub language: Option<Language>,
}

/// A value with the digits that its scale deserves.
pub fn digits(value: f64, scale: f64) -> String {
    if scale > 1.0 { format!("{value:.2}") } else { format!("{value:.4}") }
}

/// A value of the panel; `-` where there is none.
pub fn cell(value: Option<f64>, scale: f64) -> String {
    value.map_or("-".into(), |value| digits(value, scale))
}

/// How the texts were scored, in a sentence.
pub fn about(scored: &Scored) -> String {
    let Scored { report, args, language } = scored;
    let predictions = match report.predictions {
        n if n == report.rows => String::new(),
        n => format!(", {}", counted(n, "prediction")),
    };
    let language = language.map(|language| format!(", {language}")).unwrap_or_default();
    format!("{}{predictions}; task {}{language}; --clean {}", counted(report.rows, "row"), args.task, args.clean)
}

/// The metrics that a constant wins, as a remark; empty for the others.
pub fn remark(figure: &Figure) -> String {
    match figure.tied.as_slice() {
        [] => String::new(),
        [one] => format!("the constant {} is as good", quoted(one)),
        more => {
            format!("the constants {} are as good", more.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(constant: &str) -> String {
    if constant == "empty" { "\"\"".into() } else { format!("\"{constant}\"") }
}

/// The first line of a report.
pub fn headline(report: &Report) -> String {
    match report.headline() {
        Some(figure) => format!("{} {} (0 to {})", figure.name, digits(figure.value, figure.scale), figure.scale),
        None => "no headline: by every metric a constant is as good as the predictions".into(),
    }
}

/// Prints the report.
pub fn text(scored: &Scored, out: &mut Terminal) {
    let report = scored.report;
    out.line(&out.bold(&headline(report)));
    out.line(&about(scored));
    if let Some(checks) = &report.checks {
        let (pass, fail, error, timeout) = (checks.pass, checks.fail, checks.error, checks.timeout);
        out.line(&format!("check: {pass} pass, {fail} fail, {error} error, {timeout} timeout"));
    }
    out.line("");
    let wide = report.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0).max(6);
    let columns: String = COLUMNS.iter().map(|name| format!(" {name:>8}")).collect();
    out.line(&format!("{:wide$} {:>8} {:>5} {columns}", "metric", "value", "scale"));
    for figure in &report.figures {
        let (name, scale) = (&figure.name, figure.scale);
        let panel: String = figure.panel.iter().map(|value| format!(" {:>8}", cell(*value, scale))).collect();
        let line = format!("{name:wide$} {:>8} {scale:>5} {panel}  {}", digits(figure.value, scale), remark(figure));
        out.line(line.trim_end());
    }
}

/// Scores for programs, as text.
pub fn json(scored: &Scored) -> String {
    format!("{:#}\n", value(scored))
}

/// Scores for programs.
pub fn value(scored: &Scored) -> Value {
    let Scored { report, args, language } = scored;
    let table = |value: &dyn Fn(&Figure) -> Value| -> Map<String, Value> {
        report.figures.iter().map(|figure| (figure.name.clone(), value(figure))).collect()
    };
    let column = |place: usize| table(&|figure| figure.panel[place].into());
    let panel: Map<_, _> = (0..COLUMNS.len()).map(|i| (COLUMNS[i].to_string(), column(i).into())).collect();
    let shown = |path: &Path| Value::from(path.to_string_lossy());
    let mut object = json!({
        "metrics": table(&|figure| figure.value.into()),
        "scales": table(&|figure| figure.scale.into()),
        "headline": report.headline().map(|figure| figure.name.as_str()),
        "n": report.rows,
        "predictions": report.predictions,
        "panel": panel,
        "won_by_constant": table(&|figure| figure.tied.as_slice().into()),
        "options": {
            "task": args.task.to_string(),
            "language": language.map(Language::name),
            "clean": args.clean.to_string(),
            "shared_ngrams": args.shared_ngrams.as_deref().map(shown),
            "samples": args.samples,
            "wordnet": args.wordnet.as_deref().map(shown),
            "hyp": shown(&args.hyp),
            "ref": shown(&args.reference),
            "src": args.src.as_deref().map(shown),
            "check": args.check,
            "check_timeout": args.check.as_ref().map(|_| args.check_timeout),
        },
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let (Some(checks), Some(map)) = (&report.checks, object.as_object_mut()) {
        let (pass, fail, error, timeout) = (checks.pass, checks.fail, checks.error, checks.timeout);
        map.insert("check".into(), json!({"pass": pass, "fail": fail, "error": error, "timeout": timeout}));
    }
    object
}

/// One row per metric.
pub fn csv(report: &Report) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["metric", "value", "scale", "n"].into_iter().chain(COLUMNS).chain(["won_by_constant"]);
    let mut write = |record: Vec<String>| writer.write_record(record);
    let mut written = write(head.map(String::from).collect());
    for figure in &report.figures {
        let panel = figure.panel.iter().map(|value| value.map_or(String::new(), |value| value.to_string()));
        let first = [figure.name.clone(), figure.value.to_string(), figure.scale.to_string(), report.rows.to_string()];
        written = written.and(write(first.into_iter().chain(panel).chain([figure.tied.join(" ")]).collect()));
    }
    let bytes = written.map_err(std::io::Error::from).and_then(|()| writer.into_inner().map_err(|e| e.into_error()));
    bytes
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(Error::io(Path::new("standard output"), "write"))
}
