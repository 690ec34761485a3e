//! Matrix products.
//!
//! The order of loops is that of Goto and van de Geijn (2008, "Anatomy of High-Performance Matrix Multiplication"):
//!
//! ```text
//! columns of c, COLUMNS at a time
//!     the depth, in equal parts of at most DEPTH      b is packed, by all threads
//!         rows of c, a task each, at most ROWS        a is packed, unless each row lies in a line
//!             panels of b
//!                 panels of a                         from the second cache; a tile of c in registers
//! ```
//!
//! Few rows take none of this: they read `b` once, as it is stored ([`few`]).
//!
//! Operands in bf16 are packed as [`pairs`], two steps of depth in each place.
//!
//! Where a part of the depth ends follows from the depth alone, the order of a sum from its shape alone, and threads
//! split outputs only: the bits depend neither on the threads nor on the width of vectors, only on whether there is a
//! fused multiplication and addition.

#![allow(clippy::too_many_arguments)] // a product has its shape, three operands, a scale and its threads

mod coded;
mod few;
mod few_pairs;
mod kernel;
mod lanes;
mod pack;
mod pairs;
mod target;

use coded::Coded;
use few::{FEW, Few, Lines};
#[cfg(test)]
use target::Target;
use target::{Kernel, best};
pub use target::{Operands, Product, Side};

use super::Cpu;
use super::real::Real;
use crate::backend::{Gemm, Stored};
use half::bf16;
use std::ops::Range;

