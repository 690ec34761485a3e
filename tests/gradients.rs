//! The backward pass against the forward pass: central differences in f64 on every tensor of models in which every
//! feature is on; what may not leak from one batch into the gradients of the next; bf16 storage against its widening.
//!
//! The loss is the whole objective (weights below and at zero, the preference term), over two micro-batches with
//! segments of one token and one that is longer than a block of rows. Dropout needs no exception: its masks are a
//! function of the step, so the loss stays a smooth function of the weights.

mod support;

use eyekern::backend::Stored;
use eyekern::backend::cpu::{Cpu, Real};
use eyekern::data::Batch;
use eyekern::model::adapter::peft_names;
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::Rates;
use eyekern::model::names::{self, Part};
use eyekern::model::params::Param;
use eyekern::model::workspace::Recompute;
use eyekern::random::{Purpose, Stream};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Capacity, Machine, Outcome, Rule, StepSettings};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;
use support::models::Method::{Full, Lora};
use support::models::{self, CAPACITY, COMPOSITE, DRY, Method, STD, WET, micro_batches};
use support::relative;

/// The optimiser step whose masks are drawn.
const STEP: u64 = 4;

const WEIGHTED_PAIRS: Rule = Rule { normalize: Normalize::Weights, dpo_weights: true, ..COMPOSITE };

/// A tensor of the checkpoint or of an adapter: a stretch of a parameter.
struct Place {
    name: String,
    at: At,
    first: usize,
    len: usize,
}

#[derive(Clone, Copy)]
enum At {
    Base(Part),
    Adapter(usize),
}

fn param(model: &mut Decoder<Cpu<f64>>, at: At) -> (Param<'_, Cpu<f64>>, usize) {
    match at {
        At::Base(part) => model.param(part).expect("a tensor of the table is in the model"),
        At::Adapter(i) => (model.adapter_params().swap_remove(i), 0),
    }
}

fn values(param: Param<'_, Cpu<f64>>) -> &mut Vec<f64> {
    match param {
        Param::Dense(p) => &mut p.w,
        Param::Matrix(p) => match &mut p.w {
            Stored::Float(w) => w,
            Stored::Bf16(_) | Stored::Nf4(_) => panic!("a trained matrix is stored in working precision"),
        },
    }
}

/// Every trained tensor under its checkpoint name: of a fused parameter, each slice for itself.
fn places(model: &mut Decoder<Cpu<f64>>, method: Method) -> Vec<Place> {
    if method == Lora {
        let adapted: Vec<String> = model.slices().flat_map(|(_, s)| peft_names(&s.path)).collect();
        let lens: Vec<usize> = model.adapter_params().iter().map(Param::len).collect();
        assert_eq!(adapted.len(), lens.len(), "every projection is adapted");
        let place = |(i, (name, len))| Place { name, at: At::Adapter(i), first: 0, len };
        return adapted.into_iter().zip(lens).enumerate().map(place).collect();
    }
    let mut list = Vec::new();
    for tensor in names::tensors(&model.spec) {
        let (_, row) = model.param(tensor.part).expect("a tensor of the table is in the model");
        let (first, len) = (row * tensor.cols, tensor.rows * tensor.cols);
        list.push(Place { name: tensor.name, at: At::Base(tensor.part), first, len });
    }
    let covered: usize = list.iter().map(|p| p.len).sum();
    assert_eq!(covered, model.base_params().iter().map(Param::len).sum::<usize>(), "the table covers every value");
    list
}

/// One value of a machine's model, to be moved.
struct Probe<'a> {
    machine: &'a mut Machine<Cpu<f64>>,
    batches: &'a [Batch],
    at: At,
    index: usize,
}

