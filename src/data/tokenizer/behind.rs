//! The tokenizer of a text that stands behind another part of its row.

use serde_json::{Value, json};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// `first` without what it does to the beginning of a text, in either direction; `None` where it does nothing there.
pub(super) fn behind(first: &Tokenizer) -> tokenizers::Result<Option<Tokenizer>> {
    let parts = [
        serde_json::to_value(first.get_normalizer())?,
        serde_json::to_value(first.get_pre_tokenizer())?,
        serde_json::to_value(first.get_decoder())?,
    ];
    let others = parts.clone().map(inner);
    if parts == others {
        return Ok(None);
    }
    let [normalizer, pre_tokenizer, decoder] = others;
    let mut behind = first.clone();
    behind.with_normalizer(serde_json::from_value::<Option<NormalizerWrapper>>(normalizer)?)?;
    // an added token that is matched after the normalizer keeps the spelling that it is decoded to
    behind.with_added_vocabulary(first.get_added_vocabulary().clone());
    behind.with_pre_tokenizer(serde_json::from_value::<Option<PreTokenizerWrapper>>(pre_tokenizer)?);
    behind.with_decoder(serde_json::from_value::<Option<DecoderWrapper>>(decoder)?);
    Ok(Some(behind))
}

/// A normalizer, pre-tokenizer or decoder that leaves the beginning of a text as it is: no mark or space in front, no
/// space removed there. `null` where nothing is left of it.
fn inner(mut part: Value) -> Value {
    match part["type"].as_str() {
        Some("Prepend") => return Value::Null,
        Some("Metaspace") => part["prepend_scheme"] = json!("never"),
        Some("ByteLevel") if part["add_prefix_space"] == true => part["add_prefix_space"] = json!(false),
        Some("Strip") if part["start"].is_u64() => part["start"] = json!(0),
        Some("Strip") => part["strip_left"] = json!(false),
        Some("Sequence") => {
            for key in ["normalizers", "pretokenizers", "decoders"] {
                if let Some(list) = part.get_mut(key).and_then(Value::as_array_mut) {
                    *list = list.drain(..).map(inner).filter(|part| !part.is_null()).collect();
                }
            }
        }
        _ => {}
    }
    part
}