/// A matrix read through two strides (in elements).
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    row: usize,
    col: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Row-major, `stride` elements from row to row.
    pub fn rows(data: &'a [T], stride: usize) -> Self {
        Mat { data, row: stride, col: 1 }
    }

    /// The same matrix, transposed.
    pub fn t(self) -> Self {
        Mat { data: self.data, row: self.col, col: self.row }
    }

    /// Without its first rows and columns.
    fn at(self, row: usize, col: usize) -> Self {
        Mat { data: &self.data[row * self.row + col * self.col..], ..self }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// A right operand that products read as it is stored.
#[derive(Clone, Copy)]
pub(in crate::backend) enum Plain<'a, R> {
    /// In working precision.
    Full(Mat<'a, R>),
    /// A frozen weight, widened while it is packed.
    Bf16(Mat<'a, bf16>),
}

impl<R> Plain<'_, R> {
    /// The same matrix, transposed.
    fn t(self) -> Self {
        match self {
            Plain::Full(b) => Plain::Full(b.t()),
            Plain::Bf16(b) => Plain::Bf16(b.t()),
        }
    }

    fn at(self, row: usize, col: usize) -> Self {
        match self {
            Plain::Full(b) => Plain::Full(b.at(row, col)),
            Plain::Bf16(b) => Plain::Bf16(b.at(row, col)),
        }
    }

    /// Values from row to row, and from column to column.
    fn strides(&self) -> (usize, usize) {
        match self {
            Plain::Full(b) => (b.row, b.col),
            Plain::Bf16(b) => (b.row, b.col),
        }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        match self {
            Plain::Full(b) => b.holds(rows, cols),
            Plain::Bf16(b) => b.holds(rows, cols),
        }
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(in crate::backend) enum Right<'a, R> {
    /// Read as it is stored.
    Plain(Plain<'a, R>),
    /// A frozen weight in 4 bits, decoded before it is read.
    Coded(Coded<'a>),
}

impl<'a, R: Real> Right<'a, R> {
    /// A weight `[rows, cols]`.
    pub(super) fn weight(w: &'a Stored<Cpu<R>>, cols: usize) -> Self {
        match w {
            Stored::Float(w) => Right::Plain(Plain::Full(Mat::rows(w, cols))),
            Stored::Bf16(w) => Right::Plain(Plain::Bf16(Mat::rows(w, cols))),
            Stored::Nf4(w) => Right::Coded(Coded::new(w)),
        }
    }

    /// The same matrix, transposed.
    pub(super) fn t(self) -> Self {
        match self {
            Right::Plain(b) => Right::Plain(b.t()),
            Right::Coded(b) => Right::Coded(b.t()),
        }
    }

    fn at(self, row: usize, col: usize) -> Self {
        match self {
            Right::Plain(b) => Right::Plain(b.at(row, col)),
            Right::Coded(b) => Right::Coded(b.at(row, col)),
        }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        match self {
            Right::Plain(b) => b.holds(rows, cols),
            Right::Coded(b) => b.holds(rows, cols),
        }
    }
}

impl<'a, R> From<Plain<'a, R>> for Right<'a, R> {
    fn from(b: Plain<'a, R>) -> Self {
        Right::Plain(b)
    }
}

impl<'a, R> From<Mat<'a, R>> for Right<'a, R> {
    fn from(b: Mat<'a, R>) -> Self {
        Right::Plain(Plain::Full(b))
    }
}

/// A block of the left operand.
#[derive(Clone, Copy)]
enum Left<'a, R> {
    /// As it is stored, each row in a line.
    Rows(Mat<'a, R>),
    /// Packed by [`Kernel::pack_left`].
    Panels(&'a [R]),
}

/// Blocks of both operands and what becomes of their product.
#[derive(Clone, Copy)]
struct Tiles<'a, R> {
    a: Left<'a, R>,
    /// Rows of `a`.
    m: usize,
    /// Panels of `n` columns of the right one.
    b: &'a [R],
    n: usize,
    depth: usize,
    ldc: usize,
    alpha: R,
    /// Whether the result is added to what is there.
    add: bool,
}

/// A part of the depth, long enough that `c` is seldom gone through twice: memory is the slower part. A panel of `b`
/// (16 columns of f32, 40 KiB) then comes from the second cache, which is fast enough for tiles of this size.
const DEPTH: usize = 640;
/// Rows of a task: their panels take up to 300 KiB of the second cache.
const ROWS: usize = 120;
/// Columns whose panels are in the third cache at a time, 2.5 MiB in f32.
const COLUMNS: usize = 1024;
/// Values of the panels of a task and of the columns; as long as the sides of a tile divide rows and columns.
const ROOM_OF: [usize; 2] = [ROWS * DEPTH, COLUMNS * DEPTH];
/// Bytes of both, which each thread keeps.
pub(in crate::backend) const fn room<T>() -> usize {
    (ROOM_OF[0] + ROOM_OF[1]) * size_of::<T>()
}

/// Columns of a task that packs them, and of a task of a product with few rows: at most so many.
const GROUP: usize = 128;
/// Columns that a product with few rows is cut by: whole tiles of every form.
const UNIT: usize = 48;

/// How a product is computed.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Threads. More than one are those of the rayon pool that the product is called in.
    pub threads: usize,
    /// What operands are rounded to.
    pub operands: Operands,
}

impl Mode {
    /// By the calling thread, with operands as they are.
    #[cfg(any(test, feature = "emulator"))]
    pub const PLAIN: Mode = Mode { threads: 1, operands: Operands::Full };

    /// By the calling thread.
    pub fn alone(self) -> Mode {
        Mode { threads: 1, ..self }
    }
}

/// `c = alpha a b` or, with `accumulate`, `c += alpha a b`; `a [m, k]`, `b [k, n]`, `c [m, n]` with rows `ldc` apart.
pub fn gemm<'a, R: Real>(
    (m, n, k): (usize, usize, usize), a: Mat<R>, b: impl Into<Right<'a, R>>, c: &mut [R], ldc: usize, alpha: f64,
    accumulate: bool, Mode { threads, operands }: Mode,
) {
    let b = b.into();
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        a.holds(m, k) && b.holds(k, n) && ldc >= n && (m - 1) * ldc + n <= c.len(),
        "gemm: a shape exceeds its buffer"
    );
    let (c, alpha) = (&mut c[..(m - 1) * ldc + n], R::of(alpha));
    if k == 0 {
        if !accumulate {
            c.chunks_mut(ldc).for_each(|row| row[..n].fill(R::of(0.0)));
        }
    } else if let Some((_, kernel)) = best(operands) {
        if m <= FEW && a.col == 1 && kernel.takes_few(b, k) {
            return few_rows(kernel, Few { a, m, depth: k, alpha, add: accumulate }, b, c, ldc, threads);
        }
        blocks(kernel, (m, n, k), a, b, c, ldc, alpha, accumulate, threads);
    }
}

