//! From the text of a template to tokens, by the rules of Jinja 3.1 with `trim_blocks` and `lstrip_blocks`.

use super::ast::Text;
use super::unicode::is_space;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text between tags.
    Text(String),
    /// `{{`, `}}`, `{%`, `%}`.
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(Text),
    String(String),
    Int(i128),
    Float(f64),
    /// An operator or bracket.
    Sign(&'static str),
}

/// The longest come first.
const SIGNS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    tokens: Vec<(Token, u32)>,
}

/// The tokens of a template with their lines. The error is a sentence; its line comes with it.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, u32)>, (String, u32)> {
    // all line ends are \n, and the last one is left out
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, tokens: Vec::new() };
    let done = lexer.template();
    done.map_err(|why| (why, lexer.line))?;
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Moves past the next `length` bytes and gives them.
    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.source[self.at..self.at + length];
        self.at += length;
        self.line += taken.matches('\n').count() as u32;
        taken
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn template(&mut self) -> Result<(), String> {
        while !self.rest().is_empty() {
            let rest = self.rest();
            let begin = rest.match_indices('{').find(|&(at, _)| rest[at + 1..].starts_with(['{', '%', '#']));
            let Some((begin, _)) = begin else {
                let text = self.take(rest.len()).to_string();
                self.push(Token::Text(text));
                return Ok(());
            };
            let kind = rest.as_bytes()[begin + 1];
            let sign = rest[begin + 2..].chars().next().filter(|&c| c == '-' || c == '+');
            self.text(begin, sign, kind != b'{');
            self.take(2 + sign.map_or(0, char::len_utf8));
            match kind {
                b'#' => self.comment()?,
                b'%' if self.raw()? => {}
                b'%' => self.expression(Token::BlockBegin, Token::BlockEnd, "%}")?,
                _ => self.expression(Token::PrintBegin, Token::PrintEnd, "}}")?,
            }
        }
        Ok(())
    }

    /// The text in front of a tag, `length` bytes. `-` in the tag strips all white space from its end; a block or
    /// comment without a sign strips what stands in front of it on its line.
    fn text(&mut self, length: usize, sign: Option<char>, block: bool) {
        let line_starting = self.at == 0 || self.source[..self.at].ends_with('\n');
        let text = self.take(length);
        let kept = match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if block => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = text[line..].chars().all(is_space);
                if blank && (line > 0 || line_starting) { &text[..line] } else { text }
            }
            _ => text,
        };
        if !kept.is_empty() {
            let text = kept.to_string();
            self.push(Token::Text(text));
        }
    }

    /// The end of a block or comment: `-` strips the white space behind it, no sign one line break.
    fn close(&mut self, end: &str, trim: bool) -> Option<()> {
        let rest = self.rest();
        let (sign, behind) = match rest.strip_prefix(['-', '+']).and_then(|behind| behind.strip_prefix(end)) {
            Some(behind) => (rest.chars().next(), behind),
            None => (None, rest.strip_prefix(end)?),
        };
        if sign == Some('+') && !trim {
            return None;
        }
        let blank = match sign {
            Some('-') => behind.len() - behind.trim_start_matches(is_space).len(),
            None if trim && behind.starts_with('\n') => 1,
            _ => 0,
        };
        self.take(rest.len() - behind.len() + blank);
        Some(())
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest().find("#}").ok_or("a comment {# has no end #}")?;
        let signed = self.rest()[..end].ends_with(['-', '+']);
        self.take(end - usize::from(signed));
        self.close("#}", true).ok_or_else(|| "a comment {# has no end #}".to_string())
    }

    /// `{% raw %} ... {% endraw %}`, if it begins here: its text as it stands.
    fn raw(&mut self) -> Result<bool, String> {
        let rest = self.rest();
        let Some(behind) = rest.trim_start_matches(is_space).strip_prefix("raw") else { return Ok(false) };
        let behind = behind.trim_start_matches(is_space);
        let (strip, behind) = match behind.strip_prefix("-%}") {
            Some(behind) => (true, behind),
            None => match behind.strip_prefix("%}") {
                Some(behind) => (false, behind),
                None => return Ok(false),
            },
        };
        self.take(rest.len() - behind.len());
        if strip {
            self.take(behind.len() - behind.trim_start_matches(is_space).len());
        }
        let rest = self.rest();
        for (begin, _) in rest.match_indices("{%") {
            let inside = &rest[begin + 2..];
            let sign = inside.chars().next().filter(|&c| c == '-' || c == '+');
            let name = inside[sign.map_or(0, char::len_utf8)..].trim_start_matches(is_space);
            let Some(behind) = name.strip_prefix("endraw") else { continue };
            let behind = behind.trim_start_matches(is_space);
            if !["%}", "-%}", "+%}"].iter().any(|end| behind.starts_with(end)) {
                continue;
            }
            self.text(begin, sign, true);
            self.take(self.rest().len() - behind.len());
            return self.close("%}", true).map(|()| true).ok_or_else(|| "{% endraw has no end".to_string());
        }
        Err("{% raw %} has no {% endraw %}".to_string())
    }

    /// The tokens up to `end`; inside of brackets it is no end.
    fn expression(&mut self, begin: Token, done: Token, end: &'static str) -> Result<(), String> {
        self.push(begin);
        let mut open: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Err(format!("a tag has no end {end}"));
            }
            if open.is_empty() && self.close(end, end == "%}").is_some() {
                self.push(done);
                return Ok(());
            }
            let first = rest.chars().next().unwrap_or_default();
            if is_space(first) {
                self.take(first.len_utf8());
            } else if first == '"' || first == '\'' {
                let text = self.string(first)?;
                self.push(Token::String(text));
            } else if first.is_ascii_digit() {
                let number = self.number()?;
                self.push(number);
            } else if first == '_' || first.is_alphanumeric() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                let name = self.take(length).into();
                self.push(Token::Name(name));
            } else {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| format!("unexpected character {first:?}"))?;
                match sign {
                    "(" | "[" | "{" => open.push(sign),
                    ")" | "]" | "}" => {
                        let fits = matches!((open.pop(), sign), (Some("("), ")") | (Some("["), "]") | (Some("{"), "}"));
                        if !fits {
                            return Err(format!("unexpected {sign:?}"));
                        }
                    }
                    _ => {}
                }
                self.take(sign.len());
                self.push(Token::Sign(sign));
            }
        }
    }

    fn number(&mut self) -> Result<Token, String> {
        let rest = self.rest();
        let run = |text: &str, digit: fn(char) -> bool| {
            // digits with single underscores between them
            let mut end = 0;
            for (at, c) in text.char_indices() {
                if digit(c) {
                    end = at + 1;
                } else if c != '_' || end != at {
                    break;
                }
            }
            end
        };
        let decimal = |text: &str| run(text, |c| c.is_ascii_digit());
        let whole = decimal(rest);
        let fraction = rest[whole..].strip_prefix('.').map_or(0, decimal);
        let mut length = whole + if fraction > 0 { 1 + fraction } else { 0 };
        let exponent = rest[length..].strip_prefix(['e', 'E']).map_or(0, |text| {
            let sign = usize::from(text.starts_with(['+', '-']));
            let digits = decimal(&text[sign..]);
            if digits > 0 { 1 + sign + digits } else { 0 }
        });
        length += exponent;
        let too_large = |text: &str| format!("the number {text} is too large");
        if length > whole {
            let text = self.take(length).replace('_', "");
            return text.parse().map(Token::Float).map_err(|_| too_large(&text));
        }
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            let Some(digits) = rest.get(..2).filter(|begin| begin.eq_ignore_ascii_case(prefix)) else { continue };
            let length = run(&rest[digits.len()..], |c| c.is_ascii_hexdigit());
            let text = self.take(2 + length);
            let value = i128::from_str_radix(&text[2..].replace('_', ""), radix);
            return value.map(Token::Int).map_err(|_| format!("{text} is no number"));
        }
        let text = self.take(whole).replace('_', "");
        if text.len() > 1 && text.starts_with('0') && text.contains(|c| c != '0') {
            return Err(format!("{text} is no number"));
        }
        text.parse().map(Token::Int).map_err(|_| too_large(&text))
    }

    /// A string literal with Python's escapes.
    fn string(&mut self, quote: char) -> Result<String, String> {
        self.take(1);
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let c = rest.chars().next().ok_or("a string has no end")?;
            self.take(c.len_utf8());
            if c == quote {
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let c = self.rest().chars().next().ok_or("a string has no end")?;
            self.take(c.len_utf8());
            let code = |lexer: &mut Lexer, digits: usize, radix: u32| {
                let digits = lexer.rest().get(..digits).filter(|d| d.chars().all(|c| c.is_digit(radix)));
                let value = digits.and_then(|d| u32::from_str_radix(d, radix).ok()).and_then(char::from_u32);
                lexer.take(digits.map_or(0, str::len));
                value.ok_or_else(|| "a string has an escape that is no character".to_string())
            };
            match c {
                '\n' => {}
                '\\' | '\'' | '"' => text.push(c),
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                'x' => text.push(code(self, 2, 16)?),
                'u' => text.push(code(self, 4, 16)?),
                'U' => text.push(code(self, 8, 16)?),
                'N' => return Err("strings with \\N{...} are not supported".into()),
                '0'..='7' => {
                    self.at -= 1;
                    let digits = self.rest().bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                    text.push(code(self, digits, 8)?);
                }
                other => text.extend(['\\', other]),
            }
        }
    }
}
