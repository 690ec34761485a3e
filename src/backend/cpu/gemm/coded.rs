//! A right operand in 4 bits: decoded a part at a time, into the room that its reader leaves free.

use super::{Mat, Side};
use crate::backend::cpu::Real;
use crate::backend::nf4::Nf4;
use std::ops::Range;

/// A matrix in 4 bits, or its transpose, from a row and a column on.
#[derive(Clone, Copy)]
pub(in crate::backend) struct Coded<'a> {
    w: &'a Nf4<Vec<u8>, Vec<f32>>,
    /// The first row and column that are meant, of `w` as it is stored.
    row: usize,
    col: usize,
    transposed: bool,
}

impl<'a> Coded<'a> {
    pub fn new(w: &'a Nf4<Vec<u8>, Vec<f32>>) -> Self {
        Coded { w, row: 0, col: 0, transposed: false }
    }

    /// The same matrix, transposed.
    pub fn t(self) -> Self {
        Coded { transposed: !self.transposed, ..self }
    }

    /// Without its first rows and columns.
    pub fn at(self, row: usize, col: usize) -> Self {
        let (row, col) = if self.transposed { (col, row) } else { (row, col) };
        Coded { row: self.row + row, col: self.col + col, ..self }
    }

    /// Whether each of its columns lies in a line.
    pub fn has_columns(&self) -> bool {
        self.transposed
    }

    pub fn holds(&self, rows: usize, cols: usize) -> bool {
        let (rows, cols) = if self.transposed { (cols, rows) } else { (rows, cols) };
        self.row + rows <= self.w.rows() && self.col + cols <= self.w.cols
    }

    /// Calls `f` with its first `n` columns, as many at a time as the room of `side` holds in whole units of `unit`;
    /// `[depth, columns]` each. The room must be free.
    pub fn decoded<R: Real>(
        self, side: Side, (n, unit): (usize, usize), depth: usize, mut f: impl FnMut(Range<usize>, Mat<R>),
    ) {
        R::with_room(side, |room| {
            let most = (room.len() / depth / unit).max(1) * unit;
            for first in (0..n).step_by(most) {
                let columns = first..n.min(first + most);
                let (rows, width) = if self.transposed { (columns.len(), depth) } else { (depth, columns.len()) };
                let (values, part) = (&mut room[..rows * width], self.at(0, first));
                for (r, line) in values.chunks_exact_mut(width).enumerate() {
                    part.w.row(part.row + r, part.col, line);
                }
                let decoded = Mat::rows(&*values, width);
                f(columns, if self.transposed { decoded.t() } else { decoded });
            }
        });
    }
}
