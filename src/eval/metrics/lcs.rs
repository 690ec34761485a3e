//! The length of the longest common subsequence, by bits.
//!
//! H. Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004: a column of the table of n x m lengths is a
//! vector of n bits, whose zeros are the places where the length grows. O(n m / 64) additions.

use std::collections::HashMap;

/// The length of the longest common subsequence of `a` and `b`.
pub(super) fn lcs(a: &[u32], b: &[u32]) -> usize {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[prefix..], &b[prefix..]);
    let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - suffix], &b[..b.len() - suffix]);
    let (rows, columns) = if a.len() <= b.len() { (a, b) } else { (b, a) };

    // elements that only one sequence has match nothing
    let mut numbers = HashMap::new();
    for &x in rows {
        let next = numbers.len();
        numbers.entry(x).or_insert(next);
    }
    let columns: Vec<usize> = columns.iter().filter_map(|x| numbers.get(x).copied()).collect();
    let mut used = vec![false; numbers.len()];
    columns.iter().for_each(|&x| used[x] = true);
    let rows: Vec<usize> = rows.iter().map(|x| numbers[x]).filter(|&x| used[x]).collect();

    let inner = match rows.len() {
        0..=64 => strips::<1>(&rows, &columns, numbers.len(), columns.len()),
        _ => banded(&rows, &columns, numbers.len()),
    };
    prefix + inner + suffix
}

/// The length by matches near the diagonal first: if the subsequence leaves out no more elements than the band is wide,
/// no longer one leaves the band. Near copies take O(n d / 64) for d elements left out.
fn banded(rows: &[usize], columns: &[usize], symbols: usize) -> usize {
    let mut band = columns.len().abs_diff(rows.len()) + 512;
    loop {
        let length = strips::<8>(rows, columns, symbols, band);
        let left_out = rows.len() + columns.len() - 2 * length;
        if left_out <= band || band >= rows.len().max(columns.len()) {
            return length;
        }
        band = left_out.min(16 * band);
    }
}

/// The length for sequences of numbers below `symbols`, by matches of row i and column j with |i - j| <= `band` (and
/// some others), in strips of `64 W` rows: the bits of a strip stay in registers, and the next strip takes the carries
/// of its columns.
fn strips<const W: usize>(rows: &[usize], columns: &[usize], symbols: usize, band: usize) -> usize {
    let mut masks = vec![[0u64; W]; symbols];
    let mut carries = vec![false; columns.len()];
    let mut length = 0;
    for (strip, first) in rows.chunks(64 * W).zip((0usize..).step_by(64 * W)) {
        strip.iter().for_each(|&x| masks[x] = [0; W]);
        strip.iter().enumerate().for_each(|(i, &x)| masks[x][i / 64] |= 1 << (i % 64));
        let mut bits = [u64::MAX; W];
        // a column before the band hands its carry on; one after it has none yet
        let near = first.saturating_sub(band).min(columns.len())..columns.len().min(first + 64 * W + band);
        for (&x, carry) in columns[near.clone()].iter().zip(&mut carries[near]) {
            for (v, m) in bits.iter_mut().zip(&masks[x]) {
                let (sum, over) = v.overflowing_add(*v & m);
                let (sum, more) = sum.overflowing_add(u64::from(*carry));
                *v = sum | (*v & !m);
                *carry = over | more;
            }
        }
        strip.iter().for_each(|&x| masks[x] = [0; W]);
        length += bits.iter().map(|v| v.count_zeros() as usize).sum::<usize>();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the table of the textbook, across the borders of words and strips.
    #[test]
    fn the_length_is_that_of_the_table() {
        let mut state = 1u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for (most, cases) in [(20, 300), (140, 100), (1200, 6)] {
            for case in 0..cases {
                let (lengths, letters) = ([draw(most), draw(most)], 2 + draw(30));
                let [a, b] = lengths.map(|len| (0..len).map(|_| draw(letters)).collect::<Vec<_>>());
                assert_eq!(lcs(&a, &b), table(&a, &b), "case {case} of at most {most}");
            }
        }
        // near copies, and texts whose subsequence leaves the first band
        for (most, every) in [(3000, 40), (3000, 4), (3000, 2)] {
            let a: Vec<u32> = (0..most).map(|_| draw(50)).collect();
            let mut b: Vec<u32> = a.iter().copied().filter(|_| draw(every) > 0).collect();
            b.rotate_left(most as usize / 8 * draw(2) as usize);
            let edits: Vec<(usize, u32)> =
                (0..most / every).map(|_| (draw(b.len() as u32) as usize, draw(60))).collect();
            edits.into_iter().for_each(|(place, letter)| b.insert(place, letter));
            assert_eq!(lcs(&a, &b), table(&a, &b), "a copy with every {every}th element changed");
        }
        let shifted: Vec<u32> = (0..2000).map(|i| (i + 900) % 2000).collect();
        assert_eq!(lcs(&(0..2000).collect::<Vec<_>>(), &shifted), 1100);
    }

    /// The length by the textbook's table.
    fn table(a: &[u32], b: &[u32]) -> usize {
        let mut last = vec![0; b.len() + 1];
        for x in a {
            let mut row = vec![0; b.len() + 1];
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { last[j] + 1 } else { row[j].max(last[j + 1]) };
            }
            last = row;
        }
        last[b.len()]
    }
}
