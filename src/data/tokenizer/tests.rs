use super::super::samples::*;
use super::spelling::spelled_byte;
use super::*;
use serde_json::json;
use std::fs;

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<(u32, usize, usize)> {
    tokenizer.encode(text).unwrap().into_iter().map(|p| (p.id, p.start, p.end)).collect()
}

#[test]
fn byte_level_offsets_keep_spaces_whatever_the_file_says() {
    let nested = json!({"type": "Sequence", "processors": [trimming(true), template(&["<s>", "A"], BOS, EOS)]});
    let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", EOS], "cls": ["<s>", BOS],
                         "trim_offsets": true, "add_prefix_space": false});
    for processor in [trimming(false), trimming(true), nested, roberta] {
        let tokenizer = Tokenizer::from_bytes(&byte_level(processor.clone()), Some("</s>")).unwrap();
        // The rule of GPT-2 leaves the last space of a run to the word. More than three ids: no truncation; and
        // no pads.
        let expected = [(257, 0, 3), (259, 3, 5), (258, 5, 9), (32, 9, 10), (200, 10, 11), (120, 11, 12)];
        assert_eq!(pieces(&tokenizer, "int   int \nx"), expected, "{processor}");
    }
}

#[test]
fn subwords_of_one_character_span_it() {
    let expected =
        [(201, 0, 2), (202, 0, 2), (203, 2, 5), (204, 2, 5), (205, 2, 5), (260, 5, 9), (208, 5, 9), (209, 5, 9)];
    assert_eq!(pieces(&plain(), "é漢🙂"), expected);
    assert_eq!(plain().decode(&expected.map(|(id, ..)| id)).unwrap(), "é漢🙂");
}

#[test]
fn word_start_marks_have_the_place_of_their_space() {
    let tokenizer = metaspace();
    // The mark before the first word has no space of its own and spans the first character.
    assert_eq!(pieces(&tokenizer, "x  x y"), [(5, 0, 1), (3, 1, 2), (5, 2, 4), (3, 4, 5), (6, 5, 6)]);
    assert_eq!(pieces(&tokenizer, "y"), [(3, 0, 1), (6, 0, 1)]);
    assert_eq!(pieces(&tokenizer, "漢"), [(3, 0, 3), (7, 0, 3), (8, 0, 3), (9, 0, 3)]);
}

#[test]
fn bos_comes_once_and_only_where_the_tokenizer_adds_it() {
    let prompt = |processor: Value, text: &str| {
        Tokenizer::from_bytes(&byte_level(processor), Some("</s>")).unwrap().encode_prompt(text).unwrap()
    };
    let x = u32::from(b'x');
    assert_eq!(prompt(trimming(true), "x"), [x]);
    assert_eq!(prompt(template(&["<s>", "A"], BOS, EOS), "x"), [BOS, x]);
    assert_eq!(prompt(template(&["<s>", "A"], BOS, EOS), "<s>x"), [BOS, x]);
    assert_eq!(prompt(template(&["<s>", "A", "</s>"], BOS, EOS), ""), [BOS]);
    assert_eq!(prompt(template(&["A", "</s>"], BOS, EOS), "x"), [x]);
    assert_eq!(prompt(Value::Null, "<s>x"), [BOS, x]);
}

#[test]
fn tokens_show_as_in_the_text() {
    let (bytes, marks) = (plain(), metaspace());
    assert_eq!([258, 259, 201, EOS].map(|id| bytes.token_text(id)), [" int", "  ", "\u{fffd}", "</s>"]);
    assert_eq!([5, 4, 3, 2].map(|id| marks.token_text(id)), [" x", "x", " ", "</s>"]);
    assert_eq!(bytes.token_text(999), "");
    assert_eq!(bytes.decode(&[258, EOS]).unwrap(), " int");
    assert_eq!((marks.vocab_size(), marks.id_end()), (11, 11));
    assert_eq!((bytes.vocab_size(), bytes.id_end()), (94 + 11 + 5 + 2, 302));
    assert_eq!((bytes.eos(), bytes.bos(), marks.bos()), (301, None, Some(1)));
}

