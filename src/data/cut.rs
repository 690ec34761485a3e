//! Code cut by its grammar for completion: a line, a statement or a block is left out and becomes the target.

use std::ops::Range;

use tree_sitter::Node;

use crate::choices::choices;
use crate::random::{Purpose, Stream};
use crate::salience::syntax::{self, Language, Syntax};

choices! {
    /// What is left out of the code of a completion row that has no target of its own.
    Unit {
        /// The second half of its lines.
        Half = "half",
        /// A line that holds more than punctuation and is no comment.
        Line = "line",
        /// A statement.
        Statement = "statement",
        /// A block of statements, with its braces.
        Block = "block",
    }
}

/// How the code of completion rows is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Cutting {
    /// What is left out.
    pub unit: Unit,
    /// Chooses among the units of a code, together with the code itself: the choice does not depend on other rows.
    pub seed: u64,
    /// The language of the code; `None`: the `lang` of its row.
    pub language: Option<Language>,
    /// The marks around the code before and behind the target, for models that read both; `None` gives the code before
    /// it alone.
    pub fim: Option<Fim>,
}

impl Default for Cutting {
    fn default() -> Cutting {
        Cutting { unit: Unit::Half, seed: 0, language: None, fim: None }
    }
}

/// The tokens of a model that fills in the middle (Bavarian et al. 2022): in front of the prefix, of the suffix and of
/// the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fim(pub [&'static str; 3]);

impl Fim {
    /// The spellings of StarCoder, Granite and SmolLM, of Qwen2.5-Coder, and of DeepSeek-Coder.
    pub const ALL: [Fim; 3] = [
        Fim(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]),
        Fim(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]),
        Fim(["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]),
    ];

    /// The prompt: prefix, suffix, and the mark behind which the middle is written.
    pub(crate) fn prompt(&self, before: &str, behind: &str) -> String {
        let [prefix, suffix, middle] = self.0;
        format!("{prefix}{before}{suffix}{behind}{middle}")
    }
}

/// The code before a target that was cut from its code.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// The code.
    pub text: String,
    /// Its language; `None` where the cut needs none.
    pub language: Option<Language>,
}

impl Before {
    /// The first unit of a text that continues the code ([`first`]).
    pub fn first<'t>(&self, text: &'t str, unit: Unit) -> &'t str {
        match self.language {
            Some(language) => &text[..first(&self.text, text, language, unit)],
            None => text,
        }
    }
}

/// The place of a unit in code, chosen by the seed among all that have code before them. Blanks between the unit and
/// what stands before it on its line belong to it. Errors with a sentence about the row.
pub(crate) fn place(code: &str, language: Language, unit: Unit, seed: u64) -> Result<Range<usize>, String> {
    let syntax = syntax::parse(code.as_bytes(), language).map_err(|e| e.to_string())?;
    let mut units = match unit {
        Unit::Line => lines(code, &syntax),
        _ => nodes(&syntax, unit, false),
    };
    units.retain(|unit| {
        let (before, target) = (&code.as_bytes()[..unit.start], &code.as_bytes()[unit.clone()]);
        !before.trim_ascii().is_empty() && target.iter().any(|&b| b.is_ascii_alphanumeric() || !b.is_ascii())
    });
    units.retain(|unit| code.is_char_boundary(unit.start) && code.is_char_boundary(unit.end));
    if units.is_empty() {
        return Err(format!("`code` has no {unit} of {language} with code before it; give `content`, or drop the row"));
    }
    let hash = blake3::hash(code.as_bytes());
    let key = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default());
    let chosen = Stream::new(seed ^ key, Purpose::Cut, 0).below(u32::try_from(units.len()).unwrap_or(u32::MAX));
    let Range { start, end } = units.swap_remove(chosen as usize);
    Ok(code[..start].trim_end_matches([' ', '\t']).len()..end)
}

