//! BLEU as sacrebleu 2.6.0 has it, and the two forms of CodeXGLUE.

use super::mean::Mean;
use super::ngrams::{Ids, matches, total};
use super::text::{is_space, split, strip, words_and_marks};
use super::{Family, Metric, Pair};

/// The longest n-grams.
const ORDER: usize = 4;

/// Corpus BLEU over n-grams of 1 to 4 tokens, 0..100.
pub struct Bleu {
    metric: [Metric; 1],
    /// Separates the tokens of a text by white space.
    tokenize: fn(&str) -> String,
    /// The score of statistics; whether they are those of a single pair.
    score: fn(&Counts, bool) -> f64,
}

/// `bleu`: tokens of mteval-v13a, exponential smoothing of orders without a match. A single pair has BLEU of the orders
/// that its prediction is long enough for (`sentence_bleu`, "effective order"); a corpus always has four.
pub fn bleu() -> Bleu {
    Bleu { metric: [Metric { name: "bleu", scale: 100.0 }], tokenize: tokenize_13a, score: sacrebleu }
}

/// `codexglue_bleu`: the evaluator of code-to-code translation: tokens are separated by white space, and 1 is added to
/// matches and totals of every order.
pub fn codexglue_bleu() -> Bleu {
    Bleu {
        metric: [Metric { name: "codexglue_bleu", scale: 100.0 }],
        tokenize: str::to_string,
        score: |counts, _| codexglue(counts),
    }
}

/// Statistics of one or more pairs.
struct Counts<'a> {
    /// Tokens of the predictions.
    hyp: f64,
    /// Tokens of the references.
    reference: f64,
    /// Clipped matches of each order.
    matches: &'a [f64],
    /// n-grams of the predictions of each order.
    totals: &'a [f64],
}

impl Bleu {
    fn value(&self, sums: &[f64], single: bool) -> f64 {
        let (matches, totals) = sums[2..].split_at(ORDER);
        (self.score)(&Counts { hyp: sums[0], reference: sums[1], matches, totals }, single)
    }
}

impl Family for Bleu {
    fn metrics(&self) -> &[Metric] {
        &self.metric
    }

    fn width(&self) -> usize {
        2 + 2 * ORDER
    }

    fn stats(&self, pair: &Pair, stats: &mut [f64]) {
        let texts = pair.texts().map(self.tokenize);
        let mut ids = Ids::default();
        let [hyp, reference] = texts.each_ref().map(|text| ids.of(split(text)));
        stats[0] = hyp.len() as f64;
        stats[1] = reference.len() as f64;
        for (i, matched) in matches::<ORDER>(&hyp, &reference).into_iter().enumerate() {
            stats[2 + i] = matched as f64;
            stats[2 + ORDER + i] = total(hyp.len(), i + 1) as f64;
        }
    }

    fn corpus(&self, sums: &[f64], values: &mut [f64]) {
        values[0] = self.value(sums, false);
    }

    fn sentence(&self, stats: &[f64], values: &mut [f64]) {
        values[0] = self.value(stats, true);
    }
}

/// `BLEU.compute_bleu` with smooth_method "exp"; `single` is its effective_order.
fn sacrebleu(counts: &Counts, single: bool) -> f64 {
    if counts.matches.iter().all(|&m| m == 0.0) {
        return 0.0;
    }
    let orders = counts.totals.iter().take_while(|&&t| t > 0.0).count();
    if orders < ORDER && !single {
        return 0.0; // the precision of an order without n-grams is 0
    }
    let mut smooth = 1.0;
    let mut log = 0.0;
    for (&matched, &total) in counts.matches.iter().zip(counts.totals).take(orders) {
        let precision = if matched > 0.0 {
            matched / total
        } else {
            smooth *= 2.0;
            1.0 / (smooth * total)
        };
        log += precision.ln();
    }
    100.0 * (log / orders as f64 + (1.0 - counts.reference / counts.hyp).min(0.0)).exp()
}

