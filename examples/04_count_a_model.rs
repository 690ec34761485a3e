//! The cost of a training step, known without weights or data: the `Plan` backend runs the same model code and counts.
//!
//! Here a LoRA step of 1024 tokens on a model of the shape of Llama-3.2-1B: weights in bf16, all else in f32.
//!
//!     cargo run --release --example 04_count_a_model

use eyekern::backend::AdamW;
use eyekern::backend::moments::Optim;
use eyekern::backend::plan::Plan;
use eyekern::data::{Example, pack};
use eyekern::error::Result;
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::train::step::{Capacity, Machine, StepSettings, Update};
use serde_json::json;
use std::path::Path;

const TOKENS: usize = 1024;

fn main() -> Result {
    let config = json!({
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "tie_word_embeddings": true, "rope_theta": 500000.0
    });
    let plan = Plan::default();
    let spec = Spec::parse(&config, Path::new("config"))?;
    let mut model = Decoder::build(&plan, spec, &Init::Shapes { bf16: true }, None, TOKENS)?;
    let parameters: usize = model.base_params().iter().map(|p| p.len()).sum();
    let frozen = plan.bytes();
    let lora = LoraConfig { r: 16, alpha: 32.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
    model.attach(&plan, &lora, &AdapterInit::Shapes, Some(Optim::AdamW))?;
    let trained: usize = model.trained().iter().map(|p| p.len()).sum();
    let adapters = plan.bytes() - frozen;

    let capacity = Capacity { tokens: TOKENS, supervised: TOKENS };
    let mut machine = Machine::new(plan, model, StepSettings { capacity, ..StepSettings::default() })?;
    let (ids, weights, path) = (vec![1; TOKENS], vec![1.0; TOKENS], vec![false; TOKENS]);
    let batch = pack::batch(&[&Example { row: 0, labels: ids.clone(), ids, weights, path, prompt: 0 }], None);
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    machine.step(&[batch], 1, &Update { adamw, lr: 1e-4, max_norm: 1.0 })?;

    let (counted, gib) = (&machine.backend, |bytes: u64| bytes as f64 / f64::from(1 << 30));
    println!("parameters  {parameters} frozen, {trained} trained");
    println!("weights     {:.2} GiB, adapters with gradients and moments {:.2} GiB", gib(frozen), gib(adapters));
    println!("activations {:.2} GiB for {TOKENS} tokens", gib(counted.bytes() - frozen - adapters));
    println!("step        {:.2} TFLOP in {} operations", counted.flops() as f64 / 1e12, counted.launches());

    assert_eq!((parameters, trained), (1_235_814_400, 11_272_192));
    // forward and the gradient of the inputs: 2 FLOP per parameter and token each; adapters and attention add a little
    let rule_of_thumb = (4 * parameters * TOKENS) as f64;
    assert!((1.0..1.1).contains(&(counted.flops() as f64 / rule_of_thumb)));
    Ok(())
}
