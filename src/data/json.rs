//! One line of JSONL as an object, with errors that a user can act on.

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::IGNORE;

/// A JSON object, its keys in the order of the file.
pub(crate) type Object = Map<String, Value>;

/// The object in one line. The error is a sentence about the line.
///
/// Python writes the numbers that JSON lacks (NaN, Infinity, -Infinity) as bare words. They are read as strings, so
/// that the key where one of them matters can refuse it by name.
pub(crate) fn object(line: &str) -> Result<Object, String> {
    if line.trim_start().starts_with('[') {
        let why = "the line begins a JSON list; write one object per line, as `jq -c '.[]' FILE` does";
        return Err(why.to_string());
    }
    let parsed = serde_json::from_str::<Unique>(line).or_else(|e| match quote_infinities(line) {
        Some(quoted) => serde_json::from_str(&quoted),
        None => Err(e),
    });
    parsed.map(|unique| unique.0).map_err(|e| {
        let (text, column) = (e.to_string(), e.column());
        let what = text.split(" at line ").next().unwrap_or_default();
        match e.classify() {
            serde_json::error::Category::Data => what.to_string(),
            _ if line.trim_end().contains('\r') => {
                "lines end in a carriage return alone; convert the file: `tr '\\r' '\\n' < FILE > NEW`".to_string()
            }
            _ if SURROGATE.contains(&what) => format!(
                "half of a character stands as a `\\u` escape at column {column} (a lone surrogate, which is no text); \
                 mend the text in Python: `text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`"
            ),
            _ => format!("not valid JSON ({what} at column {column}); each line must hold one whole object {{...}}"),
        }
    })
}

/// A whole JSON document. The numbers that JSON lacks are read as strings, as [`object`] reads them.
pub(crate) fn document(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
        .or_else(|e| quote_infinities(text).map_or(Err(e), |quoted| serde_json::from_str(&quoted)))
}

/// Indented JSON with the strings that [`document`] made of numbers as bare words again.
pub(crate) fn unquoted(pretty: &str) -> String {
    let line = |line: &str| {
        let (body, comma) = line.strip_suffix(',').map_or((line, ""), |body| (body, ","));
        let start = body.find("\": ").map_or(body.len() - body.trim_start().len(), |at| at + 3);
        let word = body[start..].strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match word.filter(|word| BARE.contains(word)) {
            Some(word) => format!("{}{word}{comma}", &body[..start]),
            None => line.to_string(),
        }
    };
    pretty.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The value of a key; null is what table exports write for an absent one.
pub(crate) fn given<'a>(row: &'a Object, key: &str) -> Option<&'a Value> {
    row.get(key).filter(|value| !value.is_null())
}

/// The string under a key, if it is given.
pub(crate) fn text<'a>(row: &'a Object, key: &str) -> Result<Option<&'a str>, String> {
    let string = |v: &'a Value| v.as_str().ok_or_else(|| format!("`{key}` must be a string, not {}", brief(v)));
    given(row, key).map(string).transpose()
}

/// A value as a list.
pub(crate) fn list<'a>(key: &str, value: &'a Value) -> Result<&'a [Value], String> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| format!("`{key}` must be a list with one entry per token, not {}", brief(value)))
}

/// A value as a token id.
pub(crate) fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id != IGNORE)
}

/// A finite number that fits into 32 bits of floating point.
pub(crate) fn weight(value: &Value) -> Result<f32, String> {
    let weight = value.as_f64().map(|w| w as f32).filter(|w| w.is_finite());
    weight.ok_or_else(|| match value {
        Value::String(s) if BARE.contains(&s.as_str()) => format!("the weight {s} is not a finite number"),
        _ => format!("the weight {} is not a finite number", brief(value)),
    })
}

/// A flag as true, false, 0 or 1.
pub(crate) fn flag(value: &Value) -> Option<bool> {
    match (value.as_bool(), value.as_u64()) {
        (Some(flag), _) => Some(flag),
        (_, Some(0)) => Some(false),
        (_, Some(1)) => Some(true),
        _ => None,
    }
}

/// A value for an error message: in full if it is short, else its type.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "an object".to_string(),
        Value::String(s) if s.chars().count() > 20 => "a string".to_string(),
        other => other.to_string(),
    }
}

/// What the parser says of a surrogate without its other half.
const SURROGATE: [&str; 2] = ["lone leading surrogate in hex escape", "unexpected end of hex escape"];

