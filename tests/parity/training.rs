//! Losses, gradients, training trajectories and saved files against transformers and PEFT.

use crate::support::folder::{Folder, batch_of};
use crate::support::trials::{Check, MORE, SHARED, gate, on_folders};
use crate::support::*;
use eyekern::backend::AdamW;
use eyekern::backend::cpu::Cpu;
use eyekern::data::Batch;
use eyekern::model::adapter::LoraConfig;
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::{Positions, Spec};
use eyekern::model::{names, save};
use eyekern::train::recipe::Schedule;
use eyekern::train::schedule;
use eyekern::train::step::{Machine, Update};
use libtest_mimic::{Failed, Trial};
use safetensors::Dtype;
use serde_json::Value;
use std::path::Path;

/// Largest |NLL - expected|.
pub fn nll_error(machine: &mut Machine<Cpu<f32>>, batch: &Batch, expected: &[f64]) -> f64 {
    let logp = machine.logp(batch, true).expect("forward");
    assert_eq!(logp.len(), expected.len(), "supervised tokens");
    logp.iter().zip(expected).map(|(l, e)| (f64::from(-l) - e).abs()).fold(0.0, worst)
}

/// Indices of the key part of a `c_attn.bias`, whose gradient is zero in theory and noise in practice.
fn key_slice(spec: &Spec, name: &str, len: usize) -> Vec<bool> {
    let mut key = vec![false; len];
    if spec.positions == Positions::Learned && name.ends_with("c_attn.bias") {
        let (e, d, heads) = (spec.hidden, spec.head_dim, spec.q_heads);
        let is_key = |i: usize| match (spec.model_type.as_str(), spec.kv_heads) {
            ("gpt_bigcode", kv) if kv == heads && heads > 1 => (i / d) % 3 == 1,
            ("gpt_bigcode", _) => (e..e + d).contains(&i),
            _ => (e..2 * e).contains(&i),
        };
        key = (0..len).map(is_key).collect();
    }
    key
}

/// Worst per-tensor relative L2 of the gradients against `grad.*`.
fn gradient_error(machine: &mut Machine<Cpu<f32>>, folder: &Folder) -> Result<f64, Failed> {
    let spec = machine.model.spec.clone();
    let whole = num(&folder.meta["padded"]["grad_norm"]);
    let mut error = 0.0;
    for tensor in names::tensors(&spec) {
        let expected = &folder.expected[&format!("grad.{}", tensor.name)].values;
        let got = save::stored_gradient(&machine.backend, &mut machine.model, &tensor).expect("reads");
        let got = got.ok_or("a trained tensor without a gradient")?;
        let key = key_slice(&spec, &tensor.name, expected.len());
        let pick = |v: &[f64], k: bool| v.iter().zip(&key).filter(|p| *p.1 == k).map(|p| *p.0).collect::<Vec<f64>>();
        let noise = norm(&difference(&pick(&got, true), &pick(expected, true)));
        gate(&format!("{} key part", tensor.name), noise / norm(expected).max(1e-5 * whole), 1e-5)?;
        let (got, expected) = (pick(&got, false), pick(expected, false));
        let e = norm(&difference(&got, &expected)) / norm(&expected).max(1e-5 * whole);
        gate(&format!("gradient of {}", tensor.name), e, 1e-4)?;
        error = worst(error, e);
    }
    Ok(error)
}

/// Losses of `steps` optimiser steps and of the model after them.
fn train(
    machine: &mut Machine<Cpu<f32>>, batch: &Batch, adamw: AdamW, clip: f64, rates: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (i, &lr) in rates.iter().enumerate() {
        let step = i as u64 + 1;
        let update = Update { adamw, lr, max_norm: clip };
        let outcome = machine.step(std::slice::from_ref(batch), step, &update).expect("a step");
        losses.push(outcome.loss);
        norms.push(outcome.grad_norm);
    }
    losses.push(machine.evaluate(std::slice::from_ref(batch)).expect("evaluates").loss);
    (losses, norms)
}

fn worst_relative(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(a, b)| ((a - b) / b).abs()).fold(0.0, worst)
}

