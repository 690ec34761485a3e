//! A semantic label for every token of a piece of code.
//!
//! The rules are those by which the published Java examples were labelled, made a walk over the syntax tree: the
//! *structural* label of a token follows from what it is inside of (first match wins, up to the enclosing method),
//! and a token that is inside of nothing that matters is *free* and labelled by what it is. One table per language
//! (in `tables`) says which of its nodes is a parameter list, a condition, a loop; everything else is common.
//!
//! # What the published labels do not cover
//!
//! They know methods with a body only. The rest of a file is labelled so:
//!
//! * constructors, abstract methods, accessors, initialisers: like methods, each a unit by itself;
//! * the head of a class, interface, enum, struct, namespace: function declaration; its super types: external class;
//! * fields, constants, enum members: variable declaration;
//! * imports and package clauses: external class;
//! * statements outside functions: as inside, with one scope for the whole file;
//! * a function inside a function: its head is a function declaration unless something structural applies (in Java,
//!   as published, there is no such exception: methods of anonymous classes have free heads).
//!
//! Brackets, separators and what leads to a member (`.`, `->`, `::`, `?.`) are no tokens; a token without any label
//! does not occur except where the code does not parse.

pub mod compat;
mod free;
mod table;
mod tables;
mod token;
mod walk;

use crate::choices::choices;
use crate::error::Result;
use crate::salience::Span;
use crate::salience::syntax::{self, Language, Syntax};

choices! {
    /// How the names of called functions are told from other free words.
    Calls {
        /// By the syntax tree: the name of a call is a call.
        Syntax = "syntax",
        /// By the list of prefixes fitted on the published labels (`set`, `get`, `add`, ...).
        Lexicon = "lexicon",
    }
}

/// Labels a piece of code: a whole file, a bare method, or statements. The spans are in document order and do not
/// overlap; empty code has none. Any bytes are taken; code is refused only where parsing would not end in reasonable
/// time, or above 4 GiB.
pub fn label(code: &[u8], language: Language, calls: Calls) -> Result<Vec<Span>> {
    Ok(label_tree(code, &syntax::parse(code, language)?, calls))
}

/// [`label`] for code that is parsed already; `syntax` must be its tree.
pub fn label_tree(code: &[u8], syntax: &Syntax, calls: Calls) -> Vec<Span> {
    let mut spans = Vec::with_capacity(code.len() / 6);
    let mut keep = |token: &token::Token, label| {
        spans.push(Span { start: token.start, end: token.end, label, line: token.line });
    };
    walk::walk(code, syntax, syntax.root(), calls, &mut keep);
    spans
}
