//! The recipe: everything that decides a training run, typed and checked.
//!
//! Four layers, each over the one before: defaults, the recipe file (TOML), the environment
//! (`EYEKERN_<SECTION>__<KEY>=value`) and flags (`--set section.key=value`). A key that nobody knows is an error that
//! names the nearest one; a value that does not fit is an error that says what does.
//!
//! A recipe file can extend others: `extends = "base.toml"`, or a list of files, stands before the first section. Their
//! keys are assigned first, in the order of the list.
//!
//! Relative paths in a recipe file are relative to the directory of that file, those in the environment and in flags
//! to the working directory. `model_name_or_path`, which may as well be an id, follows that rule where it begins with
//! `./` or `../` or names a directory beside the recipe file.

mod layers;
mod nearest;
mod sections;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::backend::nf4::Scheme;
use crate::data::cache;
use crate::data::corpus::DataSource;
use crate::error::{Error, Result};
use crate::model::quantized::{Quantization, Quantizer};
pub use layers::environment;
pub use sections::{
    Arm, Data, Eval, Lora, Method, Model, Normalize, Objective, ReportTo, Salience, SaveDtype, Schedule, Train,
};
pub use value::{Effect, Key};
use value::{Field, Section, show};

/// The key of a recipe file that is in no section: the files that it is assigned over.
const EXTENDS: &str = "extends";

/// A training run, section by section as in the file.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Recipe {
    /// `[model]`
    pub model: Model,
    /// `[data]`
    pub data: Data,
    /// `[salience]`
    pub salience: Salience,
    /// `[lora]`
    pub lora: Lora,
    /// `[objective]`
    pub objective: Objective,
    /// `[eval]`
    pub eval: Eval,
    /// `[train]`
    pub train: Train,
}

/// Every key, in the order of the recipe.
pub fn keys() -> impl Iterator<Item = Key> {
    Recipe::default().fields().map(|field| field.key)
}

impl Recipe {
    /// Reads all layers and validates the result. See [`environment`] for `env`.
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Recipe> {
        let recipe = Recipe::layered(file, env, sets)?;
        recipe.validate_as(&file.map_or("recipe".into(), |f| f.display().to_string()))?;
        Ok(recipe)
    }

