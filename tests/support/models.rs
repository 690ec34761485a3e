//! Small random models in which every feature is on, and examples to train them with.

use eyekern::backend::Modulation;
use eyekern::backend::cpu::{Cpu, Real};
use eyekern::backend::moments::Optim;
use eyekern::backend::{Act, Backend, Norm};
use eyekern::data::{Batch, Example, IGNORE, pack};
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::{ConfigDropout, Family, Positions, Spec};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::forward::Rates;
use eyekern::model::params::Param;
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::random::{Purpose, Stream};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings};

/// Weighted cross-entropy and a preference term of about the same size.
pub const COMPOSITE: Rule =
    Rule { normalize: Normalize::Tokens, gamma: 1.3, beta: 0.7, dpo_weights: false, modulation: Modulation::None };

/// Deviation of the matrices.
pub const STD: f64 = 0.4;

/// Tokens for which a machine has to have room to take [`micro_batches`].
pub const CAPACITY: usize = 64;

/// No dropout.
pub const DRY: Rates = Rates { embd: 0.0, attention: 0.0, resid: 0.0, lora: 0.0 };

/// Dropout of every kind.
pub const WET: Rates = Rates { embd: 0.2, attention: 0.3, resid: 0.25, lora: 0.35 };

/// Grouped queries, biases and multipliers everywhere, llama3 angles in all three bands, a layer without rotation,
/// heads that together are wider than the hidden rows; tied.
pub fn llama() -> Spec {
    let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 };
    Spec {
        model_type: "llama".into(),
        family: Family::Llama,
        vocab: 29,
        hidden: 12,
        inner: 10,
        layers: 3,
        q_heads: 4,
        kv_heads: 2,
        head_dim: 6,
        norm: Norm::Rms { eps: 1e-5 },
        act: Act::SwiGlu,
        positions: Positions::Rope { inverse: inverse_frequencies(6, 100.0, scaling), layers: vec![true, false, true] },
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        embed_scale: 1.7,
        attn_scale: 0.31,
        residual_scale: 0.6,
        logit_scale: 0.8,
        tied: true,
        max_positions: 64,
        window: None,
        dropout: ConfigDropout::default(),
    }
}

/// One key head for all queries, LayerNorm, exact GELU, linear rope; the head is a matrix of its own.
pub fn starcoder2() -> Spec {
    let inverse = inverse_frequencies(4, 1e4, Scaling::Linear { factor: 2.0 });
    Spec {
        model_type: "starcoder2".into(),
        family: Family::StarCoder2,
        layers: 2,
        q_heads: 3,
        kv_heads: 1,
        head_dim: 4,
        norm: Norm::Layer { eps: 1e-5 },
        act: Act::GeluErf,
        positions: Positions::Rope { inverse, layers: vec![true; 2] },
        tied: false,
        ..plain(llama())
    }
}

/// LayerNorm, learned positions, GELU by tanh, weights stored transposed.
pub fn gpt2() -> Spec {
    Spec {
        model_type: "gpt2".into(),
        family: Family::Gpt { conv1d: true, interleaved: false },
        layers: 2,
        q_heads: 3,
        kv_heads: 3,
        head_dim: 4,
        norm: Norm::Layer { eps: 1e-5 },
        act: Act::GeluTanh,
        positions: Positions::Learned,
        max_positions: 48,
        ..plain(llama())
    }
}

/// GPTBigCode: one key head for all queries, or every query with its own, stored head by head.
pub fn bigcode(multi_query: bool) -> Spec {
    Spec {
        model_type: "gpt_bigcode".into(),
        family: Family::Gpt { conv1d: false, interleaved: !multi_query },
        kv_heads: if multi_query { 1 } else { 3 },
        ..gpt2()
    }
}

/// What distinguishes all architectures: norms, activations, positions, heads, biases, a layer that does not rotate.
pub fn architectures() -> [Spec; 5] {
    [llama(), starcoder2(), gpt2(), bigcode(true), bigcode(false)]
}

/// Without multipliers.
fn plain(spec: Spec) -> Spec {
    let attn_scale = 0.5; // heads of 4
    Spec { embed_scale: 1.0, attn_scale, residual_scale: 1.0, logit_scale: 1.0, ..spec }
}