#[test]
fn every_token_has_its_bytes() {
    let (plain, marks) = (plain(), metaspace());
    let bytes = |id| plain.token_bytes(id);
    assert_eq!([bytes(258), bytes(EOS), bytes(200)], [b" int".to_vec(), b"</s>".to_vec(), b"\n".to_vec()]);
    // é, 漢, 🙂: alone, none of them is text
    let odd: Vec<u8> = [201, 202, 203, 204, 205, 260, 208, 209].into_iter().flat_map(bytes).collect();
    assert_eq!(odd, "é漢🙂".as_bytes());
    assert_eq!(bytes(260), [0xF0, 0x9F]);
    assert_eq!([7, 8, 9, 5].map(|id| marks.token_bytes(id)), [vec![0xE6], vec![0xBC], vec![0xA2], b" x".to_vec()]);
    let mapped: std::collections::BTreeSet<u8> =
        (0..0x200).filter_map(char::from_u32).filter_map(spelled_byte).collect();
    assert_eq!(mapped.len(), 256);
    assert_eq!([spelled_byte('Ā'), spelled_byte('Ġ'), spelled_byte('Ń')], [Some(0), Some(b' '), Some(0xAD)]);
    assert_eq!(spelled_byte('漢'), None);
}

/// A directory with a tokenizer and the given files.
fn folder(processor: Value, files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), byte_level(processor)).unwrap();
    for (name, json) in files {
        fs::write(dir.path().join(name), json.to_string()).unwrap();
    }
    dir
}

