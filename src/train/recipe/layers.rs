//! The layers of a recipe: the files that it extends, its own file, environment, flags, each assigned over the one
//! before.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::value::Section;
use super::{EXTENDS, Recipe, nearest, show};
use crate::error::{Error, Result};
use crate::files;

const PREFIX: &str = "EYEKERN_";

/// The process's environment as [`Recipe::load`] wants it: eyekern's variables only, and none of the panics that
/// `std::env::vars` has for names and values that are not Unicode.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// Defaults, then `file`, `env` and `sets`.
pub(super) fn read(
    file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String],
) -> Result<Recipe> {
    let mut recipe = Recipe::default();
    if let Some(file) = file {
        Files::default().read(&mut recipe, file)?;
    }
    // The order of an environment is anybody's guess; the first error should not be.
    let mut ours: Vec<(String, String)> = env.collect();
    ours.sort();
    for (name, value) in ours {
        // One underscore is eyekern's own business (EYEKERN_SHARED and the like), two are a key.
        let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|n| n.split_once("__")) else { continue };
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        assign_text(&mut recipe, Some(&section), &key, value.trim()).map_err(failure(name))?;
    }
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            let why = format!("{set:?} is not an assignment: write --set section.key=value");
            return Err(failure("--set")(why));
        };
        let (section, key) = key.trim().split_once('.').map_or((None, key.trim()), |(s, k)| (Some(s), k));
        assign_text(&mut recipe, section, key, value.trim()).map_err(failure("--set"))?;
    }
    Ok(recipe)
}

fn failure(origin: impl Into<String>) -> impl FnOnce(String) -> Error {
    let origin = origin.into();
    move |why| Error::Recipe { origin, why }
}

/// The files of a recipe: the one that was named and those that it extends.
#[derive(Default)]
struct Files {
    /// Those that are read, or being read. A file that two others extend is read once, at the first of them.
    seen: Vec<PathBuf>,
    /// Those whose bases are being read, the outermost first.
    open: Vec<PathBuf>,
}

impl Files {
    /// Assigns the files that `file` extends, in their order, then its own keys.
    fn read(&mut self, recipe: &mut Recipe, file: &Path) -> Result {
        let origin = file.display().to_string();
        // A recipe that cannot be read is a wrong command line, not wrong data: hence not Error::io.
        let text =
            files::read_to_string(file).map_err(|e| failure(&*origin)(format!("cannot read the recipe: {e}")))?;
        let (line, bases) = bases(file, &text)?;
        let place = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
        self.open.push(place.clone());
        self.seen.push(place);
        for base in bases {
            let fail = |why: String| failure(format!("{origin}:{line}"))(format!("{EXTENDS} = {base:?}: {why}"));
            let path = file.parent().unwrap_or(Path::new("")).join(&base);
            let place = std::fs::canonicalize(&path).map_err(|e| fail(format!("cannot read the recipe: {e}")))?;
            if self.open.contains(&place) {
                return Err(fail("the file extends itself; leave one of the two out".into()));
            }
            if !self.seen.contains(&place) {
                self.read(recipe, &path)?;
            }
        }
        self.open.pop();
        assign_file(recipe, file, &text)
    }
}

/// The line of `extends` in a recipe file, and what it names.
fn bases(file: &Path, text: &str) -> Result<(usize, Vec<String>)> {
    // what is no TOML is reported where its keys are read
    let Ok(document) = DeTable::parse(text) else { return Ok((0, Vec::new())) };
    let Some((key, value)) = document.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == EXTENDS) else {
        return Ok((0, Vec::new()));
    };
    let line = 1 + text.bytes().take(key.span().start).filter(|&b| b == b'\n').count();
    let name = |value: &DeValue| value.as_str().map(str::to_string).filter(|name| !name.is_empty());
    let names = match value.get_ref() {
        DeValue::Array(list) => list.iter().map(|value| name(value.get_ref())).collect::<Option<Vec<_>>>(),
        value => name(value).map(|name| vec![name]),
    };
    let wrong = || {
        let why = format!("{EXTENDS}: expected a recipe file or a list of recipe files, such as \"base.toml\"");
        failure(format!("{}:{line}", file.display()))(why)
    };
    Ok((line, names.ok_or_else(wrong)?))
}

