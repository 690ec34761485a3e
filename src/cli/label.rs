//! `eyekern label`: prints the semantic label of every token of code files or rows.

use super::terminal::Terminal;
use crate::data::json;
use crate::data::lines::Lines;
use crate::error::{Error, Result};
use crate::files;
use crate::salience::labels::{self, Calls, compat};
use crate::salience::syntax::{self, Language, Parsed, Parsing};
use crate::salience::{Label, Span};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern label src/Account.java
  eyekern label --jsonl rows.jsonl --field code --lang c-sharp

Each row of --format jsonl has the keys tokens, labels (1 to 20, 0 for none), label_names, starts and ends (byte
offsets) and lines (from 0).";

/// Arguments of `eyekern label`.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// Source files.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Rows of code: one JSON object per line.
    #[arg(long, value_name = "ROWS.jsonl")]
    pub jsonl: Option<PathBuf>,
    /// Key of the code in a row.
    #[arg(long, value_name = "KEY", default_value = "code")]
    pub field: String,
    /// Language: auto, java, c-sharp, python, javascript, typescript, go, c, cpp or rust. auto uses the extension of a
    /// file and the key `lang` of a row (Java without one).
    #[arg(long, value_name = "LANGUAGE", default_value = "auto")]
    pub lang: String,
    /// Output format; by default text for files and jsonl for rows.
    #[arg(long, value_enum)]
    pub format: Option<LabelFormat>,
    /// How to recognise the names of called functions.
    #[arg(long, value_enum, default_value_t = CallRule::Syntax)]
    pub calls: CallRule,
    /// List tokens in the form of published examples.
    #[arg(long, value_enum)]
    pub compat: Option<Compat>,
}

/// The output format of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelFormat {
    /// One token per line: position, label, text.
    Text,
    /// One JSON object per file or row.
    Jsonl,
}

/// Published forms of a listing of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// The order, spelling and line numbers of the published EyeMulator examples.
    Artifact,
}

/// How to recognise the names of called functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CallRule {
    /// By a list of prefixes fitted to the published labels.
    Lexicon,
    /// By the syntax tree.
    Syntax,
}

/// One token, ready to print.
struct Token {
    text: String,
    label: Option<Label>,
    start: usize,
    end: usize,
    line: u32,
}

/// Labels files and rows.
pub fn run(args: &LabelArgs, out: &mut Terminal) -> Result {
    if args.files.is_empty() && args.jsonl.is_none() {
        return Err(Error::Usage("nothing to label: give a file, or rows with --jsonl ROWS.jsonl".into()));
    }
    let named = match args.lang.as_str() {
        "auto" => None,
        name => Some(name.parse::<Language>()?),
    };
    for file in &args.files {
        let code = files::read(file).map_err(Error::io(file, "read"))?;
        let language = named.map_or_else(|| Language::from_path(file), Ok)?;
        if code.starts_with(b"\xff\xfe") || code.starts_with(b"\xfe\xff") {
            return Err(Error::file(file, "this is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"));
        }
        if code.contains(&0) {
            out.note(&format!("{}: contains zero bytes; is it a binary file?", file.display()));
        }
        let (tokens, parsed) = tokens(&code, language, args).map_err(|e| Error::file(file, e.to_string()))?;
        if parsed.errors > 0 {
            let (file, errors, nodes) = (file.display(), parsed.errors, parsed.nodes);
            let share = format!("{errors} of {nodes} syntax nodes are errors");
            out.note(&format!("note: {file}: does not parse as {language} ({share}); is --lang right?"));
        }
        if tokens.is_empty() {
            out.note(&format!("{}: contains no {language} token to label; is the file empty?", file.display()));
        }
        match args.format.unwrap_or(LabelFormat::Text) {
            LabelFormat::Text => text(&tokens, out),
            LabelFormat::Jsonl => out.line(&object(Some(file), &tokens).to_string()),
        }
    }
    match &args.jsonl {
        Some(rows) => label_rows(rows, named, args, out),
        None => Ok(()),
    }
}

