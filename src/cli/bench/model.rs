//! The models of the benchmarks: shapes, and the storage of random weights.

use crate::backend::ComputeDtype;
use crate::backend::nf4::Scheme;
use crate::choices::choices;
use crate::error::{Error, Result};
use crate::model::config::Spec;
use crate::model::decoder::Init;
use crate::model::quantized::Quantizer;
use serde_json::{Value, json};
use std::path::Path;

choices! {
    /// The storage of weights.
    Weights {
        /// The number format of products.
        Auto = "auto",
        /// bf16 where they are frozen, as most checkpoints have them.
        Bf16 = "bf16",
        /// NF4 in the projections, for LoRA; all else in bf16.
        Nf4 = "nf4",
    }
}

/// Random weights for products in `dtype`.
pub fn init(seed: u64, weights: Weights, dtype: ComputeDtype) -> Init<'static> {
    static NF4: Quantizer = Quantizer { scheme: Scheme { double: true }, skip: Vec::new() };
    let bf16 = weights != Weights::Auto || dtype == ComputeDtype::Bf16;
    Init::Random { seed, std: 0.02, bf16 }.quantized((weights == Weights::Nf4).then_some(&NF4))
}

/// A built-in shape, or the shape in a directory's config.json.
pub fn spec(shape: &str) -> Result<Spec> {
    let Some(config) = config(shape) else {
        let dir = Path::new(shape);
        if !dir.is_dir() {
            let why = format!("--shape: {shape} is neither 1b, 135m, 15m or tiny nor a directory");
            return Err(Error::Usage(why));
        }
        return Spec::load(&dir.join("config.json"));
    };
    Spec::parse(&config, Path::new(shape))
}

/// Shapes of Llama-3.2-1B, SmolLM2-135M and two smaller ones.
fn config(shape: &str) -> Option<Value> {
    let [hidden, inner, layers, q, kv, vocab] = match shape {
        "1b" => [2048, 8192, 16, 32, 8, 128_256],
        "135m" => [576, 1536, 30, 9, 3, 49_152],
        "15m" => [256, 768, 8, 8, 4, 32_000],
        "tiny" => [64, 128, 2, 4, 2, 512],
        _ => return None,
    };
    Some(json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": q, "num_key_value_heads": kv, "vocab_size": vocab, "tie_word_embeddings": true,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "max_position_embeddings": 1 << 20,
    }))
}
