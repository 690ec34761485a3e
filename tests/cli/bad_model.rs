//! Model directories and safetensors files that are absent, damaged or of another model.

use crate::Case;
use crate::models::{Tensor, edit, forge, parts, read, write};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

const WEIGHTS: &str = "model/model.safetensors";
const NORM: &str = "model.norm.weight";

/// The tiny Llama with its tensors changed.
fn changed(change: impl FnOnce(&mut crate::models::Tensors), why: &str) {
    let case = Case::ids();
    edit(&case.path(WEIGHTS), change);
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

/// The tiny Llama's file with its bytes changed.
fn broken(change: impl FnOnce(Vec<u8>) -> Vec<u8>, why: &str) {
    let case = Case::ids();
    let bytes = change(case.read(WEIGHTS));
    case.write(WEIGHTS, bytes);
    let why = format!("not a complete safetensors file ({why}); copy or download it again");
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

/// The tiny Llama's file under a header that was tampered with.
fn lying(change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>), why: &str) {
    let case = Case::ids();
    let (mut header, mut data) = parts(&case.path(WEIGHTS));
    change(&mut header, &mut data);
    forge(&case.path(WEIGHTS), &Value::from(header).to_string(), &data);
    let why = format!("not a complete safetensors file ({why}); copy or download it again");
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

/// Whether training accepts the file after a change.
fn accepted(change: impl FnOnce(&mut crate::models::Tensors)) {
    let case = Case::ids();
    edit(&case.path(WEIGHTS), change);
    case.train(&[]).trained();
}

fn offsets(header: &mut Map<String, Value>, name: &str) -> [u64; 2] {
    let pair = &header[name]["data_offsets"];
    [pair[0].as_u64().expect("start"), pair[1].as_u64().expect("end")]
}

#[test]
fn missing_directory() {
    let why = "no such model directory; give a directory with config.json and model.safetensors, or an id of the \
               Hugging Face cache";
    Case::ids().train(&["model.model_name_or_path=./nope"]).refused(3, &format!("./nope: {why}"));
}

#[test]
fn id_that_is_not_in_the_cache() {
    let why = "model org/name is neither a directory nor in the cache; fetch it once with `hf download org/name`";
    for (home, repo) in [("HOME", "away/.cache/huggingface/hub"), ("HF_HOME", "away/hub"), ("HF_HUB_CACHE", "away")] {
        let ran = Case::ids().train_in(&["model.model_name_or_path=org/name"], &[(home, "away")]);
        ran.refused(3, &format!("{repo}/models--org--name: {why}"));
    }
}

#[test]
fn no_home_to_look_for_the_cache() {
    let why = "neither HF_HOME nor HOME is set, so the Hugging Face cache cannot be found; give \
               model.model_name_or_path as a directory";
    Case::ids().train_in(&["model.model_name_or_path=org/name"], &[("HOME", "")]).refused(2, why);
}

#[test]
fn no_weights() {
    let case = Case::ids();
    std::fs::rename(case.path(WEIGHTS), case.path("model/pytorch_model.bin")).expect("renames");
    let why = "no model.safetensors or model.safetensors.index.json in this directory; save the model with \
               save_pretrained(..., safe_serialization=True)";
    case.train(&[]).refused(3, &format!("./model: {why}"));
}

#[test]
fn cut_in_the_header() {
    broken(|bytes| bytes[..100].to_vec(), "invalid header length");
}

#[test]
fn cut_in_the_data() {
    broken(|bytes| bytes[..bytes.len() - 4].to_vec(), "incomplete metadata, file not fully covered");
}

#[test]
fn empty_file() {
    broken(|_| Vec::new(), "header too small");
}

#[test]
fn pointer_of_git_lfs() {
    broken(|_| b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(), "header too large");
}

#[test]
fn header_of_an_exbibyte() {
    broken(|bytes| [&(1u64 << 60).to_le_bytes(), &bytes[8..]].concat(), "header too large");
}

#[test]
fn header_that_is_not_json() {
    broken(
        |bytes| [&bytes[..8], b"}", &bytes[9..]].concat(),
        "invalid JSON in header: expected value at line 1 column 1",
    );
}

#[test]
fn offsets_that_do_not_fit_the_shape() {
    lying(
        |header, data| {
            let [start, end] = offsets(header, NORM);
            assert_eq!(end as usize, data.len(), "the last tensor");
            header[NORM]["data_offsets"] = json!([start, end + 4]);
            data.extend([0; 4]);
        },
        "invalid shape, data type, or offset for tensor",
    );
}

#[test]
fn offsets_beyond_the_file() {
    lying(
        |header, _| {
            let [start, end] = offsets(header, NORM);
            header[NORM]["data_offsets"] = json!([start + 96, end + 96]);
        },
        "invalid offset for tensor `model.norm.weight`",
    );
}

#[test]
fn offsets_that_run_backwards() {
    lying(
        |header, _| {
            let [start, end] = offsets(header, NORM);
            header[NORM]["data_offsets"] = json!([end, start]);
        },
        "invalid offset for tensor `model.norm.weight`",
    );
}

#[test]
fn tensors_that_overlap() {
    lying(
        |header, _| {
            let [start, end] = offsets(header, NORM);
            header[NORM]["data_offsets"] = json!([start - 96, end - 96]);
        },
        "invalid offset for tensor `model.norm.weight`",
    );
}

#[test]
fn bytes_of_no_tensor() {
    lying(|_, data| data.extend([0; 8]), "incomplete metadata, file not fully covered");
}

#[test]
fn shape_of_more_bytes_than_there_are_addresses() {
    lying(
        |header, _| header[NORM]["shape"] = json!([1u64 << 40, 1u64 << 40]),
        "overflow computing buffer size from shape and/or element type",
    );
}

#[test]
fn name_given_twice() {
    let case = Case::ids();
    let (mut header, mut data) = parts(&case.path(WEIGHTS));
    let [start, end] = offsets(&mut header, NORM);
    let mut twin = header[NORM].clone();
    twin["data_offsets"] = json!([end, 2 * end - start]);
    data.extend(data[start as usize..].to_vec());
    let text = Value::from(header).to_string();
    forge(&case.path(WEIGHTS), &format!("{},\"{NORM}\":{twin}}}", text.trim_end_matches('}').to_owned() + "}"), &data);
    let why = "not a complete safetensors file (invalid offset for tensor `model.norm.weight`); copy or download it \
               again";
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

#[test]
fn missing_tensor() {
    let why = "tensor model.norm.weight is missing; is the checkpoint complete and of the config's architecture?";
    changed(|tensors| drop(tensors.remove(NORM)), why);
}

#[test]
fn extra_tensor() {
    let extra = "model.layers.0.self_attn.q_norm.weight";
    changed(
        |tensors| drop(tensors.insert(extra.into(), Tensor::f32(&[2], &[1.0; 2]))),
        &format!("tensor {extra} is not part of this architecture; does the config belong to this checkpoint?"),
    );
}

#[test]
fn layers_that_the_config_leaves_out() {
    let case = Case::ids();
    case.configure("model", "num_hidden_layers", json!(1));
    let why = "tensor model.layers.1.input_layernorm.weight is not part of this architecture; does the config belong \
               to this checkpoint?";
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

#[test]
fn layers_that_the_file_lacks() {
    let case = Case::ids();
    case.configure("model", "num_hidden_layers", json!(4000));
    let why = "tensor model.layers.2.input_layernorm.weight is missing; is the checkpoint complete and of the \
               config's architecture?";
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

#[test]
fn misshapen_tensor() {
    changed(
        |tensors| tensors.get_mut(NORM).expect("there").shape = vec![4, 6],
        "tensor model.norm.weight has shape [4, 6], the config asks for [24]; does the config belong to this \
         checkpoint?",
    );
}

#[test]
fn vocabulary_of_another_model() {
    let case = Case::ids();
    case.configure("model", "vocab_size", json!(98));
    let why = "tensor model.embed_tokens.weight has shape [97, 24], the config asks for [98, 24]; does the config \
               belong to this checkpoint?";
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

#[test]
fn wrong_dtype() {
    changed(
        |tensors| tensors.get_mut(NORM).expect("there").dtype = Dtype::I32,
        "tensor model.norm.weight is stored as I32; eyekern reads F32, BF16 and F16",
    );
}

#[test]
fn tied_head_that_differs() {
    let embedding = |tensors: &crate::models::Tensors| tensors["model.embed_tokens.weight"].clone();
    changed(
        |tensors| {
            let mut head = embedding(tensors);
            head.bytes[7] ^= 1;
            tensors.insert("lm_head.weight".into(), head);
        },
        "the config ties the head to the embedding (tie_word_embeddings), but the file holds an lm_head.weight that \
         differs from it; set tie_word_embeddings to false",
    );
    accepted(|tensors| drop(tensors.insert("lm_head.weight".into(), embedding(tensors))));
}

#[test]
fn head_that_is_not_there() {
    let case = Case::ids();
    case.configure("model", "tie_word_embeddings", json!(false));
    let why = "tensor lm_head.weight is missing; is the checkpoint complete and of the config's architecture?";
    case.train(&[]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

/// An index of shards instead of the single file.
fn index(text: &str, why: &str) {
    let case = Case::ids();
    std::fs::remove_file(case.path(WEIGHTS)).expect("removes");
    case.write("model/model.safetensors.index.json", text);
    case.train(&[]).refused(3, &format!("./model/model.safetensors.index.json: {why}"));
}

#[test]
fn index_without_a_map() {
    index("{\"metadata\": {}}", "not an index of shards: no `weight_map` object");
    index("{", "not an index of shards: no `weight_map` object");
}

#[test]
fn shard_outside_the_directory() {
    for shard in ["../other.safetensors", "/other.safetensors"] {
        let why = format!("names a shard outside its own directory: {shard}");
        index(&json!({"weight_map": {"a": shard}}).to_string(), &why);
    }
}

#[test]
fn shard_that_is_not_there() {
    let why = "names the shard model-00002-of-00002.safetensors, which is not in this directory; copy or download it \
               again";
    index("{\"weight_map\": {\"a\": \"model-00002-of-00002.safetensors\"}}", why);
}

#[test]
fn tensor_in_two_shards() {
    let case = Case::ids();
    let tensors = read(&case.path(WEIGHTS));
    std::fs::remove_file(case.path(WEIGHTS)).expect("removes");
    write(&case.path("model/a.safetensors"), &tensors);
    write(&case.path("model/b.safetensors"), &[(NORM.to_string(), tensors[NORM].clone())].into());
    case.write(
        "model/model.safetensors.index.json",
        "{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"}}",
    );
    case.train(&[]).refused(3, &format!("./model/b.safetensors: tensor {NORM} occurs in two shards"));
}

#[test]
fn reference_that_is_missing() {
    let why = "no such model directory; give a directory with config.json and model.safetensors, or an id of the \
               Hugging Face cache";
    let ran = Case::ids().train(&["objective.gamma=0.1", "objective.reference_model=./nope"]);
    ran.refused(3, &format!("./nope: {why}"));
}

#[test]
fn reference_with_another_vocabulary() {
    let case = Case::ids();
    crate::models::llama(&case.path("reference"), 64);
    let ran = case.train(&["objective.gamma=0.1", "objective.reference_model=reference"]);
    let why = "the reference model has a vocabulary of 64, the trained one of 97; they must share it";
    ran.refused(3, &format!("reference: {why}"));
}

#[test]
fn reference_with_too_few_positions() {
    let case = Case::ids();
    crate::models::gpt2(&case.path("reference"), "", 10);
    let ran = case.train(&["objective.gamma=0.1", "objective.reference_model=reference"]);
    let why = "examples of 11 tokens exceed the model's 10 learned positions; lower data.max_length to 10";
    ran.refused(3, &format!("reference/config.json: {why}"));
}

#[test]
fn values_that_are_not_numbers() {
    let case = Case::ids();
    edit(&case.path(WEIGHTS), |tensors| *tensors.get_mut(NORM).expect("there") = Tensor::f32(&[24], &[f32::NAN; 24]));
    case.train(&["data.shuffle=false"]).stopped(
        1,
        "training stopped at step 1: the loss is NaN; it came from rows 1, 2, 3, 4, 5, 6 of train.jsonl, whose \
         largest weight is 2.5; no update has been made yet, so look at those rows and at the values of the model",
    );
}

#[test]
fn damage_is_seen_before_the_data_is_read() {
    let case = Case::ids();
    edit(&case.path(WEIGHTS), |tensors| drop(tensors.remove(NORM)));
    let why = "tensor model.norm.weight is missing; is the checkpoint complete and of the config's architecture?";
    case.train(&["data.train_file=nope.jsonl"]).refused(3, &format!("./{WEIGHTS}: {why}"));
}

/// A model of 1 TiB in a file without blocks, where the file system can do that.
#[test]
#[cfg(target_os = "linux")]
fn model_beyond_the_memory() {
    let case = Case::ids();
    let (vocab, hidden) = (1u64 << 22, 1u64 << 16);
    for (key, value) in [("vocab_size", vocab), ("hidden_size", hidden), ("intermediate_size", 1), ("head_dim", 2)] {
        case.configure("model", key, json!(value));
    }
    for key in ["num_hidden_layers", "num_attention_heads", "num_key_value_heads"] {
        case.configure("model", key, json!(1));
    }
    let mut header = Map::new();
    let mut end = 0;
    let mut tensor = |name: &str, shape: &[u64]| {
        let start = end;
        end += 4 * shape.iter().product::<u64>();
        header.insert(name.into(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    };
    tensor("model.embed_tokens.weight", &[vocab, hidden]);
    tensor(NORM, &[hidden]);
    let in_layer = |name: &str| format!("model.layers.0.{name}.weight");
    for name in ["input_layernorm", "post_attention_layernorm"] {
        tensor(&in_layer(name), &[hidden]);
    }
    for (name, width) in [("q", 2), ("k", 2), ("v", 2)] {
        tensor(&in_layer(&format!("self_attn.{name}_proj")), &[width, hidden]);
    }
    for (name, shape) in
        [("self_attn.o", [hidden, 2]), ("mlp.gate", [1, hidden]), ("mlp.up", [1, hidden]), ("mlp.down", [hidden, 1])]
    {
        tensor(&in_layer(&format!("{name}_proj")), &shape);
    }
    forge(&case.path(WEIGHTS), &Value::from(header).to_string(), &[]);
    let file = std::fs::File::options().append(true).open(case.path(WEIGHTS)).expect("opens");
    if file.set_len(file.metadata().expect("metadata").len() + end).is_err() {
        return;
    }
    let ran = case.train(&["train.method=full"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.touched), (Some(4), "", false), "{}", ran.stderr);
    let (start, remedy) = ("eyekern: out of memory: the run needs 4", " GiB are available; lower data.max_tokens, ");
    assert!(ran.stderr.starts_with(start) && ran.stderr.contains(remedy), "{}", ran.stderr);
}
