//! The table of a language, and its compiled form: marks by node kind, looked up in constant time.
//!
//! A table has lists of patterns over the grammar's node kinds, one list per question ("which nodes are parameter
//! lists?", "which nodes are conditions?"), so that two languages can be compared side by side. A pattern is one of
//!
//! * `kind`: every node of that kind (a token only if no node has that name);
//! * `kind.field`: its children in that field;
//! * `kind > child`: its children of that kind (tokens are named by their spelling);
//! * `kind > *`: its children that no `kind > child` of the table names (the list `plain` names the children to
//!   exclude);
//! * `kind @ token`: its children (except tokens) whose nearest sibling token to the left is that token.

/// A set of bits of [`mark`].
pub(super) type Marks = u64;

/// The marks of a node.
pub(super) mod mark {
    use super::Marks;

    // contexts: the constructs that enclose a node; children inherit them
    pub const PARAMETER: Marks = 1;
    /// Head of a unit, or head of a class or similar declaration outside units.
    pub const HEAD: Marks = 1 << 1;
    /// Composite return type in a head.
    pub const RESULT: Marks = 1 << 2;
    /// In a composite return type of a unit with type parameters.
    pub const GENERIC: Marks = 1 << 3;
    pub const ANNOTATION: Marks = 1 << 4;
    pub const RETURN: Marks = 1 << 5;
    pub const EXCEPTION: Marks = 1 << 6;
    pub const CONDITION: Marks = 1 << 7;
    pub const LOOP: Marks = 1 << 8;
    pub const BRANCH: Marks = 1 << 9;
    pub const DECLARATION: Marks = 1 << 10;
    pub const ARGUMENT: Marks = 1 << 11;
    /// Head of a function inside a unit.
    pub const LOCAL_HEAD: Marks = 1 << 12;
    /// Imports; super classes and interfaces of a class head.
    pub const EXTERNAL: Marks = 1 << 13;
    pub const INDEX: Marks = 1 << 14;
    pub const IN_UNIT: Marks = 1 << 15;
    /// All of the above.
    pub const INHERITED: Marks = (1 << 16) - 1;

    // properties of one node
    pub const UNIT: Marks = 1 << 16;
    pub const HEADED: Marks = 1 << 17;
    pub const BODY: Marks = 1 << 18;
    pub const RESULT_TYPE: Marks = 1 << 19;
    pub const COMPOSITE: Marks = 1 << 20;
    pub const TYPE_PARAMETERS: Marks = 1 << 21;
    pub const NAME: Marks = 1 << 22;
    pub const ARTIFACT_UNIT: Marks = 1 << 23;
    pub const CHAIN: Marks = 1 << 24;
    pub const OTHERWISE: Marks = 1 << 25;
    pub const DECLARES: Marks = 1 << 26;
    pub const CALLEE: Marks = 1 << 27;
    pub const THROUGH: Marks = 1 << 28;
    pub const STATEMENT: Marks = 1 << 29;
    pub const UNARY: Marks = 1 << 30;
    pub const CAST: Marks = 1 << 31;
    pub const WEAK: Marks = 1 << 32;
    pub const DIMENSIONS: Marks = 1 << 33;
    pub const ATOM: Marks = 1 << 34;
    pub const FIRST_ASSIGNMENT: Marks = 1 << 35;
    pub const COMMENT: Marks = 1 << 36;
    pub const LITERAL: Marks = 1 << 37;
    pub const OPERATOR: Marks = 1 << 38;
    pub const DROPPED: Marks = 1 << 39;
    pub const PROTOTYPE: Marks = 1 << 40;
    pub const DEFAULT_LABEL: Marks = 1 << 41;
    /// Has no meaning.
    pub const PLAIN: Marks = 1 << 42;
    pub const MEMBER: Marks = 1 << 43;
    pub const CALLEE_IN: Marks = 1 << 44;
    pub const TAIL: Marks = 1 << 45;
    /// A function that returns a value, and its body.
    pub const VALUED: Marks = 1 << 46;
}

