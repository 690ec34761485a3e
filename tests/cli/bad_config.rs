//! A config.json that is broken, absurd, or asks for what eyekern does not do.

use crate::Case;
use serde_json::{Value, json};

/// The tiny Llama with one key set, or removed by null.
fn refused(key: &str, value: Value, why: &str) {
    let case = Case::ids();
    case.configure("model", key, value);
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
}

fn not_done(key: &str, value: Value, what: &str) {
    refused(key, value, &format!("the config asks for {what} (`{key}`), which eyekern does not do"));
}

fn whole_file(text: &str, why: &str) {
    let case = Case::ids();
    case.write("model/config.json", text);
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
}

#[test]
fn missing() {
    let case = Case::ids();
    std::fs::remove_file(case.path("model/config.json")).expect("removes");
    let why = "there is no such file; give a directory with config.json and model.safetensors";
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
}

#[test]
fn not_json() {
    let why = "not valid JSON (EOF while parsing a value at line 1 column 17); copy or download it again";
    whole_file("{\"hidden_size\":  ", why);
}

#[test]
fn not_an_object() {
    whole_file("[]", "expected a JSON object");
}

#[test]
fn missing_key() {
    let why = "key `hidden_size` is missing; is this the config.json of a causal language model?";
    refused("hidden_size", Value::Null, why);
}

#[test]
fn missing_model_type() {
    let why = "key `model_type` is missing; is this the config.json of a causal language model?";
    refused("model_type", Value::Null, why);
}

#[test]
fn unknown_model_type() {
    let why = "`model_type` = \"mixtral\" is not supported; supported are llama, qwen2, smollm3, granite, starcoder2, \
               gpt_bigcode, gpt2";
    refused("model_type", json!("mixtral"), why);
}

#[test]
fn wrong_types() {
    refused("model_type", json!(7), "`model_type` is 7, expected a string");
    refused("attention_bias", json!("no"), "`attention_bias` is \"no\", expected true or false");
    let why = "`vocab_size` is 97.5, expected a whole number from 1 to 16777216";
    refused("vocab_size", json!(97.5), why);
}

#[test]
fn sizes_that_are_none() {
    for value in [json!(0), json!(-4), json!(1u64 << 60)] {
        let why = format!("`num_attention_heads` is {value}, expected a whole number from 1 to 16777216");
        refused("num_attention_heads", value, &why);
    }
}

#[test]
fn sizes_beyond_any_model() {
    let why = "the sizes in this config are beyond any model that eyekern can train";
    refused("num_hidden_layers", json!(1 << 24), why);
    refused("num_attention_heads", json!(1 << 24), why);
    let case = Case::ids();
    case.configure("model", "vocab_size", json!(1 << 24));
    case.configure("model", "intermediate_size", json!(1 << 24));
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
}

#[test]
fn heads_that_do_not_divide() {
    refused("num_key_value_heads", json!(3), "4 query heads are not a multiple of 3 key heads");
    refused("head_dim", json!(13), "rotary positions need an even head size, this config has 13");
}

#[test]
fn epsilon_below_zero() {
    refused("rms_norm_eps", json!(-1.0), "`rms_norm_eps` is -1.0, expected a finite number, at least 0");
}

#[test]
fn wrong_activation() {
    refused("hidden_act", json!("gelu"), "`hidden_act` = \"gelu\" is not supported in a gated MLP (silu is)");
    let case = Case::ids();
    crate::models::gpt2(&case.path("gpt2"), "", 16);
    case.configure("gpt2", "activation_function", json!("relu"));
    let why = "`activation_function` = \"relu\" is not supported (gelu, gelu_new, gelu_pytorch_tanh are)";
    case.train(&["model.model_name_or_path=gpt2"]).refused(3, &format!("gpt2/config.json: {why}"));
}

#[test]
fn softcapping() {
    not_done("final_logit_softcapping", json!(30.0), "softcapping of logits");
    not_done("attn_logit_softcapping", json!(50.0), "softcapping of attention scores");
}

#[test]
fn mixture_of_experts() {
    not_done("num_local_experts", json!(8), "a mixture of experts");
    not_done("n_routed_experts", json!(8), "a mixture of experts");
}

