//! The filters of Jinja 3.1, and transformers' `tojson`.

mod lists;

use std::rc::Rc;

use super::access;
use super::budget::Budget;
use super::methods::{bind, pad, replace, strip, text_of, whole_of};
use super::percent;
use super::spell::Json;
use super::unicode::{capitalized, is_space, lines};
use super::value::{Given, Made, Value, same};
use lists::{groups, map, reach, reach_all, select, sorted, without_case};

/// Filters that exist and are not supported.
const OTHERS: [&str; 8] =
    ["filesizeformat", "forceescape", "groupby", "pprint", "random", "urlize", "wordwrap", "xmlattr"];

/// `value | name(given)`.
pub(super) fn apply(budget: &mut Budget, name: &str, value: &Value, given: Given) -> Made<Value> {
    budget.made(value)?;
    let made = filter(budget, name, value, given)?;
    budget.made(&made)?;
    Ok(made)
}

fn filter(budget: &mut Budget, name: &str, value: &Value, given: Given) -> Made<Value> {
    let text = |made: String| Ok(Value::Text(made.into()));
    // filters of text print what they are given
    let own = || value.print().map(|text| text.to_string());
    match name {
        "default" | "d" => {
            let [default, boolean] = bind(name, given, ["default_value", "boolean"])?;
            let missing = matches!(value, Value::Undefined(_))
                || boolean.is_some_and(|boolean| boolean.truth()) && !value.truth();
            Ok(if missing { default.unwrap_or(Value::Text("".into())) } else { value.clone() })
        }
        "string" => Ok(match value {
            Value::Marked(_) => value.clone(),
            value => Value::Text(value.print()?),
        }),
        "upper" => text(own()?.to_uppercase()),
        "lower" => text(own()?.to_lowercase()),
        "capitalize" => text(capitalized(&own()?)),
        "title" => text(title(&own()?)),
        "trim" => {
            let [chars] = bind(name, given, ["chars"])?;
            text(strip(&own()?, chars.as_ref(), true, true)?.to_string())
        }
        "replace" => {
            let [old, new, count] = bind(name, given, ["old", "new", "count"])?;
            let print = |value: Option<Value>| value.ok_or("`replace` needs two texts")?.print();
            let count = if matches!(count, Some(Value::None)) { None } else { count };
            text(replace(&own()?, &print(old)?, &print(new)?, whole_of(name, count.as_ref(), -1)?)?)
        }
        "center" => {
            let [width] = bind(name, given, ["width"])?;
            text(pad(&own()?, name, whole_of(name, width.as_ref(), 80)?, " ")?)
        }
        "indent" => indent(value, given),
        "truncate" => truncate(value, given),
        "wordcount" => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let words = own()?.split(|c| !word(c)).filter(|word| !word.is_empty()).count();
            Ok(Value::Int(words as i128))
        }
        "striptags" => striptags(&own()?),
        "urlencode" => {
            if value.text().is_none() && value.length().is_some() {
                return Err("`urlencode` of a dict or list is not supported".into());
            }
            let mut encoded = String::new();
            for byte in own()?.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                        encoded.push(byte.into());
                    }
                    byte => encoded.push_str(&format!("%{byte:02X}")),
                }
            }
            text(encoded)
        }
        "escape" | "e" => match value {
            Value::Marked(_) => Ok(value.clone()),
            value => {
                let escaped = value.print()?.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                Ok(Value::Marked(escaped.replace('"', "&#34;").replace('\'', "&#39;").into()))
            }
        },
        "safe" => Ok(Value::Marked(value.print()?)),
        "format" => {
            if !given.named.is_empty() && !given.positional.is_empty() {
                return Err("`format` takes values by place or by name, not both".into());
            }
            let values = if given.named.is_empty() {
                Value::tuple(given.positional)?
            } else {
                let named = given.named.into_iter().map(|(name, value)| (Value::Text(name), value)).collect();
                Value::Dict(Rc::new(super::value::Table::new(named)?))
            };
            text(percent::format(&own()?, &values)?)
        }
        "tojson" => tojson(value, given),
        "length" | "count" => match value.length() {
            Some(length) => Ok(Value::Int(length as i128)),
            None => Err(format!("a value of type {} has no length", value.kind())),
        },
        "int" => {
            let [default, base] = bind(name, given, ["default", "base"])?;
            let base = whole_of(name, base.as_ref(), 10)?;
            to_int(value, base, default.unwrap_or(Value::Int(0)))
        }
        "float" => {
            let [default] = bind(name, given, ["default"])?;
            let number = value.number().or_else(|| parse_float(value.text()?));
            Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "abs" => match value.defined()? {
            Value::Float(value) => Ok(Value::Float(value.abs())),
            value => match value.int() {
                Some(whole) => Ok(Value::Int(whole.checked_abs().ok_or("the number is too large")?)),
                None => Err(format!("`abs` takes no value of type {}", value.kind())),
            },
        },
        "round" => round(value, given),
        "attr" => {
            let [attribute] = bind(name, given, ["name"])?;
            // unlike `.`, it does not look for a key
            match (value, access::attribute(value, &text_of(name, attribute.as_ref())?.into())?) {
                (Value::Dict(_), found) if !matches!(found, Value::Method(_)) => {
                    Ok(Value::undefined("a dict has no attribute of this name"))
                }
                (_, found) => Ok(found),
            }
        }
        "first" => {
            Ok(value.iterate()?.into_iter().next().unwrap_or_else(|| Value::undefined("no first item is there")))
        }
        "last" => match value {
            Value::Generator(_) | Value::Undefined(_) => Err(format!("`last` takes no value of type {}", value.kind())),
            value => Ok(value.iterate()?.pop().unwrap_or_else(|| Value::undefined("no last item is there"))),
        },
        "list" => Value::list(value.iterate()?),
        "items" => match value {
            Value::Undefined(_) => Ok(Value::generator(Vec::new())),
            Value::Dict(table) => {
                let pairs: Made<Vec<Value>> =
                    table.entries.iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect();
                Ok(Value::generator(pairs?))
            }
            other => Err(format!("`items` takes no value of type {}", other.kind())),
        },
        "reverse" => match value {
            Value::Text(text) => Ok(Value::Text(text.chars().rev().collect::<String>().into())),
            value => {
                let mut entries = value.iterate()?;
                entries.reverse();
                Ok(Value::generator(entries))
            }
        },
        "join" => {
            let [between, attribute] = bind(name, given, ["d", "attribute"])?;
            let between = between.map_or(Ok("".into()), |between| between.print())?;
            let parts: Made<Vec<String>> = value
                .iterate()?
                .iter()
                .map(|part| Ok(reach(part, attribute.as_ref(), None)?.print()?.to_string()))
                .collect();
            text(parts?.join(&between))
        }
        "sum" => {
            let [attribute, start] = bind(name, given, ["attribute", "start"])?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for entry in value.iterate()? {
                let entry = reach(&entry, attribute.as_ref(), None)?;
                if entry.text().is_some() || sum.text().is_some() {
                    return Err("`sum` takes no texts; use `join`".into());
                }
                sum = super::operators::binary(budget, super::ast::Operator::Add, &sum, &entry)?;
            }
            Ok(sum)
        }
        "batch" | "slice" => groups(name, value, given),
        "sort" => {
            let [reverse, cased, attribute] = bind(name, given, ["reverse", "case_sensitive", "attribute"])?;
            let key = |entry: &Value| reach_all(entry, attribute.as_ref());
            let backwards = reverse.is_some_and(|reverse| reverse.truth());
            Value::list(sorted(value.iterate()?, key, cased, backwards)?)
        }
        "dictsort" => {
            let [cased, by, reverse] = bind(name, given, ["case_sensitive", "by", "reverse"])?;
            let by = by.map_or(Ok("key".into()), |by| text_of(name, Some(&by)))?;
            let place = match by.as_str() {
                "key" => 0,
                "value" => 1,
                _ => return Err("`dictsort` sorts by \"key\" or \"value\"".into()),
            };
            let Value::Dict(table) = value else { return Err("`dictsort` takes a dict".into()) };
            let pairs: Made<Vec<Value>> =
                table.entries.iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect();
            let key = |pair: &Value| access::item(pair, &Value::Int(place));
            Value::list(sorted(pairs?, key, cased, reverse.is_some_and(|reverse| reverse.truth()))?)
        }
        "min" | "max" => {
            let [cased, attribute] = bind(name, given, ["case_sensitive", "attribute"])?;
            let key = |entry: &Value| reach(entry, attribute.as_ref(), None);
            // of equal ones the first is taken
            let sorted = sorted(value.iterate()?, key, cased, name == "max")?;
            Ok(sorted.into_iter().next().unwrap_or_else(|| Value::undefined("no item is there to choose from")))
        }
        "unique" => {
            let [cased, attribute] = bind(name, given, ["case_sensitive", "attribute"])?;
            let cased = cased.is_some_and(|cased| cased.truth());
            let (mut seen, mut kept): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
            for entry in value.iterate()? {
                let key = without_case(reach(&entry, attribute.as_ref(), None)?, cased);
                if !seen.iter().any(|other| same(other, &key)) {
                    seen.push(key);
                    kept.push(entry);
                }
            }
            Ok(Value::generator(kept))
        }
        // Jinja iterates over nothing that is false
        "map" | "select" | "reject" | "selectattr" | "rejectattr" if !value.truth() => Ok(Value::generator(Vec::new())),
        "map" => map(budget, value, given),
        "select" | "reject" | "selectattr" | "rejectattr" => select(name, value, given),
        other if OTHERS.contains(&other) => Err(format!("the filter `{other}` is not supported")),
        other => Err(format!("no filter is named `{other}`")),
    }
}

