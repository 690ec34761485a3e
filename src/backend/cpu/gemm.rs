//! Matrix products: the one door to the `gemm` crate, and the widening of bf16 weights in front of it.

#![allow(unsafe_code)] // the call into `gemm`, which takes raw pointers

use super::Cpu;
use super::real::Real;
use super::wide::{sum_of_pairs, wide};
use crate::backend::{Gemm, Weight};
use half::bf16;

/// A matrix read through two strides (in elements).
#[derive(Clone, Copy)]
pub struct Mat<'a, R> {
    data: &'a [R],
    row: usize,
    col: usize,
}

impl<'a, R> Mat<'a, R> {
    /// Row-major, `stride` elements from row to row.
    pub fn rows(data: &'a [R], stride: usize) -> Self {
        Mat { data, row: stride, col: 1 }
    }

    /// The same matrix, transposed.
    pub fn t(self) -> Self {
        Mat { data: self.data, row: self.col, col: self.row }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `c = alpha a b` or, with `accumulate`, `c += alpha a b`; `a [m, k]`, `b [k, n]`, `c [m, n]` with rows `ldc` apart.
///
/// Threads split the outputs only, so the bits do not depend on their number.
pub fn gemm<R: Real>(
    (m, n, k): (usize, usize, usize),
    a: Mat<R>,
    b: Mat<R>,
    c: &mut [R],
    ldc: usize,
    alpha: f64,
    accumulate: bool,
    threads: usize,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        a.holds(m, k) && b.holds(k, n) && ldc >= n && (m - 1) * ldc + n <= c.len(),
        "gemm: a shape exceeds its buffer"
    );
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: every index reached, (i < m, j < n, l < k) through the strides, lies inside its slice by the assertion
    // above; `c` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            ldc as isize,
            accumulate,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            R::of(1.0),
            R::of(alpha),
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows of a bf16 weight that are widened at a time.
pub(in crate::backend) const PANEL: usize = 256;

wide! {
    /// The inner product with a row of a bf16 weight.
    fn dot<R: Real>(x: &[R], w: &[bf16]) -> R {
        sum_of_pairs(x, w, |x, w| x * R::of_bf16(w))
    }

    fn widen<R: Real>(narrow: &[bf16], wide: &mut [R]) {
        wide.iter_mut().zip(narrow).for_each(|(wide, &x)| *wide = R::of_bf16(x));
    }
}

impl<R: Real> Cpu<R> {
    /// `y = alpha x Wᵀ`; `x [rows, inp]`, `W [out, inp]`, `y [rows, out]`.
    ///
    /// A single row, as in each step of a generation, reads a bf16 weight once and as it is stored, by all threads:
    /// about twice as fast as widening it first. For f32 the product kernel is as fast as such a loop.
    pub(super) fn times_weight(&self, s: Gemm, x: &[R], w: &Weight<Cpu<R>>, y: &mut [R]) {
        if let (1, Weight::Bf16(w)) = (s.rows, w) {
            let (x, alpha) = (&x[..s.inp], R::of(s.alpha));
            return self.blocks(&mut y[..s.out], 1, |first, y| {
                for (y, w) in y.iter_mut().zip(w[first * s.inp..].chunks_exact(s.inp)) {
                    *y = alpha * dot(x, w);
                }
            });
        }
        self.run(|| {
            self.panels(w, s.out, s.inp, |first, n, w| {
                let (x, wt) = (Mat::rows(x, s.inp), Mat::rows(w, s.inp).t());
                gemm((s.rows, n, s.inp), x, wt, &mut y[first..], s.out, s.alpha, false, self.threads);
            });
        });
    }

    /// Calls `f(first_row, rows, values)` for consecutive row panels of `w [rows, cols]` in working precision.
    pub(super) fn panels(&self, w: &Weight<Cpu<R>>, rows: usize, cols: usize, mut f: impl FnMut(usize, usize, &[R])) {
        let narrow = match w {
            Weight::Float(full) => return f(0, rows, full),
            Weight::Bf16(narrow) => narrow,
        };
        self.with_scratch(PANEL * cols, |scratch| {
            for first in (0..rows).step_by(PANEL) {
                let n = PANEL.min(rows - first);
                let source = &narrow[first * cols..(first + n) * cols];
                widen(source, scratch);
                f(first, n, &scratch[..n * cols]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row by itself and the same row among others, by other ways through the code.
    #[test]
    fn one_row_of_a_narrow_weight_is_one_of_many() {
        let b = Cpu::<f64>::new(2).unwrap();
        for (inp, out) in [(1, 1), (15, 33), (16, 64), (37, 100)] {
            let w = (0..inp * out).map(|i| bf16::from_f32((i % 23) as f32 - 11.5)).collect();
            let x: Vec<f64> = (0..2 * inp).map(|i| (i % 7) as f64 - 2.75).collect();
            let (w, s) = (Weight::Bf16(w), |rows| Gemm { rows, inp, out, alpha: 0.5 });
            let (mut one, mut two) = (vec![f64::NAN; out], vec![f64::NAN; 2 * out]);
            b.times_weight(s(1), &x, &w, &mut one);
            b.times_weight(s(2), &x, &w, &mut two);
            assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() <= 1e-9), "{inp} {out}");
        }
    }
}
