//! Subtrees of syntax trees, as numbers: two subtrees have the same number if tree-sitter prints them alike.
//!
//! A printed tree has the named nodes and the tokens that the parser inserted, each with its field; other tokens are
//! left out. Printing every subtree takes quadratic time and recursion, so the number of a subtree is a hash of 64 bits
//! over what is printed for its root and over the numbers of its children.

use crate::salience::syntax::Syntax;
use std::hash::{DefaultHasher, Hash, Hasher};
use tree_sitter::{Node, TreeCursor};

/// Field (0: none) and number of a child.
type Child = (u16, u64);

/// The subtrees that CodeBLEU compares: the root, and every node with children.
pub fn of(syntax: &Syntax) -> Vec<u64> {
    let mut walk = Walk::default();
    let mut cursor = syntax.root().walk();
    loop {
        if cursor.goto_first_child() {
            walk.open.push(walk.children.len());
            continue;
        }
        walk.close(&cursor, walk.children.len());
        while !cursor.goto_next_sibling() {
            let (Some(first), true) = (walk.open.pop(), cursor.goto_parent()) else { return walk.found };
            walk.close(&cursor, first);
        }
    }
}

#[derive(Default)]
struct Walk {
    found: Vec<u64>,
    /// Printed children of the nodes that the walk is in.
    children: Vec<Child>,
    /// Place of the first child of each of these nodes.
    open: Vec<usize>,
}

impl Walk {
    /// Numbers a node whose children are numbered, from `first` on, and hands it to its parent.
    fn close(&mut self, cursor: &TreeCursor<'_>, first: usize) {
        let node = cursor.node();
        let (inner, root) = (node.child_count() > 0, self.open.is_empty());
        let field = cursor.field_id().map_or(0, |id| id.get());
        let hidden = !node.is_named() && !node.is_missing();
        if hidden && !inner && !root {
            return;
        }
        let number = number(&node, hidden, &self.children[first..]);
        if inner || root {
            self.found.push(number);
        }
        if hidden {
            // named nodes below a token stand in its place
            self.children[first..].iter_mut().filter(|(own, _)| *own == 0).for_each(|(own, _)| *own = field);
        } else {
            self.children.truncate(first);
            self.children.push((field, number));
        }
    }
}

/// The hash of what distinguishes a printed subtree from others.
fn number(node: &Node<'_>, hidden: bool, children: &[Child]) -> u64 {
    // errors inside that no visible child shows: the printed form of a node without children
    let unseen = if !node.has_error() && !node.is_error() {
        String::new()
    } else if node.child_count() == 0 {
        Some(node.to_sexp()).filter(|printed| *printed != format!("({})", node.kind())).unwrap_or_default()
    } else {
        let seen = |child: Node<'_>| child.has_error() || child.is_error() || child.is_missing();
        let unseen = !node.is_error() && !node.children(&mut node.walk()).any(seen);
        if unseen { "MISSING".into() } else { String::new() }
    };
    let mut hasher = DefaultHasher::new();
    (node.kind_id(), node.is_missing(), hidden, unseen, children).hash(&mut hasher);
    hasher.finish()
}
