//! The forms in which other programs write checkpoints and adapters. A form is right if it gives the bits of the plain
//! one, which tests/parity compares with transformers and PEFT.

use super::models::{Tensor, Tensors, edit, forge, parts, read};
use super::*;
use serde_json::json;

const MODEL: &str = "model/model.safetensors";
const MATRICES: &str = "out/adapter_model.safetensors";
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
    // other trainers put the base's config.json beside an adapter
    case.write("out/config.json", case.read("model/config.json"));
    case.train(&["model.model_name_or_path=out", "train.output_dir=again"]).refused(3, &format!("{CONFIG}: {why}"));
    case.write("model/adapter_config.json", case.read(CONFIG));
    let why = "lies beside a model, and is an adapter of ./model; move one of the two to a folder of its own";
    case.train(&["train.output_dir=again"]).refused(3, &format!("./model/adapter_config.json: {why}"));
}

/// A model and an adapter for its attention that changes what it computes.
fn adapted() -> Case {
    let case = Case::ids();
    case.train(&["train.max_steps=8", "lora.target_modules=[\"q_proj\", \"v_proj\"]"]).trained();
    case
}

fn configure(case: &Case, keys: &[(&str, Value)]) {
    let mut config = case.json(CONFIG);
    keys.iter().for_each(|(key, value)| config[*key] = value.clone());
    case.write(CONFIG, config.to_string());
}

fn export(case: &Case, to: &str) -> Ran {
    case.run(&["export", "--model", "model", "--adapter", "out", "--merge", "-o", to], &[])
}

/// The notes of an export that gives the same model as before a change of the adapter's files.
fn unchanged(change: impl FnOnce(&Case)) -> Vec<String> {
    let case = adapted();
    export(&case, "plain").trained();
    change(&case);
    let notes = export(&case, "merged").noted().1;
    assert!(case.read("merged/model.safetensors") == case.read("plain/model.safetensors"));
    assert!(case.read("merged/model.safetensors") != case.read(MODEL));
    notes
}

/// The refusal of an adapter after a change of its files.
fn refused(file: &str, why: &str, change: impl FnOnce(&Case)) {
    let case = adapted();
    change(&case);
    export(&case, "merged").refused(3, &format!("{file}: {why}"));
}

const MERGE: &str =
    "merge the adapter into its base with PEFT's merge_and_unload(), save that and give its folder as --model";

#[test]
fn configs_of_plain_adapters() {
    for keys in [
        vec![("target_modules", json!(r".*\.(q_proj|v_proj)$"))],
        vec![("target_modules", Value::Null)],
        vec![("target_modules", json!(["v_proj", "self_attn.q_proj", "c_attn"]))],
        vec![("rank_pattern", json!({"q_proj": 4})), ("alpha_pattern", json!({".*v_proj": 8.0}))],
        vec![("rank_pattern", json!({"k_proj": 2}))],
        vec![("modules_to_save", json!(["lm_head"])), ("bias", json!("lora_only"))],
        vec![("layers_to_transform", json!([0, 1])), ("exclude_modules", json!(["k_proj"]))],
        vec![("exclude_modules", json!("model.layers.9.*")), ("lora_dropout", json!(0.5))],
        vec![("init_lora_weights", json!("eva")), ("eva_config", json!({"rho": 2.0}))],
    ] {
        assert_eq!(unchanged(|case| configure(case, &keys)), [""; 0], "{keys:?}");
    }
    let keys = [("lora_dtype", json!("bfloat16")), ("lorap_emb_lr", json!(1e-6)), ("merge_weights", json!(false))];
    let said = format!("{CONFIG}: PEFT has no key `lora_dtype`, `lorap_emb_lr`; ignored");
    assert_eq!(unchanged(|case| configure(case, &keys)), [said]);
}

#[test]
fn tensors_of_plain_adapters() {
    let matrices = |change: &dyn Fn(&mut Tensors)| {
        assert_eq!(unchanged(|case| edit(&case.path(MATRICES), |tensors| change(tensors))), [""; 0]);
    };
    matrices(&|tensors| rename(tensors, |name| name.replace(".weight", ".default.weight")));
    matrices(&|tensors| {
        rename(tensors, |name| format!("_orig_mod.{}", name.replace("model.layers", "module.model.layers")))
    });
    // the embedding and the head that PEFT saves beside, as they are in the model
    unchanged(|case| {
        let embedding = read(&case.path(MODEL))["model.embed_tokens.weight"].clone();
        edit(&case.path(MATRICES), |tensors| {
            tensors.insert("base_model.model.model.embed_tokens.weight".into(), embedding.clone());
            tensors.insert("base_model.model.lm_head.weight".into(), embedding);
        });
    });
    // fewer layers than the model has
    let case = adapted();
    edit(&case.path(MATRICES), |tensors| tensors.retain(|name, _| !name.contains("layers.1.")));
    configure(&case, &[("layers_to_transform", json!([0]))]);
    export(&case, "merged").noted();
    let (merged, plain) = (read(&case.path("merged/model.safetensors")), read(&case.path(MODEL)));
    let differs = plain.keys().filter(|name| merged[*name].bytes != plain[*name].bytes);
    let names = ["q_proj", "v_proj"].map(|module| format!("model.layers.0.self_attn.{module}.weight"));
    assert!(differs.eq(&names));
}

