//! The data flow of CodeBLEU 0.7.0: which variables take their values from which.
//!
//! An edge leads from a token to the variables that its value comes from. The rules are those of the package's
//! `parser/DFG.py`, with what they miss:
//!
//! * C and C++ are read by the rules of C#, whose node kinds their grammars mostly do not have;
//! * a token is cut out of its line by bytes, but the line is counted in characters, so that tokens behind a character
//!   beyond ASCII are other pieces of the line;
//! * where a rule meets a tree that it does not expect, or the tree is deeper than Python's recursion allows, the text
//!   has no data flow at all;
//! * names that merge are a Python set, whose order changes from run to run; here they keep the order of appearance.
//!
//! Loops are read twice, so nested loops take exponential time in the package. Here a text that takes too long has no
//! data flow.

mod rules;

use crate::salience::syntax::Syntax;
use rules::{Declared, Rules};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;
use tree_sitter::Point;

/// The depth of a tree at which the package meets Python's limit of recursion, less the calls around it.
const DEEPEST: usize = 990;
/// Steps that a text may take: visits of a node, names copied, edges. Code without loops takes a few per node.
const STEPS: usize = 5_000_000;

/// An edge: a variable, whether it was computed (or merely comes) from the variables that follow. Variables are
/// numbered as they appear in the text.
pub type Edge = (u32, bool, Vec<u32>);

/// The edges of a parsed text.
pub fn edges(code: &str, syntax: &Syntax) -> Vec<Edge> {
    let flow = Arena::of(code, syntax).and_then(|arena| {
        let rules = Rules::of(syntax.language());
        let mut reader = Reader { arena: &arena, rules, flows: Vec::new(), steps: STEPS };
        reader.visit(0, &mut States::new())?;
        Some(reader.flows)
    });
    normalised(flow.unwrap_or_default())
}

/// Drops variables without any edge, joins the flows of each token, and numbers the names.
fn normalised(mut flows: Vec<Flow>) -> Vec<Edge> {
    flows.sort_by_key(|flow| flow.token);
    let mut linked = HashSet::new();
    for flow in flows.iter().filter(|flow| !flow.sources.is_empty()) {
        linked.insert(flow.token);
        linked.extend(flow.sources.iter().copied());
    }
    flows.retain(|flow| linked.contains(&flow.token));
    let joined = join(flows, |flow| flow.token);
    let mut numbers = HashMap::new();
    let mut number = |name| {
        let next = numbers.len() as u32;
        *numbers.entry(name).or_insert(next)
    };
    let edge = |flow: Flow| {
        let from = flow.from.iter().map(|&name| number(name)).collect();
        (number(flow.name), flow.computed, from)
    };
    joined.into_iter().map(edge).collect()
}

/// A token and the variables that its value comes from.
#[derive(Clone)]
struct Flow {
    name: u32,
    token: u32,
    computed: bool,
    /// Names.
    from: Vec<u32>,
    /// Their tokens.
    sources: Vec<u32>,
}

/// Joins flows with the same key into the first of them, which decides on name and relation. What they come from is
/// united as sets, in the order of appearance.
fn join<K: Eq + Hash>(flows: Vec<Flow>, key: impl Fn(&Flow) -> K) -> Vec<Flow> {
    let mut places = HashMap::new();
    let mut joined: Vec<(Flow, bool)> = Vec::new();
    for flow in flows {
        match places.entry(key(&flow)) {
            Entry::Vacant(new) => {
                new.insert(joined.len());
                joined.push((flow, false));
            }
            Entry::Occupied(place) => {
                let (first, several) = &mut joined[*place.get()];
                *several = true;
                first.from.extend(flow.from);
                first.sources.extend(flow.sources);
            }
        }
    }
    for (flow, _) in joined.iter_mut().filter(|(_, several)| *several) {
        for list in [&mut flow.from, &mut flow.sources] {
            let mut seen = HashSet::new();
            list.retain(|&item| seen.insert(item));
        }
    }
    joined.into_iter().map(|(flow, _)| flow).collect()
}

/// The tokens that last set each name.
type States = HashMap<u32, Rc<[u32]>>;

/// A node. The nodes of a tree stand in document order, each before its children.
struct Node<'t> {
    kind: &'t str,
    /// Its field, 0 if it has none.
    field: u16,
    /// The node behind its last descendant.
    end: usize,
    /// Children that the grammar gives a token (a string), but for commas.
    inside: usize,
    /// Name and number, if it is a token.
    token: Option<(u32, u32)>,
    /// Its text is not its kind: it is not a keyword or a symbol.
    variable: bool,
}

