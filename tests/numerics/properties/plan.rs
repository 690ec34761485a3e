//! What is counted against what is there.

use super::packed;
use crate::support::models::Method::{Full, Lora};
use crate::support::models::{self, COMPOSITE, DRY, Method, STD};
use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::{Moments, Optim};
use eyekern::backend::plan::Plan;
use eyekern::backend::{Backend, Stored};
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::flops::Flops;
use eyekern::model::params::{Param, Train};
use eyekern::model::rope::{Scaling, inverse_frequencies};
use eyekern::model::workspace::{Grads, Kept, Need, Recompute, Workspace};
use eyekern::train::step::{Capacity, Machine, StepSettings};

/// Values in the buffers of a parameter: itself and what trains it.
fn values(param: &mut Param<Cpu<f32>>) -> usize {
    let own = match param {
        Param::Dense(p) => p.w.len(),
        Param::Matrix(p) => match &p.w {
            Stored::Float(w) => w.len(),
            Stored::Bf16(_) | Stored::Nf4(_) => panic!("everything here is stored in full"),
        },
    };
    let Some(Train { grad, moments, master }) = param.train() else { return own };
    let Moments::Full { m, v } = moments else { panic!("they are kept in full") };
    own + grad.len() + m.len() + v.len() + master.as_ref().map_or(0, Vec::len)
}

/// Bytes of a model's buffers on the CPU.
fn model_bytes(model: &mut Decoder<Cpu<f32>>) -> usize {
    let base: usize = model.base_params().iter_mut().map(values).sum();
    let adapters: usize = model.adapter_params().iter_mut().map(values).sum();
    4 * (base + adapters + model.rope.as_ref().map_or(0, Vec::len))
}

/// Bytes of a workspace's buffers on the CPU.
fn workspace_bytes(work: &Workspace<Cpu<f32>>) -> usize {
    let Workspace { capacity: _, x, mid, kept, branch, hidden, final_stat, scratch, grads } = work;
    let of_block = |k: &Kept<Cpu<f32>>| {
        let Kept { h1, stat1, qkv, att, lse, h2, stat2, up, act, low } = k;
        let low: usize = low.iter().flatten().map(Vec::len).sum();
        low + [h1, stat1, qkv, att, lse, h2, stat2, up, act].map(Vec::len).iter().sum::<usize>()
    };
    let of_grads = |g: &Grads<Cpu<f32>>| {
        let Grads { dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low } = g;
        [dx, d_mid, d_norm, d_wide, d_inner, d_branch, delta, d_low].map(Vec::len).iter().sum::<usize>()
    };
    let rest: usize = [branch, hidden, final_stat, scratch].map(Vec::len).iter().sum();
    let blocks: usize = kept.iter().map(of_block).sum();
    4 * (rest + x.iter().chain(mid.iter()).map(Vec::len).sum::<usize>() + blocks + grads.as_ref().map_or(0, of_grads))
}

/// Llama of 2 layers: hidden 8, inner 12, 2 query heads and 1 key head of 6, vocabulary 16, tied, no biases.
fn tiny() -> Spec {
    let inverse = inverse_frequencies(6, 1e4, Scaling::Default);
    Spec {
        vocab: 16,
        hidden: 8,
        inner: 12,
        layers: 2,
        q_heads: 2,
        kv_heads: 1,
        positions: Positions::Rope { inverse, layers: vec![true; 2] },
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        ..models::llama()
    }
}

/// Values of a block's projections in [`tiny`]: 8 -> (2 + 2) x 6, 12 -> 8, 8 -> 2 x 12, 12 -> 8.
const BLOCK: usize = 8 * 24 + 12 * 8 + 8 * 24 + 12 * 8;
/// Values of [`tiny`]: embedding, two blocks with two norms each, last norm.
const TINY: usize = 16 * 8 + 2 * (BLOCK + 2 * 8) + 8;
/// Inputs plus outputs of the seven adapted slices of a block: q, k, v, o, gate, up, down.
const ENDS: usize = (8 + 12) + (8 + 6) + (8 + 6) + (12 + 8) + (8 + 12) + (8 + 12) + (12 + 8);
/// Rank of the adapters of [`models::adapt`].
const RANK: usize = 2;

