//! Model files to order: read, changed, damaged and written again.

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor as it is stored.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// The values, widened.
    pub fn values(&self) -> Vec<f32> {
        let half = |f: fn([u8; 2]) -> f32| self.bytes.chunks_exact(2).map(|c| f(c.try_into().unwrap())).collect();
        match self.dtype {
            Dtype::F32 => self.bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect(),
            Dtype::BF16 => half(|c| bf16::from_le_bytes(c).to_f32()),
            Dtype::F16 => half(|c| f16::from_le_bytes(c).to_f32()),
            other => panic!("{other:?}"),
        }
    }

    /// The same values in another format.
    pub fn cast(&self, dtype: Dtype) -> Tensor {
        let values = self.values().into_iter();
        let bytes = match dtype {
            Dtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        };
        Tensor { dtype, shape: self.shape.clone(), bytes }
    }
}

pub fn read(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).expect("reads");
    let parsed = SafeTensors::deserialize(&bytes).expect("valid safetensors");
    let own = |v: TensorView| Tensor { dtype: v.dtype(), shape: v.shape().to_vec(), bytes: v.data().to_vec() };
    parsed.iter().map(|(name, view)| (name.to_string(), own(view))).collect()
}

pub fn write(file: &Path, tensors: &Tensors) {
    let mut views = Vec::new();
    for (name, t) in tensors {
        views.push((name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("fits")));
    }
    let bytes = safetensors::serialize(views, None).expect("serialises");
    std::fs::write(file, bytes).expect("writes");
}

/// Reads, changes and writes a file.
pub fn edit(file: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = read(file);
    change(&mut tensors);
    write(file, &tensors);
}

/// Header and data of a safetensors file, without any check.
pub fn parts(file: &Path) -> (Map<String, Value>, Vec<u8>) {
    let bytes = std::fs::read(file).expect("reads");
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    (serde_json::from_slice(header).expect("a header"), data.to_vec())
}

/// A safetensors file from any header and data, true or not.
pub fn forge(file: &Path, header: &str, data: &[u8]) {
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
    std::fs::write(file, bytes).expect("writes");
}

/// Small values that depend on the name; gains lie around 1.
fn values(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(1u64, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(b)));
    let gain = if name.contains("norm") || name.contains("ln_") { 1.0 } else { 0.0 };
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        gain + 0.2 * ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5)
    };
    (0..count).map(|_| next()).collect()
}

fn model(dir: &Path, config: Value, shapes: &[(String, Vec<usize>)]) {
    std::fs::create_dir_all(dir).expect("creates");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("writes");
    // values go by the name without its prefix: both spellings of a checkpoint hold the same
    let tensor = |(name, shape): &(String, Vec<usize>)| {
        let bare = name.trim_start_matches("transformer.");
        (name.clone(), Tensor::f32(shape, &values(bare, shape.iter().product())))
    };
    write(&dir.join("model.safetensors"), &shapes.iter().map(tensor).collect());
}

/// A Llama of one block.
pub fn llama(dir: &Path, vocab: usize) {
    llama_with_heads(dir, vocab, 8);
}

/// The same with heads of `head` features.
pub fn llama_with_heads(dir: &Path, vocab: usize, head: usize) {
    let config = json!({
        "model_type": "llama", "vocab_size": vocab, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": head,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true, "torch_dtype": "float32",
    });
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let shapes = [
        ("model.embed_tokens.weight".into(), vec![vocab, 16]),
        (layer("input_layernorm"), vec![16]),
        (layer("self_attn.q_proj"), vec![2 * head, 16]),
        (layer("self_attn.k_proj"), vec![head, 16]),
        (layer("self_attn.v_proj"), vec![head, 16]),
        (layer("self_attn.o_proj"), vec![16, 2 * head]),
        (layer("post_attention_layernorm"), vec![16]),
        (layer("mlp.gate_proj"), vec![24, 16]),
        (layer("mlp.up_proj"), vec![24, 16]),
        (layer("mlp.down_proj"), vec![16, 24]),
        ("model.norm.weight".into(), vec![16]),
    ];
    model(dir, config, &shapes);
}

/// A GPT-2 of one block and `positions` positions, its names behind `prefix`: empty in the files of the hub.
pub fn gpt2(dir: &Path, prefix: &str, positions: usize) {
    let (vocab, width) = (97, 8);
    let config = json!({
        "model_type": "gpt2", "vocab_size": vocab, "n_embd": width, "n_head": 2, "n_layer": 1,
        "n_positions": positions, "attn_pdrop": 0.1, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    });
    let mut shapes = vec![("wte.weight", vec![vocab, width]), ("wpe.weight", vec![positions, width])];
    for (weight, bias, rows, columns) in [
        ("h.0.ln_1.weight", "h.0.ln_1.bias", 0, width),
        ("h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias", width, 3 * width),
        ("h.0.attn.c_proj.weight", "h.0.attn.c_proj.bias", width, width),
        ("h.0.ln_2.weight", "h.0.ln_2.bias", 0, width),
        ("h.0.mlp.c_fc.weight", "h.0.mlp.c_fc.bias", width, 4 * width),
        ("h.0.mlp.c_proj.weight", "h.0.mlp.c_proj.bias", 4 * width, width),
        ("ln_f.weight", "ln_f.bias", 0, width),
    ] {
        shapes.push((weight, if rows == 0 { vec![columns] } else { vec![rows, columns] }));
        shapes.push((bias, vec![columns]));
    }
    let named: Vec<_> = shapes.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect();
    model(dir, config, &named);
}
