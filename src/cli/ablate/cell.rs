//! A cell of a grid: a run of training, then an evaluation, with a log of their own.

use super::AblateArgs;
use crate::cli::device::{Dtype, Threads};
use crate::cli::eval::{self, EvalArgs};
use crate::cli::overrides::Overrides;
use crate::cli::quantize::Quantize;
use crate::cli::rows::RowArgs;
use crate::cli::terminal::Terminal;
use crate::cli::train;
use crate::data::corpus::DataSource;
use crate::data::jinja::Date;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::metrics::clean::Clean;
use crate::files;
use crate::study::grid::{Cell, EVALUATION, Record, Training};
use crate::train::checkpoint::From;
use crate::train::events::Stop;
use crate::train::fingerprint::Fingerprint;
use crate::train::log::History;
use crate::train::prepare::Prepared;
use crate::train::recipe::{self, Method, Recipe};
use crate::train::resume::Resume;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a cell printed.
pub const LOG: &str = "log.txt";
/// The folder of the run.
const RUN: &str = "run";
/// There from the end of the training on, with what it was trained from.
const TRAINED: &str = "trained.json";

/// What all cells share.
pub struct Common<'a> {
    pub args: &'a AblateArgs,
    /// The recipe before any arm.
    pub recipe: Recipe,
    /// What the command line sets.
    pub sets: Vec<String>,
    /// The rows of the evaluation.
    pub data: DataSource,
    /// Their hash.
    pub content: Option<String>,
    /// The hash of the model.
    pub digest: blake3::Hash,
    pub tokenizer: Option<Tokenizer>,
    /// The day that chat templates write, where they write one and the recipe leaves it open.
    pub date: Option<Date>,
}

