//! A backend that computes nothing and counts everything: bytes, FLOPs, launches. The dry run for free.

use super::*;
use crate::error::Result;
use half::bf16;
use std::cell::Cell;
use std::marker::PhantomData;

/// Counters of one run of the model, with working weights and activations in `E`: f32 as on the CPU, or bf16 as on
/// CUDA, where trained weights have an f32 copy.
pub struct Plan<E: Number = f32> {
    own: Own,
    bytes: Cell<u64>,
    products: Cell<u64>,
    attention: Cell<u64>,
    launches: Cell<u64>,
    scratch: Cell<u64>,
    panel: Cell<u64>,
    working: PhantomData<E>,
}

/// What a backend takes beside the buffers that it is asked for.
#[derive(Clone, Copy)]
enum Own {
    /// Tiles of attention and packed operands of products on each of so many threads.
    Cpu(usize),
    /// The working memory of the product library, and a weight in 4 bits decoded to bf16.
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

impl<E: Number> Plan<E> {
    fn of(own: Own) -> Plan<E> {
        let (bytes, products, attention, launches, scratch, panel) = Default::default();
        Plan { own, bytes, products, attention, launches, scratch, panel, working: PhantomData }
    }

    /// Bytes allocated so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Bytes that the backend itself would have taken for the operations so far.
    pub fn scratch(&self) -> u64 {
        let rooms = if let Own::Cpu(threads) = self.own { threads * cpu::gemm::room::<E>() } else { 0 };
        self.scratch.get() + self.panel.get() + rooms as u64
    }

    /// Floating-point operations of all products so far, attention included; a multiply-add counts 2.
    pub fn flops(&self) -> u64 {
        self.products.get() + self.attention_flops()
    }

