//! Attention of new tokens to keys and values that are kept from before.

use super::gemm::{Mat, gemm};
use super::real::Real;
use super::wide::{exp_of_row, scaled};
use super::{CacheOps, Cpu, Heads, Tokens};
use crate::error::Result;

impl<R: Real> CacheOps for Cpu<R> {
    fn write_kv_cache(&self, s: Heads, at: &Vec<u32>, qkv: &Vec<R>, cache: &mut Vec<R>) -> Result {
        let kept = 2 * s.kv * s.dim;
        for (&at, row) in at[..s.tokens].iter().zip(qkv.chunks_exact(s.width())) {
            cache[at as usize * kept..][..kept].copy_from_slice(&row[s.q * s.dim..]);
        }
        Ok(())
    }

    /// A task is the query heads of a token that share a key head; their scores are formed whole, since they are few
    /// and short.
    fn attention_cached(
        &self, s: Heads, tokens: &Tokens<Self>, at: &Vec<u32>, qkv: &Vec<R>, cache: &Vec<R>, y: &mut Vec<R>,
    ) -> Result {
        let (kept, group) = (2 * s.kv * s.dim, s.q / s.kv);
        self.chunks(&mut y[..s.tokens * s.q * s.dim], group * s.dim, |i, y| {
            let (t, head) = (i / s.kv, i % s.kv);
            let n = tokens.pos[t] as usize + 1;
            let key = (at[t] as usize + 1 - n) * kept + head * s.dim;
            let queries = Mat::rows(&qkv[t * s.width() + head * group * s.dim..], s.dim);
            let (keys, values) = (Mat::rows(&cache[key..], kept), Mat::rows(&cache[key + s.kv * s.dim..], kept));
            self.with_scratch(group * n, |p| {
                gemm((group, n, s.dim), queries, keys.t(), p, n, s.scale, false, self.mode().alone());
                for p in p.chunks_exact_mut(n) {
                    let (_, total) = exp_of_row(p);
                    scaled(p, R::of(1.0) / total);
                }
                gemm((group, s.dim, n), Mat::rows(p, n), values, y, s.dim, 1.0, false, self.mode().alone());
            });
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::AttentionOps;
    use crate::random::{Purpose, Stream};

    /// Rows of the packed buffer, kept in other places of a cache, give what attention in the buffer gives.
    #[test]
    fn a_cache_shows_what_the_packed_buffer_shows() {
        let b = Cpu::<f64>::new(2).unwrap();
        for (q, kv, dim) in [(1, 1, 3), (4, 4, 8), (6, 2, 5), (3, 1, 8)] {
            let pos = [0, 1, 2, 3, 0, 0, 1];
            let s = Heads { tokens: pos.len(), q, kv, dim, scale: 0.37 };
            let mut stream = Stream::new(3, Purpose::Init, 0);
            let qkv: Vec<f64> = (0..s.tokens * s.width()).map(|_| stream.normal()).collect();
            let tokens = Tokens {
                count: s.tokens,
                ids: vec![0; s.tokens],
                pos: pos.to_vec(),
                seg_start: vec![0, 0, 0, 0, 4, 5, 5],
                example: vec![0; s.tokens],
            };
            let (mut expected, mut lse) = (vec![0.0; s.tokens * q * dim], vec![0.0; s.tokens * q]);
            b.attention(s, &tokens, &qkv, None, &mut expected, &mut lse).unwrap();
            // the second sequence behind the third, with free rows between
            let at = vec![0, 1, 2, 3, 9, 5, 6];
            let mut cache = vec![f64::NAN; 12 * 2 * kv * dim];
            b.write_kv_cache(s, &at, &qkv, &mut cache).unwrap();
            let mut y = vec![f64::NAN; expected.len()];
            b.attention_cached(s, &tokens, &at, &qkv, &cache, &mut y).unwrap();
            assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-12), "{q} {kv} {dim}");
        }
    }
}
