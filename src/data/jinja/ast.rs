//! The tree of a template.

use std::sync::Arc;

/// A name or text of the template.
pub(super) type Text = Arc<str>;

/// What a template writes and does, in order.
pub(super) type Body = Vec<Node>;

pub(super) enum Node {
    /// Text between tags.
    Text(Text),
    /// `{{ expression }}`, and the line that it begins on.
    Print(Expr, u32),
    /// A statement, and the line that it begins on.
    Statement(Statement, u32),
}

pub(super) enum Statement {
    /// `{% if %}` with its `elif` branches; the last body is that of `else`.
    If(Vec<(Expr, Body)>, Body),
    For(For),
    /// `{% set target = value %}`.
    Set(Target, Expr),
    /// `{% set target | filters %} body {% endset %}`.
    SetBlock(Target, Vec<Filter>, Body),
    Macro(Arc<Macro>),
    /// `{% call(parameters) callee %} body {% endcall %}`: the body is the macro `caller` of the call.
    Call(Arc<Macro>, Expr),
    /// `{% filter filters %} body {% endfilter %}`.
    Filter(Vec<Filter>, Body),
    With(Vec<(Target, Expr)>, Body),
    /// `{% generation %} body {% endgeneration %}`: what the assistant writes.
    Generation(Body),
    Break,
    Continue,
}

pub(super) struct For {
    pub target: Target,
    pub over: Expr,
    pub only: Option<Expr>,
    pub body: Body,
    pub otherwise: Body,
}

/// Where a value is stored.
pub(super) enum Target {
    Name(Text),
    Tuple(Vec<Target>),
    /// An attribute of a namespace.
    Attribute(Text, Text),
}

/// A macro: its parameters, of which the last ones have defaults.
pub(super) struct Macro {
    pub name: Text,
    pub parameters: Vec<Text>,
    pub defaults: Vec<Expr>,
    pub body: Body,
    /// The body reads `varargs`, `kwargs`, `caller`.
    pub reads: [bool; 3],
}

pub(super) struct Filter {
    pub name: Text,
    pub arguments: Arguments,
}

#[derive(Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Text, Expr)>,
    /// `*list` and `**dict`.
    pub list: Option<Box<Expr>>,
    pub dict: Option<Box<Expr>>,
}

#[derive(Clone)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

pub(super) enum Expr {
    Literal(Literal),
    Name(Text),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Text),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    Filter(Box<Expr>, Filter),
    /// `value is name(arguments)`.
    Test(Box<Expr>, Filter),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a ~ b ~ c`.
    Concat(Vec<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// `value if condition else otherwise`.
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}
