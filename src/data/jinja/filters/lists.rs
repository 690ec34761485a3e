//! What the filters of lists share.

use super::super::access;
use super::super::budget::Budget;
use super::super::checks;
use super::super::methods::{bind, text_of, whole_of};
use super::super::value::{Given, Made, Value, sort};
use super::apply;

/// The value at a path of attributes, `a.b.0`; `None` is the value itself.
pub(super) fn reach(value: &Value, path: Option<&Value>, default: Option<&Value>) -> Made<Value> {
    let mut value = value.clone();
    let keys = match path {
        None | Some(Value::None) => return Ok(value),
        Some(Value::Text(path)) => path.split('.').map(key_of).collect(),
        Some(other) => vec![other.clone()],
    };
    for key in &keys {
        value = access::item(&value, key)?;
        if let (Value::Undefined(_), Some(default)) = (&value, default) {
            value = default.clone();
        }
    }
    Ok(value)
}

fn key_of(part: &str) -> Value {
    match part.parse() {
        Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(index),
        _ => Value::Text(part.into()),
    }
}

/// The values at several paths, `a,b`, as one key to sort by.
pub(super) fn reach_all(value: &Value, paths: Option<&Value>) -> Made<Value> {
    match paths {
        Some(Value::Text(paths)) if paths.contains(',') => {
            let values = paths.split(',').map(|path| reach(value, Some(&Value::Text(path.into())), None));
            Value::list(values.collect::<Made<_>>()?)
        }
        path => reach(value, path, None),
    }
}

pub(super) fn without_case(value: Value, cased: bool) -> Value {
    match value {
        Value::Text(text) if !cased => Value::Text(text.to_lowercase().into()),
        value => value,
    }
}

pub(super) fn sorted(
    entries: Vec<Value>, key: impl Fn(&Value) -> Made<Value>, cased: Option<Value>, backwards: bool,
) -> Made<Vec<Value>> {
    let cased = cased.is_some_and(|cased| cased.truth());
    let folded = |key: Value| match &key {
        Value::List(series) => Value::list(series.entries.iter().map(|v| without_case(v.clone(), cased)).collect()),
        _ => Ok(without_case(key, cased)),
    };
    let keyed: Vec<(Value, Value)> =
        entries.into_iter().map(|entry| Ok((folded(key(&entry)?)?, entry))).collect::<Made<_>>()?;
    let keyed = sort(keyed, &|(key, _)| key, backwards)?;
    Ok(keyed.into_iter().map(|(_, entry)| entry).collect())
}

pub(super) fn map(budget: &mut Budget, value: &Value, mut given: Given) -> Made<Value> {
    if given.positional.is_empty() {
        let [attribute, default] = bind("map", given, ["attribute", "default"])?;
        let attribute = attribute.ok_or("`map` needs a filter or an attribute")?;
        let default = default.filter(|default| !matches!(default, Value::None));
        let reached = value.iterate()?.iter().map(|entry| reach(entry, Some(&attribute), default.as_ref())).collect();
        return reached_generator(reached);
    }
    let name = text_of("map", Some(&given.positional.remove(0)))?;
    let mapped: Made<Vec<Value>> = value
        .iterate()?
        .iter()
        .map(|entry| {
            let given = Given { positional: given.positional.clone(), named: given.named.clone() };
            apply(budget, &name, entry, given)
        })
        .collect();
    reached_generator(mapped)
}

fn reached_generator(values: Made<Vec<Value>>) -> Made<Value> {
    values.map(Value::generator)
}

/// `select`, `reject`, `selectattr`, `rejectattr`.
pub(super) fn select(name: &str, value: &Value, given: Given) -> Made<Value> {
    if let Some((name, _)) = given.named.first() {
        return Err(format!("a test takes no argument `{name}`"));
    }
    let mut arguments = given.positional.into_iter();
    let attribute = match name.ends_with("attr") {
        true => Some(arguments.next().ok_or_else(|| format!("`{name}` needs an attribute"))?),
        false => None,
    };
    let test = arguments.next().map(|test| text_of(name, Some(&test))).transpose()?;
    let arguments: Vec<Value> = arguments.collect();
    let mut kept = Vec::new();
    for entry in value.iterate()? {
        let tested = reach(&entry, attribute.as_ref(), None)?;
        let fits = match &test {
            Some(test) => checks::check(test, &tested, &arguments)?,
            None => tested.truth(),
        };
        if fits == name.starts_with("select") {
            kept.push(entry);
        }
    }
    Ok(Value::generator(kept))
}

/// `batch(size)` and `slice(number)`, with a value that fills up the last ones.
pub(super) fn groups(name: &str, value: &Value, given: Given) -> Made<Value> {
    let [size, fill] = bind(name, given, [if name == "batch" { "linecount" } else { "slices" }, "fill_with"])?;
    let size = usize::try_from(whole_of(name, size.as_ref(), 0)?).ok().filter(|size| (1..=1 << 20).contains(size));
    let size = size.ok_or_else(|| format!("`{name}` needs a number above 0"))?;
    let entries = value.iterate()?;
    let mut groups: Vec<Vec<Value>> = Vec::new();
    if name == "batch" {
        groups = entries.chunks(size).map(<[Value]>::to_vec).collect();
        if let (Some(last), Some(fill)) = (groups.last_mut(), fill) {
            last.resize(size, fill);
        }
    } else {
        let (each, longer) = (entries.len() / size, entries.len() % size);
        let mut rest = entries.as_slice();
        for group in 0..size {
            let (now, behind) = rest.split_at(each + usize::from(group < longer));
            rest = behind;
            let mut now = now.to_vec();
            now.extend(fill.clone().filter(|_| group >= longer && !matches!(fill, Some(Value::None))));
            groups.push(now);
        }
    }
    reached_generator(groups.into_iter().map(Value::list).collect())
}