    /// Reads all layers and checks each value by itself, but not whether the recipe is complete: for showing a recipe
    /// that is still being written.
    pub fn layered(
        file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String],
    ) -> Result<Recipe> {
        layers::read(file, env, sets)
    }

    /// Whether every value is in range and the recipe is complete. [`Recipe::load`] has done this already; a recipe
    /// built in code should.
    pub fn validate(&self) -> Result {
        self.validate_as("recipe")
    }

    fn validate_as(&self, origin: &str) -> Result {
        let fail = |why: String| Err(Error::Recipe { origin: origin.into(), why });
        if let Some(Field { key, value, .. }) = self.fields().find(|f| !f.ok) {
            let value = show(value.as_ref());
            return fail(format!("{}.{} = {value}: expected {}", key.section, key.name, key.accepts));
        }
        if self.model.model_name_or_path.is_empty() {
            return fail(
                "model.model_name_or_path is missing: give a model directory or the id of a cached one".into(),
            );
        }
        if self.data.train_file == DataSource::Jsonl(PathBuf::new()) {
            return fail(
                "data.train_file is missing: give a JSONL file, or two parallel text files as [\"source\", \"target\"]"
                    .into(),
            );
        }
        let train = &self.train;
        if self.quantizer().is_some() && train.method == Method::Full {
            return fail(
                "model.quantization = \"nf4\" is for adapters: set train.method = \"lora\", or quantization = \"none\""
                    .into(),
            );
        }
        if train.output_dir.as_os_str().is_empty() {
            return fail("train.output_dir is empty: give a directory for the results".into());
        }
        if self.data.validation_file.is_none() {
            let asks = [
                ("early_stopping_patience", train.early_stopping_patience > 0),
                ("load_best_model_at_end", train.load_best_model_at_end),
                ("metric_for_best_model", self.best_by().is_some()),
            ];
            if let Some((key, _)) = asks.into_iter().find(|(_, asked)| *asked) {
                return fail(format!("train.{key} goes by evaluations: give data.validation_file"));
            }
        }
        if let Some(name) = self.best_by().filter(|_| self.eval.generate_rows == 0) {
            return fail(format!(
                "train.metric_for_best_model = {name:?} is a metric of texts, and eval.generate_rows = 0 generates \
                 none: set eval.generate_rows, or \"loss\""
            ));
        }
        if train.max_steps <= 0 && train.num_train_epochs <= 0.0 {
            return fail(format!(
                "train.max_steps = {} and train.num_train_epochs = {}: nothing to train, set one of them above 0",
                train.max_steps, train.num_train_epochs
            ));
        }
        Ok(())
    }

    /// What quantises the model on load, if anything does.
    pub fn quantizer(&self) -> Option<Quantizer> {
        let m = &self.model;
        let scheme = Scheme { double: m.double_quant };
        (m.quantization == Quantization::Nf4).then(|| Quantizer { scheme, skip: m.skip_modules.0.clone() })
    }

    /// The metric of texts that decides which model is the best; `None` where the evaluation loss does.
    pub fn best_by(&self) -> Option<&str> {
        let name = self.train.metric_for_best_model.as_str();
        Some(name.strip_prefix("eval_").unwrap_or(name)).filter(|name| *name != "loss")
    }

    /// The token budget of a micro-batch, with the default of `data.max_tokens` worked out.
    pub fn token_budget(&self) -> usize {
        match self.data.max_tokens {
            0 => self.train.per_device_train_batch_size.saturating_mul(self.data.max_length),
            given => given,
        }
    }

    /// The model whose log p the DPO term compares with; `None` without a DPO term, and where it is the trained model
    /// as it was.
    pub fn reference_model(&self) -> Option<&Path> {
        self.objective.reference_model.as_deref().filter(|_| self.objective.gamma != 0.0)
    }

    /// Where prepared data and a GPU's algorithms are kept for the next run; `None` where nothing is.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        let dir = self.data.cache_dir.clone().or_else(|| cache::default_dir(|key| std::env::var(key).ok()));
        dir.filter(|_| self.data.cache)
    }

    /// The recipe as TOML, every key with its doc line and its value; unset keys are commented out.
    ///
    /// Paths are written absolute, so that the text means the same wherever it is saved.
    pub fn to_toml_commented(&self) -> String {
        let recipe = layers::absolute(self);
        let mut text = String::new();
        for section in recipe.sections() {
            if !text.is_empty() {
                text.push('\n');
            }
            comment(&mut text, section.doc());
            text.push_str(&format!("[{}]\n", section.name()));
            for Field { key, value, .. } in section.fields() {
                comment(&mut text, &format!("{} ({})", key.doc, key.accepts));
                let unset = if value.is_none() { "# " } else { "" };
                text.push_str(&format!("{unset}{} = {}\n", key.name, show(value.as_ref())));
            }
        }
        text
    }

    /// Every key as `section.key` with its value as TOML, paths absolute; unset keys are `""`.
    pub fn assignments(&self) -> BTreeMap<String, String> {
        let fields = layers::absolute(self).fields();
        fields.map(|f| (format!("{}.{}", f.key.section, f.key.name), show(f.value.as_ref()))).collect()
    }

    /// The keys whose value is not the default, as `section.key`.
    pub fn changed(&self) -> Vec<String> {
        let defaults = Recipe::default().assignments();
        let differing = self.assignments().into_iter().filter(|(key, value)| defaults.get(key) != Some(value));
        differing.map(|(key, _)| key).collect()
    }

    /// Every key with its value.
    fn fields(&self) -> impl Iterator<Item = Field> + use<> {
        self.sections().map(Section::fields).into_iter().flatten()
    }

    fn sections(&self) -> [&dyn Section; 7] {
        [&self.model, &self.data, &self.salience, &self.lora, &self.objective, &self.eval, &self.train]
    }

    fn sections_mut(&mut self) -> [&mut dyn Section; 7] {
        [
            &mut self.model,
            &mut self.data,
            &mut self.salience,
            &mut self.lora,
            &mut self.objective,
            &mut self.eval,
            &mut self.train,
        ]
    }
}

/// Appends `words` as comment lines of at most 100 columns.
fn comment(text: &mut String, words: &str) {
    let mut width = usize::MAX;
    for word in words.split_whitespace() {
        if width.saturating_add(1 + word.len()) > 100 {
            let fresh = if width == usize::MAX { "#" } else { "\n#" };
            text.push_str(fresh);
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + word.len();
    }
    text.push('\n');
}
