//! Syntax trees: the languages, a parser that takes any bytes, and the leaves of a tree in document order.
//!
//! A bare method of Java, C#, JavaScript or TypeScript is not a program, so it is parsed inside a class and its offsets
//! are shifted back. Nothing here recurses, and a parse has a budget in proportion to the code's length.

mod budget;
mod escapes;
mod language;
mod parsing;

pub use language::Language;
pub use parsing::{FirstRow, OfLanguage, Parsed, Parsing};

use crate::error::{Error, Result};
use budget::Budget;
pub(crate) use escapes::escape;
pub(crate) use language::Grammar;
use std::ops::ControlFlow;
use tree_sitter::{Node, ParseOptions, ParseState, Parser, Tree, TreeCursor};

/// A syntax tree and the position of its code in it.
pub struct Syntax {
    tree: Tree,
    grammar: Grammar,
    /// Bytes in front of the code (the wrapper's).
    shift: usize,
    /// Lines in front of the code.
    rows: usize,
    /// Bytes of the code.
    len: usize,
    steps: u64,
}

/// One leaf of a tree: bytes `start..end` of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'t> {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Source line of its first byte, from 0.
    pub line: u32,
    /// The grammar's name for it; a token with a fixed spelling is named by its spelling.
    pub kind: &'t str,
}

/// The longest code that is parsed: the tree counts bytes in 32 bits.
const LONGEST: usize = u32::MAX as usize - 64;

/// Parses any bytes. Refuses code of 4 GiB or more, and code that exceeds the budget of the parser's error recovery
/// (see `budget`). The first attempt guesses between program and class member. If it has errors, the other attempts
/// follow, and the attempt with the least code in errors is used.
pub fn parse(code: &[u8], language: Language) -> Result<Syntax> {
    check(code, language)?;
    let mut parser = Parser::new();
    let plain = Grammar::Plain(language);
    let wrapper = language.wrapper();
    let wrapped_first = wrapper.is_some() && language.wrap_first(code);
    let first = attempt(&mut parser, code, plain, wrapper.filter(|_| wrapped_first))?;
    let mut best = first.ok_or_else(|| refusal(code, language))?;
    let other = (wrapper.is_some(), plain, wrapper.filter(|_| !wrapped_first));
    let tsx = (language == Language::TypeScript, Grammar::Tsx, None);
    for (possible, grammar, wrapper) in [other, tsx] {
        if possible && best.has_error() {
            let next = attempt(&mut parser, code, grammar, wrapper)?;
            best = next.filter(|next| next.error_bytes() < best.error_bytes()).unwrap_or(best);
        }
    }
    if language == Language::Java && best.has_error() {
        // its grammar has no names with escapes
        let plain_names = escapes::hide(code);
        for wrapper in [wrapper, None] {
            if let Some(code) = plain_names.as_deref().filter(|_| best.has_error()) {
                let next = attempt(&mut parser, code, plain, wrapper)?;
                best = next.filter(|next| next.error_bytes() < best.error_bytes()).unwrap_or(best);
            }
        }
    }
    Ok(best)
}

/// Parses any bytes as a program, in one attempt: the tree that other users of the grammar get. It refuses what
/// [`parse`] refuses.
pub fn parse_program(code: &[u8], language: Language) -> Result<Syntax> {
    check(code, language)?;
    attempt(&mut Parser::new(), code, Grammar::Plain(language), None)?.ok_or_else(|| refusal(code, language))
}

fn check(code: &[u8], language: Language) -> Result {
    if code.len() > LONGEST {
        return Err(Error::Usage(format!("{} bytes of code in one piece: at most 4 GiB can be parsed", code.len())));
    }
    if matches!(language, Language::Java | Language::CSharp) && budget::too_many_angles(code) {
        return Err(refusal(code, language));
    }
    Ok(())
}

fn refusal(code: &[u8], language: Language) -> Error {
    let n = code.len();
    Error::Usage(format!("{n} bytes do not parse as {language} in reasonable time: is the language right?"))
}

