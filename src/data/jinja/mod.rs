//! Chat templates: Jinja 3.1 over Python's values, as transformers runs it.
//!
//! A template written for Python sees Python's types: `None`, `True` and `0.1` as Python spells them, methods of `str`
//! and `dict`, lists that compare. A template that needs what is not here fails with a sentence; no text is rendered
//! otherwise than Python renders it. Steps, memory and nesting are bounded, since a template comes with a model and may
//! be anything.
//!
//! `lex` and `parse` make the tree of `ast`. `machine` runs it, with `operators`, `access` (attributes, items),
//! `filters`, `checks` (tests), `methods` (of Python's types) and `functions`. `value` holds the types; `spell`,
//! `percent` and `date` write them.

mod access;
mod ast;
mod budget;
mod checks;
mod date;
mod filters;
mod functions;
mod lex;
mod machine;
mod methods;
mod operators;
mod parse;
mod percent;
mod spell;
mod unicode;
mod value;

use std::ops::Range;
use std::sync::Arc;

pub use date::Date;

#[cfg(test)]
mod tests;

/// A template, ready to run.
pub(crate) struct Template(ast::Body);

/// What a template wrote.
pub(crate) struct Rendered {
    pub text: String,
    /// The stretches that `{% generation %}` marks, in bytes.
    pub generated: Vec<Range<usize>>,
}

/// The variables of a template, to render it with them more than once.
pub(crate) struct Variables(Vec<(Arc<str>, value::Value)>);

impl Variables {
    /// From values of JSON.
    pub fn new<'a>(named: impl IntoIterator<Item = (&'a str, &'a serde_json::Value)>) -> Result<Variables, String> {
        let variable = |(name, json): (&str, _)| Ok((name.into(), value::of_json(json)?));
        named.into_iter().map(variable).collect::<Result<_, String>>().map(Variables)
    }

    /// Sets one more.
    pub fn set(&mut self, name: &str, json: &serde_json::Value) -> Result<(), String> {
        let value = value::of_json(json)?;
        match self.0.iter_mut().find(|(n, _)| **n == *name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
        Ok(())
    }

    /// The same, of the list `name` only the first `length` entries.
    pub fn first(&self, name: &str, length: usize) -> Variables {
        let cut = |(n, value): &(Arc<str>, value::Value)| {
            let value = match value {
                list @ value::Value::List(_) if **n == *name => {
                    access::slice(list, [None, Some(length as i128), None]).unwrap_or(value::Value::None)
                }
                value => value.clone(),
            };
            (n.clone(), value)
        };
        Variables(self.0.iter().map(cut).collect())
    }
}

impl Template {
    /// Reads a template. The error is a sentence with its line.
    pub fn new(source: &str) -> Result<Template, String> {
        parse::parse(source).map(Template)
    }

    /// Renders it with these variables on this day. The error is a sentence with its line.
    pub fn render(&self, variables: &Variables, date: Date) -> Result<Rendered, String> {
        let mut machine = machine::Machine::new(date);
        let mut text = String::new();
        let scope = value::Scope::new(variables.0.clone());
        let done = machine.run(&self.0, &scope, &mut text);
        done.map_err(|why| format!("line {}: {why}", machine.line))?;
        Ok(Rendered { text, generated: machine.generated })
    }
}
