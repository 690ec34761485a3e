//! The memory that a dry run predicts against what building a model and two steps really take on the processor, by an
//! allocator that counts. tests/emulated.rs has the same for CUDA.

mod support;

use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::Optim;
use eyekern::backend::plan::Plan;
use eyekern::data::cut::Unit;
use eyekern::data::requests::Prompt;
use eyekern::data::tokenizer::Tokenizer;
use eyekern::data::{Example, pack};
use eyekern::eval::metrics::Setup;
use eyekern::eval::run::Task;
use eyekern::model::adapter::AdapterInit;
use eyekern::model::attention::{Extent, Observer};
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decode::Session;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::names;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::model::workspace::Recompute;
use eyekern::salience::syntax::Language;
use eyekern::train::estimate::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::estimate::{FRESH, How, TOKENS, batches, cases, machine, predicted, specs, steps};
use support::models::Method::{Full, Lora};
use support::models::{self, DRY, Method, WET};

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

struct Turn {
    _guard: MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    // the pool of the process stays; its threads must not look like those of a test
    let _ = rayon::ThreadPoolBuilder::new().num_threads(2).thread_name(|_| "global".into()).build_global();
    Turn { _guard: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
}

impl Drop for Turn {
    /// The threads of a pool end some time after it, and give back what they kept: the next test must not begin before.
    /// They have the name of the thread that made them, as Linux shows it.
    fn drop(&mut self) {
        let name = |task: &Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let own = std::fs::read_link("/proc/thread-self").expect("Linux");
        let (own, mine) = (own.file_name().expect("a thread").to_owned(), name(&Path::new("/proc").join(&own)));
        let others = || {
            let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
            tasks.filter(|task| task.file_name() != own && name(&task.path()) == mine).count()
        };
        while others() > 0 {
            std::thread::yield_now();
        }
    }
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

/// Runs a test on a thread of its own: what the thread kept is given back when it is joined, not in the next test.
fn apart(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(test).join().expect("it runs"));
}

/// The most bytes beyond those of now that `f` has at a time, on a thread that has no room for products yet.
fn peak(f: impl FnOnce() + Send) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    std::thread::scope(|scope| scope.spawn(f).join().expect("it runs"));
    let peak = PEAK.load(Relaxed) - before;
    // the threads of a pool end some time after it, and what they kept must not count as there before the next
    while LIVE.load(Relaxed) > before + (64 << 10) {
        std::thread::yield_now();
    }
    peak
}

/// Fails where a buffer is not predicted, or one too many: the smallest that a thread has for products takes 300 KiB.
/// What attention works in is predicted for one segment of all tokens, up to 100 KiB more for each thread than these
/// take; lists on the host are not predicted, up to 18 KiB.
fn near(spec: &Spec, method: Method, how: How, planned: u64, taken: u64, threads: i64) {
    let more = planned as i64 - taken as i64;
    println!("{:11} {method:?} {how:?}: {planned} planned, {taken} taken, {more} more", spec.model_type);
    let within = (-32 << 10..=threads * (110 << 10)).contains(&more);
    assert!(within, "{} {method:?} {how:?}: {planned} planned, {taken} taken", spec.model_type);
}

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
        near(spec, method, how, predicted(Plan::cpu(1), spec, method, how).total(), taken as u64, 1);
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
        near(&spec, Lora, how, Bytes::of(&mut planned).total(), taken as u64, 2);
    }
}

