use super::*;
use crate::model::keys::Keys;

/// By model type: a config, and for each of its keys what transformers has where the key is absent, and where it is
/// null (`make_defaults.py`).
const TABLE: &str = include_str!("../../../tests/fixtures/config_defaults.json");

fn parse(config: &Value) -> Result<Spec> {
    Spec::parse(config, Path::new("config.json"))
}

fn with(base: &Value, key: &str, value: Option<&Value>) -> Result<Spec> {
    let mut config = base.clone();
    let map = config.as_object_mut().expect("an object");
    match value {
        Some(value) => map.insert(key.into(), value.clone()),
        None => map.remove(key),
    };
    parse(&config)
}

#[test]
fn absent_keys_have_the_defaults_of_their_class() {
    let table: Value = serde_json::from_str(TABLE).expect("a table");
    let table = table.as_object().expect("an object");
    assert_eq!(table.len(), MODEL_TYPES.len());
    for kind in MODEL_TYPES {
        let base = &table[kind]["base"];
        let whole = parse(base).expect("a config");
        for (key, used) in table[kind]["keys"].as_object().expect("keys") {
            let absent = with(base, key, None).unwrap_or_else(|e| panic!("{kind} without {key}: {e}"));
            let same = with(base, key, Some(&used["absent"])).unwrap_or_else(|e| panic!("{kind}, {key}: {e}"));
            assert_eq!(absent, same, "{kind} without {key}");
            assert_ne!(absent, whole, "{kind} ignores {key}");
            // dropout of a config is only reported; Qwen2, SmolLM3 and Granite fail on a `head_dim` of null
            let null = with(base, key, Some(&Value::Null));
            if key.contains("drop") || used["null"].is_null() {
                assert!(null.is_ok(), "{kind}, {key} null");
                continue;
            }
            match (null, &used["null"]) {
                (Err(e), refused) if refused == "refused" => {
                    assert!(e.to_string().starts_with(&format!("config.json: `{key}` is null, expected ")), "{e}");
                }
                (Ok(null), value) if value != "refused" => {
                    assert_eq!(null, with(base, key, Some(value)).expect("a config"), "{kind}, {key} null");
                }
                (other, value) => panic!("{kind}, {key} null: {value} in transformers, here {other:?}"),
            }
        }
    }
}

/// No value of a wrong type is read as another one.
#[test]
fn every_key_refuses_a_value_of_another_type() {
    let table: Value = serde_json::from_str(TABLE).expect("a table");
    for kind in MODEL_TYPES {
        let base = &table[kind]["base"];
        for (key, value) in base.as_object().expect("an object") {
            let wrong = match value {
                Value::String(_) => vec![json!(1), json!(true), json!(["silu"])],
                Value::Bool(_) => vec![json!(1), json!(0), json!("true"), json!([true])],
                _ => vec![json!("1"), json!(true), json!("NaN"), json!([1]), json!({"a": 1})],
            };
            for wrong in wrong {
                let why = with(base, key, Some(&wrong)).expect_err(&format!("{kind}: {key} = {wrong}")).to_string();
                assert!(why.starts_with(&format!("config.json: `{key}` is {wrong}, expected ")), "{why}");
            }
        }
    }
}

#[test]
fn other_names_of_keys_win() {
    let config = json!({"model_type": "gpt2", "n_embd": 24, "hidden_size": 48, "num_hidden_layers": 3, "n_head": 4});
    let spec = parse(&config).expect("a config");
    assert_eq!((spec.hidden, spec.layers, spec.q_heads), (48, 3, 4));
    let keys = Keys::new(Path::new("c"), &config, json!({"n_layer": 12}), &[]).expect("an object");
    assert_eq!(keys.size("n_layer").expect("a size"), 12);
}

/// As the masks of transformers' models have it.
#[test]
fn windows_act_where_the_model_type_has_them() {
    let window = |kind: &str, more: Value| {
        let mut config = json!({"model_type": kind, "num_hidden_layers": 2, "sliding_window": 16});
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        parse(&config).map(|spec| spec.window).map_err(|e| e.to_string())
    };
    let types = json!({"layer_types": ["full_attention", "sliding_attention"]});
    let used = json!({"use_sliding_window": true});
    assert_eq!(window("starcoder2", json!({})), Ok(Some(16)));
    assert_eq!(window("llama", json!({})), Ok(None));
    assert_eq!(window("qwen2", json!({})), Ok(None));
    // 28 layers come before the first that slides
    assert_eq!(window("qwen2", used.clone()), Ok(None));
    assert_eq!(window("qwen2", json!({"use_sliding_window": true, "max_window_layers": 1})), Ok(Some(16)));
    assert_eq!(window("smollm3", types.clone()), Ok(Some(16)));
    // both layers rotate, and only the others slide
    assert_eq!(window("smollm3", used), Ok(None));
    let none = "config.json: `layer_types` has \"sliding_attention\", but no window is in use";
    assert_eq!(window("qwen2", types.clone()), Err(none.into()));
    let none = "config.json: `layer_types` has \"sliding_attention\", which this model type lacks";
    assert_eq!(window("granite", types), Err(none.into()));
    let why = "config.json: `layer_types` is [\"chunked_attention\",\"full_attention\"], expected \
               \"full_attention\" or \"sliding_attention\" for each layer";
    assert_eq!(window("qwen2", json!({"layer_types": ["chunked_attention", "full_attention"]})), Err(why.into()));
}
