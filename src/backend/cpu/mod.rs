//! The CPU backend: the embedded default, and in `f64` the reference that every kernel is tested against.
//!
//! One file per operator family, forward and backward together; this file maps the trait onto those files, and
//! `tasks` cuts work into what threads do.

#![allow(clippy::too_many_arguments)] // operations name their operands, as in the trait

mod act;
pub(in crate::backend) mod attention;
mod cache;
mod coded;
mod dropout;
mod embed;
pub(in crate::backend) mod gemm;
mod head;
mod linear;
mod norm;
mod objective;
mod optim;
mod real;
mod rope;
mod tasks;
mod wide;

pub use real::Real;

use super::*;
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};

/// A CPU with a fixed number of threads and one floating-point type for everything.
pub struct Cpu<R> {
    threads: usize,
    pool: Option<rayon::ThreadPool>,
    scratch: Mutex<Vec<Vec<R>>>,
}

/// Rows that one task handles; fixed, so that results do not depend on the number of threads.
pub(in crate::backend) const BLOCK: usize = 32;

/// Threads that are meant by a number of them: by 0, one for each core.
pub fn cores(threads: usize) -> usize {
    if threads == 0 { std::thread::available_parallelism().map_or(1, |n| n.get()) } else { threads }
}

impl<R: Real> Cpu<R> {
    /// `threads = 0` takes all cores.
    pub fn new(threads: usize) -> Result<Cpu<R>> {
        let threads = cores(threads);
        let pool = if threads == 1 {
            None
        } else {
            let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            Some(
                built
                    .map_err(|e| Error::Device(format!("cannot start {threads} threads: {e}; lower train.threads")))?,
            )
        };
        Ok(Cpu { threads, pool, scratch: Mutex::new(Vec::new()) })
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Lends `n` values of scratch to `f`; what they hold is unspecified. Buffers are kept, so that a warm step
    /// allocates nothing.
    fn with_scratch<T>(&self, n: usize, f: impl FnOnce(&mut [R]) -> T) -> T {
        let kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        if buffer.len() < n {
            buffer.resize(n, R::of(0.0));
        }
        let result = f(&mut buffer[..n]);
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }
}

impl<R: Real> Backend for Cpu<R> {
    type Float = R;
    type Stat = R;
    type Logit = R;
    type Buf<T: Elem> = Vec<T>;

    const MASTER: bool = false;
    const LOGIT_BYTES: usize = 64 << 20;

    fn alloc<T: Elem>(&self, n: usize) -> Result<Vec<T>> {
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(n).is_err() {
            let mib = (n * size_of::<T>()) >> 20;
            return Err(Error::Device(format!(
                "out of memory: a buffer of {mib} MiB was refused; lower data.max_tokens or train.per_device_train_batch_size"
            )));
        }
        buffer.resize(n, T::default());
        Ok(buffer)
    }

    fn write<T: Elem>(&self, dst: &mut Vec<T>, host: &[T]) -> Result {
        dst[..host.len()].copy_from_slice(host);
        Ok(())
    }

    fn read<T: Elem>(&self, src: &Vec<T>, host: &mut [T]) -> Result {
        host.copy_from_slice(&src[..host.len()]);
        Ok(())
    }

    fn zero<T: Elem>(&self, buf: &mut Vec<T>, n: usize) -> Result {
        buf[..n].fill(T::default());
        Ok(())
    }

    fn float(x: f64) -> R {
        R::of(x)
    }

    fn stat(x: f64) -> R {
        R::of(x)
    }

    fn from_float(x: R) -> f64 {
        x.f64()
    }

    fn from_stat(x: R) -> f64 {
        x.f64()
    }

    fn from_logit(x: R) -> f64 {
        x.f64()
    }

    fn embed(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        table: &Stored<Self>,
        positions: Option<&Stored<Self>>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        y: &mut Vec<R>,
    ) -> Result {
        self.embed_rows(s, tokens, table, positions, scale, drop, y);
        Ok(())
    }

    fn embed_bwd(
        &self,
        s: Rows,
        tokens: &Tokens<Self>,
        scale: f64,
        drop: Option<Dropout<Self>>,
        dy: &Vec<R>,
        d_table: Option<&mut Vec<R>>,
        d_positions: Option<&mut Vec<R>>,
    ) -> Result {
        self.embed_scatter(s, tokens, scale, drop, dy, d_table, d_positions);
        Ok(())
    }

