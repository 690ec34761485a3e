//! From a recipe to all inputs of a run, read and checked before a device is touched: model files, tokenizer, examples.

use super::arms::Weighing;
use super::epochs::Epochs;
use super::recipe::{Arm, Method, Normalize, Recipe, SaveDtype};
use super::resume::{Resume, Resumed};
use super::{salience, texts};
use crate::data::cache;
use crate::data::corpus::{self, Corpus, DataSource, Reading};
use crate::data::cut::{Cutting, Fim};
use crate::data::jinja::Date;
use crate::data::pack::Batching;
use crate::data::tokenizer::Tokenizer;
use crate::data::{Example, IGNORE};
use crate::error::{Error, Result};
use crate::eval::run::Task;
use crate::model::config::Positions;
use crate::model::ends::Aligned;
use crate::model::files::{ModelFiles, Origin};
use crate::model::{names, save};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// A run, ready to start.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// The model.
    pub origin: Origin,
    /// The tokenizer; rows of ids alone need none.
    pub tokenizer: Option<Tokenizer>,
    /// Training examples.
    pub train: Corpus,
    /// Evaluation examples.
    pub validation: Option<Corpus>,
    /// A hash of all rows, before weights are drawn.
    pub rows: blake3::Hash,
    /// What decides the weights.
    pub weighing: Weighing,
    /// What the user should know before the run.
    pub notes: Vec<String>,
    /// The configs to save, with the ends that the rows teach; `None` without a tokenizer.
    pub ends: Option<Aligned>,
    /// The texts that an evaluation generates, if any.
    pub texts: Option<Task>,
    /// What it goes on from.
    pub resumed: Option<Resumed>,
}

impl Prepared {
    /// Reads and checks all inputs of a recipe, for a run from the first step.
    pub fn from_recipe(recipe: Recipe) -> Result<Prepared> {
        Prepared::resuming(recipe, &Resume::default())
    }

    /// The same for a run that goes on from where `resume` says.
    pub fn resuming(mut recipe: Recipe, resume: &Resume) -> Result<Prepared> {
        let files = ModelFiles::open(&recipe.model.model_name_or_path)?.quantized(recipe.quantizer());
        let mut notes = Vec::new();
        let resumed = resume.find(&recipe, &files.dir, &mut notes)?;
        let tokenizer = files.tokenizer(recipe.model.tokenizer.as_deref(), None)?;
        if recipe.data.chat_date.is_none()
            && let Some(chat) = tokenizer.as_ref().and_then(Tokenizer::chat)
            && chat.uses_date()
        {
            let recorded = resumed.as_ref().and_then(|resumed| resumed.found.state.fingerprint.chat_date());
            recipe.data.chat_date = Some(recorded.unwrap_or_else(Date::today));
        }
        let mut read = |source| read(&recipe, source, tokenizer.as_ref(), files.spec.vocab, &mut notes);
        let train = read(&recipe.data.train_file)?;
        let validation = recipe.data.validation_file.as_ref().map(read).transpose()?;
        let mut prepared = Prepared::new(recipe, Origin::Files(Box::new(files)), tokenizer, train, validation)?;
        prepared.notes.splice(..0, notes);
        Ok(Prepared { resumed, ..prepared })
    }

    /// From inputs that are read already.
    pub fn new(
        recipe: Recipe, origin: Origin, tokenizer: Option<Tokenizer>, mut train: Corpus, mut validation: Option<Corpus>,
    ) -> Result<Prepared> {
        let rows: Vec<u8> = [Some(&train), validation.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|corpus| *corpus.digest().as_bytes())
            .collect();
        let rows = blake3::hash(&rows);
        let weighing = Weighing::new(&recipe, tokenizer.as_ref(), &train)?;
        let mut told = Vec::new();
        for corpus in [Some(&mut train), validation.as_mut()].into_iter().flatten() {
            told.extend(weighing.weigh(corpus, 0)?);
        }
        if !weighing.dynamic() {
            train.looks = Vec::new();
        }
        validation.iter_mut().for_each(|corpus| corpus.looks = Vec::new());
        let (notes, ends, texts, resumed) = (Vec::new(), None, None, None);
        let mut prepared =
            Prepared { recipe, origin, tokenizer, train, validation, rows, weighing, notes, ends, texts, resumed };
        for corpus in prepared.corpora() {
            let longest = corpus.examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
            prepared.origin.spec().check_length(longest, &prepared.origin.file())?;
        }
        check_weights(&prepared)?;
        check_saved(&prepared)?;
        let marker = marker_of(&prepared);
        prepared.ends = ends_of(&prepared, marker.map(|(id, _)| id))?;
        prepared.notes = notes_of(&prepared, marker);
        prepared.notes.extend(told);
        if let Some(source) = &prepared.recipe.data.validation_file {
            let Prepared { recipe, origin, tokenizer, ends, .. } = &prepared;
            let (tokenizer, ends) = (tokenizer.as_ref(), ends.as_ref().map_or(&[][..], |ends| &ends.ids));
            let reading = reading(recipe, source, tokenizer)?;
            let (texts, notes) = texts::task(recipe, origin, tokenizer, ends, &reading)?.unzip();
            prepared.texts = texts;
            prepared.notes.extend(notes.unwrap_or_default());
        }
        Ok(prepared)
    }