/// Forward, gradients, LoRA, full fine-tune, packing, both config forms, saved files.
fn parity(dir: &Path) -> Check {
    let folder = Folder::open(dir);
    let name = folder.meta["name"].as_str().unwrap_or("?").to_string();
    let spec = Spec::load(&folder.model().join("config.json")).map_err(|e| e.to_string())?;
    let legacy = Spec::load(&dir.join("config_legacy.json")).map_err(|e| e.to_string())?;
    if spec != legacy {
        return Err("the two forms of the config give different models".into());
    }
    let (padded, packed) = (folder.padded(), folder.packed());
    let (batch, segments) = (batch_of(&padded, None), batch_of(&packed, None));
    let expected_nll = folder.padded_nll(&padded);
    let mut line = String::new();
    let mut note = |what: &str, error: f64| line.push_str(&format!(" {what} {error:.1e}"));

    // forward and gradients; once more with pads, which must change nothing
    let mut full = machine::<f32>(&folder.model(), None, Setup::plain(true));
    for (what, pad) in [("nll", None), ("nll padded", Some(0))] {
        let error = nll_error(&mut full, &batch_of(&padded, pad), &expected_nll);
        gate(what, error, 1e-4)?;
        note(what, error);
    }
    let outcome = full.gradients(std::slice::from_ref(&batch), 1).map_err(|e| e.to_string())?;
    gate("loss", worst_relative(&[outcome.loss], &[num(&folder.meta["padded"]["loss_count"])]), 1e-5)?;
    note("grad", gradient_error(&mut full, &folder)?);

    // packed segments equal separate runs
    let starts: Vec<usize> = segments.row_start.iter().map(|&r| r as usize).collect();
    assert_eq!(starts.len(), packed.len() + 1);
    let offsets: Vec<usize> = packed.iter().scan(0, |at, e| Some(std::mem::replace(at, *at + e.ids.len()))).collect();
    let expected_packed = folder.nll("packed.nll", &packed, |i| offsets[i]);
    let error = nll_error(&mut full, &segments, &expected_packed);
    gate("packed nll", error, 1e-4)?;
    note("packed", error);
    full.gradients(std::slice::from_ref(&segments), 1).map_err(|e| e.to_string())?;
    gate("packed gradients", packed_norms(&mut full, &folder), 1e-4)?;

    // 5 steps of full fine-tuning as Hugging Face's Trainer does them
    let meta = &folder.meta["full_finetune"];
    let lrs: Vec<f64> = (0..5).map(|s| schedule::rate(Schedule::Cosine, num(&meta["lr"]), 1, 5, s)).collect();
    gate("schedule", norm(&difference(&lrs, &nums(&meta["lrs"]))), 1e-12)?;
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: num(&meta["weight_decay"]) };
    let (losses, norms) = train(&mut full, &batch, adamw, 1.0, &lrs);
    let limit = if name == "smollm3" { 2e-3 } else { 1e-4 };
    let error = worst_relative(&losses, &nums(&meta["losses"]));
    gate("full losses", error, limit)?;
    gate("full gradient norms", worst_relative(&norms, &nums(&meta["grad_norms"])), 10.0 * limit)?;
    note("full", error);
    let mut final_l2 = 0.0;
    for tensor in names::tensors(&spec) {
        let values = save::stored(&full.backend, &mut full.model, &tensor).expect("reads");
        let l2 = norm(&values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let expected = num(&meta["final_l2"][&tensor.name]);
        final_l2 = worst(final_l2, (l2 - expected).abs() / expected);
    }
    gate("full final norms", final_l2, 10.0 * limit)?;

    let adapted = machine::<f32>(&folder.model(), Some(&folder.dir.join("adapter_init")), Setup::plain(false));
    let lora = lora(adapted, &folder, &batch, &mut note);
    saved_files(&folder).and(lora)?;
    println!("parity {name}:{line}");
    Ok(())
}

fn packed_norms(machine: &mut Machine<Cpu<f32>>, folder: &Folder) -> f64 {
    let spec = machine.model.spec.clone();
    let mut error = 0.0;
    let expected = folder.meta["packed"]["grad_l2"].as_object().expect("norms");
    let scale = norm(&expected.values().map(num).collect::<Vec<_>>());
    for tensor in names::tensors(&spec) {
        let got =
            save::stored_gradient(&machine.backend, &mut machine.model, &tensor).expect("reads").expect("trained");
        let l2 = num(&expected[&tensor.name]);
        error = worst(error, (norm(&got) - l2).abs() / l2.max(1e-5 * scale));
    }
    error
}

