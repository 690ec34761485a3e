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

    let inner = if rows.len() <= 64 {
        strips::<1>(&rows, &columns, numbers.len())
    } else {
        strips::<8>(&rows, &columns, numbers.len())
    };
    prefix + inner + suffix
}

/// The length for sequences of numbers below `symbols`, in strips of `64 W` rows: the bits of a strip stay in
/// registers, and the carry of each column goes on to the next strip.
fn strips<const W: usize>(rows: &[usize], columns: &[usize], symbols: usize) -> usize {
    let mut masks = vec![[0u64; W]; symbols];
    let mut carries = vec![false; columns.len()];
    let mut length = 0;
    for strip in rows.chunks(64 * W) {
        strip.iter().for_each(|&x| masks[x] = [0; W]);
        strip.iter().enumerate().for_each(|(i, &x)| masks[x][i / 64] |= 1 << (i % 64));
        let mut bits = [u64::MAX; W];
        for (&x, carry) in columns.iter().zip(&mut carries) {
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
                let mut last = vec![0; b.len() + 1];
                for x in &a {
                    let mut row = vec![0; b.len() + 1];
                    for (j, y) in b.iter().enumerate() {
                        row[j + 1] = if x == y { last[j] + 1 } else { row[j].max(last[j + 1]) };
                    }
                    last = row;
                }
                assert_eq!(lcs(&a, &b), last[b.len()], "case {case} of at most {most}");
            }
        }
    }
}