impl Probe<'_> {
    fn loss(&mut self, shift: f64) -> f64 {
        let (batches, index) = (self.batches, self.index);
        let before = values(param(&mut self.machine.model, self.at).0)[index];
        values(param(&mut self.machine.model, self.at).0)[index] = before + shift;
        let loss = self.machine.gradients(batches, STEP).expect("gradients").loss;
        values(param(&mut self.machine.model, self.at).0)[index] = before;
        loss
    }

    /// The derivative by central differences of fourth order.
    fn slope(&mut self) -> f64 {
        const H: f64 = 2e-4;
        let near = self.loss(H) - self.loss(-H);
        let far = self.loss(2.0 * H) - self.loss(-2.0 * H);
        (8.0 * near - far) / (12.0 * H)
    }
}

/// Where to look in a tensor: its two largest gradients and four entries at random.
fn entries(gradient: &[f64], stream: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..gradient.len()).collect();
    order.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()));
    order.truncate(2);
    order.extend((0..4).map(|_| stream.below(gradient.len() as u32) as usize));
    order.sort_unstable();
    order.dedup();
    order
}

/// Compares every tensor's gradient with differences of the loss.
fn check(spec: Spec, method: Method, rule: Rule, rates: Rates) {
    check_with(spec, method, StepSettings { rule, rates, ..StepSettings::default() });
}

fn check_with(spec: Spec, method: Method, settings: StepSettings) {
    let batches = micro_batches(&spec);
    let capacity = Capacity { tokens: CAPACITY, supervised: CAPACITY };
    let b = Cpu::<f64>::new(1).expect("threads");
    let mut machine = models::machine(b, (spec, STD), method, StepSettings { capacity, seed: 3, ..settings });
    let places = places(&mut machine.model, method);
    let outcome = machine.gradients(&batches, STEP).expect("gradients");
    assert!(outcome.totals.pairs >= 2 && outcome.totals.pairs_skipped >= 2, "{:?}", outcome.totals);
    let gradients: Vec<Vec<f64>> = places.iter().map(|p| gradient(&mut machine, p)).collect();
    let largest = gradients.iter().flatten().fold(0.0f64, |m, g| m.max(g.abs()));
    let (mut stream, mut worst) = (Stream::new(10, Purpose::Init, 0), 0.0);
    for (place, gradient) in places.iter().zip(&gradients) {
        for i in entries(gradient, &mut stream) {
            let mut probe = Probe { machine: &mut machine, batches: &batches, at: place.at, index: place.first + i };
            let (numeric, analytic) = (probe.slope(), gradient[i]);
            let error = (numeric - analytic).abs() / numeric.abs().max(analytic.abs()).max(1e-3 * largest);
            worst = support::worst(worst, error);
            let name = &place.name;
            assert!(error <= 1e-6, "{name}[{i}]: backward gives {analytic:e}, differences give {numeric:e}");
        }
    }
    println!("{} tensors, worst error {worst:.1e}, largest gradient {largest:.1}", places.len());
}

fn gradient(machine: &mut Machine<Cpu<f64>>, place: &Place) -> Vec<f64> {
    let (mut param, _) = param(&mut machine.model, place.at);
    let whole = param.gradient(&machine.backend).expect("reads").expect("is trained");
    whole[place.first..][..place.len].to_vec()
}

#[test]
fn llama_full() {
    check(models::llama(), Full, COMPOSITE, DRY);
}

#[test]
fn llama_full_with_dropout() {
    check(models::llama(), Full, WEIGHTED_PAIRS, WET);
}

#[test]
fn llama_lora() {
    check(models::llama(), Lora, WEIGHTED_PAIRS, DRY);
}

#[test]
fn llama_lora_with_dropout() {
    check(models::llama(), Lora, COMPOSITE, WET);
}

#[test]
fn llama_lora_recomputed() {
    let settings = StepSettings { rule: COMPOSITE, rates: WET, recompute: Recompute::Layer, ..StepSettings::default() };
    check_with(models::llama(), Lora, settings);
}

#[test]
fn llama_untied() {
    check(Spec { tied: false, ..models::llama() }, Full, WEIGHTED_PAIRS, DRY);
}

