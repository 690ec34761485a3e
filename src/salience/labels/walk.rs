//! The walk over a syntax tree: one pass, no recursion, constant time per node.

use super::Calls;
use super::free::{free, spelled};
use super::table::{Class, Join, Marks, Rules, mark};
use super::tables;
use super::token::{Facts, Joiner, Token};
use crate::salience::Label;
use crate::salience::syntax::Syntax;
use std::borrow::Cow;
use std::collections::HashSet;
use tree_sitter::{Node, TreeCursor};

/// The state of a node that its children need.
#[derive(Clone, Copy, Default)]
struct Frame {
    context: Marks,
    /// Marks of the node itself that matter to its children.
    own: Marks,
    statement: u32,
    kind: u16,
    /// The last token child that was visited, 0 at first.
    left: u16,
    /// Whether the node began a unit.
    opened: bool,
    /// The context of the children that form the head, 0 if the node has none.
    head: Marks,
}

/// Marks that a child in a `THROUGH` place gets from its parent.
const PASSED_ON: Marks = mark::DECLARES | mark::RESULT_TYPE | mark::NAME;

struct Walker<'c, 't, F> {
    code: &'c [u8],
    syntax: &'t Syntax,
    rules: &'static Rules,
    calls: Calls,
    /// Names declared so far: in the file, in the unit.
    scopes: [HashSet<Cow<'c, [u8]>>; 2],
    /// The unit's own name.
    own_name: &'c [u8],
    in_unit: bool,
    /// First byte (in the tree) of the type of the innermost cast, entered last.
    cast_at: usize,
    joiner: Joiner<'c>,
    before: Option<Token<'c>>,
    pending: Option<Token<'c>>,
    keep: F,
}

/// Labels the tokens below `root` and hands them to `keep` in document order.
pub(super) fn walk<'c>(
    code: &'c [u8], syntax: &Syntax, root: Node<'_>, calls: Calls, keep: impl FnMut(&Token<'c>, Option<Label>),
) {
    let mut walker = Walker {
        code,
        syntax,
        rules: tables::rules(syntax.grammar()),
        calls,
        scopes: [HashSet::new(), HashSet::new()],
        own_name: b"",
        in_unit: false,
        cast_at: usize::MAX,
        joiner: Joiner::default(),
        before: None,
        pending: None,
        keep,
    };
    walker.run(root);
}

impl<'c, F: FnMut(&Token<'c>, Option<Label>)> Walker<'c, '_, F> {
    fn run(&mut self, root: Node<'_>) {
        let mut cursor = root.walk();
        let mut stack: Vec<Frame> = Vec::new();
        let mut above = Frame { kind: u16::MAX, ..Frame::default() };
        loop {
            let node = cursor.node();
            let frame = self.enter(&node, &mut above, &cursor);
            let leaf = node.child_count() == 0 || frame.own & mark::ATOM != 0;
            if leaf {
                self.leaf(&node, &frame, &above);
            } else if cursor.goto_first_child() {
                stack.push(above);
                above = frame;
                continue;
            }
            while !cursor.goto_next_sibling() {
                if above.opened {
                    self.close_unit();
                }
                match stack.pop() {
                    Some(frame) if cursor.goto_parent() => above = frame,
                    _ => {
                        self.flush();
                        return;
                    }
                }
            }
        }
    }

    /// The frame of a node, from the frame of its parent.
    fn enter(&mut self, node: &Node<'_>, above: &mut Frame, cursor: &TreeCursor<'_>) -> Frame {
        let kind = node.kind_id();
        let whole = self.rules.whole(kind);
        let field = || cursor.field_id().map_or(0, |id| id.get());
        let named = node.is_named();
        let mut own = whole | self.rules.below(above.kind, kind, if named { above.left } else { 0 }, field);
        if !named {
            above.left = kind;
        }
        if own & mark::THROUGH != 0 {
            own |= above.own & PASSED_ON;
        }
        if own & mark::CALLEE_IN != 0 {
            own |= above.own & mark::CALLEE;
        }
        if above.own & mark::VALUED != 0 {
            if own & mark::BODY != 0 {
                own |= mark::VALUED;
            } else if above.own & mark::BODY != 0 && own & mark::TAIL != 0 {
                own |= mark::RETURN;
            }
        }
        if own & mark::RESULT_TYPE != 0 {
            own |= above.own & mark::GENERIC;
        }
        let mut frame = Frame { kind, own, statement: above.statement, ..Frame::default() };
        frame.context = above.context | own & mark::INHERITED;
        if own & mark::BODY == 0 {
            frame.context |= above.head;
        }
        if own & mark::RESULT_TYPE != 0 && own & mark::COMPOSITE != 0 && frame.context & mark::HEAD != 0 {
            frame.context |= mark::RESULT;
        }
        if own & mark::OTHERWISE != 0 && whole & mark::CHAIN == 0 {
            frame.context |= mark::BRANCH;
        }
        if own & mark::STATEMENT != 0 {
            frame.statement = node.start_byte() as u32;
        }
        if own & mark::CAST != 0 {
            self.cast_at = node.start_byte();
        }
        if own & (mark::UNIT | mark::HEADED | mark::FIRST_ASSIGNMENT | mark::PROTOTYPE) != 0 {
            self.open(node, &mut frame);
        }
        frame
    }

