//! The trait on CUDA: bf16 activations and working weights, f32 statistics, masters and gradients of weights.
//!
//! [`Cuda`] is written once over a [`Device`]. This file maps the trait onto the operator families, a file each.

use super::Geometry;
use super::device::{Args, Device, halves};
use super::optim::Optimiser;
use crate::backend::*;
use crate::error::Result;
use half::bf16;
use std::cell::RefCell;
use std::marker::PhantomData;

/// A CUDA device, or its emulation, as a backend.
pub struct Cuda<D: Device> {
    pub(super) device: D,
    /// Whether attention may use Hopper's instructions.
    pub(super) hopper: bool,
    /// Made at the first step and kept.
    pub(super) optimiser: RefCell<Optimiser<D>>,
}

/// `len` values in device memory.
pub struct Buffer<D: Device, T> {
    pub(super) memory: D::Memory,
    pub(super) len: usize,
    values: PhantomData<T>,
}

impl<D: Device, T> Buffer<D, T> {
    pub(super) fn address(&self) -> u64 {
        D::address(&self.memory)
    }
}

/// The address of an operand that may be left out.
pub(super) fn optional<D: Device, T>(buffer: Option<&Buffer<D, T>>) -> u64 {
    buffer.map_or(0, Buffer::address)
}

impl<D: Device> Cuda<D> {
    /// On this device.
    pub fn new(device: D) -> Cuda<D> {
        Cuda { hopper: device.hopper(), device, optimiser: RefCell::default() }
    }

    /// Without kernels that are for one architecture only: those that serve all are used there, too.
    pub fn portable(self) -> Cuda<D> {
        Cuda { hopper: false, ..self }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// One block per row of `width` bf16 values, eight values a thread. Shared memory holds the sums of the warps.
    pub(super) fn per_row(&self, kernel: &str, rows: usize, width: usize, args: Args) -> Result {
        let threads = width.div_ceil(8).next_multiple_of(32).clamp(32, 256) as u32;
        self.blocks(kernel, [rows, 1], threads, 32 * 4, args)
    }

    /// A grid of blocks; nothing where it is empty.
    pub(super) fn blocks(&self, kernel: &str, grid: [usize; 2], threads: u32, shared: u32, args: Args) -> Result {
        if grid.contains(&0) {
            return Ok(());
        }
        let [x, y] = grid.map(|n| n as u32);
        self.device.launch(kernel, Geometry { grid: [x, y, 1], block: [threads, 1, 1], shared }, args)
    }
}

impl<D: Device> Stored<Cuda<D>> {
    /// Trained or frozen, a weight is bf16 here.
    pub(super) fn bf16(&self) -> &Buffer<D, bf16> {
        match self {
            Stored::Float(w) | Stored::Bf16(w) => w,
        }
    }
}

impl<D: Device> Dropout<'_, Cuda<D>> {
    /// The kernels' struct of that name (kernels/dropout.cuh).
    pub(super) fn words(drop: Option<Self>) -> [u64; 5] {
        match drop {
            None => [0, 0, 0, 0, 1f32.to_bits().into()],
            Some(d) => {
                // p < 1, so that the threshold fits; u < p exactly where the word is below it
                let threshold = (f64::from(d.p) * (1u64 << 32) as f64).ceil() as u32;
                let scale = (1.0 / (1.0 - f64::from(d.p))) as f32;
                let (pos, example) = (d.tokens.pos.address(), d.tokens.example.address());
                [d.key.address(), pos, example, halves(threshold, d.module), scale.to_bits().into()]
            }
        }
    }
}

impl<D: Device> Backend for Cuda<D> {
    type Float = bf16;
    type Stat = f32;
    type Logit = f32;
    type Buf<T: Elem> = Buffer<D, T>;

    const MASTER: bool = true;
    const LOGIT_BYTES: usize = 512 << 20;

