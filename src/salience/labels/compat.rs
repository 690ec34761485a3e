//! The published examples' own order and spelling of tokens, to compare with them and to reproduce them.
//!
//! All of these are accidents: `null` and `NaN` are read back from a table as `nan`; tokens labelled external class or
//! externally defined are moved behind their method; methods of anonymous classes are listed once inside their method
//! and once more by themselves; line numbers count certain words instead of lines.

use super::table::{Rules, mark};
use super::{Calls, tables, walk};
use crate::error::{Error, Result};
use crate::salience::Label;
use crate::salience::syntax::{self, Language, Syntax};
use tree_sitter::Node;

/// A token as the published examples list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactToken {
    /// Its published spelling.
    pub text: String,
    /// First byte in the code.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Its label.
    pub label: Option<Label>,
    /// Not a source line, but the number of words among `return public if void for try catch class while` up to and
    /// including this token, in this order.
    pub line: u32,
}

/// Listing methods of anonymous classes twice takes quadratic time if they nest. It is refused if the listed methods
/// together have more bytes than this and more than a multiple of the code's bytes.
const ALWAYS_LISTED: usize = 1 << 16;
const MOST_LISTINGS: usize = 16;

/// The methods of a piece of code, with their tokens as the published examples list them. Everything outside of methods
/// with a body is left out.
pub fn artifact(code: &[u8], language: Language, calls: Calls) -> Result<Vec<ArtifactToken>> {
    artifact_tree(code, &syntax::parse(code, language)?, calls)
}

/// Like [`artifact`], for code that is already parsed; `syntax` must be its tree.
pub fn artifact_tree(code: &[u8], syntax: &Syntax, calls: Calls) -> Result<Vec<ArtifactToken>> {
    let methods = methods(syntax.root(), tables::rules(syntax.grammar()));
    let listed = methods.iter().map(|m| m.end_byte() - m.start_byte()).fold(0, usize::saturating_add);
    if listed > ALWAYS_LISTED.max(code.len().saturating_mul(MOST_LISTINGS)) {
        return Err(Error::Usage(
            "methods nest so deeply in anonymous classes that listing each by itself has no end: label without the \
             artifact's order"
                .into(),
        ));
    }
    let mut list: Vec<ArtifactToken> = Vec::new();
    for method in methods {
        let mut moved = Vec::new();
        walk::walk(code, syntax, method, calls, |token, label| {
            let text = spelling(&String::from_utf8_lossy(token.text));
            let token = ArtifactToken { text, start: token.start, end: token.end, label, line: 0 };
            match label {
                Some(Label::ExternalClass | Label::ExternallyDefined) => moved.push(token),
                _ => list.push(token),
            }
        });
        list.append(&mut moved);
    }
    const COUNTED: [&str; 9] = ["return", "public", "if", "void", "for", "try", "catch", "class", "while"];
    let mut line = 0;
    for token in &mut list {
        line += u32::from(COUNTED.contains(&token.text.as_str()));
        token.line = line;
    }
    Ok(list)
}

/// Methods with a body, including nested methods, in document order.
fn methods<'t>(root: Node<'t>, rules: &Rules) -> Vec<Node<'t>> {
    let mut cursor = root.walk();
    let mut list = Vec::new();
    loop {
        let node = cursor.node();
        if rules.whole(node.kind_id()) & mark::ARTIFACT_UNIT != 0 && node.child_by_field_name("body").is_some() {
            list.push(node);
        }
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return list;
            }
        }
    }
}

/// Spellings that a table reader takes for "no value" become `nan`; a jump without an operand has no blank before its
/// `;`.
fn spelling(text: &str) -> String {
    match text {
        "null" | "NaN" | "NULL" | "None" | "NA" | "N/A" | "n/a" => "nan".into(),
        _ if text.ends_with(';') && (text.starts_with("break") || text.starts_with("continue")) => {
            format!("{};", text[..text.len() - 1].trim_end())
        }
        _ => text.into(),
    }
}
