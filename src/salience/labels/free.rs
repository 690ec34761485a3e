//! Labels of free tokens: statement-level calls and assignments, case labels, operators.

use super::Calls;
use super::table::{Class, mark};
use super::token::Token;
use crate::salience::{Label, syntax};
use std::borrow::Cow;

/// The label of a token that has no structural label, from itself and its neighbours.
pub(super) fn free(token: &Token, before: Option<&Token>, after: Option<&Token>, calls: Calls) -> Option<Label> {
    let near = |other: Option<&Token>| other.filter(|o| o.statement == token.statement).is_some();
    let beside =
        |test: fn(&[u8]) -> bool| [before, after].into_iter().any(|o| near(o) && o.is_some_and(|o| test(o.text)));
    match token.class {
        Class::Comment => Some(Label::Comment),
        Class::Dimensions => Some(Label::Variable),
        Class::Literal if beside(is_equals) => Some(Label::Assignment),
        Class::Literal if beside(is_arithmetic) => Some(Label::Operation),
        Class::Literal => Some(Label::Literal),
        Class::Keyword => Some(word(token, beside, calls)),
        Class::Name if begins_a_name(token.text) => Some(word(token, beside, calls)),
        Class::Name | Class::Symbol | Class::Punctuation => Some(symbol(token, after)),
        Class::Error => None,
    }
}

fn word(token: &Token, beside: impl Fn(fn(&[u8]) -> bool) -> bool, calls: Calls) -> Label {
    let text = &*spelled(token.text);
    let called = match calls {
        Calls::Lexicon => in_call_lexicon(text),
        Calls::Syntax => token.facts.call,
    };
    // C# writes `@` before a keyword that is a name, JavaScript `#` before a private one
    let first = first_char(text.strip_prefix(b"@").or(text.strip_prefix(b"#")).unwrap_or(text));
    if token.facts.known || token.facts.recursive {
        Label::Variable
    } else if called {
        Label::FunctionCall
    } else if token.context & mark::INDEX != 0 && text != b"this" {
        Label::IndexOperation
    } else if first.is_uppercase() && (!token.facts.member || is_constant(text)) {
        Label::ExternalClass
    } else if first.is_lowercase() || first.is_uppercase() {
        Label::ExternallyDefined
    } else if beside(is_equals) {
        Label::Assignment
    } else if beside(is_arithmetic) {
        Label::Operation
    } else {
        Label::ExternallyDefined
    }
}

/// `LIKE_THIS`: gets Java's label even in languages whose members begin with a capital.
fn is_constant(text: &[u8]) -> bool {
    text.len() > 1 && !text.iter().any(u8::is_ascii_lowercase)
}

fn symbol(token: &Token, after: Option<&Token>) -> Label {
    match token.text {
        b"=" => {
            let operand =
                after.is_some_and(|a| a.facts.cast || matches!(a.text, b"new" | b"-" | b"!" | b"~" | b"+" | b"not"));
            if operand { Label::Operator } else { Label::Assignment }
        }
        b"-" | b"*" if token.facts.unary => Label::Operator,
        b"+" | b"-" | b"*" | b"/" | b"+=" => Label::Operation,
        _ => Label::Operator,
    }
}

fn is_equals(text: &[u8]) -> bool {
    text == b"="
}

fn is_arithmetic(text: &[u8]) -> bool {
    matches!(text, b"+" | b"-" | b"*" | b"/" | b"+=" | b"++")
}

/// The first character; U+FFFD if the bytes are not UTF-8.
fn first_char(text: &[u8]) -> char {
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A name as its language reads it: Java, C#, JavaScript, TypeScript, C and C++ take `\u0061` in a name for `a`.
pub(super) fn spelled(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return text.into();
    }
    let (mut name, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((&first, behind)) = rest.split_first() {
        match syntax::escape(rest) {
            Some((character, length)) => {
                name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length..];
            }
            None => {
                name.push(first);
                rest = behind;
            }
        }
    }
    name.into()
}

fn begins_a_name(text: &[u8]) -> bool {
    let first = first_char(&spelled(text));
    first.is_alphabetic() || matches!(first, '_' | '$' | '@' | '#')
}

/// `^(set|get|...)`, `^(to|next|int)[A-Z]`, or `ToString` anywhere: the list that was fitted to the published labels.
fn in_call_lexicon(text: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 37] = [
        b"set",
        b"get",
        b"add",
        b"write",
        b"rem",
        b"is",
        b"do",
        b"rea",
        b"print",
        b"put",
        b"append",
        b"has",
        b"parse",
        b"create",
        b"execute",
        b"out",
        b"debug",
        b"assert",
        b"sub",
        b"save",
        b"start",
        b"err",
        b"clos",
        b"run",
        b"enable",
        b"upd",
        b"fail",
        b"size",
        b"fire",
        b"trim",
        b"invoke",
        b"validate",
        b"length",
        b"render",
        b"decode",
        b"contains",
        b"hash",
    ];
    const BEFORE_A_CAPITAL: [&[u8]; 3] = [b"to", b"next", b"int"];
    PREFIXES.iter().any(|p| text.starts_with(p))
        || BEFORE_A_CAPITAL
            .iter()
            .any(|p| text.strip_prefix(*p).is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_uppercase)))
        || text.windows(8).any(|w| w == b"ToString")
}