type List = &'static [&'static str];

/// One language. An empty list means that the language has no such construct.
pub(super) struct Table {
    // tokens
    /// Comments.
    pub comment: List,
    /// Nodes that are one token although the grammar divides them.
    pub atom: List,
    /// Literals.
    pub literal: List,
    /// Words that are operators.
    pub operator: List,
    /// Tokens that are only punctuation, besides `( ) { } [ ] ; , .`.
    pub dropped: List,
    /// Tokens that are kept only if a structural label applies.
    pub weak: List,
    /// Nodes whose empty brackets are a token of their own.
    pub dimensions: List,
    /// The word `default` if a colon follows it.
    pub default_label: List,

    // units: the parts of a file that are labelled separately
    /// Functions and methods.
    pub unit: List,
    /// The units that the published labels cover.
    pub artifact_unit: List,
    /// Classes, interfaces, namespaces: nodes with a head that are not units.
    pub headed: List,
    /// The parts of a unit or headed node that are not its head.
    pub body: List,
    /// The place of a unit's own name.
    pub name: List,
    /// The place of a unit's return type.
    pub result: List,
    /// Return types that are longer than a name, and their dimensions.
    pub composite: List,
    /// A unit's type parameters.
    pub type_parameters: List,
    /// Declarations outside units that may be prototypes of functions.
    pub prototype: List,
    /// Words in front of a head.
    pub head_word: List,
    /// Expressions that a function returns because they end its body.
    pub tail: List,
    /// Whether a function inside a unit keeps its own head.
    pub local_heads: bool,

    // contexts, in order of precedence
    /// Parameter lists of all kinds.
    pub parameter: List,
    /// Return statements.
    pub returns: List,
    /// Throwing; the words try, catch, finally.
    pub exception: List,
    /// Conditions; the words if, else.
    pub condition: List,
    /// Loops: keyword, header and body; break and continue.
    pub looped: List,
    /// Branches that depend on a condition.
    pub branch: List,
    /// Else parts: a branch, unless they contain the next `if` of a chain.
    pub otherwise: List,
    /// The `if` statements of such chains.
    pub chain: List,
    /// Declarations of variables and fields.
    pub declaration: List,
    /// Arguments and type arguments.
    pub argument: List,
    /// Indices.
    pub index: List,
    /// Annotations, attributes, decorators.
    pub annotation: List,
    /// Imports, super types.
    pub external: List,

    // names
    /// Places of declared names.
    pub declares: List,
    /// Assignments that declare a name if they are the first to assign it.
    pub first_assignment: List,
    /// The place of the called name.
    pub callee: List,
    /// Names that are not classes although they begin with a capital, in languages whose members do.
    pub member: List,
    /// Children that are called if their parent is.
    pub callee_in: List,
    /// Children that are declared, a result type or the name if their parent is.
    pub through: List,
    /// Children that `kind > *` excludes.
    pub plain: List,

    // free tokens
    /// Nodes within which tokens count as "next to" each other.
    pub statement: List,
    /// Unary operations.
    pub unary: List,
    /// The type of a cast.
    pub cast: List,
}

