//! The backward pass, block by block from the last to the first. Gradients of weights accumulate, those of activations
//! overwrite (the rules stand at the top of [`crate::backend`]).

use super::decoder::{Decoder, Layer, NormParams};
use super::forward::{Block, Mode, Pass, Site};
use super::names::Module;
use super::workspace::{Grads, Kept, Workspace};
use crate::backend::{Backend, F, Rows, S, Tokens, Turn};
use crate::error::{Error, Result};

/// What the forward pass left of a block.
struct Saved<'w, B: Backend> {
    x: &'w F<B>,
    mid: &'w F<B>,
    kept: &'w Kept<B>,
}

impl<B: Backend> Decoder<B> {
    /// From the gradient of the hidden states in `work.grads.dx` to the gradients of all trained parameters, the LM
    /// head's excepted. `tokens` and `mode` as in [`Decoder::forward`].
    pub fn backward(&mut self, b: &B, work: &mut Workspace<B>, tokens: &Tokens<B>, mode: &Mode<B>) -> Result {
        let layers = self.spec.layers;
        let Workspace { x, mid, kept, branch, final_stat, scratch, grads, .. } = work;
        let Some(grads) = grads else {
            return Err(Error::Device("backward was called with a workspace that was made for evaluation".into()));
        };
        let last = Pass { b, layer: layers - 1, tokens, mode };
        // the gradient of the hidden states arrives in dx and leaves, as the stream's gradient, in d_mid: swap names
        last.norm_bwd(&mut self.final_norm, &x[layers], final_stat, &grads.dx, None, &mut grads.d_mid)?;
        std::mem::swap(&mut grads.dx, &mut grads.d_mid);

        let below = self.embed.train.is_some();
        for layer in (0..layers).rev() {
            let pass = Pass { layer, ..last };
            // the last block's activations are as forward left them
            if kept.shared() && layer + 1 < layers {
                let (mid, kept) = (&mut mid[layer], &mut kept[layer]);
                self.recompute(pass, Block { x: &x[layer], mid, kept, branch, scratch })?;
            }
            let saved = Saved { x: &x[layer], mid: &mid[layer], kept: &kept[layer] };
            self.block_bwd(pass, saved, grads, scratch, below || layer > 0)?;
        }
        if below {
            let drop = mode.at(0, Site::Embedding, tokens);
            let positions = self.positions.as_mut().and_then(|p| p.grad());
            let (rows, scale) = (last.rows(self.spec.hidden), self.spec.embed_scale);
            b.embed_bwd(rows, tokens, scale, drop, &grads.dx, self.embed.grad(), positions)?;
        }
        Ok(())
    }

    /// The kept activations of a block once more, from the residual stream at its input: the same operations on the
    /// same values with the same masks, hence the same bits. The product of the last projection is left out, since the
    /// stream that it is added to is kept; nothing reads what its adapters add to `branch`.
    fn recompute(&self, pass: Pass<B>, mut block: Block<B>) -> Result {
        let (norm, k) = (&self.layers[pass.layer].norms[0], &mut *block.kept);
        let rows = pass.rows(self.spec.hidden);
        pass.b.norm(rows, norm.kind, block.x, norm.affine(), &mut k.h1, &mut k.stat1)?;
        self.inside(pass, &mut block, &mut |pass, heads, qkv, att, lse| pass.attention(heads, qkv, att, lse))?;
        let Kept { act, low, .. } = block.kept;
        self.adapt(pass, Module::Down, act, &mut low[Module::Down as usize], block.scratch, block.branch)
    }

