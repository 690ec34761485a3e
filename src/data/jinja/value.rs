//! The values of a template: Python's, with its truth, equality, order and spelling.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Literal, Macro, Text};

/// What an operation gives, or a sentence about why it cannot.
pub(super) type Made<T> = Result<T, String>;

#[derive(Clone)]
pub(super) enum Value {
    /// Nothing there; a sentence about what is missing.
    Undefined(Text),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    /// Text from `escape` or `safe`. Python escapes what is added to it, so that only printing is supported.
    Marked(Text),
    List(Rc<Series>),
    Tuple(Rc<Series>),
    Dict(Rc<Table>),
    /// `dict.keys()`, `values()` or `items()` by their name in Python.
    View(&'static str, Rc<Series>),
    /// `range(start, stop, step)` and its entries.
    Range([i128; 3], Rc<Series>),
    /// The values of a filter that has not run yet; they are given once.
    Generator(Rc<RefCell<Vec<Value>>>),
    Namespace(Rc<RefCell<Table>>),
    Loop(Rc<Loop>),
    Macro(Rc<Closure>),
    /// A function of the environment.
    Function(&'static str),
    /// A method of a value.
    Method(Rc<(Value, Text)>),
}

/// The entries of a list. `depth` bounds the recursion over nested ones.
#[derive(Default)]
pub(super) struct Series {
    pub entries: Vec<Value>,
    depth: u32,
}

/// A dict, in the order of insertion.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub entries: Vec<(Value, Value)>,
    depth: u32,
}

/// A macro and the names that it sees.
pub(super) struct Closure {
    pub made: Arc<Macro>,
    pub scope: Rc<Scope>,
}

/// The variable `loop`.
pub(super) struct Loop {
    pub index: usize,
    pub items: Rc<Series>,
    pub depth: usize,
    /// What `loop.changed` was given last.
    pub changed: Rc<RefCell<Option<Vec<Value>>>>,
}

/// How deep values may nest.
const MOST_DEPTH: u32 = 160;

fn deeper<'a>(values: impl Iterator<Item = &'a Value>) -> Made<u32> {
    let depth = 1 + values.map(Value::depth).max().unwrap_or(0);
    if depth > MOST_DEPTH { Err(format!("a value nests more than {MOST_DEPTH} deep")) } else { Ok(depth) }
}

impl Series {
    pub fn new(entries: Vec<Value>) -> Made<Rc<Series>> {
        let depth = deeper(entries.iter())?;
        Ok(Rc::new(Series { entries, depth }))
    }
}

impl Table {
    pub fn get(&self, key: &Value) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| same(k, key)).map(|(_, value)| value)
    }

    pub fn get_text(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k.text().is_some_and(|k| **k == *key)).map(|(_, value)| value)
    }

    pub fn set(&mut self, key: Value, value: Value) -> Made<()> {
        self.depth = self.depth.max(deeper([&key, &value].into_iter())?);
        match self.entries.iter_mut().find(|(k, _)| same(k, &key)) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    /// From entries with different keys.
    pub fn new(entries: Vec<(Value, Value)>) -> Made<Table> {
        let depth = deeper(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Table { entries, depth })
    }
}

impl From<&Literal> for Value {
    fn from(literal: &Literal) -> Value {
        match literal {
            Literal::None => Value::None,
            Literal::Bool(flag) => Value::Bool(*flag),
            Literal::Int(value) => Value::Int(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Text(text) => Value::Text(text.clone()),
        }
    }
}

/// A value of JSON. Nesting is bounded by the reader of the JSON.
pub(super) fn of_json(json: &serde_json::Value) -> Made<Value> {
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match number.as_i128() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        serde_json::Value::Array(list) => Value::list(list.iter().map(of_json).collect::<Made<_>>()?)?,
        serde_json::Value::Object(map) => {
            let entry = |(key, value): (&String, _)| Ok((Value::Text(key.as_str().into()), of_json(value)?));
            Value::Dict(Rc::new(Table::new(map.iter().map(entry).collect::<Made<_>>()?)?))
        }
    })
}

