//! A grid: the same recipe with several arms and seeds, a cell for each pair.
//!
//! A cell is a folder `ARM/seed-SEED` of the grid's folder. What is needed to compare it with others is small: the
//! [`Record`] in cell.json, and what its evaluation says of each row in the folder eval. A cell is done where both are
//! there; it counts for a grid if what it was computed from is the same, wherever it was computed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::choices::{Choice, nearest};
use crate::error::{Error, Result};
use crate::files;
use crate::train::fingerprint::Fingerprint;
use crate::train::log::History;
use crate::train::recipe::{Arm, Recipe};

/// The record of a cell, in its folder.
pub const RECORD: &str = "cell.json";
/// The folder of a cell's evaluation.
pub const EVALUATION: &str = "eval";
/// The contribution of each row to each metric, in the folder of an evaluation.
pub const CONTRIBUTIONS: &str = "contributions.csv";
/// What a grid was asked for, in its folder.
pub const GRID: &str = "grid.json";
/// All cells in a table, in the folder of a grid.
pub const TABLE: &str = "grid.csv";

/// A column of a grid: a name, and what it changes in the recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As it was asked for.
    pub name: String,
    /// `section.key=value`, each.
    pub sets: Vec<String>,
}

/// What can be combined with an arm by `+`.
const OVERLAYS: [&str; 4] = ["dpo", "reading", "writing", "combined"];

/// gamma of the paper.
const GAMMA: f64 = 0.1;

impl Column {
    /// An arm by its name, with overlays behind it: `shuffled`, `full+dpo`, `reading`. `full` is the arm data of a
    /// recipe with `[salience]`; overlays alone stand for it, too. Errors where the recipe contradicts it.
    pub fn of(name: &str, recipe: &Recipe) -> Result<Column> {
        let drawn = recipe.salience.condition.is_some() || recipe.salience.priors.is_some();
        let refuse = |why: String| Err(Error::Usage(format!("the arm {name}: {why}")));
        let (mut arm, mut sets, mut conditioned) = (None, Vec::new(), false);
        for part in name.split('+') {
            match part {
                "dpo" if recipe.objective.gamma != 0.0 => {
                    return refuse(format!(
                        "it sets objective.gamma = {GAMMA}, and the recipe sets {} for every arm; remove one",
                        recipe.objective.gamma
                    ));
                }
                "dpo" => sets.push(format!("objective.gamma={GAMMA}")),
                "reading" | "writing" | "combined" => {
                    if let Some(file) = &recipe.salience.priors {
                        return refuse(format!(
                            "it takes the published priors, and the recipe names others: {}; remove one",
                            file.display()
                        ));
                    }
                    match recipe.salience.condition.as_deref() {
                        None | Some("combined") => {}
                        Some(other) if other == part => {}
                        Some(other) => {
                            return refuse(format!(
                                "it sets salience.condition = \"{part}\", and the recipe sets \"{other}\"; remove one"
                            ));
                        }
                    }
                    conditioned = true;
                    sets.push(format!("salience.condition={part}"));
                }
                _ if arm.is_some() => return refuse("it names two arms".into()),
                "full" => arm = Some(Arm::Data),
                known => match Arm::from_name(known) {
                    Some(known) => arm = Some(known),
                    None => {
                        let names = || Arm::ALL.iter().map(|arm| arm.name()).chain(["full"]).chain(OVERLAYS);
                        return Err(Error::Usage(match nearest(known, names()) {
                            Some(near) => format!("unknown arm {known:?}; did you mean {near}?"),
                            None => {
                                format!("unknown arm {known:?}; choose from {}", names().collect::<Vec<_>>().join(", "))
                            }
                        }));
                    }
                },
            }
        }
        if name.split('+').any(|part| part == "full") && !drawn && !conditioned {
            return refuse("it draws weights from scan paths; set salience.condition, or name the arm data".into());
        }
        sets.push(format!("objective.arm={}", arm.unwrap_or_default()));
        Ok(Column { name: name.into(), sets })
    }
}

