//! Characters as Python classifies them.

/// Whether Python's `str.isspace` and `str.strip` take it for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether Python's `str.splitlines` ends a line there.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The lines of a text without their ends, as `str.splitlines` gives them; with `keep`, with their ends.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let (mut lines, mut from) = (Vec::new(), 0);
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if !is_line_end(c) {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && characters.next_if(|&(_, next)| next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[from..if keep { end } else { at }]);
        from = end;
    }
    if from < text.len() {
        lines.push(&text[from..]);
    }
    lines
}

/// The character at the beginning of a title, and what follows from its upper case: `ß` gives `Ss`.
pub(super) fn titled(c: char) -> String {
    let special = match c {
        '\u{1c4}'..='\u{1c6}' => Some('\u{1c5}'),
        '\u{1c7}'..='\u{1c9}' => Some('\u{1c8}'),
        '\u{1ca}'..='\u{1cc}' => Some('\u{1cb}'),
        '\u{1f1}'..='\u{1f3}' => Some('\u{1f2}'),
        _ => None,
    };
    let Some(c) = special else {
        let mut upper = c.to_uppercase();
        return upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect();
    };
    c.to_string()
}

/// `str.capitalize`.
pub(super) fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(titled).unwrap_or_default();
    first + &rest.as_str().to_lowercase()
}

/// `str.title`: letters behind a character without case begin a word.
pub(super) fn title(text: &str) -> String {
    let mut titled_text = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => titled_text.extend(c.to_lowercase()),
            false => titled_text += &titled(c),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    titled_text
}

/// `str.isupper`, `str.islower`: all letters with case have that one, and there is one.
pub(super) fn has_case(text: &str, upper: bool) -> bool {
    let cased = |c: &char| c.is_uppercase() || c.is_lowercase();
    text.chars().any(|c| cased(&c))
        && text.chars().filter(cased).all(|c| if upper { c.is_uppercase() } else { c.is_lowercase() })
}
