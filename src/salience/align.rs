//! From the code that was looked at to the text that is learned: how weights cross from source to target.
//!
//! The paper draws paths on source code and sums the loss over target tokens without saying how one becomes the other;
//! its published code multiplies a whole example by the maximum over its source. Every way is a named choice here.

use std::collections::HashMap;
use std::ops::Range;

use super::Span;
use super::priors::Priors;
use super::scanpath::{self, Key, ScanPath};
use super::weights::{self, Parts, Scope, Weight, weigh};

/// How weights cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// The target is a stretch of the source (completion) and keeps its weights.
    Identity,
    /// The target's own tokens get a path and weights of their own.
    TargetAst,
    /// A word of the target takes weight and role of the same word in the source.
    Lexical,
    /// The whole target takes the mean over the source.
    BroadcastMean,
    /// The whole target takes the maximum over the source, as the published code has it.
    BroadcastMax,
}

/// One side of an example.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Its tokens: from a parser, or [`words`] of a text in no programming language.
    pub spans: &'a [Span],
}

impl<'a> Side<'a> {
    /// The bytes of a token; none if it reaches beyond the text.
    fn bytes(&self, span: &Span) -> &'a [u8] {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// What a path and weights are made with.
#[derive(Clone, Copy, Debug)]
pub struct Salience<'a> {
    /// Of the condition under study.
    pub priors: &'a Priors,
    /// How paths are drawn.
    pub path: scanpath::Settings,
    /// How weights follow from a path.
    pub weights: weights::Settings,
    /// How weights cross to the target.
    pub align: Align,
}

/// The weights of a target text.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Stretches in bytes of the target, ascending and disjoint where the spans they come from are.
    pub spans: Vec<(Range<usize>, Weight)>,
    /// The weight of whatever no stretch covers, the end of the text included.
    pub rest: Weight,
}

impl Salience<'_> {
    /// The path through a piece of code and the weight of each of its tokens.
    pub fn of(&self, spans: &[Span], key: Key) -> (ScanPath, Vec<Weight>) {
        let path = ScanPath::draw(spans, self.priors, &self.path, key);
        let weights = weigh(spans, &path, self.priors, &self.weights);
        (path, weights)
    }

    /// The weights of the target. `at` is where it begins in the source, for [`Align::Identity`] alone; without it the
    /// target is the end of the source. The error is a sentence about the example.
    pub fn cross(&self, source: Side, target: Side, at: Option<usize>, key: Key) -> Result<Target, String> {
        let rest = self.weights.rest();
        Ok(match self.align {
            Align::Identity => Target { spans: identity(source, &self.of(source.spans, key).1, target, at)?, rest },
            Align::TargetAst => {
                let weights = self.of(target.spans, key).1;
                Target { spans: target.spans.iter().map(range).zip(weights).collect(), rest }
            }
            Align::Lexical => Target { spans: lexical(source, &self.of(source.spans, key).1, target, rest), rest },
            Align::BroadcastMean | Align::BroadcastMax => {
                let weights = self.of(source.spans, key).1;
                let all = self.weights.scope == Scope::All;
                let looked_at = weights.iter().filter(|weight| all || weight.on_path);
                Target {
                    spans: Vec::new(),
                    rest: broadcast(looked_at, self.align == Align::BroadcastMax).unwrap_or(rest),
                }
            }
        })
    }
}

fn range(span: &Span) -> Range<usize> {
    span.start..span.end
}

/// The source's tokens that the target shares, in the target's offsets. A token that the target's edge cuts keeps its
/// weight for the part inside.
fn identity(
    source: Side,
    weights: &[Weight],
    target: Side,
    at: Option<usize>,
) -> Result<Vec<(Range<usize>, Weight)>, String> {
    let length = target.text.len();
    let at = at.or(source.text.len().checked_sub(length));
    let found = at.and_then(|at| Some((at, source.text.get(at..at.checked_add(length)?)?)));
    let Some((at, _)) = found.filter(|(_, stretch)| *stretch == target.text) else {
        return Err("the target is no part of the source, so weights cannot cross by `identity`; \
                    set align to target-ast, lexical or broadcast-mean"
            .into());
    };
    let inside = |(span, weight): (&Span, &Weight)| {
        let (start, end) = (span.start.max(at), span.end.min(at + length));
        (start < end).then(|| (start - at..end - at, *weight))
    };
    Ok(source.spans.iter().zip(weights).filter_map(inside).collect())
}

