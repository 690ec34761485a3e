//! Token and position embeddings: gather forward, ordered scatter backward.

use super::real::Real;
use super::{Cpu, Dropout, EmbedOps, Rows, Stored, Tokens};
use crate::error::Result;

/// Values of a row in 4 bits that are decoded at a time.
const PART: usize = 64;

impl<R: Real> Stored<Cpu<R>> {
    /// Calls `f` with each value of row `i` of a matrix of `width` columns, widened, and with its place in `to`.
    fn with_row(&self, i: usize, width: usize, to: &mut [R], f: impl Fn(&mut R, R)) {
        let row = i * width..(i + 1) * width;
        match self {
            Stored::Float(w) => to.iter_mut().zip(&w[row]).for_each(|(to, &x)| f(to, x)),
            Stored::Bf16(w) => to.iter_mut().zip(&w[row]).for_each(|(to, &x)| f(to, R::of_bf16(x))),
            Stored::Nf4(w) => {
                for (part, to) in to.chunks_mut(PART).enumerate() {
                    let mut values = [R::of(0.0); PART];
                    w.row(i, part * PART, &mut values[..to.len()]);
                    to.iter_mut().zip(values).for_each(|(to, x)| f(to, x));
                }
            }
        }
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
                table.with_row(tokens.ids[t] as usize, s.width, row, |out, w| *out = scale * w);
                if let Some(positions) = positions {
                    positions.with_row(tokens.pos[t] as usize, s.width, row, |out, w| *out += w);
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
