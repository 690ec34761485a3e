//! The languages that can be labelled, their grammars, and the wrappers around code that is not a whole program.

use crate::choices::{Choice, nearest};
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A programming language that can be labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names are the definition
pub enum Language {
    Java,
    CSharp,
    Python,
    JavaScript,
    TypeScript,
    Go,
    C,
    Cpp,
    Rust,
}

impl Language {
    /// All languages.
    pub const ALL: [Language; 9] = [
        Language::Java,
        Language::CSharp,
        Language::Python,
        Language::JavaScript,
        Language::TypeScript,
        Language::Go,
        Language::C,
        Language::Cpp,
        Language::Rust,
    ];

    /// The name as the command line and recipes spell it.
    pub fn name(self) -> &'static str {
        match self {
            Language::Java => "java",
            Language::CSharp => "c-sharp",
            Language::Python => "python",
            Language::JavaScript => "javascript",
            Language::TypeScript => "typescript",
            Language::Go => "go",
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Rust => "rust",
        }
    }

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

    /// The usual extension of its files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Language::Java => "java",
            Language::CSharp => "cs",
            Language::Python => "py",
            Language::JavaScript => "js",
            Language::TypeScript => "ts",
            Language::Go => "go",
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Rust => "rs",
        }
    }

    /// The language of a file, by its extension.
    pub fn from_path(file: &Path) -> Result<Language> {
        let extension = file.extension().map(|e| e.to_string_lossy().into_owned());
        extension.as_deref().and_then(Language::from_extension).ok_or_else(|| {
            Error::file(file, format!("no language is known by this extension; name one of {}", Language::names()))
        })
    }

    /// The text around code that is not a program by itself: in front of it, after it.
    pub(super) fn wrapper(self) -> Option<(&'static str, &'static str)> {
        match self {
            Language::Java | Language::CSharp | Language::JavaScript | Language::TypeScript => {
                Some(("class W {", "\n}"))
            }
            // an indented method
            Language::Python => Some(("class W:\n", "\n")),
            Language::Cpp => Some(("class W {", "\n};")),
            // grammars that accept a method anywhere
            Language::Go | Language::C | Language::Rust => None,
        }
    }

    /// Whether the first attempt is the code inside its wrapper. This guess only saves time: if the first parse has
    /// errors, the other is made too, and the better one is used.
    pub(super) fn wrap_first(self, code: &[u8]) -> bool {
        match self {
            Language::Java | Language::CSharp => {
                !matches!(first_word(code), b"package" | b"import" | b"using" | b"namespace")
            }
            Language::Python => matches!(code.first(), Some(b' ' | b'\t')),
            _ => false,
        }
    }
}

impl Choice for Language {
    const ALL: &'static [Language] = &Language::ALL;

    fn name(self) -> &'static str {
        Language::name(self)
    }
}

impl serde::Serialize for Language {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads the name, the name that CodeBLEU has for it, or an extension.
impl FromStr for Language {
    type Err = Error;

    fn from_str(name: &str) -> Result<Language> {
        let known = match name {
            "c_sharp" | "csharp" | "c#" => Some(Language::CSharp),
            name => Language::from_name(name).or_else(|| Language::from_extension(name)),
        };
        known.ok_or_else(|| {
            Error::Usage(match nearest(name, Language::ALL.map(Language::name)) {
                Some(near) => format!("unknown language {name:?}; did you mean {near}?"),
                None => format!("unknown language {name:?}: one of {}", Language::names()),
            })
        })
    }
}

/// A grammar. TypeScript has two, because with JSX a cast `<T>x` does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// The language's own.
    Plain(Language),
    /// TypeScript with JSX.
    Tsx,
}

impl Grammar {
    /// The number of grammars.
    pub(crate) const COUNT: usize = Language::ALL.len() + 1;

    pub(crate) fn language(self) -> Language {
        match self {
            Grammar::Plain(language) => language,
            Grammar::Tsx => Language::TypeScript,
        }
    }

    /// From 0, below [`Grammar::COUNT`].
    pub(crate) fn index(self) -> usize {
        match self {
            Grammar::Plain(language) => language as usize,
            Grammar::Tsx => Grammar::COUNT - 1,
        }
    }

    pub(crate) fn load(self) -> tree_sitter::Language {
        match self {
            Grammar::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
            Grammar::Plain(language) => match language {
                Language::Java => tree_sitter_java::LANGUAGE.into(),
                Language::CSharp => tree_sitter_c_sharp::LANGUAGE.into(),
                Language::Python => tree_sitter_python::LANGUAGE.into(),
                Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
                Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
                Language::Go => tree_sitter_go::LANGUAGE.into(),
                Language::C => tree_sitter_c::LANGUAGE.into(),
                Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
                Language::Rust => tree_sitter_rust::LANGUAGE.into(),
            },
        }
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
