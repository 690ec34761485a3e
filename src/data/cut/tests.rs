use super::*;

const JAVA: &str =
    "int f(int a) {\n    // return 1;\n    if (a > 0) {\n        log(\"x\\n\");\n    }\n    return a + 1;\n}\n";
const PYTHON: &str = "def f(a):\n    if a:\n        log(a)\n    x = a + 1\n    return x\n";

/// The targets of many seeds, in order.
fn targets(code: &str, language: Language, unit: Unit) -> Vec<&str> {
    let mut found: Vec<&str> =
        (0..200).filter_map(|seed| Some(&code[place(code, language, unit, seed).ok()?])).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn every_unit_is_left_out_by_some_seed() {
    let block = "{\n        log(\"x\\n\");\n    }";
    let branch = format!("    if (a > 0) {block}");
    let whole = &JAVA[JAVA.find(" {").unwrap()..JAVA.trim_end().len()];
    for (code, language, unit, expected) in [
        (JAVA, Language::Java, Unit::Line, vec!["        log(\"x\\n\");", "    if (a > 0) {", "    return a + 1;"]),
        (JAVA, Language::Java, Unit::Statement, vec!["        log(\"x\\n\");", &branch, "    return a + 1;"]),
        (JAVA, Language::Java, Unit::Block, vec![&format!(" {block}"), whole]),
        (
            PYTHON,
            Language::Python,
            Unit::Statement,
            vec!["        log(a)", "    if a:\n        log(a)", "    return x", "    x = a + 1"],
        ),
        (PYTHON, Language::Python, Unit::Block, vec!["        log(a)", &PYTHON[10..PYTHON.len() - 1]]),
    ] {
        assert_eq!(targets(code, language, unit), expected, "{unit} of {language}");
    }
}

/// A statement and a block of each language.
#[test]
fn all_grammars_have_units() {
    for (language, code) in [
        (Language::CSharp, "int F(int a) { if (a > 0) { Log(a); } return a; }"),
        (Language::JavaScript, "function f(a) { if (a) { log(a); } let b = a; return b; }"),
        (Language::TypeScript, "function f(a: number): number { if (a) { log(a); } const b = a; return b; }"),
        (Language::Go, "func f(a int) int { if a > 0 { log(a) }; b := a; return b }"),
        (Language::C, "int f(int a) { if (a) { log(a); } int b = a; return b; }"),
        (Language::Cpp, "int f(int a) { if (a) { log(a); } auto b = a; return b; }"),
        (Language::Rust, "fn f(a: i32) -> i32 { if a > 0 { log(a); } let b = a; return b; }"),
    ] {
        let statements = targets(code, language, Unit::Statement);
        assert!(statements.iter().any(|text| text.contains("return")), "{language}: {statements:?}");
        assert!(
            statements.iter().any(|text| text.trim().to_lowercase().starts_with("log(a)")),
            "{language}: {statements:?}"
        );
        let blocks = targets(code, language, Unit::Block);
        assert!(
            blocks.iter().any(|text| text.to_lowercase().contains("log(a)") && text.len() < 16),
            "{language}: {blocks:?}"
        );
    }
}

/// Whatever follows the unit in the code is a run-on, which is cut off again.
#[test]
fn a_text_that_runs_on_ends_with_its_first_unit() {
    for (code, language) in [(JAVA, Language::Java), (PYTHON, Language::Python)] {
        for unit in [Unit::Line, Unit::Statement, Unit::Block] {
            for seed in 0..50 {
                let Range { start, end } = place(code, language, unit, seed).unwrap();
                let (before, text) = (&code[..start], &code[start..]);
                assert_eq!(&text[..first(before, text, language, unit)], &code[start..end], "{unit} of {language}");
                let cut = &code[start..end];
                assert_eq!(first(before, cut, language, unit), cut.len(), "{unit} of {language}");
            }
        }
    }
    // a text without the unit, and one that does not end it, count as they are
    for text in ["", "}", "if (a > 0) {", "return (", "\u{e9}\u{e9}"] {
        assert_eq!(first("int f(int a) {\n    ", text, Language::Java, Unit::Statement), text.len(), "{text}");
    }
}

#[test]
fn what_has_no_unit_is_refused() {
    for (code, unit) in [("", Unit::Line), ("}\n", Unit::Line), ("int a;", Unit::Block), ("// a\n// b\n", Unit::Line)] {
        let why = place(code, Language::Java, unit, 0).unwrap_err();
        assert!(why.starts_with(&format!("`code` has no {unit} of java with code before it")), "{why}");
    }
}
