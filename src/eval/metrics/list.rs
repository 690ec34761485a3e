//! The list of all families, and the metrics of a report.

use super::chrf::Chrf;
use super::codebleu::CodeBleu;
use super::crystal::{Crystal, Shared};
use super::wordnet::WordNet;
use super::{Family, Metric, Pair, bleu, edit, exact, meteor, parses, rouge, tokens};
use crate::choices::nearest;
use crate::data::template::Task;
use crate::error::{Error, Result};
use crate::salience::syntax::Language;
use std::path::PathBuf;
use std::sync::Arc;

/// What a metric needs beside predictions and references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The language of predictions and references.
    Language,
    /// A language that CodeBLEU is defined for.
    LanguageOfCodeBleu,
    /// A folder with WordNet.
    Wordnet,
}

/// A family as the list has it, before it is made.
struct Listed {
    names: &'static [&'static str],
    needs: Needs,
    make: fn(&Setup) -> Result<Box<dyn Family>>,
}

/// All families.
const FAMILIES: &[Listed] = &[
    Listed {
        names: &["strict_exact", "codexglue_exact", "codexglue_line_exact", "contain", "h_exact", "h_exact_paper"],
        needs: Needs::Nothing,
        make: |_| Ok(Box::new(exact::exact())),
    },
    Listed {
        names: &["token_exact", "identifier_exact", "identifier_f1"],
        needs: Needs::Language,
        make: |setup| Ok(Box::new(tokens::tokens(setup.language()?))),
    },
    Listed { names: &["edit_similarity"], needs: Needs::Nothing, make: |_| Ok(Box::new(edit::edit())) },
    Listed { names: &["bleu"], needs: Needs::Nothing, make: |_| Ok(Box::new(bleu::bleu())) },
    Listed { names: &["codexglue_bleu"], needs: Needs::Nothing, make: |_| Ok(Box::new(bleu::codexglue_bleu())) },
    Listed {
        names: &["codexglue_summary_bleu"],
        needs: Needs::Nothing,
        make: |_| Ok(Box::new(bleu::codexglue_summary_bleu())),
    },
    Listed { names: &["chrf"], needs: Needs::Nothing, make: |_| Ok(Box::new(Chrf)) },
    Listed { names: &["rouge1", "rouge2", "rougeL"], needs: Needs::Nothing, make: |_| Ok(Box::new(rouge::rouge())) },
    Listed { names: &["meteor"], needs: Needs::Nothing, make: |_| Ok(Box::new(meteor::meteor())) },
    Listed {
        names: &["meteor_wordnet"],
        needs: Needs::Wordnet,
        make: |setup| {
            let dir = setup.wordnet.as_deref().ok_or_else(|| Error::Usage(NO_WORDNET.into()))?;
            Ok(Box::new(meteor::meteor_wordnet(WordNet::open(dir)?)))
        },
    },
    Listed {
        names: &["codebleu", "codebleu_ngram", "codebleu_weighted_ngram", "codebleu_syntax", "codebleu_dataflow"],
        needs: Needs::LanguageOfCodeBleu,
        make: |setup| Ok(Box::new(CodeBleu::new(setup.language()?)?)),
    },
    Listed {
        names: &["crystalbleu"],
        needs: Needs::Nothing,
        make: |setup| Ok(Box::new(Crystal::new(&setup.shared.clone().unwrap_or_default()))),
    },
    Listed {
        names: &["parse_valid"],
        needs: Needs::Language,
        make: |setup| Ok(Box::new(parses::parses(setup.language()?))),
    },
];

/// The usual metrics of code, in the order of a report.
const CODE: &[&str] = &[
    "strict_exact",
    "token_exact",
    "codexglue_exact",
    "codexglue_line_exact",
    "edit_similarity",
    "identifier_exact",
    "identifier_f1",
    "codebleu",
    "codebleu_ngram",
    "codebleu_weighted_ngram",
    "codebleu_syntax",
    "codebleu_dataflow",
    "crystalbleu",
    "codexglue_bleu",
    "bleu",
    "chrf",
    "parse_valid",
    "contain",
    "h_exact",
    "h_exact_paper",
];

/// The usual metrics of summaries; `meteor_wordnet` where there is WordNet.
const SUMMARIES: &[&str] = &[
    "codexglue_summary_bleu",
    "bleu",
    "rouge1",
    "rouge2",
    "rougeL",
    "meteor",
    "meteor_wordnet",
    "chrf",
    "strict_exact",
];

const NO_LANGUAGE: &str = "needs a language; name it with --lang";

const NO_WORDNET: &str = "needs WordNet; name the folder of its files index.noun, data.noun and so on with --wordnet";

