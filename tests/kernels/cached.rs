//! Attention of new tokens to a cache: head widths, grouped heads, sequences of one token and of many.

use super::{Bound, Lab, Output};
use crate::compare;
use eyekern::backend::{Backend, Heads, Tokens};

/// One new token for each sequence of these lengths; the sequences lie in the cache in reverse order, a row apart, the
/// rows that no one may see are NaN.
fn cached<B: Backend>(
    lab: &mut Lab<B>, (q, kv, dim): (usize, usize, usize), lengths: &[usize], size: f64,
) -> Vec<Output> {
    let kept = 2 * kv * dim;
    let n = lengths.len();
    let s = Heads { tokens: n, q, kv, dim, scale: 1.0 / (dim as f64).sqrt() };
    let mut at = vec![0u32; n];
    let mut rows = Vec::new();
    for (i, &length) in lengths.iter().enumerate().rev() {
        rows.extend(lab.values((length - 1) * kept, size));
        at[i] = (rows.len() / kept) as u32;
        rows.extend(vec![f64::NAN; 2 * kept]);
    }
    let pos: Vec<u32> = lengths.iter().map(|&length| length as u32 - 1).collect();
    let tokens = Tokens {
        count: n,
        ids: lab.ids_of(&vec![0; n]),
        pos: lab.ids_of(&pos),
        seg_start: lab.ids_of(&vec![0; n]),
        example: lab.ids_of(&vec![0; n]),
    };
    let (at, mut cache, qkv) = (lab.ids_of(&at), lab.float_of(&rows), lab.float(n * s.width(), size));
    let mut y = lab.poison(n * q * dim);
    lab.b.write_kv_cache(s, &at, &qkv, &mut cache).expect("write_kv_cache");
    lab.b.attention_cached(s, &tokens, &at, &qkv, &cache, &mut y).expect("attention_cached");
    // what was kept, the rows beside it aside
    let kept = lab.read(&cache, rows.len());
    let kept = kept.into_iter().map(|x| if x.is_nan() { 0.0 } else { x }).collect();
    vec![("cache", Bound::Exact, kept), ("y", Bound::Rms(3e-3), lab.read(&y, n * q * dim))]
}

#[test]
fn head_widths() {
    for dim in [8, 16, 40, 64, 72, 80, 128, 136, 256] {
        compare!(format!("heads of {dim}"), |lab: &mut Lab<_>| cached(lab, (2, 1, dim), &[9, 1, 70], 1.5));
    }
}

#[test]
fn grouped_heads_and_lengths() {
    for heads in [(1, 1, 64), (4, 4, 32), (6, 2, 32), (5, 1, 64)] {
        compare!(format!("heads {heads:?}"), |lab: &mut Lab<_>| cached(lab, heads, &[1, 2, 3, 4, 5, 130], 1.5));
    }
}

/// Scores far apart: one probability of 1 and the rest of 0, without an overflow.
#[test]
fn extreme_scores() {
    compare!("scores of thousands", |lab: &mut Lab<_>| cached(lab, (2, 1, 64), &[33, 2], 60.0));
}
