//! Human attention on code: syntax tokens, their semantic labels, the priors that eye tracking gives for each label,
//! pseudo scan paths drawn from those priors, and the loss weight of each token that follows.
//!
//! Knows nothing of models or tokenizers: code in, spans of bytes with numbers out.

pub mod align;
pub mod beta;
pub mod gaze;
pub mod labels;
pub mod priors;
pub mod scanpath;
pub mod syntax;
pub mod weights;

/// A semantic label of the EyeTrans study; the id is its 1-based place in the alphabetical table of 20 (`type`, 18, is
/// in the table but never occurs).
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

    /// The label of an id; `None` for 0 (no label) and beyond 20.
    pub fn from_id(id: u8) -> Option<Label> {
        Label::ALL.get(usize::from(id).checked_sub(1)?).copied()
    }

    /// As the published tables spell it.
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

    /// The label that the published tables spell so.
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
    /// Its label; `None` for the few tokens without.
    pub label: Option<Label>,
    /// Source line of its first byte, from 0.
    pub line: u32,
}
