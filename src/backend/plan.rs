//! A backend that computes nothing and counts everything: bytes, FLOPs, launches. The dry run for free.

use super::*;
use std::cell::Cell;
use std::marker::PhantomData;

/// Counters of one run of the model, with working weights and activations in `E`: f32 as on the CPU, or bf16 as on
/// CUDA, where trained weights have an f32 copy.
pub struct Plan<E: Elem = f32> {
    own: Own,
    bytes: Cell<u64>,
    products: Cell<u64>,
    attention: Cell<u64>,
    launches: Cell<u64>,
    scratch: Cell<u64>,
    working: PhantomData<E>,
}

/// What a backend takes beside the buffers that it is asked for.
#[derive(Clone, Copy)]
enum Own {
    /// Tiles of attention and packed operands of products on each of so many threads.
    Cpu(usize),
    /// The working memory of the product library.
    Cuda,
}

/// A buffer that is only a length, in values and in bytes.
pub struct Counted {
    len: usize,
    bytes: u64,
}

impl Counted {
    /// Bytes that it would take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan::cpu(1)
    }
}

impl Plan {
    /// A processor with so many threads.
    pub fn cpu(threads: usize) -> Plan {
        Plan::of(Own::Cpu(threads))
    }
}

impl Plan<bf16> {
    /// A GPU.
    pub fn cuda() -> Plan<bf16> {
        let plan = Plan::of(Own::Cuda);
        plan.lend(cuda::gpu::WORKSPACE);
        plan
    }
}

impl<E: Elem> Plan<E> {
    fn of(own: Own) -> Plan<E> {
        let (bytes, products, attention, launches, scratch) = Default::default();
        Plan { own, bytes, products, attention, launches, scratch, working: PhantomData }
    }

    /// Bytes allocated so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Bytes that the backend itself would have taken for the operations so far.
    pub fn scratch(&self) -> u64 {
        let rooms = if let Own::Cpu(threads) = self.own { threads * cpu::gemm::room::<E>() } else { 0 };
        self.scratch.get() + rooms as u64
    }

    /// Floating-point operations of all products so far, attention included; a multiply-add counts 2.
    pub fn flops(&self) -> u64 {
        self.products.get() + self.attention()
    }

    /// Those of attention; it is causal and counts half of the packed buffer, as if that were one example: an upper
    /// bound.
    pub fn attention(&self) -> u64 {
        self.attention.get()
    }

    /// Operations launched so far.
    pub fn launches(&self) -> u64 {
        self.launches.get()
    }

    fn count(&self, flops: usize) -> Result {
        self.launches.set(self.launches.get() + 1);
        self.products.set(self.products.get() + flops as u64);
        Ok(())
    }

    /// Attention that takes `halves` / 2 products of all queries with all keys; on a CPU, each thread works in `room`
    /// values.
    fn attend(&self, s: Heads, halves: usize, room: usize) -> Result {
        if let Own::Cpu(threads) = self.own {
            self.lend(threads * room * size_of::<E>());
        }
        let flops = product(s.tokens, s.tokens, s.q * s.dim) * halves / 2;
        self.attention.set(self.attention.get() + flops as u64);
        self.count(0)
    }

    /// Scratch is kept and lent again: the largest counts.
    fn lend(&self, bytes: usize) {
        self.scratch.set(self.scratch.get().max(bytes as u64));
    }
}

/// FLOPs of a product.
fn product(m: usize, n: usize, k: usize) -> usize {
    2 * m * n * k
}

#[rustfmt::skip] // one operation a line: the signatures stand in the trait
impl<E: Elem> Backend for Plan<E> {
    type Float = E;
    type Stat = f32;
    type Logit = f32;
    type Buf<T: Elem> = Counted;

    const MASTER: bool = size_of::<E>() < size_of::<f32>();
    const LOGIT_BYTES: usize = if Self::MASTER { cuda::Cuda::<cuda::gpu::Gpu>::LOGIT_BYTES } else { cpu::Cpu::<f32>::LOGIT_BYTES };

