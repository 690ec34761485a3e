//! The forward pass, block by block, for training, evaluation and generation.

use super::decoder::Decoder;
use super::names::Module;
use super::workspace::{Kept, Workspace};
use crate::backend::{Backend, Dropout, F, Heads, Ids, Rows, S, Tokens, Turn};
use crate::error::Result;

/// The mode of a pass: with or without adapters, and its dropout.
pub struct Mode<'a, B: Backend> {
    /// Whether adapters take part; off for the reference pass.
    pub adapters: bool,
    /// Rates and key of a training pass; `None` draws nothing.
    pub dropout: Option<(&'a Rates, &'a Ids<B>)>,
}

impl<B: Backend> Mode<'_, B> {
    /// Without dropout.
    pub fn eval(adapters: bool) -> Self {
        Mode { adapters, dropout: None }
    }
}

/// Dropout rates of the recipe, each in [0, 1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// On the embedding.
    pub embd: f32,
    /// On attention probabilities.
    pub attention: f32,
    /// On the two block outputs.
    pub resid: f32,
    /// On adapter inputs.
    pub lora: f32,
}

/// Which module of a layer draws a mask; the low bits are left to heads.
#[derive(Clone, Copy)]
pub(super) enum Site {
    Embedding,
    Attention,
    Residual(usize),
    Adapter(Module, usize),
}

impl<'a, B: Backend> Mode<'a, B> {
    /// The dropout of a site, where its rate is not zero.
    pub(super) fn at(&self, layer: usize, site: Site, tokens: &'a Tokens<B>) -> Option<Dropout<'a, B>> {
        let (rates, key) = self.dropout?;
        let (p, kind) = match site {
            Site::Embedding => (rates.embd, 0),
            Site::Attention => (rates.attention, 1),
            Site::Residual(which) => (rates.resid, 2 + which),
            Site::Adapter(module, slice) => (rates.lora, 4 + 3 * module as usize + slice),
        };
        (p > 0.0).then_some(Dropout { p, module: ((layer << 16) | (kind << 12)) as u32, key, tokens })
    }
}

/// The layer at which a pass stands, with everything that each step of its block shares, forward and backward.
pub(super) struct Pass<'a, B: Backend> {
    pub b: &'a B,
    pub layer: usize,
    pub tokens: &'a Tokens<B>,
    pub mode: &'a Mode<'a, B>,
}

impl<B: Backend> Clone for Pass<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Pass<'_, B> {}

impl<'a, B: Backend> Pass<'a, B> {
    /// A row of `width` values for each token.
    pub fn rows(&self, width: usize) -> Rows {
        Rows { n: self.tokens.count, width }
    }

    /// The dropout of a site of this layer.
    pub fn dropout(&self, site: Site) -> Option<Dropout<'a, B>> {
        self.mode.at(self.layer, site, self.tokens)
    }

    /// Causal attention over the packed micro-batch.
    pub fn attention(&self, s: Heads, qkv: &F<B>, att: &mut F<B>, lse: &mut S<B>) -> Result {
        self.b.attention(s, self.tokens, qkv, self.dropout(Site::Attention), att, lse)
    }
}

/// The buffers of one block.
pub(super) struct Block<'w, B: Backend> {
    /// The residual stream at its input.
    pub x: &'w F<B>,
    /// The residual stream between attention and MLP.
    pub mid: &'w mut F<B>,
    /// Its activations; the normalised input is there already.
    pub kept: &'w mut Kept<B>,
    /// The output of either half.
    pub branch: &'w mut F<B>,
    pub scratch: &'w mut F<B>,
}

impl<B: Backend> Decoder<B> {
    /// Writes the hidden states after the last norm to `work.hidden`, and keeps in `work` what backward reads.
    pub fn forward(&self, b: &B, work: &mut Workspace<B>, tokens: &Tokens<B>, mode: &Mode<B>) -> Result {
        self.forward_with(b, work, tokens, mode, |pass, heads, qkv, att, lse| pass.attention(heads, qkv, att, lse))
    }