    /// FLOPs of attention. It is causal and counts half of the packed buffer, as if that were one example: an upper
    /// bound.
    pub fn attention_flops(&self) -> u64 {
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

    /// [`Plan::count`] of an operation that reads `w`. On CUDA a weight in 4 bits is decoded into a panel that is kept;
    /// on a CPU, into the room of packed operands.
    fn count_with(&self, w: &Stored<Self>, flops: usize) -> Result {
        if let (Own::Cuda, Stored::Nf4(w)) = (self.own, w) {
            let bytes = w.rows() * w.cols * size_of::<bf16>();
            self.panel.set(self.panel.get().max(bytes as u64));
        }
        self.count(flops)
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

impl<E: Number> Memory for Plan<E> {
    type Float = E;
    type Stat = f32;
    type Logit = f32;
    type Buf<T: Elem> = Counted;

    const MASTER: bool = size_of::<E>() < size_of::<f32>();
    const LOGIT_BYTES: usize =
        if Self::MASTER { cuda::Cuda::<cuda::gpu::Gpu>::LOGIT_BYTES } else { cpu::Cpu::<f32>::LOGIT_BYTES };

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
    fn zero<T: Elem>(&self, _: &mut Counted, _: usize) -> Result {
        self.count(0)
    }
}

/// Operations of which only the FLOPs count: `name(s: Shape, types of the operands) = FLOPs`.
macro_rules! operations {
    ($($name:ident($s:ident: $shape:ty $(, $operand:ty)*) = $flops:expr;)*) => {$(
        fn $name(&self, $s: $shape, $(_: $operand),*) -> Result {
            self.count($flops)
        }
    )*};
}

type C = Counted;

impl<E: Number> EmbedOps for Plan<E> {
    fn embed(
        &self, _: Rows, _: &Tokens<Self>, table: &Stored<Self>, _: Option<&Stored<Self>>, _: f64,
        _: Option<Dropout<Self>>, _: &mut C,
    ) -> Result {
        self.count_with(table, 0)
    }

    operations! {
        embed_bwd(_s: Rows, &Tokens<Self>, f64, Option<Dropout<Self>>, &C, Option<&mut C>, Option<&mut C>) = 0;
    }
}

impl<E: Number> NormOps for Plan<E> {
    operations! {
        norm(_s: Rows, Norm, &C, Affine<Self>, &mut C, &mut C) = 0;
        add_norm(_s: Rows, Norm, &C, &C, Option<Dropout<Self>>, &mut C, Affine<Self>, &mut C, &mut C) = 0;
        norm_bwd(_s: Rows, Norm, &C, &C, &C, &C, Option<&C>, &mut C, Option<&mut C>, Option<&mut C>) = 0;
        dropout_bwd(_s: Rows, Dropout<Self>, &C, &mut C) = 0;
    }
}

impl<E: Number> LinearOps for Plan<E> {
    operations! {
        lora(s: Lora, &C, &C, &C, Option<Dropout<Self>>, &mut C, &mut C, &mut C) =
            product(s.rows, s.rank, s.inp) + product(s.rows, s.out, s.rank);
    }

    fn linear(&self, s: Gemm, _: &C, w: &Stored<Self>, _: Option<&C>, _: &mut C) -> Result {
        self.count_with(w, product(s.rows, s.out, s.inp))
    }

    fn linear_bwd(
        &self, s: Gemm, _: &C, w: &Stored<Self>, _: &C, dx: Option<&mut C>, dw: Option<&mut C>, _: Option<&mut C>,
    ) -> Result {
        let flops = product(s.rows, s.out, s.inp);
        match (dx, dw) {
            (None, dw) => self.count(usize::from(dw.is_some()) * flops),
            (Some(_), dw) => self.count_with(w, (1 + usize::from(dw.is_some())) * flops),
        }
    }

    fn lora_bwd(
        &self, s: Lora, _: &C, _: &C, _: &C, _: Option<Dropout<Self>>, _: &C, _: &C, _: &mut C, _: &mut C,
        dx: Option<&mut C>, _: &mut C, _: &mut C,
    ) -> Result {
        let through_a = (1 + usize::from(dx.is_some())) * product(s.rows, s.rank, s.inp);
        self.count(2 * product(s.rows, s.out, s.rank) + through_a)
    }
}

impl<E: Number> RopeOps for Plan<E> {
    operations! {
        rope(_s: Heads, &Tokens<Self>, &C, Turn, &mut C) = 0;
    }
}

impl<E: Number> AttentionOps for Plan<E> {
    fn attention(&self, s: Heads, _: &Tokens<Self>, _: &C, _: Option<Dropout<Self>>, _: &mut C, _: &mut C) -> Result {
        self.attend(s, 2, cpu::attention::room(s, s.tokens))
    }

    fn attention_bwd(
        &self, s: Heads, _: &Tokens<Self>, _: &C, _: Option<Dropout<Self>>, _: &C, _: &C, _: &C, _: &mut C, _: &mut C,
    ) -> Result {
        self.attend(s, 5, cpu::attention::room_bwd(s))
    }

    fn attention_probs(&self, s: Heads, chosen: Rows, _: &Tokens<Self>, _: &C, _: &C, _: &mut C) -> Result {
        // as if every row saw as many keys as the longest: an upper bound
        self.count(product(chosen.n, chosen.width, s.q * s.dim))
    }
}

impl<E: Number> CacheOps for Plan<E> {
    operations! {
        write_kv_cache(_s: Heads, &C, &C, &mut C) = 0;
    }

    fn attention_cached(&self, s: Heads, _: &Tokens<Self>, _: &C, _: &C, cache: &C, _: &mut C) -> Result {
        // as if every token saw the whole cache: an upper bound
        self.count(2 * product(s.tokens, cache.len / (2 * s.kv * s.dim).max(1), s.q * s.dim))
    }
}

impl<E: Number> ActOps for Plan<E> {
    operations! {
        act(_s: Rows, Act, &C, &mut C) = 0;
        act_bwd(_s: Rows, Act, &C, &C, &mut C) = 0;
    }
}

impl<E: Number> HeadOps for Plan<E> {
    operations! {
        gather(_s: Rows, &C, &C, &mut C) = 0;
        gather_bwd(_s: Rows, &C, usize, Option<&C>, &C, &mut C) = 0;
    }

    fn head_logp(&self, s: Head, _: &C, w: &Stored<Self>, _: &C, _: &mut C, _: &mut C, _: &mut C) -> Result {
        self.count_with(w, product(s.rows, s.vocab, s.width))
    }

    fn head_unit(&self, s: Head, _: &C, w: &Stored<Self>, _: &C, _: &mut C, _: &mut C, _: &mut C, _: &mut C) -> Result {
        self.count_with(w, 2 * product(s.rows, s.vocab, s.width))
    }

    fn head_bwd(
        &self, s: Head, _: &C, w: &Stored<Self>, _: &C, _: &C, _: &C, _: &C, _: &mut C, _: &mut C, dw: Option<&mut C>,
    ) -> Result {
        self.count_with(w, (1 + usize::from(dw.is_some())) * product(s.rows, s.vocab, s.width))
    }
}

impl<E: Number> ObjectiveOps for Plan<E> {
    operations! {
        objective(_s: Objective, &C, &C, &C, &C, &C, &C, &mut C, &mut C) = 0;
    }
}

impl<E: Number> OptimOps for Plan<E> {
    fn clip(&self, _: &[(&C, usize)], _: &mut C) -> Result {
        self.count(0)
    }

    fn adamw(&self, _: AdamW, _: &C, _: &C, _: &mut [Update<Self>]) -> Result {
        self.count(0)
    }
}

impl<E: Number> Backend for Plan<E> {}
