//! One table per grammar, in the same order of questions: read two files side by side to compare them.

mod c;
mod c_sharp;
mod cpp;
mod go;
mod java;
mod javascript;
mod python;
mod rust;
mod tsx;
mod typescript;

use super::table::Table;
use crate::salience::syntax::{Grammar, Language};

/// The table of a grammar.
pub(super) fn table(grammar: Grammar) -> &'static Table {
    let Grammar::Plain(language) = grammar else { return &tsx::TABLE };
    match language {
        Language::Java => &java::TABLE,
        Language::CSharp => &c_sharp::TABLE,
        Language::Python => &python::TABLE,
        Language::JavaScript => &javascript::TABLE,
        Language::TypeScript => &typescript::TABLE,
        Language::Go => &go::TABLE,
        Language::C => &c::TABLE,
        Language::Cpp => &cpp::TABLE,
        Language::Rust => &rust::TABLE,
    }
}