/// Gradients of an adapter, 5 steps of it, and its final values.
pub fn lora(mut m: Machine<Cpu<f32>>, folder: &Folder, batch: &Batch, note: &mut impl FnMut(&str, f64)) -> Check {
    let meta = &folder.meta["lora"];
    let outcome = m.gradients(std::slice::from_ref(batch), 1).map_err(|e| e.to_string())?;
    gate("lora loss", worst_relative(&[outcome.loss], &[num(&meta["loss_count_init"])]), 1e-5)?;
    let b = &m.backend;
    let read =
        |d: &eyekern::model::params::Dense<Cpu<f32>>| Ok(d.train.as_ref().map_or(vec![], |t| t.grad[..d.len].to_vec()));
    let mut error = 0.0;
    let gradients = m.model.export_adapter(read).map_err(|e| e.to_string())?;
    for (name, _, grad) in &gradients {
        let grad: Vec<f64> = grad.iter().map(|&x| f64::from(x)).collect();
        error = worst(error, relative(&grad, &folder.expected[&format!("lora_grad.{name}")].values));
    }
    let count = folder.expected.keys().filter(|k| k.starts_with("lora_grad.")).count();
    if count != gradients.len() {
        return Err(format!("{} adapter tensors, expected {count}", gradients.len()).into());
    }
    gate("lora gradients", error, 1e-4)?;
    note("lora grad", error);
    let _ = b;
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: num(&meta["weight_decay"]) };
    let (losses, norms) = train(&mut m, batch, adamw, 0.0, &[num(&meta["lr"]); 5]);
    let error = worst_relative(&losses, &nums(&meta["losses"]));
    gate("lora losses", error, 5e-5)?;
    gate("lora gradient norms", worst_relative(&norms, &nums(&meta["grad_norms"])), 5e-4)?;
    note("lora", error);
    let expected = arrays(&folder.dir.join("adapter_final").join("adapter_model.safetensors"));
    let mut error = 0.0;
    for (name, _, values) in m.model.export_adapter(|d| d.values(&m.backend)).map_err(|e| e.to_string())? {
        let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        error = worst(error, relative(&values, &expected[&name].values));
    }
    gate("final adapter", error, 3e-4)?;
    note("adapter", error);
    Ok(())
}

/// Names, shapes, dtypes, values and config fields of what is saved, against transformers' and PEFT's own saves.
fn saved_files(folder: &Folder) -> Check {
    let out = tempfile::tempdir().expect("a temporary directory");
    let header = |file: &Path| {
        let opened = Checkpoint::files(file.to_path_buf(), &[file.to_path_buf()]).expect("opens");
        opened.tensors().map(|(n, s, d)| (n.to_string(), s.to_vec(), d)).collect::<Vec<(String, Vec<usize>, Dtype)>>()
    };
    let same = |what: &str, a: &Path, b: &Path| -> Check {
        if header(a) != header(b) {
            return Err(format!("{what}: names, shapes or dtypes differ").into());
        }
        let (x, y) = (arrays(a), arrays(b));
        if x.iter().any(|(name, array)| array.values != y[name].values) {
            return Err(format!("{what}: values differ after a round trip").into());
        }
        Ok(())
    };
    let mut m = machine::<f32>(&folder.model(), Some(&folder.dir.join("adapter_init")), Setup::plain(false));
    let init = folder.dir.join("adapter_init");
    let config = LoraConfig::load(&init.join("adapter_config.json")).map_err(|e| e.to_string())?;
    save::adapter(&m.backend, &m.model, &config, "../model", Dtype::F32, out.path()).map_err(|e| e.to_string())?;
    same("adapter", &out.path().join("adapter_model.safetensors"), &init.join("adapter_model.safetensors"))?;
    let (ours, theirs) = (json(&out.path().join("adapter_config.json")), json(&init.join("adapter_config.json")));
    if ours != theirs {
        return Err(format!("adapter_config.json differs:\n{ours}\n{theirs}").into());
    }
    let original = json(&folder.model().join("config.json"));
    save::full(&m.backend, &mut m.model, &original, Dtype::F32, out.path()).map_err(|e| e.to_string())?;
    same("model", &out.path().join("model.safetensors"), &folder.model().join("model.safetensors"))?;
    if json(&out.path().join("config.json")) != original {
        return Err("config.json differs after a round trip".into());
    }
    Ok(())
}

