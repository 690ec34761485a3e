//! Moves loss weights from the code that a programmer looks at (the source) to the text that the model learns (the
//! target).
//!
//! The paper draws paths on source code and sums the loss over target tokens without stating how source weights become
//! target weights. Its published code multiplies a whole example by the maximum over its source. Each method is a named
//! choice here.

use std::collections::HashMap;
use std::ops::Range;

use super::Span;
use super::priors::Priors;
use super::scanpath::{Key, PathSettings, ScanPath};
use super::weights::{Parts, Scope, Weight, WeightSettings, weigh};
use crate::choices::choices;

choices! {
    /// How weights cross.
    Align {
        /// The target is a stretch of the source (completion) and keeps its weights.
        Identity = "identity",
        /// The target's own tokens get a path and weights of their own.
        TargetAst = "target-ast",
        /// A word of the target takes weight and role of the same word in the source.
        Lexical = "lexical",
        /// The whole target takes the mean over the source.
        BroadcastMean = "broadcast-mean",
        /// The whole target takes the maximum over the source, as the published code has it.
        BroadcastMax = "broadcast-max",
    }
}

/// A byte range of the target, and the index of the token that gives it weight and role; `None` if no token corresponds
/// to it.
pub type Stretch = (Range<usize>, Option<usize>);

impl Align {
    /// Whether the path is drawn on the target's own tokens; otherwise it is drawn on the source's tokens.
    pub fn on_target(self) -> bool {
        self == Align::TargetAst
    }

    /// Whether the whole target takes a single weight.
    pub fn broadcasts(self) -> bool {
        matches!(self, Align::BroadcastMean | Align::BroadcastMax)
    }

    /// Maps byte ranges of the target to tokens of the side that the path is drawn on ([`Align::on_target`]). The
    /// result depends on the two texts only, not on the path. Ranges ascend, and are disjoint if the spans are. The
    /// result is empty if the whole target takes a single weight. `at` is the offset of the target in the source, for
    /// [`Align::Identity`] only. The error is a sentence about the example.
    pub fn stretches(self, source: Side, target: Side, at: Option<usize>) -> Result<Vec<Stretch>, String> {
        match self {
            Align::Identity => identity(source, target, at),
            Align::TargetAst => Ok(target.spans.iter().map(range).zip((0..).map(Some)).collect()),
            Align::Lexical => Ok(lexical(source, target)),
            Align::BroadcastMean | Align::BroadcastMax => Ok(Vec::new()),
        }
    }
}

/// One side of an example.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Its tokens: from a parser, or from [`words`] if the text is in no programming language.
    pub spans: &'a [Span],
}

impl<'a> Side<'a> {
    /// The bytes of a token; empty if it reaches beyond the text.
    fn bytes(&self, span: &Span) -> &'a [u8] {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// Settings for paths and weights.
#[derive(Clone, Debug)]
pub struct Salience {
    /// Priors of the condition under study.
    pub priors: Priors,
    /// How paths are drawn.
    pub path: PathSettings,
    /// How weights follow from a path.
    pub weights: WeightSettings,
    /// How weights cross to the target.
    pub align: Align,
    /// Priors that weights are taken from in place of those that paths are drawn from.
    pub weighing: Option<Priors>,
}

impl Salience {
    /// The path through a piece of code and the weight of each of its tokens.
    pub fn of(&self, spans: &[Span], key: Key) -> (ScanPath, Vec<Weight>) {
        let path = ScanPath::draw(spans, &self.priors, &self.path, key);
        let weights = weigh(spans, &path, self.counted(), &self.weights);
        (path, weights)
    }

    /// The priors that weights are taken from.
    pub fn counted(&self) -> &Priors {
        self.weighing.as_ref().unwrap_or(&self.priors)
    }

