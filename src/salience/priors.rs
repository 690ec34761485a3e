//! Eye-tracking priors of each label: how likely programmers are to fixate a token with it, and which sequences of
//! labels they fixate.
//!
//! The built-in priors are the published figures of the EyeMulator artifact (arXiv 2508.16771, CC-BY-4.0), which come
//! from the study of EyeTrans (arXiv 2402.14096). Custom priors use the same file format ([`Priors::save`]).

use std::path::Path;

use super::Label;
use super::beta::Beta;
use crate::error::{Error, Result};
use crate::files;

mod file;

/// The conditions of the built-in priors; `combined` is the sum of the other two.
pub const CONDITIONS: [&str; 3] = ["reading", "writing", "combined"];

const BUILTIN: &str = include_str!("../../assets/priors.json");

/// Counts for one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens fixated at least once, over participants and snippets. This is not the number of fixations, which can
    /// exceed `ntok`.
    pub c1: u64,
    /// Tokens shown, over participants and snippets. 0 if the label never occurred.
    pub ntok: u64,
    /// Fixations, as the monogram table counts them.
    pub mono: u64,
}

/// The priors of one condition. They cover the 19 labels that occur; no data set contains `type`.
#[derive(Clone, Debug, PartialEq)]
pub struct Priors {
    condition: String,
    source: String,
    ordered: bool,
    labels: [Counts; 20],
    /// Counts of n-grams of one to three labels, indexed by [`place`].
    freq: Vec<u64>,
    /// Whether the n-gram was observed at all, indexed by [`place`].
    seen: Vec<bool>,
    built: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The index of an n-gram of one to three labels in the tables: its ids as digits in base 21, where 0 is "no label".
fn place(ngram: &[Label]) -> Option<usize> {
    let digits = ngram.iter().fold(0, |place, label| place * 21 + usize::from(label.id()));
    (1..=3).contains(&ngram.len()).then_some(digits)
}

const PLACES: usize = 21 * 21 * 21;

impl Priors {
    /// Priors without any counts, to be filled by [`Priors::add_token`] and [`Priors::add_ngram`]. `source` names the
    /// origin of the data and their licence.
    pub fn new(condition: &str, source: &str) -> Priors {
        Priors {
            condition: condition.into(),
            source: source.into(),
            ordered: true,
            labels: [Counts::default(); 20],
            freq: vec![0; PLACES],
            seen: vec![false; PLACES],
            built: None,
        }
    }

    /// The published figures for one of [`CONDITIONS`].
    pub fn builtin(condition: &str) -> Result<Priors> {
        if !CONDITIONS.contains(&condition) {
            let known = CONDITIONS.join(", ");
            return Err(Error::Usage(format!("no built-in priors for condition {condition:?}: use one of {known}")));
        }
        file::parse(BUILTIN.as_bytes(), Some(condition))
            .map_err(|why| Error::file(Path::new("assets/priors.json"), why))
    }

    /// Loads the priors of a condition from a file; without a name, the file must have a single condition.
    pub fn load(path: &Path, condition: Option<&str>) -> Result<Priors> {
        let text = files::read(path).map_err(Error::io(path, "read"))?;
        Priors::from_json(&text, condition).map_err(|why| Error::file(path, why))
    }

    /// Like [`Priors::load`], for a file in memory. The error is a sentence without the file's name.
    pub fn from_json(text: &[u8], condition: Option<&str>) -> std::result::Result<Priors, String> {
        file::parse(text, condition)
    }

    /// The file content, which [`Priors::from_json`] reads back to equal priors.
    pub fn to_json(&self) -> String {
        file::write(self)
    }

    /// Writes a file that [`Priors::load`] reads back to equal priors, through a temporary file and a rename.
    pub fn save(&self, path: &Path) -> Result {
        files::write(path, self.to_json())
    }

    /// Counts a token that was shown to a participant. `type` is not counted, because no labeller assigns it.
    pub fn add_token(&mut self, label: Label, fixated: bool) {
        if label != Label::Type {
            let counts = &mut self.labels[label as usize - 1];
            counts.ntok += 1;
            counts.c1 += u64::from(fixated);
        }
    }

    /// Counts a sequence of one to three labels in the order in which they were fixated.
    pub fn add_ngram(&mut self, ngram: &[Label]) {
        let Some(place) = place(ngram).filter(|_| !ngram.contains(&Label::Type)) else { return };
        self.freq[place] += 1;
        self.seen[place] = true;
        if let [label] = ngram {
            self.labels[*label as usize - 1].mono += 1;
        }
    }

