//! Token and position embeddings: gather forward, ordered scatter backward.

use super::real::Real;
use super::{Cpu, Dropout, EmbedOps, Rows, Stored, Tokens};
use crate::error::Result;

impl<R: Real> Stored<Cpu<R>> {
    /// Row `i` of a matrix of `width` columns, widened.
    fn row(&self, i: usize, width: usize) -> impl Iterator<Item = R> + '_ {
        let (full, narrow) = match self {
            Stored::Float(w) => (&w[i * width..(i + 1) * width], [].as_slice()),
            Stored::Bf16(w) => ([].as_slice(), &w[i * width..(i + 1) * width]),
        };
        full.iter().copied().chain(narrow.iter().map(|&x| R::of_bf16(x)))
    }
}

impl<R: Real> EmbedOps for Cpu<R> {
    fn embed(
        &self, s: Rows, tokens: &Tokens<Self>, table: &Stored<Self>, positions: Option<&Stored<Self>>, scale: f64,
        drop: Option<Dropout<Self>>, y: &mut Vec<R>,
    ) -> Result {
        let scale = R::of(scale);
        self.blocks(&mut y[..s.n * s.width], s.width, |first, rows| {
            for (r, row) in rows.chunks_exact_mut(s.width).enumerate() {
                let t = first + r;
                for (out, w) in row.iter_mut().zip(table.row(tokens.ids[t] as usize, s.width)) {
                    *out = scale * w;
                }
                if let Some(positions) = positions {
                    for (out, w) in row.iter_mut().zip(positions.row(tokens.pos[t] as usize, s.width)) {
                        *out += w;
                    }
                }
                if let Some(drop) = drop {
                    drop.apply(t, 0, 0, row);
                }
            }
        });
        Ok(())
    }

    /// Tokens in order within each column, so that the sums have one order whatever the threads do.
    fn embed_bwd(
        &self, s: Rows, tokens: &Tokens<Self>, scale: f64, drop: Option<Dropout<Self>>, dy: &Vec<R>,
        d_table: Option<&mut Vec<R>>, d_positions: Option<&mut Vec<R>>,
    ) -> Result {
        let scatter = |d: &mut [R], index: &[u32], scale: R| {
            self.with_scratch(s.width, |masked| {
                for (t, &i) in index[..s.n].iter().enumerate() {
                    masked.copy_from_slice(&dy[t * s.width..][..s.width]);
                    if let Some(drop) = drop {
                        drop.apply(t, 0, 0, masked);
                    }
                    let row = &mut d[i as usize * s.width..][..s.width];
                    row.iter_mut().zip(&*masked).for_each(|(sum, &grad)| *sum += scale * grad);
                }
            });
        };
        if let Some(d) = d_table {
            scatter(d, &tokens.ids, R::of(scale));
        }
        if let Some(d) = d_positions {
            scatter(d, &tokens.pos, R::of(1.0));
        }
        Ok(())
    }
}
