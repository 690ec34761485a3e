//! Reading what a comparison is made of: the cells of grids, and folders of evaluations.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::grid::{Asked, CONTRIBUTIONS, EVALUATION, RECORD, Record};
use super::stats::jackknife;
use crate::error::{Error, Result};
use crate::files;

/// One evaluation: of a cell, or of any model.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its folder.
    pub dir: PathBuf,
    /// The seed of the run; 0 for an evaluation of which none is known.
    pub seed: u64,
    /// Its rows, by their numbers.
    pub rows: Vec<u64>,
    /// What each row contributes to each metric: the mean is the metric.
    values: Vec<(String, Vec<f64>)>,
    /// The best value of each metric.
    scales: serde_json::Map<String, Value>,
    /// A hash of the references, where the predictions are there.
    pub references: Option<blake3::Hash>,
    /// How texts were generated, without the names of files.
    pub decoding: Value,
    /// The record of the cell.
    pub record: Option<Record>,
}

/// Evaluations of the same arm with several seeds.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// By seed.
    pub samples: Vec<Sample>,
}

/// The names of log p.
const LOGP: [&str; 3] = ["mean_logp", "path_mean_logp", "off_path_mean_logp"];

impl Sample {
    /// The contributions of the rows to a metric.
    pub fn values(&self, metric: &str) -> Option<&[f64]> {
        self.values.iter().find(|(name, _)| name == metric).map(|(_, values)| values.as_slice())
    }

    /// The metrics.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.values.iter().map(|(name, _)| name)
    }

    /// The best value of a metric; `None` for log p.
    pub fn scale(&self, metric: &str) -> Option<f64> {
        self.scales.get(metric).and_then(Value::as_f64)
    }

    /// Of the folder of an evaluation.
    fn read(dir: &Path, seed: u64, record: Option<Record>) -> Result<Sample> {
        let (rows, mut values) = contributions(&dir.join(CONTRIBUTIONS))?;
        values.extend(log_probabilities(&dir.join("references.jsonl"), rows.len())?);
        let scores = dir.join("scores.json");
        let text = files::read(&scores).map_err(Error::io(&scores, "read"))?;
        let scores: Value = serde_json::from_slice(&text).map_err(|e| Error::file(&scores, e.to_string()))?;
        let mut decoding = scores["generation"].clone();
        if let Some(decoding) = decoding.as_object_mut() {
            ["model", "adapter", "data"].iter().for_each(|key| drop(decoding.remove(*key)));
        }
        // the headline first, as in the report
        if let Some(metrics) = scores["metrics"].as_object() {
            values.sort_by_key(|(name, _)| metrics.keys().position(|key| key == name).unwrap_or(usize::MAX));
        }
        let scales = scores["scales"].as_object().cloned().unwrap_or_default();
        let references = references(&dir.join("predictions.jsonl"))?;
        Ok(Sample { dir: dir.into(), seed, rows, values, scales, references, decoding, record })
    }
}

