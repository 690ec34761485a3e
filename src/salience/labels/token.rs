//! Tokens with their contexts, the joining of neighbours (`else if`, `break;`, `[]`), and the structural label.

use super::table::{Class, Join, Marks, mark};
use crate::salience::Label;

/// A token, with everything that is known about it when the walk has reached its successor.
#[derive(Clone, Copy, Debug)]
pub(in crate::salience) struct Token<'c> {
    pub start: usize,
    pub end: usize,
    pub line: u32,
    pub text: &'c [u8],
    pub(super) class: Class,
    /// The constructs that enclose it.
    pub(super) context: Marks,
    /// The statement or block that contains it; tokens of different statements are not "next to" each other.
    pub(super) statement: u32,
    pub(super) facts: Facts,
}

/// Facts about a single token from the tree.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Declared earlier in its scope, or here.
    pub known: bool,
    /// The name of a call.
    pub call: bool,
    /// The name of a call without a receiver that is also the unit's own name.
    pub recursive: bool,
    /// The operator of a unary operation.
    pub unary: bool,
    /// The first token of a cast.
    pub cast: bool,
    /// Not a class, even with a capital.
    pub member: bool,
    /// Kept only with a structural label.
    pub weak: bool,
}

impl Token<'_> {
    /// The label that follows from the enclosing constructs: the first match wins.
    pub(super) fn structural(&self) -> Option<Label> {
        let inside = |marks: Marks| self.context & marks != 0;
        if self.class == Class::Comment {
            return Some(Label::Comment);
        }
        if inside(mark::PARAMETER) {
            return Some(Label::Parameter);
        }
        if inside(mark::HEAD) {
            return if inside(mark::EXCEPTION) {
                Some(Label::ExceptionHandling)
            } else if inside(mark::ARGUMENT) && inside(mark::ANNOTATION | mark::RESULT | mark::EXTERNAL) {
                Some(Label::Argument)
            } else if self.facts.weak {
                None
            } else if inside(mark::ANNOTATION | mark::EXTERNAL) {
                Some(Label::ExternalClass)
            } else if inside(mark::RESULT) {
                inside(mark::GENERIC).then_some(Label::Variable)
            } else {
                Some(Label::FunctionDeclaration)
            };
        }
        const ORDER: [(Marks, Label); 9] = [
            (mark::RETURN, Label::Return),
            (mark::EXCEPTION, Label::ExceptionHandling),
            (mark::CONDITION, Label::ConditionalStatement),
            (mark::LOOP, Label::Loop),
            (mark::BRANCH, Label::ConditionalBlock),
            (mark::DECLARATION, Label::VariableDeclaration),
            (mark::ARGUMENT, Label::Argument),
            (mark::LOCAL_HEAD, Label::FunctionDeclaration),
            (mark::EXTERNAL, Label::ExternalClass),
        ];
        let first = ORDER.iter().find(|(marks, _)| inside(*marks)).map(|(_, label)| *label);
        // part of an annotation that is not part of a head
        first.or((inside(mark::ANNOTATION) && !self.facts.weak).then_some(Label::ExternalClass))
    }
}

/// How a leaf combines with the leaf that was held back before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    /// Two tokens.
    No,
    /// One token, complete.
    Yes,
    /// One token, possibly incomplete.
    More,
    /// One token for the empty brackets of a dimension.
    Brackets,
}

/// Holds one leaf back until its neighbour has shown whether the two form one token.
#[derive(Default)]
pub(super) struct Joiner<'c> {
    held: Option<(Token<'c>, Join)>,
    /// Whether the last leaf is a member operator.
    pub after_member: bool,
}

impl<'c> Joiner<'c> {
    /// Takes the next leaf; returns a token that is now complete.
    pub fn push(&mut self, token: Token<'c>, join: Join, code: &'c [u8]) -> Option<Token<'c>> {
        self.after_member = join == Join::Member;
        let Some((held, before)) = &mut self.held else {
            self.held = Some((token, join));
            return None;
        };
        let dimensions = held.class == Class::Dimensions;
        let joined = match (*before, join) {
            (Join::Else, Join::If) | (Join::Jump, Join::Semicolon) | (Join::Default, Join::Colon) => Joined::Yes,
            (Join::Less, Join::Greater) => Joined::Yes,
            (Join::OpenBracket, Join::Comma) if dimensions => Joined::More,
            (Join::OpenBracket, Join::CloseBracket) if dimensions => Joined::Brackets,
            _ => Joined::No,
        };
        if joined == Joined::No {
            let done = (*held, *before);
            self.held = Some((token, join));
            return Joiner::kept(done.0, done.1);
        }
        held.end = token.end;
        held.text = code.get(held.start..held.end).unwrap_or_default();
        match joined {
            Joined::More => {}
            Joined::Brackets => *before = Join::CloseBracket,
            _ => *before = Join::No,
        }
        None
    }

    /// The leaf that is held back at the end.
    pub fn finish(&mut self) -> Option<Token<'c>> {
        let (token, join) = self.held.take()?;
        Joiner::kept(token, join)
    }

    /// Drops punctuation, and brackets of a dimension that turned out not to be empty.
    fn kept(token: Token<'c>, join: Join) -> Option<Token<'c>> {
        let lone = token.class == Class::Dimensions && join != Join::CloseBracket;
        (token.class != Class::Punctuation && !lone).then_some(token)
    }
}