    /// The weight of a whole target, for alignments that broadcast: the mean or maximum of the source's weights (under
    /// [`Scope::Path`], of those on the path). For a source without tokens it is [`WeightSettings::rest`].
    pub fn whole(&self, weights: &[Weight]) -> Weight {
        let all = self.weights.scope == Scope::All;
        let looked_at = weights.iter().filter(|weight| all || weight.on_path);
        broadcast(looked_at, self.align == Align::BroadcastMax).unwrap_or(self.weights.rest())
    }
}

fn range(span: &Span) -> Range<usize> {
    span.start..span.end
}

/// The source tokens inside the target, at the target's offsets. A token that the target's edge cuts keeps its weight
/// for the part inside. Without `at`, the target is the end of the source.
fn identity(source: Side, target: Side, at: Option<usize>) -> Result<Vec<Stretch>, String> {
    let length = target.text.len();
    let at = at.or(source.text.len().checked_sub(length));
    let found = at.and_then(|at| Some((at, source.text.get(at..at.checked_add(length)?)?)));
    let Some((at, _)) = found.filter(|(_, stretch)| *stretch == target.text) else {
        return Err("the target is no part of the source, so weights cannot cross by `identity`; \
                    set align to target-ast, lexical or broadcast-mean"
            .into());
    };
    let inside = |(place, span): (usize, &Span)| {
        let (start, end) = (span.start.max(at), span.end.min(at + length));
        (start < end).then(|| (start - at..end - at, Some(place)))
    };
    Ok(source.spans.iter().enumerate().filter_map(inside).collect())
}

/// The k-th occurrence of a word in the target takes weight and role of its k-th occurrence in the source (the last
/// occurrence, if there are fewer), because translations keep the order of names. A word that does not occur with its
/// exact spelling is searched for again without regard to ASCII case, since naming conventions differ (`getName`,
/// `GetName`). Keywords are words too. All other target tokens correspond to nothing.
fn lexical(source: Side, target: Side) -> Vec<Stretch> {
    #[derive(Default)]
    struct Occurrences {
        places: Vec<usize>,
        used: usize,
    }
    impl Occurrences {
        fn next(&mut self) -> Option<usize> {
            let place = self.places.get(self.used).or(self.places.last()).copied();
            self.used += 1;
            place
        }
    }
    let (mut exact, mut folded) = (HashMap::<&[u8], Occurrences>::new(), HashMap::<Vec<u8>, Occurrences>::new());
    for (place, span) in source.spans.iter().enumerate() {
        let word = source.bytes(span);
        if is_word(word) {
            exact.entry(word).or_default().places.push(place);
            folded.entry(word.to_ascii_lowercase()).or_default().places.push(place);
        }
    }
    let mut take = |word: &[u8]| match exact.get_mut(word) {
        Some(same) => same.next(),
        None => folded.get_mut(&word.to_ascii_lowercase())?.next(),
    };
    target.spans.iter().map(|span| (range(span), take(target.bytes(span)))).collect()
}

/// The mean or the maximum of some weights; `None` for no weights. The result counts as on the path, because it stands
/// for the tokens that were looked at and the whole target is learned through it.
fn broadcast<'a>(weights: impl Iterator<Item = &'a Weight>, greatest: bool) -> Option<Weight> {
    let weights: Vec<Parts> = weights.map(|weight| weight.parts).collect();
    let value = |parts: &Parts| Weight { parts: *parts, ..Weight::default() }.value();
    let parts = if greatest {
        weights.into_iter().max_by(|a, b| value(a).total_cmp(&value(b)))?
    } else {
        let n = weights.len() as f64;
        let mean = |part: fn(&Parts) -> f64| weights.iter().map(part).sum::<f64>() / n;
        (n > 0.0).then(|| Parts {
            base: mean(|p| p.base),
            rarity: mean(|p| p.rarity),
            semantic: mean(|p| p.semantic),
        })?
    };
    Some(Weight { parts, on_path: true, segment: None })
}

/// Letters, digits, `_`, `$` and non-ASCII bytes.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn is_word(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| !first.is_ascii_digit()) && bytes.iter().copied().all(in_word)
}

