//! The texts of an evaluation while training: which rows are continued, and by which metrics they are scored.

use super::recipe::Recipe;
use crate::data::corpus::{DataSource, Reading};
use crate::data::requests::{self, Prompt};
use crate::data::template;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::metrics::{self, Setup};
use crate::eval::run::{self, Task};
use crate::files;
use crate::model::decode;
use crate::model::files::Origin;
use crate::model::generate::Continuation;
use crate::salience::syntax::Language;
use serde_json::json;
use std::fs;
use std::path::Path;

/// The folder of the texts in the run's folder.
const FOLDER: &str = "texts";

/// Writes the texts of the evaluation after `step` steps into the run's folder.
pub fn write(out: &Path, step: u64, lines: String) -> Result {
    let dir = out.join(FOLDER);
    fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
    files::write(&dir.join(format!("step-{step}.jsonl")), lines)
}

/// Removes the texts of an earlier run.
pub fn remove(out: &Path) -> Result {
    let dir = out.join(FOLDER);
    for name in files::names(&dir).unwrap_or_default() {
        if name.starts_with("step-") && name.ends_with(".jsonl") {
            let file = dir.join(name);
            fs::remove_file(&file).map_err(Error::io(&file, "remove"))?;
        }
    }
    Ok(())
}

/// The line of a text: its row, prediction, whole text, reason to end, and reference.
pub fn line(prompt: &Prompt, done: &Continuation, prediction: &str) -> String {
    let line = json!({
        "row": prompt.row + 1,
        "prediction": prediction,
        "text": done.text,
        "finish": done.finish.to_string(),
        "target": prompt.target_text,
    });
    format!("{line}\n")
}

/// The language of the texts of `source`: `eval.lang`, else by the extension of the target's file, else C# for
/// translation, else that of the code.
fn language(recipe: &Recipe, source: &DataSource) -> Option<Language> {
    let by_file = match source {
        DataSource::Parallel(_, target) => Language::from_path(target).ok(),
        DataSource::Jsonl(_) => None,
    };
    let by_task = (recipe.data.task == template::Task::Translation).then_some(Language::CSharp);
    recipe.eval.lang.or(by_file).or(by_task).or(recipe.salience.source_lang)
}

/// What `eval.generate_rows` asks for, and notes about metrics that cannot be computed; `None` where it asks for
/// nothing. `ends` are the ids that end a text, `reading` is how rows of the validation file are read. Errors with the
/// key or the row that stands in the way, before anything is generated.
pub fn task(
    recipe: &Recipe, origin: &Origin, tokenizer: Option<&Tokenizer>, ends: &[u32], reading: &Reading,
) -> Result<Option<(Task, Vec<String>)>> {
    let eval = &recipe.eval;
    let Some(source) = recipe.data.validation_file.as_ref().filter(|_| eval.generate_rows > 0) else {
        return Ok(None);
    };
    let Some(tokenizer) = tokenizer else {
        let why = "eval.generate_rows requires a tokenizer, and the model has no tokenizer.json; add one, or set \
                   eval.generate_rows = 0";
        return Err(Error::file(&origin.file(), why));
    };
    let spec = origin.spec();
    let prompts = requests::read_as(source, Some(tokenizer), spec.vocab, reading, eval.generate_rows)?;
    run::check(&prompts, source.file())?;
    if let Some(limit) = decode::longest(spec)
        && let Some(long) = prompts.iter().find(|prompt| prompt.ids.len() + eval.max_new_tokens > limit)
    {
        let n = long.ids.len();
        let why = format!(
            "a prompt of {n} tokens and eval.max_new_tokens = {} exceed the {limit} positions of the model; lower \
             eval.max_new_tokens, or shorten the row",
            eval.max_new_tokens
        );
        return Err(Error::row(source.file(), long.row as usize + 1, why));
    }
    let setup = Setup { language: language(recipe, source), wordnet: eval.wordnet.clone(), shared: None };
    let (names, lacking) = match eval.metrics.0.as_slice() {
        [] => metrics::usual(recipe.data.task, &setup),
        named => (named.iter().map(String::as_str).collect(), Vec::new()),
    };
    metrics::require(&names, &setup)?;
    if let Some(name) = recipe.best_by().filter(|name| !names.contains(name)) {
        let why = format!("train.metric_for_best_model = {name:?} is none of the metrics: {}", names.join(", "));
        return Err(Error::Usage(format!("{why}; name it in eval.metrics, or set \"loss\"")));
    }
    let told = |(why, names): (String, Vec<&str>)| format!("left out of eval.metrics: {} ({why})", names.join(", "));
    let task = Task {
        unit: recipe.data.cut,
        max_new_tokens: eval.max_new_tokens,
        slots: eval.per_device_eval_batch_size.min(prompts.len()).max(1),
        ends: ends.to_vec(),
        metrics: names.iter().map(|name| name.to_string()).collect(),
        setup,
        model: origin.file(),
        prompts,
    };
    Ok(Some((task, lacking.into_iter().map(told).collect())))
}