    fn alloc<T: Elem>(&self, n: usize) -> Result<Buffer<D, T>> {
        Ok(Buffer { memory: self.device.alloc(n * size_of::<T>())?, len: n, values: PhantomData })
    }

    fn write<T: Elem>(&self, dst: &mut Buffer<D, T>, host: &[T]) -> Result {
        assert!(host.len() <= dst.len, "a write of {} exceeds a buffer of {}", host.len(), dst.len);
        self.device.upload(&mut dst.memory, bytemuck::cast_slice(host))
    }

    fn read<T: Elem>(&self, src: &Buffer<D, T>, host: &mut [T]) -> Result {
        assert!(host.len() <= src.len, "a read of {} exceeds a buffer of {}", host.len(), src.len);
        self.device.download(&src.memory, bytemuck::cast_slice_mut(host))
    }

    fn zero<T: Elem>(&self, buf: &mut Buffer<D, T>, n: usize) -> Result {
        assert!(n <= buf.len, "{n} zeros exceed a buffer of {}", buf.len);
        self.device.clear(&mut buf.memory, n * size_of::<T>())
    }

    fn float(x: f64) -> bf16 {
        bf16::from_f32(x as f32) // `from_f64` looks at half of the bits: what is just above a tie it rounds as the tie
    }

    fn stat(x: f64) -> f32 {
        x as f32
    }

    fn from_float(x: bf16) -> f64 {
        x.to_f64()
    }

    fn from_stat(x: f32) -> f64 {
        x.into()
    }

    fn from_logit(x: f32) -> f64 {
        x.into()
    }

    fn embed(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        table: &Stored<Self>,
        positions: Option<&Stored<Self>>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
    ) -> Result {
        self.embed_rows(s, tokens, table, positions, scale, drop, y)
    }

    fn embed_bwd(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        dy: &F<Self>,
        d_table: Option<&mut S<Self>>,
        d_positions: Option<&mut S<Self>>,
    ) -> Result {
        if let Some(d) = d_table {
            self.embed_scatter(s, &tokens.ids, scale, drop, dy, d)?;
        }
        match d_positions {
            Some(d) => self.embed_scatter(s, &tokens.pos, 1.0, drop, dy, d),
            None => Ok(()),
        }
    }

    fn norm(
        &self,
        s: Rows,
        kind: Norm,
        x: &F<Self>,
        affine: Affine<Self>,
        y: &mut F<Self>,
        stat: &mut S<Self>,
    ) -> Result {
        self.normalise(s, kind, x, affine, y, stat)
    }

    fn add_norm(
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
        self.residual_norm(s, kind, skip, branch, drop, sum, affine, y, stat)
    }

