//! The loss weight of each token, from its scan path: w = w_base + 1 / ln(freq + 2) + E\[theta\] on the path
//! (EyeMulator, arXiv 2508.16771, section 2.4). freq counts how often the token's n-gram was fixated: common sequences
//! get smaller weights than rare ones. theta is the probability that a token with its label is fixated.

use super::Span;
use super::priors::Priors;
use super::scanpath::ScanPath;
use crate::choices::choices;

/// The weight of tokens off the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OffPath {
    /// The formula, with the token's own label as its n-gram (section 2.4 and Algorithm 1 of the paper).
    Formula,
    /// A fixed weight (1 in the published code).
    Number(f64),
}

choices! {
    /// The rarity term of an n-gram without a count. The published tables count no repeated labels, so this concerns
    /// about half of the tokens on a path.
    Unseen {
        /// 0, as the published code has it.
        Zero = "zero",
        /// 1 / ln 2, the formula taken literally: the largest bonus there is.
        Literal = "literal",
    }
}

choices! {
    /// Which tokens the loss sums over.
    Scope {
        /// All supervised tokens (section 2.4).
        All = "all",
        /// Only those on the path (Algorithm 1); the others weigh 0.
        Path = "path",
    }
}

/// Which terms of the formula count: the two ablations of the paper's section 4.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terms {
    /// All of them.
    #[default]
    All,
    /// w_base + E\[theta\].
    Semantic,
    /// w_base + 1 / ln(freq + 2).
    Rarity,
}

/// How weights follow from a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightSettings {
    /// The minimum weight of a token on the path. 1 in the paper, 3 in the published code.
    pub w_base: f64,
    /// The weight of tokens off the path.
    pub off_path: OffPath,
    /// The rarity term of an n-gram without a count.
    pub unseen: Unseen,
    /// Which tokens the loss sums over.
    pub scope: Scope,
    /// Which terms count.
    pub terms: Terms,
}

impl Default for WeightSettings {
    fn default() -> WeightSettings {
        WeightSettings {
            w_base: 1.0,
            off_path: OffPath::Number(1.0),
            unseen: Unseen::Zero,
            scope: Scope::All,
            terms: Terms::All,
        }
    }
}

/// The terms of a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// w_base; off the path, the fixed weight.
    pub base: f64,
    /// 1 / ln(freq + 2).
    pub rarity: f64,
    /// E\[theta\] for the token's label.
    pub semantic: f64,
}

/// The weight of a token and its origin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weight {
    /// Its terms.
    pub parts: Parts,
    /// Whether the token lies on the path.
    pub on_path: bool,
    /// The index of its segment in the path that gave the weight, for display.
    pub segment: Option<usize>,
}

impl Weight {
    /// w_j, the sum of the parts.
    pub fn value(&self) -> f64 {
        self.parts.base + self.parts.rarity + self.parts.semantic
    }
}

impl WeightSettings {
    /// 1 / ln(freq + 2), natural logarithm.
    fn rarity(&self, freq: Option<u64>) -> f64 {
        match (freq, self.unseen) {
            _ if self.terms == Terms::Semantic => 0.0,
            (Some(freq), _) => 1.0 / (freq as f64 + 2.0).ln(),
            (None, Unseen::Zero) => 0.0,
            (None, Unseen::Literal) => 1.0 / 2f64.ln(),
        }
    }

    /// The weight of a token off the path, for which the formula gives `rarity` and `semantic`.
    fn off_path(&self, rarity: f64, semantic: f64) -> Weight {
        let parts = match (self.scope, self.off_path) {
            (Scope::Path, _) => Parts::default(),
            (Scope::All, OffPath::Number(base)) => Parts { base, ..Parts::default() },
            (Scope::All, OffPath::Formula) => Parts { base: self.w_base, rarity, semantic },
        };
        Weight { parts, ..Weight::default() }
    }

    /// The weight of text that belongs to no labelled token: whitespace, punctuation, the end of the text.
    pub fn rest(&self) -> Weight {
        self.off_path(self.rarity(None), 0.0)
    }
}

