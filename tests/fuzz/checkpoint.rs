//! What must hold of any checkpoint on disk.

use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::names;
use std::path::{Path, PathBuf};

use super::sentence;

/// Of the model whose file is kept as `whole`.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5, "tie_word_embeddings": true}"#;

/// Bytes behind a header, all of them 0.
const BODY: usize = 1024;

/// The first byte says what the rest is: `H` the header of a safetensors file, which gets its length in front and
/// zeros behind; `I` an index of shards, two of which are there; any other a safetensors file as it stands. It is
/// refused with a sentence, or every tensor of the model is there in its size.
pub fn run(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    let dir = std::env::temp_dir().join(format!("eyekern-fuzz-{}-{}", std::process::id(), char::from(kind % 64 + 64)));
    let dir: PathBuf = dir.to_string_lossy().replace('\u{7f}', "_").into();
    std::fs::create_dir_all(&dir).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("writes");
    match kind {
        b'H' => write("model.safetensors", &file(rest)),
        b'I' => {
            write("model.safetensors.index.json", rest);
            write(
                "a.safetensors",
                &file(br#"{"model.norm.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#),
            );
            write("b.safetensors", &file(br#"{"x":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#));
        }
        _ => write("model.safetensors", rest),
    }
    read(&dir);
    std::fs::remove_dir_all(&dir).expect("removes");
}

fn file(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, &[0; BODY]].concat()
}

fn read(dir: &Path) {
    let spec = Spec::parse(&serde_json::from_str(CONFIG).expect("JSON"), Path::new("config.json")).expect("a config");
    let known = names::tensors(&spec);
    let checkpoint = match Checkpoint::open(dir) {
        Err(refusal) => return sentence::check(&refusal, "safetensors", 3),
        Ok(checkpoint) => checkpoint,
    };
    checkpoint.digest();
    checkpoint.main_dtype();
    if let Err(refusal) = checkpoint.check(&known, spec.tied) {
        sentence::check(&refusal, "safetensors", 3);
    }
    for tensor in &known {
        match checkpoint.read(&tensor.name, &tensor.shape()) {
            Err(refusal) => sentence::check(&refusal, "safetensors", 3),
            Ok(values) => assert_eq!(values.into_f32().len(), tensor.rows * tensor.cols),
        }
    }
}