/// Jinja's own `title`: words begin behind spaces, hyphens and opening brackets.
fn title(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        match begins {
            true => made.extend(c.to_uppercase()),
            false => made.extend(c.to_lowercase()),
        }
        begins = is_space(c) || "-({[<".contains(c);
    }
    made
}

fn indent(value: &Value, given: Given) -> Made<Value> {
    let [width, first, blank] = bind("indent", given, ["width", "first", "blank"])?;
    let Value::Text(text) = value.defined()? else {
        return Err(format!("`indent` takes no value of type {}", value.kind()));
    };
    let indent = match width {
        Some(Value::Text(width)) => width.to_string(),
        width => pad("", "ljust", whole_of("indent", width.as_ref(), 4)?, " ")?,
    };
    let (first, blank) = (first.is_some_and(|f| f.truth()), blank.is_some_and(|b| b.truth()));
    let text = format!("{text}\n");
    let mut made = if first { indent.clone() } else { String::new() };
    for (at, line) in lines(&text, false).into_iter().enumerate() {
        if at > 0 {
            made.push('\n');
            if blank || !line.is_empty() {
                made.push_str(&indent);
            }
        }
        made.push_str(line);
    }
    Ok(Value::Text(made.into()))
}

fn truncate(value: &Value, given: Given) -> Made<Value> {
    let [length, killwords, end, leeway] = bind("truncate", given, ["length", "killwords", "end", "leeway"])?;
    let text = text_of("truncate", Some(value))?;
    let end = end.map_or(Ok("...".into()), |end| text_of("truncate", Some(&end)))?;
    let leeway = leeway.filter(|leeway| !matches!(leeway, Value::None));
    let (length, leeway) = (whole_of("truncate", length.as_ref(), 255)?, whole_of("truncate", leeway.as_ref(), 5)?);
    let dots = end.chars().count() as i128;
    if length < dots || leeway < 0 {
        return Err("`truncate` needs a length that holds its end".into());
    }
    if text.chars().count() as i128 <= length.saturating_add(leeway) {
        return Ok(Value::Text(text.into()));
    }
    let cut: String = text.chars().take((length - dots) as usize).collect();
    let cut = match killwords.is_some_and(|kill| kill.truth()) {
        true => cut.as_str(),
        false => cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words),
    };
    Ok(Value::Text(format!("{cut}{end}").into()))
}