/// The loops at the top of this page, but the innermost two.
fn blocks<R: Real>(
    kernel: Kernel<R>, (m, n, k): (usize, usize, usize), a: Mat<R>, b: Right<R>, c: &mut [R], ldc: usize, alpha: R,
    accumulate: bool, threads: usize,
) {
    let (unit, direct) = (kernel.unit(), a.col == 1 && !kernel.pairs);
    let part = k.div_ceil(k.div_ceil(DEPTH * unit)).next_multiple_of(8);
    R::with_room(Side::Right, |right| {
        for column in (0..n).step_by(COLUMNS) {
            let n = COLUMNS.min(n - column);
            for from in (0..k).step_by(part) {
                let values = part.min(k - from);
                let depth = values.div_ceil(unit);
                let right = &mut right[..n.next_multiple_of(kernel.nr) * depth];
                shares(right, (depth, kernel.nr), 0..n, Tasks::new(n, GROUP, threads), &|columns, panels| {
                    kernel.pack_right(b.at(from, column + columns.start), columns.len(), values, panels);
                });
                let (b, add) = (&*right, accumulate || from > 0);
                shares(c, (ldc, kernel.mr), 0..m, Tasks::new(m, ROWS / kernel.parts, threads), &|rows, c| {
                    let (a, m) = (a.at(rows.start, from), rows.len());
                    let tiles = Tiles { a: Left::Rows(a), m, b, n, depth, ldc, alpha, add };
                    if direct {
                        return kernel.multiply(tiles, &mut c[column..]);
                    }
                    R::with_room(Side::Left, |panels| {
                        let panels = &mut panels[..m.next_multiple_of(kernel.mr) * depth * kernel.parts];
                        kernel.pack_left(a, m, values, panels);
                        kernel.multiply(Tiles { a: Left::Panels(panels), ..tiles }, &mut c[column..]);
                    });
                });
            }
        }
    });
}

/// How many tasks work is cut into, and whether they run at the same time.
#[derive(Clone, Copy)]
struct Tasks {
    count: usize,
    parallel: bool,
}

impl Tasks {
    /// As many for each thread, of at most `most` lines.
    fn new(lines: usize, most: usize, threads: usize) -> Tasks {
        let threads = threads.max(1);
        Tasks { count: threads * lines.div_ceil(threads).div_ceil(most), parallel: threads > 1 }
    }

    fn halves(self) -> [Tasks; 2] {
        [self.count / 2, self.count - self.count / 2].map(|count| Tasks { count, ..self })
    }
}

/// Calls `f(lines, data)` on shares of `lines`, as equal as whole units of `unit` of them can be: with chunks of one
/// size the last is a smaller one, and the thread that has it waits. `data` has `width` values for each line.
fn shares<T: Send>(
    data: &mut [T], (width, unit): (usize, usize), lines: Range<usize>, tasks: Tasks,
    f: &(impl Fn(Range<usize>, &mut [T]) + Sync),
) {
    let [left, right] = tasks.halves();
    let first = lines.len().div_ceil(unit) * left.count / tasks.count.max(1) * unit;
    if first == 0 {
        return f(lines, data);
    }
    let (from, middle, to) = (lines.start, lines.start + first, lines.end);
    let (before, after) = data.split_at_mut(first * width);
    let mut first = || shares(before, (width, unit), from..middle, left, f);
    let mut second = || shares(after, (width, unit), middle..to, right, f);
    if tasks.parallel {
        rayon::join(first, second);
    } else {
        first();
        second();
    }
}

