//! Expressions, by precedence.

use super::super::ast::*;
use super::super::lex::Token;
use super::{MOST_LINKS, Parsed, Parser};

impl Parser {
    pub(super) fn arguments(&mut self) -> Parsed<Arguments> {
        self.sign("(")?;
        let mut found = Arguments::default();
        let mut first = true;
        while !self.skip_sign(")") {
            if !first {
                self.sign(",")?;
                if self.skip_sign(")") {
                    break;
                }
            }
            first = false;
            let wrong = || "the arguments of a call are in the wrong order".to_string();
            if self.skip_sign("*") {
                if found.list.is_some() || found.dict.is_some() {
                    return Err(wrong());
                }
                found.list = Some(Box::new(self.expression()?));
            } else if self.skip_sign("**") {
                if found.dict.is_some() {
                    return Err(wrong());
                }
                found.dict = Some(Box::new(self.expression()?));
            } else if let (Some(Token::Name(name)), Some(Token::Sign("="))) = (self.peek(0), self.peek(1)) {
                let name = name.clone();
                self.at += 2;
                if found.dict.is_some() {
                    return Err(wrong());
                }
                found.named.push((name, self.expression()?));
            } else {
                if !found.named.is_empty() || found.list.is_some() || found.dict.is_some() {
                    return Err(wrong());
                }
                found.positional.push(self.expression()?);
            }
        }
        Ok(found)
    }

    /// Expressions between commas; a single one without a comma is no tuple.
    pub(super) fn tuple(&mut self) -> Parsed<Expr> {
        self.tuple_of(Parser::expression)
    }

    pub(super) fn tuple_of(&mut self, one: fn(&mut Parser) -> Parsed<Expr>) -> Parsed<Expr> {
        let first = one(self)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut entries = vec![first];
        while self.skip_sign(",") {
            let end = matches!(self.peek(0), None | Some(Token::PrintEnd | Token::BlockEnd | Token::Sign(")")));
            if end {
                break;
            }
            entries.push(one(self)?);
        }
        Ok(Expr::Tuple(entries))
    }