/// What the user gave beside predictions and references.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The language of predictions and references.
    pub language: Option<Language>,
    /// The folder `dict` of Princeton's WordNet.
    pub wordnet: Option<PathBuf>,
    /// The n-grams that CrystalBLEU leaves out; none if absent.
    pub shared: Option<Shared>,
}

/// The names of all metrics.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.names.iter().copied())
}

/// Metrics that are left out, by the reason.
pub type Lacking = Vec<(String, Vec<&'static str>)>;

/// The metrics that a task is usually reported with, as far as they can be computed from what was given, and those that
/// cannot. The first is the headline, unless a constant wins it.
pub fn usual(task: Task, setup: &Setup) -> (Vec<&'static str>, Lacking) {
    let names = match task {
        Task::Summarization => SUMMARIES,
        Task::Translation | Task::Completion | Task::Copy | Task::None => CODE,
    };
    let (mut usual, mut lacking) = (Vec::new(), Lacking::new());
    for name in names {
        match listed(name).map(|family| setup.lacks(family)) {
            // no summary is usually scored with it
            Ok(Some(reason)) if reason == NO_WORDNET => {}
            Ok(Some(reason)) => match lacking.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(*name),
                None => lacking.push((reason, vec![*name])),
            },
            _ => usual.push(*name),
        }
    }
    (usual, lacking)
}

/// Errors with an unknown name, and where a metric needs what `setup` lacks.
pub fn require(names: &[&str], setup: &Setup) -> Result {
    for name in names {
        if let Some(lack) = setup.lacks(listed(name)?) {
            return Err(Error::Usage(format!("the metric {name} {lack}")));
        }
    }
    Ok(())
}

/// Names that others use for ours, where spelling alone would lead astray.
const ALIASES: [(&str, &str); 6] = [
    ("em", "strict_exact"),
    ("es", "edit_similarity"),
    ("exact", "strict_exact"),
    ("exact_match", "strict_exact"),
    ("rouge", "rougeL"),
    ("sacrebleu", "bleu"),
];

/// The family of a metric; an unknown name is an error that names the nearest one.
fn listed(name: &str) -> Result<&'static Listed> {
    FAMILIES.iter().find(|family| family.names.contains(&name)).ok_or_else(|| {
        let typed = name.to_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == typed).map(|(_, name)| *name);
        Error::Usage(match alias.or_else(|| nearest(&typed, names())) {
            Some(near) => format!("unknown metric {name:?}; did you mean {near}?"),
            None => format!("unknown metric {name:?}; the metrics are {}", names().collect::<Vec<_>>().join(", ")),
        })
    })
}

impl Setup {
    fn language(&self) -> Result<Language> {
        self.language.ok_or_else(|| Error::Usage(NO_LANGUAGE.into()))
    }

    /// What is missing for a metric, or why it is not defined; `None` if it can be computed.
    fn lacks(&self, family: &Listed) -> Option<String> {
        match (family.needs, self.language) {
            (Needs::Language | Needs::LanguageOfCodeBleu, None) => Some(NO_LANGUAGE.into()),
            (Needs::LanguageOfCodeBleu, Some(language)) => {
                let why = CodeBleu::new(language).err()?.to_string();
                Some(why.trim_start_matches("codebleu ").to_string())
            }
            (Needs::Wordnet, _) if self.wordnet.is_none() => Some(NO_WORDNET.into()),
            _ => None,
        }
    }
}

/// The metrics of a report.
#[derive(Clone)]
pub struct Metrics {
    families: Vec<Arc<dyn Family>>,
    /// In the order of the report: the place of the family, and of the metric in it.
    chosen: Vec<(usize, usize)>,
}