fn striptags(text: &str) -> Made<Value> {
    let mut text = text.to_string();
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let mut kept = String::new();
        let mut rest = text.as_str();
        while let Some((before, tag)) = rest.split_once(open) {
            let Some((_, behind)) = tag.split_once(close) else { break };
            kept.push_str(before);
            rest = behind;
        }
        kept.push_str(rest);
        text = kept;
    }
    if text.contains('&') {
        return Err("`striptags` of text with `&` is not supported".into());
    }
    let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    Ok(Value::Text(words.join(" ").into()))
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space).replace('_', "");
    // Rust reads the same numbers as Python, and these words
    text.parse().ok()
}

fn to_int(value: &Value, base: i128, default: Value) -> Made<Value> {
    let of_float =
        |number: f64| (number.is_finite() && number.abs() < 1e38).then_some(Value::Int(number.trunc() as i128));
    let found = match value {
        Value::Undefined(what) => return Err(what.to_string()),
        Value::Float(number) => of_float(*number),
        value => value.int().map(Value::Int).or_else(|| {
            let text = value.text()?.trim_matches(is_space).to_lowercase();
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let prefix = match base {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                _ => "",
            };
            let digits = digits.strip_prefix(prefix).unwrap_or(digits).replace('_', "");
            let whole = (2..=36).contains(&base).then(|| i128::from_str_radix(&format!("{sign}{digits}"), base as u32));
            whole.and_then(Result::ok).map(Value::Int).or_else(|| of_float(parse_float(&text)?))
        }),
    };
    Ok(found.unwrap_or(default))
}