/// Assigns the keys of one file.
fn assign_file(recipe: &mut Recipe, file: &Path, text: &str) -> Result {
    let fail = |at: usize, why: String| {
        let line = 1 + text.bytes().take(at).filter(|&b| b == b'\n').count();
        failure(format!("{}:{line}", file.display()))(why)
    };
    let syntax = |e: toml::de::Error| fail(e.span().map_or(0, |s| s.start), e.message().into());
    let folder = file.parent().unwrap_or(Path::new(""));
    let at = |path: &Path| folder.join(path);

    let document = DeTable::parse(text).map_err(syntax)?;
    for (name, content) in document.get_ref().iter().filter(|(name, _)| name.get_ref().as_ref() != EXTENDS) {
        let (section, line) = (name.get_ref().as_ref(), name.span().start);
        let keys = match (content.get_ref(), recipe.sections().iter().any(|s| s.name() == section)) {
            (DeValue::Table(keys), true) => keys,
            (DeValue::Table(_), false) => return Err(fail(line, nearest::unknown_section(section))),
            (_, true) => {
                let why = format!("{section} is a section, not a key: write its keys below [{section}]");
                return Err(fail(line, why));
            }
            (_, false) => return Err(fail(line, nearest::unknown_key(None, section))),
        };
        for (key, value) in keys.iter() {
            let (key, line) = (key.get_ref().as_ref(), key.span().start);
            let value = toml::Value::deserialize(value.clone().into_deserializer()).map_err(|_| {
                // What parses but is no value is a number with too many digits.
                let shown = text.get(value.span()).unwrap_or_default();
                fail(line, format!("{section}.{key} = {shown}: too large a number"))
            })?;
            assign(recipe, Some(section), key, &value, &at)
                .map_err(|expected| fail(line, refusal(Some(section), key, &show(Some(&value)), expected)))?;
            if (section, key) == ("model", "model_name_or_path") {
                beside(&mut recipe.model.model_name_or_path, folder);
            }
        }
    }
    Ok(())
}

/// Resolves a model's name against the recipe's folder where it is a path there rather than an id.
fn beside(name: &mut String, folder: &Path) {
    // collected from components, which leaves out a `.` in the middle
    let path: PathBuf = folder.join(&*name).components().collect();
    if !name.is_empty() && (is_dotted(name) || path.is_dir()) {
        *name = path.to_string_lossy().into_owned();
    }
}

fn is_dotted(name: &str) -> bool {
    matches!(Path::new(name).components().next(), Some(std::path::Component::CurDir | std::path::Component::ParentDir))
}

/// Why an assignment failed: no such key, or a value that is not what is expected.
enum Refused {
    Unknown,
    Expected(String),
}

fn refusal(section: Option<&str>, key: &str, value: &str, refused: Refused) -> String {
    match refused {
        Refused::Unknown => nearest::unknown_key(section, key),
        Refused::Expected(accepts) => {
            let shown: String = value.chars().take(80).collect();
            format!("{}.{key} = {shown}: expected {accepts}", section.unwrap_or_default())
        }
    }
}

fn assign(
    recipe: &mut Recipe, section: Option<&str>, key: &str, value: &toml::Value, at: &dyn Fn(&Path) -> PathBuf,
) -> std::result::Result<(), Refused> {
    let found = recipe.sections_mut().into_iter().find(|s| Some(s.name()) == section);
    let set = found.and_then(|s: &mut dyn Section| s.set(key, value, at));
    set.ok_or(Refused::Unknown)?.map_err(Refused::Expected)
}

/// Assigns a value given as text: a TOML value where that fits the key, else the text itself, so that strings need no
/// quotes on a command line.
fn assign_text(recipe: &mut Recipe, section: Option<&str>, key: &str, text: &str) -> std::result::Result<(), String> {
    let at = |path: &Path| path.to_path_buf();
    let string = toml::Value::String(text.into());
    let parsed = ValueDeserializer::parse(text).ok().and_then(|v| toml::Value::deserialize(v).ok());
    let first = assign(recipe, section, key, parsed.as_ref().unwrap_or(&string), &at);
    let result = match (first, parsed) {
        // A directory may be called 2024 or true. But whoever writes a list means a list.
        (Err(Refused::Expected(_)), Some(p)) if !p.is_array() && !p.is_table() => {
            assign(recipe, section, key, &string, &at)
        }
        (result, _) => result,
    };
    result.map_err(|refused| refusal(section, key, text, refused))
}

/// The same recipe with absolute paths.
pub(super) fn absolute(recipe: &Recipe) -> Recipe {
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut recipe = recipe.clone();
    for section in recipe.sections_mut() {
        section.map_paths(&full);
    }
    let name = &mut recipe.model.model_name_or_path;
    if !name.is_empty() && (is_dotted(name) || Path::new(name).is_dir()) {
        *name = full(Path::new(name)).to_string_lossy().into_owned();
    }
    recipe
}
