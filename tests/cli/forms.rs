//! The forms in which other programs write checkpoints. A form is right if it gives the bits of the plain
//! one, which tests/parity compares with transformers.

use super::models::{Tensors, edit, forge, parts, read};
use super::*;
use serde_json::json;

const MODEL: &str = "model/model.safetensors";
const CONFIG: &str = "out/adapter_config.json";

/// Renames tensors.
fn rename(tensors: &mut Tensors, name: impl Fn(&str) -> String) {
    *tensors = std::mem::take(tensors).into_iter().map(|(old, tensor)| (name(&old), tensor)).collect();
}

#[test]
fn names_that_wrappers_leave() {
    let case = Case::ids();
    let (wanted, plain) = (case.adapter("plain", &[]), read(&case.path(MODEL)));
    let deep = |name: &str| name.replace("layers.1.", "layers.1._checkpoint_wrapped_module._orig_mod.");
    let bare = |name: &str| name.trim_start_matches("model.").to_string();
    type Form<'a> = (&'a str, &'a dyn Fn(&str) -> String);
    let forms: [Form; 9] = [
        ("ddp", &|name| format!("module.{name}")),
        ("compiled", &|name| format!("_orig_mod.{name}")),
        ("both", &|name| format!("_orig_mod.module.{name}")),
        ("fsdp", &|name| format!("_fsdp_wrapped_module.{}", name.replace("layers.", "layers._fsdp_wrapped_module."))),
        ("inside", &deep),
        ("lightning", &|name| format!("model.{name}")),
        ("lightning of ddp", &|name| format!("_forward_module.model.{name}")),
        ("peft", &|name| format!("base_model.model.{name}")),
        ("headless", &|name| format!("module.{}", bare(name))),
    ];
    for (form, name) in forms {
        edit(&case.path(MODEL), |tensors| {
            *tensors = plain.clone();
            rename(tensors, name);
        });
        assert!(case.adapter(form, &[]) == wanted, "{form}");
    }
    // what is saved has the usual names
    case.train(&["train.method=full", "train.output_dir=full"]).trained();
    assert!(read(&case.path("full/model.safetensors")).keys().eq(plain.keys()));
}

#[test]
fn names_that_are_not_clear() {
    let case = Case::ids();
    let norm = "model.norm.weight";
    edit(&case.path(MODEL), |tensors| drop(tensors.insert(format!("module.{norm}"), tensors[norm].clone())));
    let why = format!("holds tensor {norm} twice, once as module.{norm}; keep one");
    case.train(&[]).refused(3, &format!("./{MODEL}: {why}"));
    edit(&case.path(MODEL), |tensors| {
        tensors.remove(&format!("module.{norm}"));
        rename(tensors, |name| name.replace("q_proj.", "q_proj.base_layer."));
    });
    let why = "tensor model.layers.0.self_attn.q_proj.base_layer.weight is of a model with an adapter beside its \
               weights; merge it with PEFT's merge_and_unload() and save that";
    case.train(&[]).refused(3, &format!("./{MODEL}: {why}"));
}

/// Writes metadata into the header of a file.
fn mark(case: &Case, metadata: Value) {
    let (mut header, data) = parts(&case.path(MODEL));
    header.insert("__metadata__".into(), metadata);
    forge(&case.path(MODEL), &Value::from(header).to_string(), &data);
}

#[test]
fn a_shared_tensor_under_its_other_name() {
    let case = Case::ids();
    let (wanted, embedding) = (case.adapter("plain", &[]), "model.embed_tokens.weight");
    edit(&case.path(MODEL), |tensors| rename(tensors, |name| name.replace(embedding, "lm_head.weight")));
    // a tied model needs no metadata
    assert!(case.adapter("head", &[]) == wanted);
    // an untied one takes its head from the embedding, or the other way round, where the metadata says so
    case.configure("model", "tie_word_embeddings", json!(false));
    let why = "tensor model.embed_tokens.weight is missing; is the checkpoint complete and of the config's \
               architecture?";
    case.train(&[]).refused(3, &format!("./{MODEL}: {why}"));
    mark(&case, json!({"format": "pt", embedding: "lm_head.weight"}));
    let untied = case.adapter("untied", &[]);
    edit(&case.path(MODEL), |tensors| rename(tensors, |name| name.replace("lm_head.weight", embedding)));
    mark(&case, json!({"lm_head.weight": embedding}));
    assert!(untied == case.adapter("other", &[]) && untied == wanted);
    edit(&case.path(MODEL), |tensors| rename(tensors, |name| format!("module.{name}")));
    mark(&case, json!({"module.lm_head.weight": format!("module.{embedding}")}));
    assert!(case.adapter("wrapped", &[]) == wanted);
}

#[test]
fn the_folder_of_an_adapter_is_no_model() {
    let case = Case::ids();
    case.adapter("out", &[]);
    let why = "this is the folder of an adapter of ./model, not of a model; to train on, merge the two with `eyekern \
               export --model ./model --adapter out --merge -o MERGED` and give MERGED, or give ./model as the model \
               and this folder as --adapter of `eyekern generate`";
    case.train(&["model.model_name_or_path=out", "train.output_dir=again"]).refused(3, &format!("{CONFIG}: {why}"));
    case.write("model/adapter_config.json", case.read(CONFIG));
    let why = "lies beside a model, and is an adapter of ./model; move one of the two to a folder of its own";
    case.train(&["train.output_dir=again"]).refused(3, &format!("./model/adapter_config.json: {why}"));
}