/// Products with few rows, which are packed first where they are pairs: as many at a time as there is room for.
fn few_rows<R: Real>(kernel: Kernel<R>, few: Few<R>, b: Right<R>, c: &mut [R], ldc: usize, threads: usize) {
    if !kernel.pairs {
        return share_columns(kernel, few, b, c, ldc, threads);
    }
    let n = c.len() - (few.m - 1) * ldc;
    let width = few.depth.div_ceil(2);
    R::with_room(Side::Left, |room| {
        let most = few.m.min(room.len() / width);
        for first in (0..few.m).step_by(most) {
            let m = most.min(few.m - first);
            kernel.pack_rows(few.a.at(first, 0), m, few.depth, &mut room[..m * width]);
            let few = Few { a: Mat::rows(&room[..m * width], width), m, ..few };
            share_columns(kernel, few, b, &mut c[first * ldc..][..(m - 1) * ldc + n], ldc, threads);
        }
    });
}

/// The columns of `c` are shared among the threads.
fn share_columns<R: Real>(kernel: Kernel<R>, few: Few<R>, b: Right<R>, c: &mut [R], ldc: usize, threads: usize) {
    let n = c.len() - (few.m - 1) * ldc;
    let mut lines: Lines<R> = std::array::from_fn(|_| Default::default());
    for (line, row) in lines.iter_mut().zip(c.chunks_mut(ldc)) {
        *line = &mut row[..n];
    }
    column_tasks(lines, 0, n, Tasks::new(n, GROUP, threads), &|from, lines| {
        kernel.multiply_few(few, b.at(0, from), lines);
    });
}

/// Calls `f(first column, lines)` on shares of the `n` columns that `lines` have from `first` on, as [`shares`] does.
fn column_tasks<R: Real>(
    mut lines: Lines<R>, first: usize, n: usize, tasks: Tasks, f: &(impl Fn(usize, &mut Lines<R>) + Sync),
) {
    let [left, right] = tasks.halves();
    // whole tiles, of 3 or 6 columns or of whole vectors
    let middle = n.div_ceil(UNIT) * left.count / tasks.count.max(1) * UNIT;
    if middle == 0 {
        return f(first, &mut lines);
    }
    let mut rest: Lines<R> = std::array::from_fn(|_| Default::default());
    for (line, rest) in lines.iter_mut().zip(&mut rest).filter(|(line, _)| !line.is_empty()) {
        let (before, behind) = std::mem::take(line).split_at_mut(middle);
        (*line, *rest) = (before, behind);
    }
    let one = || column_tasks(lines, first, middle, left, f);
    let other = || column_tasks(rest, first + middle, n - middle, right, f);
    if tasks.parallel {
        rayon::join(one, other);
    } else {
        one();
        other();
    }
}

impl<R> Kernel<R> {
    /// Values of depth in a place of a panel.
    fn unit(&self) -> usize {
        if self.pairs { 2 } else { 1 }
    }

    /// Whether few rows are multiplied with `b` as it is stored: with columns that lie in a line or, where operands are
    /// neither bf16 nor coded, rows that do. Rows of bf16 must fit the room for them.
    fn takes_few(&self, b: Right<R>, depth: usize) -> bool {
        let (columns, rows) = match b {
            Right::Plain(b) => (b.strides().0 == 1, b.strides().1 == 1),
            Right::Coded(b) => (b.has_columns(), false),
        };
        if self.pairs { columns && depth.div_ceil(2) <= ROOM_OF[0] } else { columns || rows }
    }
}

impl<R: Real> Cpu<R> {
    /// `y = alpha x Wᵀ`; `x [rows, inp]`, `W [out, inp]`, `y [rows, out]`.
    pub(super) fn times_weight(&self, s: Gemm, x: &[R], w: &Stored<Self>, y: &mut [R]) {
        let (x, w) = (Mat::rows(x, s.inp), Right::weight(w, s.inp).t());
        self.run(|| gemm((s.rows, s.out, s.inp), x, w, y, s.out, s.alpha, false, self.mode()));
    }

    /// `dx = alpha dy W`; shapes as in [`Cpu::times_weight`].
    pub(super) fn times_weight_bwd(&self, s: Gemm, dy: &[R], w: &Stored<Self>, dx: &mut [R]) {
        let (dy, w) = (Mat::rows(dy, s.out), Right::weight(w, s.inp));
        self.run(|| gemm((s.rows, s.inp, s.out), dy, w, dx, s.inp, s.alpha, false, self.mode()));
    }
}

#[cfg(test)]
mod tests;
