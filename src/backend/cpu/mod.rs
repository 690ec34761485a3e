//! The CPU backend: the embedded default, and in `f64` the reference that every kernel is tested against.
//!
//! One file per family of operations. `tasks` splits work among threads, `wide` compiles row functions for the
//! instructions of the processor, `gemm` multiplies matrices.

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

impl<R: Real> Memory for Cpu<R> {
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
                "out of memory: a buffer of {mib} MiB was refused; lower data.max_tokens or \
                 train.per_device_train_batch_size"
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
}

impl<R: Real> Backend for Cpu<R> {}
