//! CrystalBLEU (Eghbali and Pradel, ASE 2022) as the package crystalbleu 0.2 computes it: BLEU-4 without the n-grams
//! that most code shares.
//!
//! Tokens are `\w+|[^\w\s]`. N-grams of the shared list leave matches and totals, not the lengths that the brevity
//! penalty compares. The package leaves three things to its caller, and here they are: orders without a match count 0.1
//! matches (method 1 of Chen and Cherry, 2014); the shared list is the 500 most common n-grams of 1 to 4 tokens in the
//! references, or a file; n-grams that are equally common are sorted by their tokens.

use super::text::{split, words_and_marks};
use super::{Family, Metric, Pair};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Orders of n-grams.
pub(super) const ORDERS: usize = 4;
/// The length of the shared list.
pub const SHARED: usize = 500;
/// References are counted up to this number of tokens.
pub const MOST_TOKENS: usize = 2_000_000;

/// BP * exp(mean over orders of ln(matches / totals)), 0 without a matching unigram. Orders without a match count 0.1
/// matches. BP is 1 for a prediction longer than the reference, else exp(1 - reference / prediction).
pub(super) fn bleu(matches: &[f64], totals: &[f64], hyp_len: f64, ref_len: f64) -> f64 {
    if matches[0] == 0.0 || hyp_len == 0.0 {
        return 0.0;
    }
    let brevity = if hyp_len > ref_len { 1.0 } else { (1.0 - ref_len / hyp_len).exp() };
    let smoothed = |m: f64| if m == 0.0 { 0.1 } else { m };
    let logs: f64 = matches.iter().zip(totals).map(|(&m, t)| (smoothed(m) / t).ln()).sum();
    brevity * (logs / ORDERS as f64).exp()
}

/// Counts the n-grams of references.
#[derive(Default)]
pub struct Counter {
    numbers: HashMap<String, u32>,
    words: Vec<String>,
    /// The references, one after the other, each behind [`BREAK`].
    tokens: Vec<u32>,
    breaks: usize,
}

/// Stands between two references.
const BREAK: u32 = u32::MAX;

impl Counter {
    /// Adds a reference; tokens beyond [`MOST_TOKENS`] are not counted.
    pub fn add(&mut self, reference: &str) {
        self.tokens.push(BREAK);
        self.breaks += 1;
        let left = MOST_TOKENS + self.breaks - self.tokens.len();
        for word in words_and_marks(reference).take(left) {
            let number = self.numbers.get(word).copied().unwrap_or_else(|| {
                let next = self.words.len() as u32;
                self.words.push(word.to_string());
                self.numbers.insert(word.to_string(), next);
                next
            });
            self.tokens.push(number);
        }
    }

    /// The `most` most common n-grams of all orders together; equally common ones in the order of their tokens.
    pub fn shared(&self, most: usize) -> Shared {
        let mut all: Vec<(u32, &[u32])> = Vec::new();
        let mut kept: HashSet<&[u32]> = HashSet::new();
        let mut least = 1;
        for n in 1..=ORDERS {
            // an n-gram is not more common than its parts
            let possible = |gram: &&[u32]| match n {
                1 => gram[0] != BREAK,
                _ => kept.contains(&gram[1..]) && kept.contains(&gram[..n - 1]),
            };
            let mut counts: HashMap<&[u32], u32> = HashMap::new();
            self.tokens.windows(n).filter(possible).for_each(|gram| *counts.entry(gram).or_insert(0) += 1);
            all.extend(counts.into_iter().map(|(gram, count)| (count, gram)));
            if most > 0 && all.len() >= most {
                all.select_nth_unstable_by(most - 1, |a, b| b.0.cmp(&a.0));
                least = all[most - 1].0;
            }
            all.retain(|&(count, _)| count >= least);
            kept = all.iter().map(|&(_, gram)| gram).filter(|gram| gram.len() == n).collect();
        }
        let words = |gram: &[u32]| gram.iter().map(|&word| self.words[word as usize].clone()).collect::<Vec<_>>();
        let mut all: Vec<(u32, Vec<String>)> = all.into_iter().map(|(count, gram)| (count, words(gram))).collect();
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        all.truncate(most);
        Shared(all.into_iter().map(|(_, gram)| gram).collect())
    }
}

