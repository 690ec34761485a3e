//! Operations on rows: norms, rotations, activations, embeddings, gathers, dropout; and the copies that they are
//! compared with.

use super::case::{Call, Case, call};
use super::lab::Lab;
use super::sizes::Sizes;
use crate::backend::{Act, Affine, Backend, Dropout, Norm, Rows, Turn};
use crate::error::Result;

/// In the order of a block's forward pass.
pub fn cases<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    let (float, stat) = (size_of::<B::Float>(), size_of::<B::Stat>());
    let (n, width) = (s.tokens, s.hidden);
    let (rows, one) = (Rows { n, width }, n * width * float);
    let wide = 2 * s.inner;
    let (shape, large) = (format!("{n} x {width}"), format!("{n} x {wide}"));
    let mut list: Vec<Case<B>> = vec![
        // the reference for the others: simple, and too large for a cache
        Case::moving("zero", large.clone(), n * wide * float, move |lab| {
            let mut x = lab.float(n * wide, 1.0)?;
            call(move |b: &B| b.zero(&mut x, n * wide))
        }),
        Case::moving("copy", large, 2 * n * wide * float, move |lab| {
            let (x, mut y) = (lab.float(n * wide, 1.0)?, lab.room(n * wide)?);
            let index = lab.ids(&(0..n as u32).collect::<Vec<_>>())?;
            call(move |b: &B| b.gather(Rows { n, width: wide }, &index, &x, &mut y))
        }),
        Case::moving("norm", shape.clone(), 2 * one + 2 * n * stat, move |lab| {
            let (x, gain) = (lab.float(n * width, 1.0)?, lab.float(width, 1.0)?);
            let (mut y, mut kept) = (lab.room(n * width)?, lab.stat_room(2 * n)?);
            call(move |b: &B| b.norm(rows, RMS, &x, Affine { gain: &gain, bias: None }, &mut y, &mut kept))
        }),
        Case::moving("add_norm", shape.clone(), 4 * one + 2 * n * stat, move |lab| {
            let (skip, branch) = (lab.float(n * width, 1.0)?, lab.float(n * width, 1.0)?);
            let gain = lab.float(width, 1.0)?;
            let (mut sum, mut y, mut kept) = (lab.room(n * width)?, lab.room(n * width)?, lab.stat_room(2 * n)?);
            call(move |b: &B| {
                let affine = Affine { gain: &gain, bias: None };
                b.add_norm(rows, RMS, &skip, &branch, None, &mut sum, affine, &mut y, &mut kept)
            })
        }),
        Case::moving("norm_bwd", shape.clone(), 4 * one + 2 * n * stat, norm_bwd(rows, false)),
        // with the gradient of the gain, as in full fine-tuning
        Case::moving("norm_bwd_full", shape.clone(), 4 * one + 2 * n * stat, norm_bwd(rows, true)),
        Case::moving("dropout_bwd", shape.clone(), 2 * one, move |lab| {
            let (dy, mut dx) = (lab.float(n * width, 1.0)?, lab.room(n * width)?);
            let (tokens, key) = (lab.tokens(&[n], s.vocab)?, lab.ids(&[7, 1])?);
            call(move |b: &B| {
                b.dropout_bwd(rows, Dropout { p: 0.1, module: 3, key: &key, tokens: &tokens }, &dy, &mut dx)
            })
        }),
        Case::moving("embed", shape.clone(), 2 * one, move |lab| {
            let (tokens, table) = (lab.tokens(&[n], s.vocab)?, lab.weight(s.vocab * width)?);
            let mut y = lab.room(n * width)?;
            call(move |b: &B| b.embed(rows, &tokens, &table, None, 1.0, None, &mut y))
        }),
        Case::moving("embed_bwd", shape.clone(), one + 2 * n * width * stat, move |lab| {
            let (tokens, dy) = (lab.tokens(&[n], s.vocab)?, lab.float(n * width, 1.0)?);
            let mut table = lab.stat_room(s.vocab * width)?;
            call(move |b: &B| b.embed_bwd(rows, &tokens, 1.0, None, &dy, Some(&mut table), None))
        }),
        // every third row, as with prompts that are not supervised
        Case::moving("gather", format!("{} of {shape}", n / 3), n / 3 * width * 2 * float, move |lab| {
            let (x, mut y, index) = (lab.float(n * width, 1.0)?, lab.room(n / 3 * width)?, lab.ids(&third(n))?);
            call(move |b: &B| b.gather(Rows { n: n / 3, width }, &index, &x, &mut y))
        }),
        Case::moving("gather_bwd", format!("{} of {shape}", n / 3), (n / 3 + n) * width * float, move |lab| {
            let (dy, mut dx, index) = (lab.float(n / 3 * width, 1.0)?, lab.room(n * width)?, lab.ids(&third(n))?);
            let coef = lab.stat(n / 3, 1.0)?; // as behind a frozen head
            call(move |b: &B| b.gather_bwd(Rows { n: n / 3, width }, &index, n, Some(&coef), &dy, &mut dx))
        }),
        rope(s),
    ];
    for (forward, backward, kind) in [
        ("swiglu", "swiglu_bwd", Act::SwiGlu),
        ("gelu_tanh", "gelu_tanh_bwd", Act::GeluTanh),
        ("gelu_erf", "gelu_erf_bwd", Act::GeluErf),
    ] {
        let (act, inner) = (Rows { n, width: s.inner }, s.inner * kind.fan_in());
        let shape = format!("{n} x {}", s.inner);
        list.push(Case::moving(forward, shape.clone(), n * (inner + s.inner) * float, move |lab| {
            let (x, mut y) = (lab.float(n * inner, 2.0)?, lab.room(n * act.width)?);
            call(move |b: &B| b.act(act, kind, &x, &mut y))
        }));
        list.push(Case::moving(backward, shape, n * (2 * inner + s.inner) * float, move |lab| {
            let (x, dy) = (lab.float(n * inner, 2.0)?, lab.float(n * act.width, 1.0)?);
            let mut dx = lab.room(n * inner)?;
            call(move |b: &B| b.act_bwd(act, kind, &x, &dy, &mut dx))
        }));
    }
    list
}

