//! Attributes, items and slices of values, as Jinja's sandbox looks them up.

use std::rc::Rc;

use super::value::{Loop, Made, Value};

const TEXT: [&str; 41] = [
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "casefold",
    "isprintable",
    "expandtabs",
];
const TEXT_OTHERS: [&str; 6] = ["encode", "format_map", "isidentifier", "istitle", "maketrans", "translate"];
const DICT: [&str; 5] = ["get", "items", "keys", "values", "copy"];
const DICT_OTHERS: [&str; 6] = ["clear", "fromkeys", "pop", "popitem", "setdefault", "update"];
const LIST: [&str; 3] = ["count", "index", "copy"];
const LIST_OTHERS: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const NUMBER_OTHERS: [&str; 11] = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "fromhex",
    "hex",
    "imag",
    "is_integer",
    "numerator",
    "real",
];

/// Whether Python's type has this attribute; fails for one that is not supported.
fn has(value: &Value, name: &str) -> Made<bool> {
    let (known, others): (&[&str], &[&str]) = match value {
        Value::Text(_) | Value::Marked(_) => (&TEXT, &TEXT_OTHERS),
        Value::Dict(_) => (&DICT, &DICT_OTHERS),
        Value::List(_) => (&LIST, &LIST_OTHERS),
        Value::Tuple(_) => (&LIST[..2], &[]),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => (&[], &NUMBER_OTHERS),
        Value::Range(..) => (&[], &["count", "index", "start", "step", "stop"]),
        Value::View(..) => (&[], &["isdisjoint", "mapping"]),
        Value::Generator(_) => (&[], &["close", "send", "throw"]),
        _ => (&[], &[]),
    };
    if others.contains(&name) {
        return Err(format!("`{name}` of a value of type {} is not supported", value.kind()));
    }
    Ok(known.contains(&name))
}

/// `value.name`: an attribute or method of the Python type, else the entry under that key.
pub(super) fn attribute(value: &Value, name: &super::ast::Text) -> Made<Value> {
    value.defined()?;
    if let Some(found) = own(value, name)? {
        return Ok(found);
    }
    if let Some(found) = entry(value, name) {
        return Ok(found);
    }
    Ok(Value::undefined(format!("a value of type {} has no attribute `{name}`", value.kind())))
}

/// `value[index]`: the entry, else an attribute.
pub(super) fn item(value: &Value, index: &Value) -> Made<Value> {
    value.defined()?;
    let found = match (value, index) {
        (Value::Dict(table), key) => table.get(key).cloned(),
        (Value::Text(text) | Value::Marked(text), index) => index.int().and_then(|index| {
            let at = position(index, text.chars().count())?;
            text.chars().nth(at).map(|c| Value::Text(c.to_string().into()))
        }),
        (Value::List(series) | Value::Tuple(series) | Value::Range(_, series), index) => {
            index.int().and_then(|index| series.entries.get(position(index, series.entries.len())?).cloned())
        }
        _ => None,
    };
    if let Some(found) = found {
        return Ok(found);
    }
    if let Some(name) = index.text()
        && let Some(found) = own(value, name)?
    {
        return Ok(found);
    }
    let mut spelled = String::new();
    super::spell::repr(index, &mut spelled)?;
    Ok(Value::undefined(format!("a value of type {} has no element {spelled}", value.kind())))
}

fn entry(value: &Value, name: &str) -> Option<Value> {
    match value {
        Value::Dict(table) => table.get_text(name).cloned(),
        _ => None,
    }
}

/// What Python's type itself has under a name.
fn own(value: &Value, name: &super::ast::Text) -> Made<Option<Value>> {
    match value {
        Value::Namespace(table) => return Ok(table.borrow().get_text(name).cloned()),
        Value::Loop(state) => return of_loop(value, state, name),
        Value::Macro(closure) => {
            return Ok(match &**name {
                "name" => Some(Value::Text(closure.made.name.clone())),
                "arguments" => {
                    let names = closure.made.parameters.iter().map(|name| Value::Text(name.clone()));
                    Some(Value::tuple(names.collect())?)
                }
                "catch_varargs" => Some(Value::Bool(closure.made.reads[0])),
                "catch_kwargs" => Some(Value::Bool(closure.made.reads[1])),
                "caller" => Some(Value::Bool(closure.made.reads[2])),
                _ => None,
            });
        }
        _ => {}
    }
    if name.starts_with("__") {
        return Ok(Some(Value::undefined(format!("the attribute `{name}` is not safe"))));
    }
    Ok(has(value, name)?.then(|| Value::Method(Rc::new((value.clone(), name.clone())))))
}

fn of_loop(value: &Value, state: &Loop, name: &super::ast::Text) -> Made<Option<Value>> {
    let (index, length) = (state.index, state.items.entries.len());
    let whole = |value: usize| Value::Int(value as i128);
    let neighbour = |at: Option<usize>, which: &str| {
        let item = at.and_then(|at| state.items.entries.get(at)).cloned();
        item.unwrap_or_else(|| Value::undefined(format!("there is no {which} item")))
    };
    Ok(Some(match &**name {
        "index" => whole(index + 1),
        "index0" => whole(index),
        "revindex" => whole(length - index),
        "revindex0" => whole(length - index - 1),
        "length" => whole(length),
        "depth" => whole(state.depth),
        "depth0" => whole(state.depth - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "previtem" => neighbour(index.checked_sub(1), "previous"),
        "nextitem" => neighbour(Some(index + 1), "next"),
        "cycle" | "changed" => Value::Method(Rc::new((value.clone(), name.clone()))),
        _ => return Ok(None),
    }))
}

/// The place of an index that may count from the end.
fn position(index: i128, length: usize) -> Option<usize> {
    let at = if index < 0 { index + length as i128 } else { index };
    usize::try_from(at).ok()
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Made<Value> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err("the step of a slice is 0".into());
    }
    let chosen = |length: usize| {
        let length = length as i128;
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |at: i128| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        let (mut at, stop) = (start.map_or(first, clamp), stop.map_or(last, clamp));
        let mut places = Vec::new();
        while if step > 0 { at < stop } else { at > stop } {
            places.push(at as usize);
            at = at.saturating_add(step);
        }
        places
    };
    match value.defined()? {
        Value::Text(text) => {
            let characters: Vec<char> = text.chars().collect();
            let cut: String = chosen(characters.len()).into_iter().map(|at| characters[at]).collect();
            Ok(Value::Text(cut.into()))
        }
        Value::List(series) | Value::Tuple(series) => {
            let cut: Vec<Value> =
                chosen(series.entries.len()).into_iter().map(|at| series.entries[at].clone()).collect();
            if matches!(value, Value::List(_)) { Value::list(cut) } else { Value::tuple(cut) }
        }
        other => Err(format!("a slice of a value of type {} is not supported", other.kind())),
    }
}