/// N-grams that are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared(pub Vec<Vec<String>>);

impl Shared {
    /// Reads a list: an n-gram per line, its tokens separated by white space. Blank lines are skipped.
    pub fn read(file: &Path) -> Result<Shared> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file, "read"))?;
        let mut grams = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let gram: Vec<String> = split(line).map(str::to_string).collect();
            if gram.len() > ORDERS {
                let why = format!("an n-gram of {} tokens; name 1 to {ORDERS} tokens, separated by spaces", gram.len());
                return Err(Error::row(file, at + 1, why));
            }
            if let Some(token) = gram.iter().find(|token| words_and_marks(token).count() != 1) {
                let why = format!(
                    "{token:?} is more than one token; separate words and punctuation marks by spaces, as in `foo ( )`"
                );
                return Err(Error::row(file, at + 1, why));
            }
            grams.extend((!gram.is_empty()).then_some(gram));
        }
        Ok(Shared(grams))
    }
}

/// `crystalbleu`, 0 to 1.
pub struct Crystal {
    numbers: HashMap<String, u32>,
    ignored: HashSet<Vec<u32>>,
}

impl Crystal {
    /// The metric without the n-grams of a list.
    pub fn new(shared: &Shared) -> Crystal {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut number = |word: &String| {
            let next = numbers.len() as u32;
            *numbers.entry(word.clone()).or_insert(next)
        };
        let ignored = shared.0.iter().map(|gram| gram.iter().map(&mut number).collect()).collect();
        Crystal { numbers, ignored }
    }

    /// How often each n-gram occurs that is not ignored.
    fn counts<'t>(&self, tokens: &'t [u32], n: usize) -> HashMap<&'t [u32], u32> {
        let mut counts = HashMap::new();
        for gram in tokens.windows(n).filter(|&gram| !self.ignored.contains(gram)) {
            *counts.entry(gram).or_insert(0) += 1;
        }
        counts
    }
}

impl Family for Crystal {
    fn metrics(&self) -> &[Metric] {
        &[Metric { name: "crystalbleu", scale: 1.0 }]
    }

    /// Matches and totals of each order, tokens of the prediction and of the reference.
    fn width(&self) -> usize {
        2 * ORDERS + 2
    }

    fn stats(&self, pair: &Pair, stats: &mut [f64]) {
        let mut others: HashMap<&str, u32> = HashMap::new();
        let [hyp, reference] = pair.texts().map(|text| -> Vec<u32> {
            let number = |word| {
                let next = (self.numbers.len() + others.len()) as u32;
                self.numbers.get(word).copied().unwrap_or_else(|| *others.entry(word).or_insert(next))
            };
            words_and_marks(text).map(number).collect()
        });
        for n in 1..=ORDERS {
            let (of_hyp, of_ref) = (self.counts(&hyp, n), self.counts(&reference, n));
            let both = |(gram, &count): (&&[u32], &u32)| count.min(of_ref.get(gram).copied().unwrap_or(0));
            stats[n - 1] = f64::from(of_hyp.iter().map(both).sum::<u32>());
            stats[ORDERS + n - 1] = f64::from(of_hyp.values().sum::<u32>().max(1));
        }
        stats[2 * ORDERS] = hyp.len() as f64;
        stats[2 * ORDERS + 1] = reference.len() as f64;
    }

    fn corpus(&self, sums: &[f64], values: &mut [f64]) {
        values[0] = bleu(&sums[..ORDERS], &sums[ORDERS..2 * ORDERS], sums[2 * ORDERS], sums[2 * ORDERS + 1]);
    }
}