#[test]
fn starcoder2_full() {
    check(models::starcoder2(), Full, COMPOSITE, DRY);
}

#[test]
fn starcoder2_lora_with_dropout() {
    check(Spec { tied: true, ..models::starcoder2() }, Lora, WEIGHTED_PAIRS, WET);
}

#[test]
fn gpt2_full_with_dropout() {
    check(models::gpt2(), Full, COMPOSITE, WET);
}

#[test]
fn gpt2_untied() {
    check(Spec { tied: false, ..models::gpt2() }, Full, WEIGHTED_PAIRS, DRY);
}

#[test]
fn gpt2_lora() {
    check(models::gpt2(), Lora, COMPOSITE, DRY);
}

#[test]
fn bigcode_multi_query_full() {
    check(models::bigcode(true), Full, WEIGHTED_PAIRS, WET);
}

#[test]
fn bigcode_multi_query_lora() {
    check(models::bigcode(true), Lora, COMPOSITE, WET);
}

#[test]
fn bigcode_multi_head_full() {
    check(models::bigcode(false), Full, COMPOSITE, DRY);
}

#[test]
fn bigcode_multi_head_lora() {
    check(models::bigcode(false), Lora, WEIGHTED_PAIRS, WET);
}

// ---- what must not survive from one step to the next

fn machine<R: Real>(spec: Spec, method: Method, rates: Rates) -> Machine<Cpu<R>> {
    models::build((spec, STD), method, (COMPOSITE, rates), CAPACITY, 1)
}

/// Loss and gradients of a step.
fn step<R: Real>(machine: &mut Machine<Cpu<R>>, batches: &[Batch]) -> (f64, Vec<Vec<u64>>) {
    let outcome: Outcome = machine.gradients(batches, STEP).expect("gradients");
    (outcome.loss, models::bits(&models::all_gradients(machine)))
}

/// A gradient that `gradients` neither clears nor writes would keep the NaN.
#[test]
fn no_poison_remains_in_a_gradient() {
    for spec in [models::llama(), models::gpt2(), models::starcoder2()] {
        for method in [Full, Lora] {
            let batches = micro_batches(&spec);
            let mut machine = machine::<f64>(spec.clone(), method, WET);
            let clean = step(&mut machine, &batches);
            for mut param in machine.model.trained() {
                param.train().expect("is trained").grad.fill(f64::NAN);
            }
            let poisoned = step(&mut machine, &batches);
            assert!(models::all_gradients(&mut machine).iter().flatten().all(|g| g.is_finite()));
            assert_eq!(clean, poisoned, "{} {method:?}", spec.model_type);
        }
    }
}

/// After a larger batch, and after one whose activations are all NaN, a small batch gives the bits of a new machine.
#[test]
fn no_activation_reaches_the_next_batch() {
    for spec in [models::llama(), models::gpt2(), models::starcoder2()] {
        for (method, rates) in [(Full, DRY), (Full, WET), (Lora, DRY), (Lora, WET)] {
            let [large, small] = micro_batches(&spec);
            let fresh = step(&mut machine::<f64>(spec.clone(), method, rates), std::slice::from_ref(&small));
            let mut used = machine::<f64>(spec.clone(), method, rates);
            step(&mut used, std::slice::from_ref(&large));
            assert_eq!(fresh, step(&mut used, std::slice::from_ref(&small)), "{} {method:?}", spec.model_type);

            let embed = At::Base(Part::Embed);
            let kept = values(param(&mut used.model, embed).0).clone();
            values(param(&mut used.model, embed).0).fill(f64::NAN);
            let poisoned = used.gradients(std::slice::from_ref(&large), STEP).expect("gradients");
            assert!(poisoned.loss.is_nan());
            *values(param(&mut used.model, embed).0) = kept;
            assert_eq!(fresh, step(&mut used, std::slice::from_ref(&small)), "{} {method:?}", spec.model_type);
        }
    }
}

// ---- bf16 storage