/// A cell of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its arm.
    pub column: Column,
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub dir: PathBuf,
}

/// The cells of a grid, seed by seed: after each seed all arms can be compared.
pub fn cells(dir: &Path, columns: &[Column], seeds: &[u64]) -> Vec<Cell> {
    let cell = |seed: u64, column: &Column| {
        let dir = dir.join(&column.name).join(format!("seed-{seed}"));
        Cell { column: column.clone(), seed, dir }
    };
    seeds.iter().flat_map(|&seed| columns.iter().map(move |column| cell(seed, column))).collect()
}

/// What a grid was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Names of the arms.
    pub arms: Vec<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// The arm that others are compared with; none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The metrics that decide, named before the first cell was computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary: Vec<String>,
    /// The day that chat templates write, where they write one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_date: Option<String>,
}

impl Asked {
    /// Of the folder of a grid; `None` where there is none.
    pub fn read(dir: &Path) -> Result<Option<Asked>> {
        read(&dir.join(GRID))
    }

    /// Writes it. A later grid in the folder may have more arms and seeds, but what decides stays.
    pub fn keep(&self, dir: &Path) -> Result {
        let Some(before) = Asked::read(dir)? else { return self.write(dir, self.clone()) };
        for (key, before, now) in [
            ("--baseline", before.baseline.clone().into_iter().collect(), self.baseline.clone().into_iter().collect()),
            ("--primary", before.primary.clone(), self.primary.clone()),
        ] {
            if !before.is_empty() && before != now {
                let why = format!(
                    "{key} was {:?} when the grid was begun, and is {:?} now; a comparison whose choices follow its \
                     results proves nothing. Give the first one again, or another -o",
                    before.join(","),
                    now.join(",")
                );
                return Err(Error::Usage(why));
            }
        }
        let mut merged = before.clone();
        let arms = self.arms.iter().filter(|arm| !before.arms.contains(arm)).cloned();
        merged.arms.extend(arms);
        merged.seeds.extend(self.seeds.iter().filter(|seed| !before.seeds.contains(seed)));
        merged.seeds.sort_unstable();
        merged.baseline = self.baseline.clone();
        merged.primary.clone_from(&self.primary);
        merged.chat_date.clone_from(&self.chat_date);
        self.write(dir, merged)
    }

    fn write(&self, dir: &Path, asked: Asked) -> Result {
        let text = serde_json::to_string_pretty(&asked).expect("names and numbers");
        files::write(&dir.join(GRID), text + "\n")
    }
}

/// What a cell came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The arm, as it was asked for.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The program's version.
    pub eyekern: String,
    /// What it was computed from: keys of the recipe, hashes of files, settings of the evaluation.
    pub inputs: Fingerprint,
    /// How it was trained.
    pub training: Training,
    /// How its texts were generated.
    pub decoding: Value,
    /// Rows that were scored.
    pub rows: usize,
    /// The metrics of the texts, the headline first.
    pub metrics: Map<String, Value>,
    /// The best value of each.
    pub scales: Map<String, Value>,
    /// Mean log p of the references, on the path and off it, in nats per token.
    pub references: Value,
    /// Wall time of training and evaluation.
    pub seconds: f64,
}

/// A training run in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Training {
    /// Optimiser steps.
    pub steps: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Mean weight of the supervised tokens.
    pub mean_weight: f64,
    /// By what the summed loss of a step grows beside that of weights of 1, for the same log p: the mean weight, or 1
    /// where the sum is divided by the weights.
    pub loss_scale: f64,
    /// Share of steps whose gradient was clipped.
    pub clipped: f64,
    /// Share of rows whose EOS is supervised.
    pub eos: Option<f64>,
    /// Share of supervised tokens on the path.
    pub on_path: f64,
    /// Rows that were trained on.
    pub rows: usize,
    /// Tokens of an epoch, and the share of them that is supervised.
    pub tokens: usize,
    /// Supervised tokens as a share of `tokens`.
    pub supervised: f64,
    /// Device, number format and memory.
    pub device: String,
    /// `objective.arm`.
    pub arm: String,
}

