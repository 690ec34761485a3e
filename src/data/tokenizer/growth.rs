//! How much longer a tokenizer.json may make a text.

use serde_json::Value;

/// How many times as long a text may become by replacements. Those in use make it 3 times as long, a space of one byte
/// being written as a mark of three; six of that kind fit.
pub(super) const MOST_GROWTH: f64 = 4096.0;

/// By what factor the parts of a normalizer or decoder can lengthen a text, one after the other: a list of
/// replacements that double it exhausts any memory.
pub(super) fn growth(part: &Value) -> f64 {
    let inner = || match part {
        Value::Object(map) => map.values().map(growth).product(),
        Value::Array(list) => list.iter().map(growth).product::<f64>(),
        _ => 1.0,
    };
    match part["type"].as_str() {
        Some("Replace") => {
            // a pattern may match between any two characters, too
            part["content"].as_str().map_or(1.0, |text| text.len() as f64 + 1.0)
        }
        Some("ByteLevel") => 2.0,
        _ => inner(),
    }
}
