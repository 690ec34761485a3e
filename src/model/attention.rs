//! A forward pass that is looked at: attention probabilities of chosen rows, layer by layer, and log p of labels.

use super::decoder::Decoder;
use super::forward::Mode;
use super::workspace::{Need, Workspace};
use crate::backend::{Backend, F, Head, Ids, Number, Rows, S, Tokens};
use crate::data::Batch;
use crate::error::Result;

/// Bytes of the probabilities that are formed at a time, unless a single row has more.
const PROBS: usize = 8 << 20;
/// Rows whose logits are formed at a time, at most.
const ROWS: usize = 64;

/// The largest batch that an [`Observer`] has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Tokens.
    pub tokens: usize,
    /// Tokens of its longest example: the keys of a row, at most.
    pub longest: usize,
}

/// Buffers of observed passes, allocated once. Probabilities of all layers are never there at the same time: a block of
/// rows of a layer is formed, handed over and overwritten.
pub struct Observer<'a, B: Backend> {
    b: &'a B,
    model: &'a Decoder<B>,
    longest: usize,
    tokens: Tokens<B>,
    work: Workspace<B>,
    /// Rows of a block, `[block]`.
    rows: Ids<B>,
    /// Their probabilities, `[block, heads, keys]`, on the device and on the host.
    probs: S<B>,
    host: Vec<B::Stat>,
    shown: Vec<f32>,
    block: usize,
    labels: Ids<B>,
    active: F<B>,
    logits: B::Buf<B::Logit>,
    logp: S<B>,
    lse: S<B>,
}

impl<'a, B: Backend> Observer<'a, B> {
    /// For batches of up to this extent. `model` was built for as many positions as the longest example has.
    pub fn new(b: &'a B, model: &'a Decoder<B>, extent: Extent) -> Result<Observer<'a, B>> {
        let (s, Extent { tokens: t, longest }) = (&model.spec, extent);
        let row = s.q_heads * longest;
        let block = (PROBS / (row * size_of::<B::Stat>()).max(1)).clamp(1, t.max(1));
        let tokens =
            Tokens { count: 0, ids: b.alloc(t)?, pos: b.alloc(t)?, seg_start: b.alloc(t)?, example: b.alloc(0)? };
        Ok(Observer {
            b,
            model,
            longest,
            tokens,
            work: Workspace::new(b, model, Need::inference(t))?,
            rows: b.alloc(block.max(ROWS))?,
            probs: b.alloc(block * row)?,
            host: vec![B::Stat::default(); block * row],
            shown: vec![0.0; block * row],
            block,
            labels: b.alloc(ROWS)?,
            active: b.alloc(ROWS * s.hidden)?,
            logits: b.alloc(ROWS * s.vocab)?,
            logp: b.alloc(ROWS)?,
            lse: b.alloc(ROWS)?,
        })
    }

    /// Bytes of the copies of a block on the host: as it is read, and as it is handed over.
    pub fn host(&self) -> u64 {
        (size_of_val(self.host.as_slice()) + size_of_val(self.shown.as_slice())) as u64
    }

    /// Runs the model with its adapters over a batch. `each` receives (layer, i, probabilities `[heads, keys]` of the
    /// token `rows[i]`) for every layer and row; keys count from the first token of the row's example to the row
    /// itself. Returns log p of the labels of the batch.
    ///
    /// # Errors
    /// Those of the device and of `each`.
    pub fn observe(
        &mut self, batch: &Batch, rows: &[u32], mut each: impl FnMut(usize, usize, &[f32], usize) -> Result,
    ) -> Result<Vec<f32>> {
        let Observer { b, model, longest, tokens, work, rows: at, probs, host, shown, block, .. } = self;
        tokens.count = batch.ids.len();
        b.write(&mut tokens.ids, &batch.ids)?;
        b.write(&mut tokens.pos, &batch.pos)?;
        b.write(&mut tokens.seg_start, &batch.seg_start)?;
        model.forward_with(b, work, tokens, &Mode::eval(true), |pass, heads, qkv, att, lse| {
            pass.attention(heads, qkv, att, lse)?;
            for (number, some) in rows.chunks(*block).enumerate() {
                let seen = |&row: &u32| (row - batch.seg_start[row as usize]) as usize + 1;
                let keys = some.iter().map(seen).max().unwrap_or(0).min(*longest);
                let size = heads.q * keys;
                let used = some.len() * size;
                pass.b.write(at, some)?;
                pass.b.attention_probs(heads, Rows { n: some.len(), width: keys }, pass.tokens, at, qkv, probs)?;
                pass.b.read(probs, &mut host[..used])?;
                shown.iter_mut().zip(&host[..used]).for_each(|(shown, p)| *shown = p.f64() as f32);
                for (i, probs) in shown[..used].chunks_exact(size).enumerate() {
                    each(pass.layer, number * *block + i, probs, keys)?;
                }
            }
            Ok(())
        })?;
        self.logp(batch)
    }

    /// log p of the labels of the batch that went through the model last.
    fn logp(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let Observer { b, model, work, rows: at, labels: wanted, active, logits, logp, lse, .. } = self;
        let s = &model.spec;
        let mut all = Vec::with_capacity(batch.rows.len());
        for (rows, labels) in batch.rows.chunks(ROWS).zip(batch.labels.chunks(ROWS)) {
            let n = rows.len();
            b.write(at, rows)?;
            b.write(wanted, labels)?;
            b.gather(Rows { n, width: s.hidden }, at, &work.hidden, active)?;
            let head = Head { first: 0, rows: n, width: s.hidden, vocab: s.vocab, scale: s.logit_scale };
            b.head_logp(head, active, model.head_weight(), wanted, logits, logp, lse)?;
            let mut host = vec![B::Stat::default(); n];
            b.read(logp, &mut host)?;
            all.extend(host.into_iter().map(|x| x.f64() as f32));
        }
        Ok(all)
    }
}
