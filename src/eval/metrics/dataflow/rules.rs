//! The node kinds from which the package codebleu reads data flow, by language.

use crate::salience::syntax::Language;

/// How the parts of a declaration are found.
#[derive(Clone, Copy, PartialEq)]
pub enum Declared {
    /// Fields `name` and `value`.
    Fields,
    /// The first two children, if there are exactly two.
    Pair,
    /// The second child, and the third if there is one.
    Second,
}

/// The node kinds of a language that the package reads.
pub struct Rules {
    pub python: bool,
    pub assignment: &'static [&'static str],
    pub declaration: &'static [&'static str],
    pub declared: Declared,
    pub increment: &'static [&'static str],
    pub branch: &'static [&'static str],
    /// Names that are set before a branch keep that value behind it, even with an `else`.
    pub keeps: bool,
    pub counted: &'static [&'static str],
    /// The child of a counted loop behind which everything is read twice.
    pub head: &'static str,
    pub each: &'static [&'static str],
    /// Fields of a loop over the elements of a collection: element, collection.
    pub element: [&'static str; 2],
    pub repeated: &'static [&'static str],
}

const JAVA: Rules = Rules {
    python: false,
    assignment: &["assignment_expression"],
    declaration: &["variable_declarator"],
    declared: Declared::Fields,
    increment: &["update_expression"],
    branch: &["if_statement", "else"],
    keeps: false,
    counted: &["for_statement"],
    head: "local_variable_declaration",
    each: &["enhanced_for_statement"],
    element: ["name", "value"],
    repeated: &["while_statement"],
};
const C_SHARP: Rules = Rules {
    declared: Declared::Pair,
    increment: &["postfix_unary_expression"],
    each: &["for_each_statement"],
    element: ["left", "right"],
    ..JAVA
};
const GO: Rules = Rules {
    assignment: &["assignment_statement"],
    declaration: &["var_spec"],
    increment: &["inc_statement"],
    keeps: true,
    head: "for_clause",
    each: &[],
    repeated: &[],
    ..JAVA
};
const JAVASCRIPT: Rules = Rules {
    assignment: &["assignment_pattern", "augmented_assignment_expression"],
    keeps: true,
    head: "variable_declaration",
    each: &[],
    ..JAVA
};
const RUST: Rules = Rules {
    assignment: &["assignment_expression", "compound_assignment_expr", "let_expression"],
    declaration: &["function_item"],
    declared: Declared::Second,
    increment: &[],
    branch: &["if_expression", "if_let_expression", "match_expression", "else"],
    counted: &["for_expression"],
    each: &[],
    repeated: &["while_expression", "while_let_expression", "loop_expression"],
    ..JAVA
};
const PYTHON: Rules = Rules {
    python: true,
    assignment: &["assignment", "augmented_assignment", "for_in_clause"],
    declaration: &["default_parameter"],
    increment: &[],
    branch: &["if_statement"],
    each: &[],
    ..JAVA
};

impl Rules {
    /// The rules that the package has for a language.
    pub fn of(language: Language) -> &'static Rules {
        match language {
            Language::Java => &JAVA,
            Language::CSharp | Language::C | Language::Cpp => &C_SHARP,
            Language::Go => &GO,
            Language::JavaScript | Language::TypeScript => &JAVASCRIPT,
            Language::Rust => &RUST,
            Language::Python => &PYTHON,
        }
    }
}