    fn alloc<T: Elem>(&self, n: usize) -> Result<Counted> {
        let bytes = (n * size_of::<T>()) as u64;
        self.bytes.set(self.bytes.get() + bytes);
        Ok(Counted { len: n, bytes })
    }
    fn write<T: Elem>(&self, dst: &mut Counted, host: &[T]) -> Result {
        assert!(host.len() <= dst.len, "plan: a write of {} exceeds a buffer of {}", host.len(), dst.len);
        Ok(())
    }
    fn read<T: Elem>(&self, src: &Counted, host: &mut [T]) -> Result {
        assert!(host.len() <= src.len, "plan: a read of {} exceeds a buffer of {}", host.len(), src.len);
        host.fill(T::default());
        Ok(())
    }
    fn zero<T: Elem>(&self, _: &mut Counted, _: usize) -> Result { self.count(0) }
    fn float(_: f64) -> E { E::default() }
    fn stat(x: f64) -> f32 { x as f32 }
    fn from_float(_: E) -> f64 { 0.0 }
    fn from_stat(x: f32) -> f64 { f64::from(x) }
    fn from_logit(x: f32) -> f64 { f64::from(x) }

    fn embed(&self, _: Rows, _: &Tokens<Self>, _: &Stored<Self>, _: Option<&Stored<Self>>, _: f64, _: Option<Dropout<Self>>, _: &mut Counted) -> Result { self.count(0) }
    fn embed_bwd(&self, _: Rows, _: &Tokens<Self>, _: f64, _: Option<Dropout<Self>>, _: &Counted, _: Option<&mut Counted>, _: Option<&mut Counted>) -> Result { self.count(0) }
    fn norm(&self, _: Rows, _: Norm, _: &Counted, _: Affine<Self>, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn add_norm(&self, _: Rows, _: Norm, _: &Counted, _: &Counted, _: Option<Dropout<Self>>, _: &mut Counted, _: Affine<Self>, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn norm_bwd(&self, _: Rows, _: Norm, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: Option<&Counted>, _: &mut Counted, _: Option<&mut Counted>, _: Option<&mut Counted>) -> Result { self.count(0) }
    fn dropout_bwd(&self, _: Rows, _: Dropout<Self>, _: &Counted, _: &mut Counted) -> Result { self.count(0) }

    fn linear(&self, s: Gemm, _: &Counted, _: &Stored<Self>, _: Option<&Counted>, _: &mut Counted) -> Result {
        self.count(product(s.rows, s.out, s.inp))
    }
    fn linear_bwd(&self, s: Gemm, _: &Counted, _: &Stored<Self>, _: &Counted, dx: Option<&mut Counted>, dw: Option<&mut Counted>, _: Option<&mut Counted>) -> Result {
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
        self.attend(s, 2, cpu::attention::room(s, s.tokens))
    }
    fn attention_bwd(&self, s: Heads, _: &Tokens<Self>, _: &Counted, _: Option<Dropout<Self>>, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.attend(s, 5, cpu::attention::room_bwd(s))
    }
    fn write_kv_cache(&self, _: Heads, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn attention_cached(&self, s: Heads, _: &Tokens<Self>, _: &Counted, _: &Counted, cache: &Counted, _: &mut Counted) -> Result {
        // as if every token saw the whole cache: an upper bound
        self.count(2 * product(s.tokens, cache.len / (2 * s.kv * s.dim).max(1), s.q * s.dim))
    }
    fn act(&self, _: Rows, _: Act, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn act_bwd(&self, _: Rows, _: Act, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn gather(&self, _: Rows, _: &Counted, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn gather_bwd(&self, _: Rows, _: &Counted, _: usize, _: Option<&Counted>, _: &Counted, _: &mut Counted) -> Result { self.count(0) }
    fn head_logp(&self, s: Head, _: &Counted, _: &Stored<Self>, _: &Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(product(s.rows, s.vocab, s.width))
    }
    fn head_unit(&self, s: Head, _: &Counted, _: &Stored<Self>, _: &Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted, _: &mut Counted) -> Result {
        self.count(2 * product(s.rows, s.vocab, s.width))
    }
    fn objective(&self, _: Objective, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted) -> Result { self.count(0) }
    fn head_bwd(&self, s: Head, _: &Counted, _: &Stored<Self>, _: &Counted, _: &Counted, _: &Counted, _: &Counted, _: &mut Counted, _: &mut Counted, dw: Option<&mut Counted>) -> Result {
        self.count((1 + usize::from(dw.is_some())) * product(s.rows, s.vocab, s.width))
    }
    fn clip(&self, _: &[(&Counted, usize)], _: &mut Counted) -> Result { self.count(0) }
    fn adamw(&self, _: AdamW, _: &Counted, _: &Counted, _: &mut [Update<Self>]) -> Result { self.count(0) }
}
