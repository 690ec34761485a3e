//! Human attention on code: syntax tokens, their semantic labels, priors from eye tracking for each label, pseudo scan
//! paths drawn from those priors, and the resulting loss weight of each token.
//!
//! This module knows no models and no tokenizers: its input is code, its output is byte spans with numbers.

pub mod align;
pub mod artifact;
pub mod beta;
pub mod gaze;
pub mod labels;
pub mod priors;
pub mod scanpath;
pub mod syntax;
pub mod weights;

/// A semantic label of the EyeTrans study. The id is its position, from 1, in the alphabetical table of 20 labels
/// (`type`, 18, is in the table but never occurs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the definition; [`Label::name`] spells them out
pub enum Label {
    Argument = 1,
    Assignment,
    Comment,
    ConditionalBlock,
    ConditionalStatement,
    ExceptionHandling,
    ExternalClass,
    ExternallyDefined,
    FunctionCall,
    FunctionDeclaration,
    IndexOperation,
    Literal,
    Loop,
    Operation,
    Operator,
    Parameter,
    Return,
    Type,
    Variable,
    VariableDeclaration,
}

impl Label {
    /// All labels, by id.
    pub const ALL: [Label; 20] = [
        Label::Argument,
        Label::Assignment,
        Label::Comment,
        Label::ConditionalBlock,
        Label::ConditionalStatement,
        Label::ExceptionHandling,
        Label::ExternalClass,
        Label::ExternallyDefined,
        Label::FunctionCall,
        Label::FunctionDeclaration,
        Label::IndexOperation,
        Label::Literal,
        Label::Loop,
        Label::Operation,
        Label::Operator,
        Label::Parameter,
        Label::Return,
        Label::Type,
        Label::Variable,
        Label::VariableDeclaration,
    ];

    /// 1 to 20.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The label with an id; `None` for 0 (no label) and above 20.
    pub fn from_id(id: u8) -> Option<Label> {
        Label::ALL.get(usize::from(id).checked_sub(1)?).copied()
    }

    /// The name as the published tables spell it.
    pub fn name(self) -> &'static str {
        [
            "argument",
            "assignment",
            "comment",
            "conditional block",
            "conditional statement",
            "exception handling",
            "external class",
            "externally defined variable or function",
            "function call",
            "function declaration",
            "index operation",
            "literal",
            "loop",
            "operation",
            "operator",
            "parameter",
            "return",
            "type",
            "variable",
            "variable declaration",
        ][self as usize - 1]
    }

    /// The label with a name as the published tables spell it.
    pub fn from_name(name: &str) -> Option<Label> {
        Label::ALL.into_iter().find(|label| label.name() == name)
    }
}

/// One syntax token of a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Its label; `None` for the few tokens without a label.
    pub label: Option<Label>,
    /// Source line of its first byte, from 0.
    pub line: u32,
}