/// The k-th occurrence of a word in the target takes weight and role of its k-th occurrence in the source (the last, if
/// there are fewer): translations keep the order of names. A word that does not occur as spelt is looked for once more
/// without regard to ASCII case, since naming conventions differ (`getName`, `GetName`). Keywords are words too.
/// Everything else is off the path.
fn lexical(source: Side, weights: &[Weight], target: Side, rest: Weight) -> Vec<(Range<usize>, Weight)> {
    #[derive(Default)]
    struct Occurrences {
        weights: Vec<Weight>,
        used: usize,
    }
    impl Occurrences {
        fn next(&mut self) -> Option<Weight> {
            let weight = self.weights.get(self.used).or(self.weights.last()).copied();
            self.used += 1;
            weight
        }
    }
    let (mut exact, mut folded) = (HashMap::<&[u8], Occurrences>::new(), HashMap::<Vec<u8>, Occurrences>::new());
    for (span, weight) in source.spans.iter().zip(weights) {
        let word = source.bytes(span);
        if is_word(word) {
            exact.entry(word).or_default().weights.push(*weight);
            folded.entry(word.to_ascii_lowercase()).or_default().weights.push(*weight);
        }
    }
    let mut take = |word: &[u8]| match exact.get_mut(word) {
        Some(same) => same.next(),
        None => folded.get_mut(&word.to_ascii_lowercase())?.next(),
    };
    target.spans.iter().map(|span| (range(span), take(target.bytes(span)).unwrap_or(rest))).collect()
}

/// The mean or the greatest of some weights; `None` of none. The result counts as on the path: it stands for what was
/// looked at, and all of the target is learned through it.
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

/// Letters, digits, `_`, `$` and whatever is not ASCII.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn is_word(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| !first.is_ascii_digit()) && bytes.iter().copied().all(in_word)
}

