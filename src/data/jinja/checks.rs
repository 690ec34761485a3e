//! The tests behind `is`.

use super::unicode::has_case;
use super::value::{Made, Value, contains, order, same};

pub(super) fn check(name: &str, value: &Value, arguments: &[Value]) -> Made<bool> {
    let other = || match arguments {
        [other] => Ok(other),
        _ => Err(format!("the test `{name}` takes one argument")),
    };
    let divides = |divisor: &Value| {
        let rest = super::operators::remainder(value, divisor)?;
        Ok::<bool, String>(!rest.truth())
    };
    let ordered = |fits: fn(std::cmp::Ordering) -> bool| Ok::<bool, String>(order(value, other()?)?.is_some_and(fits));
    let text = || value.print().map(|text| text.to_string());
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.number().is_some(),
        "string" => value.text().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => {
            let indexed = matches!(value, Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(..));
            // an undefined value has a length and fails where it is indexed, which counts as having it
            indexed || value.text().is_some() || matches!(value, Value::Undefined(_))
        }
        "iterable" => value.length().is_some() || matches!(value, Value::Generator(_)),
        // an undefined value has the method of a call, which fails
        "callable" => {
            matches!(
                value,
                Value::Undefined(_) | Value::Function(_) | Value::Method(_) | Value::Macro(_) | Value::Loop(_)
            )
        }
        "lower" => has_case(&text()?, false),
        "upper" => has_case(&text()?, true),
        "escaped" => matches!(value, Value::Marked(_)),
        "even" => divides(&Value::Int(2))?,
        "odd" => same(&super::operators::remainder(value, &Value::Int(2))?, &Value::Int(1)),
        "divisibleby" => divides(other()?)?,
        "in" => contains(other()?, value)?,
        "eq" | "equalto" | "==" => same(value, other()?),
        "ne" | "!=" => !same(value, other()?),
        "lt" | "lessthan" | "<" => ordered(std::cmp::Ordering::is_lt)?,
        "le" | "<=" => ordered(std::cmp::Ordering::is_le)?,
        "gt" | "greaterthan" | ">" => ordered(std::cmp::Ordering::is_gt)?,
        "ge" | ">=" => ordered(std::cmp::Ordering::is_ge)?,
        "sameas" => match (value, other()?) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::None | Value::Bool(_), _) | (_, Value::None | Value::Bool(_)) => false,
            _ => return Err("the test `sameas` is supported for none, true and false".into()),
        },
        "filter" | "test" => return Err(format!("the test `{name}` is not supported")),
        other => return Err(format!("no test is named `{other}`")),
    })
}