/// `compute_bleu` of CodeXGLUE with smooth = True; 0 without a token, where it divides by zero.
fn codexglue(counts: &Counts) -> f64 {
    if counts.hyp == 0.0 {
        return 0.0;
    }
    let log: f64 = counts.matches.iter().zip(counts.totals).map(|(m, t)| ((m + 1.0) / (t + 1.0)).ln()).sum();
    100.0 * (log / ORDER as f64 + (1.0 - counts.reference / counts.hyp).min(0.0)).exp()
}

/// The tokens of `mteval-v13a.pl` as sacrebleu finds them, separated by white space.
fn tokenize_13a(text: &str) -> String {
    let mut line = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replace(entity, character);
    }
    let mut apart = vec![' '];
    for c in line.chars() {
        match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => apart.extend([' ', c, ' ']),
            _ => apart.push(c),
        }
    }
    apart.push(' ');
    let dot = |c: char| c == '.' || c == ',';
    let apart = pairs(&apart, |a, b| !a.is_ascii_digit() && dot(b), |a, b| [a, ' ', b, ' ']);
    let apart = pairs(&apart, |a, b| dot(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let apart = pairs(&apart, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    apart.into_iter().collect()
}

/// `re.sub` of a pattern of two characters: its matches do not overlap.
fn pairs(text: &[char], matched: impl Fn(char, char) -> bool, put: fn(char, char) -> [char; 4]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut rest = text;
    loop {
        match *rest {
            [a, b, ..] if matched(a, b) => {
                out.extend(put(a, b));
                rest = &rest[2..];
            }
            [a, ..] => {
                out.push(a);
                rest = &rest[1..];
            }
            [] => return out,
        }
    }
}

/// `codexglue_summary_bleu`: the evaluator of code summarisation: the mean over pairs of BLEU on lower-cased words and
/// marks, with 1 added to matches and totals of orders 2 to 4, and the penalty exp(min(0, 1 - (|r| + 1) / (|p| + 1))).
pub fn codexglue_summary_bleu() -> impl Family {
    Mean { metrics: &[Metric { name: "codexglue_summary_bleu", scale: 100.0 }], values: summary_values }
}

fn summary_values(pair: &Pair, values: &mut [f64]) {
    let texts = pair.texts().map(|text| strip(text).to_lowercase());
    let mut ids = Ids::default();
    let [p, r] = texts.each_ref().map(|text| ids.of(words_and_marks(text).flat_map(at_underscores)));
    let mut log = 0.0;
    for (i, matched) in matches::<ORDER>(&p, &r).into_iter().enumerate() {
        let (more, total) = (if i > 0 { 1.0 } else { 0.0 }, total(p.len(), i + 1) as f64);
        log += (matched as f64 + more + f64::MIN_POSITIVE).ln() - (total + more + f64::MIN_POSITIVE).ln();
    }
    let penalty = (1.0 - (r.len() + 1) as f64 / (p.len() + 1) as f64).min(0.0);
    values[0] = 100.0 * (log / ORDER as f64 + penalty).exp();
}

/// The evaluator runs the rules of mteval over words and marks. The underscore is the only character inside a word that
/// they set apart.
fn at_underscores(word: &str) -> impl Iterator<Item = &str> {
    word.split_inclusive('_').flat_map(|part| {
        let (word, mark) = part.strip_suffix('_').map_or((part, ""), |word| (word, "_"));
        [word, mark].into_iter().filter(|part| !part.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of sacrebleu 2.6.0.
    #[test]
    fn tokens_are_those_of_mteval() {
        let text = "a.b,c 1.5,2 3-4 x-y \"q\" (z)...&amp;lt; <skipped>wo-\nrd, \u{1c}5. -";
        let expected = "a . b , c 1.5,2 3 - 4 x-y \" q \" ( z ) . . . < word , 5 . -";
        let tokens = tokenize_13a(text);
        assert_eq!(split(&tokens).collect::<Vec<_>>().join(" "), expected);
    }
}
