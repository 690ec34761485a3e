//! CodeBLEU as the package codebleu 0.7.0 computes it (Ren et al., 2020, arXiv:2009.10297), with its defects.
//!
//! The mean of four parts, over whitespace tokens and syntax trees of the stripped texts:
//!
//! * n-gram match: BLEU-4 of NLTK, orders without a match smoothed by 0.1;
//! * weighted n-gram match: the same with recall in place of precision, unigrams weighted 1 for keywords and 0.2 for
//!   others. Its brevity penalty compares with a length of 2 per pair, so that it is 1 for all but the shortest texts;
//! * syntax match: the share of the reference's subtrees that occur in the prediction. A subtree that occurs once there
//!   matches any number of times in the reference;
//! * data-flow match: the share of the reference's edges that occur in the prediction, 0 if there are none. In the mean
//!   a match of 0 counts as 1, so that an empty prediction scores 25.
//!
//! Texts that the parser refuses have one subtree, which matches nothing, and no data flow. The package has the
//! grammars of 2024; eyekern has later ones, whose trees differ for some code (docs/evaluation.md).

use super::crystal::{ORDERS, bleu};
use super::dataflow::{self, Edge};
use super::ngrams::{Ids, matches, total};
use super::text::{split, strip};
use super::{Family, Metric, Pair, comments, keywords, subtrees};
use crate::error::{Error, Result};
use crate::salience::syntax::{self, Language};
use std::collections::{HashMap, HashSet};

/// `codebleu` and its four parts, 0 to 100.
pub struct CodeBleu {
    language: Language,
    keywords: HashSet<&'static str>,
}

/// Places of the statistics: matches and totals of each order, then of the weighted orders, then the rest.
const MATCHES: usize = 0;
const TOTALS: usize = ORDERS;
const WEIGHTED_MATCHES: usize = 2 * ORDERS;
const WEIGHTED_TOTALS: usize = 3 * ORDERS;
const HYP_LEN: usize = 4 * ORDERS;
const REF_LEN: usize = HYP_LEN + 1;
const PAIRS: usize = HYP_LEN + 2;
const SUBTREES: usize = HYP_LEN + 3;
const SUBTREES_TOTAL: usize = HYP_LEN + 4;
const EDGES: usize = HYP_LEN + 5;
const EDGES_TOTAL: usize = HYP_LEN + 6;
const WIDTH: usize = HYP_LEN + 7;

impl CodeBleu {
    /// The metrics for code of this language; refuses a language that the package does not have.
    pub fn new(language: Language) -> Result<CodeBleu> {
        let Some(words) = keywords::keywords(language) else {
            let known = Language::ALL.into_iter().filter(|&other| keywords::keywords(other).is_some());
            let known = known.map(Language::name).collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("codebleu is not defined for {language}, only for {known}")));
        };
        Ok(CodeBleu { language, keywords: words.split(' ').collect() })
    }

    fn ngram_stats(&self, hyp: &str, reference: &str, stats: &mut [f64]) {
        let mut ids = Ids::default();
        let [of_hyp, of_ref] = [hyp, reference].map(|text| ids.of(split(text)));
        for (n, both) in (1..).zip(matches::<ORDERS>(&of_hyp, &of_ref)) {
            stats[MATCHES + n - 1] = both as f64;
            stats[WEIGHTED_MATCHES + n - 1] = both as f64;
            stats[TOTALS + n - 1] = total(of_hyp.len(), n).max(1) as f64;
            stats[WEIGHTED_TOTALS + n - 1] = total(of_ref.len(), n).max(1) as f64;
        }
        // the words of the reference that the prediction has left
        let mut left: HashMap<&str, usize> = HashMap::new();
        split(hyp).for_each(|word| *left.entry(word).or_default() += 1);
        let (mut matched, mut all) = ([0u32; 2], [0u32; 2]);
        for word in split(reference) {
            let keyword = usize::from(self.keywords.contains(word));
            all[keyword] += 1;
            if let Some(left) = left.get_mut(word).filter(|left| **left > 0) {
                *left -= 1;
                matched[keyword] += 1;
            }
        }
        let weigh = |[others, keywords]: [u32; 2]| 0.2 * f64::from(others) + f64::from(keywords);
        stats[WEIGHTED_MATCHES] = weigh(matched);
        stats[WEIGHTED_TOTALS] = weigh(all).max(1.0);
        stats[HYP_LEN] = of_hyp.len() as f64;
        stats[REF_LEN] = of_ref.len() as f64;
    }
}

/// What CodeBLEU reads from the tree of a text: its subtrees and its edges, each list sorted.
pub struct Program {
    subtrees: Vec<u64>,
    edges: Vec<Edge>,
}

impl Program {
    pub(super) fn of(text: &str, language: Language) -> Program {
        let code = comments::without(strip(text), language);
        let tree = syntax::parse_program(code.as_bytes(), language).ok();
        let mut subtrees = tree.as_ref().map_or(vec![], subtrees::of);
        let mut edges = tree.as_ref().map_or(vec![], |tree| dataflow::edges(&code, tree));
        subtrees.sort_unstable();
        edges.sort_unstable();
        Program { subtrees, edges }
    }
}

fn tree_stats(hyp: &Program, reference: &Program, stats: &mut [f64]) {
    let found = |subtree: &&u64| hyp.subtrees.binary_search(subtree).is_ok();
    stats[SUBTREES] = reference.subtrees.iter().filter(found).count() as f64;
    stats[SUBTREES_TOTAL] = reference.subtrees.len().max(1) as f64;
    // each edge of the prediction matches once
    let mut left = hyp.edges.iter().peekable();
    let matches = |edge: &&Edge| {
        while left.next_if(|other| other < edge).is_some() {}
        left.next_if_eq(edge).is_some()
    };
    stats[EDGES] = reference.edges.iter().filter(matches).count() as f64;
    stats[EDGES_TOTAL] = reference.edges.len() as f64;
}

impl Family for CodeBleu {
    fn metrics(&self) -> &[Metric] {
        &[
            Metric { name: "codebleu", scale: 100.0 },
            Metric { name: "codebleu_ngram", scale: 100.0 },
            Metric { name: "codebleu_weighted_ngram", scale: 100.0 },
            Metric { name: "codebleu_syntax", scale: 100.0 },
            Metric { name: "codebleu_dataflow", scale: 100.0 },
        ]
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn stats(&self, pair: &Pair, stats: &mut [f64]) {
        let [hyp, reference] = pair.texts().map(strip);
        stats[PAIRS] = 1.0;
        self.ngram_stats(hyp, reference, stats);
        tree_stats(pair.hyp.program(self.language), pair.reference.program(self.language), stats);
    }

    fn corpus(&self, sums: &[f64], values: &mut [f64]) {
        let orders = |from: usize| &sums[from..from + ORDERS];
        let ngram = bleu(orders(MATCHES), orders(TOTALS), sums[HYP_LEN], sums[REF_LEN]);
        let weighted = bleu(orders(WEIGHTED_MATCHES), orders(WEIGHTED_TOTALS), sums[HYP_LEN], 2.0 * sums[PAIRS]);
        let syntax = sums[SUBTREES] / sums[SUBTREES_TOTAL];
        let dataflow = if sums[EDGES] == 0.0 { 0.0 } else { sums[EDGES] / sums[EDGES_TOTAL] };
        let mean = (ngram + weighted + syntax + if dataflow == 0.0 { 1.0 } else { dataflow }) / 4.0;
        for (value, share) in values.iter_mut().zip([mean, ngram, weighted, syntax, dataflow]) {
            *value = 100.0 * share;
        }
    }
}
