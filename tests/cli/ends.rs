//! What is saved ends where the run learned to end, and `eyekern generate` stops there. The saved values are those of
//! `align_special_tokens` of transformers; src/model/ends.rs tests them one by one.

use super::*;
use serde_json::json;

/// A model whose tokenizer ends with token 639, and these ends in its configs.
fn case(config: Value, generation: Value) -> Case {
    let case = Case::text();
    case.configure("model", "eos_token_id", config);
    if !generation.is_null() {
        case.write("model/generation_config.json", json!({"eos_token_id": generation, "top_k": 3}).to_string());
    }
    let mut tokenizer = case.json("model/tokenizer.json");
    tokenizer["added_tokens"].as_array_mut().expect("tokens").push(json!({
        "id": 639, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    }));
    let vocab = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let word = vocab.iter().find(|(_, id)| **id == 639).map(|(word, _)| word.clone()).expect("a word");
    vocab.shift_remove(&word);
    let merges = tokenizer["model"]["merges"].as_array_mut().expect("merges");
    let joined = |merge: &Value| match merge {
        Value::Array(pair) => pair.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().replace(' ', ""),
    };
    merges.retain(|merge| joined(merge) != word);
    case.write("model/tokenizer.json", tokenizer.to_string());
    case
}

fn end_with(case: &Case, token: &str) {
    let mut config = case.json("model/tokenizer_config.json");
    config["eos_token"] = token.into();
    case.write("model/tokenizer_config.json", config.to_string());
}

const NOTE: &str = "texts end with id 639, but as eos_token_id the model's config.json has 0 and \
                    generation_config.json has 0, 5; the saved generation_config.json has [639,0,5], and a saved \
                    config.json 639";

const IDLE: &str = "without effect on full fine-tuning: lora.lora_alpha, lora.r";

#[test]
fn configs_get_the_end_that_was_learned() {
    let case = case(json!(0), json!([0, 5]));
    end_with(&case, "<|end|>");
    let (_, notes) = case.train(&["train.method=full"]).noted();
    assert_eq!(notes, [NOTE, IDLE]);
    let saved = |dir: &str, file: &str| case.json(&format!("{dir}/{file}"));
    assert_eq!(saved("out", "config.json")["eos_token_id"], 639);
    assert_eq!(saved("out", "generation_config.json"), json!({"eos_token_id": [639, 0, 5], "top_k": 3}));
    // an adapter brings its end along, and gives it to the merged model
    case.train(&["train.output_dir=adapter"]).noted();
    assert_eq!(saved("adapter", "generation_config.json"), saved("out", "generation_config.json"));
    let merged = case.run(&["export", "--model", "model", "--adapter", "adapter", "--merge", "-o", "merged"], &[]);
    assert_eq!(merged.noted().1.len(), 1);
    for file in ["config.json", "generation_config.json"] {
        assert_eq!(saved("merged", file)["eos_token_id"], saved("out", file)["eos_token_id"], "{file}");
    }
}

#[test]
fn configs_that_agree_are_not_touched() {
    for generation in [Value::Null, json!([5, 0])] {
        let case = case(json!(0), generation.clone());
        assert_eq!(case.train(&["train.method=full"]).noted().1, [IDLE]);
        assert_eq!(case.json("out/config.json")["eos_token_id"], 0);
        match generation {
            Value::Null => assert!(!case.path("out/generation_config.json").exists()),
            _ => assert!(case.read("out/generation_config.json") == case.read("model/generation_config.json")),
        }
    }
}

#[test]
fn a_run_does_not_leave_the_ends_of_an_earlier_one() {
    let case = case(json!(0), Value::Null);
    end_with(&case, "<|end|>");
    case.train(&["train.method=full"]).noted();
    assert!(case.path("out/generation_config.json").exists());
    end_with(&case, "<|endoftext|>");
    case.train(&["train.method=full", "train.overwrite_output_dir=true"]).noted();
    assert!(!case.path("out/generation_config.json").exists());
}

/// The rows end with `<|end|>` and a line break, and the tokenizer's EOS is another token.
#[test]
fn the_end_of_a_template_is_recognised() {
    let case = case(json!(0), Value::Null);
    case.write(
        "model/chat_template.jinja",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}\
                                             {% if add_generation_prompt %}assistant: {% endif %}",
    );
    let row = json!({"messages": [{"role": "user", "content": "int a;"}, {"role": "assistant", "content": "b"}]});
    case.write("train.jsonl", format!("{row}\n{row}\n"));
    let (_, notes) = case.train(&["train.method=full"]).noted();
    let said = [
        "train.jsonl: 2 of 2 rows end with <|end|> (id 639), not with the tokenizer's EOS <|endoftext|> (id 0); both \
         are saved as ends",
        "texts end with id 0, 639, but as eos_token_id the model's config.json has 0 and there is no \
         generation_config.json; the saved generation_config.json has [0,639], and a saved config.json [0,639]",
        IDLE,
    ];
    assert_eq!(notes, said);
    assert_eq!(case.json("out/config.json")["eos_token_id"], json!([0, 639]));
    assert_eq!(case.json("out/generation_config.json")["eos_token_id"], json!([0, 639]));
}

#[test]
fn generation_stops_at_every_end() {
    let tiny = Case::ids();
    tiny.write("rows.jsonl", json!({ "input_ids": super::generate::fixture().0 }).to_string() + "\n");
    let rows = ["generate", "--device", "cpu", "--model", "model", "--data", "rows.jsonl", "-o", "out.jsonl"];
    let ids = |case: &Case, more: &[&str]| -> Vec<u64> {
        case.run(&[&rows[..], &["--max-new-tokens", "12", "--overwrite"], more].concat(), &[]).noted();
        case.json("out.jsonl")["ids"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect()
    };
    std::fs::remove_file(tiny.path("model/generation_config.json")).expect("removes");
    let all = ids(&tiny, &[]);
    let first = |id: u64| all.iter().position(|x| *x == id).expect("there");
    let late = *all.iter().rev().find(|id| first(**id) > 1).expect("another token");
    let early = all[first(late) - 1];
    assert!(first(early) < first(late) && first(late) < all.len(), "{all:?}");
    // config.json counts beside a generation_config.json
    tiny.configure("model", "eos_token_id", json!(early));
    tiny.write("model/generation_config.json", json!({ "eos_token_id": [late, 96] }).to_string());
    assert_eq!(ids(&tiny, &[]), all[..first(early).min(first(late))]);
    tiny.configure("model", "eos_token_id", json!(95));
    assert_eq!(ids(&tiny, &[]), all[..first(late)]);
    // and so does that of the adapter
    tiny.train(&["train.learning_rate=1e-30", "train.output_dir=adapter"]).trained();
    tiny.write("adapter/generation_config.json", json!({ "eos_token_id": early }).to_string());
    assert_eq!(ids(&tiny, &["--adapter", "adapter"]), all[..first(early).min(first(late))]);
    tiny.write("model/generation_config.json", json!({ "eos_token_id": "2" }).to_string());
    let why = "`eos_token_id` is \"2\", expected a token id or a list of them";
    let ran = tiny.run(&[&rows[..], &["--overwrite"]].concat(), &[]);
    ran.refused(3, &format!("model/generation_config.json: {why}"));
}