struct Arena<'t> {
    nodes: Vec<Node<'t>>,
    grammar: tree_sitter::Language,
}

/// Nodes that are one token although the grammar divides them.
const WHOLE: [&str; 3] = ["string_literal", "string", "character_literal"];

impl<'t> Arena<'t> {
    /// `None` if the tree is too deep.
    fn of(code: &str, syntax: &'t Syntax) -> Option<Arena<'t>> {
        let lines = Lines::of(code);
        let mut names: HashMap<String, u32> = HashMap::new();
        // tokens without text, by their place
        let mut empty: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut tokens = 0;
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut cursor = syntax.root().walk();
        'nodes: loop {
            let node = cursor.node();
            let kind = node.kind();
            let leaf = node.child_count() == 0 || WHOLE.contains(&kind);
            let this = nodes.len();
            let field = cursor.field_id().map_or(0, |id| id.get());
            let mut new = Node { kind, field, end: this + 1, inside: 0, token: None, variable: false };
            if leaf && kind != "comment" {
                let text = lines.piece(node.start_position(), node.end_position());
                new.variable = text != kind;
                new.inside = node.children(&mut node.walk()).filter(|child| child.kind() != ",").count();
                let next = names.len() as u32;
                new.token = Some((*names.entry(text).or_insert(next), tokens));
                tokens += 1;
                if node.start_byte() == node.end_byte() {
                    empty.entry(node.start_byte()).or_default().push(this);
                }
            }
            nodes.push(new);
            if !leaf && cursor.goto_first_child() {
                open.push(this);
                if open.len() >= DEEPEST {
                    return None;
                }
                continue;
            }
            while !cursor.goto_next_sibling() {
                let (Some(parent), true) = (open.pop(), cursor.goto_parent()) else { break 'nodes };
                nodes[parent].end = nodes.len();
            }
        }
        // the package finds tokens by their place: the last one there counts for all
        for place in empty.values() {
            let last = place.last().and_then(|&node| nodes[node].token);
            place.iter().for_each(|&node| nodes[node].token = last);
        }
        Some(Arena { nodes, grammar: syntax.grammar().load() })
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let (mut next, end) = (node + 1, self.nodes[node].end);
        std::iter::from_fn(move || {
            let child = next;
            next = self.nodes[..end].get(child)?.end;
            Some(child)
        })
    }

    fn field(&self, node: usize, name: &str) -> Option<usize> {
        let field = self.grammar.field_id_for_name(name)?.get();
        self.children(node).find(|&child| self.nodes[child].field == field)
    }
}

/// The lines of a text, with the byte offset of each character of those that are not ASCII.
struct Lines<'c>(Vec<(&'c str, Option<Vec<usize>>)>);

impl<'c> Lines<'c> {
    fn of(code: &'c str) -> Lines<'c> {
        let line = |line: &'c str| (line, (!line.is_ascii()).then(|| line.char_indices().map(|(at, _)| at).collect()));
        Lines(code.split('\n').map(line).collect())
    }

    /// A part of a line, by character.
    fn part(&self, row: usize, from: usize, to: usize) -> &'c str {
        let Some((line, offsets)) = self.0.get(row) else { return "" };
        let byte = |at: usize| match offsets {
            Some(offsets) => offsets.get(at).copied().unwrap_or(line.len()),
            None => at.min(line.len()),
        };
        line.get(byte(from)..byte(to)).unwrap_or_default()
    }

    /// The text between two places, without line ends.
    fn piece(&self, from: Point, to: Point) -> String {
        if from.row == to.row {
            return self.part(from.row, from.column, to.column).to_string();
        }
        let mut piece = self.part(from.row, from.column, usize::MAX).to_string();
        (from.row + 1..to.row).for_each(|row| piece.push_str(self.part(row, 0, usize::MAX)));
        piece + self.part(to.row, 0, to.column)
    }
}

/// Reads the flows of a tree. Its methods return `None` where the package fails or the steps are used up.
struct Reader<'a> {
    arena: &'a Arena<'a>,
    rules: &'static Rules,
    flows: Vec<Flow>,
    steps: usize,
}