    /// [`Decoder::forward`] with another attention: `attend` writes attention output and log-sum-exp of a layer from
    /// the packed buffer of its queries, keys and values.
    pub(super) fn forward_with(
        &self, b: &B, work: &mut Workspace<B>, tokens: &Tokens<B>, mode: &Mode<B>,
        mut attend: impl FnMut(&Pass<B>, Heads, &F<B>, &mut F<B>, &mut S<B>) -> Result,
    ) -> Result {
        let s = &self.spec;
        let rows = Rows { n: tokens.count, width: s.hidden };
        let Workspace { x, mid, kept, branch, hidden, final_stat, scratch, .. } = work;
        let positions = self.positions.as_ref().map(|p| &p.w);
        let drop = mode.at(0, Site::Embedding, tokens);
        b.embed(rows, tokens, &self.embed.w, positions, s.embed_scale, drop, &mut x[0])?;
        for layer in 0..s.layers {
            let pass = Pass { b, layer, tokens, mode };
            let (norm, k) = (&self.layers[layer].norms[0], &mut kept[layer]);
            if layer == 0 {
                b.norm(rows, norm.kind, &x[0], norm.affine(), &mut k.h1, &mut k.stat1)?;
            } else {
                let drop = mode.at(layer - 1, Site::Residual(1), tokens);
                let (mid, affine) = (&mid[layer - 1], norm.affine());
                b.add_norm(rows, norm.kind, mid, branch, drop, &mut x[layer], affine, &mut k.h1, &mut k.stat1)?;
            }
            let mut block = Block { x: &x[layer], mid: &mut mid[layer], kept: k, branch, scratch };
            self.inside(pass, &mut block, &mut attend)?;
            let Block { kept: Kept { act, low, .. }, branch, scratch, .. } = block;
            self.project(pass, Module::Down, act, &mut low[Module::Down as usize], scratch, branch)?;
        }
        let drop = mode.at(s.layers - 1, Site::Residual(1), tokens);
        let (mid, norm) = (&mid[s.layers - 1], &self.final_norm);
        b.add_norm(rows, norm.kind, mid, branch, drop, &mut x[s.layers], norm.affine(), hidden, final_stat)
    }

    /// A block from its normalised input `kept.h1` to the input of its last projection, `kept.act`.
    pub(super) fn inside(
        &self, pass: Pass<B>, block: &mut Block<B>,
        attend: &mut impl FnMut(&Pass<B>, Heads, &F<B>, &mut F<B>, &mut S<B>) -> Result,
    ) -> Result {
        let (s, heads) = (&self.spec, self.heads(pass.tokens.count));
        let Block { x, mid, kept, branch, scratch } = block;
        let Kept { h1, qkv, att, lse, h2, stat2, up, act, low, .. } = &mut **kept;
        let [low_qkv, low_o, low_up, _] = low;
        self.project(pass, Module::Qkv, h1, low_qkv, scratch, qkv)?;
        if let Some(table) = self.rope.as_ref().filter(|_| self.rotates(pass.layer)) {
            pass.b.rope(heads, pass.tokens, table, Turn::Forward, qkv)?;
        }
        attend(&pass, heads, qkv, att, lse)?;
        self.project(pass, Module::O, att, low_o, scratch, branch)?;
        let (norm, drop) = (&self.layers[pass.layer].norms[1], pass.dropout(Site::Residual(0)));
        pass.b.add_norm(pass.rows(s.hidden), norm.kind, x, branch, drop, mid, norm.affine(), h2, stat2)?;
        self.project(pass, Module::Up, h2, low_up, scratch, up)?;
        pass.b.act(pass.rows(s.inner), s.act, up, act)
    }

    /// A projection and the adapters of its slices.
    fn project(
        &self, pass: Pass<B>, module: Module, x: &F<B>, low: &mut [F<B>], scratch: &mut F<B>, y: &mut F<B>,
    ) -> Result {
        let p = &self.layers[pass.layer].proj[module as usize];
        pass.b.linear(p.gemm(pass.tokens.count), x, &p.w.w, p.bias.as_ref().map(|v| &v.w), y)?;
        self.adapt(pass, module, x, low, scratch, y)
    }

    /// The adapters of a projection's slices: `low` of each, and its product added to `y`.
    pub(super) fn adapt(
        &self, pass: Pass<B>, module: Module, x: &F<B>, low: &mut [F<B>], scratch: &mut F<B>, y: &mut F<B>,
    ) -> Result {
        let p = &self.layers[pass.layer].proj[module as usize];
        let shape = p.gemm(pass.tokens.count);
        for (i, slice) in p.slices.iter().enumerate().filter(|_| pass.mode.adapters) {
            let Some(a) = &slice.adapter else { continue };
            let drop = pass.dropout(Site::Adapter(module, i));
            pass.b.lora(slice.lora(shape, a), x, &a.a.w, &a.b.w, drop, scratch, &mut low[i], y)?;
        }
        Ok(())
    }
}
