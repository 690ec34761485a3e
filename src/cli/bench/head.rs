//! The LM head over supervised rows, in the chunks of a training step: log p, coefficients of the objective, gradient.

use super::case::{Case, Cost, call};
use super::lab::Lab;
use super::sizes::Sizes;
use crate::backend::{Backend, Head, Ids, Number, Objective, S, Stored, scalar, tally};
use crate::error::Result;
use crate::random::{Purpose, Stream};
use crate::train::feed::{Feed, chunks};

/// Forward alone, and forward with backward, for each share of supervised rows.
pub fn cases<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    let mut list: Vec<Case<B>> = Vec::new();
    for &share in s.active {
        let rows = (s.tokens as f64 * share).round() as usize;
        let shape = format!("{rows} of {} rows x {} x {}", s.tokens, s.hidden, s.vocab);
        // the logits need not exist in memory: weight and rows are read, gradients of the rows written
        let float = size_of::<B::Float>();
        let (weight, hidden) = (s.hidden * s.vocab * float, rows * s.hidden * float);
        let product = 2 * rows * s.hidden * s.vocab;
        let forward = Cost { bytes: weight + hidden, flops: product };
        let both = Cost { bytes: weight + 2 * hidden, flops: 2 * product };
        list.push(Case::product("head_logp", shape.clone(), forward, move |lab| {
            let mut pass = Pass::new(lab, s, rows)?;
            call(move |b: &B| pass.run(b, false))
        }));
        list.push(Case::product("head", shape, both, move |lab| {
            let mut pass = Pass::new(lab, s, rows)?;
            call(move |b: &B| pass.run(b, true))
        }));
    }
    list
}

/// A frozen head over `rows` rows, with a weight on each loss.
struct Pass<B: Backend> {
    feed: Feed<B>,
    w: Stored<B>,
    scalars: S<B>,
    sums: S<B>,
    row_start: Ids<B>,
    s: Sizes,
    rows: usize,
}

impl<B: Backend> Pass<B> {
    fn new(lab: &mut Lab<B>, s: Sizes, rows: usize) -> Result<Pass<B>> {
        let mut feed = Feed::new(lab.b, rows, 1, s.hidden, s.vocab, true)?;
        feed.active = lab.float(rows * s.hidden, 1.0)?;
        feed.labels = lab.below(rows, s.vocab)?;
        let mut stream = Stream::new(0, Purpose::Bench, 2);
        let weights: Vec<B::Stat> = (0..rows).map(|_| B::Stat::of(1.0 + 3.0 * stream.uniform())).collect();
        lab.b.write(&mut feed.weights, &weights)?;
        let mut host = vec![B::Stat::of(0.0); scalar::SCALARS];
        host[scalar::INV_NORM] = B::Stat::of(1.0 / rows as f64);
        let mut scalars = lab.stat_room(scalar::SCALARS)?;
        lab.b.write(&mut scalars, &host)?;
        let (sums, row_start) = (lab.stat_room(tally::TALLY)?, lab.ids(&[0, rows as u32])?);
        Ok(Pass { w: lab.weight(s.vocab * s.hidden)?, feed, scalars, sums, row_start, s, rows })
    }

    fn run(&mut self, b: &B, gradient: bool) -> Result {
        let Pass { feed: f, w, scalars, sums, row_start, s, rows } = self;
        for c in chunks(&[0, *rows as u32], f.chunk, false) {
            let head = Head { first: c.first, rows: c.rows, width: s.hidden, vocab: s.vocab, scale: 1.0 };
            let (logits, logp, lse) = (&mut f.logits, &mut f.logp, &mut f.lse);
            if gradient {
                b.head_unit(head, &f.active, w, &f.labels, logits, logp, lse, &mut f.d_active)?;
            } else {
                b.head_logp(head, &f.active, w, &f.labels, logits, logp, lse)?;
            }
        }
        if gradient {
            let (gamma, beta, weighted_pairs) = (0.0, 1.0, false);
            let o = Objective { rows: *rows, examples: 1, gamma, beta, weighted_pairs, ..Objective::default() };
            let coef = &mut f.coef;
            b.objective(o, row_start, &f.logp, &f.weights, &f.path, &f.ref_logp, scalars, coef, sums)?;
        }
        Ok(())
    }
}
