//! Every key of every file beside a tokenizer: where a change of it changes a row, it changes the name of the entry.

use super::super::samples::byte_level;
use super::*;
use crate::data::jinja::Date;
use serde_json::{Map, Value, json};

/// A folder with every file that a tokenizer may have, and rows of text and of messages.
fn folder() -> (tempfile::TempDir, Vec<(&'static str, Value)>) {
    let dir = tempfile::tempdir().unwrap();
    let template = "{{ bos_token }}{{ mark_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}\
                    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let token = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let mut tokenizer: Value = serde_json::from_slice(&byte_level(Value::Null)).unwrap();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(token(302, "<x>"));
    let files = vec![
        ("tokenizer.json", tokenizer),
        (
            "tokenizer_config.json",
            json!({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": true, "mark_token": "<x>",
                   "extra_special_tokens": ["<more>"], "chat_template": template, "padding_side": "left",
                   "add_prefix_space": false, "split_special_tokens": false, "model_max_length": 9}),
        ),
        ("special_tokens_map.json", json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})),
        ("added_tokens.json", json!({"<added>": 310})),
        ("config.json", json!({"model_type": "llama", "eos_token_id": 301, "vocab_size": 512})),
        ("generation_config.json", json!({"eos_token_id": [301], "temperature": 1.0})),
    ];
    for (name, value) in &files {
        fs::write(dir.path().join(name), value.to_string()).unwrap();
    }
    fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
    let rows = [
        json!({"prompt": "int <added> x", "completion": "int   <more> <x> y <pad>"}),
        json!({"messages": [{"role": "user", "content": "<added>"}, {"role": "assistant", "content": "int x"}]}),
        json!({"messages": [{"role": "user", "content": "int"}, {"role": "assistant", "content": "y"}], "tools": [{}]}),
    ];
    fs::write(dir.path().join("rows.jsonl"), rows.map(|row| row.to_string() + "\n").concat()).unwrap();
    (dir, files)
}

/// The name of the entry and the hash of the rows; `None` where the tokenizer or a row is refused.
fn of(dir: &Path, reading: &Reading) -> Option<(String, blake3::Hash)> {
    let tokenizer = Tokenizer::load(dir).inspect_err(|e| println!("{e}")).ok()?;
    let source = DataSource::Jsonl(dir.join("rows.jsonl"));
    let rows = corpus::read(&source, Some(&tokenizer), 512, reading).inspect_err(|e| println!("{e}")).ok()?.digest();
    Some((key(&source, Some(&tokenizer), 512, reading).unwrap(), rows))
}

#[test]
fn whatever_changes_a_row_changes_the_name_of_the_entry() {
    let (dir, files) = folder();
    let reading = Reading { date: Some("2026-11-30".parse().unwrap()), ..Reading::default() };
    let first = of(dir.path(), &reading).expect("rows");
    assert_eq!(of(dir.path(), &reading), Some(first.clone()));
    let (mut changed, mut same, mut refused) = (0, 0, 0);
    let mut check = |what: &str| match of(dir.path(), &reading) {
        None => refused += 1,
        Some((name, rows)) if rows != first.1 => {
            assert_ne!(name, first.0, "{what} changes a row");
            changed += 1;
        }
        Some(_) => same += 1,
    };
    for (file, value) in &files {
        let path = dir.path().join(file);
        let keys: Vec<String> = value.as_object().map(Map::keys).into_iter().flatten().cloned().collect();
        for key in keys {
            for other in [Value::Null, json!("<x>"), json!(true), json!(300), json!(["<x>"]), json!({"content": "<x>"})]
            {
                let mut mutated = value.clone();
                mutated[&key] = other.clone();
                fs::write(&path, mutated.to_string()).unwrap();
                check(&format!("{file}: {key} = {other}"));
            }
            let mut without = value.clone();
            without.as_object_mut().unwrap().shift_remove(&key);
            fs::write(&path, without.to_string()).unwrap();
            check(&format!("{file} without {key}"));
        }
        fs::remove_file(&path).unwrap();
        check(&format!("no {file}"));
        fs::write(&path, value.to_string()).unwrap();
    }
    for (file, text) in [
        ("chat_template.jinja", "{% for m in messages %}[{{ m.content }}]{% endfor %}"),
        ("additional_chat_templates/default.jinja", "{% for m in messages %}({{ m.content }}){% endfor %}"),
        ("additional_chat_templates/tool_use.jinja", "{% for m in messages %}|{{ m.content }}|{% endfor %}"),
    ] {
        fs::write(dir.path().join(file), text).unwrap();
        check(file);
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    assert!(changed > 20 && same > 20 && refused > 5, "{changed} {same} {refused}");
}

#[test]
fn the_reading_is_in_the_name() {
    let (dir, _) = folder();
    let name = |reading: &Reading| of(dir.path(), reading).unwrap().0;
    let first = name(&Reading::default());
    let date: Option<Date> = Some("2026-11-30".parse().unwrap());
    for reading in [
        Reading { date, ..Reading::default() },
        Reading { max_length: 9, ..Reading::default() },
        Reading { prompt_weight: Some(1.0), ..Reading::default() },
    ] {
        assert_ne!(name(&reading), first, "{reading:?}");
    }
}
