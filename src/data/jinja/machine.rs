//! Runs a template, within bounds of steps, memory and nesting.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::access;
use super::ast::*;
use super::budget::Budget;
use super::checks;
use super::date::Date;
use super::filters;
use super::functions;
use super::methods;
use super::operators;
use super::value::{Closure, Given, Loop, Made, Scope, Series, Value, contains, hashable, order, same};

/// Nested statements, expressions and macros, which bound the stack.
const MOST_DEPTH: u32 = 220;

/// How a body ends.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Machine {
    /// The line that runs.
    pub line: u32,
    /// The day of `strftime_now`.
    pub date: Date,
    /// Stretches of the output that `{% generation %}` marks.
    pub generated: Vec<Range<usize>>,
    budget: Budget,
    depth: u32,
    /// Open texts that are not the output itself, and the length of the output before the first of them.
    captures: u32,
    written: usize,
}

impl Machine {
    pub fn new(date: Date) -> Machine {
        let (generated, budget) = (Vec::new(), Budget::default());
        Machine { line: 1, date, generated, budget, depth: 0, captures: 0, written: 0 }
    }

    /// Runs a template.
    pub fn run(&mut self, body: &Body, scope: &Rc<Scope>, out: &mut String) -> Made<()> {
        match self.body(body, scope, out)? {
            Flow::Next => Ok(()),
            _ => Err("`break` and `continue` stand outside of a loop".into()),
        }
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Machine) -> Made<T>) -> Made<T> {
        self.budget.step()?;
        self.depth += 1;
        let done = match self.depth > MOST_DEPTH {
            true => Err(format!("it nests more than {MOST_DEPTH} calls deep")),
            false => run(self),
        };
        self.depth -= 1;
        done
    }

    fn write(&mut self, text: &str, out: &mut String) -> Made<()> {
        self.budget.make(text.len())?;
        out.push_str(text);
        Ok(())
    }

    /// The text that a body writes.
    fn capture(&mut self, body: &Body, scope: &Rc<Scope>, out: &str) -> Made<String> {
        if self.captures == 0 {
            self.written = out.len();
        }
        self.captures += 1;
        let mut text = String::new();
        let flow = self.body(body, scope, &mut text);
        self.captures -= 1;
        match flow? {
            Flow::Next => Ok(text),
            _ => Err("`break` and `continue` cannot leave this block".into()),
        }
    }

    fn body(&mut self, body: &Body, scope: &Rc<Scope>, out: &mut String) -> Made<Flow> {
        self.deeper(|machine| {
            for node in body {
                match node {
                    Node::Text(text) => machine.write(text, out)?,
                    Node::Print(expr, line) => {
                        machine.line = *line;
                        let text = machine.eval(expr, scope, out)?.print()?;
                        machine.write(&text, out)?;
                    }
                    Node::Statement(statement, line) => {
                        machine.line = *line;
                        let flow = machine.statement(statement, scope, out)?;
                        if flow != Flow::Next {
                            return Ok(flow);
                        }
                    }
                }
            }
            Ok(Flow::Next)
        })
    }

    fn statement(&mut self, statement: &Statement, scope: &Rc<Scope>, out: &mut String) -> Made<Flow> {
        match statement {
            Statement::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition, scope, out)?.truth() {
                        return self.body(body, scope, out);
                    }
                }
                return self.body(otherwise, scope, out);
            }
            Statement::For(each) => self.for_loop(each, scope, out)?,
            Statement::Set(target, value) => {
                let value = self.eval(value, scope, out)?;
                self.assign(target, value, scope)?;
            }
            Statement::SetBlock(target, filters, body) => {
                let text = self.capture(body, &scope.inside(), out)?;
                let value = self.filtered(text, filters, scope, out)?;
                self.assign(target, value, scope)?;
            }
            Statement::Macro(made) => {
                let closure = Closure { made: made.clone(), scope: scope.clone() };
                scope.set(&made.name, Value::Macro(Rc::new(closure)));
            }
            Statement::Call(made, callee) => {
                let Expr::Call(callee, arguments) = callee else { return Err("`call` needs a call".into()) };
                let callee = self.eval(callee, scope, out)?;
                let mut given = self.arguments(arguments, scope, out)?;
                let caller = Closure { made: made.clone(), scope: scope.clone() };
                given.named.push(("caller".into(), Value::Macro(Rc::new(caller))));
                let text = self.call(&callee, given, out)?.print()?;
                self.write(&text, out)?;
            }
            Statement::Filter(filters, body) => {
                let text = self.capture(body, &scope.inside(), out)?;
                let text = self.filtered(text, filters, scope, out)?.print()?;
                self.write(&text, out)?;
            }
            Statement::With(values, body) => {
                let inner = scope.inside();
                for (target, value) in values {
                    let value = self.eval(value, scope, out)?;
                    self.assign(target, value, &inner)?;
                }
                return self.body(body, &inner, out);
            }
            Statement::Generation(body) => {
                let start = if self.captures == 0 { out.len() } else { self.written };
                let text = self.capture(body, &scope.inside(), out)?;
                self.generated.push(start..start + text.len());
                self.write(&text, out)?;
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn for_loop(&mut self, each: &For, scope: &Rc<Scope>, out: &mut String) -> Made<()> {
        let mut entries = self.eval(&each.over, scope, out)?.iterate()?;
        if let Some(only) = &each.only {
            let mut kept = Vec::new();
            for entry in entries {
                let inner = scope.inside();
                self.assign(&each.target, entry.clone(), &inner)?;
                if self.eval(only, &inner, out)?.truth() {
                    kept.push(entry);
                }
            }
            entries = kept;
        }
        let items = Series::new(entries)?;
        let changed = Rc::new(RefCell::new(None));
        for index in 0..items.entries.len() {
            let inner = scope.inside();
            self.assign(&each.target, items.entries[index].clone(), &inner)?;
            let state = Loop { index, items: items.clone(), depth: 1, changed: changed.clone() };
            inner.set(&"loop".into(), Value::Loop(Rc::new(state)));
            if self.body(&each.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        if items.entries.is_empty() {
            self.body(&each.otherwise, &scope.inside(), out)?;
        }
        Ok(())
    }

    fn assign(&mut self, target: &Target, value: Value, scope: &Rc<Scope>) -> Made<()> {
        match target {
            Target::Name(name) => scope.set(name, value),
            Target::Tuple(targets) => {
                let values = value.iterate()?;
                if values.len() != targets.len() {
                    return Err(format!("{} values are there for {} names", values.len(), targets.len()));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value, scope)?;
                }
            }
            Target::Attribute(space, attribute) => {
                let Some(Value::Namespace(table)) = scope.get(space) else {
                    return Err(format!("`{space}` is no namespace, so that no attribute of it can be set"));
                };
                functions::check_attribute(attribute)?;
                table.borrow_mut().set(Value::Text(attribute.clone()), value)?;
            }
        }
        Ok(())
    }

    fn filtered(&mut self, text: String, filters: &[Filter], scope: &Rc<Scope>, out: &str) -> Made<Value> {
        let mut value = Value::Text(text.into());
        for filter in filters {
            let given = self.arguments(&filter.arguments, scope, out)?;
            value = filters::apply(&mut self.budget, &filter.name, &value, given)?;
        }
        Ok(value)
    }

    fn arguments(&mut self, arguments: &Arguments, scope: &Rc<Scope>, out: &str) -> Made<Given> {
        let mut given = Given { positional: self.all(&arguments.positional, scope, out)?, named: Vec::new() };
        for (name, value) in &arguments.named {
            given.named.push((name.clone(), self.eval(value, scope, out)?));
        }
        if let Some(list) = &arguments.list {
            given.positional.extend(self.eval(list, scope, out)?.iterate()?);
        }
        if let Some(dict) = &arguments.dict {
            let Value::Dict(table) = self.eval(dict, scope, out)? else { return Err("`**` needs a dict".into()) };
            for (key, value) in &table.entries {
                let name = key.text().ok_or("names of arguments are texts")?;
                given.named.push((name.clone(), value.clone()));
            }
        }
        Ok(given)
    }

    fn all(&mut self, exprs: &[Expr], scope: &Rc<Scope>, out: &str) -> Made<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr, scope, out)).collect()
    }

    fn eval(&mut self, expr: &Expr, scope: &Rc<Scope>, out: &str) -> Made<Value> {
        self.deeper(|machine| machine.expression(expr, scope, out))
    }

    fn expression(&mut self, expr: &Expr, scope: &Rc<Scope>, out: &str) -> Made<Value> {
        let missing = || Value::undefined("the value of an `if` without `else` is undefined");
        match expr {
            Expr::Literal(literal) => Ok(literal.into()),
            Expr::Name(name) => Ok(self.lookup(name, scope)),
            Expr::List(entries) => {
                self.budget.make_entries(entries.len())?;
                Value::list(self.all(entries, scope, out)?)
            }
            Expr::Tuple(entries) => Value::tuple(self.all(entries, scope, out)?),
            Expr::Dict(entries) => {
                let mut table = super::value::Table::default();
                for (key, value) in entries {
                    let key = self.eval(key, scope, out)?;
                    hashable(&key)?;
                    table.set(key, self.eval(value, scope, out)?)?;
                }
                Ok(Value::Dict(Rc::new(table)))
            }
            Expr::Attribute(of, name) => {
                let of = self.eval(of, scope, out)?;
                access::attribute(&of, name)
            }
            Expr::Item(of, index) => {
                let of = self.eval(of, scope, out)?;
                let index = self.eval(index, scope, out)?;
                access::item(&of, &index)
            }
            Expr::Slice(of, parts) => {
                let of = self.eval(of, scope, out)?;
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        let value = self.eval(part, scope, out)?;
                        *bound = match value {
                            Value::None => None,
                            value => Some(value.int().ok_or("the bounds of a slice are whole numbers")?),
                        };
                    }
                }
                let cut = access::slice(&of, bounds)?;
                self.budget.made(&cut)?;
                Ok(cut)
            }
            Expr::Call(callee, arguments) => {
                let callee = self.eval(callee, scope, out)?;
                let given = self.arguments(arguments, scope, out)?;
                self.call(&callee, given, out)
            }
            Expr::Filter(of, filter) => {
                let value = self.eval(of, scope, out)?;
                let given = self.arguments(&filter.arguments, scope, out)?;
                filters::apply(&mut self.budget, &filter.name, &value, given)
            }
            Expr::Test(of, test) => {
                let value = self.eval(of, scope, out)?;
                let given = self.arguments(&test.arguments, scope, out)?;
                checks::check(&test.name, &value, &given.positional).map(Value::Bool)
            }
            Expr::Negative(of) => operators::negative(&self.eval(of, scope, out)?),
            Expr::Positive(of) => operators::positive(&self.eval(of, scope, out)?),
            Expr::Not(of) => Ok(Value::Bool(!self.eval(of, scope, out)?.truth())),
            Expr::Binary(operator, left, right) => {
                let left = self.eval(left, scope, out)?;
                let right = self.eval(right, scope, out)?;
                operators::binary(&mut self.budget, *operator, &left, &right)
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    text.push_str(&self.eval(part, scope, out)?.print()?);
                }
                self.budget.make(text.len())?;
                Ok(Value::Text(text.into()))
            }
            Expr::And(parts) | Expr::Or(parts) => {
                let stop = matches!(expr, Expr::Or(_));
                let mut value = Value::None;
                for part in parts {
                    value = self.eval(part, scope, out)?;
                    if value.truth() == stop {
                        break;
                    }
                }
                Ok(value)
            }
            Expr::Compare(first, others) => {
                let mut left = self.eval(first, scope, out)?;
                for (kind, right) in others {
                    let right = self.eval(right, scope, out)?;
                    if !compare(*kind, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::If(condition, value, otherwise) => match (self.eval(condition, scope, out)?.truth(), otherwise) {
                (true, _) => self.eval(value, scope, out),
                (false, Some(otherwise)) => self.eval(otherwise, scope, out),
                (false, None) => Ok(missing()),
            },
        }
    }

    fn lookup(&self, name: &Text, scope: &Rc<Scope>) -> Value {
        let function = || functions::NAMES.iter().find(|f| ***f == **name).map(|f| Value::Function(f));
        scope.get(name).or_else(function).unwrap_or_else(|| Value::undefined(format!("`{name}` is undefined")))
    }

    /// Calls a function, method or macro. `out` is what is written so far.
    fn call(&mut self, callee: &Value, given: Given, out: &str) -> Made<Value> {
        match callee.defined()? {
            Value::Function(name) => functions::call(&mut self.budget, self.date, name, given),
            Value::Method(method) => methods::call(&mut self.budget, &method.0, &method.1, given),
            Value::Macro(closure) => self.expand(closure, given, out),
            other => Err(format!("a value of type {} cannot be called", other.kind())),
        }
    }

    /// The text of a macro.
    fn expand(&mut self, closure: &Closure, mut given: Given, out: &str) -> Made<Value> {
        let made = &closure.made;
        let [varargs, kwargs, caller] = made.reads;
        let scope = closure.scope.inside();
        let mut take = |name: &str| {
            let at = given.named.iter().position(|(n, _)| **n == *name)?;
            Some(given.named.remove(at).1)
        };
        let mut rest = given.positional.into_iter();
        let required = made.parameters.len() - made.defaults.len();
        for (at, name) in made.parameters.iter().enumerate() {
            let value = match rest.next().or_else(|| take(name)) {
                Some(value) => value,
                None => match at.checked_sub(required).and_then(|at| made.defaults.get(at)) {
                    Some(default) => self.eval(default, &scope, out)?,
                    None => Value::undefined(format!("parameter `{name}` was not provided")),
                },
            };
            scope.set(name, value);
        }
        if caller && !made.parameters.iter().any(|name| **name == *"caller") {
            scope.set(&"caller".into(), take("caller").unwrap_or_else(|| Value::undefined("no caller is defined")));
        }
        if kwargs {
            let named = std::mem::take(&mut given.named).into_iter().map(|(name, value)| (Value::Text(name), value));
            let table = super::value::Table::new(named.collect())?;
            scope.set(&"kwargs".into(), Value::Dict(Rc::new(table)));
        }
        if let Some((name, _)) = given.named.first() {
            return Err(format!("the macro `{}` takes no argument `{name}`", made.name));
        }
        let rest: Vec<Value> = rest.collect();
        if varargs {
            scope.set(&"varargs".into(), Value::tuple(rest)?);
        } else if !rest.is_empty() {
            return Err(format!("the macro `{}` takes at most {} arguments", made.name, made.parameters.len()));
        }
        let line = self.line;
        let text = self.capture(&made.body, &scope, out)?;
        self.line = line;
        Ok(Value::Text(text.into()))
    }
}

/// `left kind right`.
fn compare(kind: Comparison, left: &Value, right: &Value) -> Made<bool> {
    Ok(match kind {
        Comparison::Eq => same(left, right),
        Comparison::Ne => !same(left, right),
        Comparison::In => contains(right, left)?,
        Comparison::NotIn => !contains(right, left)?,
        Comparison::Lt => order(left, right)?.is_some_and(|order| order.is_lt()),
        Comparison::Le => order(left, right)?.is_some_and(|order| order.is_le()),
        Comparison::Gt => order(left, right)?.is_some_and(|order| order.is_gt()),
        Comparison::Ge => order(left, right)?.is_some_and(|order| order.is_ge()),
    })
}
