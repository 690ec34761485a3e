//! `eyekern inspect`: shows data as training sees them. It counts possible defects and shows rows token by token, on
//! the terminal and as a page.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use super::Format;
use super::overrides::Overrides;
use super::terminal::Terminal;
use crate::data::Example;
use crate::data::corpus::{self, DataSource, Reading};
use crate::data::shown::Shown;
use crate::data::survey::{Ask, Rows, Survey};
use crate::data::tokenizer::Tokenizer;
use crate::data::weights::drawn::Drawing;
use crate::error::{Error, Result};
use crate::files;
use crate::model::files::tokenizer_of;
use crate::render::html;
use crate::train::arms::Weighing;
use crate::train::recipe::{self, Arm, Recipe};
use crate::train::{prepare, salience};

mod map;
mod page;
mod path;
mod summary;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern inspect rows.jsonl --tokenizer model/tokenizer.json
  eyekern inspect --recipe recipe.toml --row 3,10-12 --html rows.html
  eyekern inspect train.java train.cs --model DIR --set data.task=translation --set salience.condition=combined
  eyekern inspect train.jsonl --model DIR --against test.jsonl --format json

Counts that indicate a defect are marked with ! and list the first affected rows. They do not change the exit code.
docs/inspect.md explains every count.";

/// Arguments of `eyekern inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A JSONL file, or two parallel text files. Default: data.train_file of the recipe.
    #[arg(value_name = "DATA", num_args = 0..=2)]
    pub data: Vec<PathBuf>,
    /// The model that the data are for: a directory, or the id of a cached model. Only its tokenizer is used.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// A tokenizer.json, or a directory that contains one, instead of the model's tokenizer.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// A recipe. Only the sections data and salience, objective.arm and train.seed are used; it may be incomplete.
    #[arg(long, value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Lines of the rows to show, from 1. May be repeated. Default: the first row on the terminal, 20 rows on a page.
    #[arg(long = "row", value_name = "N,A-B", value_delimiter = ',', value_parser = lines)]
    pub rows: Vec<Lines>,
    /// Write an HTML page with the summary and the rows to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Other data in which to search for the same rows; given twice, two parallel text files. Without DATA, the default
    /// is data.validation_file of the recipe.
    #[arg(long, value_name = "DATA")]
    pub against: Vec<PathBuf>,
    /// Output format of the summary; json omits the rows.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Lines of a data file, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines(RangeInclusive<usize>);

/// `7` or `7-9`.
pub fn lines(text: &str) -> std::result::Result<Lines, String> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Lines(first..=last)),
        _ => Err("give a line number from 1, or two as in 3-7".into()),
    }
}

/// Rows on a page by default, and at most.
const PAGE: usize = 20;
const MOST: usize = 500;

/// The data and the results of the survey.
struct Inspected<'a> {
    source: &'a DataSource,
    others: Option<&'a DataSource>,
    recipe: &'a Recipe,
    drawing: Option<&'a Drawing>,
    survey: Survey,
    shown: Vec<Shown>,
}

/// Surveys the data, writes the page, prints.
pub fn run(args: &InspectArgs, out: &mut Terminal) -> Result {
    let recipe = recipe(args)?;
    let (source, others) = (source(args, &recipe)?, others(args, &recipe)?);
    if let Some(page) = &args.html {
        let data = [Some(&source), others.as_ref()].into_iter().flatten().flat_map(DataSource::files);
        files::refuse_input(
            "--html",
            page,
            data.chain(args.recipe.as_deref()).chain(args.overrides.priors.as_deref()),
        )?;
    }
    let model = &recipe.model;
    let (tokenizer, vocab) = tokenizer_of(&model.model_name_or_path, model.tokenizer.as_deref())?;
    for note in tokenizer.iter().flat_map(|tokenizer| tokenizer.notes()) {
        out.note(&format!("note: {note}"));
    }
    if let (DataSource::Parallel(..), None) = (&source, &tokenizer) {
        let why = "text needs a tokenizer: name one with --tokenizer FILE, or a model that has one with --model DIR";
        return Err(Error::Usage(why.into()));
    }
    let (reading, drawing) = (prepare::reading(&recipe, &source, tokenizer.as_ref())?, salience::drawing(&recipe)?);
    let armed = armed(&recipe, &source, tokenizer.as_ref(), vocab, &reading)?;
    let ask = Ask {
        tokenizer: tokenizer.as_ref(),
        vocab,
        reading: &reading,
        drawing: drawing.as_ref(),
        armed: armed.as_deref(),
    };
    let known = others.as_ref().map(|others| ask.others(others)).transpose()?;
    let (survey, shown) = ask.survey(&source, &rows(args)?, known.as_ref())?;
    refuse_missing(args, &source, &shown)?;
    let it =
        Inspected { source: &source, others: others.as_ref(), recipe: &recipe, drawing: ask.drawing, survey, shown };

    if let Some(file) = &args.html {
        files::write(file, html::render(&page::page(&it)))?;
    }
    if args.format == Format::Json {
        out.line(&summary::json(&it).to_string());
        return Ok(());
    }
    summary::print(&it, out);
    let first = if args.rows.is_empty() { 1 } else { it.shown.len() };
    it.shown.iter().take(first).for_each(|row| map::print(&it, row, out));
    if let Some(file) = &args.html {
        out.line(&format!("\nwrote {} ({} rows)", file.display(), it.shown.len()));
    }
    Ok(())
}