/// The words of a text in no programming language, without labels: runs of letters, digits, `_`, `$` and bytes beyond
/// ASCII.
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
    use super::super::weights::{OffPath, Settings};
    use super::*;

    const KEY: Key = Key { seed: 1, example: 2, epoch: 0 };

    /// A weight that can be told from others by its base.
    fn weight(base: f64, on_path: bool) -> Weight {
        Weight { parts: Parts { base, rarity: 0.0, semantic: 0.0 }, on_path, segment: on_path.then_some(0) }
    }

    fn side(text: &str) -> (&[u8], Vec<Span>) {
        (text.as_bytes(), words(text.as_bytes()))
    }

    /// Text and weight of every stretch.
    fn shown(text: &[u8], spans: &[(Range<usize>, Weight)]) -> Vec<(String, f64, bool)> {
        let piece = |range: &Range<usize>| String::from_utf8_lossy(&text[range.clone()]).into_owned();
        spans.iter().map(|(range, w)| (piece(range), w.value(), w.on_path)).collect()
    }

    fn row(word: &str, value: f64, on_path: bool) -> (String, f64, bool) {
        (word.to_string(), value, on_path)
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
        let weights: Vec<Weight> = (1..=4).map(|w| weight(w.into(), w % 2 == 0)).collect();
        let source = Side { text, spans: &spans };
        let tail = Side { text: b"eta + gamma;", spans: &[] };
        let crossed = identity(source, &weights, tail, None).unwrap();
        assert_eq!(shown(tail.text, &crossed), [row("eta", 3.0, false), row("gamma", 4.0, true)]);
        let middle = Side { text: b"alpha = b", spans: &[] };
        let crossed = identity(source, &weights, middle, Some(4)).unwrap();
        assert_eq!(shown(middle.text, &crossed), [row("alpha", 2.0, true), row("b", 3.0, false)]);
        for (other, at) in [(&b"eta"[..], None), (b"alpha", Some(5)), (b"x", Some(usize::MAX)), (&[b'x'; 99], None)] {
            let error = identity(source, &weights, Side { text: other, spans: &[] }, at).unwrap_err();
            assert!(error.contains("the target is no part of the source"), "{error}");
        }
    }

    #[test]
    fn lexical_pairs_occurrences_in_order() {
        let (text, spans) = side("getName x x Pattern pattern 7");
        let weights: Vec<Weight> = (1..=6).map(|w| weight(w.into(), w != 3)).collect();
        let (target, target_spans) = side("x x x GetName pattern PATTERN new 7");
        let source = Side { text, spans: &spans };
        let crossed = lexical(source, &weights, Side { text: target, spans: &target_spans }, weight(0.5, false));
        let expected = [
            row("x", 2.0, true),
            row("x", 3.0, false),
            row("x", 3.0, false), // there is no third
            row("GetName", 1.0, true),
            row("pattern", 5.0, true), // as spelt, although `Pattern` comes first
            row("PATTERN", 4.0, true), // the first in any case
            row("new", 0.5, false),
            row("7", 0.5, false), // no word
        ];
        assert_eq!(shown(target, &crossed), expected);
        // a span beyond the text matches nothing
        let stray = [Span { start: 3, end: 999, label: None, line: 0 }];
        assert_eq!(
            lexical(source, &weights, Side { text: b"x", spans: &stray }, Weight::default())[0].1,
            Weight::default()
        );
    }

    #[test]
    fn broadcast_takes_mean_or_maximum() {
        let weights = [weight(1.0, false), weight(4.0, true), weight(2.5, true)];
        assert_eq!(broadcast(weights.iter(), false).map(|w| (w.value(), w.on_path)), Some((2.5, true)));
        assert_eq!(broadcast(weights.iter(), true).map(|w| (w.value(), w.on_path)), Some((4.0, true)));
        assert_eq!((broadcast([].iter(), false), broadcast([].iter(), true)), (None, None));
    }

    #[test]
    fn every_alignment_end_to_end() {
        let (text, mut spans) = side("if a b a b a b a b a b");
        spans.iter_mut().for_each(|span| span.label = Some(Label::ConditionalStatement));
        let (target, mut target_spans) = side("b A if other");
        target_spans.iter_mut().for_each(|span| span.label = Some(Label::Loop));
        let priors = Priors::builtin("combined").unwrap();
        let settings = Settings { off_path: OffPath::Number(0.25), ..Settings::default() };
        let mut salience =
            Salience { priors: &priors, path: Default::default(), weights: settings, align: Align::Identity };
        let (source, other) = (Side { text, spans: &spans }, Side { text: target, spans: &target_spans });
        let (path, weights) = salience.of(&spans, KEY);
        assert_eq!(path.segments.len(), 1); // 3 of 11 tokens, one trigram

        let crossed = salience.cross(source, source, None, KEY).unwrap();
        assert_eq!(crossed.spans, spans.iter().map(range).zip(weights.clone()).collect::<Vec<_>>());
        assert_eq!(crossed.rest.value(), 0.25);
        assert!(salience.cross(source, other, None, KEY).is_err());

        salience.align = Align::TargetAst;
        let crossed = salience.cross(source, other, None, KEY).unwrap();
        let own = salience.of(&target_spans, KEY).1;
        assert_eq!(crossed.spans.iter().map(|(_, w)| *w).collect::<Vec<_>>(), own);
        assert_eq!(own.iter().filter(|w| w.on_path).count(), 1); // floor(0.352 * 4)

        salience.align = Align::Lexical;
        let crossed = salience.cross(source, other, None, KEY).unwrap();
        let expected = [weights[2], weights[1], weights[0], settings.rest()];
        assert_eq!(crossed.spans.iter().map(|(_, w)| *w).collect::<Vec<_>>(), expected);

        // on the path 1 + 0 + 3525 / 7832, off it 0.25
        let on = 1.0 + 3525.0 / 7832.0;
        for (align, scope, value) in [
            (Align::BroadcastMean, Scope::All, (3.0 * on + 8.0 * 0.25) / 11.0),
            (Align::BroadcastMax, Scope::All, on),
            (Align::BroadcastMean, Scope::Path, on),
            (Align::BroadcastMax, Scope::Path, on),
        ] {
            (salience.align, salience.weights.scope) = (align, scope);
            let crossed = salience.cross(source, other, None, KEY).unwrap();
            assert!(crossed.spans.is_empty() && (crossed.rest.value() - value).abs() < 1e-12, "{align:?} {scope:?}");
            let nothing = Side { text: b"", spans: &[] };
            let crossed = salience.cross(nothing, other, None, KEY).unwrap();
            assert_eq!(crossed.rest, salience.weights.rest());
        }
    }
}