    /// `reading`, `writing`, `combined`, or another name from the file.
    pub fn condition(&self) -> &str {
        &self.condition
    }

    /// The origin of the figures, and their licence.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How the figures were made (method, participants, losses), if the file states it. Free-form, for people.
    pub fn built(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        self.built.as_ref()
    }

    /// Sets the content of [`Priors::built`], which the file keeps.
    pub fn set_built(&mut self, built: serde_json::Map<String, serde_json::Value>) {
        self.built = Some(built);
    }

    /// Whether the n-gram counts distinguish (a, b) from (b, a). The published tables do not: their keys are sorted.
    pub fn ordered(&self) -> bool {
        self.ordered
    }

    /// The counts for a label.
    pub fn counts(&self, label: Label) -> Counts {
        self.labels[label as usize - 1]
    }

    /// Beta(c1 + 1, ntok - c1 + 1), or `None` for a label that was never shown: Beta(1, 1) would give it a mean of one
    /// half, which is more than nearly every label that was shown.
    pub fn beta(&self, label: Label) -> Option<Beta> {
        let Counts { c1, ntok, .. } = self.counts(label);
        (ntok > 0).then(|| Beta { alpha: c1 + 1, beta: ntok - c1 + 1 })
    }

    /// E\[theta\] of a label, alpha / (alpha + beta); `None` if it was never shown.
    pub fn expectation(&self, label: Label) -> Option<f64> {
        self.beta(label).map(Beta::mean)
    }

    /// Beta(sum of alpha, sum of beta) over the labels that were shown (Beta(1, 1) if none was shown): the prior for
    /// the density of a whole path.
    pub fn aggregate(&self) -> Beta {
        let shown = Label::ALL.into_iter().filter_map(|label| self.beta(label));
        let sum = shown.fold((0, 0), |(a, b), label| (a + label.alpha, b + label.beta));
        Beta { alpha: sum.0.max(1), beta: sum.1.max(1) }
    }

    /// How often this sequence of one to three labels was fixated (in any order, if the counts are unordered); `None`
    /// if it has no count.
    pub fn freq(&self, ngram: &[Label]) -> Option<u64> {
        let place = if self.ordered || ngram.len() > 3 {
            place(ngram)?
        } else {
            let mut sorted = [Label::Argument; 3];
            let sorted = &mut sorted[..ngram.len()];
            sorted.copy_from_slice(ngram);
            sorted.sort_unstable();
            place(sorted)?
        };
        Some(self.freq[place]).filter(|&n| n > 0)
    }

    /// The same priors for other names: what they say of label s here, they said of `of[s - 1]`.
    pub fn renamed(&self, of: &[Label; 20]) -> Priors {
        let mut renamed = Priors { labels: of.map(|label| self.counts(label)), ..self.clone() };
        // an n-gram is known by the n-gram of the labels that its labels stand for
        for ngram in (1..PLACES).map(labels_at) {
            let there: Vec<Label> = ngram.iter().map(|label| of[*label as usize - 1]).collect();
            if let Some(here) = place(&ngram) {
                renamed.freq[here] = self.freq(&there).unwrap_or(0);
                renamed.seen[here] = self.valid(&there);
            }
        }
        renamed.ordered = true;
        renamed
    }

    /// Whether a scan path may contain this sequence of labels as an n-gram, that is, whether it was observed in this
    /// order. The published data have one list of observed n-grams for all conditions. That list is longer than the
    /// list of counted n-grams, because the counts leave out repeated labels.
    pub fn valid(&self, ngram: &[Label]) -> bool {
        place(ngram).is_some_and(|place| self.seen[place])
    }

