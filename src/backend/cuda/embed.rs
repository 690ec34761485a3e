//! Token and position embeddings.

use super::backend::Cuda;
use super::device::{Args, Device};
use crate::backend::{Dropout, EmbedOps, F, Ids, Rows, S, Stored, Tokens};
use crate::error::Result;

impl<D: Device> EmbedOps for Cuda<D> {
    fn embed(
        &self, s: Rows, tokens: &Tokens<Self>, table: &Stored<Self>, positions: Option<&Stored<Self>>, scale: f64,
        drop: Option<Dropout<Self>>, y: &mut F<Self>,
    ) -> Result {
        let launch = |table: u64, positions: u64| {
            let args = Args::default()
                .addresses([tokens.ids.address(), tokens.pos.address(), table, positions])
                .float(scale)
                .words(&Dropout::words(drop))
                .address(y.address())
                .int(s.width);
            self.per_row("embed", s.n, s.width, args)
        };
        self.with_bf16(table, |table| match positions {
            None => launch(table.address(), 0),
            Some(positions) => self.with_bf16(positions, |positions| launch(table.address(), positions.address())),
        })
    }

    fn embed_bwd(
        &self, s: Rows, tokens: &Tokens<Self>, scale: f64, drop: Option<Dropout<Self>>, dy: &F<Self>,
        d_table: Option<&mut S<Self>>, d_positions: Option<&mut S<Self>>,
    ) -> Result {
        if let Some(d) = d_table {
            self.scatter(s, &tokens.ids, scale, drop, dy, d)?;
        }
        match d_positions {
            Some(d) => self.scatter(s, &tokens.pos, 1.0, drop, dy, d),
            None => Ok(()),
        }
    }
}

impl<D: Device> Cuda<D> {
    /// `index`: ids for the table of tokens, positions for that of positions.
    fn scatter(
        &self, s: Rows, index: &Ids<Self>, scale: f64, drop: Option<Dropout<Self>>, dy: &F<Self>, d_table: &mut S<Self>,
    ) -> Result {
        let args = Args::default()
            .addresses([index.address(), dy.address()])
            .float(scale)
            .words(&Dropout::words(drop))
            .address(d_table.address())
            .int(s.n)
            .int(s.width);
        let threads = 256;
        // a flag per thread and one for the block
        self.blocks("embed_bwd", [s.n, 1], threads, (threads + 1) * 4, args)
    }
}
