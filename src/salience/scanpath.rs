//! Pseudo scan paths: which tokens of a piece of code a programmer might look at, and in which sequences (EyeMulator,
//! arXiv 2508.16771, section 2.3 and Algorithm 1; [`Mode`] covers the points that the paper leaves open or that its
//! published data do differently).
//!
//! A path is a pure function of (labels, lines, priors, seed, example, epoch). It does not depend on threads or on the
//! order of examples, and takes time linear in the number of tokens.

use super::priors::Priors;
use super::{Label, Span};
use crate::choices::choices;
use crate::random::{Purpose, Stream, philox};

choices! {
    /// How many tokens of each label lie on the path.
    Mode {
        /// The paper: one density rho ~ Beta(sum of alpha, sum of beta) for the example, floor(rho n) tokens on the
        /// path, shared out in proportion to n_s E\[theta_s\] by largest remainder.
        Paper = "paper",
        /// The published data: a density rho_s ~ Beta(alpha_s, beta_s) for each label, floor(rho_s n_s) of its tokens.
        /// Short methods get thinner paths, because every label is rounded down.
        Artifact = "artifact",
    }
}

/// How paths are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// How many tokens of each label lie on the path.
    pub mode: Mode,
    /// The largest number of lines that an n-gram may span (its last line minus its first). The paper's L; 4 is the
    /// value that reproduces the published data.
    pub max_lines: u32,
    /// Whether every epoch draws a new path.
    pub dynamic: bool,
}

impl Default for PathSettings {
    fn default() -> PathSettings {
        PathSettings { mode: Mode::Paper, max_lines: 4, dynamic: false }
    }
}

/// Everything that a path's random numbers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Seed of the run.
    pub seed: u64,
    /// Identity of the example: its row, or a hash of its content.
    pub example: u64,
    /// Epoch, from 0. It has no effect unless paths are dynamic.
    pub epoch: u32,
}

/// One to three consecutively fixated tokens, by their indices in the list of spans, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    places: [usize; 3],
    length: usize,
}

impl Segment {
    fn new(places: &[usize]) -> Segment {
        let mut segment = Segment { places: [0; 3], length: places.len() };
        segment.places[..places.len()].copy_from_slice(places);
        segment
    }

    /// The tokens' indices.
    pub fn places(&self) -> &[usize] {
        &self.places[..self.length]
    }

    /// The labels of the tokens; `None` if one of them has none.
    pub fn ngram(&self, spans: &[Span]) -> Option<Vec<Label>> {
        self.places().iter().map(|&place| spans.get(place)?.label).collect()
    }
}

/// A pseudo scan path: its segments in reading order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPath {
    /// The segments, disjoint and ascending.
    pub segments: Vec<Segment>,
}

impl ScanPath {
    /// Draws a path through the tokens of a piece of code.
    pub fn draw(spans: &[Span], priors: &Priors, settings: &PathSettings, key: Key) -> ScanPath {
        let key = Key { epoch: if settings.dynamic { key.epoch } else { 0 }, ..key };
        let mask = mask(spans, priors, settings.mode, key);
        ScanPath { segments: segment(spans, &mask, settings.max_lines, |ngram| priors.valid(ngram)) }
    }

    /// For each of `n` tokens the index of its segment; `None` if it is off the path.
    pub fn by_token(&self, n: usize) -> Vec<Option<usize>> {
        let mut of = vec![None; n];
        for (index, segment) in self.segments.iter().enumerate() {
            for &place in segment.places() {
                if let Some(token) = of.get_mut(place) {
                    *token = Some(index);
                }
            }
        }
        of
    }
}

/// Selects the tokens on the path: the mode gives the number of tokens of each label, and all tokens of a label have
/// equal chances. Tokens without a label, and tokens whose label has no data in the priors, are never selected.
pub fn mask(spans: &[Span], priors: &Priors, mode: Mode, key: Key) -> Vec<bool> {
    // One key per path, so that no two paths share a stream; each token then has its own random number.
    let [low, high, ..] =
        philox(halves(key.seed), [key.example as u32, (key.example >> 32) as u32, key.epoch, Purpose::Path as u32]);
    let mut drawn: [Vec<(u64, usize)>; 20] = Default::default();
    for (place, span) in spans.iter().enumerate() {
        if let Some(label) = span.label {
            // The last word separates these streams from the streams below, whose last word is 0.
            let [x, y, ..] = philox([low, high], [place as u32, (place as u64 >> 32) as u32, Purpose::Path as u32, 1]);
            drawn[label as usize - 1].push((u64::from(x) << 32 | u64::from(y), place));
        }
    }

    let seed = u64::from(high) << 32 | u64::from(low);
    let stream = |index: u8| Stream::new(seed, Purpose::Path, index.into());
    let tokens = Label::ALL.map(|label| drawn[label as usize - 1].len());
    let share = |rho: f64, n: usize| (rho * n as f64).floor() as usize;
    let quota = match mode {
        Mode::Paper => {
            let rho = priors.aggregate().sample(&mut stream(0));
            quotas(share(rho, spans.len()), tokens, Label::ALL.map(|label| priors.expectation(label).unwrap_or(0.0)))
        }
        Mode::Artifact => Label::ALL.map(|label| match priors.beta(label) {
            Some(beta) => share(beta.sample(&mut stream(label.id())), tokens[label as usize - 1]),
            None => 0,
        }),
    };

    let mut mask = vec![false; spans.len()];
    for (candidates, quota) in drawn.iter_mut().zip(quota) {
        if quota < candidates.len() {
            candidates.select_nth_unstable(quota);
        }
        for &(_, place) in candidates.iter().take(quota) {
            mask[place] = true;
        }
    }
    mask
}