    /// The training examples, then those for evaluation, where there are any.
    pub fn corpora(&self) -> impl Iterator<Item = &Corpus> + Clone {
        std::iter::once(&self.train).chain(&self.validation)
    }
}

/// How the recipe wants the rows of a source to be read.
pub fn reading(recipe: &Recipe, source: &DataSource, tokenizer: Option<&Tokenizer>) -> Result<Reading> {
    let fim = if recipe.data.fim { Some(fim_of(tokenizer)?) } else { None };
    let cutting =
        Cutting { unit: recipe.data.cut, seed: recipe.data.cut_seed, language: recipe.salience.source_lang, fim };
    Ok(Reading {
        task: recipe.data.task,
        cutting,
        max_length: recipe.data.max_length,
        prompt_weight: recipe.data.prompt_weight,
        paths: salience::path_reading(recipe, source)?,
        date: recipe.data.chat_date,
    })
}

/// The marks of a model that fills in the middle.
fn fim_of(tokenizer: Option<&Tokenizer>) -> Result<Fim> {
    let why = "data.fim = true requires a tokenizer with tokens for filling in the middle, such as <fim_prefix>, and \
               this model's has none; unset data.fim";
    tokenizer.and_then(Tokenizer::fim).ok_or_else(|| Error::Usage(why.into()))
}

/// Reads a source by way of the cache, if the recipe has one.
fn read(
    recipe: &Recipe, source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, notes: &mut Vec<String>,
) -> Result<Corpus> {
    let reading = reading(recipe, source, tokenizer)?;
    let Some(dir) = recipe.cache_dir() else {
        return corpus::read(source, tokenizer, vocab, &reading);
    };
    let cached = cache::read(&dir, source, tokenizer, vocab, &reading)?;
    let file = cached.corpus.file.display();
    if cached.hit {
        notes.push(format!("{file}: prepared by an earlier run, read from {}", dir.display()));
    }
    if let Some(trouble) = cached.trouble {
        notes.push(format!("{file}: not kept for the next run ({trouble})"));
    }
    Ok(cached.corpus)
}

/// An evaluation divides by the weights of its whole file: better refused now than after an epoch.
fn check_weights(prepared: &Prepared) -> Result {
    let by_weights = prepared.recipe.objective.normalize == Normalize::Weights;
    let Some(validation) = prepared.validation.as_ref().filter(|_| by_weights) else { return Ok(()) };
    let mean = validation.counts.weight_mean;
    if mean > 0.0 {
        return Ok(());
    }
    let why = format!(
        "the mean weight is {mean}, and objective.normalize = \"weights\" divides by the sum, which must be above 0; \
         use \"tokens\""
    );
    Err(Error::file(&validation.file, why))
}

/// The dtype of what is saved: the recipe's, else that of most of the checkpoint for a full model and f32 for an
/// adapter.
pub(super) fn saved_dtype(recipe: &Recipe, origin: &Origin) -> Dtype {
    match (recipe.train.save_dtype, recipe.train.method, origin) {
        (SaveDtype::Float32, ..) => Dtype::F32,
        (SaveDtype::Bfloat16, ..) => Dtype::BF16,
        (SaveDtype::Float16, ..) => Dtype::F16,
        (SaveDtype::Auto, Method::Full, Origin::Files(files)) => files.checkpoint.main_dtype(),
        (SaveDtype::Auto, ..) => Dtype::F32,
    }
}