/// The weight of every token of a piece of code, given the path through it.
pub fn weigh(spans: &[Span], path: &ScanPath, priors: &Priors, settings: &WeightSettings) -> Vec<Weight> {
    let segments = path.by_token(spans.len());
    let rarity: Vec<f64> = path
        .segments
        .iter()
        .map(|segment| settings.rarity(segment.ngram(spans).and_then(|ngram| priors.freq(&ngram))))
        .collect();
    let weight = |(span, segment): (&Span, Option<usize>)| {
        let label = span.label.filter(|_| settings.terms != Terms::Rarity);
        let semantic = label.and_then(|label| priors.expectation(label)).unwrap_or(0.0);
        match segment {
            Some(index) => {
                let parts = Parts { base: settings.w_base, rarity: rarity[index], semantic };
                Weight { parts, on_path: true, segment }
            }
            None => {
                let alone = span.label.and_then(|label| priors.freq(&[label]));
                settings.off_path(settings.rarity(alone), semantic)
            }
        }
    };
    spans.iter().zip(segments).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Label::{self, *};
    use super::super::scanpath::segment;
    use super::*;

    fn spans(labels: &[Option<Label>]) -> Vec<Span> {
        let span = |(i, &label): (usize, &Option<Label>)| Span { start: 2 * i, end: 2 * i + 1, label, line: 0 };
        labels.iter().enumerate().map(span).collect()
    }

    /// argument + conditional statement (a bigram with count 58), loop + loop + loop (observed, never counted),
    /// comment off the path, a token without a label.
    fn example() -> (Vec<Span>, ScanPath, Priors) {
        let labels = [Argument, ConditionalStatement, Loop, Loop, Loop, Comment].map(Some);
        let spans = spans(&[&labels[..], &[None]].concat());
        let priors = Priors::builtin("combined").unwrap();
        let pair = segment(&spans, &[true, true], 4, |n| priors.valid(n));
        let three = segment(&spans, &[false, false, true, true, true], 4, |n| priors.valid(n));
        let path = ScanPath { segments: [pair, three].concat() };
        assert_eq!(path.segments.iter().map(|s| s.places().len()).collect::<Vec<_>>(), [2, 3]);
        (spans, path, priors)
    }

    fn assert_near(weights: &[Weight], expected: &[f64]) {
        assert_eq!(weights.len(), expected.len());
        for (w, e) in weights.iter().zip(expected) {
            assert!((w.value() - e).abs() < 5e-7, "{} instead of {e}", w.value());
        }
    }

    /// By hand: E[argument] = 1020 / 3125 = 0.3264; E[conditional statement] = 3525 / 7832 = 0.450077;
    /// 1 / ln 60 = 0.244239; E[loop] = 2482 / 8420 = 0.294774.
    #[test]
    fn the_default_weights_by_hand() {
        let (spans, path, priors) = example();
        let weights = weigh(&spans, &path, &priors, &WeightSettings::default());
        assert_near(&weights, &[1.570639, 1.694316, 1.294774, 1.294774, 1.294774, 1.0, 1.0]);
        assert_eq!(weights.iter().map(|w| w.on_path).collect::<Vec<_>>(), [true, true, true, true, true, false, false]);
        assert_eq!(weights[1].segment, Some(0));
        assert_eq!(weights[4].segment, Some(1));
        assert_eq!(weights[5], WeightSettings::default().rest());
        let Parts { base, rarity, semantic } = weights[0].parts;
        assert!(base == 1.0 && (rarity - 1.0 / 60f64.ln()).abs() < 1e-15 && semantic == 0.3264);
    }

    /// By hand: comment 147 / 4411 = 0.033326, 1 / ln 526 = 0.159609; 1 / ln 2 = 1.442695;
    /// 1.294774 + 1.442695 = 2.737469.
    #[test]
    fn the_other_choices_by_hand() {
        let (spans, path, priors) = example();
        let paper = WeightSettings { off_path: OffPath::Formula, unseen: Unseen::Literal, ..WeightSettings::default() };
        let loops = 2.737469;
        let weights = weigh(&spans, &path, &priors, &paper);
        assert_near(&weights, &[1.570639, 1.694316, loops, loops, loops, 1.192935, 2.442695]);
        assert!(!weights[5].on_path && weights[6] == paper.rest());

        let artifact = WeightSettings { w_base: 3.0, ..WeightSettings::default() };
        let weights = weigh(&spans, &path, &priors, &artifact);
        assert_near(&weights, &[3.570639, 3.694316, 3.294774, 3.294774, 3.294774, 1.0, 1.0]);

        let path_only = WeightSettings { scope: Scope::Path, ..paper };
        let weights = weigh(&spans, &path, &priors, &path_only);
        assert_near(&weights, &[1.570639, 1.694316, loops, loops, loops, 0.0, 0.0]);
        assert_eq!(path_only.rest().value(), 0.0);
    }

    #[test]
    fn a_count_of_one_is_rare_and_labels_without_data_earn_nothing() {
        let settings = WeightSettings::default();
        assert!((settings.rarity(Some(1)) - 0.910239).abs() < 1e-6); // 1 / ln 3
        let spans = spans(&[Some(IndexOperation)]);
        let formula = WeightSettings { off_path: OffPath::Formula, ..settings };
        let writing = Priors::builtin("writing").unwrap();
        assert_eq!(weigh(&spans, &ScanPath::default(), &writing, &formula)[0].value(), 1.0);
        assert!(weigh(&[], &ScanPath::default(), &writing, &formula).is_empty());
    }
}