fn round(value: &Value, given: Given) -> Made<Value> {
    let [precision, method] = bind("round", given, ["precision", "method"])?;
    let precision = i32::try_from(whole_of("round", precision.as_ref(), 0)?).ok().filter(|p| p.abs() <= 300);
    let precision = precision.ok_or("`round` is given too many digits")?;
    let method = method.map_or(Ok("common".into()), |method| text_of("round", Some(&method)))?;
    let number = value.number().ok_or_else(|| format!("`round` takes no value of type {}", value.kind()))?;
    match (method.as_str(), value.int()) {
        ("common", Some(whole)) if precision >= 0 => Ok(Value::Int(whole)),
        ("common", Some(_)) => Err("`round` of whole numbers to tens is not supported".into()),
        ("common", None) => {
            if precision < 0 {
                return Err("`round` to tens is not supported".into());
            }
            // both round the exact value of the number, halves to even
            let rounded = format!("{number:.*}", precision as usize);
            Ok(Value::Float(rounded.parse().unwrap_or(number)))
        }
        ("ceil" | "floor", _) => {
            let scale = 10f64.powi(precision);
            let scaled = number * scale;
            Ok(Value::Float(if method == "ceil" { scaled.ceil() } else { scaled.floor() } / scale))
        }
        _ => Err("the method of `round` is \"common\", \"ceil\" or \"floor\"".into()),
    }
}

fn tojson(value: &Value, given: Given) -> Made<Value> {
    let [ascii, indent, separators, sorted] =
        bind("tojson", given, ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Text(indent)) => Some(indent.to_string()),
        indent => Some(pad("", "ljust", whole_of("tojson", indent.as_ref(), 0)?, " ")?),
    };
    let (between, colon) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
        Some(separators) => match separators.iterate()?.as_slice() {
            [between, colon] => (text_of("tojson", Some(between))?, text_of("tojson", Some(colon))?),
            _ => return Err("the `separators` of `tojson` are two texts".into()),
        },
    };
    let flag = |value: Option<Value>| value.is_some_and(|value| value.truth());
    let json = Json { ascii: flag(ascii), indent, between, colon, sorted: flag(sorted) };
    let mut text = String::new();
    json.write(value, 0, &mut text)?;
    Ok(Value::Text(text.into()))
}
