//! What is in a data file, counted before anything is trained on it: how much is supervised and how heavily, what is
//! cut, repeated, copied, or shared with other data. Rows are streamed; only hashes stay, and the rows to be shown.

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

/// Which rows are kept whole, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The first few.
    First(usize),
    /// Those on these lines, from 1.
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

/// Rows of which something is told, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many.
    pub count: usize,
    /// The lines of the first few, from 1, each with the line of the row that it equals, where that is the point.
    pub first: Vec<(usize, Option<usize>)>,
}

impl Finding {
    /// Lines that are kept of a finding.
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

/// The weights of the supervised tokens of one kind: each with how many tokens have it, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Weight and count.
    pub values: Vec<(f32, u64)>,
}

impl Spread {
    /// Tokens.
    pub fn count(&self) -> u64 {
        self.values.iter().map(|(_, n)| n).sum()
    }

    /// Least, mean and greatest weight; zeros of no tokens.
    pub fn range(&self) -> [f64; 3] {
        let (Some(first), Some(last)) = (self.values.first(), self.values.last()) else { return [0.0; 3] };
        let sum: f64 = self.values.iter().map(|&(w, n)| f64::from(w) * n as f64).sum();
        [first.0.into(), sum / self.count() as f64, last.0.into()]
    }

    /// Tokens in each of `bins` equal parts of `low..=high`.
    pub fn histogram(&self, low: f64, high: f64, bins: usize) -> Vec<u64> {
        let mut counts = vec![0; bins];
        for &(weight, n) in &self.values {
            let part = (f64::from(weight) - low) / (high - low) * bins as f64;
            // one weight alone has no width: everything is in the first part
            let bin = if part.is_finite() { (part.max(0.0) as usize).min(bins - 1) } else { 0 };
            counts[bin] += n;
        }
        counts
    }
}

/// What scan paths are made of, over the rows that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Tokens of the code that is looked at.
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

/// What is in a data file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Counts of rows and tokens.
    pub counts: Counts,
    /// Rows cut at `max_length`.
    pub truncated: Finding,
    /// Rows without a supervised token.
    pub unsupervised: Finding,
    /// Rows that are kept and do not end in a supervised EOS; `None` where EOS is not known.
    pub endless: Option<Finding>,
    /// Rows that are kept and have no supervised token on the path.
    pub off_path: Finding,
    /// Rows with the tokens and labels of an earlier one.
    pub duplicates: Finding,
    /// How many different rows are repeated.
    pub repeated: usize,
    /// Rows of text, for the two findings below.
    pub texts: usize,
    /// Rows whose target is their source.
    pub copies: Finding,
    /// Rows whose target occurs in what the model is given.
    pub contained: Finding,
    /// Rows whose source occurs in the other data, and rows that occur there with their target.
    pub shared: Option<[Finding; 2]>,
    /// Line and tokens of the longest row, before it is cut.
    pub longest: (usize, usize),
    /// Weights of the supervised tokens.
    pub weights: BTreeMap<Kind, Spread>,
    /// Where weights are drawn from scan paths.
    pub paths: Option<Paths>,
}

/// What a survey is made with.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The tokenizer; rows of ids need none.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Ids of the model.
    pub vocab: usize,
    /// How rows are read.
    pub reading: &'a Reading,
    /// Where weights are drawn from, unless they are the data's own.
    pub drawing: Option<&'a Drawing>,
}

/// Sources and pairs of other data, by their hashes, with the line of the first.
#[derive(Clone, Debug, Default)]
pub struct Others {
    sources: HashMap<u128, usize>,
    pairs: HashMap<u128, usize>,
}

/// What is left of a row when it has been looked at.
struct Seen {
    row: Row,
    hashes: Hashes,
    /// Whether the target is the source, and whether it occurs in what is given; `None` of rows without text.
    copied: Option<(bool, bool)>,
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

    /// Hashes the rows of other data, so that a survey can tell which rows are shared.
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

    /// Surveys a source. Time is linear in its length.
    pub fn survey(&self, source: &DataSource, rows: &Rows, others: Option<&Others>) -> Result<(Survey, Vec<Shown>)> {
        let mut tally = Tally { eos: self.tokenizer.map(Tokenizer::eos), others, ..Tally::default() };
        tally.survey.shared = others.map(|_| Default::default());
        tally.survey.endless = tally.eos.map(|_| Finding::default());
        tally.survey.paths = self.drawing.map(|_| Paths::default());
        let look = |index, row| self.look(index, row, rows);
        corpus::scan(source, &self.reader(self.reading), look, |seen| tally.take(seen))?;
        Ok(tally.finish())
    }

    /// All that takes time, on any thread.
    fn look(&self, index: usize, mut row: Row, rows: &Rows) -> Seen {
        let mut paths = Paths::default();
        if let (Some(look), Some(drawing)) = (&row.look, self.drawing) {
            let path = drawing.of(look, row.example.row, 0).path;
            paths.tokens = look.spans.len() as u64;
            for segment in &path.segments {
                paths.segments[segment.places().len() - 1] += 1;
                let counted = segment.ngram(&look.spans).and_then(|ngram| drawing.salience.priors.freq(&ngram));
                paths.uncounted += u64::from(counted.is_none());
            }
            drawing.apply(&mut row.example, look, 0);
        }
        let wanted = rows.has(index, row.example.row as usize + 1);
        let shown = wanted.then(|| Shown::new(&row, self.tokenizer, self.drawing));
        let hashes = Hashes::of(&row);
        let copied = row.words.take().map(|words| copied(&row, &words));
        Seen { row, hashes, copied, paths, shown }
    }
}

/// Whether the target is the source, and whether it occurs in what the model is given.
fn copied(row: &Row, words: &Words) -> (bool, bool) {
    let target = words.target.trim();
    // a row that was cut in two is given the first half only; else the instruction is left aside, as a short target may
    // well occur in that
    let given = match row.split {
        true => words.all.get(..words.all.len().saturating_sub(words.target.len())).unwrap_or_default(),
        false => &words.source,
    };
    (!target.is_empty() && words.source.trim() == target, !target.is_empty() && given.contains(target))
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

/// 128 bits: rows that differ will not meet.
fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(half)
}

/// A survey as it grows, row by row.
#[derive(Default)]
struct Tally<'a> {
    survey: Survey,
    shown: Vec<Shown>,
    eos: Option<u32>,
    others: Option<&'a Others>,
    /// Of each different row the line of the first and how many there are.
    rows: HashMap<u128, (usize, usize)>,
    weights: Weights,
    spread: HashMap<(Kind, u32), u64>,
}

impl Tally<'_> {
    fn take(&mut self, seen: Seen) {
        let Seen { row, hashes, copied, paths, shown } = seen;
        let (example, line) = (&row.example, row.example.row as usize + 1);
        let s = &mut self.survey;
        let kept = s.counts.count(&row, self.eos);
        s.truncated.add_if(row.cut > 0, line);
        s.unsupervised.add_if(!kept, line);
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