/// The rows with the weights of the recipe's arm; `None` where these are what is read or drawn. Most arms depend on the
/// whole file, so it is read once for them alone.
fn armed(
    recipe: &Recipe, source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading,
) -> Result<Option<Vec<Example>>> {
    if recipe.objective.arm == Arm::Data {
        return Ok(None);
    }
    let mut corpus = corpus::read(source, tokenizer, vocab, reading)?;
    Weighing::new(recipe, tokenizer, &corpus)?.weigh(&mut corpus, 0)?;
    Ok(Some(corpus.examples))
}

fn recipe(args: &InspectArgs) -> Result<Recipe> {
    let mut recipe = Recipe::layered(args.recipe.as_deref(), recipe::environment(), &args.overrides.assignments())?;
    if let Some(model) = &args.model {
        // the tokenizer that another model's recipe names does not belong to it
        (recipe.model.model_name_or_path, recipe.model.tokenizer) = (model.clone(), None);
    }
    if let Some(file) = &args.tokenizer {
        recipe.model.tokenizer = Some(file.clone());
    }
    Ok(recipe)
}

fn source(args: &InspectArgs, recipe: &Recipe) -> Result<DataSource> {
    let of_recipe = Some(&recipe.data.train_file).filter(|source| !source.file().as_os_str().is_empty());
    DataSource::of(&args.data).or(of_recipe.cloned()).ok_or_else(|| {
        let why = "nothing to inspect: give a JSONL file, two parallel text files, or --recipe RECIPE.toml";
        Error::Usage(why.into())
    })
}

fn others(args: &InspectArgs, recipe: &Recipe) -> Result<Option<DataSource>> {
    if args.against.len() > 2 {
        let why = "--against is given more than twice: once for a JSONL file, twice for two parallel files";
        return Err(Error::Usage(why.into()));
    }
    let of_recipe = recipe.data.validation_file.clone().filter(|_| args.data.is_empty());
    Ok(DataSource::of(&args.against).or(of_recipe))
}

fn rows(args: &InspectArgs) -> Result<Rows> {
    let asked: usize = args.rows.iter().map(|lines| lines.0.end() - lines.0.start() + 1).fold(0, usize::saturating_add);
    match (asked, &args.html) {
        (0, None) => Ok(Rows::First(1)),
        (0, Some(_)) => Ok(Rows::First(PAGE)),
        _ if asked > MOST => {
            Err(Error::Usage(format!("--row selects {asked} rows, but at most {MOST} can be shown at once")))
        }
        _ => Ok(Rows::Lines(args.rows.iter().map(|lines| lines.0.clone()).collect())),
    }
}

/// Refuses `--row` with lines that have no row.
fn refuse_missing(args: &InspectArgs, source: &DataSource, shown: &[Shown]) -> Result {
    let there = |lines: &Lines| shown.iter().any(|row| lines.0.contains(&row.line));
    let Some(Lines(range)) = args.rows.iter().find(|lines| !there(lines)) else { return Ok(()) };
    let lines = if range.start() == range.end() {
        format!("line {}", range.start())
    } else {
        format!("lines {} to {}", range.start(), range.end())
    };
    let why = format!("{} has no row on {lines}; --row takes line numbers, from 1", source.file().display());
    Err(Error::Usage(format!("--row: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_number_or_a_range() {
        assert_eq!(lines("7"), Ok(Lines(7..=7)));
        assert_eq!(lines("3-12"), Ok(Lines(3..=12)));
        for odd in ["0", "", "-", "a", "5-3", "1-", "-4", "1-2-3", "99999999999999999999999"] {
            assert_eq!(lines(odd), Err("give a line number from 1, or two as in 3-7".into()), "{odd}");
        }
    }
}
