//! The methods of Python's types.

use std::rc::Rc;

use super::budget::Budget;
use super::percent;
use super::unicode::{capitalized, has_case, is_space, lines, title};
use super::value::{Given, Loop, Made, Table, Value, same};

/// Arguments by name or place; `None` for one that is not given.
pub(super) fn bind<const N: usize>(what: &str, given: Given, names: [&str; N]) -> Made<[Option<Value>; N]> {
    let mut bound = [const { None }; N];
    let many = given.positional.len();
    if many > N {
        return Err(format!("`{what}` takes at most {N} arguments, and {many} are given"));
    }
    for (place, value) in bound.iter_mut().zip(given.positional) {
        *place = Some(value);
    }
    for (name, value) in given.named {
        match names.iter().position(|n| *n == &*name) {
            Some(at) if bound[at].is_none() => bound[at] = Some(value),
            Some(_) => return Err(format!("`{what}` is given `{name}` twice")),
            None => return Err(format!("`{what}` takes no argument `{name}`")),
        }
    }
    Ok(bound)
}

/// An argument that is a text.
pub(super) fn text_of(what: &str, value: Option<&Value>) -> Made<String> {
    match value.and_then(Value::text) {
        Some(text) => Ok(text.to_string()),
        None => Err(format!("`{what}` needs a text, not {}", value.map_or("nothing", Value::kind))),
    }
}

/// An argument that is a whole number.
pub(super) fn whole_of(what: &str, value: Option<&Value>, default: i128) -> Made<i128> {
    match value {
        None => Ok(default),
        Some(value) => {
            value.int().ok_or_else(|| format!("`{what}` needs a whole number, not a value of type {}", value.kind()))
        }
    }
}

pub(super) fn call(budget: &mut Budget, value: &Value, name: &str, given: Given) -> Made<Value> {
    match value {
        Value::Text(text) => {
            budget.make(text.len())?;
            let made = text_method(text, name, given)?;
            budget.made(&made)?;
            Ok(made)
        }
        Value::Marked(_) => Err(format!("`{name}` of text from `escape` or `safe` is not supported")),
        Value::Dict(table) => dict_method(table, name, given),
        Value::Loop(state) => loop_method(state, name, given),
        Value::List(series) | Value::Tuple(series) => match name {
            "copy" => Ok(value.clone()),
            _ => {
                let [wanted] = bind(name, given, [""])?;
                let wanted = wanted.ok_or_else(|| format!("`{name}` needs a value"))?;
                let mut places = series.entries.iter().enumerate().filter(|(_, entry)| same(entry, &wanted));
                match name {
                    "count" => Ok(Value::Int(places.count() as i128)),
                    _ => match places.next() {
                        Some((at, _)) => Ok(Value::Int(at as i128)),
                        None => Err("`index` finds no such value in the list".into()),
                    },
                }
            }
        },
        other => Err(format!("a value of type {} has no method `{name}`", other.kind())),
    }
}

fn dict_method(table: &Rc<Table>, name: &str, given: Given) -> Made<Value> {
    let entries = table.entries.iter();
    let series = |values: Vec<Value>| super::value::Series::new(values);
    match name {
        "get" => {
            let [key, default] = bind("get", given, ["", ""])?;
            let key = key.ok_or("`get` needs a key")?;
            super::value::hashable(&key)?;
            Ok(table.get(&key).cloned().or(default).unwrap_or(Value::None))
        }
        "copy" => Ok(Value::Dict(table.clone())),
        "keys" => Ok(Value::View("dict_keys", series(entries.map(|(key, _)| key.clone()).collect())?)),
        "values" => Ok(Value::View("dict_values", series(entries.map(|(_, value)| value.clone()).collect())?)),
        _ => {
            let pairs: Made<Vec<Value>> =
                entries.map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect();
            Ok(Value::View("dict_items", series(pairs?)?))
        }
    }
}

fn loop_method(state: &Loop, name: &str, given: Given) -> Made<Value> {
    let values = given.positional;
    if name == "cycle" {
        let chosen = state.index.checked_rem(values.len()).and_then(|at| values.get(at));
        return chosen.cloned().ok_or_else(|| "`loop.cycle` needs values".to_string());
    }
    let mut last = state.changed.borrow_mut();
    let unchanged = last
        .as_ref()
        .is_some_and(|last| last.len() == values.len() && last.iter().zip(&values).all(|(a, b)| same(a, b)));
    *last = Some(values);
    Ok(Value::Bool(!unchanged))
}

