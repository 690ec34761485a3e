//! Syntax trees: the languages, a parser that takes any bytes, and the leaves of a tree in document order.
//!
//! A bare method of Java, C#, JavaScript or TypeScript is no program, so it is parsed inside a class and its offsets
//! are shifted back. Nothing here recurses, and parsing has a budget of time in proportion to the input's length: the
//! parser's error recovery is quadratic in the worst case (200 kB of `a<a<a<` take minutes), so code on which it would
//! not end is refused. Code of the right language takes a small part of the budget.

use crate::choices::{Choice, choices};
use crate::error::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tree_sitter::{Node, ParseOptions, Parser, Tree, TreeCursor};

choices! {
    /// A programming language that can be labelled.
    Language {
        /// Java 21.
        Java = "java",
        /// C# 13.
        CSharp = "c-sharp",
        /// Python 3.
        Python = "python",
        /// JavaScript, with JSX.
        JavaScript = "javascript",
        /// TypeScript.
        TypeScript = "typescript",
        /// Go.
        Go = "go",
        /// C.
        C = "c",
        /// C++.
        Cpp = "cpp",
        /// Rust.
        Rust = "rust",
    }
}

impl Language {
    /// The language of files with this extension (no dot, any case). `h` counts as C.
    pub fn from_extension(extension: &str) -> Option<Language> {
        Some(match extension.to_ascii_lowercase().as_str() {
            "java" => Language::Java,
            "cs" | "csx" => Language::CSharp,
            "py" | "pyi" | "pyw" => Language::Python,
            "js" | "jsx" | "mjs" | "cjs" => Language::JavaScript,
            "ts" | "tsx" | "mts" | "cts" => Language::TypeScript,
            "go" => Language::Go,
            "c" | "h" => Language::C,
            "cc" | "cpp" | "cxx" | "c++" | "hh" | "hpp" | "hxx" | "h++" | "ipp" => Language::Cpp,
            "rs" => Language::Rust,
            _ => return None,
        })
    }

    /// The language of a file, by its extension.
    pub fn from_path(file: &Path) -> Result<Language> {
        let extension = file.extension().map(|e| e.to_string_lossy().into_owned());
        extension.as_deref().and_then(Language::from_extension).ok_or_else(|| {
            Error::file(file, format!("no language is known by this extension; name one of {}", Language::names()))
        })
    }

    /// TypeScript's grammar is the one with JSX off: with it on, a cast `<T>x` would not parse.
    pub(crate) fn grammar(self) -> tree_sitter::Language {
        match self {
            Language::Java => tree_sitter_java::LANGUAGE.into(),
            Language::CSharp => tree_sitter_c_sharp::LANGUAGE.into(),
            Language::Python => tree_sitter_python::LANGUAGE.into(),
            Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            Language::Go => tree_sitter_go::LANGUAGE.into(),
            Language::C => tree_sitter_c::LANGUAGE.into(),
            Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            Language::Rust => tree_sitter_rust::LANGUAGE.into(),
        }
    }

    /// What stands around a piece that is no program by itself: before it, after it.
    fn wrapper(self) -> Option<(&'static str, &'static str)> {
        match self {
            Language::Java | Language::CSharp | Language::JavaScript | Language::TypeScript => {
                Some(("class W {", "\n}"))
            }
            // an indented method
            Language::Python => Some(("class W:\n", "\n")),
            Language::Cpp => Some(("class W {", "\n};")),
            // a grammar that takes a method anywhere
            Language::Go | Language::C | Language::Rust => None,
        }
    }

    /// Whether the piece is tried inside the wrapper first. Only a guess that saves time: where the first parse has
    /// errors the other is made too, and the better one counts.
    fn wrap_first(self, code: &[u8]) -> bool {
        match self {
            Language::Java | Language::CSharp => {
                !matches!(first_word(code), b"package" | b"import" | b"using" | b"namespace")
            }
            Language::Python => matches!(code.first(), Some(b' ' | b'\t')),
            _ => false,
        }
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(name: &str) -> Result<Language> {
        Language::from_name(name)
            .ok_or_else(|| Error::Usage(format!("unknown language {name:?}: one of {}", Language::names())))
    }
}

/// The first word that is neither in a comment nor after `#`.
fn first_word(code: &[u8]) -> &[u8] {
    let mut rest = code;
    loop {
        rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest).trim_ascii_start();
        let end = if rest.starts_with(b"//") || rest.starts_with(b"#") {
            rest.iter().position(|&b| b == b'\n')
        } else if rest.starts_with(b"/*") {
            rest.windows(2).skip(2).position(|w| w == b"*/").map(|at| at + 4)
        } else {
            let word = rest.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
            return &rest[..word];
        };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
}

/// A syntax tree and where its code lies in it.
pub struct Syntax {
    tree: Tree,
    language: Language,
    /// Bytes before the code (the wrapper's).
    shift: usize,
    /// Lines before the code.
    rows: usize,
    /// Bytes of the code.
    len: usize,
}

/// One leaf of a tree: bytes `start..end` of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'t> {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Source line of its first byte, from 0.
    pub line: u32,
    /// The grammar's name of it; a token of fixed spelling is named by its spelling.
    pub kind: &'t str,
}

/// The longest code that is parsed: the tree counts bytes in 32 bits.
const LONGEST: usize = u32::MAX as usize - 64;

/// The most angle brackets that may be open at once. In grammars where `a<b` may begin a type or a comparison, the
/// parser keeps both readings of every open bracket and takes memory in the square of their number.
const MOST_OPEN_ANGLES: usize = 1500;