/// The end of the first unit in a text that continues `before`: behind it the text runs on. Where the text has no
/// such unit, or does not end it, all of it counts.
pub fn first(before: &str, text: &str, language: Language, unit: Unit) -> usize {
    match unit {
        Unit::Half => text.len(),
        Unit::Line => text.find('\n').unwrap_or(text.len()),
        Unit::Statement | Unit::Block => {
            let code = format!("{before}{text}\n{}", closers(before, language));
            let Ok(syntax) = syntax::parse(code.as_bytes(), language) else { return text.len() };
            let from = before.len() + text.len() - text.trim_start().len();
            let ends = nodes(&syntax, unit, true).into_iter().filter(|node| node.start == from).map(|node| node.end);
            let end = ends.filter(|&end| end <= before.len() + text.len()).max();
            end.map_or(text.len(), |end| end - before.len()).min(text.len())
        }
    }
}

/// The brackets that close what `code` leaves open.
fn closers(code: &str, language: Language) -> String {
    let Ok(syntax) = syntax::parse(code.as_bytes(), language) else { return String::new() };
    let mut open = Vec::new();
    for leaf in syntax.leaves() {
        match leaf.kind {
            "{" | "${" => open.push('}'),
            "(" => open.push(')'),
            "[" => open.push(']'),
            "}" | ")" | "]" => {
                open.pop_if(|close| leaf.kind.starts_with(*close));
            }
            _ => {}
        }
    }
    open.into_iter().rev().collect()
}

/// The lines that begin with a token and are no comment, without the blanks around them.
fn lines(code: &str, syntax: &Syntax) -> Vec<Range<usize>> {
    let mut tokens: Vec<usize> =
        syntax.leaves().filter(|leaf| !leaf.kind.contains("comment")).map(|leaf| leaf.start).collect();
    tokens.sort_unstable();
    let mut at = 0;
    let mut found = Vec::new();
    for line in code.split_inclusive('\n') {
        let start = at + line.len() - line.trim_start().len();
        let end = at + line.trim_end().len();
        at += line.len();
        if tokens.binary_search(&start).is_ok() && start < end {
            found.push(start..end);
        }
    }
    found
}

/// The nodes of a unit. `broken` includes those with errors in them.
fn nodes(syntax: &Syntax, unit: Unit, broken: bool) -> Vec<Range<usize>> {
    let mut cursor = syntax.root().walk();
    let mut found = Vec::new();
    // whether the parent of each node on the way down holds statements
    let mut inside = vec![false];
    loop {
        let node = cursor.node();
        let fits = match unit {
            Unit::Statement => inside.last() == Some(&true) && is_statement(&node),
            Unit::Block => is_block(&node),
            Unit::Half | Unit::Line => false,
        };
        if fits
            && (broken || !node.has_error())
            && let Some((start, end, _)) = syntax.place(&node)
        {
            found.push(start..end);
        }
        if cursor.goto_first_child() {
            inside.push(holds_statements(&node));
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return found;
            }
            inside.pop();
        }
    }
}

/// Whether statements stand in such a node, by the names of the nine grammars.
fn holds_statements(node: &Node) -> bool {
    is_braced(node)
        || matches!(
            node.kind(),
            "statement_list"
                | "switch_block_statement_group"
                | "switch_section"
                | "switch_case"
                | "case_statement"
                | "module"
        )
}

fn is_braced(node: &Node) -> bool {
    matches!(node.kind(), "block" | "constructor_body" | "compound_statement" | "statement_block")
}

fn is_block(node: &Node) -> bool {
    is_braced(node)
        && (0..node.named_child_count() as u32).any(|at| node.named_child(at).is_some_and(|child| !child.is_extra()))
}

fn is_statement(node: &Node) -> bool {
    let kind = node.kind();
    let declares = [
        "local_variable_declaration",
        "declaration",
        "lexical_declaration",
        "variable_declaration",
        "let_declaration",
        "short_var_declaration",
        "var_declaration",
        "const_declaration",
    ];
    (kind.ends_with("_statement") && !kind.contains("import") && kind != "export_statement") || declares.contains(&kind)
}

#[cfg(test)]
mod tests;
