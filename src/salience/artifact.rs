//! The weight that the published code of EyeMulator (arXiv 2508.16771) gives a row, with its mistakes, for the arm
//! `artifact`. Nothing else uses it.
//!
//! The code weighs no token of what is learned. It weighs each token of the source, takes the maximum, and multiplies
//! the loss of the whole target by it:
//!
//! * a token weighs 1 off the path and 3 + rarity + attention on it;
//! * rarity is 1 / ln(count + 2) of an n-gram, looked up by the number in the data. The table of n-grams was numbered
//!   anew after the data had been made: it begins with 25 words instead of 20 labels, so that most numbers mean the
//!   n-gram five places before. An n-gram without a count has no rarity;
//! * attention is the share of fixated tokens of a label. The label's id is looked up in the same table, so it finds
//!   one of the 25 words: a parameter gets the attention of loops, most labels get none.

use std::sync::LazyLock;

use super::priors::Priors;
use super::scanpath::{ScanPath, compat};
use super::{Label, Span};

/// What the published data record of one token of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whether it lies on the path.
    pub masked: bool,
    /// The number of its n-gram.
    pub ngram: u32,
    /// The id of its label.
    pub label: u32,
}

impl Recorded {
    /// As three numbers.
    pub fn numbers(self) -> [u32; 3] {
        [self.masked.into(), self.ngram, self.label]
    }

    /// The reverse of [`Recorded::numbers`].
    pub fn of_numbers(numbers: &[u32]) -> Option<Recorded> {
        let &[masked, ngram, label] = numbers else { return None };
        Some(Recorded { masked: masked != 0, ngram, label })
    }
}

/// The numbers that the published data have for n-grams.
#[derive(serde::Deserialize)]
struct Numbers {
    /// Label id by number.
    unigrams: std::collections::BTreeMap<u32, u8>,
    /// Number, then the ids of two or three labels; ascending.
    ngrams: Vec<Vec<u32>>,
}

static NUMBERS: LazyLock<Numbers> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../assets/artifact_ngrams.json")).expect("the file belongs to the program")
});

/// What a mistaken table has at numbers 1 to 25: words, of which these are labels.
const WORDS: [(u32, Label); 10] = [
    (3, Label::Parameter),
    (7, Label::Variable),
    (8, Label::Operator),
    (14, Label::Type),
    (16, Label::Loop),
    (18, Label::Literal),
    (21, Label::Return),
    (23, Label::Argument),
    (24, Label::Assignment),
    (25, Label::Operation),
];
/// The number of its last word, `comment`.
const COMMENT: u32 = 2602;
/// By how many places its n-grams were moved.
const MOVED: u32 = 5;

impl Numbers {
    fn of(&self, ngram: &[Label]) -> Option<u32> {
        if let [label] = ngram {
            return self.unigrams.iter().find(|(_, id)| **id == label.id()).map(|(number, _)| *number);
        }
        let ids = || ngram.iter().map(|label| u32::from(label.id()));
        self.ngrams.iter().find(|entry| entry[1..].iter().copied().eq(ids())).map(|entry| entry[0])
    }

    fn ngram(&self, number: u32) -> Option<Vec<Label>> {
        let place = self.ngrams.binary_search_by_key(&number, |entry| entry[0]).ok()?;
        self.ngrams[place][1..].iter().map(|&id| Label::from_id(id as u8)).collect()
    }
}

/// The count that the code finds for a number.
fn count(number: u32, priors: &Priors) -> u64 {
    let word = WORDS.iter().find(|(at, _)| *at == number).map(|(_, label)| *label);
    let word = word.or((number == COMMENT).then_some(Label::Comment));
    if let Some(label) = word {
        return priors.counts(label).mono;
    }
    // keys of the counts are sorted, those of the table are not
    let ngram = number.checked_sub(MOVED).and_then(|moved| NUMBERS.ngram(moved)).filter(|ngram| ngram.is_sorted());
    ngram.and_then(|ngram| priors.freq(&ngram)).unwrap_or(0)
}

/// The attention that the code finds for a label id.
fn attention(label: u32, priors: &Priors) -> f64 {
    let word = WORDS.iter().find(|(at, _)| *at == label);
    let counts = word.map(|(_, label)| priors.counts(*label)).filter(|counts| counts.ntok > 0);
    counts.map_or(0.0, |counts| counts.c1 as f64 / counts.ntok as f64)
}

/// The factor on the loss of a whole row; 1 for a row without tokens.
pub fn scalar(tokens: impl IntoIterator<Item = Recorded>, priors: &Priors) -> f64 {
    let weight = |token: Recorded| {
        if !token.masked {
            return 1.0;
        }
        let rarity = match count(token.ngram, priors) {
            0 => 0.0,
            count => 1.0 / (count as f64 + 2.0).ln(),
        };
        3.0 + rarity + attention(token.label, priors)
    };
    tokens.into_iter().map(weight).reduce(f64::max).unwrap_or(1.0)
}

/// A path through code as the published data would record it.
pub fn written(spans: &[Span], path: &ScanPath, priors: &Priors) -> Vec<Recorded> {
    let mask: Vec<bool> = path.by_token(spans.len()).iter().map(Option::is_some).collect();
    let writing = compat(spans, &mask, priors);
    let numbers: Vec<u32> = writing
        .segments
        .iter()
        .map(|segment| segment.ngram(spans).and_then(|ngram| NUMBERS.of(&ngram)).unwrap_or(0))
        .collect();
    let token = |((span, &masked), written): ((&Span, &bool), &Option<(usize, usize)>)| Recorded {
        masked,
        ngram: written.map_or(0, |(segment, _)| numbers[segment]),
        label: span.label.map_or(0, |label| label.id().into()),
    };
    spans.iter().zip(&mask).zip(&writing.written).map(token).collect()
}
