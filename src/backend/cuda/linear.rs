//! Projections and the low-rank adapters beside them: products of bf16 matrices with sums in f32.

use super::backend::Cuda;
use super::device::{Args, Device, Product, matrix, transpose};
use crate::backend::{Dropout, F, Gemm, LinearOps, Lora, Rows, S, Stored};
use crate::error::Result;

impl<D: Device> LinearOps for Cuda<D> {
    fn linear(&self, s: Gemm, x: &F<Self>, w: &Stored<Self>, bias: Option<&F<Self>>, y: &mut F<Self>) -> Result {
        // the library adds a bias after its scale
        let (within, after) = if s.alpha == 1.0 { (bias, None) } else { (None, bias) };
        self.with_bf16(w, |w| {
            let (x, w) = (matrix(&x.memory, 0, s.inp), transpose(&w.memory, 0, s.inp));
            let product = Product::new((s.rows, s.out, s.inp), x, w).times(s.alpha);
            self.device.product(product.plus(within.map(|bias| &bias.memory)), &mut y.memory)
        })?;
        match after {
            Some(bias) => self.add_bias(Rows { n: s.rows, width: s.out }, bias, s.alpha, y),
            None => Ok(()),
        }
    }

    fn linear_bwd(
        &self, s: Gemm, x: &F<Self>, w: &Stored<Self>, dy: &F<Self>, dx: Option<&mut F<Self>>,
        dw: Option<&mut S<Self>>, d_bias: Option<&mut S<Self>>,
    ) -> Result {
        if let Some(dx) = dx {
            self.with_bf16(w, |w| {
                let (dy, w) = (matrix(&dy.memory, 0, s.out), matrix(&w.memory, 0, s.inp));
                let product = Product::new((s.rows, s.inp, s.out), dy, w).times(s.alpha);
                self.device.product(product, &mut dx.memory)
            })?;
        }
        if let Some(dw) = dw {
            let (dy, x) = (transpose(&dy.memory, 0, s.out), matrix(&x.memory, 0, s.inp));
            let product = Product::new((s.out, s.inp, s.rows), dy, x).times(s.alpha).wide().added();
            self.device.product(product, &mut dw.memory)?;
        }
        match d_bias {
            Some(d) => self.column_sum(Rows { n: s.rows, width: s.out }, dy, s.alpha, d),
            None => Ok(()),
        }
    }

    fn lora(
        &self, s: Lora, x: &F<Self>, a: &F<Self>, b: &F<Self>, drop: Option<Dropout<Self>>, scratch: &mut F<Self>,
        low: &mut F<Self>, y: &mut F<Self>,
    ) -> Result {
        let x = self.dropped(s, x, drop, scratch)?;
        let (x, a) = (matrix(&x.memory, 0, s.inp), transpose(&a.memory, 0, s.inp));
        self.device.product(Product::new((s.rows, s.rank, s.inp), x, a), &mut low.memory)?;
        let (low, b) = (matrix(&low.memory, 0, s.rank), transpose(&b.memory, 0, s.rank));
        let up = Product::new((s.rows, s.out, s.rank), low, b).times(s.scale).added().at(s.col, s.stride);
        self.device.product(up, &mut y.memory)
    }

    fn lora_bwd(
        &self, s: Lora, x: &F<Self>, a: &F<Self>, b: &F<Self>, drop: Option<Dropout<Self>>, low: &F<Self>,
        dy: &F<Self>, scratch: &mut F<Self>, d_low: &mut F<Self>, dx: Option<&mut F<Self>>, da: &mut S<Self>,
        db: &mut S<Self>,
    ) -> Result {
        let (dy_t, low) = (transpose(&dy.memory, s.col, s.stride), matrix(&low.memory, 0, s.rank));
        let up = Product::new((s.out, s.rank, s.rows), dy_t, low).times(s.scale).wide().added();
        self.device.product(up, &mut db.memory)?;
        let (dy, b) = (matrix(&dy.memory, s.col, s.stride), matrix(&b.memory, 0, s.rank));
        let through = Product::new((s.rows, s.rank, s.out), dy, b).times(s.scale);
        self.device.product(through, &mut d_low.memory)?;
        let x = self.dropped(s, x, drop, scratch)?;
        let (d_low_t, x) = (transpose(&d_low.memory, 0, s.rank), matrix(&x.memory, 0, s.inp));
        let down = Product::new((s.rank, s.inp, s.rows), d_low_t, x).wide().added();
        self.device.product(down, &mut da.memory)?;
        let Some(dx) = dx else { return Ok(()) };
        let (d_low, a) = (matrix(&d_low.memory, 0, s.rank), matrix(&a.memory, 0, s.inp));
        let back = Product::new((s.rows, s.inp, s.rank), d_low, a);
        match drop {
            None => self.device.product(back.added(), &mut dx.memory),
            Some(drop) => {
                self.device.product(back, &mut scratch.memory)?;
                self.masked(Rows { n: s.rows, width: s.inp }, drop, scratch, dx, true)
            }
        }
    }
}

impl<D: Device> Cuda<D> {
    /// `y[t] += alpha * bias`.
    fn add_bias(&self, s: Rows, bias: &F<Self>, alpha: f64, y: &mut F<Self>) -> Result {
        let args = Args::default().addresses([y.address(), bias.address()]).float(alpha).int(s.width);
        self.per_row("add_bias", s.n, s.width, args)
    }

    /// The adapter's input: `x` itself, or its masked copy in `scratch`.
    fn dropped<'a>(
        &self, s: Lora, x: &'a F<Self>, drop: Option<Dropout<Self>>, scratch: &'a mut F<Self>,
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
