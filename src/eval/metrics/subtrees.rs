//! Subtrees of syntax trees, as numbers: two subtrees have the same number if tree-sitter prints them alike.
//!
//! A printed tree has the named nodes and the tokens that the parser inserted, each with its field; other tokens are
//! left out. Printing every subtree takes quadratic time and recursion, so each one is numbered from the numbers of its
//! children instead.

use crate::salience::syntax::Syntax;
use std::collections::HashMap;
use tree_sitter::{Node, TreeCursor};

/// Field (0: none) and number of a child.
type Child = (u16, u32);

/// What distinguishes a printed subtree from others.
#[derive(PartialEq, Eq, Hash)]
struct Printed {
    kind: u16,
    /// Inserted by the parser.
    missing: bool,
    /// Left out where it is a child.
    hidden: bool,
    /// Errors inside that no visible child shows: the printed form of a node without children.
    unseen: String,
    children: Vec<Child>,
}

/// The numbers of the subtrees of one or more trees.
#[derive(Default)]
pub struct Subtrees(HashMap<Printed, u32>);

impl Subtrees {
    /// The subtrees that CodeBLEU compares: the root, and every node with children.
    pub fn of(&mut self, syntax: &Syntax) -> Vec<u32> {
        let mut found = Vec::new();
        let mut cursor = syntax.root().walk();
        let mut open: Vec<Vec<Child>> = Vec::new();
        loop {
            if cursor.goto_first_child() {
                open.push(Vec::new());
                continue;
            }
            self.close(&cursor, Vec::new(), &mut open, &mut found);
            while !cursor.goto_next_sibling() {
                let (Some(children), true) = (open.pop(), cursor.goto_parent()) else { return found };
                self.close(&cursor, children, &mut open, &mut found);
            }
        }
    }

    /// Numbers a node whose children are numbered, and hands it to its parent.
    fn close(&mut self, cursor: &TreeCursor<'_>, children: Vec<Child>, open: &mut [Vec<Child>], found: &mut Vec<u32>) {
        let node = cursor.node();
        let field = cursor.field_id().map_or(0, |id| id.get());
        let hidden = !node.is_named() && !node.is_missing();
        if let Some(parent) = open.last_mut().filter(|_| hidden) {
            // named nodes below a token stand in its place
            let inherit = |&(own, number): &Child| (if own == 0 { field } else { own }, number);
            parent.extend(children.iter().map(inherit));
        }
        if hidden && node.child_count() == 0 && !open.is_empty() {
            return;
        }
        let number = self.number(&node, hidden, children);
        match open.last_mut() {
            Some(parent) if !hidden => parent.push((field, number)),
            _ => {}
        }
        if node.child_count() > 0 || open.is_empty() {
            found.push(number);
        }
    }

    fn number(&mut self, node: &Node<'_>, hidden: bool, children: Vec<Child>) -> u32 {
        let unseen = if !node.has_error() && !node.is_error() {
            String::new()
        } else if node.child_count() == 0 {
            Some(node.to_sexp()).filter(|printed| *printed != format!("({})", node.kind())).unwrap_or_default()
        } else {
            let seen = |child: Node<'_>| child.has_error() || child.is_error() || child.is_missing();
            let unseen = !node.is_error() && !node.children(&mut node.walk()).any(seen);
            if unseen { "MISSING".into() } else { String::new() }
        };
        let printed = Printed { kind: node.kind_id(), missing: node.is_missing(), hidden, unseen, children };
        let next = self.0.len() as u32;
        *self.0.entry(printed).or_insert(next)
    }
}