impl Table {
    fn lists(&self) -> [(Marks, List); 42] {
        [
            (mark::COMMENT, self.comment),
            (mark::ATOM, self.atom),
            (mark::LITERAL, self.literal),
            (mark::OPERATOR, self.operator),
            (mark::DROPPED, self.dropped),
            (mark::WEAK, self.weak),
            (mark::DIMENSIONS, self.dimensions),
            (mark::DEFAULT_LABEL, self.default_label),
            (mark::UNIT, self.unit),
            (mark::ARTIFACT_UNIT, self.artifact_unit),
            (mark::HEADED, self.headed),
            (mark::BODY, self.body),
            (mark::NAME, self.name),
            (mark::RESULT_TYPE, self.result),
            (mark::COMPOSITE, self.composite),
            (mark::TYPE_PARAMETERS, self.type_parameters),
            (mark::PROTOTYPE, self.prototype),
            (mark::LOCAL_HEAD, self.head_word),
            (mark::TAIL, self.tail),
            (mark::PARAMETER, self.parameter),
            (mark::RETURN, self.returns),
            (mark::EXCEPTION, self.exception),
            (mark::CONDITION, self.condition),
            (mark::LOOP, self.looped),
            (mark::BRANCH, self.branch),
            (mark::OTHERWISE, self.otherwise),
            (mark::CHAIN, self.chain),
            (mark::DECLARATION, self.declaration),
            (mark::ARGUMENT, self.argument),
            (mark::INDEX, self.index),
            (mark::ANNOTATION, self.annotation),
            (mark::EXTERNAL, self.external),
            (mark::DECLARES, self.declares),
            (mark::FIRST_ASSIGNMENT, self.first_assignment),
            (mark::CALLEE, self.callee),
            (mark::MEMBER, self.member),
            (mark::CALLEE_IN, self.callee_in),
            (mark::THROUGH, self.through),
            (mark::PLAIN, self.plain),
            (mark::STATEMENT, self.statement),
            (mark::UNARY, self.unary),
            (mark::CAST, self.cast),
        ]
    }
}

/// How a token can join its right neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Join {
    #[default]
    No,
    Else,
    If,
    /// break, continue, return
    Jump,
    Semicolon,
    Default,
    Colon,
    Less,
    Greater,
    OpenBracket,
    CloseBracket,
    Comma,
    /// A member operator: `.` and similar.
    Member,
}

/// The class of a leaf, as far as its kind determines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    Punctuation,
    Comment,
    Literal,
    /// A keyword.
    Keyword,
    /// A name, if its first character allows that; otherwise a symbol.
    #[default]
    Name,
    Symbol,
    Dimensions,
    /// Text that the grammar could not parse.
    Error,
}

/// The rules about the children of one node kind.
#[derive(Clone, Debug, Default)]
struct Parts {
    /// By field id; empty if no field is named.
    fields: Vec<Marks>,
    children: Vec<(u16, Marks)>,
    every: Marks,
    after: Vec<(u16, Marks)>,
}