#[test]
fn unknown_rope() {
    let why = "rope type `yarn` is not supported (default, linear, llama3 are)";
    refused("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0}), why);
    let case = Case::ids();
    case.configure("model", "rope_parameters", Value::Null);
    case.configure("model", "rope_scaling", json!({"type": "dynamic", "factor": 2.0}));
    let why = "rope type `dynamic` is not supported (default, linear, llama3 are)";
    case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
}

#[test]
fn rope_without_its_factor() {
    let why = "the rope parameters need a positive number `factor`";
    refused("rope_parameters", json!({"rope_type": "linear", "rope_theta": 500.0}), why);
}

#[test]
fn rope_base_that_is_none() {
    for theta in [json!("500"), json!(-1.0), json!(0)] {
        let why = format!("`rope_theta` is {theta}, expected a positive number");
        refused("rope_parameters", json!({"rope_type": "default", "rope_theta": theta}), &why);
    }
}

/// Python's json writes what JSON lacks; a key that needs a number names it, others keep it.
#[test]
fn numbers_that_json_lacks() {
    let written = |text: &str| {
        let case = Case::ids();
        let config = String::from_utf8(case.read("model/config.json")).expect("UTF-8");
        let changed = config.replace("\"rms_norm_eps\": 0.0003", &format!("\"rms_norm_eps\": {text}"));
        case.write("model/config.json", changed.replace("\"initializer_range\": 0.02", "\"initializer_range\": NaN"));
        case
    };
    for number in ["NaN", "Infinity", "-Infinity"] {
        let why = format!("`rms_norm_eps` is \"{number}\", expected a finite number, at least 0");
        written(number).train(&[]).refused(3, &format!("./model/config.json: {why}"));
    }
    let case = written("0.0003");
    case.train(&["train.method=full"]).trained();
    let saved = String::from_utf8(case.read("out/config.json")).expect("UTF-8");
    assert!(saved.contains("\"initializer_range\": NaN,\n"), "{saved}");
}

/// Where the tokenizer has no length, its config says so.
#[test]
fn numbers_that_json_lacks_in_a_tokenizer_config() {
    let case = Case::text();
    let config = String::from_utf8(case.read("model/tokenizer_config.json")).expect("UTF-8");
    case.write("model/tokenizer_config.json", config.replacen('{', "{\"model_max_length\": Infinity, ", 1));
    case.train(&[]).trained();
}

/// transformers reads `rope_scaling` before `rope_parameters`, unless it is empty.
#[test]
fn rope_in_two_forms() {
    let loss = |keys: &[(&str, Value)]| {
        let case = Case::ids();
        keys.iter().for_each(|(key, value)| case.configure("model", key, value.clone()));
        case.train(&[]).trained();
        case.series("out", "loss")
    };
    let plain = json!({"rope_type": "default", "rope_theta": 500.0});
    let linear = json!({"type": "linear", "factor": 4.0});
    let parameters = |value: &Value| ("rope_parameters", value.clone());
    let theta = ("rope_theta", json!(500.0));
    let wanted = loss(&[parameters(&json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}))]);
    let scaled = ("rope_scaling", linear);
    assert_eq!(loss(&[parameters(&plain), scaled.clone(), theta.clone()]), wanted);
    assert_eq!(loss(&[parameters(&json!({})), scaled.clone(), theta.clone()]), wanted);
    assert_eq!(loss(&[parameters(&Value::Null), scaled, theta]), wanted);
    assert_ne!(loss(&[parameters(&plain)]), wanted);
    let inside = parameters(&json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}));
    assert_eq!(loss(&[inside, ("rope_scaling", json!({}))]), wanted);
    // the context of the original training stands inside or outside; outside it wins
    let llama3 = |original: Value| {
        let mut rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "rope_theta": 500.0});
        rope["original_max_position_embeddings"] = original;
        ("rope_parameters", rope)
    };
    let outside = ("original_max_position_embeddings", json!(20));
    assert_eq!(loss(&[llama3(json!(48)), outside]), loss(&[llama3(json!(20))]));
    assert_ne!(loss(&[llama3(json!(48))]), loss(&[llama3(json!(20))]));
}

#[test]
fn rope_of_a_wrong_type() {
    for (value, why) in [
        (
            json!({"rope_type": null, "type": "linear", "factor": 4.0}),
            "`rope_type` of the rope parameters is null, expected a string",
        ),
        (json!({"type": 3}), "`type` of the rope parameters is 3, expected a string"),
        (json!({"type": "linear", "factor": "4.0"}), "the rope parameters need a positive number `factor`"),
        (json!({"rope_theta": null}), "`rope_theta` is null, expected a positive number"),
        (json!({"partial_rotary_factor": "1"}), "the rope parameters need a positive number `partial_rotary_factor`"),
        (json!("linear"), "the rope parameters are not an object"),
    ] {
        refused("rope_scaling", value, why);
    }
}

#[test]
fn partial_rotation() {
    refused("partial_rotary_factor", json!(0.5), "`partial_rotary_factor` other than 1 is not supported");
}
