//! Decoding with a KV cache: each pass adds one token to every sequence that is being continued, and may read new
//! prompts in whole beside them.
//!
//! A session has slots. A sequence takes a slot and consecutive rows of the cache, as many as it may grow to; when it
//! is released, the next one may take both. Lengths may differ. Nothing is kept for a gradient: all layers share one
//! set of activations.

use super::config::Positions;
use super::decoder::Decoder;
use super::forward::Mode;
use super::workspace::{Need, Workspace};
use crate::backend::{Backend, F, Head, Heads, Ids, Number, Rows, S, Tokens};
use crate::error::Result;

/// What a session has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Room {
    /// Sequences at a time.
    pub slots: usize,
    /// Tokens of a pass.
    pub tokens: usize,
    /// Rows of the cache: tokens of prompts and continuations together.
    pub rows: usize,
}

impl Room {
    /// For prompts of these lengths at the same time, each with up to `more` tokens behind it.
    pub fn of(lengths: impl IntoIterator<Item = usize>, more: usize) -> Room {
        let mut room = Room::default();
        for length in lengths {
            room.slots += 1;
            room.tokens += length;
            room.rows += length + more;
        }
        room
    }

    /// For prompts of these lengths, which come in this order, `slots` at a time: the largest room of neighbours.
    ///
    /// The cache has two average rows more than they need. Sequences leave gaps that a longer one does not fit; without
    /// the additional rows it would have to wait for a neighbour of the gap to end.
    pub fn sliding(lengths: &[usize], slots: usize, more: usize) -> Room {
        let slots = slots.min(lengths.len());
        let rooms = lengths.windows(slots.max(1)).map(|some| Room::of(some.iter().copied(), more));
        let largest = rooms.fold(Room::default(), |a, b| Room {
            slots,
            tokens: a.tokens.max(b.tokens),
            rows: a.rows.max(b.rows),
        });
        let longest = lengths.iter().max().map_or(0, |longest| longest + more);
        let rows = largest.rows + 2 * largest.rows.div_ceil(slots.max(1));
        Room { rows: rows.min(slots * longest), ..largest }
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

/// Sequences on a device, the memory allocated once. `T` tokens of a pass, `H` hidden, `N` slots.
pub struct Session<'a, B: Backend> {
    b: &'a B,
    model: &'a Decoder<B>,
    room: Room,
    slots: Vec<Option<Sequence>>,
    tokens: Tokens<B>,
    /// Row of the cache of each token, `[T]`.
    at: Ids<B>,
    /// Keys and values of each layer, `[rows, 2 kv dim]`.
    cache: Vec<F<B>>,
    work: Workspace<B>,
    /// Tokens of the pass whose logits are wanted, `[N]`.
    last: Ids<B>,
    active: F<B>,
    /// Placeholder labels; `head_logp` requires them.
    labels: Ids<B>,
    logp: S<B>,
    lse: S<B>,
    logits: B::Buf<B::Logit>,
    /// Logits on the host, `[N, vocab]`, as they are read and as they are shown.
    host: Vec<B::Logit>,
    shown: Vec<f32>,
}

impl<'a, B: Backend> Session<'a, B> {
    /// Allocates what `room` says. `model` was built for as many positions as its longest sequence has.
    pub fn new(b: &'a B, model: &'a Decoder<B>, room: Room) -> Result<Session<'a, B>> {
        let (s, n) = (&model.spec, room.slots);
        let t = room.tokens.max(n);
        let row = 2 * s.kv_heads * s.head_dim;
        Ok(Session {
            b,
            model,
            room,
            slots: vec![None; n],
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
            shown: vec![0.0; n * s.vocab],
        })
    }

