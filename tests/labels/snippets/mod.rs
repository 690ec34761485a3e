//! Code of every language with its labels: what the tests of labels, the benchmark and the fuzzers share.
#![allow(dead_code)] // every binary uses its own part of this

pub mod c;
pub mod c_sharp;
pub mod cpp;
pub mod go;
pub mod java;
pub mod javascript;
pub mod python;
pub mod rust;
pub mod typescript;

use eyekern::salience::Label;
use eyekern::salience::syntax::Language;

/// A piece of code, and its runs of labels.
pub type Snippet = (&'static str, &'static [(Label, &'static str)]);

pub const ALL: [(Language, &[Snippet]); 9] = [
    (Language::Java, java::SNIPPETS),
    (Language::CSharp, c_sharp::SNIPPETS),
    (Language::Python, python::SNIPPETS),
    (Language::JavaScript, javascript::SNIPPETS),
    (Language::TypeScript, typescript::SNIPPETS),
    (Language::Go, go::SNIPPETS),
    (Language::C, c::SNIPPETS),
    (Language::Cpp, cpp::SNIPPETS),
    (Language::Rust, rust::SNIPPETS),
];
