//! METEOR as NLTK 3.10.4 has it (A. Lavie and A. Agarwal, "METEOR: an automatic metric for MT evaluation with high
//! levels of correlation with human judgments", WMT 2007).

use super::mean::Mean;
use super::stem::stem;
use super::text::split;
use super::wordnet::WordNet;
use super::{Family, Metric, Pair};
use std::collections::{HashMap, HashSet};

/// `meteor`: the mean over pairs of METEOR with alpha 0.9, beta 3 and gamma 0.5, over lower-cased words that white
/// space separates. Words are matched where they are equal, then where their stems are.
pub fn meteor() -> impl Family {
    let metrics = &[Metric { name: "meteor", scale: 1.0 }];
    Mean { metrics, values: |pair: &Pair, values: &mut [f64]| values[0] = score(pair, None) }
}

/// `meteor_wordnet`: as [`meteor`], and stems that are left are matched with stems that are synonyms in WordNet.
pub fn meteor_wordnet(wordnet: WordNet) -> impl Family {
    let metrics = &[Metric { name: "meteor_wordnet", scale: 1.0 }];
    Mean { metrics, values: move |pair: &Pair, values: &mut [f64]| values[0] = score(pair, Some(&wordnet)) }
}

/// A word that is not matched yet, with its place in the text.
type Word = (usize, String);

fn score(pair: &Pair, wordnet: Option<&WordNet>) -> f64 {
    let words = |text| split(text).map(str::to_lowercase).enumerate().collect::<Vec<Word>>();
    let [mut hyp, mut reference] = pair.texts().map(words);
    let (p, r) = (hyp.len() as f64, reference.len() as f64);
    let mut matches = Vec::new();
    align(&mut hyp, &mut reference, None, &mut matches);
    for words in [&mut hyp, &mut reference] {
        words.iter_mut().for_each(|(_, word)| *word = stem(word));
    }
    align(&mut hyp, &mut reference, None, &mut matches);
    if wordnet.is_some() {
        align(&mut hyp, &mut reference, wordnet, &mut matches);
    }
    if matches.is_empty() {
        return 0.0;
    }
    matches.sort_unstable();
    let breaks = matches.windows(2).filter(|pair| pair[1] != (pair[0].0 + 1, pair[0].1 + 1)).count();
    let (m, chunks) = (matches.len() as f64, (breaks + 1) as f64);
    let (precision, recall) = (m / p, m / r);
    let mean = precision * recall / (0.9 * precision + 0.1 * recall);
    (1.0 - 0.5 * (chunks / m).powi(3)) * mean
}

/// Matches words from the last of `hyp` to its first, each with the last word left in `reference` that is equal or,
/// with WordNet, a synonym. Matched words leave both lists, and their places are added to `matches`.
fn align(hyp: &mut Vec<Word>, reference: &mut Vec<Word>, wordnet: Option<&WordNet>, matches: &mut Vec<(usize, usize)>) {
    // places in `reference` of each of its words, ascending
    let mut left: HashMap<&str, usize> = HashMap::new();
    let mut places: Vec<Vec<usize>> = Vec::new();
    for (j, (_, word)) in reference.iter().enumerate() {
        let id = *left.entry(word).or_insert(places.len());
        places.resize_with(places.len().max(id + 1), Vec::new);
        places[id].push(j);
    }
    // for each word of `hyp`, the words of `reference` that match it
    let mut candidates: HashMap<&str, Vec<usize>> = HashMap::new();
    let (mut of_hyp, mut of_reference) = (HashSet::new(), HashSet::new());
    for (i, (place, word)) in hyp.iter().enumerate().rev() {
        let ids = candidates.entry(word).or_insert_with(|| {
            let synonyms = wordnet.into_iter().flat_map(|wordnet| wordnet.synonyms(word));
            synonyms.chain([word.as_str()]).filter_map(|word| left.get(word).copied()).collect()
        });
        let Some(&id) = ids.iter().max_by_key(|&&id| places[id].last()) else { continue };
        let Some(j) = places[id].pop() else { continue };
        matches.push((*place, reference[j].0));
        of_hyp.insert(i);
        of_reference.insert(j);
    }
    for (words, matched) in [(hyp, of_hyp), (reference, of_reference)] {
        let mut place = 0..;
        words.retain(|_| !matched.contains(&place.next().unwrap_or(0)));
    }
}