    fn norm(&self, s: Rows, kind: Norm, x: &Vec<R>, affine: Affine<Self>, y: &mut Vec<R>, stat: &mut Vec<R>) -> Result {
        self.normalise(s, kind, x, affine, y, stat);
        Ok(())
    }

    fn add_norm(
        &self,
        s: Rows,
        kind: Norm,
        skip: &Vec<R>,
        branch: &Vec<R>,
        drop: Option<Dropout<Self>>,
        sum: &mut Vec<R>,
        affine: Affine<Self>,
        y: &mut Vec<R>,
        stat: &mut Vec<R>,
    ) -> Result {
        self.residual(s, skip, branch, drop, sum);
        self.normalise(s, kind, sum, affine, y, stat);
        Ok(())
    }

    fn norm_bwd(
        &self,
        s: Rows,
        kind: Norm,
        x: &Vec<R>,
        gain: &Vec<R>,
        stat: &Vec<R>,
        dy: &Vec<R>,
        d_skip: Option<&Vec<R>>,
        dx: &mut Vec<R>,
        d_gain: Option<&mut Vec<R>>,
        d_bias: Option<&mut Vec<R>>,
    ) -> Result {
        self.normalise_bwd(s, kind, x, gain, stat, dy, d_skip, dx, d_gain, d_bias);
        Ok(())
    }

    fn dropout_bwd(&self, s: Rows, drop: Dropout<Self>, d_sum: &Vec<R>, d_branch: &mut Vec<R>) -> Result {
        self.masked(s, drop, d_sum, d_branch);
        Ok(())
    }

    fn linear(&self, s: Gemm, x: &Vec<R>, w: &Stored<Self>, bias: Option<&Vec<R>>, y: &mut Vec<R>) -> Result {
        self.project(s, x, w, bias, y);
        Ok(())
    }

    fn linear_bwd(
        &self,
        s: Gemm,
        x: &Vec<R>,
        w: &Stored<Self>,
        dy: &Vec<R>,
        dx: Option<&mut Vec<R>>,
        dw: Option<&mut Vec<R>>,
        d_bias: Option<&mut Vec<R>>,
    ) -> Result {
        self.project_bwd(s, x, w, dy, dx, dw, d_bias);
        Ok(())
    }

    fn lora(
        &self,
        s: Lora,
        x: &Vec<R>,
        a: &Vec<R>,
        b: &Vec<R>,
        drop: Option<Dropout<Self>>,
        scratch: &mut Vec<R>,
        low: &mut Vec<R>,
        y: &mut Vec<R>,
    ) -> Result {
        self.adapt(s, x, a, b, drop, scratch, low, y);
        Ok(())
    }

    fn lora_bwd(
        &self,
        s: Lora,
        x: &Vec<R>,
        a: &Vec<R>,
        b: &Vec<R>,
        drop: Option<Dropout<Self>>,
        low: &Vec<R>,
        dy: &Vec<R>,
        scratch: &mut Vec<R>,
        d_low: &mut Vec<R>,
        dx: Option<&mut Vec<R>>,
        da: &mut Vec<R>,
        db: &mut Vec<R>,
    ) -> Result {
        self.adapt_bwd(s, x, a, b, drop, low, dy, scratch, d_low, dx, da, db);
        Ok(())
    }

    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &Vec<R>, turn: Turn, qkv: &mut Vec<R>) -> Result {
        self.rotate(s, tokens, table, turn, qkv);
        Ok(())
    }

    fn attention(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &Vec<R>,
        drop: Option<Dropout<Self>>,
        y: &mut Vec<R>,
        lse: &mut Vec<R>,
    ) -> Result {
        self.attend(s, tokens, qkv, drop, y, lse);
        Ok(())
    }

    fn attention_bwd(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &Vec<R>,
        drop: Option<Dropout<Self>>,
        y: &Vec<R>,
        lse: &Vec<R>,
        dy: &Vec<R>,
        delta: &mut Vec<R>,
        d_qkv: &mut Vec<R>,
    ) -> Result {
        self.attend_bwd(s, tokens, qkv, drop, y, lse, dy, delta, d_qkv);
        Ok(())
    }

