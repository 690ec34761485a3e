//! One table per grammar, with the same questions in the same order, so that two files can be compared side by side.
//! C++, TypeScript and TSX extend another grammar, so their tables list only the differences from its table.

/// All patterns of the list `$base`, followed by more.
macro_rules! extend {
    ($base:expr, $($more:literal),+ $(,)?) => {{
        const BASE: &[&str] = $base;
        const MORE: &[&str] = &[$($more),+];
        const ALL: [&str; BASE.len() + MORE.len()] = {
            let mut all = [""; BASE.len() + MORE.len()];
            all.split_at_mut(BASE.len()).0.copy_from_slice(BASE);
            all.split_at_mut(BASE.len()).1.copy_from_slice(MORE);
            all
        };
        &ALL
    }};
}

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

use super::table::{Rules, Table};
use crate::salience::syntax::{Grammar, Language};
use std::sync::OnceLock;

/// The rules of a grammar, compiled at first use.
pub(super) fn rules(grammar: Grammar) -> &'static Rules {
    static CACHE: [OnceLock<Rules>; Grammar::COUNT] = [const { OnceLock::new() }; Grammar::COUNT];
    CACHE[grammar.index()].get_or_init(|| Rules::compile(table(grammar), &grammar.load()).0)
}

/// The table of a grammar.
fn table(grammar: Grammar) -> &'static Table {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_every_table_is_of_its_grammar() {
        for grammar in Language::ALL.map(Grammar::Plain).into_iter().chain([Grammar::Tsx]) {
            let (_, unknown) = Rules::compile(table(grammar), &grammar.load());
            assert!(unknown.is_empty(), "{grammar:?}: no such node, token or field: {unknown:?}");
        }
    }
}