fn text_method(text: &str, name: &str, given: Given) -> Made<Value> {
    let texts = |parts: Vec<&str>| Value::list(parts.into_iter().map(|part| Value::Text(part.into())).collect());
    let made = |text: String| Ok(Value::Text(text.into()));
    match name {
        "upper" => made(text.to_uppercase()),
        "lower" => made(text.to_lowercase()),
        "title" => made(title(text)),
        "capitalize" => made(capitalized(text)),
        "casefold" if text.is_ascii() => made(text.to_lowercase()),
        "swapcase" => made(
            text.chars()
                .flat_map(|c| match c.is_uppercase() {
                    true => c.to_lowercase().collect::<Vec<_>>(),
                    false => c.to_uppercase().collect(),
                })
                .collect(),
        ),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bind(name, given, [""])?;
            strip(text, chars.as_ref(), name != "rstrip", name != "lstrip").map(|text| Value::Text(text.into()))
        }
        "split" | "rsplit" => {
            let [separator, most] = bind(name, given, ["sep", "maxsplit"])?;
            let most = usize::try_from(whole_of(name, most.as_ref(), -1)?).unwrap_or(usize::MAX);
            texts(match separator {
                None | Some(Value::None) => words(text, most, name == "rsplit"),
                separator => {
                    let separator = text_of(name, separator.as_ref())?;
                    if separator.is_empty() {
                        return Err(format!("`{name}` needs a separator that is not empty"));
                    }
                    let pieces = most.saturating_add(1);
                    if name == "split" {
                        text.splitn(pieces, separator.as_str()).collect()
                    } else {
                        let mut parts: Vec<&str> = text.rsplitn(pieces, separator.as_str()).collect();
                        parts.reverse();
                        parts
                    }
                }
            })
        }
        "splitlines" => {
            let [keep] = bind(name, given, ["keepends"])?;
            texts(lines(text, keep.is_some_and(|keep| keep.truth())))
        }
        "partition" | "rpartition" => {
            let [separator] = bind(name, given, [""])?;
            let separator = text_of(name, separator.as_ref())?;
            if separator.is_empty() {
                return Err(format!("`{name}` needs a separator that is not empty"));
            }
            let found = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
            let parts = match found {
                Some((before, behind)) => [before, &separator, behind],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::tuple(parts.map(|part| Value::Text(part.into())).to_vec())
        }
        "removeprefix" | "removesuffix" => {
            let [part] = bind(name, given, [""])?;
            let part = text_of(name, part.as_ref())?;
            let rest = if name == "removeprefix" { text.strip_prefix(&*part) } else { text.strip_suffix(&*part) };
            made(rest.unwrap_or(text).to_string())
        }
        "replace" => {
            let [old, new, count] = bind(name, given, ["", "", "count"])?;
            let (old, new) = (text_of(name, old.as_ref())?, text_of(name, new.as_ref())?);
            replace(text, &old, &new, whole_of(name, count.as_ref(), -1)?).map(|text| Value::Text(text.into()))
        }
        "join" => {
            let [parts] = bind(name, given, [""])?;
            let parts = parts.ok_or("`join` needs a list")?.iterate()?;
            let parts: Made<Vec<String>> = parts.iter().map(|part| text_of("join", Some(part))).collect();
            made(parts?.join(text))
        }
        "startswith" | "endswith" => {
            let [part, start, end] = bind(name, given, ["", "", ""])?;
            let Some((text, _)) = between(text, start, end)? else { return Ok(Value::Bool(false)) };
            let parts = match &part {
                Some(Value::Tuple(series)) => series.entries.clone(),
                part => part.iter().cloned().collect(),
            };
            let fits = |part: &Value| {
                let part = text_of(name, Some(part))?;
                Ok::<bool, String>(if name == "startswith" { text.starts_with(&part) } else { text.ends_with(&part) })
            };
            if parts.is_empty() && part.is_none() {
                return Err(format!("`{name}` needs a text"));
            }
            let fits: Made<Vec<bool>> = parts.iter().map(fits).collect();
            Ok(Value::Bool(fits?.contains(&true)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = bind(name, given, ["", "", ""])?;
            let part = text_of(name, part.as_ref())?;
            let within = between(text, start, end)?;
            if name == "count" {
                return Ok(Value::Int(within.map_or(0, |(text, _)| text.matches(&*part).count()) as i128));
            }
            let place = within.and_then(|(text, before)| {
                let at = if name.starts_with('r') { text.rfind(&*part) } else { text.find(&*part) };
                at.map(|at| before + text[..at].chars().count())
            });
            match place {
                Some(at) => Ok(Value::Int(at as i128)),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => Err(format!("`{name}` finds no such text")),
            }
        }
        "format" => made(percent::fields(text, &given)?),
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = bind(name, given, ["", ""])?;
            let width = whole_of(name, width.as_ref(), 0)?;
            let fill = fill.map_or(Ok(" ".to_string()), |fill| text_of(name, Some(&fill)))?;
            pad(text, name, width, &fill).map(|text| Value::Text(text.into()))
        }
        _ => class(text, name).map(Value::Bool),
    }
}

/// Cuts white space, or any of `chars`, off the ends.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&Value>, left: bool, right: bool) -> Made<&'a str> {
    let chars = match chars {
        None | Some(Value::None) => None,
        chars => Some(text_of("strip", chars)?),
    };
    let cut = |c: char| chars.as_ref().map_or(is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(cut) } else { text };
    Ok(if right { text.trim_end_matches(cut) } else { text })
}