/// Splits a text in no programming language into words without labels: runs of letters, digits, `_`, `$` and non-ASCII
/// bytes.
pub fn words(text: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut start, mut line) = (None, 0);
    for (at, &byte) in text.iter().chain(b" ").enumerate() {
        match start {
            None if in_word(byte) => start = Some(at),
            Some(start_at) if !in_word(byte) => {
                spans.push(Span { start: start_at, end: at, label: None, line });
                start = None;
            }
            _ => {}
        }
        line += u32::from(byte == b'\n');
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::super::Label;
    use super::super::weights::OffPath;
    use super::*;
    use crate::choices::Choice;

    const KEY: Key = Key { seed: 1, example: 2, epoch: 0 };

    /// A weight that its base identifies.
    fn weight(base: f64, on_path: bool) -> Weight {
        Weight { parts: Parts { base, rarity: 0.0, semantic: 0.0 }, on_path, segment: on_path.then_some(0) }
    }

    fn side(text: &str) -> (&[u8], Vec<Span>) {
        (text.as_bytes(), words(text.as_bytes()))
    }

    /// The text of every stretch, and its token.
    fn shown<'a>(text: &'a str, stretches: &[Stretch]) -> Vec<(&'a str, Option<usize>)> {
        stretches.iter().map(|(range, place)| (&text[range.clone()], *place)).collect()
    }

    #[test]
    fn words_are_found_with_their_lines() {
        let text = "Returns `a_1`,\nthe größte $x.";
        let found: Vec<_> = words(text.as_bytes()).iter().map(|s| (&text[s.start..s.end], s.line)).collect();
        assert_eq!(found, [("Returns", 0), ("a_1", 0), ("the", 1), ("größte", 1), ("$x", 1)]);
        assert!(words(b"").is_empty() && words(b" .\n").is_empty());
        assert!(is_word(b"a1") && !is_word(b"1a") && !is_word(b"a.b") && !is_word(b""));
    }

    #[test]
    fn identity_shifts_and_cuts() {
        let (text, spans) = side("int alpha = beta + gamma;");
        let source = Side { text, spans: &spans };
        let crossed = |target: &'static str, at| {
            let target_side = Side { text: target.as_bytes(), spans: &[] };
            Align::Identity.stretches(source, target_side, at).map(|stretches| shown(target, &stretches))
        };
        assert_eq!(crossed("eta + gamma;", None).unwrap(), [("eta", Some(2)), ("gamma", Some(3))]);
        assert_eq!(crossed("alpha = b", Some(4)).unwrap(), [("alpha", Some(1)), ("b", Some(2))]);
        let long = "x".repeat(99).leak();
        for (other, at) in [("eta", None), ("alpha", Some(5)), ("x", Some(usize::MAX)), (long, None)] {
            let error = crossed(other, at).unwrap_err();
            assert!(error.contains("the target is no part of the source"), "{error}");
        }
    }

    #[test]
    fn lexical_pairs_occurrences_in_order() {
        let (text, spans) = side("getName x x Pattern pattern 7");
        let target = "x x x GetName pattern PATTERN new 7";
        let target_spans = words(target.as_bytes());
        let source = Side { text, spans: &spans };
        let side = |spans| Side { text: target.as_bytes(), spans };
        let crossed = Align::Lexical.stretches(source, side(&target_spans), None).unwrap();
        let expected = [
            ("x", Some(1)),
            ("x", Some(2)),
            ("x", Some(2)), // there is no third
            ("GetName", Some(0)),
            ("pattern", Some(4)), // as spelt, although `Pattern` comes first
            ("PATTERN", Some(3)), // the first in any case
            ("new", None),
            ("7", None), // no word
        ];
        assert_eq!(shown(target, &crossed), expected);
        // a span beyond the text matches nothing
        let stray = [Span { start: 3, end: 999, label: None, line: 0 }];
        assert_eq!(Align::Lexical.stretches(source, side(&stray), None).unwrap()[0].1, None);
    }

    #[test]
    fn broadcast_takes_mean_or_maximum() {
        let weights = [weight(1.0, false), weight(4.0, true), weight(2.5, true)];
        assert_eq!(broadcast(weights.iter(), false).map(|w| (w.value(), w.on_path)), Some((2.5, true)));
        assert_eq!(broadcast(weights.iter(), true).map(|w| (w.value(), w.on_path)), Some((4.0, true)));
        assert_eq!((broadcast([].iter(), false), broadcast([].iter(), true)), (None, None));
    }

    #[test]
    fn the_other_alignments() {
        let (text, spans) = side("a b");
        let (source, target) = (Side { text, spans: &spans }, Side { text: b"c a b", spans: &words(b"c a b") });
        let own = Align::TargetAst.stretches(source, target, None).unwrap();
        assert_eq!(shown("c a b", &own), [("c", Some(0)), ("a", Some(1)), ("b", Some(2))]);
        assert!(Align::BroadcastMax.stretches(source, target, None).unwrap().is_empty());
        let on_target: Vec<bool> = Align::ALL.iter().map(|align| align.on_target()).collect();
        let broadcasts: Vec<bool> = Align::ALL.iter().map(|align| align.broadcasts()).collect();
        assert_eq!(on_target, [false, true, false, false, false]);
        assert_eq!(broadcasts, [false, false, false, true, true]);
    }

    #[test]
    fn a_path_its_weights_and_the_weight_of_a_whole() {
        let (_, mut spans) = side("if a b a b a b a b a b");
        spans.iter_mut().for_each(|span| span.label = Some(Label::ConditionalStatement));
        let weights = WeightSettings { off_path: OffPath::Number(0.25), ..WeightSettings::default() };
        let priors = Priors::builtin("combined").unwrap();
        let mut salience =
            Salience { priors, path: Default::default(), weights, align: Align::BroadcastMean, weighing: None };
        let (path, drawn) = salience.of(&spans, KEY);
        assert_eq!(path.segments.len(), 1); // 3 of 11 tokens, one trigram
        // on the path 1 + 0 + 3525 / 7832, off it 0.25
        let on = 1.0 + 3525.0 / 7832.0;
        for (align, scope, value) in [
            (Align::BroadcastMean, Scope::All, (3.0 * on + 8.0 * 0.25) / 11.0),
            (Align::BroadcastMax, Scope::All, on),
            (Align::BroadcastMean, Scope::Path, on),
            (Align::BroadcastMax, Scope::Path, on),
        ] {
            (salience.align, salience.weights.scope) = (align, scope);
            let whole = salience.whole(&drawn);
            assert!((whole.value() - value).abs() < 1e-12 && whole.on_path, "{align:?} {scope:?}");
            assert_eq!(salience.whole(&[]), salience.weights.rest());
        }
    }
}
