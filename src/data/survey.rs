//! Statistics of a data file before training: how much is supervised and with which weights, and which rows are
//! truncated, repeated, copied, or shared with other data. Rows are streamed; only hashes and the rows to display are
//! kept.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use super::corpus::{self, Counts, DataSource, Reading};
use super::counts::{Weights, learns_end};
use super::reader::RowReader;
use super::row::{Row, Words};
use super::shown::{Kind, Shown};
use super::tokenizer::Tokenizer;
use super::weights::drawn::Drawing;
use super::{Example, IGNORE};
use crate::error::Result;

/// The rows to keep for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The first rows, this many.
    First(usize),
    /// The rows on these lines, from 1.
    Lines(Vec<RangeInclusive<usize>>),
}

impl Rows {
    fn has(&self, index: usize, line: usize) -> bool {
        match self {
            Rows::First(n) => index < *n,
            Rows::Lines(ranges) => ranges.iter().any(|range| range.contains(&line)),
        }
    }
}

/// The rows that a finding concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Number of rows.
    pub count: usize,
    /// Lines of the first rows, from 1, each with the line of the row that it equals, if the finding is about equal
    /// rows.
    pub first: Vec<(usize, Option<usize>)>,
}

impl Finding {
    /// Number of lines that a finding keeps.
    const SHOWN: usize = 10;

    fn add(&mut self, line: usize, like: Option<usize>) {
        self.count += 1;
        if self.first.len() < Finding::SHOWN {
            self.first.push((line, like));
        }
    }

    fn add_if(&mut self, holds: bool, line: usize) {
        if holds {
            self.add(line, None);
        }
    }
}

/// The weights of the supervised tokens of one kind, ascending, each with its number of tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Weight and count.
    pub values: Vec<(f32, u64)>,
}

impl Spread {
    /// Number of tokens.
    pub fn count(&self) -> u64 {
        self.values.iter().map(|(_, n)| n).sum()
    }

    /// Minimum, mean and maximum weight; zeros without tokens.
    pub fn range(&self) -> [f64; 3] {
        let (Some(first), Some(last)) = (self.values.first(), self.values.last()) else { return [0.0; 3] };
        let sum: f64 = self.values.iter().map(|&(w, n)| f64::from(w) * n as f64).sum();
        [first.0.into(), sum / self.count() as f64, last.0.into()]
    }

    /// Tokens in each of `bins` equal intervals of `low..=high`.
    pub fn histogram(&self, low: f64, high: f64, bins: usize) -> Vec<u64> {
        let mut counts = vec![0; bins];
        for &(weight, n) in &self.values {
            let part = (f64::from(weight) - low) / (high - low) * bins as f64;
            // a single distinct weight has no width: everything is in the first interval
            let bin = if part.is_finite() { (part.max(0.0) as usize).min(bins - 1) } else { 0 };
            counts[bin] += n;
        }
        counts
    }
}

/// Statistics of scan paths over the kept rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Tokens of the code.
    pub tokens: u64,
    /// Segments of one, two and three tokens.
    pub segments: [u64; 3],
    /// Segments whose n-gram has no count in the priors.
    pub uncounted: u64,
}

impl Paths {
    /// Tokens on a path.
    pub fn on_path(&self) -> u64 {
        self.segments.iter().zip(1..).map(|(n, length)| n * length).sum()
    }
}

/// Statistics of a data file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Counts of rows and tokens.
    pub counts: Counts,
    /// Rows truncated at `max_length`.
    pub truncated: Finding,
    /// Rows without a supervised token.
    pub unsupervised: Finding,
    /// Kept rows that do not end in a supervised EOS; `None` if EOS is unknown.
    pub endless: Option<Finding>,
    /// Kept rows that learn EOS twice in a row, and kept rows with EOS inside a text; `None` if EOS is unknown.
    pub misplaced: Option<[Finding; 2]>,
    /// Kept rows without a supervised token on the path.
    pub off_path: Finding,
    /// Rows whose code does not parse, if weights are drawn from it.
    pub unparsed: Finding,
    /// Rows with the tokens and labels of an earlier row.
    pub duplicates: Finding,
    /// Number of distinct rows that are repeated.
    pub repeated: usize,
    /// Number of text rows, for the two findings below.
    pub texts: usize,
    /// Rows whose target is their source.
    pub copies: Finding,
    /// Rows whose target occurs in the model's input.
    pub contained: Finding,
    /// Rows whose source occurs in the other data, and rows that occur there with the same target.
    pub shared: Option<[Finding; 2]>,
    /// Line and token count of the longest row, before truncation.
    pub longest: (usize, usize),
    /// Weights of the supervised tokens.
    pub weights: BTreeMap<Kind, Spread>,
    /// Statistics of scan paths, if weights are drawn from them.
    pub paths: Option<Paths>,
}

/// Settings of a survey.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The tokenizer; not needed for rows of ids.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Vocabulary size of the model.
    pub vocab: usize,
    /// How rows are read.
    pub reading: &'a Reading,
    /// The source of drawn weights, unless the data bring their own.
    pub drawing: Option<&'a Drawing>,
    /// The rows that are trained on with the weights of an arm, in the order of the file, where these are other ones.
    pub armed: Option<&'a [Example]>,
}