impl Value {
    pub fn list(entries: Vec<Value>) -> Made<Value> {
        Series::new(entries).map(Value::List)
    }

    pub fn tuple(entries: Vec<Value>) -> Made<Value> {
        Series::new(entries).map(Value::Tuple)
    }

    pub fn generator(mut entries: Vec<Value>) -> Value {
        entries.reverse();
        Value::Generator(Rc::new(RefCell::new(entries)))
    }

    pub fn undefined(what: impl Into<String>) -> Value {
        Value::Undefined(what.into().into())
    }

    fn depth(&self) -> u32 {
        match self {
            Value::List(series) | Value::Tuple(series) | Value::View(_, series) => series.depth,
            Value::Dict(table) => table.depth,
            // its values can change, so that it counts in full
            Value::Namespace(_) | Value::Generator(_) => MOST_DEPTH / 2,
            Value::Method(method) => 1 + method.0.depth(),
            _ => 0,
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Value::Text(text) | Value::Marked(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a number, as arithmetic takes it: booleans are 0 and 1.
    pub fn int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(flag) => Some(i128::from(*flag)),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            _ => self.int().map(|value| value as f64),
        }
    }

    /// Python's name of the type.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::Marked(_) => "Markup",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(kind, _) => kind,
            Value::Range(..) => "range",
            Value::Generator(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Macro(_) => "Macro",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
        }
    }

    pub fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(flag) => *flag,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            _ => self.length().is_none_or(|length| length > 0),
        }
    }

    /// `len(value)`; `None` where Python has none.
    pub fn length(&self) -> Option<usize> {
        match self {
            Value::Undefined(_) => Some(0),
            Value::Text(text) | Value::Marked(text) => Some(text.chars().count()),
            Value::Dict(table) => Some(table.entries.len()),
            Value::Loop(state) => Some(state.items.entries.len()),
            _ => self.series().map(|series| series.entries.len()),
        }
    }

    /// The entries of a list and its like.
    pub fn series(&self) -> Option<&Rc<Series>> {
        match self {
            Value::List(series) | Value::Tuple(series) | Value::View(_, series) | Value::Range(_, series) => {
                Some(series)
            }
            _ => None,
        }
    }

    /// What iterating over the value gives.
    pub fn iterate(&self) -> Made<Vec<Value>> {
        match self {
            Value::Undefined(_) => Ok(Vec::new()),
            Value::Text(text) | Value::Marked(text) => {
                Ok(text.chars().map(|c| Value::Text(c.to_string().into())).collect())
            }
            Value::Dict(table) => Ok(table.entries.iter().map(|(key, _)| key.clone()).collect()),
            Value::Generator(entries) => {
                let mut taken = entries.take();
                taken.reverse();
                Ok(taken)
            }
            _ => match self.series() {
                Some(series) => Ok(series.entries.clone()),
                None => Err(format!("a value of type {} cannot be iterated over", self.kind())),
            },
        }
    }

    /// The error of every use of an undefined value but printing, truth and iteration.
    pub fn defined(&self) -> Made<&Value> {
        match self {
            Value::Undefined(what) => Err(what.to_string()),
            value => Ok(value),
        }
    }
}

/// Evaluated arguments of a call.
#[derive(Default)]
pub(super) struct Given {
    pub positional: Vec<Value>,
    pub named: Vec<(Text, Value)>,
}

/// Names and their values. A loop, a macro and every other block with names of its own has a scope, which sees the
/// ones above it.
#[derive(Default)]
pub(super) struct Scope {
    names: RefCell<Vec<(Text, Value)>>,
    above: Option<Rc<Scope>>,
}

impl Scope {
    pub fn new(names: Vec<(Text, Value)>) -> Rc<Scope> {
        Rc::new(Scope { names: RefCell::new(names), above: None })
    }