/// Refuses what could not be saved at the end: weights that float16 does not hold.
fn check_saved(prepared: &Prepared) -> Result {
    let (recipe, origin) = (&prepared.recipe, &prepared.origin);
    let Origin::Files(files) = origin else { return Ok(()) };
    if recipe.train.method == Method::Full && files.is_coded() {
        let why = "its weights are in 4 bits, which only adapters train on; set train.method to lora, or give the \
                   16-bit original";
        return Err(Error::file(files.checkpoint.origin(), why));
    }
    if recipe.train.method != Method::Full || saved_dtype(recipe, origin) != Dtype::F16 {
        return Ok(());
    }
    for tensor in names::tensors(&files.spec) {
        if files.checkpoint.dtype(&tensor.name) == Some(Dtype::F16) {
            continue;
        }
        let values = files.checkpoint.read(&tensor.name, &tensor.shape())?.into_f32();
        if save::beyond_f16(&values) {
            let why = format!(
                "{} has values beyond float16's 65504; set train.save_dtype to bfloat16 or float32",
                tensor.name
            );
            return Err(Error::file(files.checkpoint.origin(), why));
        }
    }
    Ok(())
}

/// A special token with which at least half of the rows end that do not end with EOS, as those of a chat template may
/// (`<|im_end|>`), and their number.
fn marker_of(prepared: &Prepared) -> Option<(u32, usize)> {
    let tokenizer = prepared.tokenizer.as_ref()?;
    let others = || prepared.train.examples.iter().filter_map(|e| last_supervised(e, tokenizer));
    let mut markers = BTreeMap::<u32, usize>::new();
    others().flatten().for_each(|id| *markers.entry(id).or_default() += 1);
    markers.into_iter().max_by_key(|(_, n)| *n).filter(|(_, n)| 2 * n >= others().count())
}

/// The configs to save, with the ends that the rows teach: the tokenizer's EOS, and the [marker](marker_of).
fn ends_of(prepared: &Prepared, marker: Option<u32>) -> Result<Option<Aligned>> {
    let Some(tokenizer) = &prepared.tokenizer else { return Ok(None) };
    let learned: Vec<u32> = std::iter::once(tokenizer.eos()).chain(marker).collect();
    let (origin, given) = (&prepared.origin, prepared.recipe.model.tokenizer.as_deref());
    let dir = match origin {
        Origin::Files(files) => Some(files.dir.as_path()),
        Origin::Random(..) => None,
    };
    let folders: Vec<&Path> = dir.into_iter().chain(given).collect();
    Aligned::of(&origin.file(), origin.config(), &folders, &learned).map(Some)
}

/// For a row that does not end with EOS: the special token among its last two supervised tokens, of which a template
/// may write a line break last.
fn last_supervised(example: &Example, tokenizer: &Tokenizer) -> Option<Option<u32>> {
    let mut last = example.labels.iter().rev().filter(|label| **label != IGNORE).take(2).copied();
    let first = last.next().filter(|id| *id != tokenizer.eos())?;
    Some(std::iter::once(first).chain(last).find(|id| tokenizer.is_special(*id)))
}

