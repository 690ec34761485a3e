//! The functions that transformers gives to every template.

use std::cell::RefCell;
use std::rc::Rc;

use super::budget::Budget;
use super::date::Date;
use super::value::{Given, Made, Table, Value};

/// Their names.
pub(super) const NAMES: [&str; 8] =
    ["range", "dict", "namespace", "raise_exception", "strftime_now", "lipsum", "cycler", "joiner"];

/// Entries of a `range`, as Jinja's sandbox has it.
const MOST_RANGE: i128 = 100_000;

pub(super) fn call(budget: &mut Budget, date: Date, name: &str, mut given: Given) -> Made<Value> {
    match name {
        "range" => {
            let bounds: Option<Vec<i128>> = given.positional.iter().map(Value::int).collect();
            let (start, stop, step) = match bounds.as_deref() {
                Some(&[stop]) => (0, stop, 1),
                Some(&[start, stop]) => (start, stop, 1),
                Some(&[start, stop, step]) if step != 0 => (start, stop, step),
                _ => return Err("`range` takes one to three whole numbers".into()),
            };
            let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
            let length =
                distance.max(0) / step.saturating_abs() + i128::from(distance.max(0) % step.saturating_abs() != 0);
            if length > MOST_RANGE {
                return Err(format!("a range has more than {MOST_RANGE} entries"));
            }
            budget.make_entries(length as usize)?;
            let entries = (0..length).map(|i| Value::Int(start + i * step)).collect();
            let series = super::value::Series::new(entries)?;
            Ok(Value::Range([start, stop, step], series))
        }
        "dict" | "namespace" => {
            let mut table = match given.positional.as_slice() {
                [] => Table::default(),
                [Value::Dict(table)] => (**table).clone(),
                [pairs] => pairs_of(pairs)?,
                _ => return Err(format!("`{name}` takes at most one value")),
            };
            for (key, value) in given.named.drain(..) {
                table.set(Value::Text(key), value)?;
            }
            if name == "dict" {
                return Ok(Value::Dict(Rc::new(table)));
            }
            for (key, _) in &table.entries {
                check_attribute(key.text().map_or("", |text| text))?;
            }
            Ok(Value::Namespace(Rc::new(RefCell::new(table))))
        }
        "raise_exception" => match given.positional.as_slice() {
            [why] => Err(format!("it refuses: {}", why.print()?)),
            _ => Err("`raise_exception` takes one text".into()),
        },
        "strftime_now" => match given.positional.as_slice() {
            [Value::Text(format)] => Ok(Value::Text(date.format(format)?.into())),
            _ => Err("`strftime_now` takes one text".into()),
        },
        other => Err(format!("the function `{other}` is not supported")),
    }
}

/// A dict from a list of pairs.
pub(super) fn pairs_of(pairs: &Value) -> Made<Table> {
    let mut table = Table::default();
    for pair in pairs.iterate()? {
        let [key, value] = <[Value; 2]>::try_from(pair.iterate()?).map_err(|_| "a dict is made from pairs")?;
        super::value::hashable(&key)?;
        table.set(key, value)?;
    }
    Ok(table)
}

/// Names that begin with an underscore are refused, as transformers does.
pub(super) fn check_attribute(name: &str) -> Made<()> {
    if name.starts_with('_') { Err(format!("the attribute `{name}` of a namespace is not allowed")) } else { Ok(()) }
}