    fn write_kv_cache(&self, s: Heads, at: &Vec<u32>, qkv: &Vec<R>, cache: &mut Vec<R>) -> Result {
        cache::write_kv_cache(s, at, qkv, cache);
        Ok(())
    }

    fn attention_cached(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        at: &Vec<u32>,
        qkv: &Vec<R>,
        cache: &Vec<R>,
        y: &mut Vec<R>,
    ) -> Result {
        self.attend_cached(s, tokens, at, qkv, cache, y);
        Ok(())
    }

    fn act(&self, s: Rows, kind: Act, x: &Vec<R>, y: &mut Vec<R>) -> Result {
        self.activate(s, kind, x, y);
        Ok(())
    }

    fn act_bwd(&self, s: Rows, kind: Act, x: &Vec<R>, dy: &Vec<R>, dx: &mut Vec<R>) -> Result {
        self.activate_bwd(s, kind, x, dy, dx);
        Ok(())
    }

    fn gather(&self, s: Rows, rows: &Vec<u32>, x: &Vec<R>, y: &mut Vec<R>) -> Result {
        for (&row, out) in rows[..s.n].iter().zip(y.chunks_exact_mut(s.width)) {
            out.copy_from_slice(&x[row as usize * s.width..][..s.width]);
        }
        Ok(())
    }

    fn gather_bwd(
        &self,
        s: Rows,
        rows: &Vec<u32>,
        total: usize,
        coef: Option<&Vec<R>>,
        dy: &Vec<R>,
        dx: &mut Vec<R>,
    ) -> Result {
        dx[..total * s.width].fill(R::of(0.0));
        for (i, (&row, grad)) in rows[..s.n].iter().zip(dy.chunks_exact(s.width)).enumerate() {
            let factor = coef.map_or(R::of(1.0), |coef| coef[i]);
            let out = &mut dx[row as usize * s.width..][..s.width];
            out.iter_mut().zip(grad).for_each(|(out, &grad)| *out = factor * grad);
        }
        Ok(())
    }

    fn head_logp(
        &self,
        s: Head,
        x: &Vec<R>,
        w: &Stored<Self>,
        labels: &Vec<u32>,
        logits: &mut Vec<R>,
        logp: &mut Vec<R>,
        lse: &mut Vec<R>,
    ) -> Result {
        self.logp(s, x, w, labels, logits, logp, lse);
        Ok(())
    }

    fn head_unit(
        &self,
        s: Head,
        x: &Vec<R>,
        w: &Stored<Self>,
        labels: &Vec<u32>,
        logits: &mut Vec<R>,
        logp: &mut Vec<R>,
        lse: &mut Vec<R>,
        dx: &mut Vec<R>,
    ) -> Result {
        self.unit(s, x, w, labels, logits, logp, lse, dx);
        Ok(())
    }

    fn objective(
        &self,
        s: Objective,
        row_start: &Vec<u32>,
        logp: &Vec<R>,
        weight: &Vec<R>,
        path: &Vec<u32>,
        ref_logp: &Vec<R>,
        scalars: &Vec<R>,
        coef: &mut Vec<R>,
        tally: &mut Vec<R>,
    ) -> Result {
        objective::coefficients(s, row_start, logp, weight, path, ref_logp, scalars, coef, tally);
        Ok(())
    }

    fn head_bwd(
        &self,
        s: Head,
        x: &Vec<R>,
        w: &Stored<Self>,
        labels: &Vec<u32>,
        logp: &Vec<R>,
        lse: &Vec<R>,
        coef: &Vec<R>,
        logits: &mut Vec<R>,
        dx: &mut Vec<R>,
        dw: Option<&mut Vec<R>>,
    ) -> Result {
        self.logp_bwd(s, x, w, labels, logp, lse, coef, logits, dx, dw);
        Ok(())
    }

    fn clip(&self, grads: &[(&Vec<R>, usize)], scalars: &mut Vec<R>) -> Result {
        self.clip_factor(grads, scalars);
        Ok(())
    }

    fn adamw(&self, k: AdamW, key: &Vec<u32>, scalars: &Vec<R>, updates: &mut [Update<Self>]) -> Result {
        if scalars[scalar::SQ_NORM].is_finite() {
            updates.iter_mut().zip(0..).for_each(|(u, number)| self.update(k, [key[0], key[1], number], scalars, u));
        }
        Ok(())
    }
}
