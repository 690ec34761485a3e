//! Values of keys that a config.json lacks: those of the model type's own class in transformers 5.23, which differ
//! between types. `tests/fixtures/make_defaults.py` writes the table that tests compare them with.

use serde_json::{Value, json};

/// The defaults of the keys that are read for a model type.
pub(super) fn of(model_type: &str) -> Value {
    let mut all = if matches!(model_type, "gpt2" | "gpt_bigcode") { gpt() } else { rotary() };
    let own = match model_type {
        "qwen2" => json!({
            "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32,
            "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28,
        }),
        "smollm3" => json!({
            "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 2e6,
            "no_rope_layer_interval": 4, "tie_word_embeddings": true,
        }),
        "granite" => json!({
            "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
            "attention_multiplier": 1.0,
        }),
        "starcoder2" => json!({
            "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
            "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 4096, "norm_epsilon": 1e-5, "use_bias": true, "tie_word_embeddings": true,
        }),
        "gpt_bigcode" => json!({"activation_function": "gelu_pytorch_tanh", "multi_query": true}),
        _ => json!({}),
    };
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

/// Those of Llama, which most types with rotary positions share.
fn rotary() -> Value {
    json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "rope_theta": 1e4, "attention_bias": false, "mlp_bias": false,
        "use_sliding_window": false,
    })
}

/// Those of GPT-2, which GPTBigCode shares.
fn gpt() -> Value {
    json!({
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        "activation_function": "gelu_new", "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5, "scale_attn_weights": true, "tie_word_embeddings": true,
    })
}

/// Other names of keys, which win over the keys themselves.
pub(super) fn aliases(model_type: &str) -> &'static [(&'static str, &'static str)] {
    match model_type {
        "gpt2" | "gpt_bigcode" => &[
            ("hidden_size", "n_embd"),
            ("max_position_embeddings", "n_positions"),
            ("num_attention_heads", "n_head"),
            ("num_hidden_layers", "n_layer"),
        ],
        _ => &[],
    }
}