/// Nothing silent: what was left out, and settings that do not do what their reader may expect.
fn notes_of(prepared: &Prepared, marker: Option<(u32, usize)>) -> Vec<String> {
    let recipe = &prepared.recipe;
    let mut notes = prepared.tokenizer.as_ref().map_or(Vec::new(), |tokenizer| tokenizer.notes().to_vec());
    for corpus in prepared.corpora() {
        let (file, r) = (corpus.file.display(), &corpus.counts);
        if r.truncated > 0 {
            notes.push(format!(
                "{file}: {} of {} rows were cut at {} tokens",
                r.truncated, r.rows, recipe.data.max_length
            ));
        }
        if r.without_supervision > 0 {
            notes.push(format!("{file}: {} rows have no supervised token and were left out", r.without_supervision));
        }
        if r.split_copies > 0 {
            notes.push(format!(
                "{file}: {} completion rows had no target of their own; a {} of their code is the target (data.cut)",
                r.split_copies, recipe.data.cut
            ));
        }
        if r.rewritten > 0 {
            notes.push(format!(
                "{file}: in {} rows the chat template writes earlier answers in another way than when they are \
                 generated (without their thinking, for example); they are learned as the whole conversation has them; \
                 `\"train\": false` leaves one out",
                r.rewritten
            ));
        }
        let remedy = "`lang` in the rows, or salience.source_lang";
        notes.extend(r.code.notes(remedy).into_iter().map(|note| format!("{file}: {note}")));
        let longest = corpus.examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
        let spec = prepared.origin.spec();
        if longest > spec.max_positions && spec.positions != Positions::Learned {
            notes.push(format!(
                "{file}: rows have up to {longest} tokens, more than the {} positions that the model was made for; \
                 lower data.max_length, or expect poor results beyond them",
                spec.max_positions
            ));
        }
        if r.eos_rows == 0 && prepared.tokenizer.is_some() && marker.is_none() {
            notes.push(format!("{file}: no row supervises its EOS token, so the model will not learn to stop"));
        }
    }
    if let (Some((marker, n)), Some(tokenizer)) = (marker, &prepared.tokenizer) {
        let name = |id: u32| format!("{} (id {id})", tokenizer.token_text(id));
        notes.push(format!(
            "{}: {n} of {} rows end with {}, not with the tokenizer's EOS {}; both are saved as ends",
            prepared.train.file.display(),
            prepared.train.examples.len(),
            name(marker),
            name(tokenizer.eos())
        ));
    }
    notes.extend(prepared.ends.as_ref().and_then(|ends| ends.note.clone()));
    let d = prepared.origin.spec().dropout;
    if d.attention > 0.0 || d.resid > 0.0 || d.embd > 0.0 {
        let m = &recipe.model;
        notes.push(format!(
            "config.json asks for dropout (attention {}, residual {}, embedding {}); the recipe decides: {}, {}, {}",
            d.attention, d.resid, d.embd, m.attention_dropout, m.resid_dropout, m.embd_dropout
        ));
    }
    let pairs = prepared.train.examples.iter().any(|e| {
        let supervised = || e.labels.iter().zip(&e.path).skip(1).filter(|(l, _)| **l != IGNORE);
        supervised().any(|(_, on)| *on) && supervised().any(|(_, on)| !*on)
    });
    if recipe.objective.gamma > 0.0 && !pairs {
        notes.push(
            "objective.gamma is set, but no example has supervised tokens both on and off the path: the DPO \
                    term is empty"
                .into(),
        );
    }
    if recipe.objective.gamma == 0.0 && recipe.objective.reference_model.is_some() {
        notes.push("objective.reference_model is not used, since objective.gamma is 0".into());
    }
    // where every token of a prompt is supervised, only BOS is not
    let own = |e: &&Example| e.labels.iter().skip(1).any(|&label| label == IGNORE);
    for corpus in prepared.corpora().filter(|_| recipe.data.prompt_weight.is_some()) {
        match corpus.examples.iter().filter(own).count() {
            0 => {}
            n => notes.push(format!(
                "{}: data.prompt_weight has no effect on {n} rows, whose `segments`, `messages` or `labels` say \
                 themselves what is learned",
                corpus.file.display()
            )),
        }
    }
    if recipe.changed().iter().any(|key| key == "train.save_steps") {
        let (every, steps) = (recipe.train.save_steps, Epochs::new(&prepared.train.examples, recipe).total());
        if every > steps {
            notes.push(format!(
                "train.save_steps = {every} is beyond the run's {steps} steps, so no checkpoint is written before the \
                 end"
            ));
        }
    }
    notes.extend(idle(recipe));
    notes
}

/// Keys that were set and that nothing reads, as other keys are.
fn idle(recipe: &Recipe) -> Vec<String> {
    let cases = [
        ("on full fine-tuning", recipe.train.method == Method::Full, "lora."),
        ("where model.quantization is \"none\"", recipe.quantizer().is_none(), "model.double_quant"),
        ("where model.quantization is \"none\"", recipe.quantizer().is_none(), "model.skip_modules"),
        ("where neither salience.condition nor salience.priors is set", !salience::asked(recipe), "salience."),
        ("where data.validation_file is unset", recipe.data.validation_file.is_none(), "train.eval_steps"),
        ("where data.validation_file is unset", recipe.data.validation_file.is_none(), "eval."),
        (
            "where objective.arm is neither constant nor path",
            !matches!(recipe.objective.arm, Arm::Constant | Arm::Path),
            "objective.arm_constant",
        ),
        ("where objective.arm is not focal", recipe.objective.arm != Arm::Focal, "objective.arm_focal"),
        ("where data.batching is not \"tokens\"", recipe.data.batching != Batching::Tokens, "data.max_tokens"),
    ];
    let changed = recipe.changed();
    let keys =
        |start: &str| -> Vec<&str> { changed.iter().map(String::as_str).filter(|k| k.starts_with(start)).collect() };
    let cases = cases.into_iter().filter(|case| case.1).map(|(why, _, start)| (why, keys(start)));
    cases
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(why, keys)| format!("without effect {why}: {}", keys.join(", ")))
        .collect()
}
