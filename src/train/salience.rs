//! From the recipe's `[salience]` to what rows are read with and weights are drawn from.

use std::path::Path;

use super::recipe::{Arm, Recipe};
use crate::choices::Choice;
use crate::data::corpus::DataSource;
use crate::data::template::Task;
use crate::data::weights::drawn::{Drawing, PathReading, Writing};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::salience::Label;
use crate::salience::align::{Align, Salience};
use crate::salience::priors::Priors;
use crate::salience::scanpath::PathSettings;
use crate::salience::syntax::Language;
use crate::salience::weights::{Terms, WeightSettings};

/// Whether weights are drawn from scan paths, in place of the data's own.
pub fn asked(recipe: &Recipe) -> bool {
    recipe.salience.condition.is_some() || recipe.salience.priors.is_some()
}

/// How weights cross to the target: the recipe's choice, else that of the task.
fn align(recipe: &Recipe) -> Result<Align> {
    let of_task = match recipe.data.task {
        Task::Completion | Task::Copy => Some(Align::Identity),
        Task::Translation => Some(Align::TargetAst),
        Task::Summarization => Some(Align::Lexical),
        Task::None => None,
    };
    if recipe.objective.arm == Arm::Artifact {
        return match recipe.salience.align {
            None | Some(Align::BroadcastMax) => Ok(Align::BroadcastMax),
            Some(other) => Err(refusal(format!(
                "objective.arm = \"artifact\" gives the whole target one weight, and salience.align is {other}; \
                 unset it"
            ))),
        };
    }
    recipe.salience.align.or(of_task).ok_or_else(|| {
        refusal(format!(
            "salience.align is unset and data.task = \"none\" leaves it open; give one of {}",
            Align::names()
        ))
    })
}

fn refusal(why: String) -> Error {
    Error::Recipe { origin: "recipe".into(), why }
}

/// How the rows of `source` are read for weights of scan paths; `None` where these are not asked for.
pub fn path_reading(recipe: &Recipe, source: &DataSource) -> Result<Option<PathReading>> {
    if !asked(recipe) {
        return Ok(None);
    }
    let (s, task) = (&recipe.salience, recipe.data.task);
    let of_file = |key: &str, file: &Path| {
        let hint = |_| Error::file(file, format!("no language is known by this extension; name it in salience.{key}"));
        Language::from_path(file).map_err(hint)
    };
    let code = match (s.source_lang, source) {
        (Some(language), _) => Some(language),
        (None, DataSource::Parallel(file, _)) => Some(of_file("source_lang", file)?),
        (None, DataSource::Jsonl(_)) => None,
    };
    let target = match (s.target_lang, source, task) {
        (Some(writing), ..) => Some(writing),
        (None, _, Task::Summarization) => Some(Writing::Words),
        (None, DataSource::Parallel(_, file), _) => Some(Writing::Code(of_file("target_lang", file)?)),
        (None, DataSource::Jsonl(_), Task::Translation) => Some(Writing::Code(Language::CSharp)),
        (None, DataSource::Jsonl(_), _) => None,
    };
    let recorded = recipe.objective.arm == Arm::Artifact;
    Ok(Some(PathReading { align: align(recipe)?, calls: s.calls, source: code, target, recorded }))
}

/// What weights are drawn from; `None` where scan paths are not asked for.
pub fn drawing(recipe: &Recipe) -> Result<Option<Drawing>> {
    let arm = recipe.objective.arm;
    if !asked(recipe) {
        return match arm {
            Arm::Semantic | Arm::Rarity | Arm::ShuffledLabels | Arm::Artifact => Err(refusal(format!(
                "objective.arm = \"{arm}\" is about weights that are drawn from scan paths; set salience.condition or \
                 salience.priors"
            ))),
            _ => Ok(None),
        };
    }
    let s = &recipe.salience;
    let priors = match (&s.priors, &s.condition) {
        (Some(file), condition) => Priors::load(file, condition.as_deref())?,
        (None, condition) => {
            let condition = condition.as_deref().unwrap_or_default();
            Priors::builtin(condition).map_err(|e| refusal(format!("salience.condition: {e}")))?
        }
    };
    let path = PathSettings { mode: s.mode, max_lines: s.max_lines as u32, dynamic: s.dynamic };
    let terms = match arm {
        Arm::Semantic => Terms::Semantic,
        Arm::Rarity => Terms::Rarity,
        _ => Terms::All,
    };
    let weights = WeightSettings { w_base: s.w_base, off_path: s.off_path, unseen: s.unseen, scope: s.scope, terms };
    let weighing = (arm == Arm::ShuffledLabels).then(|| exchanged(&priors, recipe.train.seed));
    let salience = Salience { priors, path, weights, align: align(recipe)?, weighing };
    Ok(Some(Drawing { salience, seed: recipe.train.seed, artifact: arm == Arm::Artifact }))
}

/// Priors in which the labels that were shown are exchanged.
fn exchanged(priors: &Priors, seed: u64) -> Priors {
    let shown: Vec<Label> = Label::ALL.into_iter().filter(|&label| priors.beta(label).is_some()).collect();
    let order = Stream::new(seed, Purpose::Labels, 0).permutation(shown.len());
    let mut of = Label::ALL;
    for (label, place) in shown.iter().zip(order) {
        of[*label as usize - 1] = shown[place];
    }
    priors.renamed(&of)
}

/// The drawing in a line: priors, mode, alignment.
pub fn describe(drawing: &Drawing) -> String {
    let s = &drawing.salience;
    let dynamic = if s.path.dynamic { ", a new path every epoch" } else { "" };
    format!("{} priors, {} paths, {}{dynamic}", s.priors.condition(), s.path.mode, s.align)
}