fn on<B: Backend>(b: &B, method: Method) -> Decoder<B> {
    let mut model =
        Decoder::build(b, tiny(), &Init::Shapes { bf16: false }, (method == Full).then_some(Optim::AdamW), 32)
            .expect("builds");
    if method == Lora {
        let config = LoraConfig { r: RANK, alpha: 1.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
        model.attach(b, &config, &AdapterInit::Shapes, Some(Optim::AdamW)).expect("attaches");
    }
    model
}

/// The dry run allocates what the CPU allocates, and that is what the shapes say.
#[test]
fn the_plan_counts_the_bytes_of_the_cpu() {
    let rope = 32 * 6;
    for (method, expected) in [(Full, 4 * TINY + rope), (Lora, TINY + rope + 4 * 2 * RANK * ENDS)] {
        let (plan, cpu) = (Plan::default(), Cpu::<f32>::new(1).expect("threads"));
        let (planned, mut model) = (on(&plan, method), on(&cpu, method));
        assert_eq!(plan.bytes(), 4 * expected as u64, "{method:?}");
        assert_eq!(plan.bytes(), model_bytes(&mut model) as u64, "{method:?}");
        for (train, dropout) in [(false, false), (true, false), (true, true)] {
            for recompute in [Recompute::None, Recompute::Layer] {
                let need = Need { tokens: 10, train, recompute, lora_dropout: dropout, resid_dropout: dropout };
                let before = plan.bytes();
                Workspace::new(&plan, &planned, need).expect("allocates");
                let work = Workspace::new(&cpu, &model, need).expect("allocates");
                assert_eq!(plan.bytes() - before, workspace_bytes(&work) as u64, "{method:?} {need:?}");
            }
        }
    }
}

/// FLOPs of a training step by hand: a product of an [m, k] and a [k, n] matrix takes 2 m n k.
#[test]
fn the_plan_counts_the_flops_of_the_formula() {
    let batches = packed(&models::examples(&[6, 4], 16, 0));
    let (tokens, rows) = (10, batches[0].rows.len());
    let linear = 2 * tokens * BLOCK;
    let attention = 2 * 2 * tokens * tokens * 12 / 2; // scores and sums over two heads of 6, half of them causal
    let head = 2 * rows * 16 * 8;
    // backward: two products for each of the forward's; attention forms its scores anew, five for two
    let full = 2 * (3 * linear + attention + attention * 5 / 2) + 3 * head;
    // frozen: no weight gradients, and none for the input of the first block, which nothing trained lies before
    let low = 2 * tokens * RANK * ENDS;
    let unneeded = 2 * tokens * 8 * 24 + 3 * 2 * tokens * RANK * 8;
    let lora = 2 * (2 * linear + attention + attention * 5 / 2) + 2 * head + 2 * 3 * low - unneeded;
    for (method, expected) in [(Full, full), (Lora, lora)] {
        let plan = Plan::default();
        let model = on(&plan, method);
        let capacity = Capacity { tokens, supervised: tokens };
        let mut machine = Machine::new(
            plan,
            model,
            StepSettings { rule: COMPOSITE, rates: DRY, capacity, train: true, seed: 1, ..StepSettings::default() },
        )
        .expect("allocates");
        let (before, bytes) = (machine.backend.flops(), machine.backend.bytes());
        machine.gradients(&batches, 1).expect("plans");
        assert_eq!(machine.backend.flops() - before, expected as u64, "{method:?}");
        assert_eq!(machine.backend.bytes(), bytes, "a step allocates nothing");
    }
}

/// Model FLOPs by hand, and beside what a step over one example launches.
#[test]
fn model_flops_are_those_of_the_formula_and_of_the_plan() {
    // a block's matrices have 576 values and its adapters 2 x 128, and there are two blocks. All trained: 2 FLOPs for
    // each value, three times. Frozen: twice, less the 384 of the lowest block's input and the 96 of its adapters'
    // inputs. Attention: two products over two heads of 6, half of them causal, three times. Head: 16 x 8 values.
    let by_hand = |method| match method {
        Full => Flops { token: 2 * 3 * 2 * 576, square: 2 * 3 * 24, row: 3 * 256 },
        Lora => Flops { token: 2 * (2 * 2 * 576 + 3 * 2 * 256) - 384 - 96, square: 2 * 3 * 24, row: 2 * 256 },
    };
    for method in [Full, Lora] {
        let plan = Plan::default();
        let model = on(&plan, method);
        let flops = Flops::of(&model);
        assert_eq!(flops, by_hand(method), "{method:?}");
        let capacity = Capacity { tokens: 10, supervised: 10 };
        let mut machine =
            Machine::new(plan, model, StepSettings { capacity, ..StepSettings::default() }).expect("allocates");
        let examples = models::examples(&[10], 16, 0);
        machine.gradients(&packed(&examples), 1).expect("plans");
        // the scores that backward forms anew, half of what attention takes forward, are no model FLOPs
        let anew = 2 * (2 * 10 * 10 * 12) / 2;
        let counted = flops.step(examples.iter().map(|e| (e.ids.len(), e.supervised())));
        assert_eq!(counted + f64::from(anew), machine.backend.flops() as f64, "{method:?}");
        // two examples do not see one another, and what is not supervised does not reach the head
        let two = flops.step([(6, 2), (4, 0)].into_iter());
        assert_eq!(two, (10 * flops.token + (36 + 16) * flops.square + 2 * flops.row) as f64);
    }
}

/// A batch or an example beyond what was allocated is an error, not a panic.
#[test]
fn what_does_not_fit_is_refused() {
    let refused = |capacity: Capacity| {
        let b = Cpu::<f64>::new(1).expect("threads");
        let model = models::random(&b, models::llama(), STD, true);
        let settings = StepSettings { rule: COMPOSITE, capacity, ..StepSettings::default() };
        let mut machine = Machine::new(b, model, settings).expect("allocates");
        let examples = models::examples(&[9, 20], machine.model.spec.vocab, 1);
        let batch = models::batch(&examples.iter().collect::<Vec<_>>(), None);
        machine.gradients(&[batch], 1).expect_err("too large").to_string()
    };
    let text = refused(Capacity { tokens: 20, supervised: 20 });
    assert!(text.contains("29 tokens was given to a machine made for 20"), "{text}");
}
