//! A semantic label for every token of a piece of code.
//!
//! The rules are those that labelled the published Java examples, written as a walk over the syntax tree. The
//! *structural* label of a token follows from the constructs that enclose it (the first match wins, up to the enclosing
//! method). A token without such a construct is *free*, and its label follows from the token itself. One table per
//! language (in `tables`) names the nodes that are parameter lists, conditions, loops and so on; everything else is
//! common.
//!
//! # Code that the published labels do not cover
//!
//! The published labels cover only methods with a body. The rest of a file is labelled as follows:
//!
//! * constructors, abstract methods, accessors, initialisers: like methods, each a unit of its own;
//! * the head of a class, interface, enum, struct: function declaration; its super types: external class;
//! * fields, constants, enum members: variable declaration;
//! * imports, package clauses, heads of namespaces and of blocks of foreign functions: external class;
//! * statements outside functions: as inside functions, with one scope for the whole file;
//! * a function inside a function: its head is a function declaration unless a structural label applies (Java has no
//!   such exception, as in the published labels: methods of anonymous classes have free heads).
//!
//! Brackets, separators and member operators (`.`, `->`, `::`, `?.`) are not tokens. Every token has a label unless the
//! code does not parse.

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
/// overlap; empty code has none. Any bytes are accepted; code is refused only if parsing would not end in reasonable
/// time, or if it is longer than 4 GiB.
pub fn label(code: &[u8], language: Language, calls: Calls) -> Result<Vec<Span>> {
    Ok(label_tree(code, &syntax::parse(code, language)?, calls))
}

/// Like [`label`], for code that is already parsed; `syntax` must be its tree.
pub fn label_tree(code: &[u8], syntax: &Syntax, calls: Calls) -> Vec<Span> {
    let mut spans = Vec::with_capacity(code.len() / 6);
    let mut keep = |token: &token::Token, label| {
        spans.push(Span { start: token.start, end: token.end, label, line: token.line });
    };
    walk::walk(code, syntax, syntax.root(), calls, &mut keep);
    spans
}
