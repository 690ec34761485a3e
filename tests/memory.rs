//! The memory that a dry run predicts against what building a model and two steps really take: on the processor by an
//! allocator that counts, on CUDA by the bytes that the device gave out.

mod support;

use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::Optim;
use eyekern::backend::plan::Plan;
use eyekern::backend::{AdamW, Backend, Number};
use eyekern::data::Batch;
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::Rates;
use eyekern::model::names;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::model::workspace::Recompute;
use eyekern::train::estimate::Bytes;
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings, Update};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::models::Method::{Full, Lora};
use support::models::{self, DRY, Method, WET};

/// Tokens of a micro-batch.
const TOKENS: usize = 384;

/// The system's allocator, with the bytes that are lent and the most that ever were.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Bytes that this thread has been lent beyond those it gave back, and how often it was lent any: the test harness
    /// allocates on a thread of its own.
    static OWN: Cell<(isize, usize)> = const { Cell::new((0, 0)) };
}

fn own(bytes: isize, lent: usize) {
    // there is none at the end of a thread
    let _ = OWN.try_with(|own| own.set((own.get().0 + bytes, own.get().1 + lent)));
}

/// One test at a time: they share the counters.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: every call is the system's; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        own(layout.size() as isize, 1);
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        own(-(layout.size() as isize), 0);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes beyond those of now that `f` has at a time, on a thread that has no room for products yet.
fn peak(f: impl FnOnce() + Send) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    std::thread::scope(|scope| scope.spawn(f).join().expect("it runs"));
    PEAK.load(Relaxed) - before
}

/// The architectures of the other tests, with matrices of some size.
fn specs() -> [Spec; 5] {
    models::architectures().map(|spec| {
        let (layers, q_heads) = (4, 8);
        let kv_heads = if spec.kv_heads == spec.q_heads { q_heads } else { spec.kv_heads };
        let positions = match spec.positions {
            Positions::Learned => Positions::Learned,
            Positions::Rope { .. } => {
                Positions::Rope { inverse: inverse_frequencies(32, 1e4, Scaling::Default), layers: vec![true; layers] }
            }
        };
        let (vocab, hidden, inner, head_dim, max_positions) = (1500, 256, 640, 32, TOKENS);
        Spec { vocab, hidden, inner, layers, q_heads, kv_heads, head_dim, positions, max_positions, ..spec }
    })
}

fn batches(spec: &Spec) -> [Batch; 1] {
    let list = models::examples(&[200, 100, 84], spec.vocab, 0);
    [models::batch(&list.iter().collect::<Vec<_>>(), None)]
}

/// Dropout, what is kept for backward, and how the optimiser keeps its moments.
type How = (Rates, Recompute, Optim);

/// A machine as a run builds it.
fn machine<B: Backend>(
    b: B,
    spec: &Spec,
    method: Method,
    (rates, recompute, optim): How,
    source: &Init,
    start: &AdapterInit,
) -> Machine<B> {
    let mut model =
        Decoder::build(&b, spec.clone(), source, (method == Full).then_some(optim), TOKENS).expect("builds");
    if method == Lora {
        let config = LoraConfig { r: 8, alpha: 8.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
        model.attach(&b, &config, start, Some(optim)).expect("attaches");
    }
    let capacity = Capacity { tokens: TOKENS, supervised: TOKENS };
    let settings = StepSettings { rule: Rule::default(), rates, capacity, recompute, ..StepSettings::default() };
    Machine::new(b, model, settings).expect("allocates")
}

fn steps<B: Backend>(machine: &mut Machine<B>, batches: &[Batch]) {
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    for step in 1..=2 {
        machine.step(batches, step, &Update { adamw, lr: 1e-4, max_norm: 1.0 }).expect("a step");
    }
}

fn predicted<E: Number>(plan: Plan<E>, spec: &Spec, method: Method, how: How) -> Bytes {
    let source = Init::Shapes { bf16: false };
    let mut machine = machine(plan, spec, method, how, &source, &AdapterInit::Shapes);
    steps(&mut machine, &batches(spec));
    Bytes::of(&mut machine)
}

/// Every architecture, what is trained and what is kept, with and without dropout, moments in full and in 8 bits.
fn cases(check: impl Fn(&Spec, Method, How)) {
    for spec in specs() {
        for method in [Full, Lora] {
            for how in [
                (DRY, Recompute::None, Optim::AdamW),
                (DRY, Recompute::Layer, Optim::AdamW8bit),
                (WET, Recompute::Layer, Optim::AdamW),
            ] {
                check(&spec, method, how);
            }
        }
    }
}

/// Whether two numbers of bytes are less than a tenth apart.
fn close(spec: &Spec, method: Method, how: How, planned: u64, taken: u64) {
    let ratio = planned as f64 / taken as f64;
    println!("{:11} {method:?} {:?} {}: {planned} planned, {taken} taken, {ratio:.3}", spec.model_type, how.1, how.2);
    assert!((0.9..1.1).contains(&ratio), "{} {method:?} {how:?}: {planned} planned, {taken} taken", spec.model_type);
}

const FRESH: (Init, AdapterInit) = (Init::Random { seed: 1, std: 0.02 }, AdapterInit::Fresh { seed: 1 });

#[test]
fn the_processor_takes_what_was_predicted() {
    let _turn = turn();
    cases(|spec, method, how| {
        let batches = batches(spec);
        let (source, start) = FRESH;
        let taken = peak(|| {
            let b = Cpu::<f32>::new(1).expect("threads");
            steps(&mut machine(b, spec, method, how, &source, &start), &batches);
        });
        close(spec, method, how, predicted(Plan::cpu(1), spec, method, how).total(), taken as u64);
    });
}

/// Frozen weights that stay bf16; with more than one thread.
#[test]
fn narrow_weights_take_what_was_predicted() {
    let _turn = turn();
    let how = (DRY, Recompute::Layer, Optim::AdamW);
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (i, spec) in specs().into_iter().enumerate() {
        let tensors: Vec<_> = names::tensors(&spec)
            .into_iter()
            .map(|t| (t.name.clone(), t.shape(), vec![0; 2 * t.rows * t.cols]))
            .collect();
        let view = |shape: &Vec<usize>, bytes| TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("it fits");
        let views = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), view(shape, bytes)));
        let file = dir.path().join(format!("{i}.safetensors"));
        safetensors::serialize_to_file(views, None, &file).expect("writes");
        drop(tensors);
        let (batches, checkpoint) = (batches(&spec), Checkpoint::files(file.clone(), &[file]).expect("opens"));
        let taken = peak(|| {
            let b = Cpu::<f32>::new(2).expect("threads");
            steps(&mut machine(b, &spec, Lora, how, &Init::File(&checkpoint), &FRESH.1), &batches);
        });
        let source = Init::Shapes { bf16: true };
        let mut planned = machine(Plan::cpu(2), &spec, Lora, how, &source, &AdapterInit::Shapes);
        steps(&mut planned, &batches);
        close(&spec, Lora, how, Bytes::of(&mut planned).total(), taken as u64);
    }
}

