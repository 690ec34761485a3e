//! From tokens to the tree of a template, by the grammar of Jinja 3.1.

mod expressions;

use std::sync::Arc;

use super::ast::*;
use super::lex::{Token, tokens};

/// How deep brackets and blocks may nest.
const MOST_NESTING: u32 = 120;

/// Operators, attributes and filters in a tag.
const MOST_LINKS: u32 = 1000;

type Parsed<T> = Result<T, String>;

struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    /// Open brackets and blocks.
    depth: u32,
    /// Operators, attributes and filters of the current tag that follow each other.
    links: u32,
    /// For each open macro, whether its body reads `varargs`, `kwargs`, `caller`.
    reads: Vec<[bool; 3]>,
}

/// The tree of a template. The error is a sentence with its line.
pub(super) fn parse(source: &str) -> Parsed<Body> {
    let place = |why: String, line: u32| format!("line {line}: {why}");
    let tokens = tokens(source).map_err(|(why, line)| place(why, line))?;
    let mut parser = Parser { tokens, at: 0, depth: 0, links: 0, reads: Vec::new() };
    let body = parser.body(&[]);
    let line = parser.line();
    let body = body.map_err(|why| place(why, line))?;
    if parser.at < parser.tokens.len() { Err(place("unexpected tag".into(), line)) } else { Ok(body) }
}

