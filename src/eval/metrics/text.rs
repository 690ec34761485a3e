//! Text as Python's `str` and `re` see it: the packages that define the metrics are written in Python.

use regex::Regex;
use std::sync::LazyLock;

/// `str.isspace`, which is also `\s` of `re`: White_Space of Unicode, and the separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.split()`: the longest runs without white space.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `re.sub(r"\s+", "", text)`.
pub fn without_space(text: &str) -> String {
    text.chars().filter(|&c| !is_space(c)).collect()
}

/// `re.findall(r"\w+|[^\w\s]", text)`: words, and every other character that is not white space by itself.
///
/// `\w` of Python has no combining marks, unlike `\w` of the crate `regex` and `char::is_alphanumeric`.
pub fn words_and_marks(text: &str) -> impl Iterator<Item = &str> {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s\x1c-\x1f]").expect("the pattern is valid"));
    WORD.find_iter(text).map(|found| found.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python 3.11.
    #[test]
    fn characters_are_classed_as_in_python() {
        let text = "\x1ca\x1fb\u{85}c\u{a0}d\u{200b}e\u{3000}f\x0b";
        assert_eq!(split(text).collect::<Vec<_>>(), ["a", "b", "c", "d\u{200b}e", "f"]);
        assert_eq!(strip("\x1f \u{2028}x\u{feff}\n"), "x\u{feff}");
        assert_eq!(without_space(text), "abcd\u{200b}ef");
        let text = "x_1 é e\u{301}ⓐ ²Ⅷ漢字٣ \x1c🙂\u{ad}ª";
        let words = ["x_1", "é", "e", "\u{301}", "ⓐ", "²Ⅷ漢字٣", "🙂", "\u{ad}", "ª"];
        assert_eq!(words_and_marks(text).collect::<Vec<_>>(), words);
    }
}
