//! `text % values` and `text.format(values)`.

use super::access;
use super::ast::Text;
use super::spell;
use super::value::{Given, Made, Value};

/// How a field is filled up and written.
#[derive(Default)]
struct Style {
    fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Longest field; a longer one has no honest use.
const MOST_WIDTH: usize = 100_000;

/// The number at the beginning of `text`, and the rest.
fn digits(text: &str) -> Made<(Option<usize>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() {
        return Ok((None, rest));
    }
    let number = number.parse().ok().filter(|&n| n <= MOST_WIDTH);
    number.map(|number| (Some(number), rest)).ok_or_else(|| "a field of a text is too wide".to_string())
}

/// `format % values`.
pub(super) fn format(format: &str, values: &Value) -> Made<String> {
    let mut given = match values {
        Value::Tuple(series) => series.entries.clone(),
        other => vec![other.clone()],
    }
    .into_iter();
    let mut text = String::new();
    let (mut rest, mut named) = (format, false);
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut value = None;
        if let Some(behind) = rest.strip_prefix('(') {
            let (key, behind) = behind.split_once(')').ok_or("a key of `%` has no `)`")?;
            let Value::Dict(table) = values else { return Err("`%` with a key takes a dict".into()) };
            named = true;
            value = Some(table.get_text(key).cloned().ok_or_else(|| format!("`%` finds no key `{key}`"))?);
            rest = behind;
        }
        let mut style = Style { align: Some('>'), ..Style::default() };
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => style.align = Some('<'),
                '#' => style.alternate = true,
                '0' => style.zero = true,
                sign => style.sign = Some(sign),
            }
            rest = &rest[1..];
        }
        let (width, behind) = digits(rest)?;
        (style.width, rest) = (width.unwrap_or(0), behind);
        if let Some(behind) = rest.strip_prefix('.') {
            let (precision, behind) = digits(behind)?;
            (style.precision, rest) = (Some(precision.unwrap_or(0)), behind);
        }
        let kind = rest.chars().next().ok_or("`%` has an incomplete format")?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            text.push('%');
            continue;
        }
        let value = value.or_else(|| given.next()).ok_or("there are fewer values than `%` needs")?;
        style.zero &= style.align != Some('<');
        let cut = |text: &str, style: &Style| match style.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_string(),
        };
        let field = match kind {
            's' => padded(cut(&value.print()?, &style), &Style { zero: false, ..style }),
            'r' => {
                let mut spelled = String::new();
                spell::repr(&value, &mut spelled)?;
                padded(cut(&spelled, &style), &Style { zero: false, ..style })
            }
            'd' | 'i' | 'u' => {
                let whole = value.int().or(match value {
                    Value::Float(number) if number.is_finite() => Some(number.trunc() as i128),
                    _ => None,
                });
                let whole = whole.ok_or_else(|| format!("`%{kind}` takes no value of type {}", value.kind()))?;
                number(&Value::Int(whole), &Style { kind: Some('d'), precision: None, ..style })?
            }
            'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' => number(&value, &Style { kind: Some(kind), ..style })?,
            other => return Err(format!("`%{other}` is not supported")),
        };
        text.push_str(&field);
    }
    text.push_str(rest);
    let left = given.next().is_some();
    if left && !named && !matches!(values, Value::Dict(_)) {
        return Err("there are more values than `%` needs".into());
    }
    Ok(text)
}

