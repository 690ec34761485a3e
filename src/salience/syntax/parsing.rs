//! How well pieces of code parse: the count of one piece, and the tally over many.

use std::collections::BTreeMap;

use super::{Language, Syntax};

/// How a piece of code parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The language that it was parsed as.
    pub language: Language,
    /// Whether nothing named this language, so that the default was taken.
    pub assumed: bool,
    /// Nodes of the tree.
    pub nodes: u64,
    /// Nodes of the tree that are errors or were inserted by the parser. A piece without any parses.
    pub errors: u64,
}

impl Parsed {
    /// The count over a tree. `assumed`: nothing named the language.
    pub fn of(syntax: &Syntax, assumed: bool) -> Parsed {
        let (nodes, errors) = syntax.count();
        Parsed { language: syntax.language(), assumed, nodes, errors }
    }

    /// Both pieces of one row as one. The language is that of the piece with more errors.
    pub fn and(self, other: Parsed) -> Parsed {
        let language = if other.errors > self.errors { other.language } else { self.language };
        let (nodes, errors) = (self.nodes + other.nodes, self.errors + other.errors);
        Parsed { language, assumed: self.assumed || other.assumed, nodes, errors }
    }
}

/// Rows of one language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OfLanguage {
    /// Rows that were parsed as this language.
    pub rows: usize,
    /// Those of them that do not parse.
    pub unparsed: usize,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FirstRow {
    /// Its line, from 1.
    pub row: usize,
    /// The language that it was parsed as.
    pub language: String,
}

/// How the code of many rows parsed.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Parsing {
    /// Rows whose code was parsed.
    pub rows: usize,
    /// Rows whose code does not parse.
    pub unparsed: usize,
    /// The first of them.
    pub first_unparsed: Option<FirstRow>,
    /// Rows whose language nothing names, so that they were parsed as the default.
    pub assumed: usize,
    /// Nodes of all trees.
    pub nodes: u64,
    /// Nodes of all trees that are errors.
    pub error_nodes: u64,
    /// Error nodes as a share of all nodes, 0 to 1.
    pub error_share: f64,
    /// By language.
    pub languages: BTreeMap<String, OfLanguage>,
}

impl Parsing {
    /// Counts the row on line `line`.
    pub fn add(&mut self, line: usize, parsed: Parsed) {
        let fails = usize::from(parsed.errors > 0);
        self.rows += 1;
        self.unparsed += fails;
        self.assumed += usize::from(parsed.assumed);
        self.nodes += parsed.nodes;
        self.error_nodes += parsed.errors;
        self.error_share = self.error_nodes as f64 / self.nodes.max(1) as f64;
        let of = self.languages.entry(parsed.language.name().into()).or_default();
        of.rows += 1;
        of.unparsed += fails;
        if fails > 0 && self.first_unparsed.is_none() {
            self.first_unparsed = Some(FirstRow { row: line, language: parsed.language.name().into() });
        }
    }

    /// `java 12, python 3 (1 does not parse)`.
    pub fn by_language(&self) -> String {
        let one = |(name, of): (&String, &OfLanguage)| match of.unparsed {
            0 => format!("{name} {}", of.rows),
            1 => format!("{name} {} (1 does not parse)", of.rows),
            n => format!("{name} {} ({n} do not parse)", of.rows),
        };
        self.languages.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// A sentence about rows that do not parse, and one about rows that name no language. `remedy` says where the
    /// language is named.
    pub fn notes(&self, remedy: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let rows = |n: usize| if n == 1 { "1 row".to_string() } else { format!("{n} rows") };
        if let Some(FirstRow { row, language }) = &self.first_unparsed {
            let verb = if self.unparsed == 1 { "does" } else { "do" };
            notes.push(format!(
                "the code of {} of {} {verb} not parse (first: row {row}, as {language}; {} of {} syntax nodes are \
                 errors), so its labels are unreliable; check the code, and name its language: {remedy}",
                rows(self.unparsed),
                self.rows,
                self.error_nodes,
                self.nodes
            ));
        }
        if self.assumed > 0 {
            let verb = if self.assumed == 1 { "names" } else { "name" };
            notes.push(format!(
                "{} of {} {verb} no language and {} read as {}; name it: {remedy}",
                rows(self.assumed),
                self.rows,
                if self.assumed == 1 { "is" } else { "are" },
                Language::Java
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn parsed(code: &str, language: Language) -> Parsed {
        Parsed::of(&parse(code.as_bytes(), language).expect("parses or not"), false)
    }

    #[test]
    fn errors_and_nodes_are_counted() {
        // module, expression_statement, assignment, identifier, =, integer
        let fine = parsed("x = 1", Language::Python);
        assert_eq!((fine.nodes, fine.errors), (6, 0));
        for (code, language) in [
            ("def area(w, h):\n    if w < 0:\n        raise ValueError(w)\n    return w\n", Language::Java),
            ("Here is the code:\n```java\nint f() { return 1; }\n```\n", Language::Java),
            ("@@ -1,3 +1,3 @@\n int f() {\n-  return 1;\n+  return 2;\n }", Language::Java),
            ("int f() { return (1; }", Language::C),
            ("fn f() -> { 1 }", Language::Rust),
            ("func f( { return }", Language::Go),
            ("class A { int F() { } ", Language::CSharp),
            ("function f( { }", Language::JavaScript),
        ] {
            let found = parsed(code, language);
            assert!(found.errors > 0 && found.errors <= found.nodes, "{language}: {code}: {found:?}");
        }
        for (code, language) in [
            ("int f() { return 1; }", Language::Java),
            ("public int F() { return 1; }", Language::CSharp),
            ("    def f(self):\n        return 1\n", Language::Python),
            ("int x = 1; g(x);", Language::Java),
            ("", Language::Java),
        ] {
            assert_eq!(parsed(code, language).errors, 0, "{language}: {code}");
        }
    }

    #[test]
    fn rows_are_tallied_by_language() {
        let mut all = Parsing::default();
        assert!(all.notes("here").is_empty());
        all.add(1, parsed("int x = 1;", Language::Java));
        all.add(4, Parsed { assumed: true, ..parsed("def f(:", Language::Java) });
        all.add(5, parsed("def f(:", Language::Python));
        assert_eq!((all.rows, all.unparsed, all.assumed), (3, 2, 1));
        assert_eq!(all.first_unparsed, Some(FirstRow { row: 4, language: "java".into() }));
        assert_eq!(all.by_language(), "java 2 (1 does not parse), python 1 (1 does not parse)");
        let notes = all.notes("set it");
        assert!(notes[0].starts_with("the code of 2 rows of 3 do not parse (first: row 4, as java; "), "{notes:?}");
        assert_eq!(notes[1], "1 row of 3 names no language and is read as java; name it: set it");
    }

    #[test]
    fn two_pieces_of_a_row_are_one() {
        let (java, sharp) = (parsed("int x = 1;", Language::Java), parsed("class {", Language::CSharp));
        let both = java.and(sharp);
        assert_eq!((both.language, both.errors), (Language::CSharp, sharp.errors));
        assert_eq!(both.nodes, java.nodes + sharp.nodes);
    }
}