impl Metrics {
    /// The metrics with these names, in their order; a name that comes again is left out. Errors with an unknown name,
    /// and where a metric needs what `setup` lacks.
    pub fn named<'n>(names: impl IntoIterator<Item = &'n str>, setup: &Setup) -> Result<Metrics> {
        let mut metrics = Metrics { families: Vec::new(), chosen: Vec::new() };
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            require(&[name], setup)?;
            let family = listed(name)?;
            let place = match seen.iter().position(|first| *first == family.names[0]) {
                Some(place) => place,
                None => {
                    seen.push(family.names[0]);
                    metrics.families.push((family.make)(setup)?.into());
                    seen.len() - 1
                }
            };
            let value = metrics.families[place].metrics().iter().position(|metric| metric.name == name);
            let chosen = (place, value.expect("a family has the metrics that it is listed with"));
            if !metrics.chosen.contains(&chosen) {
                metrics.chosen.push(chosen);
            }
        }
        Ok(metrics)
    }

    /// The metrics in the order of the report.
    pub fn list(&self) -> impl Iterator<Item = Metric> {
        self.chosen.iter().map(|&(family, value)| self.families[family].metrics()[value])
    }

    /// Number of statistics per pair.
    pub fn width(&self) -> usize {
        self.families.iter().map(|family| family.width()).sum()
    }

    /// The statistics of one pair.
    pub fn stats(&self, pair: &Pair) -> Vec<f64> {
        let mut stats = vec![0.0; self.width()];
        let mut rest = stats.as_mut_slice();
        for family in &self.families {
            let (own, after) = rest.split_at_mut(family.width());
            family.stats(pair, own);
            rest = after;
        }
        stats
    }

    /// One value per metric, from the summed statistics of one or more pairs.
    pub fn corpus(&self, sums: &[f64]) -> Vec<f64> {
        self.values(sums, |family, own, values| family.corpus(own, values))
    }

    /// One value per metric, from the statistics of a single pair.
    pub fn sentence(&self, stats: &[f64]) -> Vec<f64> {
        self.values(stats, |family, own, values| family.sentence(own, values))
    }

    fn values(&self, stats: &[f64], score: impl Fn(&dyn Family, &[f64], &mut [f64])) -> Vec<f64> {
        let mut rest = stats;
        let values = self.families.iter().map(|family| {
            let (own, after) = rest.split_at(family.width());
            let mut values = vec![0.0; family.metrics().len()];
            score(family.as_ref(), own, &mut values);
            rest = after;
            values
        });
        let values: Vec<Vec<f64>> = values.collect();
        self.chosen.iter().map(|&(family, value)| values[family][value]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Text;
    use super::*;

    /// The list, the families and the aliases agree.
    #[test]
    fn every_name_leads_to_its_metric() {
        let setup = Setup { language: Some(Language::Java), ..Setup::default() };
        let own: Vec<&str> = names().filter(|name| *name != "meteor_wordnet").collect();
        let metrics = Metrics::named(own.iter().copied(), &setup).unwrap();
        assert_eq!(metrics.list().map(|metric| metric.name).collect::<Vec<_>>(), own);
        assert!(metrics.list().all(|metric| metric.scale == 1.0 || metric.scale == 100.0));
        for family in &metrics.families {
            let listed = FAMILIES.iter().find(|listed| listed.names[0] == family.metrics()[0].name).unwrap();
            assert_eq!(listed.names, family.metrics().iter().map(|metric| metric.name).collect::<Vec<_>>());
        }
        let known = |name: &&str| names().any(|other| other == *name);
        assert!(CODE.iter().chain(SUMMARIES).all(known));
        assert!(ALIASES.iter().all(|(alias, name)| known(name) && !known(alias)));
    }

    /// The values of a report are those of the family, in the order that was asked for, each once.
    #[test]
    fn metrics_come_in_the_order_that_is_asked_for() {
        let metrics =
            Metrics::named(["contain", "edit_similarity", "strict_exact", "contain"], &Setup::default()).unwrap();
        let names: Vec<_> = metrics.list().map(|metric| metric.name).collect();
        assert_eq!(
            (names.as_slice(), metrics.families.len()),
            (&["contain", "edit_similarity", "strict_exact"][..], 2)
        );
        let stats = |hyp, reference| metrics.stats(&Pair { hyp: &Text::new(hyp), reference: &Text::new(reference) });
        let stats_of_row = stats("ab", "abc");
        assert_eq!(metrics.sentence(&stats_of_row), [1.0, 0.8, 0.0]);
        let sums: Vec<f64> = stats_of_row.iter().zip(stats("x", "x")).map(|(a, b)| a + b).collect();
        assert_eq!(metrics.corpus(&sums), [1.0, 0.9, 0.5]);
    }

    #[test]
    fn usual_metrics_are_those_that_can_be_computed() {
        let of = |task, language| usual(task, &Setup { language, ..Setup::default() });
        let (names, lacking) = of(Task::Completion, None);
        assert!(names.contains(&"crystalbleu") && !names.contains(&"token_exact"));
        assert_eq!((lacking.len(), lacking[0].0.as_str()), (1, NO_LANGUAGE));
        let (names, lacking) = of(Task::Completion, Some(Language::TypeScript));
        assert!(names.contains(&"token_exact") && !names.contains(&"codebleu"));
        assert!(lacking[0].0.starts_with("is not defined for typescript, only for java, "), "{lacking:?}");
        assert_eq!(of(Task::Translation, Some(Language::CSharp)), (CODE.to_vec(), vec![]));
        let (names, lacking) = of(Task::Summarization, None);
        assert!(!names.contains(&"meteor_wordnet") && lacking.is_empty());
        let setup = Setup { wordnet: Some("dict".into()), ..Setup::default() };
        assert!(usual(Task::Summarization, &setup).0.contains(&"meteor_wordnet"));
    }
}