    /// `grads.dx`: in, the gradient of the stream after the block; out, before it. Without `below` nothing that is
    /// trained lies before this block, and its input's gradient is not formed.
    fn block_bwd(
        &mut self, pass: Pass<B>, Saved { x, mid, kept: k }: Saved<B>, grads: &mut Grads<B>, scratch: &mut F<B>,
        below: bool,
    ) -> Result {
        let Pass { b, tokens, .. } = pass;
        let (heads, rope) = (self.heads(tokens.count), self.rope.as_ref().filter(|_| self.rotates(pass.layer)));
        let (act, hidden, inner) = (self.spec.act, pass.rows(self.spec.hidden), pass.rows(self.spec.inner));
        let layer = &mut self.layers[pass.layer];
        let Grads { dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low } = grads;
        let mut projections = Projections { pass, layer, k, scratch, d_low };

        // MLP: stream = mid + dropout(down(act(up(norm(mid)))))
        let d = pass.branch_bwd(1, hidden, dx, d_branch)?;
        projections.bwd(Module::Down, &k.act, d, Some(d_inner))?;
        b.act_bwd(inner, act, &k.up, d_inner, d_wide)?;
        projections.bwd(Module::Up, &k.h2, d_wide, Some(d_norm))?;
        pass.norm_bwd(&mut projections.layer.norms[1], mid, &k.stat2, d_norm, Some(dx), d_mid)?;

        // attention: mid = x + dropout(o(attention(rope(qkv(norm(x))))))
        let d = pass.branch_bwd(0, hidden, d_mid, d_branch)?;
        projections.bwd(Module::O, &k.att, d, Some(d_inner))?;
        let drop = pass.dropout(Site::Attention);
        b.attention_bwd(heads, tokens, &k.qkv, drop, &k.att, &k.lse, d_inner, delta, d_wide)?;
        if let Some(table) = rope {
            b.rope(heads, tokens, table, Turn::Inverse, d_wide)?;
        }
        projections.bwd(Module::Qkv, &k.h1, d_wide, below.then_some(&mut *d_norm))?;
        if below {
            pass.norm_bwd(&mut projections.layer.norms[0], x, &k.stat1, d_norm, Some(d_mid), dx)?;
        }
        Ok(())
    }
}

impl<B: Backend> Pass<'_, B> {
    /// The gradient of a residual branch: that of the sum, masked where the branch was dropped.
    fn branch_bwd<'g>(&self, half: usize, s: Rows, d_sum: &'g F<B>, masked: &'g mut F<B>) -> Result<&'g F<B>> {
        match self.dropout(Site::Residual(half)) {
            None => Ok(d_sum),
            Some(drop) => {
                self.b.dropout_bwd(s, drop, d_sum, masked)?;
                Ok(masked)
            }
        }
    }

    /// `dx = d_skip + dnorm/dx dy`, and the gradients of gain and bias where they are trained.
    fn norm_bwd(
        &self, p: &mut NormParams<B>, x: &F<B>, stat: &S<B>, dy: &F<B>, d_skip: Option<&F<B>>, dx: &mut F<B>,
    ) -> Result {
        let rows = self.rows(p.gain.len);
        let d_gain = p.gain.train.as_mut().map(|t| &mut t.grad);
        let d_bias = p.bias.as_mut().and_then(|v| v.grad());
        self.b.norm_bwd(rows, p.kind, x, &p.gain.w, stat, dy, d_skip, dx, d_gain, d_bias)
    }
}

/// The projections of a block in its backward pass.
struct Projections<'a, B: Backend> {
    pass: Pass<'a, B>,
    layer: &'a mut Layer<B>,
    k: &'a Kept<B>,
    scratch: &'a mut F<B>,
    d_low: &'a mut F<B>,
}

impl<B: Backend> Projections<'_, B> {
    /// Gradients of a projection and of its adapters, from `dy` to `dx`.
    fn bwd(&mut self, module: Module, x: &F<B>, dy: &F<B>, mut dx: Option<&mut F<B>>) -> Result {
        let Pass { b, tokens, mode, .. } = self.pass;
        let p = &mut self.layer.proj[module as usize];
        let shape = p.gemm(tokens.count);
        let (dw, d_bias) = (p.w.train.as_mut().map(|t| &mut t.grad), p.bias.as_mut().and_then(|v| v.grad()));
        b.linear_bwd(shape, x, &p.w.w, dy, dx.as_deref_mut(), dw, d_bias)?;
        for (i, slice) in p.slices.iter_mut().enumerate().filter(|_| mode.adapters) {
            let Some(s) = slice.adapter.as_ref().map(|a| slice.lora(shape, a)) else { continue };
            let drop = self.pass.dropout(Site::Adapter(module, i));
            let Some((a_w, b_w, Some(da), Some(db))) = slice.adapter.as_mut().map(|a| a.split()) else { continue };
            let low = &self.k.low[module as usize][i];
            b.lora_bwd(s, x, a_w, b_w, drop, low, dy, self.scratch, self.d_low, dx.as_deref_mut(), da, db)?;
        }
        Ok(())
    }
}
