//! The backward pass, block by block from the last to the first. Gradients of weights add up; those of activations
//! overwrite (the rules stand at the top of [`crate::backend`]).

use super::decoder::{Decoder, Layer, Mode, NormParams, Site, attention};
use super::names::Module;
use super::workspace::{Grads, Kept, Workspace};
use crate::backend::{Backend, F, Norm, Rows, S, Tokens, Turn};
use crate::error::{Error, Result};

impl<B: Backend> Decoder<B> {
    /// From the gradient of the hidden rows in `work.grads.dx` to the gradients of all trained parameters, the LM
    /// head's excepted. `tokens` and `mode` as in [`Decoder::forward`].
    pub fn backward(&mut self, b: &B, work: &mut Workspace<B>, tokens: &Tokens<B>, mode: &Mode<B>) -> Result {
        let (norm, embed_scale, layers) = (self.spec.norm, self.spec.embed_scale, self.spec.layers);
        let rows = Rows { n: tokens.count, width: self.spec.hidden };
        let Workspace { x, mid, kept, branch, final_stat, scratch, grads, .. } = work;
        let Some(grads) = grads else {
            return Err(Error::Device("backward was asked of a workspace that was made for evaluation".into()));
        };
        // the gradient of the hidden rows arrives in dx and leaves, as the stream's gradient, in d_mid: swap names
        norm_bwd(b, rows, norm, &mut self.final_norm, &x[layers], final_stat, &grads.dx, None, &mut grads.d_mid)?;
        std::mem::swap(&mut grads.dx, &mut grads.d_mid);

        let below = self.embed.train.is_some();
        for l in (0..layers).rev() {
            // the last block's activations are as forward left them
            if kept.shared() && l + 1 < layers {
                self.recompute(b, l, &x[l], &mut mid[l], &mut kept[l], branch, scratch, tokens, mode)?;
            }
            self.block_bwd(b, l, &x[l], &mid[l], &kept[l], grads, scratch, tokens, mode, below || l > 0)?;
        }
        if below {
            let drop = mode.at(0, Site::Embedding, tokens);
            let positions = self.positions.as_mut().and_then(|p| p.grad());
            b.embed_bwd(rows, tokens, embed_scale, drop, &grads.dx, self.embed.grad(), positions)?;
        }
        Ok(())
    }

    /// What forward kept of a block, once more from the stream at its input: the same operations on the same values with
    /// the same masks, hence the same bits. The product of the last projection goes to the stream only, which is kept:
    /// it is left out, and what its adapters add to `branch` is read by nobody.
    #[allow(clippy::too_many_arguments)] // the workspace, taken apart
    fn recompute(
        &self,
        b: &B,
        l: usize,
        x: &F<B>,
        mid: &mut F<B>,
        k: &mut Kept<B>,
        branch: &mut F<B>,
        scratch: &mut F<B>,
        tokens: &Tokens<B>,
        mode: &Mode<B>,
    ) -> Result {
        let rows = Rows { n: tokens.count, width: self.spec.hidden };
        b.norm(rows, self.spec.norm, x, self.layers[l].norms[0].affine(), &mut k.h1, &mut k.stat1)?;
        self.inside(b, l, x, mid, k, branch, scratch, tokens, mode, attention(b, l, tokens, mode))?;
        let low = &mut k.low[Module::Down as usize];
        self.adapt(b, l, Module::Down, &k.act, low, scratch, branch, tokens, mode)
    }