/// `str.split()`: words between white space, at most `most` splits.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = if from_end { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) };
    while !rest.is_empty() && found.len() < most {
        let split = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = split else { break };
        let (before, behind) = rest.split_at(at);
        if from_end {
            found.push(behind.trim_start_matches(is_space));
            rest = before.trim_end_matches(is_space);
        } else {
            found.push(before);
            rest = behind.trim_start_matches(is_space);
        }
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    if from_end {
        found.reverse();
    }
    found
}

/// `str.replace`; a negative count replaces all.
pub(super) fn replace(text: &str, old: &str, new: &str, count: i128) -> Made<String> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    if text.matches(old).take(most).count().saturating_mul(new.len()) > 1 << 28 {
        return Err("`replace` makes a text that is too long".into());
    }
    Ok(text.replacen(old, new, most))
}

/// The stretch of a text between two places, in characters, and the number of characters before it.
fn between(text: &str, start: Option<Value>, end: Option<Value>) -> Made<Option<(&str, usize)>> {
    if start.is_none() && end.is_none() {
        return Ok(Some((text, 0)));
    }
    let length = text.chars().count() as i128;
    let place = |value: Option<Value>, default: i128| {
        let at = match value {
            Some(Value::None) => default,
            value => whole_of("a method of texts", value.as_ref(), default)?,
        };
        Ok::<i128, String>((if at < 0 { at.saturating_add(length) } else { at }).max(0))
    };
    let (start, end) = (place(start, 0)?, place(end, length)?.min(length));
    if start > end {
        return Ok(None);
    }
    let byte = |at: i128| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((&text[byte(start)..byte(end)], start as usize)))
}

/// `center`, `ljust`, `rjust`, `zfill`.
pub(super) fn pad(text: &str, name: &str, width: i128, fill: &str) -> Made<String> {
    let length = text.chars().count();
    let width = usize::try_from(width.max(0)).ok().filter(|&width| width <= 1 << 24);
    let missing = width.ok_or_else(|| format!("`{name}` makes a text that is too long"))?.saturating_sub(length);
    if fill.chars().count() != 1 {
        return Err(format!("`{name}` fills with one character"));
    }
    if name == "zfill" {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
        return Ok(format!("{sign}{}{digits}", "0".repeat(missing)));
    }
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one to the left where the width is odd
        _ => missing / 2 + (missing & (length + missing) & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

/// `isalpha` and its kin. Rust has not all of Python's classes; a text that would need them is refused.
fn class(text: &str, name: &str) -> Made<bool> {
    let all = |fits: fn(char) -> bool| !text.is_empty() && text.chars().all(fits);
    Ok(match name {
        "isascii" => text.is_ascii(),
        "isspace" => all(is_space),
        "isupper" => has_case(text, true),
        "islower" => has_case(text, false),
        "isprintable" => text.chars().all(super::spell::prints),
        "isalpha" | "isalnum" | "isdigit" | "isdecimal" | "isnumeric" => {
            if text.chars().any(|c| !c.is_ascii() && (c.is_numeric() || c.is_alphabetic() && !plain_letter(c))) {
                return Err(format!("`{name}` is not supported for this text"));
            }
            match name {
                "isalpha" => all(char::is_alphabetic),
                "isalnum" => all(char::is_alphanumeric),
                _ => all(|c| c.is_ascii_digit()),
            }
        }
        other => return Err(format!("`{other}` is not supported for this text")),
    })
}

/// Letters of which Rust's and Python's classes agree: in Python's, marks and letter-like numbers are none.
fn plain_letter(c: char) -> bool {
    let without_case =
        ['\u{5d0}'..='\u{5ea}', '\u{3041}'..='\u{3096}', '\u{30a1}'..='\u{30fa}', '\u{4e00}'..='\u{9fff}'];
    c.is_lowercase() || c.is_uppercase() || without_case.iter().any(|letters| letters.contains(&c))
}
