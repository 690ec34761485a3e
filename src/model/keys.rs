//! Typed access to the keys of a JSON file: a value is of its type, or it is refused with the file and the key.

use crate::data::json;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::Path;

/// No real dimension is larger; a config that claims more is refused before anything is allocated.
const LARGEST: u64 = 1 << 24;

/// What to do about weights in a format that is not read.
pub(super) const ORIGINAL: &str = "give the 16-bit original, with model.quantization = \"nf4\" if memory is short";

/// The JSON of a file. Python also writes NaN and infinities, which become strings here: a key that needs a number
/// refuses them by name, and [`text`] writes them back as they were.
pub fn read(file: &Path) -> Result<Value> {
    let text = files::read_to_string(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::file(file, "there is no such file; give a directory with config.json and model.safetensors")
        }
        _ => Error::io(file, "read")(e),
    })?;
    json::document(&text).map_err(|e| Error::file(file, format!("not valid JSON ({e}); copy or download it again")))
}

/// The text of a JSON file, indented, with the numbers that JSON lacks as Python writes them.
pub fn text(value: &Value) -> String {
    json::unquoted(&serde_json::to_string_pretty(value).unwrap_or_default()) + "\n"
}

/// The keys of one object. A key that the file lacks has the default that the caller gave; null is a value, which
/// most keys refuse.
pub(super) struct Keys<'a> {
    file: &'a Path,
    map: Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// The keys of `config`, which `file` holds, with `defaults` for absent ones. Each of `aliases` is another name of
    /// a key, which takes precedence over it.
    pub fn new(file: &'a Path, config: &Value, defaults: Value, aliases: &[(&str, &str)]) -> Result<Keys<'a>> {
        let Some(given) = config.as_object() else { return Err(Error::file(file, "expected a JSON object")) };
        let mut map = if let Value::Object(defaults) = defaults { defaults } else { Map::new() };
        map.extend(given.clone());
        for (alias, key) in aliases {
            given.get(*alias).into_iter().for_each(|value| drop(map.insert((*key).into(), value.clone())));
        }
        Ok(Keys { file, map })
    }

    pub fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::file(self.file, why))
    }

    pub fn missing<T>(&self, key: &str) -> Result<T> {
        self.fail(missing(key))
    }

    /// The value of a key, null included.
    pub fn present(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// The value of a key, unless it is null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// All keys with their values.
    pub fn given(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn wrong<T>(&self, key: &str, value: &Value, what: &str) -> Result<T> {
        self.fail(format!("`{key}` is {value}, expected {what}"))
    }

    /// A value that may be null or absent.
    pub fn optional<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map_or_else(|| self.wrong(key, value, what), |x| Ok(Some(x)))
    }

    /// A value that must be there, or have a default.
    pub fn required<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        match self.present(key) {
            None => self.missing(key),
            Some(value) => read(value).map_or_else(|| self.wrong(key, value, what), Ok),
        }
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.required(key, SIZE, size)
    }

    pub fn size_or_null(&self, key: &str) -> Result<Option<usize>> {
        self.optional(key, SIZE, size)
    }

    /// A count, which may be 0.
    pub fn count(&self, key: &str) -> Result<u64> {
        self.required(key, "a whole number", Value::as_u64)
    }

    pub fn number(&self, key: &str) -> Result<f64> {
        self.required(key, "a finite number", finite)
    }

    /// A dropout rate, which several classes of transformers let be null.
    pub fn rate(&self, key: &str) -> Result<f64> {
        Ok(self.optional(key, "a finite number", finite)?.unwrap_or(0.0))
    }

    /// The summand of a variance.
    pub fn epsilon(&self, key: &str) -> Result<f64> {
        self.required(key, "a finite number, at least 0", |v| finite(v).filter(|x| *x >= 0.0))
    }

    pub fn positive(&self, key: &str) -> Result<f64> {
        self.required(key, "a positive number", |v| finite(v).filter(|x| *x > 0.0))
    }

    pub fn flag(&self, key: &str) -> Result<bool> {
        self.required(key, "true or false", Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        match self.present(key) {
            None => self.missing(key),
            Some(value) => value.as_str().map_or_else(|| self.wrong(key, value, "a string"), Ok),
        }
    }

    /// Token ids: one, a list, or none for null and for an absent key.
    pub fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = self.optional(key, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default())
    }
}

/// The message for a key that a config should have.
pub(super) fn missing(key: &str) -> String {
    format!("key `{key}` is missing; is this the config.json of a causal language model?")
}

const SIZE: &str = "a whole number from 1 to 16777216";

fn size(value: &Value) -> Option<usize> {
    value.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize)
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_are_read_and_written_as_python_has_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("config.json");
        let given = "{\n  \"a\": NaN,\n  \"b\": [\n    -Infinity,\n    \"x: NaN\"\n  ],\n  \"c\": Infinity\n}\n";
        std::fs::write(&file, given).expect("writes");
        let value = read(&file).expect("reads");
        assert_eq!(text(&value), given);
        let keys = Keys::new(&file, &value, Value::Null, &[]).expect("an object");
        let why = keys.number("a").expect_err("no number").to_string();
        assert!(why.ends_with("config.json: `a` is \"NaN\", expected a finite number"), "{why}");
    }
}