/// `format.format(values)`.
pub(super) fn fields(format: &str, given: &Given) -> Made<String> {
    let mut text = String::new();
    let (mut rest, mut next, mut numbered) = (format, 0, false);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = behind;
            continue;
        }
        if brace == "}" {
            return Err("a text to format has a single `}`".into());
        }
        let (field, behind) = rest.split_once('}').ok_or("a text to format has a `{` without `}`")?;
        rest = behind;
        if field.contains('{') {
            return Err("fields inside of fields are not supported".into());
        }
        let (field, style) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').map_or((field, None), |(field, how)| (field, Some(how)));
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let (name, path) = field.split_at(end);
        let value = if name.is_empty() {
            next += 1;
            given.positional.get(next - 1)
        } else if let Ok(at) = name.parse::<usize>() {
            numbered = true;
            given.positional.get(at)
        } else {
            given.named.iter().find(|(n, _)| **n == *name).map(|(_, value)| value)
        };
        if next > 0 && numbered {
            return Err("fields with and without numbers cannot be mixed".into());
        }
        let value = value.cloned().ok_or_else(|| format!("there is no value for the field `{{{name}}}`"))?;
        let mut value = follow(value, path)?;
        match conversion {
            None => {}
            Some("s") => value = Value::Text(value.print()?),
            Some("r") => {
                let mut spelled = String::new();
                spell::repr(&value, &mut spelled)?;
                value = Value::Text(spelled.into());
            }
            Some(other) => return Err(format!("the conversion `!{other}` is not supported")),
        }
        text.push_str(&styled(&value, style)?);
    }
    text.push_str(rest);
    Ok(text)
}

/// `.name` and `[key]` behind the name of a field.
fn follow(mut value: Value, mut path: &str) -> Made<Value> {
    while !path.is_empty() {
        if let Some(behind) = path.strip_prefix('[') {
            let (key, behind) = behind.split_once(']').ok_or("a field has a `[` without `]`")?;
            let key = match key.parse() {
                Ok(index) => Value::Int(index),
                Err(_) => Value::Text(key.into()),
            };
            value = access::item(&value, &key)?;
            path = behind;
        } else {
            let behind = path.strip_prefix('.').ok_or("a field has an unexpected character")?;
            let end = behind.find(['.', '[']).unwrap_or(behind.len());
            value = access::attribute(&value, &Text::from(&behind[..end]))?;
            path = &behind[end..];
        }
        value.defined()?;
    }
    Ok(value)
}

/// `format(value, style)`.
fn styled(value: &Value, style: &str) -> Made<String> {
    if style.is_empty() {
        return Ok(value.print()?.to_string());
    }
    let wrong = || format!("the format `{style}` is not supported");
    let mut read = Style::default();
    let mut rest = style;
    let mut first = rest.chars();
    let (a, b) = (first.next(), first.next());
    if let (Some(fill), Some(align)) = (a, b.filter(|c| "<>^=".contains(*c))) {
        (read.fill, read.align) = (Some(fill), Some(align));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(align) = a.filter(|c| "<>^=".contains(*c)) {
        read.align = Some(align);
        rest = &rest[1..];
    }
    if let Some(sign) = rest.chars().next().filter(|c| "+- ".contains(*c)) {
        read.sign = Some(sign);
        rest = &rest[1..];
    }
    if let Some(behind) = rest.strip_prefix('#') {
        (read.alternate, rest) = (true, behind);
    }
    if let Some(behind) = rest.strip_prefix('0') {
        (read.zero, rest) = (true, behind);
    }
    let (width, behind) = digits(rest)?;
    (read.width, rest) = (width.unwrap_or(0), behind);
    if let Some(group) = rest.chars().next().filter(|c| ",_".contains(*c)) {
        read.group = Some(group);
        rest = &rest[1..];
    }
    if let Some(behind) = rest.strip_prefix('.') {
        let (precision, behind) = digits(behind)?;
        (read.precision, rest) = (Some(precision.ok_or_else(wrong)?), behind);
    }
    let mut kind = rest.chars();
    read.kind = kind.next();
    if kind.next().is_some() {
        return Err(wrong());
    }
    match value {
        Value::Text(text) | Value::Marked(text) => {
            if read.sign.is_some() || read.align == Some('=') || !matches!(read.kind, None | Some('s')) {
                return Err(wrong());
            }
            let text = match read.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text.to_string(),
            };
            let align = read.align.or(Some('<'));
            Ok(padded(text, &Style { align, ..read }))
        }
        Value::Int(_) | Value::Float(_) => {
            let align = read.align.or(Some('>'));
            number(value, &Style { align, ..read })
        }
        other => Err(format!("`format` of a value of type {} is not supported", other.kind())),
    }
}