    /// `grads.dx`: in, the gradient of the stream after the block; out, before it. Without `below` nothing that is
    /// trained lies before this block, and its input's gradient is not formed.
    #[allow(clippy::too_many_arguments)] // the workspace, taken apart
    fn block_bwd(
        &mut self,
        b: &B,
        l: usize,
        x: &F<B>,
        mid: &F<B>,
        k: &Kept<B>,
        g: &mut Grads<B>,
        scratch: &mut F<B>,
        tokens: &Tokens<B>,
        mode: &Mode<B>,
        below: bool,
    ) -> Result {
        let (heads, rotates) = (self.heads(tokens.count), self.rotates(l));
        let (norm, act, hidden, inner) = (self.spec.norm, self.spec.act, self.spec.hidden, self.spec.inner);
        let rows = |width| Rows { n: tokens.count, width };
        let rope = self.rope.as_ref().filter(|_| rotates);
        let layer = &mut self.layers[l];
        let Grads { dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low } = g;
        let mut pass = Pass { b, l, tokens, mode, scratch, d_low };

        // MLP: stream = mid + dropout(down(act(up(norm(mid)))))
        let d = pass.branch(1, rows(hidden), dx, d_branch)?;
        pass.project_bwd(layer, Module::Down, &k.act, &k.low, d, Some(d_inner))?;
        b.act_bwd(rows(inner), act, &k.up, d_inner, d_wide)?;
        pass.project_bwd(layer, Module::Up, &k.h2, &k.low, d_wide, Some(d_norm))?;
        norm_bwd(b, rows(hidden), norm, &mut layer.norms[1], mid, &k.stat2, d_norm, Some(dx), d_mid)?;

        // attention: mid = x + dropout(o(attention(rope(qkv(norm(x))))))
        let d = pass.branch(0, rows(hidden), d_mid, d_branch)?;
        pass.project_bwd(layer, Module::O, &k.att, &k.low, d, Some(d_inner))?;
        let drop = mode.at(l, Site::Attention, tokens);
        b.attention_bwd(heads, tokens, &k.qkv, drop, &k.att, &k.lse, d_inner, delta, d_wide)?;
        if let Some(table) = rope {
            b.rope(heads, tokens, table, Turn::Inverse, d_wide)?;
        }
        pass.project_bwd(layer, Module::Qkv, &k.h1, &k.low, d_wide, below.then_some(&mut *d_norm))?;
        if below {
            norm_bwd(b, rows(hidden), norm, &mut layer.norms[0], x, &k.stat1, d_norm, Some(d_mid), dx)?;
        }
        Ok(())
    }
}

/// What every step of a block's backward shares.
struct Pass<'a, B: Backend> {
    b: &'a B,
    l: usize,
    tokens: &'a Tokens<B>,
    mode: &'a Mode<'a, B>,
    scratch: &'a mut F<B>,
    d_low: &'a mut F<B>,
}

impl<B: Backend> Pass<'_, B> {
    /// The gradient of a residual branch: that of the sum, masked where the branch was dropped.
    fn branch<'g>(&self, half: usize, s: Rows, d_sum: &'g F<B>, masked: &'g mut F<B>) -> Result<&'g F<B>> {
        match self.mode.at(self.l, Site::Residual(half), self.tokens) {
            None => Ok(d_sum),
            Some(drop) => {
                self.b.dropout_bwd(s, drop, d_sum, masked)?;
                Ok(masked)
            }
        }
    }

    /// Gradients of a projection and of its adapters, from `dy` to `dx`.
    fn project_bwd(
        &mut self,
        layer: &mut Layer<B>,
        module: Module,
        x: &F<B>,
        low: &[Vec<F<B>>; 4],
        dy: &F<B>,
        mut dx: Option<&mut F<B>>,
    ) -> Result {
        let p = &mut layer.proj[module as usize];
        let shape = p.gemm(self.tokens.count);
        let (dw, d_bias) = (p.w.train.as_mut().map(|t| &mut t.grad), p.bias.as_mut().and_then(|v| v.grad()));
        self.b.linear_bwd(shape, x, &p.w.w, dy, dx.as_deref_mut(), dw, d_bias)?;
        for (i, slice) in p.slices.iter_mut().enumerate().filter(|_| self.mode.adapters) {
            let Some(s) = slice.adapter.as_ref().map(|a| slice.lora(shape, a)) else { continue };
            let drop = self.mode.at(self.l, Site::Adapter(module, i), self.tokens);
            let Some((a, b, Some(da), Some(db))) = slice.adapter.as_mut().map(|a| a.split()) else { continue };
            let low = &low[module as usize][i];
            self.b.lora_bwd(s, x, a, b, drop, low, dy, self.scratch, self.d_low, dx.as_deref_mut(), da, db)?;
        }
        Ok(())
    }
}

#[allow(clippy::too_many_arguments)] // as the operation
fn norm_bwd<B: Backend>(
    b: &B,
    s: Rows,
    kind: Norm,
    p: &mut NormParams<B>,
    x: &F<B>,
    stat: &S<B>,
    dy: &F<B>,
    d_skip: Option<&F<B>>,
    dx: &mut F<B>,
) -> Result {
    let d_gain = p.gain.train.as_mut().map(|t| &mut t.grad);
    let d_bias = p.bias.as_mut().and_then(|v| v.grad());
    b.norm_bwd(s, kind, x, &p.gain.w, stat, dy, d_skip, dx, d_gain, d_bias)
}