    fn norm_bwd(
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
        self.normalise_bwd(s, kind, x, gain, stat, dy, d_skip, dx, d_gain, d_bias)
    }

    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &F<Self>, d_branch: &mut F<Self>) -> Result {
        self.masked(s, drop, d_sum, d_branch, false)
    }

    fn linear(&self, s: Gemm, x: &F<Self>, w: &Stored<Self>, bias: Option<&F<Self>>, y: &mut F<Self>) -> Result {
        self.project(s, x, w, bias, y)
    }

    fn linear_bwd(
        &self,
        s: Gemm,
        x: &F<Self>,
        w: &Stored<Self>,
        dy: &F<Self>,
        dx: Option<&mut F<Self>>,
        dw: Option<&mut S<Self>>,
        d_bias: Option<&mut S<Self>>,
    ) -> Result {
        self.project_bwd(s, x, w, dy, dx, dw, d_bias)
    }

    fn lora(
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
        self.adapt(s, x, a, b, drop, scratch, low, y)
    }

    fn lora_bwd(
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
        self.adapt_bwd(s, x, a, b, drop, low, dy, scratch, d_low, dx, da, db)
    }

    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &S<Self>, turn: Turn, qkv: &mut F<Self>) -> Result {
        self.rotate(s, tokens, table, turn, qkv)
    }

    fn attention(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        self.attend(s, tokens, qkv, drop, y, lse)
    }

    fn attention_bwd(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &F<Self>,
        lse: &S<Self>,
        dy: &F<Self>,
        delta: &mut S<Self>,
        d_qkv: &mut F<Self>,
    ) -> Result {
        self.attend_bwd(s, tokens, qkv, drop, y, lse, dy, delta, d_qkv)
    }

    fn write_kv_cache(&self, s: Heads, at: &Ids<Self>, qkv: &F<Self>, cache: &mut F<Self>) -> Result {
        self.keep(s, at, qkv, cache)
    }

    fn attention_cached(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        at: &Ids<Self>,
        qkv: &F<Self>,
        cache: &F<Self>,
        y: &mut F<Self>,
    ) -> Result {
        self.attend_cached(s, tokens, at, qkv, cache, y)
    }

    fn act(&self, s: Rows, kind: Act, x: &F<Self>, y: &mut F<Self>) -> Result {
        self.activate(s, kind, x, y)
    }

    fn act_bwd(&self, s: Rows, kind: Act, x: &F<Self>, dy: &F<Self>, dx: &mut F<Self>) -> Result {
        self.activate_bwd(s, kind, x, dy, dx)
    }

    fn gather(&self, s: Rows, rows: &Ids<Self>, x: &F<Self>, y: &mut F<Self>) -> Result {
        let args = Args::default().address(rows.address()).address(x.address()).address(y.address()).int(s.width);
        self.per_row("gather", s.n, s.width, args)
    }

    fn gather_bwd(
        &self,
        s: Rows,
        rows: &Ids<Self>,
        total: usize,
        coef: Option<&S<Self>>,
        dy: &F<Self>,
        dx: &mut F<Self>,
    ) -> Result {
        self.zero(dx, total * s.width)?;
        let args = Args::default()
            .address(rows.address())
            .address(optional(coef))
            .address(dy.address())
            .address(dx.address())
            .int(s.width);
        self.per_row("scatter", s.n, s.width, args)
    }

    fn head_logp(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logits: &mut Buffer<D, f32>,
        logp: &mut S<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        self.logp(s, x, w, labels, logits, logp, lse)
    }

    fn head_unit(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logits: &mut Buffer<D, f32>,
        logp: &mut S<Self>,
        lse: &mut S<Self>,
        dx: &mut F<Self>,
    ) -> Result {
        self.unit(s, x, w, labels, logits, logp, lse, dx)
    }

    fn objective(
        &self,
        s: Objective,
        row_start: &Ids<Self>,
        logp: &S<Self>,
        weight: &S<Self>,
        path: &Ids<Self>,
        ref_logp: &S<Self>,
        scalars: &S<Self>,
        coef: &mut S<Self>,
        tally: &mut S<Self>,
    ) -> Result {
        self.coefficients(s, row_start, logp, weight, path, ref_logp, scalars, coef, tally)
    }

    fn head_bwd(
        &self,
        s: Head,
        x: &F<Self>,
        w: &Stored<Self>,
        labels: &Ids<Self>,
        logp: &S<Self>,
        lse: &S<Self>,
        coef: &S<Self>,
        logits: &mut Buffer<D, f32>,
        dx: &mut F<Self>,
        dw: Option<&mut S<Self>>,
    ) -> Result {
        self.logp_bwd(s, x, w, labels, logp, lse, coef, logits, dx, dw)
    }

    fn clip(&self, grads: &[(&S<Self>, usize)], scalars: &mut S<Self>) -> Result {
        self.clip_factor(grads, scalars)
    }

    fn adamw(&self, k: AdamW, key: &Ids<Self>, scalars: &S<Self>, updates: &mut [Update<Self>]) -> Result {
        self.update(k, key, scalars, updates)
    }
}
