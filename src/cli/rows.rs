//! The rows of a command that reads them as training does: files, and how they are read.

use super::overrides::Overrides;
use crate::choices::Choice;
use crate::data::corpus::DataSource;
use crate::data::cut::Unit;
use crate::data::template::Task;
use crate::error::{Error, Result};
use crate::train::recipe::{self, Arm, Recipe};
use clap::Args;
use std::path::PathBuf;

/// Rows, and how they are read.
#[derive(Args, Debug)]
pub struct RowArgs {
    /// Rows with references, in the formats of training data: a JSONL file, or two parallel text files.
    #[arg(long, value_name = "DATA", num_args = 1..=2, required = true)]
    pub data: Vec<PathBuf>,
    /// Task: the template of the prompts; for eval, also the usual metrics. Default: data.task of the recipe.
    #[arg(long, value_name = "TASK", value_parser = super::task)]
    pub task: Option<Task>,
    /// A recipe: its sections data and salience say how rows are read.
    #[arg(long, value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// What completion leaves out of the code of rows without a target: half, line, statement or block.
    #[arg(long, value_name = "UNIT")]
    pub cut: Option<String>,
    /// Seed that chooses what is left out.
    #[arg(long, value_name = "S")]
    pub cut_seed: Option<u64>,
    /// Give the code behind the target too, to a model that fills in the middle.
    #[arg(long)]
    pub fim: bool,
    /// Use the first N rows only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,
}

impl RowArgs {
    /// The recipe with what the command line says, for this model.
    pub fn recipe(&self, model: &str) -> Result<Recipe> {
        let assignments = self.overrides.assignments();
        let mut recipe = Recipe::layered(self.recipe.as_deref(), recipe::environment(), &assignments)?;
        if recipe.model.model_name_or_path != model {
            // the tokenizer that another model's recipe names does not belong to it
            (recipe.model.model_name_or_path, recipe.model.tokenizer) = (model.to_string(), None);
        }
        let source = DataSource::of(&self.data);
        recipe.data.train_file = source.ok_or_else(|| Error::Usage("--data names no file".into()))?;
        match (self.task, &self.recipe) {
            (Some(task), _) => recipe.data.task = task,
            (None, Some(_)) => {}
            (None, None) => {
                let why = "which task? give --task none, completion, translation, summarization or copy, or --recipe";
                return Err(Error::Usage(why.into()));
            }
        }
        // tokens on the path are the same whatever a run was trained with
        recipe.objective.arm = Arm::Data;
        let data = &mut recipe.data;
        if let Some(unit) = &self.cut {
            let unknown = || Error::Usage(format!("--cut {unit}: choose one of {}", Unit::names()));
            data.cut = Unit::from_name(unit).ok_or_else(unknown)?;
        }
        data.cut_seed = self.cut_seed.unwrap_or(data.cut_seed);
        data.fim |= self.fim;
        Ok(recipe)
    }

    /// How many rows are used, at most.
    pub fn most(&self) -> usize {
        self.rows.map_or(usize::MAX, |rows| rows as usize)
    }
}
