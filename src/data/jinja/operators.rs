//! Arithmetic, as Python does it.

use super::ast::Operator;
use super::budget::Budget;
use super::percent;
use super::value::{Made, Value};

fn cannot(what: &str, left: &Value, right: &Value) -> String {
    format!("{what} takes no values of type {} and {}", left.kind(), right.kind())
}

const TOO_LARGE: &str = "a whole number has more than 38 digits";

pub(super) fn negative(value: &Value) -> Made<Value> {
    match value.defined()? {
        Value::Float(value) => Ok(Value::Float(-value)),
        value => {
            let whole = value.int().ok_or_else(|| format!("a value of type {} has no negative", value.kind()))?;
            whole.checked_neg().map(Value::Int).ok_or_else(|| TOO_LARGE.to_string())
        }
    }
}

pub(super) fn positive(value: &Value) -> Made<Value> {
    match value.defined()? {
        Value::Float(value) => Ok(Value::Float(*value)),
        value => value.int().map(Value::Int).ok_or_else(|| format!("`+` takes no value of type {}", value.kind())),
    }
}

pub(super) fn binary(budget: &mut Budget, operator: Operator, left: &Value, right: &Value) -> Made<Value> {
    left.defined()?;
    right.defined()?;
    if let Some(done) = texts_and_lists(budget, operator, left, right) {
        return done;
    }
    if let (Some(a), Some(b)) = (left.int(), right.int()) {
        return whole(operator, a, b);
    }
    match (left.number(), right.number()) {
        (Some(a), Some(b)) => float(operator, a, b).map(Value::Float),
        _ => Err(cannot(name(operator), left, right)),
    }
}

fn name(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "`+`",
        Operator::Sub => "`-`",
        Operator::Mul => "`*`",
        Operator::Div => "`/`",
        Operator::FloorDiv => "`//`",
        Operator::Mod => "`%`",
        Operator::Pow => "`**`",
    }
}

/// The operations on texts and lists; `None` where both are numbers.
fn texts_and_lists(budget: &mut Budget, operator: Operator, left: &Value, right: &Value) -> Option<Made<Value>> {
    if matches!(left, Value::Marked(_)) || matches!(right, Value::Marked(_)) {
        return Some(Err(format!("{} on text from `escape` or `safe` is not supported", name(operator))));
    }
    let done = match (operator, left, right) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => {
            budget.make(a.len() + b.len()).map(|()| Value::Text(format!("{a}{b}").into()))
        }
        (Operator::Mod, Value::Text(format), values) => percent::format(format, values).and_then(|text| {
            budget.make(text.len())?;
            Ok(Value::Text(text.into()))
        }),
        (Operator::Add, Value::List(a), Value::List(b)) | (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
            budget.make_entries(a.entries.len() + b.entries.len()).and_then(|()| {
                let joined = [a.entries.as_slice(), b.entries.as_slice()].concat();
                if matches!(left, Value::List(_)) { Value::list(joined) } else { Value::tuple(joined) }
            })
        }
        (Operator::Mul, many, times) | (Operator::Mul, times, many)
            if matches!(many, Value::Text(_) | Value::List(_) | Value::Tuple(_)) && times.int().is_some() =>
        {
            let times = usize::try_from(times.int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            let counted = match many {
                Value::Text(text) => budget.make(text.len().saturating_mul(times)),
                many => budget.make_entries(many.length().unwrap_or(0).saturating_mul(times)),
            };
            counted.and_then(|()| match many {
                Value::Text(text) => Ok(Value::Text(text.repeat(if text.is_empty() { 0 } else { times }).into())),
                Value::List(series) => Value::list(repeated(&series.entries, times)),
                Value::Tuple(series) => Value::tuple(repeated(&series.entries, times)),
                _ => Err(cannot("`*`", left, right)),
            })
        }
        _ => return None,
    };
    Some(done)
}

fn repeated(entries: &[Value], times: usize) -> Vec<Value> {
    let length = entries.len() * if entries.is_empty() { 0 } else { times };
    entries.iter().cycle().take(length).cloned().collect()
}

fn whole(operator: Operator, a: i128, b: i128) -> Made<Value> {
    let divisor = || if b == 0 { Err("a division by zero".to_string()) } else { Ok(()) };
    let floor = |a: i128, b: i128| a.div_euclid(b) - i128::from(b < 0 && a.rem_euclid(b) != 0);
    let value = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mul => a.checked_mul(b),
        Operator::Div => {
            divisor()?;
            return Ok(Value::Float(a as f64 / b as f64));
        }
        Operator::FloorDiv => {
            divisor()?;
            Some(if b == -1 { a.checked_neg().ok_or(TOO_LARGE)? } else { floor(a, b) })
        }
        Operator::Mod => {
            divisor()?;
            Some(if b == -1 { 0 } else { a - floor(a, b) * b })
        }
        Operator::Pow if b < 0 => return float(operator, a as f64, b as f64).map(Value::Float),
        Operator::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    value.map(Value::Int).ok_or_else(|| TOO_LARGE.to_string())
}

fn float(operator: Operator, a: f64, b: f64) -> Made<f64> {
    if b == 0.0 && matches!(operator, Operator::Div | Operator::FloorDiv | Operator::Mod) {
        return Err("a division by zero".into());
    }
    // the remainder has the sign of the divisor
    let remainder = || {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    };
    Ok(match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
        Operator::FloorDiv => ((a - remainder()) / b).round(),
        Operator::Mod => remainder(),
        Operator::Pow => {
            if a == 0.0 && b < 0.0 {
                return Err("a division by zero".into());
            }
            if a < 0.0 && b.fract() != 0.0 {
                return Err("a root of a negative number is not supported".into());
            }
            a.powf(b)
        }
    })
}

/// `left % right` of numbers.
pub(super) fn remainder(left: &Value, right: &Value) -> Made<Value> {
    left.defined()?;
    right.defined()?;
    match (left.int(), right.int(), left.number(), right.number()) {
        (Some(a), Some(b), ..) => whole(Operator::Mod, a, b),
        (.., Some(a), Some(b)) => float(Operator::Mod, a, b).map(Value::Float),
        _ => Err(cannot("`%`", left, right)),
    }
}
