//! Every operation of the CUDA backend against the CPU in f64 on the same bf16 inputs: on the emulator or, with
//! `EYEKERN_DEVICE=cuda`, on a GPU.
//!
//! An operation is written once, generic over the backend ([`Lab`]), and run on both. Outputs are poisoned with NaN
//! before, so that what a kernel leaves out is seen. On the emulator every case runs under several schedules and host
//! threads, on a GPU twice, and must give the same bits each time.

mod attention;
mod cached;
#[path = "../support/device.rs"]
mod device;
mod far;
mod head;
mod linear;
mod nf4;
mod optim;
mod rows;

use eyekern::backend::cpu::Cpu;
use eyekern::backend::cuda::Cuda;
use eyekern::backend::cuda::emulated::Schedule;
use eyekern::backend::cuda::emulation::Emulated;
use eyekern::backend::cuda::gpu::Gpu;
use eyekern::backend::{Backend, Dropout, F, Ids, Number, S, Tokens};
use eyekern::random::{Purpose, Stream};

/// How far an output may lie from the reference.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// ||x - ref|| <= b ||ref||.
    Rms(f64),
    /// |x - ref| <= b, for each.
    Abs(f64),
    /// Equal.
    Exact,
}

/// A named output.
pub type Output = (&'static str, Bound, Vec<f64>);

/// A backend and a stream of inputs: the same values on every backend, exact in bf16.
pub struct Lab<'a, B: Backend> {
    pub b: &'a B,
    random: Stream,
}

