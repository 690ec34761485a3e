//! Decoding with a KV cache: the prompts of a batch are read at once, then each step adds one token to every sequence
//! that has not ended.
//!
//! A step costs one row per sequence. A sequence owns consecutive rows of the cache, as many as it may grow to. Lengths
//! may differ, and a sequence that a step does not name has left the batch. Nothing is kept for a gradient: all layers
//! share one set of activations.

use super::config::Positions;
use super::decoder::Decoder;
use super::forward::Mode;
use super::workspace::{Need, Workspace};
use crate::backend::{Backend, F, Head, Ids, Number, Rows, S, Tokens};
use crate::error::Result;

/// What the largest batch needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Room {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of their prompts together.
    pub prompts: usize,
    /// Tokens of prompts and continuations together: rows of the cache.
    pub rows: usize,
}

impl Room {
    /// For prompts of these lengths, each with up to `more` tokens behind it.
    pub fn of(lengths: impl IntoIterator<Item = usize>, more: usize) -> Room {
        let mut room = Room::default();
        for length in lengths {
            room.sequences += 1;
            room.prompts += length;
            room.rows += length + more;
        }
        room
    }

    /// Room for either.
    pub fn max(self, other: Room) -> Room {
        Room {
            sequences: self.sequences.max(other.sequences),
            prompts: self.prompts.max(other.prompts),
            rows: self.rows.max(other.rows),
        }
    }
}

/// Where a sequence stands.
#[derive(Clone, Copy)]
struct Sequence {
    /// Its first row of the cache.
    first: usize,
    /// Rows that it may fill.
    most: usize,
    /// Rows that are filled.
    length: usize,
}

/// A batch of sequences on a device, its memory allocated once. `T` tokens of a pass, `H` hidden, `N` sequences.
pub struct Session<'a, B: Backend> {
    b: &'a B,
    model: &'a Decoder<B>,
    room: Room,
    sequences: Vec<Sequence>,
    tokens: Tokens<B>,
    /// Row of the cache of each token, `[T]`.
    at: Ids<B>,
    /// Keys and values of each layer, `[rows, 2 kv dim]`.
    cache: Vec<F<B>>,
    work: Workspace<B>,
    /// Last token of each sequence in the pass, `[N]`.
    last: Ids<B>,
    active: F<B>,
    /// Placeholder labels; `head_logp` requires them.
    labels: Ids<B>,
    logp: S<B>,
    lse: S<B>,
    logits: B::Buf<B::Logit>,
    /// Logits on the host, `[N, vocab]`.
    host: Vec<B::Logit>,
}

