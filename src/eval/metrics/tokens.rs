//! Exact match of syntax tokens, and of identifiers as CrossCodeEval defines it, by the grammar.

use super::mean::Mean;
use super::{Family, Metric, Pair};
use crate::salience::syntax::{self, Language, Parsed, Syntax};
use std::collections::HashSet;

/// `token_exact`: 1 if prediction and reference have the same syntax tokens in the same constructs. Layout and comments
/// do not count, except where layout is syntax (blocks and line ends of Python, line ends of JavaScript and Go).
/// `identifier_exact`: 1 if they have the same identifiers in the same order. `identifier_f1`: F1 of the two sets of
/// identifiers, 0 if both are empty (Ding et al., CrossCodeEval, NeurIPS 2023; there a regular expression and a list of
/// keywords find the identifiers, here the grammar does). All three are means over pairs.
pub fn tokens(language: Language) -> impl Family {
    let metrics = &[
        Metric { name: "token_exact", scale: 1.0 },
        Metric { name: "identifier_exact", scale: 1.0 },
        Metric { name: "identifier_f1", scale: 1.0 },
    ];
    Mean { metrics, values: move |pair: &Pair, values: &mut [f64]| compare(pair, language, values) }
}

fn compare(pair: &Pair, language: Language, values: &mut [f64]) {
    let [hyp, reference] = [pair.hyp, pair.reference].map(|text| text.tokens(language).walk.as_ref());
    let (Some(a), Some(b)) = (hyp, reference) else {
        // code that is not parsed equals only itself
        let [hyp, reference] = pair.texts();
        values[0] = f64::from(hyp == reference);
        return;
    };
    // error recovery depends on layout, so the constructs of broken code are not compared
    let same_tree = match (a.has_error, b.has_error) {
        (false, false) => a.constructs == b.constructs,
        (a, b) => a == b,
    };
    values[0] = f64::from(same_tree && a.tokens == b.tokens);
    values[1] = f64::from(a.identifiers == b.identifiers);
    values[2] = f1(&a.identifiers, &b.identifiers);
}

/// 2 TP / (2 TP + FP + FN) of two lists as sets; 0 if both are empty.
fn f1(hyp: &[&str], reference: &[&str]) -> f64 {
    let [hyp, reference] = [hyp, reference].map(|names| names.iter().collect::<HashSet<_>>());
    let both = hyp.intersection(&reference).count();
    if both == 0 { 0.0 } else { 2.0 * both as f64 / (hyp.len() + reference.len()) as f64 }
}

/// The syntax tokens of a text.
pub struct Tokens<'c> {
    /// `None` if parsing the text would not end in reasonable time.
    walk: Option<Walk<'c>>,
    /// The tree has neither an error nor an inserted token.
    pub(super) valid: bool,
}

impl<'c> Tokens<'c> {
    pub(super) fn of(text: &'c str, language: Language) -> Tokens<'c> {
        let tree = syntax::parse(text.as_bytes(), language).ok();
        let valid = tree.as_ref().is_some_and(|tree| Parsed::of(tree, false).errors == 0);
        Tokens { walk: tree.map(|tree| Walk::over(text, &tree)), valid }
    }
}

/// What one walk over a tree finds, without comments.
#[derive(Default)]
struct Walk<'c> {
    has_error: bool,
    tokens: Vec<&'c str>,
    identifiers: Vec<&'c str>,
    /// Inner nodes in document order: kind and depth.
    constructs: Vec<(u16, u32)>,
}

/// A node that the walk is in.
struct Open {
    /// Byte behind the last child.
    at: usize,
    /// Text between children is part of a literal, even if it is blank.
    literal: bool,
}

impl<'c> Walk<'c> {
    fn over(code: &'c str, syntax: &Syntax) -> Walk<'c> {
        let mut walk = Walk { has_error: syntax.has_error(), ..Walk::default() };
        let mut cursor = syntax.root().walk();
        // the parents of the node
        let mut open: Vec<Open> = Vec::new();
        loop {
            let node = cursor.node();
            let kind = node.kind();
            let place = syntax.place(&node);
            let comment = kind.ends_with("comment");
            if let (Some(parent), Some((start, _, _))) = (open.last_mut(), place) {
                walk.between(code, parent, start);
            }
            let inner = !comment && node.child_count() > 0;
            if inner && cursor.goto_first_child() {
                let depth = open.len();
                if depth > syntax.wrapper_depth() {
                    walk.constructs.push((node.kind_id(), (depth - syntax.wrapper_depth()) as u32));
                }
                let at = place.map_or(0, |(start, _, _)| start);
                let literal = kind.contains("string") || kind.contains("char");
                open.push(Open { at, literal: literal && !kind.starts_with("concatenated") });
                continue;
            }
            if let Some((start, end, _)) = place {
                let mut literal = false;
                if let Some(parent) = open.last_mut() {
                    parent.at = end;
                    literal = parent.literal;
                }
                let text = code.get(start..end).unwrap_or_default();
                if !comment && (literal || !text.trim().is_empty()) {
                    walk.tokens.push(text);
                    if kind.ends_with("identifier") {
                        walk.identifiers.push(text);
                    }
                }
            }
            while !cursor.goto_next_sibling() {
                let (Some(mut done), true) = (open.pop(), cursor.goto_parent()) else { return walk };
                if let Some((_, end, _)) = syntax.place(&cursor.node()) {
                    walk.between(code, &mut done, end);
                    if let Some(parent) = open.last_mut() {
                        parent.at = end;
                    }
                }
            }
        }
    }

    /// The grammar hides some tokens, such as the text around an escape in a string: they are what lies between nodes.
    fn between(&mut self, code: &'c str, parent: &mut Open, start: usize) {
        let hidden = code.get(parent.at..start).unwrap_or_default();
        let hidden = if parent.literal { hidden } else { hidden.trim() };
        if !hidden.is_empty() {
            self.tokens.push(hidden);
        }
        parent.at = parent.at.max(start);
    }
}