#[test]
fn adapters_beyond_plain_lora() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("alora_invocation_tokens", json!([5, 7])),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("peft_type", json!("IA3")),
        ("target_parameters", json!(["a.b"])),
    ] {
        let why = format!("`{key}` = {value} is not supported; {MERGE}");
        refused(CONFIG, &why, |case| configure(case, &[(key, value.clone())]));
    }
    let why = format!("`rank_pattern` = {{\"q_proj\": 8}} is not supported beside 4; {MERGE}");
    refused(CONFIG, &why, |case| configure(case, &[("rank_pattern", json!({"q_proj": 8}))]));
    let why = format!("`alpha_pattern` = {{\"^model.*q_proj\": 32}} is not supported beside 8; {MERGE}");
    refused(CONFIG, &why, |case| configure(case, &[("alpha_pattern", json!({"^model.*q_proj": 32}))]));
    let name = "base_model.model.model.embed_tokens.weight";
    let why = format!("tensor {name} replaces that of the model, and differs from it; {MERGE}");
    refused(MATRICES, &why, |case| {
        let mut embedding = read(&case.path(MODEL))["model.embed_tokens.weight"].clone();
        embedding.bytes[0] ^= 1;
        edit(&case.path(MATRICES), |tensors| drop(tensors.insert(name.into(), embedding)));
    });
    let name = "base_model.model.model.embed_tokens.lora_embedding_A";
    let why = format!("tensor {name} belongs to no adapted module of this model; {MERGE}");
    refused(MATRICES, &why, |case| {
        edit(&case.path(MATRICES), |tensors| drop(tensors.insert(name.into(), Tensor::f32(&[1], &[1.0]))));
    });
}

#[test]
fn adapters_that_peft_would_use_in_part() {
    let q = "model.layers.0.self_attn.q_proj.lora_A.weight";
    let why = format!(
        "tensor {} lacks PEFT's prefix `base_model.model.`, so PEFT would not use it; save the adapter with PEFT's \
         save_pretrained()",
        "model.layers.0.self_attn.q_proj.lora_A.weight"
    );
    let unprefixed = |case: &Case| {
        configure(case, &[("target_modules", Value::Null)]);
        edit(&case.path(MATRICES), |all| rename(all, |name| name.replace("base_model.model.", "")));
    };
    refused(MATRICES, &why, unprefixed);
    let why = format!(
        "tensor base_model.model.{q} is of a module that adapter_config.json does not name, so PEFT would not use it; \
         name the module in `target_modules`, or remove it"
    );
    for keys in [
        ("target_modules", json!(["v_proj"])),
        ("target_modules", json!("q_proj")),
        ("exclude_modules", json!(["q_proj"])),
        ("layers_to_transform", json!(1)),
    ] {
        refused(MATRICES, &why, |case| configure(case, std::slice::from_ref(&keys)));
    }
    let why = "tensor base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight is missing; is the checkpoint \
               complete and of the config's architecture?";
    refused(MATRICES, why, |case| {
        edit(&case.path(MATRICES), |all| all.retain(|name, _| !name.contains("1.self_attn.v_proj")));
    });
}

#[test]
fn values_of_an_adapter_config_have_their_type() {
    for (key, value, expected) in [
        ("r", json!(4.0), "a whole number above 0"),
        ("r", json!("4"), "a whole number above 0"),
        ("lora_alpha", json!("8"), "a finite number"),
        ("lora_alpha", Value::Null, "a finite number"),
        ("use_rslora", json!(1), "true or false"),
        ("use_rslora", json!("true"), "true or false"),
        ("lora_dropout", json!("0.1"), "a number from 0 to 1"),
        ("bias", Value::Null, "\"none\", \"all\" or \"lora_only\""),
        ("bias", json!(true), "\"none\", \"all\" or \"lora_only\""),
        ("layers_to_transform", json!("1"), "a layer or a list of layers"),
        ("rank_pattern", json!([4]), "an object of numbers"),
        ("alpha_pattern", Value::Null, "an object of numbers"),
        ("target_modules", json!([1]), "a list of module names, a regular expression or \"all-linear\""),
    ] {
        let why = format!("`{key}` is {value}, expected {expected}");
        refused(CONFIG, &why, |case| configure(case, &[(key, value.clone())]));
    }
    let why = "key `peft_type` is missing; is this the config of an adapter that PEFT saved?";
    refused(CONFIG, why, |case| {
        let mut config = case.json(CONFIG);
        config.as_object_mut().expect("an object").shift_remove("peft_type");
        case.write(CONFIG, config.to_string());
    });
    // Python writes what JSON lacks
    refused(CONFIG, "`lora_alpha` is \"NaN\", expected a finite number", |case| {
        let text = String::from_utf8(case.read(CONFIG)).expect("UTF-8");
        case.write(CONFIG, text.replace("\"lora_alpha\": 8", "\"lora_alpha\": NaN"));
    });
}