    /// A free slot for a sequence of at most `rows` tokens. `None` where no slot is free, or no gap of the cache is
    /// long enough; an empty session has room for `room.rows`.
    pub fn reserve(&mut self, rows: usize) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let mut taken: Vec<_> = self.slots.iter().flatten().map(|s| (s.first, s.first + s.most)).collect();
        taken.sort_unstable();
        let mut first = 0;
        for (from, to) in taken {
            if from - first >= rows {
                break;
            }
            first = to;
        }
        // behind the last sequence, the gap ends with the cache; in front of another, it is long enough
        let fits = first + rows <= self.room.rows;
        self.slots[slot] = fits.then_some(Sequence { first, most: rows, length: 0 });
        fits.then_some(slot)
    }

    /// Frees the slot of a sequence that has ended, and its rows of the cache.
    pub fn release(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Frees all slots.
    pub fn clear(&mut self) {
        self.slots.fill(None);
    }

    /// Clears the session and reads these prompts, each of which may grow by `more` tokens, into the slots from 0 on.
    /// Returns the logits as [`Session::pass`] does.
    pub fn start(&mut self, prompts: &[&[u32]], more: usize) -> Result<&mut [f32]> {
        self.clear();
        let slot = |(i, prompt): (usize, &&[u32])| (self.reserve(prompt.len() + more) == Some(i)).then_some(i);
        let slots: Option<Vec<usize>> = prompts.iter().enumerate().map(slot).collect();
        let slots = slots.unwrap_or_else(|| panic!("prompts and {more} tokens behind each exceed {:?}", self.room));
        self.pass(&[], &slots.into_iter().zip(prompts.iter().copied()).collect::<Vec<_>>())
    }

    /// One pass: adds a token to each slot that `next` names, and reads each of `prompts` (none empty) into a reserved
    /// slot. Returns the logits after each slot of `next`, then after each of `prompts`, `[n, vocab]`.
    pub fn pass(&mut self, next: &[(usize, u32)], prompts: &[(usize, &[u32])]) -> Result<&mut [f32]> {
        let steps = next.iter().map(|(slot, id)| (*slot, std::slice::from_ref(id)));
        let (mut ids, mut pos, mut start, mut at, mut last) = (vec![], vec![], vec![], vec![], vec![]);
        for (slot, new) in steps.chain(prompts.iter().copied()) {
            let sequence = self.slots[slot].as_mut().unwrap_or_else(|| panic!("slot {slot} was not reserved"));
            let (from, to) = (sequence.length, sequence.length + new.len());
            assert!((from > 0) == (last.len() < next.len()), "slot {slot}: a prompt comes first, and once");
            assert!(to <= sequence.most, "the sequence of slot {slot} is longer than was said");
            start.resize(ids.len() + new.len(), ids.len() as u32);
            ids.extend_from_slice(new);
            pos.extend(from as u32..to as u32);
            at.extend((sequence.first + from) as u32..(sequence.first + to) as u32);
            last.push(ids.len() as u32 - 1);
            sequence.length = to;
        }
        let Session { b, model, tokens, cache, work, .. } = self;
        tokens.count = ids.len();
        b.write(&mut tokens.ids, &ids)?;
        b.write(&mut tokens.pos, &pos)?;
        b.write(&mut tokens.seg_start, &start)?;
        b.write(&mut self.at, &at)?;
        let at = &self.at;
        model.forward_with(b, work, tokens, &Mode::eval(true), |pass, heads, qkv, att, lse| {
            let cache = &mut cache[pass.layer];
            pass.b.write_kv_cache(heads, at, qkv, cache)?;
            // prompts attend in the packed buffer, where a single token is a segment of its own; the single tokens come
            // first, and get their attention to the cache afterwards
            if !prompts.is_empty() {
                pass.attention(heads, qkv, att, lse)?;
            }
            if next.is_empty() {
                return Ok(());
            }
            pass.b.attention_cached(Heads { tokens: next.len(), ..heads }, pass.tokens, at, qkv, cache, att)
        })?;
        self.logits(&last)
    }

    /// Logits of these rows of the hidden states, `[n, vocab]`.
    fn logits(&mut self, rows: &[u32]) -> Result<&mut [f32]> {
        let Session { b, model, work, last, active, labels, logp, lse, logits, host, shown, .. } = self;
        let (n, s) = (rows.len(), &model.spec);
        b.write(last, rows)?;
        b.gather(Rows { n, width: s.hidden }, last, &work.hidden, active)?;
        let head = Head { first: 0, rows: n, width: s.hidden, vocab: s.vocab, scale: s.logit_scale };
        b.head_logp(head, active, model.head_weight(), labels, logits, logp, lse)?;
        let host = &mut host[..n * s.vocab];
        b.read(logits, host)?;
        let shown = &mut shown[..host.len()];
        shown.iter_mut().zip(host).for_each(|(shown, z)| *shown = z.f64() as f32);
        Ok(shown)
    }
}

