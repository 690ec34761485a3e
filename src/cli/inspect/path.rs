//! A scan path in words: its segments with their n-grams, and the parts of a weight.

use crate::data::shown::Scan;
use crate::salience::Label;
use crate::salience::priors::Priors;
use crate::salience::weights::Parts;

/// A segment, ready to print.
pub struct Segment {
    /// Its number, from 1.
    pub number: usize,
    /// The texts of its tokens.
    pub tokens: String,
    /// The names of their labels.
    pub ngram: String,
    /// How often the n-gram was fixated; `None` where the priors do not count it.
    pub count: Option<u64>,
    /// The rarity term of its weights.
    pub rarity: f64,
}

impl Segment {
    /// The n-gram with its count.
    pub fn describe(&self) -> String {
        match self.count {
            Some(count) => format!("{} ({count} times)", self.ngram),
            None => format!("{} (not counted)", self.ngram),
        }
    }
}

/// The segments of a path.
pub fn segments(scan: &Scan, priors: &Priors) -> Vec<Segment> {
    let one = |(index, segment): (usize, &crate::salience::scanpath::Segment)| {
        let text = |&place: &usize| one_line(token(scan, place));
        let label = |&place: &usize| scan.spans.get(place).and_then(|span| span.label).map_or("none", Label::name);
        let (places, first) = (segment.places(), segment.places().first());
        Segment {
            number: index + 1,
            tokens: places.iter().map(text).collect::<Vec<_>>().join(" "),
            ngram: places.iter().map(label).collect::<Vec<_>>().join(", "),
            count: segment.ngram(&scan.spans).and_then(|ngram| priors.freq(&ngram)),
            rarity: first.and_then(|&place| scan.weights.get(place)).map_or(0.0, |weight| weight.parts.rarity),
        }
    };
    scan.path.segments.iter().enumerate().map(one).collect()
}

/// The text of a token.
pub fn token(scan: &Scan, place: usize) -> &str {
    scan.spans.get(place).and_then(|span| scan.text.get(span.start..span.end)).unwrap_or_default()
}

/// The text on one line: shortened, with line breaks and invisible characters escaped.
pub fn one_line(text: &str) -> String {
    const LONGEST: usize = 40;
    let quote = |c| matches!(c, '\'' | '"' | '\\');
    let written = |c: char| if quote(c) { c.to_string() } else { c.escape_debug().to_string() };
    let shown: String = text.chars().take(LONGEST).map(written).collect();
    if text.chars().nth(LONGEST).is_some() { shown + "…" } else { shown }
}

/// A weight and its terms; both where objective.arm replaces the weight.
pub fn terms(weight: f32, parts: Option<&Parts>) -> String {
    let Some(Parts { base, rarity, semantic }) = parts else { return format!("{weight:.4}") };
    let sum = base + rarity + semantic;
    let terms = format!("{base:.4} base + {rarity:.4} rarity + {semantic:.4} semantic");
    if (sum as f32 - weight).abs() < 1e-6 {
        format!("{weight:.4} = {terms}")
    } else {
        format!("{weight:.4}, set by objective.arm instead of {sum:.4} = {terms}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_on_a_line() {
        assert_eq!(one_line("a\n\"b\" '\\'\t漢\u{202e}"), "a\\n\"b\" '\\'\\t漢\\u{202e}");
        assert_eq!(one_line(&"x".repeat(40)), "x".repeat(40));
        assert_eq!(one_line(&"é".repeat(41)), "é".repeat(40) + "…");
    }

    #[test]
    fn terms_add_up_or_say_why_not() {
        let parts = Parts { base: 1.0, rarity: 0.25, semantic: 0.5 };
        assert_eq!(terms(1.75, Some(&parts)), "1.7500 = 1.0000 base + 0.2500 rarity + 0.5000 semantic");
        let replaced = "1.0000, set by objective.arm instead of 1.7500 = 1.0000 base + 0.2500 rarity + 0.5000 semantic";
        assert_eq!(terms(1.0, Some(&parts)), replaced);
        assert_eq!(terms(1.0, None), "1.0000");
    }
}