/// A checkpoint of `spec` whose values bf16 holds exactly, stored as such or widened.
fn write_checkpoint(spec: &Spec, dtype: Dtype, dir: &Path) -> Checkpoint {
    let mut records = Vec::new();
    for (i, tensor) in names::tensors(spec).into_iter().enumerate() {
        let mut stream = Stream::new(11, Purpose::Init, i as u32);
        let around = f64::from(matches!(tensor.part, Part::Norm(_, _, false) | Part::FinalNorm(false)));
        let draw = |_| bf16::from_f64(around + 0.2 * stream.normal());
        let narrow: Vec<bf16> = (0..tensor.rows * tensor.cols).map(draw).collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::BF16 => narrow.iter().flat_map(|x| x.to_le_bytes()).collect(),
            _ => narrow.iter().flat_map(|x| x.to_f32().to_le_bytes()).collect(),
        };
        records.push((tensor.name.clone(), tensor.shape(), bytes));
    }
    let view = |(name, shape, bytes)| (name, TensorView::new(dtype, shape, bytes).expect("a shape that fits"));
    let views = records.iter().map(|(n, s, b)| view((n.as_str(), s.clone(), b.as_slice())));
    let file = dir.join(format!("{dtype:?}.safetensors"));
    safetensors::serialize_to_file(views, None, &file).expect("writes");
    Checkpoint::files(file.clone(), &[file]).expect("opens")
}

fn frozen(spec: &Spec, checkpoint: &Checkpoint) -> Machine<Cpu<f32>> {
    let b = Cpu::<f32>::new(1).expect("threads");
    let mut model = Decoder::build(&b, spec.clone(), &Init::File(checkpoint), None, CAPACITY).expect("builds");
    models::adapt(&b, &mut model);
    let capacity = Capacity { tokens: CAPACITY, supervised: CAPACITY };
    Machine::new(
        b,
        model,
        StepSettings { rule: COMPOSITE, rates: WET, capacity, train: true, seed: 3, ..StepSettings::default() },
    )
    .expect("allocates")
}

/// The same frozen model stored both ways; whether matrices are in fact kept narrow is asserted.
fn stored_both_ways(spec: &Spec) -> [Machine<Cpu<f32>>; 2] {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let narrow = frozen(spec, &write_checkpoint(spec, Dtype::BF16, dir.path()));
    let wide = frozen(spec, &write_checkpoint(spec, Dtype::F32, dir.path()));
    assert!(narrow.model.layers.iter().all(|l| l.proj.iter().all(|p| matches!(p.w.w, Stored::Bf16(_)))));
    assert!(matches!((&narrow.model.embed.w, &wide.model.embed.w), (Stored::Bf16(_), Stored::Float(_))));
    [narrow, wide]
}

/// Widening is exact, so where a matrix is one panel not a bit may differ.
#[test]
fn bf16_storage_gives_the_bits_of_its_widening() {
    for spec in [models::llama(), models::starcoder2(), models::gpt2(), models::bigcode(false)] {
        let [a, b] = stored_both_ways(&spec).map(|mut m| step(&mut m, &micro_batches(&spec)));
        assert_eq!(a, b, "{}", spec.model_type);
    }
}

/// Matrices of several panels add up the panels' products in turn: the same values, rounded in another order.
#[test]
fn bf16_storage_of_several_panels_gives_the_same_values() {
    let spec = Spec { vocab: 700, inner: 300, ..models::llama() };
    let batches = micro_batches(&spec);
    let [a, b] = stored_both_ways(&spec).map(|mut m| {
        let loss = m.gradients(&batches, STEP).expect("gradients").loss;
        (loss, models::all_gradients(&mut m))
    });
    assert!((a.0 - b.0).abs() <= 1e-6 * b.0.abs(), "losses {} and {}", a.0, b.0);
    for (i, (a, b)) in a.1.iter().zip(&b.1).enumerate() {
        assert!(relative(a, b) <= 1e-5, "adapter matrix {i}: {:.1e}", relative(a, b));
    }
}
