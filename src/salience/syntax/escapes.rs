//! Unicode escapes in names: `\u0061` (also `\uu0061` in Java), `\u{61}` and `\U00000061`.

/// The escape at the start of a text: its character and its length in bytes.
pub(crate) fn escape(text: &[u8]) -> Option<(char, usize)> {
    let rest = text.strip_prefix(b"\\")?;
    let digits = |at: usize, count: usize| {
        let digits = std::str::from_utf8(rest.get(at..at + count)?).ok()?;
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| hex)?).map(|c| (c, 1 + at + count))
    };
    match rest.first()? {
        b'U' => digits(1, 8),
        b'u' if rest.get(1) == Some(&b'{') => {
            let count = rest[2..].iter().take(7).position(|&b| b == b'}')?;
            digits(2, count).map(|(c, length)| (c, length + 1))
        }
        b'u' => digits(rest.iter().take_while(|&&b| b == b'u').count(), 4),
        _ => None,
    }
}

/// The code with each escape of a letter, digit, `_` or `$` written as a plain name of the same length, for a grammar
/// that has none in names; `None` if there is none. Escapes in character literals are kept.
pub(super) fn hide(code: &[u8]) -> Option<Vec<u8>> {
    let mut plain = code.to_vec();
    let mut found = false;
    for at in 0..code.len() {
        let before = at.checked_sub(1).map(|before| code[before]);
        let named = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        if !matches!(before, Some(b'\'' | b'\\')) && escape(&code[at..]).is_some_and(|(c, _)| named(c)) {
            plain[at] = b'_';
            found = true;
        }
    }
    found.then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_in_all_their_forms() {
        for (text, expected) in [
            (r"\u0041b", Some(('A', 6))),
            (r"\uuu00e9", Some(('\u{e9}', 8))),
            (r"\u{1F600}x", Some(('\u{1F600}', 9))),
            (r"\U0001F600", Some(('\u{1F600}', 10))),
            (r"\u004", None),
            (r"\u00g1", None),
            (r"\u{}", None),
            (r"\u{110000}", None),
            (r"\ud800", None),
            (r"\n", None),
            (r"\u+041", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(escape(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn only_escapes_of_names_are_hidden() {
        let hidden = |code: &str| hide(code.as_bytes()).map(|plain| String::from_utf8(plain).unwrap());
        assert_eq!(hidden(r"int \u0061b = c\uu0031;").as_deref(), Some("int _u0061b = c_uu0031;"));
        for kept in [r"char c = '\u0061';", r#"String s = "\\u0061";"#, r"int x\u003b", "int x;"] {
            assert_eq!(hidden(kept), None, "{kept}");
        }
    }
}
