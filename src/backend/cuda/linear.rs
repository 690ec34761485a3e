//! Projections and the low-rank adapters beside them: products of bf16 matrices with sums in f32.

use super::backend::Cuda;
use super::device::{Device, Operand, Out, Product};
use crate::backend::{Dropout, F, Gemm, Lora, Rows, S, Weight};
use crate::error::Result;

/// A row-major matrix of rows `ld` apart.
pub(super) fn matrix<M>(memory: &M, first: usize, ld: usize) -> Operand<'_, M> {
    Operand { memory, first, ld, transposed: false }
}

/// The transpose of one.
pub(super) fn transpose<M>(memory: &M, first: usize, ld: usize) -> Operand<'_, M> {
    Operand { memory, first, ld, transposed: true }
}

impl<D: Device> Cuda<D> {
    pub(super) fn project(
        &self,
        s: Gemm,
        x: &F<Self>,
        w: &Weight<Self>,
        bias: Option<&F<Self>>,
        y: &mut F<Self>,
    ) -> Result {
        let product = Product {
            shape: (s.rows, s.out, s.inp),
            a: matrix(&x.memory, 0, s.inp),
            b: transpose(&w.bf16().memory, 0, s.inp),
            alpha: s.alpha,
            accumulate: false,
            out: Out::Bf16,
            first: 0,
            ld: s.out,
        };
        self.device.product(product, &mut y.memory)?;
        match bias {
            Some(bias) => self.add_bias(Rows { n: s.rows, width: s.out }, bias, s.alpha, y),
            None => Ok(()),
        }
    }

    pub(super) fn project_bwd(
        &self,
        s: Gemm,
        x: &F<Self>,
        w: &Weight<Self>,
        dy: &F<Self>,
        dx: Option<&mut F<Self>>,
        dw: Option<&mut S<Self>>,
        d_bias: Option<&mut S<Self>>,
    ) -> Result {
        if let Some(dx) = dx {
            let product = Product {
                shape: (s.rows, s.inp, s.out),
                a: matrix(&dy.memory, 0, s.out),
                b: matrix(&w.bf16().memory, 0, s.inp),
                alpha: s.alpha,
                accumulate: false,
                out: Out::Bf16,
                first: 0,
                ld: s.inp,
            };
            self.device.product(product, &mut dx.memory)?;
        }
        if let Some(dw) = dw {
            let product = Product {
                shape: (s.out, s.inp, s.rows),
                a: transpose(&dy.memory, 0, s.out),
                b: matrix(&x.memory, 0, s.inp),
                alpha: s.alpha,
                accumulate: true,
                out: Out::F32,
                first: 0,
                ld: s.inp,
            };
            self.device.product(product, &mut dw.memory)?;
        }
        match d_bias {
            Some(d) => self.column_sum(Rows { n: s.rows, width: s.out }, dy, s.alpha, d),
            None => Ok(()),
        }
    }

    pub(super) fn adapt(
        &self,
        s: Lora,
        x: &F<Self>,
        a: &F<Self>,
        b: &F<Self>,
        drop: Option<Dropout<Self>>,
        scratch: &mut F<Self>,
        low: &mut F<Self>,
        y: &mut F<Self>,
    ) -> Result {
        let x = self.dropped(s, x, drop, scratch)?;
        let down = Product {
            shape: (s.rows, s.rank, s.inp),
            a: matrix(&x.memory, 0, s.inp),
            b: transpose(&a.memory, 0, s.inp),
            alpha: 1.0,
            accumulate: false,
            out: Out::Bf16,
            first: 0,
            ld: s.rank,
        };
        self.device.product(down, &mut low.memory)?;
        let up = Product {
            shape: (s.rows, s.out, s.rank),
            a: matrix(&low.memory, 0, s.rank),
            b: transpose(&b.memory, 0, s.rank),
            alpha: s.scale,
            accumulate: true,
            out: Out::Bf16,
            first: s.col,
            ld: s.stride,
        };
        self.device.product(up, &mut y.memory)
    }

    pub(super) fn adapt_bwd(
        &self,
        s: Lora,
        x: &F<Self>,
        a: &F<Self>,
        b: &F<Self>,
        drop: Option<Dropout<Self>>,
        low: &F<Self>,
        dy: &F<Self>,
        scratch: &mut F<Self>,
        d_low: &mut F<Self>,
        dx: Option<&mut F<Self>>,
        da: &mut S<Self>,
        db: &mut S<Self>,
    ) -> Result {
        let up = Product {
            shape: (s.out, s.rank, s.rows),
            a: transpose(&dy.memory, s.col, s.stride),
            b: matrix(&low.memory, 0, s.rank),
            alpha: s.scale,
            accumulate: true,
            out: Out::F32,
            first: 0,
            ld: s.rank,
        };
        self.device.product(up, &mut db.memory)?;
        let through = Product {
            shape: (s.rows, s.rank, s.out),
            a: matrix(&dy.memory, s.col, s.stride),
            b: matrix(&b.memory, 0, s.rank),
            alpha: s.scale,
            accumulate: false,
            out: Out::Bf16,
            first: 0,
            ld: s.rank,
        };
        self.device.product(through, &mut d_low.memory)?;
        let x = self.dropped(s, x, drop, scratch)?;
        let down = Product {
            shape: (s.rank, s.inp, s.rows),
            a: transpose(&d_low.memory, 0, s.rank),
            b: matrix(&x.memory, 0, s.inp),
            alpha: 1.0,
            accumulate: true,
            out: Out::F32,
            first: 0,
            ld: s.inp,
        };
        self.device.product(down, &mut da.memory)?;
        let Some(dx) = dx else { return Ok(()) };
        let back = Product {
            shape: (s.rows, s.inp, s.rank),
            a: matrix(&d_low.memory, 0, s.rank),
            b: matrix(&a.memory, 0, s.inp),
            alpha: 1.0,
            accumulate: drop.is_none(),
            out: Out::Bf16,
            first: 0,
            ld: s.inp,
        };
        match drop {
            None => self.device.product(back, &mut dx.memory),
            Some(drop) => {
                self.device.product(back, &mut scratch.memory)?;
                self.masked(Rows { n: s.rows, width: s.inp }, drop, scratch, dx, true)
            }
        }
    }

    /// The adapter's input: `x` itself, or its masked copy in `scratch`.
    fn dropped<'a>(
        &self,
        s: Lora,
        x: &'a F<Self>,
        drop: Option<Dropout<Self>>,
        scratch: &'a mut F<Self>,
    ) -> Result<&'a F<Self>> {
        match drop {
            None => Ok(x),
            Some(drop) => {
                self.masked(Rows { n: s.rows, width: s.inp }, drop, x, scratch, false)?;
                Ok(scratch)
            }
        }
    }
}
