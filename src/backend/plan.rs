//! A backend that computes nothing and counts everything: bytes, FLOPs, launches. The dry run for free.

use super::*;
use std::cell::Cell;

/// Counters of one run of the model.
#[derive(Default)]
pub struct Plan {
    bytes: Cell<u64>,
    flops: Cell<u64>,
    launches: Cell<u64>,
}

/// A buffer that is only a length.
pub struct Counted(usize);

impl Plan {
    /// Bytes allocated so far, as f32 training on the CPU would.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Floating-point operations of all products so far; a multiply-add counts 2, causal attention counts half
    /// of the packed buffer, as if it were one example: an upper bound.
    pub fn flops(&self) -> u64 {
        self.flops.get()
    }

    /// Operations launched so far.
    pub fn launches(&self) -> u64 {
        self.launches.get()
    }

    fn count(&self, flops: usize) -> Result {
        self.launches.set(self.launches.get() + 1);
        self.flops.set(self.flops.get() + flops as u64);
        Ok(())
    }
}

/// FLOPs of a product.
fn product(m: usize, n: usize, k: usize) -> usize {
    2 * m * n * k
}

#[rustfmt::skip] // one operation a line: the signatures stand in the trait
impl Backend for Plan {
    type Float = f32;
    type Stat = f32;
    type Logit = f32;
    type Buf<T: Elem> = Counted;

    const MASTER: bool = false;

    fn alloc<T: Elem>(&self, n: usize) -> Result<Counted> {
        self.bytes.set(self.bytes.get() + (n * size_of::<T>()) as u64);
        Ok(Counted(n))
    }
    fn write<T: Elem>(&self, dst: &mut Counted, host: &[T]) -> Result {
        assert!(host.len() <= dst.0, "plan: a write of {} exceeds a buffer of {}", host.len(), dst.0);
        Ok(())
    }
    fn read<T: Elem>(&self, src: &Counted, host: &mut [T]) -> Result {
        assert!(host.len() <= src.0, "plan: a read of {} exceeds a buffer of {}", host.len(), src.0);
        host.fill(T::default());
        Ok(())
    }
    fn zero<T: Elem>(&self, _: &mut Counted, _: usize) -> Result { self.count(0) }
    fn float(x: f64) -> f32 { x as f32 }
    fn stat(x: f64) -> f32 { x as f32 }
    fn from_float(x: f32) -> f64 { f64::from(x) }
    fn from_stat(x: f32) -> f64 { f64::from(x) }
    fn from_logit(x: f32) -> f64 { f64::from(x) }

    fn embed(&self, _: Rows, _: &Tokens<Self>, _: &Weight<Self>, _: Option<&Weight<Self>>, _: f64, _: Option<Dropout<Self>>, _: &mut Counted) -> Result { self.count(0) }
    fn embed_bwd(&self, _: Rows, _: &Tokens<Self>, _: f64, _: Option<Dropout<Self>>, _: &Counted, _: Option<&mut Counted>, _: Option<&mut Counted>) -> Result { self.count(0) }
    fn norm(&self, _: Rows, _: Norm, _: &Counted, _: Affine<Self>, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn add_norm(&self, _: Rows, _: Norm, _: &Counted, _: &Counted, _: Option<Dropout<Self>>, _: &mut Counted, _: Affine<Self>, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn norm_bwd(&self, _: Rows, _: Norm, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: Option<&Counted>, _: &mut Counted, _: Option<&mut Counted>, _: Option<&mut Counted>) -> Result { self.count(0) }
    fn dropout_bwd(&self, _: Rows, _: Dropout<Self>, _: &Counted, _: &mut Counted) -> Result { self.count(0) }

    fn linear(&self, s: Gemm, _: &Counted, _: &Weight<Self>, _: Option<&Counted>, _: &mut Counted) -> Result {
        self.count(product(s.rows, s.out, s.inp))
    }
    fn linear_bwd(&self, s: Gemm, _: &Counted, _: &Weight<Self>, _: &Counted, dx: Option<&mut Counted>, dw: Option<&mut Counted>, _: Option<&mut Counted>) -> Result {
        self.count((usize::from(dx.is_some()) + usize::from(dw.is_some())) * product(s.rows, s.out, s.inp))
    }
    fn lora(&self, s: Lora, _: &Counted, _: &Counted, _: &Counted, _: Option<Dropout<Self>>, _: &mut Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(product(s.rows, s.rank, s.inp) + product(s.rows, s.out, s.rank))
    }
    fn lora_bwd(&self, s: Lora, _: &Counted, _: &Counted, _: &Counted, _: Option<Dropout<Self>>, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted, dx: Option<&mut Counted>, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(2 * product(s.rows, s.out, s.rank) + (1 + usize::from(dx.is_some())) * product(s.rows, s.rank, s.inp))
    }
    fn rope(&self, _: Heads, _: &Tokens<Self>, _: &Counted, _: Turn, _: &mut Counted) -> Result { self.count(0) }
    fn attention(&self, s: Heads, _: &Tokens<Self>, _: &Counted, _: Option<Dropout<Self>>, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(product(s.tokens, s.tokens, s.q * s.dim))
    }
    fn attention_bwd(&self, s: Heads, _: &Tokens<Self>, _: &Counted, _: Option<Dropout<Self>>, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(product(s.tokens, s.tokens, s.q * s.dim) * 5 / 2)
    }
    fn remember(&self, _: Heads, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn attention_cached(&self, s: Heads, _: &Tokens<Self>, _: &Counted, _: &Counted, cache: &Counted, _: &mut Counted) -> Result {
        // as if every token saw the whole cache: an upper bound
        self.count(2 * product(s.tokens, cache.0 / (2 * s.kv * s.dim).max(1), s.q * s.dim))
    }
    fn act(&self, _: Rows, _: Act, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn act_bwd(&self, _: Rows, _: Act, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn gather(&self, _: Rows, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn gather_bwd(&self, _: Rows, _: &Counted, _: usize, _: Option<&Counted>, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn head_logp(&self, s: Head, _: &Counted, _: &Weight<Self>, _: &Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(product(s.rows, s.vocab, s.width))
    }
    fn head_unit(&self, s: Head, _: &Counted, _: &Weight<Self>, _: &Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(2 * product(s.rows, s.vocab, s.width))
    }
    fn objective(&self, _: Objective, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn head_bwd(&self, s: Head, _: &Counted, _: &Weight<Self>, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted, dw: Option<&mut Counted>) -> Result {
        self.count((1 + usize::from(dw.is_some())) * product(s.rows, s.vocab, s.width))
    }
    fn clip(&self, _: &[(&Counted, usize)], _: &mut Counted) -> Result { self.count(0) }
    fn adamw(&self, _: AdamW, _: &Counted, _: &mut [Update<Self>]) -> Result { self.count(0) }
}
