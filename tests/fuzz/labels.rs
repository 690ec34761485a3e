//! What must hold of the labels of any bytes.
#![allow(dead_code)] // every binary uses its own part of this

use eyekern::salience::Span;
use eyekern::salience::labels::compat::artifact;
use eyekern::salience::labels::{Calls, label};
use eyekern::salience::syntax::Language;

/// Spans lie inside the code, in order and apart, are not blank, and have the lines that newlines make.
pub fn check_spans(code: &[u8], spans: &[Span]) {
    let newlines = |part: &[u8]| part.iter().filter(|&&b| b == b'\n').count();
    let (mut end, mut line) = (0, 0);
    for span in spans {
        assert!(end <= span.start && span.start < span.end && span.end <= code.len(), "{span:?} after {end}");
        line += newlines(&code[end..span.start]);
        assert_eq!(span.line as usize, line, "{span:?}");
        line += newlines(&code[span.start..span.end]);
        end = span.end;
        assert!(!code[span.start..span.end].trim_ascii().is_empty(), "{span:?} is blank");
    }
}

/// Sound spans, the same twice, or the one refusal; whether there were spans. The published listing takes its tokens
/// from the same code.
pub fn check_code(code: &[u8], language: Language, calls: Calls) -> bool {
    let spans = match label(code, language, calls) {
        Ok(spans) => spans,
        Err(refusal) => {
            let n = code.len();
            let expected = format!("{n} bytes do not parse as {language} in reasonable time: is the language right?");
            assert_eq!(refusal.to_string(), expected);
            return false;
        }
    };
    check_spans(code, &spans);
    // on a machine that stands still the second may be refused
    assert_eq!(label(code, language, calls).as_ref().unwrap_or(&spans), &spans);
    match artifact(code, language, calls) {
        Ok(tokens) => tokens.iter().for_each(|t| assert!(t.start < t.end && t.end <= code.len(), "{t:?}")),
        Err(refusal) => assert!(refusal.to_string().starts_with("methods nest so deeply"), "{refusal}"),
    }
    true
}

/// The first byte picks the language and the rule for calls, the rest is the code.
pub fn run(input: &[u8]) {
    let Some((&first, code)) = input.split_first() else { return };
    let language = Language::ALL[usize::from(first) % Language::ALL.len()];
    let calls = if first < 128 { Calls::Syntax } else { Calls::Lexicon };
    check_code(code, language, calls);
}
