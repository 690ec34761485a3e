//! Matches of n-grams between two sequences, and the numbers that stand for their words.

use std::collections::HashMap;

/// Numbers for words: equal words have equal numbers.
#[derive(Default)]
pub struct Ids<'a>(HashMap<&'a str, u32>);

impl<'a> Ids<'a> {
    /// The numbers of `words`; a new word gets the next free number.
    pub fn of(&mut self, words: impl IntoIterator<Item = &'a str>) -> Vec<u32> {
        let number = |word| {
            let next = self.0.len() as u32;
            *self.0.entry(word).or_insert(next)
        };
        words.into_iter().map(number).collect()
    }
}

/// The number of n-grams of order `n` in a sequence of `len`.
pub fn total(len: usize, n: usize) -> usize {
    (len + 1).saturating_sub(n)
}

/// For each order n from 1 to `N`: the sum over distinct n-grams of the smaller of their two counts in `a` and `b`.
///
/// Each order sorts the places whose (n-1)-gram both sequences have: O(N m log m) for m elements, in any text.
pub fn matches<const N: usize>(a: &[u32], b: &[u32]) -> [usize; N] {
    let at = |place: usize| if place < a.len() { a.get(place) } else { b.get(place - a.len()) };
    // places in `a` followed by `b`, each with the rank of its (n-1)-gram among those that both have
    let mut shared: Vec<(u32, usize)> = (0..a.len() + b.len()).map(|place| (0, place)).collect();
    let mut counts = [0; N];
    for (n, count) in counts.iter_mut().enumerate() {
        // the last element of an n-gram lies in the sequence of its first
        let last = |place: usize| (place >= a.len() || place + n < a.len()).then(|| at(place + n)).flatten();
        let mut grams: Vec<(u64, usize)> = shared
            .iter()
            .filter_map(|&(rank, place)| last(place).map(|&id| (u64::from(rank) << 32 | u64::from(id), place)))
            .collect();
        grams.sort_unstable();
        shared.clear();
        for (rank, same) in grams.chunk_by(|x, y| x.0 == y.0).enumerate() {
            let in_a = same.partition_point(|&(_, place)| place < a.len());
            let both = in_a.min(same.len() - in_a);
            *count += both;
            if both > 0 {
                shared.extend(same.iter().map(|&(_, place)| (rank as u32, place)));
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against counts of each n-gram in a map.
    #[test]
    fn matches_are_clipped_counts() {
        let mut state = 7u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for case in 0..300 {
            let (lengths, letters) = ([draw(12), draw(12)], 1 + draw(4));
            let [a, b] = lengths.map(|len| (0..len).map(|_| draw(letters)).collect::<Vec<_>>());
            let count = |text: &[u32], n: usize| {
                let mut map = HashMap::new();
                text.windows(n).for_each(|gram| *map.entry(gram.to_vec()).or_insert(0usize) += 1);
                map
            };
            let expected: [usize; 4] = [1, 2, 3, 4].map(|n| {
                let other = count(&b, n);
                count(&a, n).iter().map(|(gram, c)| other.get(gram).map_or(0, |o| *c.min(o))).sum()
            });
            assert_eq!(matches::<4>(&a, &b), expected, "case {case}: {a:?} {b:?}");
        }
        assert_eq!([total(0, 1), total(3, 3), total(2, 4)], [0, 1, 0]);
    }
}