/// Hashes of the sources, and of the pairs, of other data, with the line of each one's first row.
#[derive(Clone, Debug, Default)]
pub struct Others {
    sources: HashMap<u128, usize>,
    pairs: HashMap<u128, usize>,
}

/// A row whose source occurs in other data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Its line, from 0.
    pub row: u32,
    /// The line there, from 1.
    pub like: usize,
    /// Whether its target is the same, too.
    pub pair: bool,
}

/// The result of examining a row.
struct Seen {
    row: Row,
    hashes: Hashes,
    /// Whether the target equals the source, and whether it occurs in the model's input; `None` for rows without text.
    copied: Option<(bool, bool)>,
    /// Whether EOS is learned twice in a row, and whether it is inside a text.
    misplaced: [bool; 2],
    paths: Paths,
    shown: Option<Shown>,
}

struct Hashes {
    example: u128,
    source: u128,
    pair: u128,
}

impl Ask<'_> {
    fn reader<'a>(&'a self, reading: &'a Reading) -> RowReader<'a> {
        RowReader { tokenizer: self.tokenizer, vocab: self.vocab, reading, keep_texts: true, open: false }
    }

    /// Hashes the rows of other data, so that a survey can find shared rows.
    pub fn others(&self, source: &DataSource) -> Result<Others> {
        let reading = Reading { paths: None, ..self.reading.clone() };
        let mut others = Others::default();
        let hash = |_, row: Row| (row.example.row as usize + 1, Hashes::of(&row));
        corpus::scan(source, &self.reader(&reading), hash, |(line, hashes)| {
            others.sources.entry(hashes.source).or_insert(line);
            others.pairs.entry(hashes.pair).or_insert(line);
        })?;
        Ok(others)
    }

    /// The rows of a source whose source text occurs in other data, in order.
    pub fn leaks(&self, source: &DataSource, others: &Others) -> Result<Vec<Leak>> {
        let reading = Reading { paths: None, ..self.reading.clone() };
        let mut leaks = Vec::new();
        let hash = |_, row: Row| (row.example.row, Hashes::of(&row));
        corpus::scan(source, &self.reader(&reading), hash, |(row, hashes)| {
            let pair = others.pairs.contains_key(&hashes.pair);
            leaks.extend(others.sources.get(&hashes.source).map(|&like| Leak { row, like, pair }));
        })?;
        Ok(leaks)
    }

    /// Surveys a source. Time is linear in its length.
    pub fn survey(&self, source: &DataSource, rows: &Rows, others: Option<&Others>) -> Result<(Survey, Vec<Shown>)> {
        let mut tally = Tally { eos: self.tokenizer.map(Tokenizer::eos), others, ..Tally::default() };
        tally.survey.shared = others.map(|_| Default::default());
        tally.survey.endless = tally.eos.map(|_| Finding::default());
        tally.survey.misplaced = tally.eos.map(|_| Default::default());
        tally.survey.paths = self.drawing.map(|_| Paths::default());
        let look = |index, row| self.look(index, row, rows);
        corpus::scan(source, &self.reader(self.reading), look, |seen| tally.take(seen))?;
        Ok(tally.finish())
    }

    /// The expensive part, on any thread.
    fn look(&self, index: usize, mut row: Row, rows: &Rows) -> Seen {
        let mut paths = Paths::default();
        if let (Some(look), Some(drawing)) = (&row.look, self.drawing) {
            let path = drawing.of(look, row.example.row, 0).path;
            paths.tokens = look.spans.len() as u64;
            for segment in &path.segments {
                paths.segments[segment.places().len() - 1] += 1;
                let counted = segment.ngram(&look.spans).and_then(|ngram| drawing.salience.counted().freq(&ngram));
                paths.uncounted += u64::from(counted.is_none());
            }
            drawing.apply(&mut row.example, look, 0);
        }
        let armed = self.armed.unwrap_or_default();
        if let Ok(place) = armed.binary_search_by_key(&row.example.row, |example| example.row) {
            row.example = armed[place].clone();
        }
        let wanted = rows.has(index, row.example.row as usize + 1);
        let shown = wanted.then(|| Shown::new(&row, self.tokenizer, self.drawing));
        let hashes = Hashes::of(&row);
        let misplaced = self.tokenizer.map_or([false; 2], |tokenizer| misplaced(&row, tokenizer.eos()));
        let copied = row.words.take().map(|words| copied(&row, &words));
        Seen { row, hashes, copied, misplaced, paths, shown }
    }
}

/// Whether the target equals the source, and whether it occurs in the model's input.
fn copied(row: &Row, words: &Words) -> (bool, bool) {
    let target = words.target.trim();
    // a row that was cut in two has only the first half as input; for other rows the instruction is ignored, because a
    // short target may well occur in it
    let given = match row.before.is_some() {
        true => words.all.get(..words.all.len().saturating_sub(words.target.len())).unwrap_or_default(),
        false => &words.source,
    };
    (!target.is_empty() && words.source.trim() == target, !target.is_empty() && given.contains(target))
}

