//! Attention over head widths and lengths.

use super::case::{Case, Cost, call};
use super::lab::{Lab, lengths};
use super::sizes::Sizes;
use crate::backend::{Backend, F, Heads, S, Tokens};
use crate::error::Result;
use crate::random::{Purpose, Stream};

/// Forward and backward at each shape of the size.
pub fn cases<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    let mut list: Vec<Case<B>> = Vec::new();
    for &(q, kv, dim, length) in s.attention {
        let segments = match length {
            // packed training examples, rarely longer than a few hundred tokens
            0 => lengths(&mut Stream::new(0, Purpose::Bench, 1), s.tokens, s.segments.0, s.segments.1),
            length => vec![length; s.tokens / length],
        };
        let name = match length {
            0 => format!("segments of {} to {}", s.segments.0, s.segments.1),
            length => format!("length {length}"),
        };
        let shape = format!("{} tokens, {q}/{kv} heads of {dim}, {name}", s.tokens);
        list.extend(pair::<B>(
            Heads { tokens: s.tokens, q, kv, dim, scale: 1.0 / (dim as f64).sqrt() },
            segments,
            shape,
        ));
    }
    list
}

fn pair<B: Backend + 'static>(heads: Heads, segments: Vec<usize>, shape: String) -> [Case<B>; 2] {
    // each query against the keys up to its own: scores and outputs are a product each
    let scores: usize = segments.iter().map(|n| n * (n + 1) / 2).sum();
    let flops = 4 * scores * heads.q * heads.dim;
    let (float, stat) = (size_of::<B::Float>(), size_of::<B::Stat>());
    let (n, wide, narrow) = (heads.tokens, heads.width() * float, heads.q * heads.dim * float);
    let forward = Cost { bytes: n * (wide + narrow + heads.q * stat), flops };
    // five products for two; reads qkv, y, dy and the log-sum-exp, writes d_qkv
    let backward = Cost { bytes: n * (2 * wide + 2 * narrow + heads.q * stat), flops: flops / 2 * 5 };
    let same = segments.clone();
    [
        Case::product("attention", shape.clone(), forward, move |lab| {
            let mut at = Tensors::new(lab, heads, &segments)?;
            call(move |b: &B| b.attention(heads, &at.tokens, &at.qkv, None, &mut at.y, &mut at.lse))
        }),
        Case::product("attention_bwd", shape, backward, move |lab: &mut Lab<B>| {
            let mut at = Tensors::new(lab, heads, &same)?;
            lab.b.attention(heads, &at.tokens, &at.qkv, None, &mut at.y, &mut at.lse)?;
            let dy = lab.float(heads.tokens * heads.q * heads.dim, 1.0)?;
            let mut delta = lab.stat_room(heads.tokens * heads.q)?;
            let mut d_qkv = lab.room(heads.tokens * heads.width())?;
            call(move |b: &B| {
                b.attention_bwd(heads, &at.tokens, &at.qkv, None, &at.y, &at.lse, &dy, &mut delta, &mut d_qkv)
            })
        }),
    ]
}

struct Tensors<B: Backend> {
    tokens: Tokens<B>,
    qkv: F<B>,
    y: F<B>,
    lse: S<B>,
}

impl<B: Backend> Tensors<B> {
    fn new(lab: &mut Lab<B>, heads: Heads, segments: &[usize]) -> Result<Tensors<B>> {
        Ok(Tensors {
            tokens: lab.tokens(segments, 1)?,
            qkv: lab.float(heads.tokens * heads.width(), 1.0)?,
            y: lab.room(heads.tokens * heads.q * heads.dim)?,
            lse: lab.stat_room(heads.tokens * heads.q)?,
        })
    }
}