/// A number in a field.
fn number(value: &Value, style: &Style) -> Made<String> {
    let wrong = || match style.kind {
        Some(kind) => format!("the format `{kind}` takes no value of type {}", value.kind()),
        None => "this format is not supported".to_string(),
    };
    let as_float = || value.number().ok_or_else(wrong);
    let precision = style.precision.unwrap_or(6);
    let (negative, digits) = match (style.kind, value.int()) {
        (None | Some('d'), Some(whole)) if style.precision.is_none() => (whole < 0, whole.unsigned_abs().to_string()),
        (Some('x'), Some(whole)) => (whole < 0, format!("{:x}", whole.unsigned_abs())),
        (Some('X'), Some(whole)) => (whole < 0, format!("{:X}", whole.unsigned_abs())),
        (Some('o'), Some(whole)) => (whole < 0, format!("{:o}", whole.unsigned_abs())),
        (Some('b'), Some(whole)) => (whole < 0, format!("{:b}", whole.unsigned_abs())),
        (Some('f' | 'F'), _) => {
            let value = as_float()?;
            (value.is_sign_negative(), format!("{:.precision$}", value.abs()))
        }
        (Some('e' | 'E'), _) => {
            let value = as_float()?;
            let scientific = format!("{:.precision$e}", value.abs());
            let (digits, exponent) = scientific.split_once('e').ok_or_else(wrong)?;
            let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
            let mark = style.kind.unwrap_or('e');
            let sign = if exponent < 0 { '-' } else { '+' };
            (value.is_sign_negative(), format!("{digits}{mark}{sign}{:02}", exponent.abs()))
        }
        (Some('%'), _) => {
            let value = as_float()?;
            (value.is_sign_negative(), format!("{:.precision$}%", value.abs() * 100.0))
        }
        (None, None) if style.precision.is_none() => {
            let value = as_float()?;
            (value.is_sign_negative(), spell::float(value.abs()))
        }
        _ => return Err(wrong()),
    };
    if value.number().is_some_and(|value| !value.is_finite()) || style.alternate {
        return Err("this format of a number is not supported".into());
    }
    let sign = match (negative, style.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    let digits = match style.group {
        Some(mark) => grouped(&digits, mark),
        None => digits,
    };
    if style.zero && style.fill.is_none() || style.align == Some('=') {
        if style.group.is_some() && style.width > 0 {
            return Err("groups of digits in a wide field are not supported".into());
        }
        let fill = style.fill.unwrap_or(if style.zero { '0' } else { ' ' });
        let missing = style.width.saturating_sub(sign.len() + digits.chars().count());
        return Ok(format!("{sign}{}{digits}", String::from(fill).repeat(missing)));
    }
    Ok(padded(format!("{sign}{digits}"), style))
}

/// A mark between every three digits in front of the point.
fn grouped(digits: &str, mark: char) -> String {
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let mut text = String::new();
    for (at, c) in digits.char_indices() {
        if at > 0 && at < whole && (whole - at) % 3 == 0 {
            text.push(mark);
        }
        text.push(c);
    }
    text
}

fn padded(text: String, style: &Style) -> String {
    let fill = style.fill.unwrap_or(if style.zero { '0' } else { ' ' });
    let missing = style.width.saturating_sub(text.chars().count());
    let left = match style.align {
        Some('<') => 0,
        Some('^') => missing / 2,
        _ => missing,
    };
    let run = |length: usize| String::from(fill).repeat(length);
    format!("{}{text}{}", run(left), run(missing - left))
}