/// Whether a row learns EOS twice in a row, and whether EOS is inside its text elsewhere. In a conversation, whose
/// template may well write EOS after each answer, the second is an EOS with learned text behind it.
fn misplaced(row: &Row, eos: u32) -> [bool; 2] {
    let Example { ids, labels, .. } = &row.example;
    let pair = |t: usize| labels[t] == eos && labels.get(t + 1) == Some(&eos);
    let twice = (0..ids.len()).any(pair);
    let Some(words) = &row.words else { return [twice, false] };
    // a row that was cut has fewer ids than places
    let places = &words.places[..ids.len().min(words.places.len())];
    let ended = words.places.last().is_some_and(|place| place.is_empty());
    let written = |t: usize| words.all.get(places[t].clone()).is_some_and(|text| !text.trim().is_empty());
    let goes_on = |t: usize| (t + 1..places.len()).take_while(|&u| labels[u] != IGNORE).any(written);
    let inside = |t: usize| match ended {
        true => ids[t] == eos && !places[t].is_empty(),
        false => labels[t] == eos && goes_on(t),
    };
    [twice, (0..places.len()).any(|t| inside(t) && !pair(t))]
}

impl Hashes {
    fn of(row: &Row) -> Hashes {
        let Example { ids, labels, .. } = &row.example;
        let bytes = |list: &[u32]| list.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let example = hash(&[&bytes(ids), &bytes(labels)]);
        match &row.words {
            Some(words) => {
                let (source, target) = (words.source.as_bytes(), words.target.as_bytes());
                Hashes { example, source: hash(&[source]), pair: hash(&[source, target]) }
            }
            None => {
                let given: Vec<u32> =
                    ids.iter().zip(labels).filter(|(_, label)| **label == IGNORE).map(|(&id, _)| id).collect();
                Hashes { example, source: hash(&[b"ids", &bytes(&given)]), pair: example }
            }
        }
    }
}

/// 128 bits: different rows do not collide.
fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(half)
}

/// A survey in progress.
#[derive(Default)]
struct Tally<'a> {
    survey: Survey,
    shown: Vec<Shown>,
    eos: Option<u32>,
    others: Option<&'a Others>,
    /// For each distinct row, the line of its first occurrence and its count.
    rows: HashMap<u128, (usize, usize)>,
    weights: Weights,
    spread: HashMap<(Kind, u32), u64>,
}

impl Tally<'_> {
    fn take(&mut self, seen: Seen) {
        let Seen { row, hashes, copied, misplaced, paths, shown } = seen;
        let (example, line) = (&row.example, row.example.row as usize + 1);
        let s = &mut self.survey;
        let kept = s.counts.count(&row, self.eos);
        s.truncated.add_if(row.cut > 0, line);
        s.unsupervised.add_if(!kept, line);
        s.unparsed.add_if(row.parsed.is_some_and(|parsed| parsed.errors > 0), line);
        let length = example.ids.len() + row.cut;
        if length > s.longest.1 {
            s.longest = (line, length);
        }
        let (first, times) = self.rows.entry(hashes.example).or_insert((line, 0));
        *times += 1;
        if *times > 1 {
            s.duplicates.add(line, Some(*first));
            s.repeated += usize::from(*times == 2);
        }
        if let Some((copies, contained)) = copied {
            s.texts += 1;
            s.copies.add_if(copies, line);
            s.contained.add_if(contained, line);
        }
        if let (Some(others), Some([sources, pairs])) = (self.others, &mut s.shared) {
            for (finding, there) in
                [(sources, others.sources.get(&hashes.source)), (pairs, others.pairs.get(&hashes.pair))]
            {
                there.into_iter().for_each(|&there| finding.add(line, Some(there)));
            }
        }
        if kept {
            if let Some(endless) = &mut s.endless {
                endless.add_if(!learns_end(example, self.eos), line);
            }
            let findings = s.misplaced.iter_mut().flatten();
            findings.zip(misplaced).for_each(|(finding, holds)| finding.add_if(holds, line));
            s.off_path.add_if(!example.supervised_at().any(|t| example.path[t]), line);
            if let Some(all) = &mut s.paths {
                all.add(&paths);
            }
            self.weights.add(example);
            for t in example.supervised_at() {
                *self.spread.entry((Kind::of(&row, t, self.eos), example.weights[t].to_bits())).or_default() += 1;
            }
        }
        self.shown.extend(shown);
    }

    fn finish(mut self) -> (Survey, Vec<Shown>) {
        self.survey.counts.take(&self.weights);
        for ((kind, bits), n) in self.spread {
            self.survey.weights.entry(kind).or_default().values.push((f32::from_bits(bits), n));
        }
        self.survey.weights.values_mut().for_each(|spread| spread.values.sort_by(|a, b| a.0.total_cmp(&b.0)));
        (self.survey, self.shown)
    }
}

impl Paths {
    fn add(&mut self, other: &Paths) {
        self.tokens += other.tokens;
        self.segments.iter_mut().zip(other.segments).for_each(|(sum, n)| *sum += n);
        self.uncounted += other.uncounted;
    }
}

#[cfg(test)]
mod tests;
