//! ROUGE as rouge-score 0.1.2 has it (C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004).

use super::lcs::lcs;
use super::mean::Mean;
use super::ngrams::{Ids, matches, total};
use super::stem::stem;
use super::{Family, Metric, Pair};

const METRICS: [Metric; 3] = [
    Metric { name: "rouge1", scale: 1.0 },
    Metric { name: "rouge2", scale: 1.0 },
    Metric { name: "rougeL", scale: 1.0 },
];

/// `rouge1`, `rouge2`, `rougeL`: the mean over pairs of F1 of words, of pairs of words, and of their longest common
/// subsequence. Words are the stems of runs of a-z and 0-9 in the lower-cased text; words of up to 3 characters stay.
pub fn rouge() -> impl Family {
    Mean { metrics: &METRICS, values }
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| if word.len() > 3 { stem(word) } else { word.to_string() }).collect()
}

fn values(pair: &Pair, values: &mut [f64]) {
    let texts = pair.texts().map(words);
    let mut ids = Ids::default();
    let [p, r] = texts.each_ref().map(|words| ids.of(words.iter().map(String::as_str)));
    // 2 P R / (P + R), where P and R are shares of the same matches
    let f1 = |matched: usize, p: usize, r: usize| 2.0 * matched as f64 / (p + r).max(1) as f64;
    let [one, two] = matches::<2>(&p, &r);
    values[0] = f1(one, p.len(), r.len());
    values[1] = f1(two, total(p.len(), 2), total(r.len(), 2));
    values[2] = f1(lcs(&p, &r), p.len(), r.len());
}