impl Parser {
    fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(1, |(_, line)| *line)
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(0), Some(Token::Sign(s)) if *s == sign)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(0), Some(Token::Name(n)) if **n == *name)
    }

    fn skip_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> Parsed<()> {
        if self.skip_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn word(&mut self, name: &str) -> Parsed<()> {
        if self.skip_name(name) { Ok(()) } else { Err(self.unexpected(&format!("`{name}`"))) }
    }

    fn name(&mut self) -> Parsed<Text> {
        match self.peek(0) {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn end(&mut self, end: Token) -> Parsed<()> {
        match self.peek(0) {
            Some(token) if *token == end => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected("the end of the tag")),
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found = match self.peek(0) {
            None => "the end of the template".to_string(),
            Some(Token::Sign(sign)) => format!("`{sign}`"),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::BlockEnd | Token::PrintEnd) => "the end of the tag".to_string(),
            Some(_) => "something else".to_string(),
        };
        format!("{wanted} is expected, and {found} is there")
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        let parsed = if self.depth > MOST_NESTING { Err(too_deep()) } else { parse(self) };
        self.depth -= 1;
        parsed
    }

    /// Nodes up to a block whose name is one of `ends`; the parser then stands at that name.
    fn body(&mut self, ends: &[&str]) -> Parsed<Body> {
        let mut body = Body::new();
        while self.at < self.tokens.len() {
            let line = self.line();
            self.links = 0;
            let Some(token) = self.peek(0) else { break };
            match token {
                Token::Text(text) => {
                    body.push(Node::Text(text.as_str().into()));
                    self.at += 1;
                }
                Token::PrintBegin => {
                    self.at += 1;
                    body.push(Node::Print(self.tuple()?, line));
                    self.end(Token::PrintEnd)?;
                }
                _ => {
                    if let Some(Token::Name(name)) = self.peek(1)
                        && ends.contains(&&**name)
                    {
                        self.at += 1;
                        return Ok(body);
                    }
                    self.at += 1;
                    let statement = self.nested(Parser::statement)?;
                    body.push(Node::Statement(statement, line));
                    self.end(Token::BlockEnd)?;
                }
            }
        }
        if ends.is_empty() {
            return Ok(body);
        }
        Err(format!("the template ends before `{}`", ends.last().copied().unwrap_or_default()))
    }

    /// The rest of a tag's block: its body up to `end`.
    fn block(&mut self, end: &str) -> Parsed<Body> {
        self.end(Token::BlockEnd)?;
        let body = self.body(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let name = self.name()?;
        match &*name {
            "if" => self.conditional(),
            "for" => self.for_loop(),
            "set" => self.set(),
            "macro" => {
                let name = self.name()?;
                let made = self.definition(name, "endmacro", None)?;
                Ok(Statement::Macro(made))
            }
            "call" => {
                let signature = if self.is_sign("(") { Some(self.parameters()?) } else { None };
                let callee = self.expression()?;
                if !matches!(callee, Expr::Call(..)) {
                    return Err("`call` needs a call".into());
                }
                let caller = self.definition("caller".into(), "endcall", Some(signature.unwrap_or_default()))?;
                Ok(Statement::Call(caller, callee))
            }
            "filter" => {
                let filters = self.filters(true)?;
                Ok(Statement::Filter(filters, self.block("endfilter")?))
            }
            "with" => {
                let mut values = Vec::new();
                while !matches!(self.peek(0), Some(Token::BlockEnd)) {
                    if !values.is_empty() {
                        self.sign(",")?;
                    }
                    let target = self.target(false)?;
                    self.sign("=")?;
                    values.push((target, self.expression()?));
                }
                Ok(Statement::With(values, self.block("endwith")?))
            }
            "generation" => Ok(Statement::Generation(self.block("endgeneration")?)),
            "break" => Ok(Statement::Break),
            "continue" => Ok(Statement::Continue),
            "include" | "import" | "from" | "extends" | "block" | "autoescape" | "print" | "do" => {
                Err(format!("the tag `{name}` is not supported"))
            }
            other => Err(format!("unknown tag `{other}`")),
        }
    }

    fn conditional(&mut self) -> Parsed<Statement> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple()?;
            self.end(Token::BlockEnd)?;
            branches.push((condition, self.body(&["elif", "else", "endif"])?));
            match &*self.name()? {
                "elif" => {}
                "else" => return Ok(Statement::If(branches, self.block("endif")?)),
                _ => return Ok(Statement::If(branches, Body::new())),
            }
        }
    }

    fn for_loop(&mut self) -> Parsed<Statement> {
        let target = self.target(true)?;
        self.word("in")?;
        let over = self.tuple_of(Parser::without_condition)?;
        let only = if self.skip_name("if") { Some(self.expression()?) } else { None };
        if self.is_name("recursive") {
            return Err("recursive loops are not supported".into());
        }
        self.end(Token::BlockEnd)?;
        let body = self.body(&["else", "endfor"])?;
        let otherwise = match &*self.name()? {
            "else" => self.block("endfor")?,
            _ => Body::new(),
        };
        Ok(Statement::For(For { target, over, only, body, otherwise }))
    }

    fn set(&mut self) -> Parsed<Statement> {
        let target = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some(Token::Name(space)), Some(Token::Sign(".")), Some(Token::Name(attribute))) => {
                let target = Target::Attribute(space.clone(), attribute.clone());
                self.at += 3;
                target
            }
            _ => self.target(true)?,
        };
        if self.skip_sign("=") {
            return Ok(Statement::Set(target, self.tuple()?));
        }
        let filters = self.filters(false)?;
        Ok(Statement::SetBlock(target, filters, self.block("endset")?))
    }

    /// Names to assign to; a `tuple` of them may have no brackets.
    fn target(&mut self, tuple: bool) -> Parsed<Target> {
        let one = |parser: &mut Parser| {
            if parser.skip_sign("(") {
                let target = parser.nested(|parser| parser.target(true))?;
                parser.sign(")")?;
                return Ok(target);
            }
            let name = parser.name()?;
            match &*name {
                "true" | "false" | "none" | "True" | "False" | "None" => {
                    Err("a constant cannot be assigned to".to_string())
                }
                _ => Ok(Target::Name(name)),
            }
        };
        let first = one(self)?;
        if !tuple || !self.is_sign(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_sign(",") {
            if self.is_name("in") || self.is_sign(")") || self.is_sign("=") {
                break;
            }
            targets.push(one(self)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn parameters(&mut self) -> Parsed<(Vec<Text>, Vec<Expr>)> {
        let (mut names, mut defaults) = (Vec::new(), Vec::new());
        self.sign("(")?;
        while !self.skip_sign(")") {
            if !names.is_empty() {
                self.sign(",")?;
                if self.skip_sign(")") {
                    break;
                }
            }
            names.push(self.name()?);
            if self.skip_sign("=") {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                return Err("a parameter without a default follows one with a default".into());
            }
        }
        Ok((names, defaults))
    }

    /// A macro with its body up to `end`; its parameters stand next, unless they are given.
    fn definition(&mut self, name: Text, end: &str, signature: Option<(Vec<Text>, Vec<Expr>)>) -> Parsed<Arc<Macro>> {
        let (parameters, defaults) = match signature {
            Some(signature) => signature,
            None => self.parameters()?,
        };
        self.reads.push([false; 3]);
        let body = self.block(end);
        let reads = self.reads.pop().unwrap_or_default();
        Ok(Arc::new(Macro { name, parameters, defaults, body: body?, reads }))
    }

    /// `| name(arguments) | ...`; with `first` the first has no bar.
    fn filters(&mut self, first: bool) -> Parsed<Vec<Filter>> {
        let mut filters = Vec::new();
        while (first && filters.is_empty()) || self.skip_sign("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn filter(&mut self) -> Parsed<Filter> {
        let name = self.name()?;
        let arguments = if self.is_sign("(") { self.arguments()? } else { Arguments::default() };
        Ok(Filter { name, arguments })
    }
}

fn too_deep() -> String {
    format!("it nests more than {MOST_NESTING} deep")
}