    /// All sequences of `length` labels (1 to 3) that have a count, in descending order of the count.
    pub fn ranking(&self, length: usize) -> Vec<(Vec<Label>, u64)> {
        let (low, high) = match length {
            1 => (1, 21),
            2 => (21, 21 * 21),
            3 => (21 * 21, PLACES),
            _ => return Vec::new(),
        };
        let mut ranking: Vec<_> =
            (low..high).filter(|&at| self.freq[at] > 0).map(|at| (labels_at(at), self.freq[at])).collect();
        ranking.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        ranking
    }
}

/// The inverse of [`place`].
fn labels_at(place: usize) -> Vec<Label> {
    let digits = [place / 441, place / 21 % 21, place % 21];
    digits.iter().filter_map(|&id| Label::from_id(id as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::Label::*;
    use super::*;

    #[test]
    fn the_published_figures_are_there() {
        let combined = Priors::builtin("combined").unwrap();
        assert_eq!(combined.aggregate(), Beta { alpha: 21937, beta: 40381 });
        assert!(
            (combined.aggregate().mean() - 0.3520).abs() < 5e-5 && (combined.aggregate().sd() - 0.0019).abs() < 5e-5
        );
        assert_eq!(combined.beta(Loop), Some(Beta { alpha: 2482, beta: 5938 }));
        assert_eq!(combined.expectation(FunctionDeclaration), Some(2900.0 / 4487.0));
        assert_eq!(combined.expectation(Type), None);
        assert_eq!(combined.condition(), "combined");
        assert!(combined.source().contains("CC-BY-4.0") && !combined.ordered());
        // combined = reading + writing, to the last fixation
        let [reading, writing] = ["reading", "writing"].map(|name| Priors::builtin(name).unwrap());
        for label in Label::ALL {
            let [r, w, c] = [&reading, &writing, &combined].map(|p| p.counts(label));
            assert_eq!((c.c1, c.ntok, c.mono), (r.c1 + w.c1, r.ntok + w.ntok, r.mono + w.mono), "{}", label.name());
        }
        // index operation was never shown while writing: no data, and no part in the aggregate
        assert_eq!(writing.beta(IndexOperation), None);
        assert_eq!(writing.aggregate().alpha, 11796);
    }

    #[test]
    fn published_counts_have_no_order_but_valid_runs_do() {
        let priors = Priors::builtin("combined").unwrap();
        assert_eq!(priors.freq(&[VariableDeclaration]), Some(18665));
        assert_eq!(priors.freq(&[Argument, ConditionalStatement]), Some(58));
        assert_eq!(priors.freq(&[ConditionalStatement, Argument]), Some(58));
        assert_eq!(priors.freq(&[ExternalClass, Assignment, Argument]), Some(3));
        assert_eq!(priors.freq(&[Loop, Loop]), None); // repeated labels were not counted
        assert!(priors.valid(&[Loop, Loop]) && priors.valid(&[Loop, Loop, Loop]));
        assert!(priors.valid(&[Variable, Operator]) && !priors.valid(&[Operator, Variable]));
        assert_eq!((priors.freq(&[]), priors.freq(&[Loop; 4])), (None, None));
        assert!(!priors.valid(&[]) && !priors.valid(&[Loop; 4]) && !priors.valid(&[Type, Type]));
        assert_eq!(priors.ranking(1)[0], (vec![VariableDeclaration], 18665));
        assert_eq!((priors.ranking(2).len(), priors.ranking(3).len(), priors.ranking(4).len()), (132, 400, 0));
        assert!(priors.ranking(3).windows(2).all(|w| w[0].1 >= w[1].1));
    }

    #[test]
    fn priors_of_ones_own_keep_order_and_survive_a_file() {
        let mut priors = Priors::new("debugging", "my laboratory, CC0");
        for fixated in [true, true, false] {
            priors.add_token(Loop, fixated);
        }
        priors.add_token(Comment, false);
        priors.add_token(Type, true);
        for ngram in [&[Loop][..], &[Loop, Comment], &[Loop, Comment], &[Comment, Loop, Loop], &[Type, Loop], &[]] {
            priors.add_ngram(ngram);
        }
        priors.set_built(serde_json::Map::from_iter([("participants".to_string(), 3.into())]));
        assert_eq!(priors.beta(Loop), Some(Beta { alpha: 3, beta: 2 }));
        assert_eq!(priors.aggregate(), Beta { alpha: 4, beta: 4 });
        assert_eq!(priors.counts(Loop).mono, 1);
        assert_eq!(priors.freq(&[Loop, Comment]), Some(2));
        assert_eq!(priors.freq(&[Comment, Loop]), None);
        assert!(priors.valid(&[Loop, Comment]) && !priors.valid(&[Comment, Loop]));
        assert!(!priors.valid(&[Type, Loop]));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("priors.json");
        for (original, name) in [(priors, None), (Priors::builtin("writing").unwrap(), Some("writing"))] {
            original.save(&path).unwrap();
            assert_eq!(Priors::load(&path, name).unwrap(), original);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1); // nothing temporary is left
        assert_eq!(Priors::new("none", "").aggregate(), Beta { alpha: 1, beta: 1 });
    }

    #[test]
    fn a_condition_that_does_not_exist_is_refused_by_name() {
        let error = Priors::builtin("skimming").unwrap_err().to_string();
        assert_eq!(error, "no built-in priors for condition \"skimming\": use one of reading, writing, combined");
        let error = Priors::load(Path::new("/nowhere/p.json"), None).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/p.json: cannot read") && error.exit_code() == 3);
    }
}
