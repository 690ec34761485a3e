//! Synonyms from Princeton's WordNet, as NLTK finds them.
//!
//! The folder holds the database files of WordNet 3.0 (wndb(5WN)): `index.POS`, `data.POS` and `POS.exc`.

use crate::error::{Error, Result};
use crate::files;
use std::collections::HashMap;
use std::path::Path;

/// The parts of speech with the rules of Morphy: a suffix and its replacement.
const PARTS: [(&str, &[(&str, &str)]); 4] = [
    (
        "noun",
        &[
            ("s", ""),
            ("ses", "s"),
            ("ves", "f"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
        ],
    ),
    ("verb", &[("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")]),
    ("adj", &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")]),
    ("adv", &[]),
];

const AGAIN: &str = "copy the files of WordNet 3.0 again, unchanged";

/// One part of speech.
struct Part {
    rules: &'static [(&'static str, &'static str)],
    /// Base forms of irregular forms.
    exceptions: HashMap<String, Vec<String>>,
    /// Places in `synsets` of each lemma.
    index: HashMap<String, Vec<usize>>,
    /// The single words of each synset.
    synsets: Vec<Vec<String>>,
}

/// WordNet's synsets, read whole.
pub struct WordNet([Part; 4]);

impl WordNet {
    /// Reads the folder with WordNet's files. Fails where a file is missing or is not one of WordNet, with the line.
    pub fn open(dir: &Path) -> Result<WordNet> {
        let [noun, verb, adj, adv] = PARTS.map(|(name, rules)| Part::open(dir, name, rules));
        Ok(WordNet([noun?, verb?, adj?, adv?]))
    }

    /// The words of every synset that `word`, in lower case, or a base form of it belongs to. A word may come more than
    /// once; words of several parts ("a_la_carte") are left out.
    pub fn synonyms<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().flat_map(move |part| part.synonyms(word))
    }
}

impl Part {
    fn open(dir: &Path, name: &str, rules: &'static [(&'static str, &'static str)]) -> Result<Part> {
        let mut synsets = Vec::new();
        let mut places = HashMap::new();
        each_line(dir, &format!("data.{name}"), |start, line| {
            let mut fields = line.split('|').next().unwrap_or("").split_whitespace();
            let offset: usize = fields.next()?.parse().ok()?;
            if offset != start {
                return None; // a file that was cut or whose line ends were changed
            }
            let count = usize::from_str_radix(fields.nth(2)?, 16).ok()?;
            places.insert(offset, synsets.len());
            // each word is followed by its lex_id, and a marker such as (a) may end it
            let words = (0..count).map(|_| {
                let word = fields.next()?;
                fields.next()?;
                Some(if word.ends_with(')') { word.rsplit_once('(').map_or(word, |(word, _)| word) } else { word })
            });
            let words = words.collect::<Option<Vec<_>>>()?;
            synsets.push(words.into_iter().filter(|word| !word.contains('_')).map(str::to_string).collect());
            Some(())
        })?;
        let mut index = HashMap::new();
        each_line(dir, &format!("index.{name}"), |_, line| {
            let mut fields = line.split_whitespace();
            let lemma = fields.next()?;
            let count: usize = fields.nth(1)?.parse().ok()?;
            let pointers: usize = fields.next()?.parse().ok()?;
            // the pointers, the number of senses and that of tagged senses
            let offsets: Vec<&str> = fields.skip(pointers.checked_add(2)?).collect();
            let found = offsets.iter().map(|offset| places.get(&offset.parse().ok()?).copied());
            let found = found.collect::<Option<Vec<_>>>()?;
            index.insert(lemma.to_string(), found);
            (count > 0 && offsets.len() == count).then_some(())
        })?;
        // an index that was cut between two lines
        if let Some(word) = synsets.iter().flatten().find(|word: &&String| !index.contains_key(&word.to_lowercase())) {
            let why = format!("the word {word:?} of data.{name} is missing; {AGAIN}");
            return Err(Error::file(&dir.join(format!("index.{name}")), why));
        }
        let mut exceptions = HashMap::new();
        each_line(dir, &format!("{name}.exc"), |_, line| {
            let mut fields = line.split_whitespace().map(str::to_string);
            exceptions.insert(fields.next()?, fields.collect());
            Some(())
        })?;
        Ok(Part { rules, exceptions, index, synsets })
    }

    fn synonyms<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        let bases = match self.exceptions.get(word) {
            Some(bases) => bases.clone(),
            None => {
                let base = |(old, new): &(&str, &str)| Some(word.strip_suffix(old)?.to_string() + new);
                self.rules.iter().filter_map(base).collect()
            }
        };
        let forms = [word.to_string()].into_iter().chain(bases);
        let places = forms.filter_map(|form| self.index.get(&form)).flatten();
        places.flat_map(|&place| &self.synsets[place]).map(String::as_str)
    }
}

/// Calls `read` with each line of a file and its place, except for the licence, whose lines start with a space. `None`
/// means that the line does not have the file's format.
fn each_line(dir: &Path, name: &str, mut read: impl FnMut(usize, &str) -> Option<()>) -> Result {
    let file = dir.join(name);
    let text = files::read_to_string(&file).map_err(|e| {
        let why = format!("cannot read: {e}; a folder of WordNet 3.0 has index.*, data.* and *.exc");
        Error::file(&file, why)
    })?;
    let mut start = 0;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        // a file that was cut lacks the end of its last line
        let whole = line.strip_suffix('\n');
        if !line.starts_with(' ') && whole.and_then(|line| read(start, line)).is_none() {
            let why = format!("this is no line of WordNet's {name}, or its data file is not whole; {AGAIN}");
            return Err(Error::row(&file, i + 1, why));
        }
        start += line.len();
    }
    if start == 0 { Err(Error::file(&file, format!("the file is empty; {AGAIN}"))) } else { Ok(()) }
}