/// Position relative to the node of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    Every,
    Field(&'static str),
    Child(&'static str),
    After(&'static str),
}

impl Place {
    /// The kind that a pattern names, and the position.
    fn of(pattern: &'static str) -> (&'static str, Place) {
        let name = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some((kind, child)) = pattern.split_once(" > ") {
            return (kind, if child == "*" { Place::Every } else { Place::Child(child) });
        }
        if let Some((kind, token)) = pattern.split_once(" @ ") {
            return (kind, Place::After(token));
        }
        // tokens such as `?.` have a dot too
        match pattern.split_once('.') {
            Some((kind, field)) if name(kind) && name(field) && !kind.is_empty() => (kind, Place::Field(field)),
            _ => (pattern, Place::Anywhere),
        }
    }
}

/// A compiled table.
pub(super) struct Rules {
    whole: Vec<Marks>,
    class: Vec<(Class, Join)>,
    parts: Vec<Option<Box<Parts>>>,
    pub local_heads: bool,
}

impl Rules {
    /// The rules of a table, and the patterns that name something the grammar does not have.
    pub fn compile(table: &Table, grammar: &tree_sitter::Language) -> (Rules, Vec<&'static str>) {
        let kinds = grammar.node_kind_count();
        let name = |id: usize| grammar.node_kind_for_id(id as u16).unwrap_or("");
        // one name can have several ids (aliases); all of them are used
        let ids = |wanted: &str| (0..kinds).filter(|&id| name(id) == wanted).map(|id| id as u16).collect::<Vec<_>>();
        let mut whole = vec![0; kinds];
        let mut parts: Vec<Option<Box<Parts>>> = vec![None; kinds];
        let mut unknown = Vec::new();
        for (bit, list) in table.lists() {
            for &pattern in list {
                let (kind, place) = Place::of(pattern);
                let mut parents = ids(kind);
                if parents.iter().any(|&id| grammar.node_kind_is_named(id)) {
                    // `string` is TypeScript's literal, not its keyword
                    parents.retain(|&id| grammar.node_kind_is_named(id));
                }
                let mut found = !parents.is_empty();
                for parent in parents {
                    let parent = usize::from(parent);
                    if place == Place::Anywhere {
                        whole[parent] |= bit;
                        continue;
                    }
                    let parts = parts[parent].get_or_insert_default();
                    let (list, child) = match place {
                        Place::Anywhere => continue,
                        Place::Every => {
                            parts.every |= bit;
                            continue;
                        }
                        Place::Field(field) => {
                            parts.fields.resize(grammar.field_count() + 1, 0);
                            let id = grammar.field_id_for_name(field).map(|id| usize::from(id.get()));
                            match id.and_then(|id| parts.fields.get_mut(id)) {
                                Some(marks) => *marks |= bit,
                                None => found = false,
                            }
                            continue;
                        }
                        Place::Child(child) => (&mut parts.children, child),
                        Place::After(token) => (&mut parts.after, token),
                    };
                    let children = ids(child);
                    found &= !children.is_empty();
                    for child in children {
                        match list.iter_mut().find(|c| c.0 == child) {
                            Some(entry) => entry.1 |= bit,
                            None => list.push((child, bit)),
                        }
                    }
                }
                if !found {
                    unknown.push(pattern);
                }
            }
        }
        let class = (0..kinds).map(|id| class(name(id), grammar.node_kind_is_named(id as u16))).collect();
        (Rules { whole, class, parts, local_heads: table.local_heads }, unknown)
    }

    /// The marks of a kind at any position.
    pub fn whole(&self, kind: u16) -> Marks {
        self.whole.get(usize::from(kind)).copied().unwrap_or(0)
    }

    /// The class of a leaf of this kind.
    pub fn class(&self, kind: u16) -> (Class, Join) {
        self.class.get(usize::from(kind)).copied().unwrap_or((Class::Error, Join::No))
    }

    /// The marks that a child gets from its position below `parent`. `field` is called only if it matters; `left` is
    /// the nearest sibling token to the left, 0 if there is none or if the child is a token itself.
    pub fn below(&self, parent: u16, kind: u16, left: u16, field: impl FnOnce() -> u16) -> Marks {
        let Some(Some(parts)) = self.parts.get(usize::from(parent)) else { return 0 };
        let mut marks = match parts.children.iter().find(|c| c.0 == kind) {
            Some(&(_, marks)) => marks,
            None => parts.every,
        };
        if !parts.fields.is_empty() {
            marks |= parts.fields.get(usize::from(field())).copied().unwrap_or(0);
        }
        if left != 0 {
            marks |= parts.after.iter().find(|a| a.0 == left).map_or(0, |a| a.1);
        }
        marks
    }
}

/// The class by the spelling alone; marks can change it.
fn class(name: &str, named: bool) -> (Class, Join) {
    if named {
        return (Class::Name, Join::No);
    }
    match name {
        "else" => (Class::Keyword, Join::Else),
        "if" => (Class::Keyword, Join::If),
        "break" | "continue" | "return" => (Class::Keyword, Join::Jump),
        "default" => (Class::Keyword, Join::Default),
        ";" => (Class::Punctuation, Join::Semicolon),
        "[" => (Class::Punctuation, Join::OpenBracket),
        "]" => (Class::Punctuation, Join::CloseBracket),
        "," => (Class::Punctuation, Join::Comma),
        "." => (Class::Punctuation, Join::Member),
        "(" | ")" | "{" | "}" => (Class::Punctuation, Join::No),
        ":" => (Class::Symbol, Join::Colon),
        "<" => (Class::Symbol, Join::Less),
        ">" => (Class::Symbol, Join::Greater),
        "->" | "?." | "::" => (Class::Symbol, Join::Member),
        _ if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => (Class::Keyword, Join::No),
        _ => (Class::Symbol, Join::No),
    }
}