const BARE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The line with bare words for numbers that JSON lacks, and numbers too large for f64, put in quotes; `None` if it
/// has neither.
fn quote_infinities(line: &str) -> Option<String> {
    let mut quoted = String::with_capacity(line.len() + 16);
    let mut rest = line;
    let mut found = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            'N' | 'I' | '-' | '0'..='9' => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (word, tail) = rest.split_at_checked(length)?;
        let infinite = || first != 'I' && first != 'N' && word.parse::<f64>().is_ok_and(f64::is_infinite);
        if BARE.contains(&word) || infinite() {
            found = true;
            quoted.extend(["\"", word, "\""]);
        } else {
            quoted.push_str(word);
        }
        rest = tail;
    }
    found.then_some(quoted)
}

/// Bytes of the string literal that `text` begins with, quotes included; all of it if the literal does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A map that refuses a key given twice, at any depth, where the usual one silently keeps the last.
struct Unique(Object);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_map(Keys).map(Unique)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("one object {...} per line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
        let mut map = Object::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` is given twice; keep one of them")));
            }
            map.insert(key, entries.next_value::<Inner>()?.0);
        }
        Ok(map)
    }
}

/// Any value whose maps are such maps.
struct Inner(Value);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Inner, D::Error> {
        deserializer.deserialize_any(Values).map(Inner)
    }
}

struct Values;

macro_rules! scalars {
    ($($visit:ident: $T:ty),+) => {$(
        fn $visit<E>(self, scalar: $T) -> Result<Value, E> {
            Ok(scalar.into())
        }
    )+};
}

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    scalars! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Inner(value)) = entries.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        Keys.visit_map(entries).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_say_what_is_wrong() {
        for (line, why) in [
            ("{\"a\": }", "not valid JSON (expected value at column 7); each line must hold one whole object {...}"),
            (
                "{\"a\": [1",
                "not valid JSON (EOF while parsing a list at column 8); each line must hold one whole object {...}",
            ),
            ("[1, 2]", "the line begins a JSON list; write one object per line, as `jq -c '.[]' FILE` does"),
            ("7", "invalid type: integer `7`, expected one object {...} per line"),
            ("{\"a\": 1, \"a\": 2}", "the key `a` is given twice; keep one of them"),
            ("{\"a\": [{\"b\": 1, \"c\": {\"d\": 1, \"d\": 1}}]}", "the key `d` is given twice; keep one of them"),
            ("{\"a\": nan}", "not valid JSON (expected ident at column 8); each line must hold one whole object {...}"),
        ] {
            assert_eq!(object(line).unwrap_err(), why);
        }
    }

    #[test]
    fn halves_of_characters_and_lone_carriage_returns_have_remedies() {
        for text in [r"\ud83d", r"\ud83dx", r"\udc00", r"\ud83d\u0041", r"\ud83d\n", r"\ud83d\ud83d"] {
            let why = object(&format!("{{\"a\": \"{text}\"}}")).unwrap_err();
            assert!(why.starts_with("half of a character stands as a `\\u` escape at column "), "{text}: {why}");
        }
        assert_eq!(object(r#"{"a": "\ud83d\ude00"}"#).unwrap()["a"], json!("😀"));
        let why = "lines end in a carriage return alone; convert the file: `tr '\\r' '\\n' < FILE > NEW`";
        assert_eq!(object("{\"a\": 1}\r{\"a\": 2}").unwrap_err(), why);
        assert!(object("{\"a\": 1}\r").is_ok());
    }

    #[test]
    fn numbers_that_json_lacks_are_named() {
        let row = object(r#"{"a": [NaN, -Infinity,Infinity], "b": "NaN \" NaN", "c": 1e999, "d": -3}"#).unwrap();
        assert_eq!(row["a"], json!(["NaN", "-Infinity", "Infinity"]));
        assert_eq!(row["b"], json!("NaN \" NaN"));
        assert_eq!(weight(&row["a"][0]).unwrap_err(), "the weight NaN is not a finite number");
        assert_eq!(weight(&row["c"]).unwrap_err(), "the weight \"1e999\" is not a finite number");
        assert_eq!(weight(&json!(1e39)).unwrap_err(), "the weight 1e+39 is not a finite number");
        assert_eq!(weight(&json!("2")).unwrap_err(), "the weight \"2\" is not a finite number");
        assert_eq!(weight(&row["d"]), Ok(-3.0));
        assert_eq!(object("{\"a\": NaN").unwrap_err().split(" (").next(), Some("not valid JSON"));
    }

    #[test]
    fn values_are_those_of_the_line() {
        let line =
            r#"{"b": [1, -2, 1.5, 18446744073709551615, true, null, "é\n", {}], "a": {"z": [[]], "y": {"x": 0}}}"#;
        assert_eq!(Value::Object(object(line).unwrap()).to_string(), line.replace("\": ", "\":").replace(", ", ","));
    }

    #[test]
    fn flags_are_booleans_or_bits() {
        assert_eq!(
            [json!(true), json!(0), json!(1), json!(2), json!("1")].map(|v| flag(&v)),
            [Some(true), Some(false), Some(true), None, None]
        );
    }
}