type Mutation = (&'static str, fn(&mut Value));

/// One wrong value in a config, by architecture.
fn mutations(name: &str) -> Vec<Mutation> {
    fn set(c: &mut Value, key: &str, value: impl Into<Value>) {
        c[key] = value.into();
    }
    match name {
        "llama32" => vec![
            ("default rope", |c| c["rope_parameters"]["rope_type"] = "default".into()),
            ("no smooth band", |c| c["rope_parameters"]["high_freq_factor"] = 1.0001.into()),
            ("eps 1e-6", |c| set(c, "rms_norm_eps", 1e-6)),
        ],
        "deepseek_linear" => vec![
            ("default rope", |c| c["rope_parameters"]["rope_type"] = "default".into()),
            ("eps 1e-5", |c| set(c, "rms_norm_eps", 1e-5)),
        ],
        "qwen2" => vec![
            ("theta 1e4", |c| c["rope_parameters"]["rope_theta"] = 1e4.into()),
            ("eps 1e-5", |c| set(c, "rms_norm_eps", 1e-5)),
        ],
        "smollm3" => vec![
            ("all layers rotate", |c| c["no_rope_layers"].as_array_mut().expect("a list").fill(1.into())),
            ("inverted list", |c| {
                for flag in c["no_rope_layers"].as_array_mut().expect("a list") {
                    *flag = (1 - flag.as_i64().expect("a flag")).into();
                }
            }),
        ],
        "granite" => vec![
            ("attention multiplier", |c| set(c, "attention_multiplier", 0.25)),
            ("residual multiplier", |c| set(c, "residual_multiplier", 1.0)),
            ("logits scaling", |c| set(c, "logits_scaling", 1.0)),
            ("embedding multiplier", |c| set(c, "embedding_multiplier", 1.0)),
        ],
        "gpt_bigcode" | "gpt2" => vec![
            ("exact gelu", |c| set(c, "activation_function", "gelu")),
            ("eps 1e-6", |c| set(c, "layer_norm_epsilon", 1e-6)),
        ],
        "starcoder2" => {
            vec![("exact gelu", |c| set(c, "hidden_act", "gelu")), ("eps 1e-6", |c| set(c, "norm_epsilon", 1e-6))]
        }
        "granite_code3b" => vec![("theta 1e6", |c| c["rope_parameters"]["rope_theta"] = 1e6.into())],
        "tiny_llama" => vec![
            ("eps 1e-5", |c| set(c, "rms_norm_eps", 1e-5)),
            ("theta", |c| c["rope_parameters"]["rope_theta"] = 1e6.into()),
        ],
        _ => vec![],
    }
}

/// A wrong config must be seen by the very numbers that parity looks at.
fn caught(dir: &Path) -> Check {
    let folder = Folder::open(dir);
    let padded = folder.padded();
    let (batch, expected) = (batch_of(&padded, None), folder.padded_nll(&padded));
    let config = folder.model().join("config.json");
    for (what, mutate) in mutations(folder.meta["name"].as_str().unwrap_or("")) {
        let mut value = json(&config);
        mutate(&mut value);
        let spec = Spec::parse(&value, &config).map_err(|e| e.to_string())?;
        let mut m = machine_of::<f32>(spec, &folder.model(), None, Setup::plain(false));
        let error = nll_error(&mut m, &batch, &expected);
        if error <= 3e-4 {
            return Err(format!("the mutation \"{what}\" moves the loss by {error:.1e} only").into());
        }
    }
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    let mut trials = on_folders("training::", &[SHARED, MORE], &[("", parity)]);
    // what a wrong value moves depends on the weights, which nobody chose for it in the folders of others
    trials.extend(on_folders("mutations::", &[SHARED], &[("", caught)]));
    trials
}