impl<'a, B: Backend> Lab<'a, B> {
    pub fn new(b: &'a B, seed: u64) -> Lab<'a, B> {
        Lab { b, random: Stream::new(seed, Purpose::Init, 0) }
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.random.word()) / (1u64 << 32) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// `n` values around 0 that bf16 holds exactly.
    pub fn values(&mut self, n: usize, size: f64) -> Vec<f64> {
        (0..n).map(|_| half::bf16::from_f64((2.0 * self.uniform() - 1.0) * size).to_f64()).collect()
    }

    pub fn float_of(&self, values: &[f64]) -> F<B> {
        let mut buffer = self.b.alloc(values.len()).expect("memory");
        self.b.write(&mut buffer, &values.iter().map(|&x| B::Float::of(x)).collect::<Vec<_>>()).expect("writes");
        buffer
    }

    pub fn stat_of(&self, values: &[f64]) -> S<B> {
        let mut buffer = self.b.alloc(values.len()).expect("memory");
        self.b.write(&mut buffer, &values.iter().map(|&x| B::Stat::of(x)).collect::<Vec<_>>()).expect("writes");
        buffer
    }

    pub fn ids_of(&self, values: &[u32]) -> Ids<B> {
        let mut buffer = self.b.alloc(values.len()).expect("memory");
        self.b.write(&mut buffer, values).expect("writes");
        buffer
    }

    /// Random activations.
    pub fn float(&mut self, n: usize, size: f64) -> F<B> {
        let values = self.values(n, size);
        self.float_of(&values)
    }

    /// Random statistics.
    pub fn stat(&mut self, n: usize, size: f64) -> S<B> {
        let values = self.values(n, size);
        self.stat_of(&values)
    }

    /// Activations that must be written over.
    pub fn poison(&self, n: usize) -> F<B> {
        self.float_of(&vec![f64::NAN; n])
    }

    /// Statistics that must be written over.
    pub fn poison_stat(&self, n: usize) -> S<B> {
        self.stat_of(&vec![f64::NAN; n])
    }

    pub fn read(&self, buffer: &F<B>, n: usize) -> Vec<f64> {
        let mut host = vec![B::Float::default(); n];
        self.b.read(buffer, &mut host).expect("reads");
        host.into_iter().map(Number::f64).collect()
    }

    pub fn read_stat(&self, buffer: &S<B>, n: usize) -> Vec<f64> {
        let mut host = vec![B::Stat::default(); n];
        self.b.read(buffer, &mut host).expect("reads");
        host.into_iter().map(Number::f64).collect()
    }

    /// Examples of these lengths, end to end, with ids below `vocab`.
    pub fn tokens(&mut self, lengths: &[usize], vocab: usize) -> Tokens<B> {
        let (mut pos, mut start, mut example) = (Vec::new(), Vec::new(), Vec::new());
        for (e, &length) in lengths.iter().enumerate() {
            let first = pos.len() as u32;
            pos.extend(0..length as u32);
            start.resize(pos.len(), first);
            example.resize(pos.len(), 100 + 7 * e as u32);
        }
        let ids: Vec<u32> = (0..pos.len()).map(|_| self.below(vocab) as u32).collect();
        Tokens {
            count: pos.len(),
            ids: self.ids_of(&ids),
            pos: self.ids_of(&pos),
            seg_start: self.ids_of(&start),
            example: self.ids_of(&example),
        }
    }
}

/// Inverted dropout with probability `p`, where it is above 0.
pub fn dropout<'a, B: Backend>(p: f32, key: &'a Ids<B>, tokens: &'a Tokens<B>) -> Option<Dropout<'a, B>> {
    (p > 0.0).then_some(Dropout { p, module: 5, key, tokens })
}

/// Runs `$op(lab) -> Vec<Output>` on the CPU in f64 and on the emulator, and compares; `portable` without the kernels
/// that are for one architecture only.
#[macro_export]
macro_rules! compare {
    ($name:expr, $op:expr) => {
        $crate::compare!($name, $op, portable: false)
    };
    ($name:expr, $op:expr, portable: $portable:expr) => {{
        let reference = {
            let cpu = eyekern::backend::cpu::Cpu::<f64>::new(1).expect("a CPU");
            $op(&mut $crate::Lab::new(&cpu, 1))
        };
        let found: Vec<Vec<$crate::Output>> = if $crate::device::on_gpu() {
            (0..2).map(|_| $crate::with_gpu($portable, |gpu| $op(&mut $crate::Lab::new(gpu, 1)))).collect()
        } else {
            $crate::schedules($portable).map(|cuda| $op(&mut $crate::Lab::new(&cuda, 1))).collect()
        };
        for run in &found {
            $crate::check(&$name.to_string(), run, &reference);
            $crate::same_bits(&$name.to_string(), &found[0], run);
        }
    }};
}

/// Emulated devices that run blocks and threads in different orders.
pub fn schedules(portable: bool) -> impl Iterator<Item = Cuda<Emulated>> {
    [(0, 1), (1, 2), (2, 1)].into_iter().map(move |(seed, threads)| {
        let cuda = device::emulated(Schedule { seed, threads });
        if portable { cuda.portable() } else { cuda }
    })
}

/// The GPU of this thread, opened once.
pub fn with_gpu<T>(portable: bool, work: impl FnOnce(&Cuda<Gpu>) -> T) -> T {
    thread_local! {
        static PLANS: tempfile::TempDir = tempfile::tempdir().expect("a folder");
        static GPU: Cuda<Gpu> = PLANS.with(|plans| device::gpu(plans.path()));
        static PORTABLE: Cuda<Gpu> = PLANS.with(|plans| device::gpu(plans.path()).portable());
    }
    if portable { PORTABLE.with(work) } else { GPU.with(work) }
}

pub fn check(case: &str, found: &[Output], reference: &[Output]) {
    assert_eq!(found.len(), reference.len(), "{case}");
    for ((name, bound, x), (_, _, y)) in found.iter().zip(reference) {
        assert_eq!(x.len(), y.len(), "{case}: {name}");
        let bad = x.iter().zip(y).position(|(x, y)| !x.is_finite() || !y.is_finite());
        assert_eq!(bad, None, "{case}: {name}: {:?}", bad.map(|i| (x[i], y[i])));
        let square = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(|i| f(i) * f(i)).sum::<f64>().sqrt();
        let most = (0..x.len()).map(|i| (x[i] - y[i]).abs()).fold(0.0, f64::max);
        let (error, limit) = match bound {
            Bound::Rms(limit) => (square(&|i| x[i] - y[i]) / square(&|i| y[i]).max(1e-30), *limit),
            Bound::Abs(limit) => (most, *limit),
            Bound::Exact => (most, 0.0),
        };
        assert!(error <= limit, "{case}: {name}: {error:.3e} exceeds {bound:?}");
    }
}

pub fn same_bits(case: &str, a: &[Output], b: &[Output]) {
    for ((name, _, x), (_, _, y)) in a.iter().zip(b) {
        let differ = x.iter().zip(y).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
        assert_eq!(differ, 0, "{case}: {name}: values that depend on the schedule");
    }
}

/// The reference itself, so that a test names its type once.
pub type Reference = Cpu<f64>;