#[test]
fn eos_and_bos_are_found_beside_the_tokenizer() {
    let framed = template(&["<s>", "A"], BOS, EOS);
    let flagged = |add: bool| json!({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": add});
    let cases = [
        (Value::Null, "tokenizer_config.json", json!({"eos_token": "</s>"}), None, EOS),
        (Value::Null, "tokenizer_config.json", json!({"eos_token": {"content": "int"}}), None, 257),
        (Value::Null, "config.json", json!({"eos_token_id": 257}), None, 257),
        (framed.clone(), "generation_config.json", json!({"eos_token_id": [256, 257]}), Some(BOS), 256),
        (framed, "tokenizer_config.json", json!({"eos_token": "<s>"}), Some(BOS), BOS),
        (Value::Null, "tokenizer_config.json", flagged(true), None, EOS),
        (Value::Null, "tokenizer_config.json", flagged(false), None, EOS),
        (template(&["A", "</s>"], BOS, EOS), "other.json", json!({}), None, EOS),
    ];
    for (processor, name, json, bos, eos) in cases {
        let dir = folder(processor, &[(name, json.clone())]);
        for path in [dir.path().to_path_buf(), dir.path().join("tokenizer.json")] {
            let tokenizer = Tokenizer::load(&path).unwrap();
            assert_eq!((tokenizer.bos(), tokenizer.eos()), (bos, eos), "{name} {json}");
        }
    }
    let named = ("tokenizer_config.json", json!({"eos_token": "</s>"}));
    let first = [named, ("generation_config.json", json!({"eos_token_id": 257}))];
    assert_eq!(Tokenizer::load(folder(Value::Null, &first).path()).unwrap().eos(), EOS);
}

#[test]
fn notes_say_where_ids_follow_a_class() {
    let notes = |pre_tokenizer: Value, config: Value| {
        let mut tokenizer: Value = serde_json::from_slice(&byte_level(Value::Null)).unwrap();
        tokenizer["pre_tokenizer"] = pre_tokenizer;
        let dir = folder(Value::Null, &[("tokenizer.json", tokenizer), ("tokenizer_config.json", config)]);
        let notes = Tokenizer::load(dir.path()).unwrap().notes().to_vec();
        notes.iter().map(|note| note.replace(&format!("{}/", dir.path().display()), "")).collect::<Vec<_>>()
    };
    let named =
        |class: &str| json!({"tokenizer_class": class, "eos_token": "</s>", "bos_token": "<s>", "unk_token": "x"});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let apart = json!({"type": "Sequence", "pretokenizers": [digits, trimming(true)]});
    let replaces = "tokenizer.json: ids are those of GPT2Tokenizer in transformers, which replaces its pre_tokenizer";
    assert_eq!(notes(apart.clone(), named("GPT2TokenizerFast")), [replaces]);
    // how offsets are trimmed changes no ids
    for trim in [true, false] {
        assert_eq!(notes(trimming(trim), named("GPT2Tokenizer")), [""; 0]);
    }
    assert_eq!(notes(apart.clone(), named("PreTrainedTokenizerFast")), [""; 0]);
    let own = json!({"auto_map": {"AutoTokenizer": ["a.B", null]}, "eos_token": "<eos>"});
    let notes = notes(apart, own);
    assert_eq!(
        notes[0],
        "tokenizer.json: ids are those of transformers, which adds tokens with their ids: `<eos>` 302"
    );
    assert_eq!(notes[1..], ["tokenizer_config.json: `auto_map` names code, which is not run"]);
}

#[test]
fn inputs_cover_every_file_that_is_read() {
    let files = [
        ("tokenizer_config.json", json!({"eos_token": "</s>"})),
        ("config.json", json!({"model_type": "llama"})),
        ("special_tokens_map.json", json!({})),
        ("added_tokens.json", json!({})),
    ];
    let dir = folder(Value::Null, &files);
    let inputs = || Tokenizer::load(dir.path()).unwrap().inputs();
    let mut seen = vec![inputs()];
    for (name, mut json) in files {
        json["more"] = true.into();
        let change = |json: &Value| fs::write(dir.path().join(name), json.to_string()).unwrap();
        let tokens = name == "added_tokens.json";
        change(&if tokens { json!({"<new>": 400}) } else { json });
        assert!(!seen.contains(&inputs()), "{name}");
        seen.push(inputs());
    }
    assert_eq!(seen.last(), Some(&inputs()));
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let error = |dir: &Path| {
        let text = Tokenizer::load(dir).err().map(|e| e.to_string()).unwrap();
        text.replace(&format!("{}/", dir.display()), "")
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        error(dir.path()),
        "tokenizer.json: there is no such file, and a tokenizer is needed; \
         `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one"
    );
    fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    assert_eq!(
        error(dir.path()),
        "tokenizer.json: not a usable tokenizer.json (not valid JSON: EOF while parsing an object at line 1 \
         column 1); `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one"
    );
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(error(dir.path()).starts_with("tokenizer.json: not a usable tokenizer.json ("));

    let dir = folder(Value::Null, &[("config.json", json!({"eos_token_id": 999}))]);
    assert_eq!(
        error(dir.path()),
        "tokenizer.json: no end-of-sequence token is known; name `eos_token` in tokenizer_config.json or \
         `eos_token_id` in config.json beside it"
    );
    for (config, why) in [
        (json!({"eos_token": 3}), "`eos_token` must be a string, or an object with `content`, not 3"),
        (
            json!({"extra_special_tokens": [3]}),
            "`extra_special_tokens` must be a string, or an object with `content`, not 3",
        ),
        (
            json!({"added_tokens_decoder": {"x": {"content": "<pad>"}}}),
            "`added_tokens_decoder`[x] must be a token with a `content`, under its id",
        ),
        (
            json!({"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.0.json"]}),
            "`fast_tokenizer_files` names tokenizer.4.0.0.json for some versions of transformers; copy the file of \
             yours to tokenizer.json, and remove the key",
        ),
        (
            json!({"tokenizer_class": "T5TokenizerFast"}),
            "`tokenizer_class` is T5Tokenizer, which transformers does not build from tokenizer.json alone and eyekern \
             does not know; if tokenizer.json has the right ids, set `tokenizer_class` to \
             \"PreTrainedTokenizerFast\" in tokenizer_config.json",
        ),
    ] {
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        assert_eq!(error(dir.path()), format!("tokenizer_config.json: {why}"));
    }
    fs::write(dir.path().join("tokenizer_config.json"), "{\n]").unwrap();
    assert_eq!(
        error(dir.path()),
        "tokenizer_config.json: not valid JSON (key must be a string at line 2 column 1); repair the file or \
         remove it"
    );
}

/// Threads keep what they split by an instance of the library, so one is made for all that read the same files.
#[test]
fn a_tokenizer_that_is_read_again_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(assets.join(name), dir.path().join(name)).unwrap();
    }
    let (a, b) = (Tokenizer::load(dir.path()).unwrap(), Tokenizer::load(dir.path()).unwrap());
    assert!(std::sync::Arc::ptr_eq(&a.inner, &b.inner));
    // another file beside it may change the ids
    std::fs::write(dir.path().join("special_tokens_map.json"), "{}").unwrap();
    std::fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "<|endoftext|>", "x": 1}"#).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&a.inner, &Tokenizer::load(dir.path()).unwrap().inner));
}
