//! What is removed from texts before they are scored.

use super::text::{is_space, strip};
use crate::choices::choices;
use std::borrow::Cow;

choices! {
    /// Cleaning of predictions and references before they are scored.
    Clean {
        /// Texts are scored as they are.
        None = "none",
        /// As the published code of the paper does: comments of code (also within strings), `Answer:` or `Summary:`
        /// before a summary, the indentation of a summary, three backticks and `<pad>` are removed.
        Artifact = "artifact",
        /// The content of the first block between fences of Markdown (backticks or tildes), if there is one.
        Fences = "fences",
    }
}

impl Clean {
    /// The cleaned text; `code` is false for summaries.
    pub fn apply(self, text: &str, code: bool) -> Cow<'_, str> {
        match self {
            Clean::None => Cow::Borrowed(text),
            Clean::Artifact => Cow::Owned(artifact(text, code)),
            Clean::Fences => Cow::Borrowed(fenced(text)),
        }
    }
}

fn artifact(text: &str, code: bool) -> String {
    let text = if code { without_blank_ends(&without_comments(text)) } else { dedent(without_heading(text)) };
    strip(&text.replace("```", "").replace("<pad>", "")).to_string()
}

/// `re.sub(r"//.*?$|/\*.*?\*/", "", text, flags=re.S | re.M)`.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut open = true; // whether a comment that starts further on may end
    while let Some(slash) = rest.find('/') {
        let (before, comment) = rest.split_at(slash);
        out += before;
        let end = if comment.starts_with("//") {
            Some(comment.find('\n').unwrap_or(comment.len()))
        } else if open && comment.starts_with("/*") {
            let end = comment[2..].find("*/").map(|end| end + 4);
            open = end.is_some();
            end
        } else {
            None
        };
        if end.is_none() {
            out.push('/');
        }
        rest = &comment[end.unwrap_or(1)..];
    }
    out + rest
}

/// `re.sub(r"\s+\n", "\n", text)`: of white space that holds a line end, the part up to the last one becomes that one.
fn without_blank_ends(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_space) {
        out += &rest[..start];
        rest = &rest[start..];
        let (space, after) = rest.split_at(rest.find(|c| !is_space(c)).unwrap_or(rest.len()));
        out += &space[space.rfind('\n').unwrap_or(0)..];
        rest = after;
    }
    out + rest
}

/// `re.sub(r"^\s*(?:answer|summary)[:\-–]\s*", "", text, flags=re.I)`.
fn without_heading(text: &str) -> &str {
    let start = text.trim_start_matches(is_space);
    // with re.I, "s" is also the long s
    let heading = |word: &str| {
        let mut rest = start.chars();
        let same =
            word.chars().all(|w| rest.next().is_some_and(|c| c.to_ascii_lowercase() == w || w == 's' && c == 'ſ'));
        same.then_some(rest.as_str())
    };
    let rest = heading("answer").or_else(|| heading("summary")).and_then(|rest| rest.strip_prefix([':', '-', '–']));
    rest.map_or(text, |rest| rest.trim_start_matches(is_space))
}

/// `textwrap.dedent`: lines of blanks and tabs become empty, and the others lose the margin that they share.
fn dedent(text: &str) -> String {
    let blank = |c| c == ' ' || c == '\t';
    let mut margin: Option<&str> = None;
    for line in text.split('\n').filter(|line| !line.trim_start_matches(blank).is_empty()) {
        let indent = &line[..line.len() - line.trim_start_matches(blank).len()];
        let shared = |m: &str| m.bytes().zip(indent.bytes()).take_while(|(a, b)| a == b).count();
        margin = Some(margin.map_or(indent, |m| &m[..shared(m)]));
    }
    let cut = |line: &'_ str| match line.trim_start_matches(blank) {
        "" => String::new(),
        _ => line[margin.map_or(0, str::len)..].to_string(),
    };
    text.split('\n').map(cut).collect::<Vec<_>>().join("\n")
}

/// The mark, the length and the text behind a line's fence, if it starts with one.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let line = line.trim_start_matches(' ');
    let mark = line.chars().next().filter(|&c| c == '`' || c == '~')?;
    let rest = line.trim_start_matches(mark);
    let length = line.len() - rest.len();
    (length >= 3).then_some((mark, length, strip(rest)))
}

/// The lines of the first fenced block of Markdown; the text itself if it has none. A block without an end reaches to
/// the end of the text.
fn fenced(text: &str) -> &str {
    // ``` with the same mark behind it is code inside a line
    let opens = |line| fence(line).filter(|(mark, _, rest)| !rest.contains(*mark));
    let mut lines = text.split_inclusive('\n');
    let Some((mark, length, _)) = lines.find_map(opens) else { return text };
    let closes = |line: &str| fence(line).is_some_and(|(m, n, rest)| m == mark && n >= length && rest.is_empty());
    let start = text.len() - lines.clone().map(str::len).sum::<usize>();
    let inside: usize = lines.take_while(|line| !closes(line)).map(str::len).sum();
    let block = &text[start..start + inside];
    block.strip_suffix('\n').unwrap_or(block)
}
