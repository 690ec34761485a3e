//! Small tokenizers for tests, with ids that can be worked out by hand.

use serde_json::{Map, Value, json};

use super::tokenizer::Tokenizer;

/// `<s>` of [`byte_level`].
pub(crate) const BOS: u32 = 300;
/// `</s>` of [`byte_level`].
pub(crate) const EOS: u32 = 301;

/// `tokenizer.json` of a byte-level BPE. A printable ASCII byte and the space have their value as id; 200 is a
/// newline, 201 and 202 are the bytes of é, 203 to 205 those of 漢, 206 to 209 those of 🙂; 256 is "in", 257 "int",
/// 258 " int", 259 two spaces, 260 the first two bytes of 🙂. It asks for truncation to 3 and padding to 8 tokens.
/// `processor` is the post-processor's JSON.
pub(crate) fn byte_level(processor: Value) -> Vec<u8> {
    let mut vocab = Map::new();
    for byte in b'!'..=b'~' {
        vocab.insert(char::from(byte).to_string(), json!(byte));
    }
    // Bytes 0A, C3 A9, E6 BC A2, F0 9F 99 82 and 20 in GPT-2's spelling.
    for (id, text) in (200..).zip(["Ċ", "Ã", "©", "æ", "¼", "¢", "ð", "Ł", "Ļ", "Ĥ"]) {
        vocab.insert(text.into(), json!(id));
    }
    vocab.insert("Ġ".into(), json!(32));
    for (id, text) in (256..).zip(["in", "int", "Ġint", "ĠĠ", "ðŁ"]) {
        vocab.insert(text.into(), json!(id));
    }
    // Without a place in the model's own vocabulary an added token would get the next free id.
    vocab.extend([("<s>".to_string(), json!(BOS)), ("</s>".to_string(), json!(EOS))]);
    let merges = ["i n", "in t", "Ġ int", "Ġ Ġ", "ð Ł"];
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 33,
                    "pad_type_id": 0, "pad_token": "!"},
        "added_tokens": special(BOS, EOS),
        "normalizer": null,
        "pre_tokenizer": trimming(true),
        "post_processor": processor,
        "decoder": trimming(true),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    })
    .to_string()
    .into_bytes()
}

/// The tokenizer of most tests: [`byte_level`] without BOS.
pub(crate) fn plain() -> Tokenizer {
    Tokenizer::from_bytes(&byte_level(trimming(false)), Some("</s>")).unwrap()
}

/// [`byte_level`] with BOS.
pub(crate) fn with_bos() -> Tokenizer {
    Tokenizer::from_bytes(&byte_level(template(&["<s>", "A"], BOS, EOS)), Some("</s>")).unwrap()
}

/// The byte-level post-processor.
pub(crate) fn trimming(trim_offsets: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets, "use_regex": true})
}

/// A post-processor that writes `frame` around a text, where "A" stands for the text.
pub(crate) fn template(frame: &[&str], bos: u32, eos: u32) -> Value {
    let piece = |text: &str| match text {
        "A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        token => json!({"SpecialToken": {"id": token, "type_id": 0}}),
    };
    let token = |text: &str, id: u32| json!({"id": text, "ids": [id], "tokens": [text]});
    json!({
        "type": "TemplateProcessing",
        "single": frame.iter().map(|t| piece(t)).collect::<Vec<_>>(),
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": token("<s>", bos), "</s>": token("</s>", eos)},
    })
}

/// A BPE with word starts marked ▁, as SentencePiece writes them: 1 `<s>` (added as BOS), 2 `</s>`, 3 the mark
/// alone, 4 "x", 5 "▁x", 6 "y", 7 to 9 the bytes of 漢, 10 "=".
pub(crate) fn metaspace() -> Tokenizer {
    let mark = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special(1, 2),
        "normalizer": null,
        "pre_tokenizer": mark,
        "post_processor": template(&["<s>", "A"], 1, 2),
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, mark]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
                  "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "x": 4, "▁x": 5, "y": 6,
                            "<0xE6>": 7, "<0xBC>": 8, "<0xA2>": 9, "=": 10},
                  "merges": ["▁ x"]},
    });
    Tokenizer::from_bytes(json.to_string().as_bytes(), Some("</s>")).unwrap()
}

fn special(bos: u32, eos: u32) -> Value {
    let token = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!([token(bos, "<s>"), token(eos, "</s>")])
}
