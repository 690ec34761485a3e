//! The figures as text, JSON and CSV.

use super::AttentionArgs;
use crate::cli::terminal::{Terminal, counted};
use crate::data::lines::Lines as Reader;
use crate::error::{Error, Result};
use crate::eval::attention::measure::Measured;
use crate::eval::attention::summary::{Figure, Summary, of_line};
use crate::eval::mean::Interval;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The files of what was measured.
pub struct Lines {
    pub model: PathBuf,
    pub baseline: Option<PathBuf>,
}

/// A row that is shown: its answer, and what was measured of it under the model and the baseline.
pub struct Shown {
    pub row: u64,
    pub text: String,
    pub model: Measured,
    pub baseline: Option<Measured>,
}

/// What the lines show.
pub struct Found {
    pub examples: usize,
    /// Examples with an empty answer under the model, which have no figures of generated tokens.
    pub empty: usize,
    pub layers: usize,
    pub heads: usize,
    pub figures: Vec<Figure>,
    pub shown: Vec<Shown>,
}

/// The lines of a file, one after the other.
fn lines(file: &Path) -> Result<impl Iterator<Item = Result<Value>> + use<>> {
    let file = file.to_path_buf();
    Ok(Reader::open(&file)?.jsonl().map(move |raw| {
        let raw = raw?;
        let why = |e| Error::row(&file, raw.number, format!("the line is no JSON: {e}; start over with --overwrite"));
        serde_json::from_slice(&raw.line).map_err(why)
    }))
}

fn measured(file: &Path, n: usize, line: &Value) -> Result<Measured> {
    of_line(line).ok_or_else(|| Error::row(file, n, "the line lacks figures; start over with --overwrite"))
}

impl Lines {
    /// The answers of the model to the first `n` rows.
    pub fn answers(&self, n: usize) -> Result<Vec<Vec<u32>>> {
        let ids = |line: Result<Value>| {
            let line = line?;
            let ids = line["ids"].as_array().cloned().unwrap_or_default();
            Ok(ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect())
        };
        lines(&self.model)?.take(n).map(ids).collect()
    }
}

/// Reads the lines; keeps the first `shown` rows.
pub fn read(files: &Lines, shown: usize) -> Result<Found> {
    let mut others = files.baseline.as_deref().map(lines).transpose()?;
    let mut summary = Summary::default();
    let mut found = Found { examples: 0, empty: 0, layers: 0, heads: 0, figures: Vec::new(), shown: Vec::new() };
    for (i, line) in lines(&files.model)?.enumerate() {
        let line = line?;
        let model = measured(&files.model, i + 1, &line)?;
        let other = others.as_mut().and_then(Iterator::next).transpose()?;
        let baseline = match (&files.baseline, other) {
            (Some(file), Some(line)) => Some(measured(file, i + 1, &line)?),
            _ => None,
        };
        summary.add(&model, baseline.as_ref());
        found.examples += 1;
        found.empty += usize::from(line["ids"].as_array().is_none_or(Vec::is_empty));
        found.layers = line["layers"].as_u64().unwrap_or(0) as usize;
        found.heads = model.heads[0].len() / found.layers.max(1);
        if i < shown {
            let text = line["text"].as_str().unwrap_or_default().to_string();
            found.shown.push(Shown { row: line["row"].as_u64().unwrap_or(0), text, model, baseline });
        }
    }
    found.figures = summary.figures(found.heads.max(1));
    Ok(found)
}

/// The intervals of a figure, by their names.
fn intervals(figure: &Figure) -> impl Iterator<Item = (&'static str, Interval)> + use<> {
    let model = [("model", figure.model)];
    let paired = figure.paired.map(|[baseline, difference]| [("baseline", baseline), ("difference", difference)]);
    model.into_iter().chain(paired.into_iter().flatten())
}

/// The object of attention.json; docs/attention.md describes its fields.
pub fn json(found: &Found, args: &AttentionArgs) -> Value {
    let (mut metrics, mut pooled, mut heads) = (Map::new(), Map::new(), Map::new());
    for figure in &found.figures {
        let Some((layer, head)) = figure.place else {
            metrics.insert(figure.name.into(), figure.model.mean.into());
            let object: Map<String, Value> =
                intervals(figure).map(|(name, interval)| (name.into(), json!(interval))).collect();
            pooled.insert(figure.name.into(), object.into());
            continue;
        };
        let entry = heads.entry(figure.name).or_insert_with(|| json!({}));
        for (name, interval) in intervals(figure) {
            if entry.get(name).is_none() {
                let empty = vec![vec![Value::Null; found.heads]; found.layers];
                entry[name] = json!({"n": empty, "mean": empty, "low": empty, "high": empty});
            }
            let Value::Object(values) = json!(interval) else { continue };
            for (key, value) in values {
                entry[name][&key][layer][head] = value;
            }
        }
    }
    json!({
        "metrics": metrics,
        "n": found.examples,
        "empty_answers": found.empty,
        "layers": found.layers,
        "heads_of_a_layer": found.heads,
        "pooled": pooled,
        "heads": heads,
        "options": {
            "model": args.model,
            "adapter": args.adapter,
            "baseline_model": args.baseline_model,
            "baseline_adapter": args.baseline_adapter,
            "data": args.from.data,
            "max_new_tokens": args.max_new_tokens,
        },
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// A row per figure: those of examples first, then those of every head.
pub fn csv(found: &Found) -> String {
    let paired = found.figures.iter().any(|figure| figure.paired.is_some());
    let mut text = "metric,layer,head".to_string();
    for name in ["model", "baseline", "difference"].into_iter().take(if paired { 3 } else { 1 }) {
        ["n", "mean", "low", "high"].iter().for_each(|what| text += &format!(",{name}_{what}"));
    }
    for figure in &found.figures {
        let place = figure.place.map_or(",".into(), |(layer, head)| format!("{layer},{head}"));
        let _ = write!(text, "\n{},{place}", figure.name);
        for (_, Interval { n, mean, low, high }) in intervals(figure) {
            let cell = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
            let _ = write!(text, ",{n},{},{},{}", cell(mean), cell(low), cell(high));
        }
    }
    text + "\n"
}

/// Mean and interval in a cell.
pub fn cell(interval: &Interval) -> String {
    let Interval { n, mean, low, high } = interval;
    match n {
        0 => "none".into(),
        1 => format!("{mean:.4}"),
        _ => format!("{mean:.4} [{low:.4}, {high:.4}]"),
    }
}

/// Prints the figures of examples.
pub fn text(found: &Found, out: &mut Terminal) {
    let layers = counted(found.layers, "layer");
    out.line(&format!(
        "{}, {layers} of {}; means with 95 % intervals over examples",
        counted(found.examples, "example"),
        counted(found.heads, "head")
    ));
    if found.empty > 0 {
        out.line(&format!("{} without figures of generated tokens", counted(found.empty, "empty answer")));
    }
    let paired = found.figures.iter().any(|figure| figure.paired.is_some());
    let title = if paired { format!("{:26} {:26} {}", "model", "baseline", "difference") } else { "model".into() };
    out.line(&format!("\n{:36} {title}", ""));
    for figure in found.figures.iter().filter(|figure| figure.place.is_none()) {
        let cells: Vec<String> = intervals(figure).map(|(_, interval)| format!("{:26}", cell(&interval))).collect();
        out.line(format!("{:36} {}", figure.name, cells.join(" ")).trim_end());
    }
}