/// One parse; `None` if it exceeds the budget of steps or reads. Exceeding the time limit is an error for every
/// attempt: if a slow attempt were skipped, the labels would depend on the machine.
fn attempt(
    parser: &mut Parser, code: &[u8], grammar: Grammar, wrapper: Option<(&'static str, &'static str)>,
) -> Result<Option<Syntax>> {
    parser.reset();
    parser
        .set_language(&grammar.load())
        .map_err(|e| Error::Usage(format!("the {} grammar does not fit this build: {e}", grammar.language())))?;
    let (before, after) = wrapper.unwrap_or(("", ""));
    let budget = Budget::of(code.len());
    let mut read = |at: usize, _| {
        let rest = match at.checked_sub(before.len()) {
            None => &before.as_bytes()[at..],
            Some(at) if at < code.len() => &code[at..],
            Some(at) => after.as_bytes().get(at - code.len()..).unwrap_or_default(),
        };
        budget.read(rest)
    };
    let mut go_on = |_: &ParseState| if budget.step() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let options = ParseOptions::new().progress_callback(&mut go_on);
    let tree = parser.parse_with_options(&mut read, None, Some(options)).filter(|_| !budget.is_spent());
    if budget.is_late() {
        return Err(refusal(code, grammar.language()));
    }
    let rows = before.bytes().filter(|&b| b == b'\n').count();
    Ok(tree.map(|tree| Syntax { tree, grammar, shift: before.len(), rows, len: code.len(), steps: budget.steps() }))
}

impl Syntax {
    /// The tree's root. Offsets of its nodes count from the wrapper's first byte; [`Syntax::place`] corrects them.
    pub(crate) fn root(&self) -> Node<'_> {
        self.tree.root_node()
    }

    /// The position of a node in the code: start, end, line. `None` if it is empty or lies outside the code (in the
    /// wrapper). A node that extends into the wrapper, such as an open comment, ends at the end of the code.
    pub(crate) fn place(&self, node: &Node<'_>) -> Option<(usize, usize, u32)> {
        let start = node.start_byte().checked_sub(self.shift)?;
        let end = node.end_byte().saturating_sub(self.shift).min(self.len);
        let line = node.start_position().row.saturating_sub(self.rows) as u32;
        (start < end).then_some((start, end, line))
    }

    /// How many nodes of the wrapper enclose the code, besides the root: its class and the body of it.
    pub(crate) fn wrapper_depth(&self) -> usize {
        if self.shift > 0 { 2 } else { 0 }
    }

    /// The language it was parsed as.
    pub fn language(&self) -> Language {
        self.grammar.language()
    }

    pub(crate) fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// Steps that the parse took, in hundreds, rounded up: in proportion to the code's length for any code.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the parse contains errors.
    pub fn has_error(&self) -> bool {
        self.tree.root_node().has_error()
    }

    /// The leaves in document order.
    pub fn leaves(&self) -> Leaves<'_> {
        Leaves { syntax: self, cursor: Some(self.tree.walk()) }
    }

    /// Nodes of the tree, and those of them that are errors or were inserted by the parser.
    fn count(&self) -> (u64, u64) {
        let mut cursor = self.tree.walk();
        let (mut nodes, mut errors) = (0, 0);
        loop {
            let node = cursor.node();
            nodes += 1;
            errors += u64::from(node.is_error() || node.is_missing());
            if cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return (nodes, errors);
                }
            }
        }
    }

    /// Bytes inside error nodes, plus the number of tokens that the parser inserted.
    fn error_bytes(&self) -> usize {
        let mut cursor = self.tree.walk();
        let mut bytes = 0;
        loop {
            let node = cursor.node();
            if node.is_error() {
                bytes += node.end_byte() - node.start_byte() + 1;
            } else if node.is_missing() {
                bytes += 1;
            } else if node.has_error() && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return bytes;
                }
            }
        }
    }
}

/// Iterator over the leaves of a tree.
pub struct Leaves<'t> {
    syntax: &'t Syntax,
    cursor: Option<TreeCursor<'t>>,
}

impl<'t> Iterator for Leaves<'t> {
    type Item = Leaf<'t>;

    fn next(&mut self) -> Option<Leaf<'t>> {
        while let Some(cursor) = self.cursor.as_mut() {
            while cursor.goto_first_child() {}
            let node = cursor.node();
            let mut done = false;
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    done = true;
                    break;
                }
            }
            if done {
                self.cursor = None;
            }
            if let Some((start, end, line)) = self.syntax.place(&node) {
                return Some(Leaf { start, end, line, kind: node.kind() });
            }
        }
        None
    }
}
