//! Weights in 4 bits: `model.quantization`, `--quantize`, `export --quantize nf4`, and files that are refused. Their
//! values are compared with bitsandbytes in src/backend/nf4/tests.rs and tests/parity/quantized.rs.

use super::models::{Tensor, Tensors, edit, read};
use super::*;
use safetensors::Dtype;
use serde_json::json;

const NF4: &str = "model.quantization=nf4";
/// A weight of the tiny Llama, `[24, 48]`, and the tensor that describes it.
const WEIGHT: &str = "model.layers.0.self_attn.o_proj.weight";
const STATE: &str = "model.layers.0.self_attn.o_proj.weight.quant_state.bitsandbytes__nf4";

/// The tiny Llama, and the same in 4 bits as `q`.
fn quantized() -> Case {
    let case = Case::ids();
    case.run(&["export", "--model", "model", "--quantize", "nf4", "-o", "q"], &[]).trained();
    case
}

fn of_file(more: &[&'static str]) -> Vec<&'static str> {
    [&["model.model_name_or_path=./q"], more].concat()
}

#[test]
fn training_is_the_same_over_a_file_and_quantised_on_load() {
    let case = quantized();
    let dpo = ["objective.gamma=0.5", "train.max_steps=3"];
    for more in [&dpo[..], &["train.recompute=layer", "train.threads=3"], &["train.compute_dtype=bf16"]] {
        let load = case.adapter("load", &[&[NF4, "train.overwrite_output_dir=true"], more].concat());
        let file = case.adapter("file", &[&of_file(&["train.overwrite_output_dir=true"])[..], more].concat());
        assert!(load == file, "{more:?}");
        let whole = case.adapter("whole", &[&["train.overwrite_output_dir=true"], more].concat());
        assert!(load != whole, "{more:?}");
    }
    // activations that are computed again, and other threads, change no bit
    let sets = [NF4, "train.max_steps=4", "train.save_steps=2"];
    let whole = case.adapter("kept", &sets);
    assert!(case.adapter("anew", &[&sets[..], &["train.recompute=layer", "train.threads=2"]].concat()) == whole);
    let resume = |more: &[&str]| {
        let last = [&sets[1..], &["train.output_dir=kept"], more].concat();
        let sets: Vec<&str> = last.iter().flat_map(|set| ["--set", set]).collect();
        case.run(&[&["train", "recipe.toml", "--resume", "kept/checkpoint-2"], &sets[..]].concat(), &[])
    };
    let refused = resume(&[]);
    let other = "model.quantization was \"nf4\" and is \"none\"";
    assert!(refused.code == Some(2) && refused.stderr.contains(other), "{}", refused.stderr);
    resume(&[NF4]).trained();
    assert!(case.read("kept/adapter_model.safetensors") == whole, "resumed bit for bit");
}

#[test]
fn scales_and_skipped_modules_are_chosen() {
    let case = Case::ids();
    let double = case.adapter("double", &[NF4]);
    assert!(case.adapter("single", &[NF4, "model.double_quant=false"]) != double);
    let skip = "model.skip_modules=[\"model.layers.0\", \"down_proj\"]";
    assert!(case.adapter("skipped", &[NF4, skip]) != double);
    let skip = ["--skip-modules", "model.layers.0,down_proj", "--double-quant", "false", "-o", "q"];
    case.run(&[&["export", "--model", "model", "--quantize", "nf4"], &skip[..]].concat(), &[]).trained();
    let tensors = read(&case.path("q/model.safetensors"));
    let ends = |end: &str| tensors.keys().filter(|name| name.ends_with(end)).count();
    assert_eq!((ends("bitsandbytes__nf4"), ends(".nested_absmax")), (6, 0), "seven of a layer without down_proj");
    let config = &case.json("q/config.json")["quantization_config"];
    assert_eq!(config["llm_int8_skip_modules"], json!(["model.layers.0", "down_proj", "lm_head"]));
    assert_eq!(config["bnb_4bit_use_double_quant"], json!(false));
    // of a fused projection one part may be left out: it is kept in f32 as a whole
    case.adapter("parts", &[NF4, "model.skip_modules=[\"k_proj\"]"]);
    let (_, notes) = case.train(&["model.double_quant=false", "train.output_dir=idle"]).noted();
    let idle = "without effect where model.quantization is \"none\": model.double_quant";
    assert!(notes.iter().any(|note| note == idle), "{notes:?}");
}

#[test]
fn texts_and_plans_know_the_storage() {
    let case = quantized();
    let (prompt, _) = generate::fixture();
    case.write("rows.jsonl", json!({ "input_ids": prompt }).to_string() + "\n");
    let ids = |model: &str, more: &[&str], out: &str| {
        let args = ["generate", "--model", model, "--data", "rows.jsonl", "--max-new-tokens", "16", "-o", out];
        case.run(&[&args[..], more].concat(), &[]).noted();
        let row: Value = serde_json::from_slice(&case.read(out)).expect("a row");
        row["ids"].clone()
    };
    let file = ids("q", &[], "file.jsonl");
    assert_eq!(ids("model", &["--quantize", "nf4"], "load.jsonl"), file);
    assert_ne!(ids("model", &[], "whole.jsonl"), file);
    let other = case.run(&["generate", "--model", "model", "--data", "rows.jsonl", "-o", "load.jsonl"], &[]);
    assert!(other.code == Some(3) && other.stderr.contains("load.jsonl:1: "), "{}", other.stderr);

    // bytes of the plan beside those of the file
    let plan = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let args = ["train", "recipe.toml", "--dry-run", "--format", "json", "--device", "cpu"];
        let plan: Value = serde_json::from_str(&case.run(&[&args[..], &sets].concat(), &[]).trained()).expect("JSON");
        plan["bytes"]["weights"].as_u64().expect("bytes")
    };
    let (load, whole) = (plan(&[NF4]), plan(&[]));
    assert_eq!(load, plan(&of_file(&[])));
    let tensors = read(&case.path("q/model.safetensors"));
    let beside = |name: &str| name.ends_with(".quant_map") || name.ends_with("bitsandbytes__nf4");
    let stored: usize = tensors.iter().filter(|(name, _)| !beside(name)).map(|(_, t)| t.bytes.len()).sum();
    let f32s: usize = read(&case.path("model/model.safetensors")).values().map(|t| t.bytes.len()).sum();
    assert_eq!(whole - load, (f32s - stored) as u64);
}

#[test]
fn adapters_are_merged_into_either_model() {
    let case = quantized();
    case.adapter("out", &[NF4, "train.max_steps=8"]);
    let merge = |model: &str, out: &str| {
        case.run(&["export", "--model", model, "--adapter", "out", "--merge", "-o", out], &[]).noted()
    };
    let (_, notes) = merge("model", "whole");
    assert!(notes.is_empty(), "{notes:?}");
    let (_, notes) = merge("q", "widened");
    let note = "q/model.safetensors: the adapter is merged into decoded 4-bit weights; merging into the 16-bit \
                original is more accurate";
    assert_eq!(notes, [note]);
    assert_eq!(case.json("widened/config.json").get("quantization_config"), None);
    let [whole, widened] = ["whole", "widened"].map(|name| read(&case.path(name).join("model.safetensors")));
    assert!(whole.keys().eq(widened.keys()));
    let (whole, widened) = (whole[WEIGHT].values(), widened[WEIGHT].values());
    let most = whole.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let apart = whole.iter().zip(&widened).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // half of the widest gap between two levels, and no less than a tenth of it
    assert!(apart > 0.015 * most && apart < 0.16 * most, "{apart} of {most}");
}

#[test]
fn what_is_asked_for_must_make_sense() {
    let case = quantized();
    let refused = |args: &[&str], code: i32, why: &str| case.run(args, &[]).refused(code, why);
    let export = |more: &[&'static str]| [&["export", "--model", "model", "-o", "new"], more].concat();
    refused(&export(&[]), 2, "nothing to do: give --adapter with --merge, or --quantize nf4");
    let both = "--merge and --quantize are two steps: merge first, then quantise the merged model";
    refused(&export(&["--adapter", "out", "--merge", "--quantize", "nf4"]), 2, both);
    let twice = "q/model.safetensors: its weights are in 4 bits already; give the 16-bit original";
    refused(&["export", "--model", "q", "--quantize", "nf4", "-o", "new"], 3, twice);
    let adapters = "recipe.toml: model.quantization = \"nf4\" is for adapters: set train.method = \"lora\", or \
                    quantization = \"none\"";
    case.train(&[NF4, "train.method=full"]).refused(2, adapters);
    let full = "./q/model.safetensors: its weights are in 4 bits, which only adapters train on; set train.method to \
                lora, or give the 16-bit original";
    case.train(&of_file(&["train.method=full"])).refused(3, full);
    let bench = ["bench", "step", "--device", "cpu", "--weights", "nf4", "--method", "full"];
    refused(&bench, 2, "--weights nf4 is for --method lora: weights in 4 bits are not trained");
}

#[test]
fn other_formats_are_refused_by_name() {
    let remedy = "which eyekern does not read; give the 16-bit original, with model.quantization = \"nf4\" if memory \
                  is short";
    for (config, name) in [
        (json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        (json!({"quant_method": "awq", "bits": 4}), "awq"),
        (json!({"quant_method": "mxfp4"}), "mxfp4"),
        (json!({"quant_method": "compressed-tensors"}), "compressed-tensors"),
        (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "8 bits of bitsandbytes"),
        (
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}),
            "FP4 of bitsandbytes",
        ),
        (json!({"bits": 3}), "an unknown format"),
    ] {
        let case = Case::ids();
        case.configure("model", "quantization_config", config);
        let why = format!("the weights are quantised as {name} (`quantization_config`), {remedy}");
        case.train(&[]).refused(3, &format!("./model/config.json: {why}"));
    }
}

/// The model in 4 bits with its file changed.
fn damaged(change: impl FnOnce(&mut Tensors), why: &str) {
    let case = quantized();
    edit(&case.path("q/model.safetensors"), change);
    case.train(&of_file(&[])).refused(3, &format!("./q/model.safetensors: {why}"));
}

/// The object of a tensor's state changed.
fn state(tensors: &mut Tensors, change: impl FnOnce(&mut Value)) {
    let tensor = tensors.get_mut(STATE).expect("a state");
    let mut value = serde_json::from_slice(&tensor.bytes).expect("JSON");
    change(&mut value);
    tensor.bytes = value.to_string().into_bytes();
    tensor.shape = vec![tensor.bytes.len()];
}

#[test]
fn damaged_files_are_refused() {
    let absmax = format!("{WEIGHT}.absmax");
    let short = |tensor: &mut Tensor| {
        tensor.bytes.pop();
        tensor.shape = vec![tensor.bytes.len()];
    };
    let name = absmax.clone();
    damaged(|tensors| drop(tensors.remove(&name)), &format!("tensor {absmax} is missing; is the checkpoint complete?"));
    damaged(|t| short(t.get_mut(&absmax).expect("scales")), &format!("tensor {absmax} has 17 bytes, expected 18"));
    damaged(|t| short(t.get_mut(WEIGHT).expect("codes")), &format!("tensor {WEIGHT} has 575 bytes, expected 576"));
    let map = format!("{WEIGHT}.nested_quant_map");
    damaged(
        |t| drop(t.insert(map.clone(), Tensor::f32(&[3], &[0.0; 3]))),
        &format!("tensor {map} has 3 values, expected 256"),
    );
    let levels = format!("{WEIGHT}.quant_map");
    let other = "has other levels than NF4; quantise the original again";
    damaged(|t| drop(t.insert(levels, Tensor::f32(&[16], &[0.5; 16]))), &format!("tensor {WEIGHT} {other}"));
    damaged(
        |t| state(t, |s| s["shape"] = json!([48, 24])),
        &format!(
            "tensor {WEIGHT} has shape [48, 24], the config asks for [24, 48]; does the config belong to this \
             checkpoint?"
        ),
    );
    let format = format!("tensor {STATE} asks for a format that bitsandbytes does not write");
    for (key, value) in [
        ("blocksize", json!(0)),
        ("blocksize", json!(100)),
        ("quant_type", json!("fp4")),
        ("nested_blocksize", json!(0)),
        ("nested_blocksize", json!(128)),
        ("nested_blocksize", Value::Null),
    ] {
        damaged(|t| state(t, |s| s[key] = value), &format);
    }
    damaged(
        |t| t.get_mut(STATE).expect("a state").bytes.fill(b'{'),
        &format!("tensor {STATE} does not describe a tensor in 4 bits (key must be a string at line 1 column 2)"),
    );
    damaged(
        |t| {
            let state = t.remove(STATE).expect("a state");
            t.insert(STATE.replace("nf4", "fp4"), state);
        },
        &format!(
            "tensor {WEIGHT} is in FP4, which eyekern does not read; give the 16-bit original, with \
             model.quantization = \"nf4\" if memory is short"
        ),
    );
}

#[test]
fn values_that_are_not_finite_have_no_codes() {
    let case = Case::ids();
    edit(&case.path("model/model.safetensors"), |tensors| {
        let weight = tensors.get_mut(WEIGHT).expect("a weight");
        weight.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let why = format!("tensor {WEIGHT} has values that are not finite, which 4 bits cannot hold; mend the model");
    case.train(&[NF4]).refused(3, &format!("./model/model.safetensors: {why}"));
    let export = ["export", "--model", "model", "--quantize", "nf4", "-o", "q"];
    case.run(&export, &[]).refused(3, &format!("model/model.safetensors: {why}"));
    // half precision does not hold what f32 does
    let case = Case::ids();
    edit(&case.path("model/model.safetensors"), |tensors| {
        let weight = tensors.get_mut(WEIGHT).expect("a weight");
        *weight = Tensor { dtype: Dtype::F32, ..weight.clone() };
        weight.bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    });
    let why = format!("{WEIGHT} has values beyond float16's 65504; choose bfloat16 or float32");
    case.run(&[&export[..], &["--dtype", "float16"]].concat(), &[])
        .refused(3, &format!("model/model.safetensors: {why}"));
}
