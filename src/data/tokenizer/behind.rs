//! The tokenizer of a text that stands behind another part of its row.

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// `first` without what it does to the beginning of a text; `None` where it does nothing there.
pub(super) fn behind(first: &Tokenizer) -> tokenizers::Result<Option<Tokenizer>> {
    let (normalizer, pre_tokenizer) =
        (serde_json::to_value(first.get_normalizer())?, serde_json::to_value(first.get_pre_tokenizer())?);
    let (other_normalizer, other_pre_tokenizer) = (inner(normalizer.clone()), inner(pre_tokenizer.clone()));
    if (&normalizer, &pre_tokenizer) == (&other_normalizer, &other_pre_tokenizer) {
        return Ok(None);
    }
    let mut behind = first.clone();
    behind.with_normalizer(serde_json::from_value::<Option<NormalizerWrapper>>(other_normalizer)?)?;
    // an added token that is matched after the normalizer keeps the spelling that it is decoded to
    behind.with_added_vocabulary(first.get_added_vocabulary().clone());
    behind.with_pre_tokenizer(serde_json::from_value::<Option<PreTokenizerWrapper>>(other_pre_tokenizer)?);
    Ok(Some(behind))
}

/// A normalizer or pre-tokenizer that leaves the beginning of a text as it is: no mark or space in front, no space
/// removed there. `null` where nothing is left of it.
fn inner(mut part: Value) -> Value {
    match part["type"].as_str() {
        Some("Prepend") => return Value::Null,
        Some("Metaspace") => part["prepend_scheme"] = json!("never"),
        Some("ByteLevel") if part["add_prefix_space"] == true => part["add_prefix_space"] = json!(false),
        Some("Strip") => part["strip_left"] = json!(false),
        Some("Sequence") => {
            for key in ["normalizers", "pretokenizers"] {
                if let Some(list) = part.get_mut(key).and_then(Value::as_array_mut) {
                    *list = list.drain(..).map(inner).filter(|part| !part.is_null()).collect();
                }
            }
        }
        _ => {}
    }
    part
}