/// All arms below these folders: of grids, of cells, or of evaluations. Evaluations are arms by the name of their
/// folder. Also what the grids among them were asked for.
pub fn arms(folders: &[PathBuf]) -> Result<(Vec<Arm>, Asked)> {
    let (mut arms, mut asked): (Vec<Arm>, Asked) = Default::default();
    let mut add = |name: String, sample: Sample| {
        let arm = match arms.iter_mut().find(|arm| arm.name == name) {
            Some(arm) => arm,
            None => {
                arms.push(Arm { name, samples: Vec::new() });
                arms.last_mut().expect("it was pushed")
            }
        };
        if let Some(other) = arm.samples.iter().find(|other| other.seed == sample.seed) {
            let why =
                format!("is {} seed {} again, beside {}; leave one out", arm.name, sample.seed, other.dir.display());
            return Err(Error::file(&sample.dir, why));
        }
        arm.samples.push(sample);
        arm.samples.sort_by_key(|sample| sample.seed);
        Ok(())
    };
    for folder in folders {
        if let Some(grid) = Asked::read(folder)? {
            let mut found = 0;
            for arm in &grid.arms {
                for seed in &grid.seeds {
                    let dir = folder.join(arm).join(format!("seed-{seed}"));
                    if let Some(record) = Record::read(&dir)? {
                        add(arm.clone(), Sample::read(&dir.join(EVALUATION), *seed, Some(record))?)?;
                        found += 1;
                    }
                }
            }
            if found == 0 {
                return Err(Error::file(folder, "has no cell that is done; compute them with eyekern ablate"));
            }
            asked = grid;
        } else if let Some(record) = Record::read(folder)? {
            add(record.arm.clone(), Sample::read(&folder.join(EVALUATION), record.seed, Some(record))?)?;
        } else if folder.join(CONTRIBUTIONS).is_file() {
            let name = folder.file_name().map_or("evaluation".into(), |name| name.to_string_lossy().into_owned());
            add(name, Sample::read(folder, 0, None)?)?;
        } else {
            let why = format!(
                "is no grid, no cell and no evaluation: it has neither grid.json nor {RECORD} nor {CONTRIBUTIONS}; \
                 give the -o of eyekern ablate or eyekern eval"
            );
            return Err(Error::file(folder, why));
        }
    }
    Ok((arms, asked))
}

/// Numbers of rows, and the columns of the metrics.
type Columns = (Vec<u64>, Vec<(String, Vec<f64>)>);

fn contributions(path: &Path) -> Result<Columns> {
    let text = files::read(path).map_err(Error::io(path, "read"))?;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let broken = |e: csv::Error| Error::file(path, format!("is no table of contributions: {e}"));
    let names: Vec<String> = reader.headers().map_err(broken)?.iter().skip(1).map(String::from).collect();
    let (mut rows, mut columns) = (Vec::new(), vec![Vec::new(); names.len()]);
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(broken)?;
        let wrong = |what: &str| Error::row(path, i + 2, format!("{what:?} is no number"));
        let row = record.get(0).unwrap_or_default();
        rows.push(row.parse().map_err(|_| wrong(row))?);
        for (column, value) in columns.iter_mut().zip(record.iter().skip(1)) {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
            column.push(number.ok_or_else(|| wrong(value))?);
        }
    }
    if rows.is_empty() {
        return Err(Error::file(path, "has no rows"));
    }
    Ok((rows, names.into_iter().zip(columns).collect()))
}

/// log p of the references per token, as contributions of their rows; without those that have no tokens.
fn log_probabilities(path: &Path, rows: usize) -> Result<Vec<(String, Vec<f64>)>> {
    let text = match files::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(path, "read")(e)),
    };
    let mut stats: [Vec<f64>; 3] = Default::default();
    for (i, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line).map_err(|e| Error::row(path, i + 1, e.to_string()))?;
        let number =
            |key: &str| line[key].as_f64().ok_or_else(|| Error::row(path, i + 1, format!("has no number `{key}`")));
        let (all, on) = ([number("logp")?, number("tokens")?], [number("path_logp")?, number("path_tokens")?]);
        stats[0].extend(all);
        stats[1].extend(on);
        stats[2].extend([all[0] - on[0], all[1] - on[1]]);
    }
    if stats[0].len() != 2 * rows {
        let why = format!("has {} rows, and {CONTRIBUTIONS} beside it has {rows}", stats[0].len() / 2);
        return Err(Error::file(path, why));
    }
    let column = |(name, stats): (&str, &Vec<f64>)| {
        let values = jackknife(stats, 2, |sum| sum[0] / sum[1]).ok()?;
        Some((name.to_string(), values))
    };
    Ok(LOGP.into_iter().zip(&stats).filter_map(column).collect())
}

/// A hash of row and reference of all predictions; `None` without them.
fn references(path: &Path) -> Result<Option<blake3::Hash>> {
    let text = match files::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "read")(e)),
    };
    let mut hash = blake3::Hasher::new();
    for (i, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line).map_err(|e| Error::row(path, i + 1, e.to_string()))?;
        hash.update(format!("{} {}\n", line["row"], line["target"]).as_bytes());
    }
    Ok(Some(hash.finalize()))
}