/// The longest sequence that a model can hold: positions of a learned table, or its attention window.
pub fn longest(spec: &super::config::Spec) -> Option<usize> {
    let learned = (spec.positions == Positions::Learned).then_some(spec.max_positions);
    learned.into_iter().chain(spec.window).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plan::Plan;
    use crate::model::config::Spec;
    use crate::model::decoder::Init;
    use crate::random::{Purpose, Stream};

    fn model(b: &Plan) -> Decoder<Plan> {
        let config = serde_json::json!({"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, "max_position_embeddings": 64});
        let spec = Spec::parse(&config, "config.json".as_ref()).expect("a config");
        Decoder::build(b, spec, &Init::Shapes { bf16: false }, None, 64).expect("builds")
    }

    /// The largest of three neighbours: [5, 3, 9]; two average rows more, but no more than three of the longest.
    #[test]
    fn a_sliding_room_holds_all_neighbours() {
        assert_eq!(Room::of([3, 5], 2), Room { slots: 2, tokens: 8, rows: 12 });
        assert_eq!(Room::sliding(&[1, 5, 3, 9, 1, 1], 3, 2), Room { slots: 3, tokens: 17, rows: 33 });
        assert_eq!(Room::sliding(&[60, 1, 1, 1, 1, 1], 3, 2), Room { slots: 3, tokens: 62, rows: 68 + 46 });
        assert_eq!(Room::sliding(&[4, 7], 1, 2), Room { slots: 1, tokens: 7, rows: 9 });
        assert_eq!(Room::sliding(&[4, 7], 5, 2), Room { slots: 2, tokens: 11, rows: 18 });
        assert_eq!(Room::sliding(&[], 5, 2), Room::default());
    }

    /// Sequences come and go at random: none gets rows of another, and one is refused only where it does not fit.
    #[test]
    fn reserved_rows_belong_to_one_sequence() {
        let b = Plan::default();
        let model = model(&b);
        let room = Room { slots: 5, tokens: 16, rows: 40 };
        let mut session = Session::new(&b, &model, room).expect("allocates");
        let mut stream = Stream::new(2, Purpose::Bench, 0);
        let (mut open, mut refused, mut gaps): (Vec<(usize, usize)>, usize, usize) = Default::default();
        for _ in 0..5000 {
            if open.is_empty() || stream.below(2) == 0 {
                let rows = 1 + stream.below(20) as usize;
                let mut owner = vec![false; room.rows];
                for s in session.slots.iter().flatten() {
                    owner[s.first..s.first + s.most].fill(true);
                }
                let gap = owner.split(|&taken| taken).map(<[_]>::len).max().unwrap_or(0);
                let fits = open.len() < room.slots && rows <= gap;
                let before = session.slots.clone();
                let slot = session.reserve(rows);
                assert_eq!(slot.is_some(), fits, "{rows} rows, {gap} in a gap, {} sequences", open.len());
                refused += usize::from(!fits);
                let Some(slot) = slot else { continue };
                assert!(before[slot].is_none(), "slot {slot} was taken");
                let s = session.slots[slot].expect("reserved");
                assert_eq!((s.most, s.length), (rows, 0));
                assert!(owner[s.first..s.first + rows].iter().all(|taken| !taken), "rows of another");
                gaps += usize::from(owner[s.first + rows..].iter().any(|&taken| taken));
                open.push((slot, rows));
            } else {
                let (slot, _) = open.swap_remove(stream.below(open.len() as u32) as usize);
                session.release(slot);
            }
        }
        assert!(refused > 100 && gaps > 100, "{refused} refused, {gaps} in a gap: the test is blind");
    }
}