/// A step gives back all that it takes, the first one aside; and the number of its allocations, which are lists on the
/// host, does not grow with the layers: operations take nothing.
#[test]
fn a_thousand_steps_take_no_more_than_two() {
    let _turn = turn();
    apart(|| {
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
    });
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

/// An observed pass takes what was predicted, however many rows and layers there are. All probabilities together would
/// take a multiple of it.
#[test]
fn an_observed_pass_keeps_one_block_of_probabilities() {
    let _turn = turn();
    let inverse = inverse_frequencies(8, 1e4, Scaling::Default);
    let tokens = 1200;
    let ids: Vec<u32> = (0..tokens as u32).map(|t| 3 + (7 * t) % 60).collect();
    let (labels, weights, path) = (ids.clone(), vec![1.0; tokens], vec![false; tokens]);
    let example = Example { ids, labels, weights, path, ..Example::default() };
    let batch = pack::batch(&[&example], None);
    let extent = Extent { tokens, longest: tokens };
    let (vocab, hidden, inner, q_heads, kv_heads, head_dim) = (64, 64, 96, 8, 4, 8);
    for layers in [2, 8] {
        let positions = Positions::Rope { inverse: inverse.clone(), layers: vec![true; layers] };
        let spec = Spec { vocab, hidden, inner, layers, q_heads, kv_heads, head_dim, positions, ..models::llama() };
        let planned = {
            let plan = Plan::cpu(1);
            let model = Decoder::build(&plan, spec.clone(), &Init::Shapes { bf16: false }, None, tokens);
            let model = model.expect("builds");
            let mut observer = Observer::new(&plan, &model, extent).expect("allocates");
            observer.observe(&batch, &batch.rows, |_, _, _, _| Ok(())).expect("counts");
            plan.bytes() + plan.scratch() + observer.host()
        };
        let source = Init::Random { seed: 1, std: 0.3, bf16: false };
        for step in [1, 60] {
            let rows: Vec<u32> = batch.rows.iter().copied().step_by(step).collect();
            let taken = peak(|| {
                let b = Cpu::<f32>::new(1).expect("a thread");
                let model = Decoder::build(&b, spec.clone(), &source, None, tokens).expect("builds");
                let mut observer = Observer::new(&b, &model, extent).expect("allocates");
                let mut seen = 0;
                let each = |_: usize, _: usize, probs: &[f32], _: usize| {
                    seen += usize::from(probs.iter().all(|p| p.is_finite()));
                    Ok(())
                };
                observer.observe(&batch, &rows, each).expect("runs");
                assert_eq!(seen, layers * rows.len());
            });
            let all = layers * q_heads * tokens * tokens * 4;
            println!("{layers} layers, {} rows: {planned} planned, {taken} taken, {all} of all rows", rows.len());
            // room for larger products than these is predicted, lists on the host are not; a block is 8 MiB
            let apart = planned.abs_diff(taken as u64);
            assert!(apart < 512 << 10, "{layers} layers: {planned} planned, {taken} taken");
            assert!(layers == 2 || 5 * taken < all, "{taken} of {all}: the test is blind");
        }
    }
}

/// Texts of an evaluation give back all that they take, the first time aside; a run takes what was predicted for them.
#[test]
fn fifty_evaluations_take_no_more_than_two() {
    let _turn = turn();
    apart(|| {
        let tokenizer =
            Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).expect("a tokenizer");
        let inverse = inverse_frequencies(8, 1e4, Scaling::Default);
        let positions = Positions::Rope { inverse, layers: vec![true; 2] };
        let (vocab, hidden, inner, q_heads, kv_heads, head_dim) = (640, 64, 96, 8, 4, 8);
        let spec = Spec { vocab, hidden, inner, layers: 2, q_heads, kv_heads, head_dim, positions, ..models::llama() };
        let prompt = |row: u32| Prompt {
            row,
            ids: (0..60 + 20 * row).map(|t| 3 + (7 * t + row) % 600).collect(),
            target_text: Some("long a = b;".into()),
            ..Prompt::default()
        };
        let task = Task {
            prompts: (0..5).map(prompt).collect(),
            unit: Unit::Half,
            max_new_tokens: 30,
            slots: 3,
            ends: vec![1],
            metrics: ["strict_exact", "codebleu", "crystalbleu", "meteor"].map(String::from).to_vec(),
            setup: Setup { language: Some(Language::Java), ..Setup::default() },
            model: "model".into(),
        };
        let planned = {
            let plan = Plan::cpu(1);
            let model = Decoder::build(&plan, spec.clone(), &Init::Shapes { bf16: false }, None, 200).expect("builds");
            let before = plan.bytes();
            Session::new(&plan, &model, task.room()).expect("allocates");
            plan.bytes() - before
        };
        let b = Cpu::<f32>::new(1).expect("one thread");
        let model =
            Decoder::build(&b, spec, &Init::Random { seed: 1, std: 0.3, bf16: false }, None, 200).expect("builds");
        // one thread scores: expressions keep a cache for each thread that used them
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let run = || pool.install(|| task.run(&b, &model, &tokenizer, |_, _, _| Ok(())).expect("runs"));
        let first = run();
        assert!(first.tokens > 100, "{} tokens", first.tokens);
        run();
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        run();
        let peak = PEAK.load(Relaxed) - before;
        // lists on the host, and what metrics work in, are not predicted
        assert!(peak as u64 >= planned && (peak as u64) < planned + (1 << 20), "{planned} planned, {peak} taken");
        for _ in 0..50 {
            PEAK.store(LIVE.load(Relaxed), Relaxed);
            assert_eq!(run(), first);
            let (again, left) = (PEAK.load(Relaxed) - before, LIVE.load(Relaxed).saturating_sub(before));
            assert!(again < peak + (64 << 10) && left < 64 << 10, "{peak} taken, then {again}, and {left} kept");
        }
    });
}
