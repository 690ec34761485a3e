//! A weight scales a token's gradient; the normaliser decides what remains when all weights grow together.
//!
//! Two rows, their gradients with weights w and with 10 w: divided by the count of tokens the gradient grows tenfold,
//! divided by the sum of the weights it stays, divided by nothing it grows again.
//!
//!     cargo run --release --example 02_gradient_of_a_weight

use eyekern::backend::cpu::Cpu;
use eyekern::backend::moments::Optim;
use eyekern::data::{Example, pack};
use eyekern::error::Result;
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use eyekern::train::recipe::Normalize;
use eyekern::train::step::{Capacity, Machine, Rule, StepSettings};
use serde_json::json;
use std::path::Path;

/// Norm of the whole gradient on two rows whose weights are multiplied by `factor`.
fn gradient_norm(normalize: Normalize, factor: f32) -> Result<f64> {
    let config = json!({
        "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true
    });
    let spec = Spec::parse(&config, Path::new("config"))?;
    let cpu = Cpu::<f64>::new(1)?;
    let model = Decoder::build(&cpu, spec, &Init::Random { seed: 1, std: 0.1, bf16: false }, Some(Optim::AdamW), 8)?;
    let rule = Rule { normalize, ..Rule::default() };
    let capacity = Capacity { tokens: 16, supervised: 8 };
    let mut machine = Machine::new(cpu, model, StepSettings { rule, capacity, ..StepSettings::default() })?;

    let row = |ids: [u32; 5], weights: [f32; 5]| Example {
        ids: ids.to_vec(),
        labels: ids.to_vec(),
        weights: weights.map(|w| factor * w).to_vec(),
        path: vec![false; 5],
        row: 0,
        prompt: 0,
    };
    let rows = [row([1, 7, 3, 9, 2], [1.0, 0.5, 2.0, 0.0, 1.0]), row([1, 4, 4, 8, 2], [1.0, 1.5, 1.0, 3.0, 1.0])];
    machine.gradients(&[pack::batch(&[&rows[0], &rows[1]], None)], 1)?;
    let mut square = 0.0;
    for mut param in machine.model.trained() {
        square += param.gradient(&machine.backend)?.into_iter().flatten().map(|g| g * g).sum::<f64>();
    }
    Ok(square.sqrt())
}

fn main() -> Result {
    println!("normalize   |gradient(w)|  |gradient(10 w)|   ratio");
    for (normalize, expected) in [(Normalize::Tokens, 10.0), (Normalize::Weights, 1.0), (Normalize::None, 10.0)] {
        let (one, ten) = (gradient_norm(normalize, 1.0)?, gradient_norm(normalize, 10.0)?);
        println!("{:<10} {one:>14.6} {ten:>17.6} {:>7.3}", normalize.to_string(), ten / one);
        assert!((ten / one / expected - 1.0).abs() < 1e-6);
    }
    Ok(())
}
