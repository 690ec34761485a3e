//! One micro-batch on the device, and the buffers of the LM head that belong to it.

use crate::backend::{Backend, F, Ids, Number, Rows, S, Tokens};
use crate::data::Batch;
use crate::error::Result;

/// Device copies of a [`Batch`] and the head's working memory. `T` tokens and `R <= T` supervised rows fit.
pub struct Feed<B: Backend> {
    /// Ids, positions, segments, examples, `[T]` each.
    pub tokens: Tokens<B>,
    /// Hidden row that predicts each label, `[R]`.
    pub rows: Ids<B>,
    /// Labels, `[R]`.
    pub labels: Ids<B>,
    /// Loss weights, `[R]`.
    pub weights: S<B>,
    /// 1 on the scan path, `[R]`.
    pub path: Ids<B>,
    /// First row of each example, `[E + 1]`.
    pub row_start: Ids<B>,
    /// log p under the reference, `[R]`.
    pub ref_logp: S<B>,
    /// Hidden rows that predict a label, `[R, H]`.
    pub active: F<B>,
    /// Their gradient, before its coefficients where the head is frozen, `[R, H]`; empty without training.
    pub d_active: F<B>,
    /// Logits of one chunk, `[chunk, vocab]`.
    pub logits: B::Buf<B::Logit>,
    /// log p of the labels, `[R]`.
    pub logp: S<B>,
    /// Log-sum-exp of the logits, `[R]`.
    pub lse: S<B>,
    /// dL / d nll, `[R]`.
    pub coef: S<B>,
    /// Rows of `logits`.
    pub chunk: usize,
}

/// Rows of the tiles that products are made of: chunks are whole ones where more than one fits.
const TILE: usize = 128;

impl<B: Backend> Feed<B> {
    /// For up to `tokens` tokens; `longest` is the largest number of supervised rows that must share a chunk (those of
    /// one example where a head is trained under the preference term, else 1).
    pub fn new(b: &B, tokens: usize, longest: usize, hidden: usize, vocab: usize, train: bool) -> Result<Feed<B>> {
        let affordable = B::LOGIT_BYTES / (vocab * size_of::<B::Logit>()).max(1);
        let whole = if affordable > TILE { affordable / TILE * TILE } else { affordable };
        let chunk = whole.max(longest).clamp(1, tokens.max(1));
        Ok(Feed {
            tokens: Tokens {
                count: 0,
                ids: b.alloc(tokens)?,
                pos: b.alloc(tokens)?,
                seg_start: b.alloc(tokens)?,
                example: b.alloc(tokens)?,
            },
            rows: b.alloc(tokens)?,
            labels: b.alloc(tokens)?,
            weights: b.alloc(tokens)?,
            path: b.alloc(tokens)?,
            row_start: b.alloc(tokens + 1)?,
            ref_logp: b.alloc(tokens)?,
            active: b.alloc(tokens * hidden)?,
            d_active: b.alloc(if train { tokens * hidden } else { 0 })?,
            logits: b.alloc(chunk * vocab)?,
            logp: b.alloc(tokens)?,
            lse: b.alloc(tokens)?,
            coef: b.alloc(tokens)?,
            chunk,
        })
    }

    /// Copies a batch to the device.
    pub fn load(&mut self, b: &B, batch: &Batch) -> Result {
        self.tokens.count = batch.ids.len();
        b.write(&mut self.tokens.ids, &batch.ids)?;
        b.write(&mut self.tokens.pos, &batch.pos)?;
        b.write(&mut self.tokens.seg_start, &batch.seg_start)?;
        b.write(&mut self.tokens.example, &batch.example)?;
        b.write(&mut self.rows, &batch.rows)?;
        b.write(&mut self.labels, &batch.labels)?;
        b.write(&mut self.path, &batch.path)?;
        b.write(&mut self.row_start, &batch.row_start)?;
        let stats = |values: &[f32]| values.iter().map(|&x| B::Stat::of(f64::from(x))).collect::<Vec<_>>();
        b.write(&mut self.weights, &stats(&batch.weights))?;
        b.write(&mut self.ref_logp, &stats(&batch.ref_logp))
    }

    /// Gathers the hidden rows that predict a label.
    pub fn gather(&mut self, b: &B, batch: &Batch, hidden: &F<B>, width: usize) -> Result {
        b.gather(Rows { n: batch.rows.len(), width }, &self.rows, hidden, &mut self.active)
    }
}

/// A run of supervised rows whose logits are formed together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// First row.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// First example.
    pub first_example: usize,
    /// Examples; 0 where chunks may cut them.
    pub examples: usize,
}

/// Cuts the rows of a batch into chunks of at most `limit` rows; with `whole`, at example borders only (an example
/// longer than `limit` is a chunk of its own).
pub fn chunks(row_start: &[u32], limit: usize, whole: bool) -> Vec<Chunk> {
    let total = row_start.last().map_or(0, |&n| n as usize);
    if !whole {
        let firsts = (0..total).step_by(limit.max(1));
        return firsts
            .map(|first| Chunk { first, rows: limit.min(total - first), first_example: 0, examples: 0 })
            .collect();
    }
    let mut list: Vec<Chunk> = Vec::new();
    for (e, bounds) in row_start.windows(2).enumerate() {
        let (first, rows) = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
        match list.last_mut() {
            Some(last) if last.rows + rows <= limit => {
                last.rows += rows;
                last.examples += 1;
            }
            _ => list.push(Chunk { first, rows, first_example: e, examples: 1 }),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_at_example_borders_only_where_asked() {
        let row_start = [0, 3, 3, 10, 12];
        let whole: Vec<_> =
            chunks(&row_start, 5, true).iter().map(|c| (c.first, c.rows, c.first_example, c.examples)).collect();
        assert_eq!(whole, [(0, 3, 0, 2), (3, 7, 2, 1), (10, 2, 3, 1)]);
        let cut: Vec<_> = chunks(&row_start, 5, false).iter().map(|c| (c.first, c.rows)).collect();
        assert_eq!(cut, [(0, 5), (5, 5), (10, 2)]);
        assert!(chunks(&[0], 5, true).is_empty());
    }
}
