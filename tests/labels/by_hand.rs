//! Hand-labelled snippets: what the rules say about each construct, written down from the rules.
//!
//! A snippet lists its tokens in document order, in runs of one label; a blank inside a token is written `·`.

use crate::snippets::{self, Snippet, c_sharp, java};
use crate::support::trials::trials;
use eyekern::salience::Label;
use eyekern::salience::labels::{Calls, label};
use eyekern::salience::syntax::Language;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials!(plain: java, c_sharp, other_languages).into()
}

fn check(language: Language, calls: Calls, snippets: &[Snippet]) {
    let mut wrong = String::new();
    for (code, expected) in snippets {
        let spans = label(code.as_bytes(), language, calls).expect("spans");
        let mut runs: Vec<(String, String)> = Vec::new();
        for span in spans {
            let name = span.label.map_or("none", Label::name).to_string();
            let text: String = code[span.start..span.end].split_whitespace().collect::<Vec<_>>().join("·");
            match runs.last_mut() {
                Some((last, texts)) if *last == name => {
                    texts.push(' ');
                    texts.push_str(&text);
                }
                _ => runs.push((name, text)),
            }
        }
        let expected: Vec<_> = expected.iter().map(|(l, t)| (l.name().to_string(), t.to_string())).collect();
        if runs != expected {
            wrong.push_str(&format!("\n{code}\n"));
            for i in 0..runs.len().max(expected.len()) {
                let (ours, rules) = (runs.get(i), expected.get(i));
                let mark = if ours == rules { ' ' } else { '!' };
                wrong.push_str(&format!("  {mark} {ours:?}"));
                if ours != rules {
                    wrong.push_str(&format!("   the rules: {rules:?}"));
                }
                wrong.push('\n');
            }
        }
    }
    assert!(wrong.is_empty(), "{language}:{wrong}");
}

fn java() {
    check(Language::Java, Calls::Syntax, java::SNIPPETS);
    check(Language::Java, Calls::Lexicon, java::BY_LEXICON);
}

fn c_sharp() {
    assert!(c_sharp::SNIPPETS.len() >= 20);
    check(Language::CSharp, Calls::Syntax, c_sharp::SNIPPETS);
}

fn other_languages() {
    for (language, list) in snippets::ALL {
        assert!(list.len() >= 8, "{language}");
        check(language, Calls::Syntax, list);
    }
}
