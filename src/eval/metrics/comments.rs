//! Comments as CodeBLEU 0.7.0 takes them out before it parses (`remove_comments_and_docstrings`).
//!
//! For languages like C, `//` and `/* */` outside of quotes become a space. Quotes are those of C in every language, so
//! that a lifetime of Rust begins a literal, and `//` of a verbatim string of C# behind a lone backslash is a comment.
//! For Python, the tokens of the module `tokenize` (before Python 3.12) are joined without comments and without strings
//! at the beginning of a line or a block. White space between tokens becomes spaces, and code that does not tokenise
//! keeps its comments. Blank lines go in both cases.

use super::text::strip;
use crate::salience::syntax::Language;

/// The code without comments.
pub fn without(code: &str, language: Language) -> String {
    let rest = if language == Language::Python {
        let Some(rest) = Tokenizer::new(code).rest() else { return code.to_string() };
        rest
    } else {
        without_slashes(code)
    };
    rest.split('\n').filter(|line| !strip(line).is_empty()).collect::<Vec<_>>().join("\n")
}

/// No closing quote.
const NONE: usize = usize::MAX;

/// For each byte: the place of the quote that closes a literal whose content goes on there, outside of an escape. With
/// `lines`, a literal ends at the end of its line, and a backslash there stands for the quote.
fn closers(code: &[u8], quote: u8, lines: bool) -> Vec<usize> {
    if !code.contains(&quote) {
        return vec![];
    }
    let mut closers = vec![NONE; code.len() + 2];
    for at in (0..code.len()).rev() {
        let rest = &code[at + 1..];
        closers[at] = match code[at] {
            byte if byte == quote => at,
            b'\\' if lines && (rest.starts_with(b"\n") || rest.starts_with(b"\r\n")) => at,
            b'\\' if rest.is_empty() => NONE,
            b'\\' => closers[at + 2],
            b'\n' if lines => NONE,
            _ => closers[at + 1],
        };
    }
    closers
}

fn without_slashes(code: &str) -> String {
    let bytes = code.as_bytes();
    let [single, double] = [b'\'', b'"'].map(|quote| closers(bytes, quote, false));
    let last_close = code.rfind("*/").unwrap_or(0);
    let mut rest = String::with_capacity(code.len());
    let (mut at, mut kept) = (0, 0);
    while at < bytes.len() {
        let comment = match &bytes[at..] {
            [b'/', b'/', ..] => code[at..].find('\n').map_or(code.len(), |length| at + length),
            [b'/', b'*', ..] if at + 2 <= last_close => at + 4 + code[at + 2..].find("*/").unwrap_or(0),
            [quote @ (b'\'' | b'"'), ..] => {
                let close = if *quote == b'"' { double[at + 1] } else { single[at + 1] };
                at = if close == NONE { at + 1 } else { close + 1 };
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        rest.push_str(&code[kept..at]);
        rest.push(' ');
        (at, kept) = (comment, comment);
    }
    rest + &code[kept..]
}

/// Kinds of tokens that matter here.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Indent,
    Newline,
    Comment,
    String,
    Other,
}

/// A string that goes on in the next line.
struct Open {
    start: usize,
    /// The line where it begins, and the first byte of that line.
    line: (usize, usize),
    quote: u8,
    triple: bool,
}

/// Reads Python, and writes it again without comments and docstrings.
struct Tokenizer<'c> {
    code: &'c str,
    single: Vec<usize>,
    double: Vec<usize>,
    out: String,
    before: Kind,
    /// The line and the byte where the last token ended; lines count from 1.
    end: (usize, usize),
}