/// Whether more angle brackets than [`MOST_OPEN_ANGLES`] are open between statement boundaries.
fn too_many_angles(code: &[u8]) -> bool {
    let mut open = 0usize;
    code.iter().any(|byte| {
        match byte {
            b'<' => open += 1,
            b'>' => open = open.saturating_sub(1),
            b';' | b'{' | b'}' => open = 0,
            _ => {}
        }
        open > MOST_OPEN_ANGLES
    })
}

/// The budget of a parse. Ordinary code takes about a microsecond for three bytes.
fn budget(bytes: usize) -> Duration {
    Duration::from_secs(5) + Duration::from_micros(4).saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// Parses any bytes. Refuses code of 4 GiB and more, and code that the grammar's error recovery cannot get through
/// within its budget.
pub fn parse(code: &[u8], language: Language) -> Result<Syntax> {
    if code.len() > LONGEST {
        return Err(Error::Usage(format!("{} bytes of code in one piece: at most 4 GiB can be parsed", code.len())));
    }
    if matches!(language, Language::Java | Language::CSharp) && too_many_angles(code) {
        return Err(Error::Usage(format!(
            "more than {MOST_OPEN_ANGLES} angle brackets open in one statement: this cannot be parsed as {language}"
        )));
    }
    let mut parser = Parser::new();
    parser
        .set_language(&language.grammar())
        .map_err(|e| Error::Usage(format!("the {language} grammar does not fit this build: {e}")))?;
    let wrapper = language.wrapper();
    let wrapped_first = wrapper.is_some() && language.wrap_first(code);
    let first = attempt(&mut parser, code, language, wrapper.filter(|_| wrapped_first)).ok_or_else(|| {
        let n = code.len();
        Error::Usage(format!("{n} bytes do not parse as {language} in reasonable time: is the language right?"))
    })?;
    if !first.has_error() || wrapper.is_none() {
        return Ok(first);
    }
    let second = attempt(&mut parser, code, language, wrapper.filter(|_| !wrapped_first));
    Ok(second.filter(|second| second.error_bytes() < first.error_bytes()).unwrap_or(first))
}

fn attempt(
    parser: &mut Parser,
    code: &[u8],
    language: Language,
    wrapper: Option<(&'static str, &'static str)>,
) -> Option<Syntax> {
    let (before, after) = wrapper.unwrap_or(("", ""));
    let mut read = |at: usize, _| {
        if at < before.len() {
            &before.as_bytes()[at..]
        } else {
            let at = at - before.len();
            code.get(at..).filter(|rest| !rest.is_empty()).unwrap_or_else(|| {
                let at = at.saturating_sub(code.len());
                after.as_bytes().get(at..).unwrap_or_default()
            })
        }
    };
    let (start, limit) = (Instant::now(), budget(code.len()));
    let mut in_time = |_: &tree_sitter::ParseState| {
        if start.elapsed() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    parser.reset();
    let options = ParseOptions::new().progress_callback(&mut in_time);
    let tree = parser.parse_with_options(&mut read, None, Some(options))?;
    let rows = before.bytes().filter(|&b| b == b'\n').count();
    Some(Syntax { tree, language, shift: before.len(), rows, len: code.len() })
}

impl Syntax {
    /// The tree's root. Offsets of its nodes count from the wrapper's first byte; [`Syntax::place`] corrects them.
    pub(crate) fn root(&self) -> Node<'_> {
        self.tree.root_node()
    }

    /// Where a node lies in the code: start, end, line. `None` for what lies outside (the wrapper) or is empty.
    pub(crate) fn place(&self, node: &Node<'_>) -> Option<(usize, usize, u32)> {
        let (start, end) = (node.start_byte(), node.end_byte());
        let inside = start >= self.shift && start < end && end <= self.shift + self.len;
        let line = node.start_position().row.saturating_sub(self.rows) as u32;
        inside.then(|| (start - self.shift, end - self.shift, line))
    }

    /// The language it was parsed as.
    pub fn language(&self) -> Language {
        self.language
    }

    /// Whether the code did not parse as a whole.
    pub fn has_error(&self) -> bool {
        self.tree.root_node().has_error()
    }

    /// The leaves in document order.
    pub fn leaves(&self) -> Leaves<'_> {
        Leaves { syntax: self, cursor: Some(self.tree.walk()) }
    }

    /// Bytes inside error nodes plus tokens that had to be invented.
    fn error_bytes(&self) -> usize {
        let mut cursor = self.tree.walk();
        let mut bytes = 0;
        loop {
            let node = cursor.node();
            if node.is_error() {
                bytes += node.end_byte() - node.start_byte() + 1;
            } else if node.is_missing() {
                bytes += 1;
            } else if node.has_error() && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return bytes;
                }
            }
        }
    }
}

/// Iterator over the leaves of a tree.
pub struct Leaves<'t> {
    syntax: &'t Syntax,
    cursor: Option<TreeCursor<'t>>,
}

impl<'t> Iterator for Leaves<'t> {
    type Item = Leaf<'t>;

    fn next(&mut self) -> Option<Leaf<'t>> {
        while let Some(cursor) = self.cursor.as_mut() {
            while cursor.goto_first_child() {}
            let node = cursor.node();
            let mut done = false;
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    done = true;
                    break;
                }
            }
            if done {
                self.cursor = None;
            }
            if let Some((start, end, line)) = self.syntax.place(&node) {
                return Some(Leaf { start, end, line, kind: node.kind() });
            }
        }
        None
    }
}