/// A model in which no value is negligible: matrices of deviation `std`, gains around 1, biases around 0.
pub fn random<B: Backend>(b: &B, spec: Spec, std: f64, train: bool) -> Decoder<B> {
    let positions = spec.max_positions;
    let mut model =
        Decoder::build(b, spec, &Init::Random { seed: 5, std, bf16: false }, train.then_some(Optim::AdamW), positions)
            .expect("builds");
    let mut stream = Stream::new(6, Purpose::Init, 1000);
    for mut param in model.base_params() {
        if let Param::Dense(_) = param {
            let values = param.values(b).expect("reads");
            let moved: Vec<f64> = values.iter().map(|&x| f64::from(x) + 0.3 * stream.normal()).collect();
            param.set(b, &moved).expect("writes");
        }
    }
    model
}

/// Adapters of rank 2 beside every projection, with both matrices away from zero.
pub fn adapt<B: Backend>(b: &B, model: &mut Decoder<B>) {
    let config = LoraConfig { r: 2, alpha: 3.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
    model.attach(b, &config, &AdapterInit::Fresh { seed: 7 }, Some(Optim::AdamW)).expect("attaches");
    let mut stream = Stream::new(6, Purpose::Init, 2000);
    for mut param in model.adapter_params() {
        let values: Vec<f64> = (0..param.len()).map(|_| 0.3 * stream.normal()).collect();
        param.set(b, &values).expect("writes");
    }
}

/// What of a random model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    Full,
    Lora,
}

/// A machine around a random model, with matrices of deviation `std`.
pub fn machine<B: Backend>(b: B, (spec, std): (Spec, f64), method: Method, settings: StepSettings) -> Machine<B> {
    let mut model = random(&b, spec, std, method == Method::Full);
    if method == Method::Lora {
        adapt(&b, &mut model);
    }
    Machine::new(b, model, settings).expect("allocates")
}

/// One on the processor; `tokens` is its capacity.
pub fn build<R: Real>(
    model: (Spec, f64), method: Method, (rule, rates): (Rule, Rates), tokens: usize, threads: usize,
) -> Machine<Cpu<R>> {
    let b = Cpu::<R>::new(threads).expect("threads");
    let capacity = Capacity { tokens, supervised: tokens };
    let settings = StepSettings { rule, rates, capacity, seed: 3, ..StepSettings::default() };
    machine(b, model, method, settings)
}

/// Examples of these lengths with random ids, a prompt of about a third, holes, weights of either sign and random
/// paths. Rows are numbered from `first` with gaps.
pub fn examples(lengths: &[usize], vocab: usize, first: u32) -> Vec<Example> {
    const WEIGHTS: [f32; 7] = [1.0, 2.5, 0.0, -0.75, 0.5, 3.25, 1.0];
    let build = |(i, &n): (usize, &usize)| {
        let row = first + 3 * i as u32;
        let mut stream = Stream::new(8, Purpose::Init, row);
        let ids: Vec<u32> = (0..n).map(|_| stream.below(vocab as u32)).collect();
        let supervised = |t: usize| 3 * t >= n && t % 11 != 10;
        Example {
            row,
            labels: (0..n).map(|t| if supervised(t) { ids[t] } else { IGNORE }).collect(),
            weights: (0..n).map(|_| WEIGHTS[stream.below(7) as usize]).collect(),
            path: (0..n).map(|_| stream.below(2) == 1).collect(),
            prompt: 0,
            ids,
        }
    };
    lengths.iter().enumerate().map(build).collect()
}

/// Two packed micro-batches with pairs and examples that form none, one-token segments, and a segment of 37 tokens,
/// which is longer than a block of rows.
pub fn micro_batches(spec: &Spec) -> [Batch; 2] {
    let list = examples(&[37, 1, 9, 2, 7, 1, 14], spec.vocab, 4);
    let pick = |range: std::ops::Range<usize>| batch(&list[range].iter().collect::<Vec<_>>(), None);
    [pick(0..4), pick(4..7)]
}

/// Examples laid end to end, or padded, with the log p that a reference model could have given to each label.
pub fn batch(examples: &[&Example], pad: Option<u32>) -> Batch {
    let mut batch = pack::batch(examples, pad);
    for example in examples {
        let mut stream = Stream::new(9, Purpose::Init, example.row);
        batch.ref_logp.extend((0..example.supervised()).map(|_| (-2.0 - 2.0 * stream.uniform()) as f32));
    }
    batch
}

/// Every trained parameter's gradient, widened.
pub fn all_gradients<B: Backend>(machine: &mut Machine<B>) -> Vec<Vec<f64>> {
    let Machine { backend, model, .. } = machine;
    model.trained().into_iter().map(|mut p| p.gradient(backend).expect("reads").expect("is trained")).collect()
}

/// The bits of a list of lists.
pub fn bits(lists: &[Vec<f64>]) -> Vec<Vec<u64>> {
    lists.iter().map(|list| list.iter().map(|x| x.to_bits()).collect()).collect()
}