    /// The rarer nodes: those with a head, and those that declare a name by being its first assignment.
    fn open(&mut self, node: &Node<'_>, frame: &mut Frame) {
        let inside = frame.context & mark::IN_UNIT != 0;
        // a type that is defined in the declaration of a variable belongs to that declaration
        let definition = frame.own & mark::HEADED != 0 && frame.context & mark::DECLARATION == 0;
        if frame.own & mark::UNIT != 0 || definition {
            frame.head = match (inside, self.rules.local_heads) {
                (false, _) => mark::HEAD,
                (true, true) => mark::LOCAL_HEAD,
                (true, false) => 0,
            };
        }
        if frame.own & mark::UNIT != 0 && node.child_by_field_name("return_type").is_some() {
            frame.own |= mark::VALUED;
        }
        if frame.own & mark::UNIT != 0 && !inside {
            self.flush();
            self.in_unit = true;
            self.own_name = b"";
            // not `clear`, which takes as long as the largest unit so far
            self.scopes[1] = HashSet::new();
            frame.opened = true;
            // contexts outside of a unit (a field's initialiser, for example) do not apply inside it
            frame.context = mark::IN_UNIT;
            let mut cursor = node.walk();
            let generic =
                node.children(&mut cursor).any(|c| self.rules.whole(c.kind_id()) & mark::TYPE_PARAMETERS != 0);
            frame.own = frame.own & !mark::GENERIC | if generic { mark::GENERIC } else { 0 };
        }
        if frame.own & mark::FIRST_ASSIGNMENT != 0 && self.is_first(node) {
            frame.context |= mark::DECLARATION;
        }
        if frame.own & mark::PROTOTYPE != 0 && !inside && declares_a_function(node) {
            frame.context &= !mark::DECLARATION;
            frame.head = mark::HEAD;
        }
    }

    fn close_unit(&mut self) {
        self.flush();
        self.in_unit = false;
        self.own_name = b"";
    }

    /// Whether the first name that an assignment assigns is new in its scope.
    fn is_first(&self, assignment: &Node<'_>) -> bool {
        let mut left = assignment.child_by_field_name("left");
        while let Some(node) = left {
            if node.kind() == "identifier" {
                let text = self.syntax.place(&node).and_then(|(start, end, _)| self.code.get(start..end));
                return text.is_some_and(|t| !self.scopes[usize::from(self.in_unit)].contains(&spelled(t)));
            }
            left = if node.kind().ends_with("_list") || node.kind().ends_with("_pattern") {
                node.named_child(0)
            } else {
                None
            };
        }
        false
    }

    fn leaf(&mut self, node: &Node<'_>, frame: &Frame, above: &Frame) {
        let Some((start, mut end, line)) = self.syntax.place(node) else { return };
        let (mut class, mut join) = self.rules.class(frame.kind);
        for (mark, other) in [
            (mark::DROPPED, Class::Punctuation),
            (mark::COMMENT, Class::Comment),
            (mark::LITERAL, Class::Literal),
            (mark::OPERATOR, Class::Symbol),
        ] {
            if frame.own & mark != 0 {
                class = other;
                break;
            }
        }
        if join == Join::Default && frame.own & mark::DEFAULT_LABEL == 0 {
            join = Join::No;
        }
        let code = self.code;
        let mut text = code.get(start..end).unwrap_or_default();
        if class == Class::Comment {
            text = text.trim_ascii_end();
            end = start + text.len();
        }
        if text.trim_ascii().is_empty() {
            return;
        }
        if join == Join::OpenBracket && above.own & mark::DIMENSIONS != 0 {
            class = Class::Dimensions;
        }
        let mut facts = Facts {
            call: frame.own & mark::CALLEE != 0,
            unary: above.own & mark::UNARY != 0,
            cast: node.start_byte() == self.cast_at,
            member: frame.own & mark::MEMBER != 0,
            weak: frame.own & mark::WEAK != 0,
            ..Facts::default()
        };
        if class == Class::Name {
            let scope = usize::from(self.in_unit);
            if frame.own & mark::DECLARES != 0 {
                self.scopes[scope].insert(spelled(text));
                facts.known = true;
            } else {
                facts.known = self.scopes[scope].contains(&spelled(text));
            }
            if frame.own & mark::NAME != 0 && frame.context & mark::HEAD != 0 && self.own_name.is_empty() {
                self.own_name = text;
            }
            facts.recursive = facts.call && text == self.own_name && !self.joiner.after_member;
        }
        let token = Token { start, end, line, text, class, context: frame.context, statement: frame.statement, facts };
        if let Some(done) = self.joiner.push(token, join, code) {
            self.push(done);
        }
    }

    /// Handles the next token: both neighbours of its predecessor are now known.
    fn push(&mut self, token: Token<'c>) {
        if let Some(pending) = self.pending.replace(token) {
            self.resolve(pending, Some(&token));
        }
    }

    fn flush(&mut self) {
        if let Some(token) = self.joiner.finish() {
            self.push(token);
        }
        if let Some(pending) = self.pending.take() {
            self.resolve(pending, None);
        }
        self.before = None;
    }

    fn resolve(&mut self, token: Token<'c>, after: Option<&Token<'c>>) {
        let structural = token.structural();
        if structural.is_some() || !token.facts.weak {
            let label = structural.or_else(|| free(&token, self.before.as_ref(), after, self.calls));
            (self.keep)(&token, label);
        }
        self.before = Some(token);
    }
}

/// Whether a declaration of C or C++ declares a function: it has a function declarator below pointers.
fn declares_a_function(node: &Node<'_>) -> bool {
    let mut declarator = node.child_by_field_name("declarator");
    // pointers to pointers to functions: no code nests deeper
    for _ in 0..8 {
        match declarator {
            Some(node) if node.kind() == "function_declarator" => return true,
            Some(node) => declarator = node.child_by_field_name("declarator").or_else(|| node.named_child(0)),
            None => return false,
        }
    }
    false
}