    /// Counts a link of a chain, which makes the tree of its expression one level deeper.
    fn chained(&mut self) -> Parsed<()> {
        self.links += 1;
        if self.links > MOST_LINKS { Err(format!("a tag has more than {MOST_LINKS} operators")) } else { Ok(()) }
    }

    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut expr = parser.without_condition()?;
            while parser.skip_name("if") {
                let condition = Box::new(parser.without_condition()?);
                let otherwise = match parser.skip_name("else") {
                    true => Some(Box::new(parser.expression()?)),
                    false => None,
                };
                expr = Expr::If(condition, Box::new(expr), otherwise);
                parser.chained()?;
            }
            Ok(expr)
        })
    }

    /// An expression that may not be followed by `if`.
    pub(super) fn without_condition(&mut self) -> Parsed<Expr> {
        let many = |mut exprs: Vec<Expr>, all: fn(Vec<Expr>) -> Expr| match exprs.pop() {
            Some(only) if exprs.is_empty() => only,
            last => {
                exprs.extend(last);
                all(exprs)
            }
        };
        let mut either = Vec::new();
        loop {
            let mut both = vec![self.negation()?];
            while self.skip_name("and") {
                both.push(self.negation()?);
            }
            either.push(many(both, Expr::And));
            if !self.skip_name("or") {
                return Ok(many(either, Expr::Or));
            }
        }
    }

    fn negation(&mut self) -> Parsed<Expr> {
        match self.skip_name("not") {
            true => Ok(Expr::Not(Box::new(self.nested(Parser::negation)?))),
            false => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let not_in = matches!(self.peek(1), Some(Token::Name(name)) if **name == *"in");
            let (kind, length) = match self.peek(0) {
                Some(Token::Sign("==")) => (Comparison::Eq, 1),
                Some(Token::Sign("!=")) => (Comparison::Ne, 1),
                Some(Token::Sign("<")) => (Comparison::Lt, 1),
                Some(Token::Sign("<=")) => (Comparison::Le, 1),
                Some(Token::Sign(">")) => (Comparison::Gt, 1),
                Some(Token::Sign(">=")) => (Comparison::Ge, 1),
                Some(Token::Name(name)) if **name == *"in" => (Comparison::In, 1),
                Some(Token::Name(name)) if **name == *"not" && not_in => (Comparison::NotIn, 2),
                _ => break,
            };
            self.at += length;
            others.push((kind, self.sum()?));
        }
        if others.is_empty() { Ok(first) } else { Ok(Expr::Compare(Box::new(first), others)) }
    }

    /// `next op next op ...`, from the left.
    fn chain(&mut self, next: fn(&mut Parser) -> Parsed<Expr>, operators: &[(&str, Operator)]) -> Parsed<Expr> {
        let mut expr = next(self)?;
        while let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.is_sign(sign)) {
            self.at += 1;
            expr = Expr::Binary(operator, Box::new(expr), Box::new(next(self)?));
            self.chained()?;
        }
        Ok(expr)
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.chain(Parser::concat, &[("+", Operator::Add), ("-", Operator::Sub)])
    }

    fn concat(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is_sign("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_sign("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Parsed<Expr> {
        let operators = [("*", Operator::Mul), ("/", Operator::Div), ("//", Operator::FloorDiv), ("%", Operator::Mod)];
        self.chain(Parser::power, &operators)
    }

    fn power(&mut self) -> Parsed<Expr> {
        self.chain(|parser| parser.unary(true), &[("**", Operator::Pow)])
    }

    fn unary(&mut self, filtered: bool) -> Parsed<Expr> {
        let sign = if self.skip_sign("-") {
            Some(Expr::Negative as fn(_) -> _)
        } else if self.skip_sign("+") {
            Some(Expr::Positive as fn(_) -> _)
        } else {
            None
        };
        let expr = match sign {
            Some(sign) => sign(Box::new(self.nested(|parser| parser.unary(false))?)),
            None => self.primary()?,
        };
        self.trailers(expr, filtered)
    }

    /// Attributes, items and calls behind `expr`; if `filtered`, filters and tests too.
    fn trailers(&mut self, mut expr: Expr, filtered: bool) -> Parsed<Expr> {
        let mut behind_filter = false;
        loop {
            match self.peek(0) {
                Some(Token::Sign(".")) if !behind_filter => {
                    self.at += 1;
                    expr = match self.peek(0) {
                        Some(Token::Name(name)) => Expr::Attribute(Box::new(expr), name.clone()),
                        Some(&Token::Int(index)) => {
                            Expr::Item(Box::new(expr), Box::new(Expr::Literal(Literal::Int(index))))
                        }
                        _ => return Err(self.unexpected("an attribute")),
                    };
                    self.at += 1;
                }
                Some(Token::Sign("[")) if !behind_filter => {
                    self.at += 1;
                    expr = self.subscript(expr)?;
                }
                Some(Token::Sign("(")) => expr = Expr::Call(Box::new(expr), self.arguments()?),
                Some(Token::Sign("|")) if filtered => {
                    self.at += 1;
                    expr = Expr::Filter(Box::new(expr), self.filter()?);
                    behind_filter = true;
                }
                Some(Token::Name(name)) if filtered && **name == *"is" => {
                    self.at += 1;
                    expr = self.test(expr)?;
                    behind_filter = true;
                }
                _ => return Ok(expr),
            }
            self.chained()?;
        }
    }

    /// `index]` or `start:stop:step]`.
    fn subscript(&mut self, of: Expr) -> Parsed<Expr> {
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut part = 0;
        loop {
            if self.skip_sign(":") {
                part += 1;
                if part > 2 {
                    return Err("a slice has at most three parts".into());
                }
            } else if self.skip_sign("]") {
                break;
            } else if parts[part].is_none() {
                parts[part] = Some(Box::new(self.expression()?));
            } else if self.is_sign(",") {
                return Err("an index of several parts is not supported".into());
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        match (part, parts) {
            (0, [Some(index), ..]) => Ok(Expr::Item(Box::new(of), index)),
            (0, _) => Err("an index is missing".into()),
            (_, parts) => Ok(Expr::Slice(Box::new(of), parts)),
        }
    }

    fn test(&mut self, value: Expr) -> Parsed<Expr> {
        let negated = self.skip_name("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        match self.peek(0) {
            Some(Token::Sign("(")) => arguments = self.arguments()?,
            Some(Token::Name(next)) if ["else", "or", "and", "is", "if", "in", "not"].contains(&&**next) => {
                if **next == *"is" {
                    return Err("tests with `is` cannot follow each other".into());
                }
                // Jinja takes these words for an argument, and fails behind them
                if ["if", "in", "not"].contains(&&**next) {
                    return Err(format!("`{next}` cannot stand behind the test `{name}`; put the test in brackets"));
                }
            }
            Some(Token::Name(_) | Token::String(_) | Token::Int(_) | Token::Float(_) | Token::Sign("[" | "{")) => {
                let argument = self.primary()?;
                arguments.positional.push(self.trailers(argument, false)?);
            }
            _ => {}
        }
        let test = Expr::Test(Box::new(value), Filter { name, arguments });
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek(0).cloned();
        let wrong = self.unexpected("an expression");
        self.at += 1;
        match token {
            Some(Token::Name(name)) => Ok(match &*name {
                "true" | "True" => Expr::Literal(Literal::Bool(true)),
                "false" | "False" => Expr::Literal(Literal::Bool(false)),
                "none" | "None" => Expr::Literal(Literal::None),
                _ => {
                    for (place, word) in ["varargs", "kwargs", "caller"].into_iter().enumerate() {
                        if let Some(reads) = self.reads.last_mut().filter(|_| *name == *word) {
                            reads[place] = true;
                        }
                    }
                    Expr::Name(name)
                }
            }),
            Some(Token::String(mut text)) => {
                while let Some(Token::String(more)) = self.peek(0) {
                    text += more;
                    self.at += 1;
                }
                Ok(Expr::Literal(Literal::Text(text.into())))
            }
            Some(Token::Int(value)) => Ok(Expr::Literal(Literal::Int(value))),
            Some(Token::Float(value)) => Ok(Expr::Literal(Literal::Float(value))),
            Some(Token::Sign("(")) => {
                if self.skip_sign(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inside = self.nested(Parser::tuple)?;
                self.sign(")")?;
                Ok(inside)
            }
            Some(Token::Sign("[")) => Ok(Expr::List(self.entries("]", Parser::expression)?)),
            Some(Token::Sign("{")) => {
                let entry = |parser: &mut Parser| {
                    let key = parser.expression()?;
                    parser.sign(":")?;
                    Ok((key, parser.expression()?))
                };
                Ok(Expr::Dict(self.entries("}", entry)?))
            }
            _ => {
                self.at -= 1;
                Err(wrong)
            }
        }
    }

    fn entries<T>(&mut self, end: &str, one: impl Fn(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut entries = Vec::new();
        while !self.skip_sign(end) {
            if !entries.is_empty() {
                self.sign(",")?;
                if self.skip_sign(end) {
                    break;
                }
            }
            entries.push(one(self)?);
        }
        Ok(entries)
    }
}