#[cfg(feature = "emulator")]
#[test]
fn a_cuda_device_takes_what_was_predicted() {
    use eyekern::backend::cuda::Cuda;
    use eyekern::backend::cuda::emulated::Schedule;
    use eyekern::backend::cuda::emulation::Emulated;
    let _turn = turn();
    cases(|spec, method, how| {
        let b = Cuda::new(Emulated::open(Schedule::default()).expect("an emulated device"));
        let before = b.device().free_bytes();
        let (source, start) = FRESH;
        // a step allocates nothing but the tables of the optimiser
        let machine = machine(b, spec, method, how, &source, &start);
        let taken = before - machine.backend.device().free_bytes();
        let bytes = predicted(Plan::cuda(), spec, method, how);
        // the emulator has no product library that takes memory
        close(spec, method, how, bytes.total() - bytes.scratch, taken);
    });
}

/// A step gives back all that it takes, the first one aside; and the number of its allocations, which are lists on the
/// host, does not grow with the layers: operations take nothing.
#[test]
fn a_thousand_steps_take_no_more_than_two() {
    let _turn = turn();
    let (source, start) = FRESH;
    let counts = [1, 4].map(|layers| {
        let inverse = inverse_frequencies(4, 1e4, Scaling::Default);
        let positions = Positions::Rope { inverse, layers: vec![true; layers] };
        let (vocab, hidden, inner, q_heads, head_dim) = (96, 16, 24, 4, 4);
        let spec = Spec { vocab, hidden, inner, layers, q_heads, head_dim, positions, ..models::llama() };
        let b = Cpu::<f32>::new(1).expect("one thread");
        let mut machine = machine(b, &spec, Lora, (WET, Recompute::None, Optim::AdamW), &source, &start);
        let list = models::examples(&[5, 3], spec.vocab, 0);
        let batches = [models::batch(&list.iter().collect::<Vec<_>>(), None)];
        steps(&mut machine, &batches);
        let (live, _) = OWN.get();
        let mut lent = 0;
        for _ in 0..500 {
            let (_, before) = OWN.get();
            steps(&mut machine, &batches);
            assert_eq!(OWN.get().0, live, "{layers} layers");
            lent = OWN.get().1 - before;
        }
        lent
    });
    // lists of parameters double as they grow
    assert!(counts[1] <= counts[0] + 16, "{counts:?} allocations in two steps of 1 and of 4 layers");
}

/// What is counted under each name, by hand: a Llama of one layer that is trained in full, in values.
#[test]
fn each_kind_is_what_its_name_says() {
    let _turn = turn();
    let [llama, ..] = specs();
    let (v, h, i, q, kv) = (1500, 256, 640, 8 * 32, 2 * 32);
    let spec = Spec { layers: 1, qkv_bias: false, o_bias: false, mlp_bias: false, ..llama };
    assert_eq!((spec.vocab, spec.hidden, spec.inner, spec.kv_heads, spec.tied), (v, h, i, 2, true));
    let values = (v * h + h * (q + 2 * kv) + q * h + h * 2 * i + i * h + 3 * h) as u64;
    let angles = (TOKENS * 32) as u64;
    // stream at the input, in the middle and at the end; normalised twice; heads; attention; MLP
    let floats = (TOKENS * (3 * h + 2 * h + (q + 2 * kv) + q + 2 * i + i)) as u64;
    let stats = (TOKENS * (2 + 2 + 8)) as u64;
    for (bytes, width, copies) in [
        (predicted(Plan::cpu(1), &spec, Full, (DRY, Recompute::None, Optim::AdamW)), 4, 2),
        (predicted(Plan::cuda(), &spec, Full, (DRY, Recompute::None, Optim::AdamW)), 2, 3),
    ] {
        assert_eq!(bytes.weights, width * values + 4 * angles);
        assert_eq!(bytes.gradients, 4 * values);
        assert_eq!(bytes.optimiser, copies * 4 * values);
        assert_eq!(bytes.activations, width * floats + 4 * stats);
        assert_eq!(bytes.reference, 0);
    }
}