impl Training {
    /// From the log of a run.
    pub fn of(history: &History) -> Training {
        let h = &history.header;
        let steps = history.steps.len().max(1) as f64;
        Training {
            steps: history.steps.last().map_or(0, |step| step.step),
            loss: history.steps.last().and_then(|step| step.loss),
            mean_weight: h.weights[1],
            loss_scale: if h.normalize == "weights" { 1.0 } else { h.weights[1] },
            clipped: history.steps.iter().filter(|step| step.clipped).count() as f64 / steps,
            eos: h.eos,
            on_path: h.on_path,
            rows: h.rows,
            tokens: h.tokens,
            supervised: h.supervised,
            device: h.device.clone(),
            arm: h.arm.clone(),
        }
    }
}

impl Record {
    /// Of the folder of a cell; `None` where the cell is not done.
    pub fn read(dir: &Path) -> Result<Option<Record>> {
        read(&dir.join(RECORD))
    }

    /// Writes it: the cell is done.
    pub fn write(&self, dir: &Path) -> Result {
        let text = serde_json::to_string_pretty(self).expect("names and numbers");
        files::write(&dir.join(RECORD), text + "\n")
    }
}

impl Cell {
    /// The record of a cell that was computed from `inputs`; `None` where it is still to be computed. Errors where it
    /// was computed from something else.
    pub fn done(&self, inputs: &Fingerprint) -> Result<Option<Record>> {
        let Some(record) = Record::read(&self.dir)? else { return Ok(None) };
        let changes = record.inputs.changes(inputs);
        if !changes.is_empty() {
            let why = format!(
                "was computed from something else: {}; choose another -o, or remove the folder {}",
                changes.join(", "),
                self.dir.display()
            );
            return Err(Error::file(&self.dir.join(RECORD), why));
        }
        Ok(self.dir.join(EVALUATION).join(CONTRIBUTIONS).is_file().then_some(record))
    }
}

fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> Result<Option<T>> {
    let text = match files::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(file, "read")(e)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|e| Error::file(file, format!("cannot be read ({e}); remove it, and it is made again")))
}

/// Writes the table of all cells that are done: arm, seed, metrics, log p of the references, figures of the training.
pub fn write_table(dir: &Path, records: &[Record]) -> Result {
    let mut names: Vec<&String> = Vec::new();
    for name in records.iter().flat_map(|record| record.metrics.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let references = ["mean_logp", "path_mean_logp", "off_path_mean_logp"];
    let training = ["steps", "loss", "mean_weight", "loss_scale", "clipped", "seconds"];
    let path = dir.join(TABLE);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let broken = |e: csv::Error| Error::io(&path, "write")(e.into());
    let head =
        ["arm", "seed"].into_iter().chain(names.iter().map(|name| name.as_str())).chain(references).chain(training);
    writer.write_record(head).map_err(broken)?;
    for record in records {
        let t = &record.training;
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let metrics = names.iter().map(|name| number(record.metrics.get(*name).and_then(Value::as_f64)));
        let logp = references.iter().map(|key| number(record.references[*key].as_f64()));
        let figures = [
            Some(t.steps as f64),
            t.loss,
            Some(t.mean_weight),
            Some(t.loss_scale),
            Some(t.clipped),
            Some(record.seconds),
        ];
        let line = [record.arm.clone(), record.seed.to_string()].into_iter().chain(metrics).chain(logp);
        writer.write_record(line.chain(figures.map(number))).map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::io(&path, "write")(e.into_error()))?;
    files::write(&path, bytes)
}