    pub fn inside(self: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { names: RefCell::default(), above: Some(self.clone()) })
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        let here = self.names.borrow().iter().find(|(n, _)| **n == *name).map(|(_, value)| value.clone());
        here.or_else(|| self.above.as_ref()?.get(name))
    }

    pub fn set(&self, name: &Text, value: Value) {
        let mut names = self.names.borrow_mut();
        match names.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => names.push((name.clone(), value)),
        }
    }
}

/// `a == b`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let all = |a: &Series, b: &Series| {
        a.entries.len() == b.entries.len() && a.entries.iter().zip(&b.entries).all(|(a, b)| same(a, b))
    };
    match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::List(a), Value::List(b))
        | (Value::Tuple(a), Value::Tuple(b))
        | (Value::Range(_, a), Value::Range(_, b)) => all(a, b),
        (Value::Dict(a), Value::Dict(b)) => {
            let within = |(key, value): &(Value, Value)| b.get(key).is_some_and(|other| same(value, other));
            a.entries.len() == b.entries.len() && a.entries.iter().all(within)
        }
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Generator(a), Value::Generator(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (a.text(), b.text(), a.int(), b.int(), a.number(), b.number()) {
            (Some(a), Some(b), ..) => a == b,
            (_, _, Some(a), Some(b), ..) => a == b,
            (_, _, _, _, Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

/// The order of two values; fails where Python has none. NaN is in no order.
pub(super) fn order(a: &Value, b: &Value) -> Made<Option<Ordering>> {
    a.defined()?;
    b.defined()?;
    match (a, b) {
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            for (a, b) in x.entries.iter().zip(&y.entries) {
                if !same(a, b) {
                    return order(a, b);
                }
            }
            Ok(Some(x.entries.len().cmp(&y.entries.len())))
        }
        _ => match (a.text(), b.text(), a.int(), b.int(), a.number(), b.number()) {
            (Some(a), Some(b), ..) => Ok(Some(a.cmp(b))),
            (_, _, Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
            (_, _, _, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => Err(format!("values of type {} and {} have no order", a.kind(), b.kind())),
        },
    }
}

/// Sorts by a key; equal ones stay in their order. Fails where two keys have no order, on which the sort of the
/// standard library may panic.
pub(super) fn sort<T>(mut items: Vec<T>, key: &dyn Fn(&T) -> &Value, backwards: bool) -> Made<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = sort(items, key, backwards)?.into_iter().peekable();
    let mut right = sort(right, key, backwards)?.into_iter().peekable();
    let mut sorted = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let order = order(key(a), key(b))?.ok_or("NaN has no place in an order")?;
        let from = if if backwards { order.is_lt() } else { order.is_gt() } { &mut right } else { &mut left };
        sorted.extend(from.next());
    }
    sorted.extend(left.chain(right));
    Ok(sorted)
}

/// `needle in hay`.
pub(super) fn contains(hay: &Value, needle: &Value) -> Made<bool> {
    match hay {
        Value::Text(text) | Value::Marked(text) => match needle.text() {
            Some(needle) => Ok(text.contains(&**needle)),
            None => {
                needle.defined()?;
                Err(format!("only text can be in a text, not a value of type {}", needle.kind()))
            }
        },
        Value::Dict(table) => {
            hashable(needle)?;
            Ok(table.get(needle).is_some())
        }
        hay => Ok(hay.iterate()?.iter().any(|value| same(value, needle))),
    }
}

/// Keys of a dict cannot be lists or dicts.
pub(super) fn hashable(key: &Value) -> Made<()> {
    match key {
        Value::List(_) | Value::Dict(_) | Value::Namespace(_) => {
            Err(format!("a value of type {} is no key", key.kind()))
        }
        Value::Tuple(series) => series.entries.iter().try_for_each(hashable),
        _ => Ok(()),
    }
}
