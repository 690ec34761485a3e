//! Values as Python writes them: `repr`, `json.dumps`.

use super::ast::Text;
use super::value::{Made, Value};

impl Value {
    /// `str(value)`.
    pub fn print(&self) -> Made<Text> {
        match self {
            Value::Undefined(_) => Ok("".into()),
            Value::Text(text) | Value::Marked(text) => Ok(text.clone()),
            value => {
                let mut spelled = String::new();
                repr(value, &mut spelled)?;
                Ok(spelled.into())
            }
        }
    }
}

/// `repr(value)`, appended.
pub(super) fn repr(value: &Value, to: &mut String) -> Made<()> {
    let mut list = |open: &str, entries: &[Value], close: &str| {
        to.push_str(open);
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                to.push_str(", ");
            }
            repr(entry, to)?;
        }
        to.push_str(close);
        Ok(())
    };
    match value {
        Value::Undefined(_) => to.push_str("Undefined"),
        Value::None => to.push_str("None"),
        Value::Bool(flag) => to.push_str(if *flag { "True" } else { "False" }),
        Value::Int(value) => to.push_str(&value.to_string()),
        Value::Float(value) => to.push_str(&float(*value)),
        Value::Text(text) => quote(text, to),
        Value::Marked(text) => {
            to.push_str("Markup(");
            quote(text, to);
            to.push(')');
        }
        Value::List(series) => return list("[", &series.entries, "]"),
        Value::Tuple(series) => return list("(", &series.entries, if series.entries.len() == 1 { ",)" } else { ")" }),
        Value::View(kind, series) => return list(&format!("{kind}(["), &series.entries, "])"),
        Value::Range([start, stop, 1], _) => to.push_str(&format!("range({start}, {stop})")),
        Value::Range([start, stop, step], _) => to.push_str(&format!("range({start}, {stop}, {step})")),
        Value::Dict(table) => {
            to.push('{');
            for (i, (key, value)) in table.entries.iter().enumerate() {
                if i > 0 {
                    to.push_str(", ");
                }
                repr(key, to)?;
                to.push_str(": ");
                repr(value, to)?;
            }
            to.push('}');
        }
        Value::Macro(closure) => to.push_str(&format!("<Macro '{}'>", closure.made.name)),
        // what Python writes for these depends on addresses in memory
        other => return Err(format!("a value of type {} cannot be printed", other.kind())),
    }
    Ok(())
}

/// A text in quotes: single ones, unless it holds such and no double ones.
fn quote(text: &str, to: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    to.push(mark);
    for c in text.chars() {
        match c {
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            '\\' => to.push_str("\\\\"),
            c if c == mark => to.extend(['\\', c]),
            c if prints(c) => to.push(c),
            c => match u32::from(c) {
                code @ 0..=0xFF => to.push_str(&format!("\\x{code:02x}")),
                code @ 0..=0xFFFF => to.push_str(&format!("\\u{code:04x}")),
                code => to.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    to.push(mark);
}

/// `str.isprintable` of a character. Rust and Python take it from the same classes of Unicode.
pub(super) fn prints(c: char) -> bool {
    // behind another character, marks that combine with it are written as they are
    matches!(c, ' ' | '\'' | '"' | '\\') || format!("a{c}").escape_debug().skip(1).eq([c])
}

/// The shortest text that gives the number back: `0.1`, `1e+16`, `2.5e-07`.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_string();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// How `json.dumps` writes.
pub(super) struct Json {
    pub ascii: bool,
    pub indent: Option<String>,
    pub between: String,
    pub colon: String,
    pub sorted: bool,
}

impl Json {
    /// `json.dumps(value)`, appended; `level` is the number of open brackets.
    pub fn write(&self, value: &Value, level: usize, to: &mut String) -> Made<()> {
        match value {
            Value::None => to.push_str("null"),
            Value::Bool(flag) => to.push_str(if *flag { "true" } else { "false" }),
            Value::Int(value) => to.push_str(&value.to_string()),
            Value::Float(value) => to.push_str(&json_float(*value)),
            Value::Text(text) | Value::Marked(text) => self.quote(text, to),
            Value::List(series) | Value::Tuple(series) => {
                self.list(['[', ']'], &series.entries, level, to, |value, to| self.write(value, level + 1, to))?;
            }
            Value::Dict(table) => {
                let mut entries = Vec::with_capacity(table.entries.len());
                for (key, value) in &table.entries {
                    let name = match key {
                        Value::Text(text) | Value::Marked(text) => text.to_string(),
                        Value::Float(value) => json_float(*value),
                        Value::None | Value::Bool(_) | Value::Int(_) => {
                            let mut name = String::new();
                            self.write(key, 0, &mut name)?;
                            name
                        }
                        other => return Err(format!("a key of type {} cannot be written as JSON", other.kind())),
                    };
                    entries.push((key, name, value));
                }
                if self.sorted {
                    entries = super::value::sort(entries, &|(key, ..)| key, false)?;
                }
                self.list(['{', '}'], &entries, level, to, |(_, name, value), to| {
                    self.quote(name, to);
                    to.push_str(&self.colon);
                    self.write(value, level + 1, to)
                })?;
            }
            Value::Undefined(what) => return Err(format!("{what}, and cannot be written as JSON")),
            other => return Err(format!("a value of type {} cannot be written as JSON", other.kind())),
        }
        Ok(())
    }

    fn list<T>(
        &self, [open, close]: [char; 2], entries: &[T], level: usize, to: &mut String,
        one: impl Fn(&T, &mut String) -> Made<()>,
    ) -> Made<()> {
        let line = |to: &mut String, level: usize| {
            if let Some(indent) = &self.indent {
                to.push('\n');
                to.push_str(&indent.repeat(level));
            }
        };
        to.push(open);
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                to.push_str(&self.between);
            }
            line(to, level + 1);
            one(entry, to)?;
        }
        if !entries.is_empty() {
            line(to, level);
        }
        to.push(close);
        Ok(())
    }

    fn quote(&self, text: &str, to: &mut String) {
        to.push('"');
        for c in text.chars() {
            match c {
                '"' => to.push_str("\\\""),
                '\\' => to.push_str("\\\\"),
                '\n' => to.push_str("\\n"),
                '\r' => to.push_str("\\r"),
                '\t' => to.push_str("\\t"),
                '\u{8}' => to.push_str("\\b"),
                '\u{c}' => to.push_str("\\f"),
                c if c < ' ' || self.ascii && !(' '..='~').contains(&c) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        to.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => to.push(c),
            }
        }
        to.push('"');
    }
}

fn json_float(value: f64) -> String {
    match value {
        value if value.is_finite() => float(value),
        value if value.is_nan() => "NaN".to_string(),
        value if value > 0.0 => "Infinity".to_string(),
        _ => "-Infinity".to_string(),
    }
}
