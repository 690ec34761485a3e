//! chrF++ as sacrebleu 2.6.0 has it (M. Popović, "chrF++: words helping character n-grams", WMT 2017).

use super::ngrams::{Ids, matches, total};
use super::text::{split, without_space};
use super::{Family, Metric, Pair};

const CHARACTERS: usize = 6;
const WORDS: usize = 2;
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// `chrf`: F of beta 2 over n-grams of 1 to 6 characters (without white space) and of 1 to 2 words, 0..100.
///
/// Precision and recall are averaged over the orders that both texts have, from counts summed over the corpus.
pub struct Chrf;

/// Words as chrF takes them: one punctuation mark at the end of a word, else at its start, is a word of its own.
fn words(text: &str) -> impl Iterator<Item = &str> {
    split(text).flat_map(|word| {
        let first = word.chars().next().map_or(0, char::len_utf8);
        let last = word.chars().next_back().map_or(0, char::len_utf8);
        let cut = match word.len() {
            length if length == first => 0,
            length if word.ends_with(|c| PUNCTUATION.contains(c)) => length - last,
            _ if word.starts_with(|c| PUNCTUATION.contains(c)) => first,
            _ => 0,
        };
        let (left, right) = word.split_at(cut);
        [left, right].into_iter().filter(|part| !part.is_empty())
    })
}

/// Writes prediction, reference and matches of each order.
fn count<const N: usize>(hyp: &[u32], reference: &[u32], stats: &mut [f64]) {
    let matched = matches::<N>(hyp, reference);
    for (n, (stats, matched)) in (1..).zip(stats.chunks_exact_mut(3).zip(matched)) {
        let of_reference = total(reference.len(), n);
        // the package counts no n-grams of a prediction whose reference has none of the order
        let of_hyp = if of_reference > 0 { total(hyp.len(), n) } else { 0 };
        stats.copy_from_slice(&[of_hyp as f64, of_reference as f64, matched as f64]);
    }
}

impl Family for Chrf {
    fn metrics(&self) -> &[Metric] {
        &[Metric { name: "chrf", scale: 100.0 }]
    }

    fn width(&self) -> usize {
        3 * (CHARACTERS + WORDS)
    }

    fn stats(&self, pair: &Pair, stats: &mut [f64]) {
        let (of_characters, of_words) = stats.split_at_mut(3 * CHARACTERS);
        let [p, r] = pair.texts().map(|text| without_space(text).chars().map(u32::from).collect::<Vec<_>>());
        count::<CHARACTERS>(&p, &r, of_characters);
        let mut ids = Ids::default();
        let [p, r] = pair.texts().map(|text| ids.of(words(text)));
        count::<WORDS>(&p, &r, of_words);
    }

    fn corpus(&self, sums: &[f64], values: &mut [f64]) {
        let (mut orders, mut precision, mut recall) = (0.0, 0.0, 0.0);
        for order in sums.chunks_exact(3).filter(|order| order[0] > 0.0 && order[1] > 0.0) {
            orders += 1.0;
            precision += order[2] / order[0];
            recall += order[2] / order[1];
        }
        // F of beta 2: 5 P R / (4 P + R), where both are sums over the orders
        let f = 5.0 * precision * recall / (4.0 * precision + recall);
        values[0] = if precision + recall > 0.0 { 100.0 * f / orders } else { 0.0 };
    }
}