impl<'a, B: Backend> Session<'a, B> {
    /// Allocates for batches of at most `room`. `model` was built for as many positions as its longest sequence has.
    pub fn new(b: &'a B, model: &'a Decoder<B>, room: Room) -> Result<Session<'a, B>> {
        let (s, n) = (&model.spec, room.sequences);
        let t = room.prompts.max(n);
        let row = 2 * s.kv_heads * s.head_dim;
        Ok(Session {
            b,
            model,
            room,
            sequences: Vec::new(),
            tokens: Tokens {
                count: 0,
                ids: b.alloc(t)?,
                pos: b.alloc(t)?,
                seg_start: b.alloc(t)?,
                example: b.alloc(0)?,
            },
            at: b.alloc(t)?,
            cache: (0..s.layers).map(|_| b.alloc(room.rows * row)).collect::<Result<_>>()?,
            work: Workspace::new(b, model, Need::inference(t))?,
            last: b.alloc(n)?,
            active: b.alloc(n * s.hidden)?,
            labels: b.alloc(n)?,
            logp: b.alloc(n)?,
            lse: b.alloc(n)?,
            logits: b.alloc(n * s.vocab)?,
            host: vec![B::Logit::default(); n * s.vocab],
        })
    }

    /// Forgets what was there and reads these prompts (none empty), each of which may grow by `more` tokens. Returns
    /// the logits after each, as [`Session::step`] does.
    pub fn start(&mut self, prompts: &[&[u32]], more: usize) -> Result<Vec<f32>> {
        let needed = Room::of(prompts.iter().map(|p| p.len()), more);
        assert!(needed.max(self.room) == self.room, "a batch of {needed:?} exceeds a session of {:?}", self.room);
        self.sequences.clear();
        let (mut ids, mut pos, mut start, mut at) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut last, mut first) = (Vec::new(), 0);
        for prompt in prompts {
            start.resize(ids.len() + prompt.len(), ids.len() as u32);
            ids.extend_from_slice(prompt);
            pos.extend(0..prompt.len() as u32);
            at.extend(first as u32..(first + prompt.len()) as u32);
            last.push(ids.len() as u32 - 1);
            let most = prompt.len() + more;
            self.sequences.push(Sequence { first, most, length: prompt.len() });
            first += most;
        }
        self.b.write(&mut self.tokens.seg_start, &start)?;
        self.pass(&ids, &pos, &at, &last, true)
    }

    /// Adds one token to each sequence named, in ascending order; the others have ended. Returns the logits after each
    /// of them, `[named, vocab]`.
    pub fn step(&mut self, next: &[(usize, u32)]) -> Result<Vec<f32>> {
        let (mut ids, mut pos, mut at) = (Vec::new(), Vec::new(), Vec::new());
        for &(index, id) in next {
            let sequence = &mut self.sequences[index];
            assert!(sequence.length < sequence.most, "sequence {index} is longer than was said");
            ids.push(id);
            pos.push(sequence.length as u32);
            at.push((sequence.first + sequence.length) as u32);
            sequence.length += 1;
        }
        let last: Vec<u32> = (0..next.len() as u32).collect();
        self.pass(&ids, &pos, &at, &last, false)
    }

    /// One pass. Prompts attend in the packed buffer, single tokens to the cache.
    fn pass(&mut self, ids: &[u32], pos: &[u32], at: &[u32], last: &[u32], whole: bool) -> Result<Vec<f32>> {
        let Session { b, model, tokens, cache, work, .. } = self;
        tokens.count = ids.len();
        b.write(&mut tokens.ids, ids)?;
        b.write(&mut tokens.pos, pos)?;
        b.write(&mut self.at, at)?;
        let at = &self.at;
        model.forward_with(b, work, tokens, &Mode::eval(true), |pass, heads, qkv, att, lse| {
            let cache = &mut cache[pass.layer];
            pass.b.write_kv_cache(heads, at, qkv, cache)?;
            match whole {
                true => pass.attention(heads, qkv, att, lse),
                false => pass.b.attention_cached(heads, pass.tokens, at, qkv, cache, att),
            }
        })?;
        self.logits(last)
    }

    /// Logits of these rows of the hidden states, `[n, vocab]`.
    fn logits(&mut self, rows: &[u32]) -> Result<Vec<f32>> {
        let Session { b, model, work, last, active, labels, logp, lse, logits, host, .. } = self;
        let (n, s) = (rows.len(), &model.spec);
        b.write(last, rows)?;
        b.gather(Rows { n, width: s.hidden }, last, &work.hidden, active)?;
        let head = Head { first: 0, rows: n, width: s.hidden, vocab: s.vocab, scale: s.logit_scale };
        b.head_logp(head, active, model.head_weight(), labels, logits, logp, lse)?;
        let host = &mut host[..n * s.vocab];
        b.read(logits, host)?;
        Ok(host.iter().map(|&z| z.f64() as f32).collect())
    }
}

/// The longest sequence that a model can hold: positions of a learned table, or its attention window.
pub fn longest(spec: &super::config::Spec) -> Option<usize> {
    let learned = (spec.positions == Positions::Learned).then_some(spec.max_positions);
    learned.into_iter().chain(spec.window).min()
}
