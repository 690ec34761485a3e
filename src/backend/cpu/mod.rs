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

pub use gemm::Operands;
pub use real::Real;

use gemm::Mode;

use super::*;
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};

/// A CPU with a fixed number of threads and one floating-point type for everything.
pub struct Cpu<R> {
    threads: usize,
    operands: Operands,
    /// Threads of its own. `None` if there is one thread, or if the calling thread's pool does the work.
    pool: Option<rayon::ThreadPool>,
    scratch: Mutex<Scratch<R>>,
}

/// Buffers that operations borrow: one for each thread, each as long as the longest that was borrowed.
struct Scratch<R> {
    length: usize,
    idle: Vec<Vec<R>>,
    lent: usize,
}

/// Rows that one task handles; fixed, so that results do not depend on the number of threads.
pub(in crate::backend) const BLOCK: usize = 32;

/// Threads that are meant by a number of them: by 0, as many as `RAYON_NUM_THREADS` names, else one for each core.
pub fn cores(threads: usize) -> usize {
    let named = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&threads| threads > 0);
    let all = || std::thread::available_parallelism().map_or(1, |n| n.get());
    if threads > 0 { threads } else { named().unwrap_or_else(all) }
}

/// Starts the threads of the program. They compute for a [`Cpu`], and they read, label and tokenise rows. The calling
/// thread becomes one of them. Only the first call has an effect.
pub fn set_threads(threads: usize) {
    let threads = cores(threads);
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    // a thread outside the pool would wait twice for every operation: until a thread takes it and until it is done.
    // From a pool of one thread the calling thread stays away, because no other thread would take work
    let builder = if threads > 1 { builder.use_current_thread() } else { builder };
    // fails where they run already
    let _ = builder.build_global();
}

impl<R: Real> Cpu<R> {
    /// `threads = 0` means the number that [`cores`] gives. If the calling thread belongs to a pool of that many
    /// threads ([`set_threads`]), the pool does the work; otherwise new threads are started.
    pub fn new(threads: usize) -> Result<Cpu<R>> {
        let threads = cores(threads);
        let shared = rayon::current_thread_index().is_some() && rayon::current_num_threads() == threads;
        let pool = if threads == 1 || shared {
            None
        } else {
            let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let why = |e| Error::Device(format!("cannot start {threads} threads: {e}; lower train.threads"));
            Some(built.map_err(why)?)
        };
        let scratch = Mutex::new(Scratch { length: 0, idle: Vec::new(), lent: 0 });
        let cpu = Cpu { threads, operands: Operands::Full, pool, scratch };
        if threads > 1 {
            // what a run takes must not depend on which threads happen to work
            cpu.run(|| {
                rayon::broadcast(|_| [gemm::Side::Left, gemm::Side::Right].map(|side| R::with_room(side, |_| ())));
            });
        }
        Ok(cpu)
    }

    /// How a product is computed that all threads work on.
    fn mode(&self) -> Mode {
        Mode { threads: self.threads, operands: self.operands }
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Lends `n` values of scratch to `f`; what they hold is unspecified. Buffers are kept, so that a warm step
    /// allocates nothing, whichever threads work in it.
    fn with_scratch<T>(&self, n: usize, f: impl FnOnce(&mut [R]) -> T) -> T {
        let scratch = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = scratch().lend(n, self.threads);
        let result = f(&mut buffer[..n]);
        scratch().take_back(buffer);
        result
    }
}

impl Cpu<f32> {
    /// The same with the operands of all products rounded so.
    pub fn rounding(self, operands: Operands) -> Cpu<f32> {
        Cpu { operands, ..self }
    }
}

impl<R: Real> Scratch<R> {
    fn lend(&mut self, n: usize, threads: usize) -> Vec<R> {
        if n > self.length {
            self.length = n;
            self.idle.resize(threads.saturating_sub(self.lent).max(1), Vec::new());
            self.idle.iter_mut().for_each(|buffer| renew(buffer, n));
        }
        self.lent += 1;
        let mut buffer = self.idle.pop().unwrap_or_default();
        if buffer.is_empty() {
            renew(&mut buffer, self.length);
        }
        buffer
    }

    fn take_back(&mut self, mut buffer: Vec<R>) {
        // a longer one was borrowed in the meantime
        if buffer.len() < self.length {
            renew(&mut buffer, self.length);
        }
        self.lent -= 1;
        self.idle.push(buffer);
    }
}

/// Another buffer of `n` values in place of this one, which is given back first.
fn renew<R: Real>(buffer: &mut Vec<R>, n: usize) {
    *buffer = Vec::new();
    *buffer = vec![R::of(0.0); n];
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

impl<R: Real> Backend for Cpu<R> {
    fn precision(&self) -> &'static str {
        match self.operands {
            Operands::Full => std::any::type_name::<R>(),
            Operands::Bf16 => "f32 with products in bf16",
        }
    }
}