const RMS: Norm = Norm::Rms { eps: 1e-5 };

fn norm_bwd<B: Backend + 'static>(rows: Rows, gains: bool) -> impl Fn(&mut Lab<B>) -> Result<Call<B>> {
    move |lab| {
        let (n, width) = (rows.n, rows.width);
        let [x, dy, skip] = [lab.float(n * width, 1.0)?, lab.float(n * width, 1.0)?, lab.float(n * width, 1.0)?];
        let (gain, mut dx) = (lab.float(width, 1.0)?, lab.room(n * width)?);
        let (mut kept, mut d_gain) = (lab.stat_room(2 * n)?, lab.stat_room(width)?);
        // means and deviations as forward leaves them
        lab.b.norm(rows, RMS, &x, Affine { gain: &gain, bias: None }, &mut dx, &mut kept)?;
        call(move |b: &B| {
            let d_gain = gains.then_some(&mut d_gain);
            b.norm_bwd(rows, RMS, &x, &gain, &kept, &dy, Some(&skip), &mut dx, d_gain, None)
        })
    }
}

/// Queries and keys are read and written; values stay.
fn rope<B: Backend + 'static>(s: Sizes) -> Case<B> {
    let heads = s.heads(s.tokens);
    let turned = s.tokens * (s.q + s.kv) * s.dim * size_of::<B::Float>();
    Case::moving("rope", s.shape(), 2 * turned, move |lab| {
        let tokens = lab.tokens(&vec![s.length; s.tokens / s.length], s.vocab)?;
        let (table, mut qkv) = (lab.stat(s.length * s.dim, 1.0)?, lab.float(s.tokens * heads.width(), 1.0)?);
        // there and back, so that values neither grow nor vanish over thousands of calls
        let mut turns = [Turn::Forward, Turn::Inverse].into_iter().cycle();
        call(move |b: &B| b.rope(heads, &tokens, &table, turns.next().unwrap_or(Turn::Forward), &mut qkv))
    })
}

fn third(n: usize) -> Vec<u32> {
    (0..n as u32 / 3).map(|i| 3 * i).collect()
}
