//! Kernels of one block per row: embedding, norms, rotations, activations, dropout, bias; and the sums of columns that
//! are their weights' gradients.

use super::attention::padded;
use super::backend::{Cuda, optional};
use super::device::{Args, Device};
use crate::backend::{Act, Affine, Dropout, F, Heads, Ids, Norm, Rows, S, Stored, Tokens, Turn};
use crate::error::Result;

/// Whether means are taken off, and what is added to the variance.
fn layer(kind: Norm) -> (usize, f64) {
    match kind {
        Norm::Rms { eps } => (0, eps),
        Norm::Layer { eps } => (1, eps),
    }
}

/// The kernels' enum of that name (kernels/act.cu).
fn act(kind: Act) -> usize {
    match kind {
        Act::SwiGlu => 0,
        Act::GeluTanh => 1,
        Act::GeluErf => 2,
    }
}

impl<D: Device> Cuda<D> {
    pub(super) fn embed_rows(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        table: &Stored<Self>,
        positions: Option<&Stored<Self>>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
    ) -> Result {
        let args = Args::default()
            .address(tokens.ids.address())
            .address(tokens.pos.address())
            .address(table.bf16().address())
            .address(optional(positions.map(Stored::bf16)))
            .float(scale)
            .words(&Dropout::words(drop))
            .address(y.address())
            .int(s.width);
        self.per_row("embed", s.n, s.width, args)
    }

    /// `index`: ids for the table of tokens, positions for that of positions.
    pub(super) fn embed_scatter(
        &self,
        s: Rows,
        index: &Ids<Self>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        dy: &F<Self>,
        d_table: &mut S<Self>,
    ) -> Result {
        let args = Args::default()
            .address(index.address())
            .address(dy.address())
            .float(scale)
            .words(&Dropout::words(drop))
            .address(d_table.address())
            .int(s.n)
            .int(s.width);
        let threads = 256;
        // a flag per thread and one for the block
        self.blocks("embed_bwd", [s.n, 1], threads, (threads + 1) * 4, args)
    }

    pub(super) fn normalise(
        &self,
        s: Rows,
        kind: Norm,
        x: &F<Self>,
        affine: Affine<Self>,
        y: &mut F<Self>,
        stat: &mut S<Self>,
    ) -> Result {
        let (layer, eps) = layer(kind);
        let args = Args::default()
            .address(x.address())
            .address(affine.gain.address())
            .address(optional(affine.bias))
            .address(y.address())
            .address(stat.address())
            .int(s.width)
            .float(eps)
            .int(layer);
        self.per_row("row_norm", s.n, s.width, args)
    }

    pub(super) fn residual_norm(
        &self,
        s: Rows,
        kind: Norm,
        skip: &F<Self>,
        branch: &F<Self>,
        drop: Option<Dropout<Self>>,
        sum: &mut F<Self>,
        affine: Affine<Self>,
        y: &mut F<Self>,
        stat: &mut S<Self>,
    ) -> Result {
        let (layer, eps) = layer(kind);
        let args = Args::default()
            .address(skip.address())
            .address(branch.address())
            .words(&Dropout::words(drop))
            .address(sum.address())
            .address(affine.gain.address())
            .address(optional(affine.bias))
            .address(y.address())
            .address(stat.address())
            .int(s.width)
            .float(eps)
            .int(layer);
        self.per_row("row_add_norm", s.n, s.width, args)
    }

    pub(super) fn normalise_bwd(
        &self,
        s: Rows,
        kind: Norm,
        x: &F<Self>,
        gain: &F<Self>,
        stat: &S<Self>,
        dy: &F<Self>,
        d_skip: Option<&F<Self>>,
        dx: &mut F<Self>,
        d_gain: Option<&mut S<Self>>,
        d_bias: Option<&mut S<Self>>,
    ) -> Result {
        let args = Args::default()
            .address(x.address())
            .address(gain.address())
            .address(stat.address())
            .address(dy.address())
            .address(optional(d_skip))
            .address(dx.address())
            .int(s.width)
            .int(layer(kind).0);
        self.per_row("row_norm_bwd", s.n, s.width, args)?;
        if let Some(d) = d_gain {
            let args = Args::default()
                .address(dy.address())
                .address(x.address())
                .address(stat.address())
                .address(d.address())
                .int(s.n)
                .int(s.width);
            self.per_column("gain_sum", s.width, args)?;
        }
        match d_bias {
            Some(d) => self.column_sum(s, dy, 1.0, d),
            None => Ok(()),
        }
    }

    /// `out[c] += alpha sum_t dy[t, c]`.
    pub(super) fn column_sum(&self, s: Rows, dy: &F<Self>, alpha: f64, out: &mut S<Self>) -> Result {
        let args = Args::default()
            .address(dy.address())
            .float(alpha)
            .address(out.address())
            .int(s.n)
            .int(s.width)
            .int(s.width);
        self.per_column("column_sum", s.width, args)
    }

    /// A block per 32 columns, 32 x 33 partial sums.
    fn per_column(&self, kernel: &str, width: usize, args: Args) -> Result {
        self.blocks(kernel, [width.div_ceil(32), 1], 1024, 32 * 33 * 4, args)
    }

    /// `y = mask * x`, or `y += mask * x`.
    pub(super) fn masked(&self, s: Rows, drop: Dropout<Self>, x: &F<Self>, y: &mut F<Self>, add: bool) -> Result {
        let args = Args::default()
            .address(x.address())
            .words(&Dropout::words(Some(drop)))
            .address(y.address())
            .int(s.width)
            .int(add.into());
        self.per_row("mask_rows", s.n, s.width, args)
    }

    /// `y[t] += alpha * bias`.
    pub(super) fn add_bias(&self, s: Rows, bias: &F<Self>, alpha: f64, y: &mut F<Self>) -> Result {
        let args = Args::default().address(y.address()).address(bias.address()).float(alpha).int(s.width);
        self.per_row("add_bias", s.n, s.width, args)
    }

    pub(super) fn rotate(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        table: &S<Self>,
        turn: Turn,
        qkv: &mut F<Self>,
    ) -> Result {
        padded(s.dim)?; // as attention, which follows: a thread turns four pairs
        let args = Args::default()
            .address(tokens.pos.address())
            .address(table.address())
            .float(if turn == Turn::Forward { 1.0 } else { -1.0 })
            .address(qkv.address())
            .int(s.q + s.kv)
            .int(s.dim)
            .int(s.width());
        let threads = ((s.q + s.kv) * s.dim / 8).next_multiple_of(32).clamp(32, 256) as u32;
        self.blocks("rope", [s.tokens, 1], threads, 0, args)
    }

    pub(super) fn activate(&self, s: Rows, kind: Act, x: &F<Self>, y: &mut F<Self>) -> Result {
        let args = Args::default().address(x.address()).address(y.address()).int(s.width).int(act(kind));
        self.per_row("act", s.n, s.width, args)
    }

    pub(super) fn activate_bwd(&self, s: Rows, kind: Act, x: &F<Self>, dy: &F<Self>, dx: &mut F<Self>) -> Result {
        let args = Args::default()
            .address(x.address())
            .address(dy.address())
            .address(dx.address())
            .int(s.width)
            .int(act(kind));
        self.per_row("act_bwd", s.n, s.width, args)
    }
}