/// Labels every row of a JSONL file. The language is `--lang`, else the row's `lang`, else Java, which a note reports.
fn label_rows(rows: &Path, named: Option<Language>, args: &LabelArgs, out: &mut Terminal) -> Result {
    let mut parsing = Parsing::default();
    for raw in Lines::open(rows)?.jsonl() {
        let raw = raw?;
        let fail = |why: String| Error::row(rows, raw.number, why);
        let row = json::object(raw.text(rows)?).map_err(fail)?;
        let Some(code) = row.get(&args.field).and_then(Value::as_str) else {
            return Err(fail(format!("this row has no text `{}`; name the key of the code with --field", args.field)));
        };
        let own = match row.get("lang") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.parse::<Language>().map_err(|e| fail(e.to_string()))?),
            Some(other) => return Err(fail(format!("`lang` is {other}, not the name of a language"))),
        };
        let language = named.or(own);
        let assumed = language.is_none();
        let language = language.unwrap_or(Language::Java);
        let (tokens, parsed) = tokens(code.as_bytes(), language, args).map_err(|e| fail(e.to_string()))?;
        parsing.add(raw.number, Parsed { assumed, ..parsed });
        if tokens.is_empty() {
            out.note(&fail(format!("`{}` contains no {language} token to label", args.field)).to_string());
        }
        match args.format.unwrap_or(LabelFormat::Jsonl) {
            LabelFormat::Text => text(&tokens, out),
            LabelFormat::Jsonl => out.line(&object(None, &tokens).to_string()),
        }
    }
    for note in parsing.notes("`lang` in the rows, or --lang") {
        out.note(&format!("note: {}: {note}", rows.display()));
    }
    Ok(())
}

/// The tokens of a piece of code, and how it parsed.
fn tokens(code: &[u8], language: Language, args: &LabelArgs) -> Result<(Vec<Token>, Parsed)> {
    let calls = match args.calls {
        CallRule::Lexicon => Calls::Lexicon,
        CallRule::Syntax => Calls::Syntax,
    };
    let syntax = syntax::parse(code, language)?;
    let parsed = Parsed::of(&syntax, false);
    if args.compat.is_some() {
        let list = compat::artifact_tree(code, &syntax, calls)?.into_iter();
        let token =
            |t: compat::ArtifactToken| Token { text: t.text, label: t.label, start: t.start, end: t.end, line: t.line };
        return Ok((list.map(token).collect(), parsed));
    }
    let token = |s: Span| Token {
        text: String::from_utf8_lossy(&code[s.start..s.end]).into_owned(),
        label: s.label,
        start: s.start,
        end: s.end,
        line: s.line,
    };
    Ok((labels::label_tree(code, &syntax, calls).into_iter().map(token).collect(), parsed))
}

fn name(label: Option<Label>) -> &'static str {
    label.map_or("none", Label::name)
}

fn text(tokens: &[Token], out: &mut Terminal) {
    for t in tokens {
        let shown = t.text.escape_debug();
        out.line(&format!("{:>5} {:>7}..{:<7} {:40} {shown}", t.line + 1, t.start, t.end, name(t.label)));
    }
}

fn object(file: Option<&Path>, tokens: &[Token]) -> Value {
    let mut object = json!({
        "tokens": tokens.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(),
        "labels": tokens.iter().map(|t| t.label.map_or(0, Label::id)).collect::<Vec<_>>(),
        "label_names": tokens.iter().map(|t| name(t.label)).collect::<Vec<_>>(),
        "starts": tokens.iter().map(|t| t.start).collect::<Vec<_>>(),
        "ends": tokens.iter().map(|t| t.end).collect::<Vec<_>>(),
        "lines": tokens.iter().map(|t| t.line).collect::<Vec<_>>(),
    });
    if let (Some(file), Some(map)) = (file, object.as_object_mut()) {
        map.insert("file".into(), file.to_string_lossy().into());
    }
    object
}