impl<'c> Tokenizer<'c> {
    fn new(code: &'c str) -> Tokenizer<'c> {
        let [single, double] = [b'\'', b'"'].map(|quote| closers(code.as_bytes(), quote, true));
        Tokenizer { code, single, double, out: String::new(), before: Kind::Indent, end: (0, 0) }
    }

    /// The code without comments and docstrings; `None` where `tokenize` raises an error.
    fn rest(mut self) -> Option<String> {
        let mut open: Option<Open> = None;
        let mut indents = vec![0usize];
        let (mut depth, mut continued) = (0i64, false);
        let mut next = 0;
        for (number, text) in self.code.split_inclusive('\n').enumerate() {
            let line = (number + 1, next);
            next += text.len();
            let mut at = line.1;
            if let Some(string) = open.take() {
                if let Some(end) = self.string_end(&string, at, next) {
                    self.token(Kind::String, string.line, string.start, (line.0, end));
                    at = end;
                } else if !string.triple && !text.ends_with("\\\n") && !text.ends_with("\\\r\n") {
                    self.token(Kind::Other, string.line, string.start, (line.0, next));
                    continue;
                } else {
                    open = Some(string);
                    continue;
                }
            } else if depth == 0 && !continued {
                let (column, width) = indentation(text);
                at += width;
                if at == next {
                    break;
                }
                if matches!(self.code.as_bytes()[at], b'#' | b'\r' | b'\n') {
                    if self.code.as_bytes()[at] == b'#' {
                        let end = at + self.code[at..next].trim_end_matches(['\r', '\n']).len();
                        self.token(Kind::Comment, line, at, (line.0, end));
                        at = end;
                    }
                    self.token(Kind::Other, line, at, (line.0, next));
                    continue;
                }
                if column > *indents.last()? {
                    indents.push(column);
                    self.token(Kind::Indent, line, line.1, (line.0, at));
                }
                while column < *indents.last()? {
                    if !indents.contains(&column) {
                        return None;
                    }
                    indents.pop();
                    self.token(Kind::Other, line, at, (line.0, at));
                }
            } else {
                continued = false;
            }
            while at < next {
                let blank = self.code[at..next].bytes().take_while(|b| matches!(b, b' ' | b'\x0c' | b'\t')).count();
                let start = at + blank;
                let rest = &self.code[start..next];
                if rest.is_empty() {
                    break;
                }
                if rest == "\\\n" || rest == "\\\r\n" {
                    continued = true;
                    break;
                }
                let (kind, end) = match rest.as_bytes()[0] {
                    b'#' => (Kind::Comment, start + rest.trim_end_matches(['\r', '\n']).len()),
                    _ if rest == "\n" || rest == "\r\n" => (if depth > 0 { Kind::Other } else { Kind::Newline }, next),
                    _ => match self.word_or_string(start, next, line) {
                        Some(Word::Open(string)) => {
                            open = Some(string);
                            break;
                        }
                        Some(Word::Closed(kind, end)) => (kind, end),
                        None => {
                            let first = self.code[at..].chars().next()?;
                            self.token(Kind::Other, line, at, (line.0, at + first.len_utf8()));
                            at += first.len_utf8();
                            continue;
                        }
                    },
                };
                match rest.as_bytes()[0] {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth -= 1,
                    _ => {}
                }
                self.token(kind, line, start, (line.0, end));
                at = end;
            }
        }
        (open.is_none() && depth == 0 && !continued).then_some(self.out)
    }

    /// The end of an open string in the line `at..next`.
    fn string_end(&self, string: &Open, at: usize, next: usize) -> Option<usize> {
        if string.triple {
            return triple_end(&self.code.as_bytes()[..next], at, string.quote);
        }
        let close = if string.quote == b'"' { self.double[at] } else { self.single[at] };
        (close < next && self.code.as_bytes()[close] == string.quote).then_some(close + 1)
    }

    /// The operator, name, number or string at `start`, in a line that ends at `next`; `None` if there is none.
    fn word_or_string(&self, start: usize, next: usize, line: (usize, usize)) -> Option<Word> {
        let rest = &self.code[start..next];
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let prefix = matches!(rest[..word].to_ascii_lowercase().as_str(), "" | "b" | "r" | "u" | "f")
            || matches!(rest[..word].to_ascii_lowercase().as_str(), "br" | "rb" | "fr" | "rf");
        let quote = rest.as_bytes().get(word).copied().filter(|byte| prefix && matches!(byte, b'\'' | b'"'));
        let Some(quote) = quote else {
            let operator = |byte: u8| b"%&()*+,-./:;<=>@[]^{|}~".contains(&byte);
            return match rest.as_bytes() {
                _ if word > 0 => Some(Word::Closed(Kind::Other, start + word)),
                [b'!', b'=', ..] => Some(Word::Closed(Kind::Other, start + 2)),
                [first, ..] if operator(*first) => Some(Word::Closed(Kind::Other, start + 1)),
                _ => None,
            };
        };
        let content = start + word + 1;
        if rest.as_bytes()[word..].starts_with(&[quote; 3]) {
            return Some(match triple_end(&self.code.as_bytes()[..next], content + 2, quote) {
                Some(end) => Word::Closed(Kind::String, end),
                None => Word::Open(Open { start, line, quote, triple: true }),
            });
        }
        let close = if quote == b'"' { self.double[content] } else { self.single[content] };
        match self.code.as_bytes().get(close) {
            None if word > 0 => Some(Word::Closed(Kind::Other, start + word)),
            None => None,
            Some(b'\\') => Some(Word::Open(Open { start, line, quote, triple: false })),
            Some(_) => Some(Word::Closed(Kind::String, close + 1)),
        }
    }

    /// Writes a token that begins in `line` at `start`.
    fn token(&mut self, kind: Kind, line: (usize, usize), start: usize, end: (usize, usize)) {
        let from = if line.0 > self.end.0 { line.1 } else { self.end.1 };
        self.out.extend(std::iter::repeat_n(' ', start.saturating_sub(from)));
        let docstring = matches!(self.before, Kind::Indent | Kind::Newline) || start == line.1;
        if kind != Kind::Comment && !(kind == Kind::String && docstring) {
            self.out.push_str(&self.code[start..end.1]);
        }
        self.before = kind;
        self.end = end;
    }
}

enum Word {
    /// Ends in its line, at this byte.
    Closed(Kind, usize),
    Open(Open),
}

/// Column (tabs to multiples of 8) and bytes of the white space at the beginning of a line.
fn indentation(line: &str) -> (usize, usize) {
    let mut column = 0;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b' ' => column += 1,
            b'\t' => column = (column / 8 + 1) * 8,
            b'\x0c' => column = 0,
            _ => return (column, at),
        }
    }
    (column, line.len())
}

/// The end of a string in triple quotes whose content goes on at `at`; the code ends with the line.
fn triple_end(code: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    while at < code.len() {
        if code[at..].starts_with(&[quote; 3]) {
            return Some(at + 3);
        }
        at += if code[at] == b'\\' { 2 } else { 1 };
    }
    None
}