impl Common<'_> {
    /// Takes over the day of a grid that was begun before.
    pub fn date(&mut self, before: Option<String>) -> Result {
        if let (Some(date), Some(before)) = (&mut self.date, before) {
            *date = before.parse().map_err(|why| Error::Usage(format!("chat_date in grid.json: {why}")))?;
        }
        Ok(())
    }

    /// The day, to be kept.
    pub fn chat_date(&self) -> Option<String> {
        self.date.as_ref().map(Date::to_string)
    }

    fn sets(&self, cell: &Cell) -> Vec<String> {
        let own = [
            format!("train.seed={}", cell.seed),
            format!("train.output_dir={}", cell.dir.join(RUN).display()),
            "train.overwrite_output_dir=true".into(),
        ];
        let date = self.date.as_ref().map(|date| format!("data.chat_date={date}"));
        self.sets.iter().cloned().chain(date).chain(cell.column.sets.iter().cloned()).chain(own).collect()
    }

    /// The recipe of a cell, and what the cell is computed from.
    pub fn of(&self, cell: &Cell) -> Result<(Recipe, Fingerprint)> {
        let recipe = Recipe::load(Some(&self.args.recipe), recipe::environment(), &self.sets(cell))?;
        let mut inputs = Fingerprint::of_inputs(&recipe, Some(self.digest), self.tokenizer.as_ref())?;
        // keys with which a run may be resumed, though they decide where it ends
        let ends = ["max_steps", "num_train_epochs", "eval_steps", "early_stopping_patience", "load_best_model_at_end"];
        let assigned = recipe.assignments();
        for key in ends.map(|key| format!("train.{key}")) {
            if let Some(value) = assigned.get(&key) {
                inputs.record(&key, value.clone());
            }
        }
        if let Some(content) = &self.content {
            inputs.record("evaluation.data", content.clone());
        }
        let e = &recipe.eval;
        for (key, value) in [
            ("rows", self.args.rows.map_or("all".into(), |rows| rows.to_string())),
            ("metrics", e.metrics.0.join(",")),
            ("max_new_tokens", e.max_new_tokens.to_string()),
            ("lang", e.lang.map_or(String::new(), |lang| lang.to_string())),
        ] {
            inputs.record(&format!("evaluation.{key}"), value);
        }
        Ok((recipe, inputs))
    }

    /// Trains and evaluates a cell, from where an earlier attempt ended.
    pub fn compute(&self, cell: &Cell, recipe: Recipe, inputs: Fingerprint, stop: &Stop) -> Result<Record> {
        std::fs::create_dir_all(&cell.dir).map_err(Error::io(&cell.dir, "create"))?;
        let started = Instant::now();
        let mut log = Terminal::log(&cell.dir.join(LOG))?;
        let run = cell.dir.join(RUN);
        let full = recipe.train.method == Method::Full;
        if !self.trained(cell, &inputs) {
            let prepared = Prepared::resuming(recipe.clone(), &Resume { from: From::Newest, allow_changed: false })?;
            train::start(prepared, self.args.device, stop, &mut log)?;
            let text = serde_json::to_string(&inputs).expect("names and values");
            files::write(&cell.dir.join(TRAINED), text)?;
        }
        if let Some(code) = stop.asked() {
            return Err(Error::Interrupted { code, why: String::new() });
        }
        let evaluation = self.evaluation(cell, &recipe, full.then_some(run.as_path()));
        eval::run(&evaluation, &mut log)?;
        self.record(cell, inputs, &run, started.elapsed().as_secs_f64())
    }

    /// Whether the training of the cell is done, from the same inputs.
    fn trained(&self, cell: &Cell, inputs: &Fingerprint) -> bool {
        let kept = files::read(cell.dir.join(TRAINED)).ok();
        kept.and_then(|text| serde_json::from_slice::<Fingerprint>(&text).ok()).as_ref() == Some(inputs)
    }

    fn evaluation(&self, cell: &Cell, recipe: &Recipe, full: Option<&Path>) -> EvalArgs {
        let e = &recipe.eval;
        EvalArgs {
            model: full.map_or(recipe.model.model_name_or_path.clone(), |run| run.display().to_string()),
            adapter: full.is_none().then(|| cell.dir.join(RUN)),
            from: RowArgs {
                data: self.data.files().into_iter().map(PathBuf::from).collect(),
                task: Some(recipe.data.task),
                recipe: Some(self.args.recipe.clone()),
                overrides: Overrides { sets: self.sets(cell), priors: None },
                cut: None,
                cut_seed: None,
                fim: false,
                rows: self.args.rows,
            },
            output: cell.dir.join(EVALUATION),
            overwrite: false,
            lang: e.lang.map(|lang| lang.name().to_string()),
            against: Vec::new(),
            drop_leaks: false,
            metrics: e.metrics.0.clone(),
            clean: Clean::default(),
            wordnet: e.wordnet.clone(),
            check: None,
            check_timeout: 10.0,
            check_jobs: 0,
            max_new_tokens: e.max_new_tokens as u32,
            stop: Vec::new(),
            batch_size: e.per_device_eval_batch_size.clamp(1, 4096) as u16,
            device: self.args.device,
            dtype: Dtype { dtype: recipe.train.compute_dtype },
            quantize: Quantize::default(), // the recipe has it
            threads: Threads { threads: self.args.threads.threads },
        }
    }

    fn record(&self, cell: &Cell, inputs: Fingerprint, run: &Path, seconds: f64) -> Result<Record> {
        let history = History::read(&run.join("metrics.jsonl"))?;
        let file = cell.dir.join(EVALUATION).join("scores.json");
        let text = files::read(&file).map_err(Error::io(&file, "read"))?;
        let scores: Value = serde_json::from_slice(&text).map_err(|e| Error::file(&file, e.to_string()))?;
        let map = |key: &str| scores[key].as_object().cloned().unwrap_or_else(Map::new);
        let mut decoding = scores["generation"].clone();
        if let Some(decoding) = decoding.as_object_mut() {
            // paths of this machine
            ["model", "adapter", "data"].iter().for_each(|key| drop(decoding.remove(*key)));
        }
        let record = Record {
            arm: cell.column.name.clone(),
            seed: cell.seed,
            eyekern: env!("CARGO_PKG_VERSION").into(),
            inputs,
            training: Training::of(&history),
            decoding,
            rows: scores["n"].as_u64().unwrap_or(0) as usize,
            metrics: map("metrics"),
            scales: map("scales"),
            references: scores["references"].clone(),
            seconds,
        };
        record.write(&cell.dir)?;
        Ok(record)
    }
}
