//! What must hold of any recipe.

use eyekern::train::recipe::{self, Recipe};
use std::path::PathBuf;

use super::sentence;

/// The file, and in its comments the other layers: `#! NAME=value` is a variable, `#+ section.key=value` a flag. It is
/// refused with a sentence, or read, and then a written copy of it is read as the same.
pub fn run(input: &[u8]) {
    let file = place("recipe.toml");
    std::fs::write(&file, input).expect("writes");
    let text = String::from_utf8_lossy(input);
    let lines = |mark| text.lines().filter_map(move |line| line.strip_prefix(mark).map(str::to_string));
    let variables: Vec<_> =
        lines("#! ").filter_map(|l| Some(l.split_once('=')?).map(|(k, v)| (k.into(), v.into()))).collect();
    let sets: Vec<String> = lines("#+ ").collect();
    let origins: Vec<&str> = std::iter::once("recipe.toml")
        .chain(["--set"])
        .chain(variables.iter().map(|(k, _): &(String, String)| k.as_str()))
        .collect();
    let read = Recipe::layered(Some(&file), variables.iter().cloned(), &sets);
    match read {
        Err(refusal) => {
            let text = refusal.to_string();
            let origin = origins.iter().find(|origin| text.contains(**origin)).unwrap_or_else(|| panic!("{text:?}"));
            sentence::check(&refusal, origin, 2);
        }
        Ok(recipe) => {
            if let Err(refusal) = recipe.validate() {
                sentence::check(&refusal, "recipe", 2);
            }
            assert!(recipe.token_budget() <= usize::MAX / 2);
            std::fs::write(&file, recipe.to_toml_commented()).expect("writes");
            let again = Recipe::layered(Some(&file), [].into_iter(), &[]).expect("its own recipe");
            assert_eq!(again.assignments(), recipe.assignments());
            assert_eq!(recipe.assignments().len(), recipe::keys().count());
        }
    }
}

/// A file of this process.
fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("eyekern-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    dir.join(name)
}
