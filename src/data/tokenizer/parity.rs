//! Tokenizers of every kind against transformers (`tests/fixtures/make_tokenizers.py`).

use super::*;
use std::fs;

/// The cases, each with its tokenizer, loaded from the files of its folder.
fn cases() -> (Vec<String>, Vec<(Value, Tokenizer)>) {
    let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/tokenizers.json")).unwrap();
    let texts = serde_json::from_value(all["texts"].clone()).unwrap();
    let load = |case: &Value| {
        let dir = tempfile::tempdir().unwrap();
        for (name, json) in case["files"].as_object().unwrap() {
            let mut json = json.clone();
            if name == "tokenizer.json" {
                json["model"] = all["models"][json["model"].as_str().unwrap()].clone();
            } else if name == "config.json" {
                // many cases have no EOS, which eyekern requires
                json["eos_token_id"] = 0.into();
            }
            fs::write(dir.path().join(name), json.to_string()).unwrap();
        }
        if !dir.path().join("config.json").exists() {
            fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 0}"#).unwrap();
        }
        (case.clone(), Tokenizer::load(dir.path()).unwrap_or_else(|e| panic!("{}: {e}", case["name"])))
    };
    let cases: Vec<_> = all["cases"].as_array().unwrap().iter().map(load).collect();
    assert!(cases.len() >= 80);
    (texts, cases)
}

fn ids(pieces: &[Piece]) -> Vec<u32> {
    pieces.iter().map(|piece| piece.id).collect()
}

#[test]
fn ids_texts_and_special_tokens_are_those_of_transformers() {
    let (texts, cases) = cases();
    let mut wrong = Vec::new();
    for (case, tokenizer) in &cases {
        let name = &case["name"];
        let special: Vec<(String, Value)> =
            case["special"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let ours: Vec<(String, Value)> =
            tokenizer.special_tokens().iter().map(|(key, text)| (key.clone(), json!(text))).collect();
        if ours != special {
            wrong.push(format!("{name}: special tokens {ours:?} for {special:?}"));
        }
        let prompt = json!(tokenizer.encode_prompt("x").unwrap());
        if prompt != case["prompt"] {
            wrong.push(format!("{name}: prompt {prompt} for {}", case["prompt"]));
        }
        for (i, text) in texts.iter().enumerate() {
            let expected: Vec<u32> = serde_json::from_value(case["ids"][i].clone()).unwrap();
            let ours = ids(&tokenizer.encode(text).unwrap());
            if ours != expected {
                wrong.push(format!("{name}: {text:?} {ours:?} for {expected:?}"));
            }
            let decoded = tokenizer.inner.decode(&expected, false).unwrap();
            if json!(decoded) != case["decoded"][i] {
                wrong.push(format!("{name}: {text:?} decoded {decoded:?} for {}", case["decoded"][i]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// Two texts, one behind the other, decode to both, wherever the ids that transformers gives both as one text do.
#[test]
fn a_text_behind_another_decodes_to_both() {
    let (texts, cases) = cases();
    let (mut wrong, mut compared, mut marked) = (Vec::new(), 0, 0);
    // a decoder of words puts a space between any two of them
    let words = |case: &Value| ["words", "pieces"].iter().any(|name| case["name"] == *name);
    for (case, tokenizer) in cases.iter().filter(|(case, _)| !words(case)) {
        let decode = |ids: &[u32]| tokenizer.inner.decode(ids, false).unwrap();
        let keeps = |text: &str| decode(&ids(&tokenizer.encode(text).unwrap())) == text;
        for (front, behind) in texts.iter().flat_map(|front| texts.iter().map(move |behind| (front, behind))) {
            let (first, whole) = (tokenizer.encode(front).unwrap(), format!("{front}{behind}"));
            if first.is_empty() || !keeps(front) || !keeps(&whole) {
                continue;
            }
            let second = tokenizer.encode_behind(behind).unwrap();
            let decoded = decode(&[ids(&first), ids(&second)].concat());
            if decoded != whole {
                wrong.push(format!("{}: {front:?} {behind:?} decoded {decoded:?}", case["name"]));
            }
            let (first, second_ids) = (ids(&first), ids(&second));
            let alone = tokenizer.decode_behind(&first, &second_ids).unwrap();
            let together = tokenizer.decode(&[first.clone(), second_ids].concat()).unwrap();
            if tokenizer.decode(&first).unwrap() + &alone != together {
                wrong.push(format!("{}: {front:?} {behind:?} decoded {alone:?} alone", case["name"]));
            }
            compared += 1;
            marked += usize::from(ids(&second) != ids(&tokenizer.encode(behind).unwrap()));
            let inside = |piece: &Piece| piece.start <= piece.end && behind.get(piece.start..piece.end).is_some();
            assert!(second.iter().all(inside), "{}: {behind:?} {second:?}", case["name"]);
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
    assert!(compared > 5000 && marked > 500, "{compared} {marked}");
}