impl Reader<'_> {
    fn spend(&mut self, steps: usize) -> Option<()> {
        self.steps = self.steps.checked_sub(steps)?;
        Some(())
    }

    /// Adds the flows below a node; `states` is what holds before it, then what holds behind it.
    fn visit(&mut self, at: usize, states: &mut States) -> Option<()> {
        self.spend(1)?;
        let (node, rules) = (&self.arena.nodes[at], self.rules);
        let is = |kinds: &[&str]| kinds.contains(&node.kind);
        if let Some((name, token)) = node.token {
            self.token(node, name, token, states)
        } else if is(rules.declaration) {
            self.declaration(at, states)
        } else if is(rules.assignment) {
            if rules.python { self.python_assignment(at, states) } else { self.assignment(at, states) }
        } else if is(rules.increment) {
            self.pairs(at, at, true, states)
        } else if is(rules.branch) {
            self.branch(at, states)
        } else if is(rules.counted) {
            self.looped(|reader, states| reader.counted(at, states), states)
        } else if is(rules.each) {
            self.looped(|reader, states| reader.each(at, states), states)
        } else if is(rules.repeated) {
            self.looped(|reader, states| (0..2).try_for_each(|_| reader.children(at, states)), states)
        } else {
            if rules.python {
                // a comprehension sets its variables before its value reads them
                let clause = |&child: &usize| self.arena.nodes[child].kind == "for_in_clause";
                let (first, rest): (Vec<_>, Vec<_>) = self.arena.children(at).partition(clause);
                return first.into_iter().chain(rest).try_for_each(|child| self.visit(child, states));
            }
            self.children(at, states)
        }
    }

    fn children(&mut self, at: usize, states: &mut States) -> Option<()> {
        let arena = self.arena;
        arena.children(at).try_for_each(|child| self.visit(child, states))
    }

    fn token(&mut self, node: &Node<'_>, name: u32, token: u32, states: &mut States) -> Option<()> {
        if !node.variable {
            return Some(());
        }
        let (from, sources) = match states.get(&name) {
            Some(set) => (vec![name], set.to_vec()),
            None => (vec![], vec![]),
        };
        if from.is_empty() && node.kind == "identifier" {
            states.insert(name, [token].into());
        }
        self.push(Flow { name, token, computed: false, from, sources })
    }

    fn push(&mut self, flow: Flow) -> Option<()> {
        self.spend(1 + flow.from.len() + flow.sources.len())?;
        self.flows.push(flow);
        Some(())
    }

    /// Names and tokens of the variables below a node.
    fn variables(&mut self, at: usize) -> Option<Vec<(u32, u32)>> {
        let nodes = &self.arena.nodes[at..self.arena.nodes[at].end];
        self.spend(nodes.len())?;
        Some(nodes.iter().filter(|node| node.variable).filter_map(|node| node.token).collect())
    }

    /// A flow from each variable below `value` to each below `name`.
    fn pairs(&mut self, name: usize, value: usize, computed: bool, states: &mut States) -> Option<()> {
        let (targets, values) = (self.variables(name)?, self.variables(value)?);
        for &(name, token) in &targets {
            for &(from, source) in &values {
                self.push(Flow { name, token, computed, from: vec![from], sources: vec![source] })?;
            }
            states.insert(name, [token].into());
        }
        Some(())
    }

    fn declaration(&mut self, at: usize, states: &mut States) -> Option<()> {
        let children: Vec<usize> = self.arena.children(at).take(3).collect();
        let (name, value) = match self.rules.declared {
            Declared::Fields => (self.arena.field(at, "name"), self.arena.field(at, "value")),
            Declared::Pair if children.len() == 2 => (Some(children[0]), Some(children[1])),
            Declared::Pair => (children.first().copied(), None),
            Declared::Second => (children.get(1).copied(), children.get(2).copied()),
        };
        if let Some(value) = value {
            self.visit(value, states)?;
            return self.pairs(name?, value, false, states);
        }
        for (name, token) in self.variables(name?)? {
            self.push(Flow { name, token, computed: false, from: vec![], sources: vec![] })?;
            states.insert(name, [token].into());
        }
        Some(())
    }

    fn assignment(&mut self, at: usize, states: &mut States) -> Option<()> {
        let (left, right) = (self.arena.field(at, "left"), self.arena.field(at, "right")?);
        self.visit(right, states)?;
        self.pairs(left?, right, true, states)
    }

    fn python_assignment(&mut self, at: usize, states: &mut States) -> Option<()> {
        let left = self.arena.field(at, "left");
        if self.arena.nodes[at].kind == "for_in_clause" {
            let right = self.arena.children(at).last()?;
            return self.unpack(vec![left?], vec![right], states);
        }
        let Some(right) = self.arena.field(at, "right") else { return Some(()) };
        let (left, right) = self.matched(left?, right)?;
        self.unpack(left, right, states)
    }

    /// The parts of the two sides of `a, b = c, d`, or the sides themselves. Parts of a string are a failure.
    fn matched(&self, left: usize, right: usize) -> Option<(Vec<usize>, Vec<usize>)> {
        let nodes = &self.arena.nodes;
        let parts = |side| self.arena.children(side).filter(|&child| nodes[child].kind != ",").collect::<Vec<_>>();
        let (lefts, rights) = (parts(left), parts(right));
        let count = [lefts.len() + nodes[left].inside, rights.len() + nodes[right].inside];
        if count[0] != count[1] || count[0] == 0 {
            return Some((vec![left], vec![right]));
        }
        (nodes[left].inside + nodes[right].inside == 0).then_some((lefts, rights))
    }

    /// Each variable of a left side is computed from all of its right side.
    fn unpack(&mut self, left: Vec<usize>, right: Vec<usize>, states: &mut States) -> Option<()> {
        right.iter().try_for_each(|&node| self.visit(node, states))?;
        for (left, right) in left.into_iter().zip(right) {
            let (from, sources): (Vec<_>, Vec<_>) = self.variables(right)?.into_iter().unzip();
            for (name, token) in self.variables(left)? {
                self.push(Flow { name, token, computed: true, from: from.clone(), sources: sources.clone() })?;
                states.insert(name, [token].into());
            }
        }
        Some(())
    }

    /// Each alternative starts from what holds before the branch; behind it, any of them may have been taken.
    fn branch(&mut self, at: usize, states: &mut States) -> Option<()> {
        let (arena, rules) = (self.arena, self.rules);
        let before = states.clone();
        let mut ends = Vec::new();
        let (mut alternatives, mut otherwise) = (false, false);
        for child in arena.children(at) {
            let kind = arena.nodes[child].kind;
            otherwise |= kind.contains("else");
            let alternative = match rules.python {
                true => matches!(kind, "elif_clause" | "else_clause"),
                false => alternatives || rules.branch.contains(&kind),
            };
            alternatives |= alternative;
            if alternative {
                let mut own = before.clone();
                self.spend(own.len())?;
                self.visit(child, &mut own)?;
                ends.push(own);
            } else {
                self.visit(child, states)?;
            }
        }
        if !otherwise || rules.keeps {
            ends.push(before);
        }
        for end in ends {
            self.spend(end.len())?;
            for (name, set) in end {
                match states.entry(name) {
                    Entry::Vacant(new) => _ = new.insert(set),
                    Entry::Occupied(old) if Rc::ptr_eq(old.get(), &set) => {}
                    Entry::Occupied(mut old) => {
                        self.spend(old.get().len() + set.len())?;
                        let all: BTreeSet<u32> = old.get().iter().chain(&*set).copied().collect();
                        old.insert(all.into_iter().collect());
                    }
                }
            }
        }
        Some(())
    }

    /// Runs the reading of a loop, then joins the flows of the same variable that it found.
    fn looped(&mut self, read: impl FnOnce(&mut Self, &mut States) -> Option<()>, states: &mut States) -> Option<()> {
        let from = self.flows.len();
        read(self, states)?;
        let found = self.flows.split_off(from);
        self.spend(found.iter().map(|flow| 1 + flow.from.len() + flow.sources.len()).sum())?;
        self.flows.extend(join(found, |flow| (flow.name, flow.token, flow.computed)));
        Some(())
    }

    /// `for (int i = 0; i < n; i++)`, and Python's `for`, which reads its body twice.
    fn counted(&mut self, at: usize, states: &mut States) -> Option<()> {
        if self.rules.python {
            let last = self.arena.children(at).last()?;
            for _ in 0..2 {
                let (left, right) = (self.arena.field(at, "left")?, self.arena.field(at, "right")?);
                let (left, right) = self.matched(left, right)?;
                self.unpack(left, right, states)?;
                if self.arena.nodes[last].kind == "block" {
                    self.visit(last, states)?;
                }
            }
            return Some(());
        }
        self.children(at, states)?;
        let arena = self.arena;
        let head = |&child: &usize| arena.nodes[child].kind == self.rules.head;
        let Some(head) = arena.children(at).find(head) else { return Some(()) };
        if let Some(update) = arena.field(head, "update").filter(|_| self.rules.head == "for_clause") {
            self.visit(update, states)?;
        }
        arena.children(at).filter(|&child| child > head).try_for_each(|child| self.visit(child, states))
    }

    fn each(&mut self, at: usize, states: &mut States) -> Option<()> {
        let [name, value] = self.rules.element.map(|field| self.arena.field(at, field));
        let body = self.arena.field(at, "body");
        for _ in 0..2 {
            self.visit(value?, states)?;
            self.pairs(name?, value?, true, states)?;
            self.visit(body?, states)?;
        }
        Some(())
    }
}