fn halves(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// Distributes `total` among the labels in proportion to `tokens * rate`, by largest remainder (of equal remainders,
/// the smaller id first), and gives no label more than it has tokens. The excess of a full label goes to the others.
fn quotas(total: usize, tokens: [usize; 20], rate: [f64; 20]) -> [usize; 20] {
    let mut quota = [0; 20];
    let mut open: Vec<usize> = (0..20).filter(|&s| tokens[s] > 0 && rate[s] > 0.0).collect();
    let mut left = total.min(open.iter().map(|&s| tokens[s]).sum());
    loop {
        let sum: f64 = open.iter().map(|&s| tokens[s] as f64 * rate[s]).sum();
        let due = |s: usize| left as f64 * (tokens[s] as f64 * rate[s] / sum);
        let (full, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|&&s| due(s) >= tokens[s] as f64);
        if full.is_empty() {
            // Every share is below its number of tokens, so its floor plus one still fits.
            let mut by_remainder: Vec<(f64, usize)> = rest.iter().map(|&s| (due(s).fract(), s)).collect();
            by_remainder.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            rest.iter().for_each(|&s| quota[s] = due(s) as usize);
            let short = left.saturating_sub(rest.iter().map(|&s| quota[s]).sum());
            by_remainder.iter().take(short).for_each(|&(_, s)| quota[s] += 1);
            return quota;
        }
        for s in full {
            quota[s] = tokens[s];
            // Rounding can make several shares together exceed the rest by a token.
            left = left.saturating_sub(tokens[s]);
        }
        open = rest;
    }
}

/// Cuts the tokens of the mask into segments, from left to right: a trigram if the next three tokens form a valid
/// trigram that spans at most `max_lines` lines, otherwise a bigram by the same rule, otherwise a single token.
pub fn segment(spans: &[Span], mask: &[bool], max_lines: u32, valid: impl Fn(&[Label]) -> bool) -> Vec<Segment> {
    let on: Vec<usize> = (0..spans.len()).filter(|&place| mask.get(place) == Some(&true)).collect();
    let mut segments = Vec::new();
    let mut rest = &on[..];
    while !rest.is_empty() {
        let fits = |places: &[usize]| {
            let mut ngram = [Label::Argument; 3];
            for (slot, &place) in ngram.iter_mut().zip(places) {
                let Some(label) = spans[place].label else { return false };
                *slot = label;
            }
            let reach = spans[places[places.len() - 1]].line.saturating_sub(spans[places[0]].line);
            reach <= max_lines && valid(&ngram[..places.len()])
        };
        let length = (2..=rest.len().min(3)).rev().find(|&length| fits(&rest[..length])).unwrap_or(1);
        segments.push(Segment::new(&rest[..length]));
        rest = &rest[length..];
    }
    segments
}

/// n-grams that are in the published list of observed n-grams but never occur in the published paths.
const LEFT_OUT: [&[Label]; 3] = [
    &[Label::ConditionalBlock, Label::ExternalClass],
    &[Label::ConditionalBlock, Label::ConditionalBlock, Label::ExternalClass],
    &[Label::ConditionalBlock, Label::ExternalClass, Label::VariableDeclaration],
];

/// A path in the form of the published data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writing {
    /// The segments by their number in `order_sequence`, which counts from 1.
    pub segments: Vec<Segment>,
    /// For each token, its entry in `ngrams`: the segment that the published data write to it, and the index of the
    /// label within that segment.
    pub written: Vec<Option<(usize, usize)>>,
}

/// Writes a path in the form of the published data, to compare with them and for the bug-compatible arm; nothing else
/// should use it. It uses L = 4, leaves out three n-grams, and writes each n-gram to adjacent tokens of the text (`M`,
/// `M + 1`, `M + 2`) instead of the tokens on the path. Tokens on the path that are missed because of this become
/// segments of their own, after all others.
pub fn compat(spans: &[Span], mask: &[bool], priors: &Priors) -> Writing {
    let mut segments = segment(spans, mask, 4, |ngram| priors.valid(ngram) && !LEFT_OUT.contains(&ngram));
    let mut written = vec![None; spans.len()];
    for (number, segment) in segments.iter().enumerate() {
        let first = segment.places()[0];
        for which in 0..segment.length {
            written[first + which] = Some((number, which));
        }
    }
    for (place, (token, on)) in written.iter_mut().zip(mask).enumerate() {
        if *on && token.is_none() {
            *token = Some((segments.len(), 0));
            segments.push(Segment::new(&[place]));
        }
    }
    Writing { segments, written }
}

#[cfg(test)]
mod tests;
