//! Weights drawn from scan paths: which code of a row is looked at, and what each subword takes from its tokens.
//!
//! In two steps, because only the second depends on priors, settings, seed and epoch. A [`Look`] is a matter of the
//! row's texts alone: it is prepared once and cached. A [`Drawing`] makes weights of it, in microseconds per row.

use std::borrow::Cow;

use super::given::covering;
use crate::data::Example;
use crate::data::tokenizer::Piece;
use crate::salience::Span;
use crate::salience::align::{self, Align, Salience, Side};
use crate::salience::artifact::{self, Recorded};
use crate::salience::labels::{self, Calls};
use crate::salience::scanpath::{Key, ScanPath};
use crate::salience::syntax::{self, Language, Parsed};
use crate::salience::weights::{Parts, Weight};

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// A programming language: its tokens are those of its syntax.
    Code(Language),
    /// A natural language: its tokens are its words.
    Words,
}

/// How rows are read for weights of scan paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathReading {
    /// How weights cross from the code to the target.
    pub align: Align,
    /// How the names of called functions are told from other words.
    pub calls: Calls,
    /// What code is written in; `None`: in the language that the row's `lang` names, else in Java.
    pub source: Option<Language>,
    /// What targets are written in; `None`: in the same as the code.
    pub target: Option<Writing>,
    /// Whether the columns of the published data are read, where a row has them.
    pub recorded: bool,
}

/// The texts of a row that weights are drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    /// The code that is looked at.
    pub code: &'a str,
    /// What is learned.
    pub target: &'a str,
    /// The byte of the code at which the target begins, where the target is a stretch of it.
    pub at: Option<usize>,
    /// Whether the target goes on where the code ends.
    pub continues: bool,
    /// What the row says the code is written in.
    pub lang: Option<Language>,
}

/// What a subword takes its weight and role from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighs {
    /// Nothing that is looked at: BOS, prompt, EOS keep the weight they were given.
    Given,
    /// No token stands behind it: blanks, punctuation, words that the code lacks.
    Rest,
    /// The code as a whole ([`Align::broadcasts`]).
    Whole,
    /// This token of [`Look::spans`].
    Like(u32),
}

impl Weighs {
    /// As one number: a token of the look, or one of the last three.
    pub(crate) fn code(self) -> u32 {
        match self {
            Weighs::Given => u32::MAX,
            Weighs::Rest => u32::MAX - 1,
            Weighs::Whole => u32::MAX - 2,
            Weighs::Like(place) => place,
        }
    }

    /// The reverse of [`Weighs::code`].
    pub(crate) fn of_code(code: u32) -> Weighs {
        let known = [Weighs::Given, Weighs::Rest, Weighs::Whole];
        known.into_iter().find(|by| by.code() == code).unwrap_or(Weighs::Like(code))
    }
}

/// What is looked at for the weights of one example, whatever the path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The tokens that a path is drawn through: those of the code or of the target ([`Align::on_target`]).
    pub spans: Vec<Span>,
    /// For each token of the example.
    pub by: Vec<Weighs>,
    /// What the published data record of each token of the code, where it is asked for and the row has it.
    pub recorded: Option<Vec<Recorded>>,
}

impl PathReading {
    /// The text that paths are drawn through, and in which byte of it the target begins (for [`Align::Identity`]).
    pub(crate) fn looked_at<'a>(&self, texts: Texts<'a>) -> (Cow<'a, str>, Option<usize>) {
        match self.align {
            Align::TargetAst => (texts.target.into(), None),
            Align::Identity if texts.continues => {
                (format!("{}{}", texts.code, texts.target).into(), Some(texts.code.len()))
            }
            _ => (texts.code.into(), texts.at),
        }
    }

    /// The tokens that paths are drawn through, and what each of `pieces`, the subwords of the target, takes from
    /// them; and how the code parsed. The error is a sentence about the row.
    pub(crate) fn look(&self, texts: Texts, pieces: &[Piece]) -> Result<(Look, Option<Parsed>), String> {
        let named = self.source.or(texts.lang);
        let code = Writing::Code(named.unwrap_or(Language::Java));
        let target = self.target.unwrap_or(code);
        let (text, at) = self.looked_at(texts);
        let assumed = named.is_none() && (!self.align.on_target() || self.target.is_none());
        let (spans, parsed) = self.spans(&text, if self.align.on_target() { target } else { code }, assumed)?;
        let (other, beside) = match self.align {
            Align::Lexical => self.spans(texts.target, target, assumed)?,
            _ => (Vec::new(), None),
        };
        let parsed = parsed.map_or(beside, |parsed| Some(beside.map_or(parsed, |other| parsed.and(other))));
        let source = Side { text: text.as_bytes(), spans: &spans };
        let written = if self.align.on_target() { &spans } else { &other };
        let stretches = self.align.stretches(source, Side { text: texts.target.as_bytes(), spans: written }, at)?;
        let weighs = |piece: &Piece| {
            let blank = texts.target.get(piece.start..piece.end).is_some_and(|text| text.trim().is_empty());
            match covering(&stretches, |(range, _)| range, piece) {
                _ if self.align.broadcasts() => Weighs::Whole,
                Some((_, Some(place))) if !blank => Weighs::Like(*place as u32),
                _ => Weighs::Rest,
            }
        };
        let by = pieces.iter().map(weighs).collect();
        Ok((Look { spans, by, recorded: None }, parsed))
    }

    /// The tokens of a text, and how it parsed if it is code. `assumed`: nothing named its language.
    pub(crate) fn spans(
        &self, text: &str, writing: Writing, assumed: bool,
    ) -> Result<(Vec<Span>, Option<Parsed>), String> {
        let text = text.as_bytes();
        match writing {
            Writing::Code(language) => {
                let syntax = syntax::parse(text, language).map_err(|e| e.to_string())?;
                let spans = labels::label_tree(text, &syntax, self.calls);
                Ok((spans, Some(Parsed::of(&syntax, assumed))))
            }
            Writing::Words => Ok((align::words(text), None)),
        }
    }

    /// What EOS takes: it weighs 1 and is off the path, so that a model learns to stop whatever is looked at, except
    /// where one weight goes to the whole target.
    pub(crate) fn end(&self) -> Weighs {
        if self.align.broadcasts() { Weighs::Whole } else { Weighs::Given }
    }
}

/// The weights of one example.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The path.
    pub path: ScanPath,
    /// The weight of each token of [`Look::spans`].
    pub tokens: Vec<Weight>,
    /// What subwords without a token weigh.
    pub rest: Weight,
    /// What a whole target weighs.
    pub whole: Weight,
}

impl Drawn {
    /// The weight of a subword; `None` where it keeps its own.
    pub fn weight(&self, by: Weighs) -> Option<&Weight> {
        match by {
            Weighs::Given => None,
            Weighs::Rest => Some(&self.rest),
            Weighs::Whole => Some(&self.whole),
            Weighs::Like(place) => Some(self.tokens.get(place as usize).unwrap_or(&self.rest)),
        }
    }
}

/// From looks to weights.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Priors and settings.
    pub salience: Salience,
    /// Of the run; paths depend on it, the row and, where they are dynamic, the epoch.
    pub seed: u64,
    /// The published code's scalar takes the place of the weight of a whole target.
    pub artifact: bool,
}

impl Drawing {
    /// Path and weights of the row `row`, counted from 0.
    pub fn of(&self, look: &Look, row: u32, epoch: u32) -> Drawn {
        let key = Key { seed: self.seed, example: row.into(), epoch };
        let (path, tokens) = self.salience.of(&look.spans, key);
        let whole = match self.artifact {
            true => self.scalar(look, &path),
            false => self.salience.whole(&tokens),
        };
        Drawn { path, rest: self.salience.weights.rest(), whole, tokens }
    }

    /// The scalar that the published code gives a row: from the columns of the row, else from its path.
    fn scalar(&self, look: &Look, path: &ScanPath) -> Weight {
        let priors = &self.salience.priors;
        let base = match &look.recorded {
            Some(recorded) => artifact::scalar(recorded.iter().copied(), priors),
            None => artifact::scalar(artifact::written(&look.spans, path, priors), priors),
        };
        Weight { parts: Parts { base, ..Parts::default() }, on_path: true, segment: None }
    }

    /// Writes the weights and roles of an epoch into an example.
    pub fn apply(&self, example: &mut Example, look: &Look, epoch: u32) {
        let drawn = self.of(look, example.row, epoch);
        let prompt = example.prompt as usize;
        let tokens = example.weights.iter_mut().zip(&mut example.path).zip(&look.by).skip(prompt);
        for ((weight, on_path), &by) in tokens {
            // an arm may have moved what an earlier epoch gave
            (*weight, *on_path) = drawn.weight(by).map_or((1.0, false), |taken| (taken.value() as f32, taken.on_path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::reader::RowReader;
    use crate::data::row::Row;
    use crate::data::samples::*;
    use crate::data::source::Reading;
    use crate::data::template::Task;
    use crate::data::tokenizer::Tokenizer;
    use crate::salience::Label;
    use crate::salience::priors::Priors;
    use crate::salience::weights::{OffPath, Scope, WeightSettings};

    fn paths(align: Align) -> PathReading {
        PathReading { align, calls: Calls::Syntax, source: None, target: None, recorded: false }
    }

    fn row(tokenizer: &Tokenizer, paths: PathReading, task: Task, line: &str) -> Result<Row, String> {
        let reading = Reading { task, max_length: 500, paths: Some(paths), ..Reading::default() };
        RowReader { tokenizer: Some(tokenizer), vocab: 512, reading: &reading, keep_texts: false, open: false }
            .json(line)
    }

    /// Each subword of the target with the token that it takes its weight from.
    fn shown(tokenizer: &Tokenizer, row: &Row, looked_at: &str) -> Vec<(String, String)> {
        let look = row.look.as_ref().unwrap();
        assert_eq!(look.by.len(), row.example.ids.len());
        let by = |by: &Weighs| match by {
            Weighs::Given => "given".to_string(),
            Weighs::Rest => "rest".into(),
            Weighs::Whole => "whole".into(),
            Weighs::Like(place) => {
                let span = look.spans[*place as usize];
                looked_at[span.start..span.end].to_string()
            }
        };
        row.example
            .ids
            .iter()
            .zip(&row.example.labels)
            .zip(&look.by)
            .filter(|((_, label), _)| **label != crate::data::IGNORE)
            .map(|((&id, _), b)| (tokenizer.token_text(id), by(b)))
            .collect()
    }

    fn pairs<'a>(list: &[(&'a str, &'a str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    /// The leading space of a subword belongs to its word, in byte-level and in SentencePiece-style vocabularies.
    #[test]
    fn subwords_take_the_token_that_covers_most_of_them() {
        let target = "int x=int;";
        let line = serde_json::json!({"code": "int y;", "content": target}).to_string();
        let read = |tokenizer: &Tokenizer| row(tokenizer, paths(Align::TargetAst), Task::Translation, &line).unwrap();
        let tokenizer = plain();
        let expected =
            [("int", "int"), (" ", "rest"), ("x", "x"), ("=", "="), ("int", "int"), (";", "rest"), ("</s>", "given")];
        assert_eq!(shown(&tokenizer, &read(&tokenizer), target), pairs(&expected));

        let target = "x = x";
        let line = serde_json::json!({"code": "x", "content": target}).to_string();
        let row = row(&metaspace(), paths(Align::TargetAst), Task::Translation, &line).unwrap();
        // "x" behind the prompt, "▁x" behind a space, the mark of a space alone
        let by: Vec<_> = shown(&metaspace(), &row, target);
        assert_eq!(by, pairs(&[("x", "x"), (" ", "rest"), ("=", "="), (" x", "x"), ("</s>", "given")]));
    }

    #[test]
    fn blanks_inside_a_token_are_off_the_path() {
        let target = "// x  x";
        let line = serde_json::json!({"code": "x", "content": target}).to_string();
        let row = row(&plain(), paths(Align::TargetAst), Task::Translation, &line).unwrap();
        let by = shown(&plain(), &row, target);
        assert_eq!(by[0], ("/".into(), target.into()));
        assert!(by.iter().filter(|(text, _)| text.trim().is_empty()).all(|(_, by)| by == "rest"), "{by:?}");
    }

    #[test]
    fn every_alignment_looks_where_it_should() {
        let code = "int f() {\n  return a;\n}";
        let by = |align, task, line: &str, looked_at: &str| {
            shown(&plain(), &row(&plain(), paths(align), task, line).unwrap(), looked_at)
        };
        let copy = serde_json::json!({"code": code}).to_string();
        let words = |list: Vec<(String, String)>| -> String {
            list.into_iter().filter(|(_, by)| by != "rest" && by != "given").map(|(text, _)| text).collect()
        };
        // identity: the second half of the code, with the tokens of the whole
        let half = by(Align::Identity, Task::Completion, &copy, code);
        assert_eq!(words(half.clone()), "returna");
        assert!(half.iter().all(|(text, by)| by == "rest" || by == "given" || by.contains(text.trim())));
        assert_eq!(words(by(Align::Identity, Task::Copy, &copy, code)), "intfreturna");
        // where the target goes on from the code, both are one text
        let goes_on = serde_json::json!({"prompt": "int f() {\n", "completion": "  return a;\n}"}).to_string();
        assert_eq!(words(by(Align::Identity, Task::None, &goes_on, code)), "returna");
        let other = serde_json::json!({"code": code, "content": "the a of return"}).to_string();
        let error = row(&plain(), paths(Align::Identity), Task::Translation, &other).unwrap_err();
        assert!(error.starts_with("the target is no part of the source"), "{error}");
        // lexical: the same words, here those of a natural language
        let text = PathReading { target: Some(Writing::Words), ..paths(Align::Lexical) };
        let summary = row(&plain(), text, Task::Summarization, &other).unwrap();
        assert_eq!(words(shown(&plain(), &summary, code)), "areturn");
        for align in [Align::BroadcastMean, Align::BroadcastMax] {
            assert!(by(align, Task::Translation, &other, code).iter().all(|(_, by)| by == "whole"), "EOS too");
        }
    }

    #[test]
    fn languages_come_from_the_recipe_then_the_row_then_java() {
        let labels = |paths, line: &str| -> Vec<Label> {
            let row = row(&plain(), paths, Task::Copy, line).unwrap();
            row.look.unwrap().spans.iter().filter_map(|span| span.label).collect()
        };
        // `#` begins a comment in Python only, `def` a function
        let python = r##"{"code": "def f(a):\n    return a # b", "lang": "python"}"##;
        let here = labels(paths(Align::Identity), python);
        assert!(here.contains(&Label::Comment) && here.contains(&Label::FunctionDeclaration), "{here:?}");
        let java = PathReading { source: Some(Language::Java), ..paths(Align::Identity) };
        assert!(!labels(java, python).contains(&Label::Comment));
        assert!(!labels(paths(Align::Identity), &python.replace("lang", "language")).contains(&Label::Comment));
        let error = row(&plain(), java, Task::Copy, r#"{"code": "a", "lang": "cobol"}"#).unwrap_err();
        assert!(error.starts_with("`lang`: unknown language \"cobol\": one of java, c-sharp,"), "{error}");
    }

    #[test]
    fn rows_with_weights_of_their_own_are_refused() {
        for (line, why) in [
            (
                r#"{"code": "a", "content": "b", "weights": [[0, 1, 2]]}"#,
                "the row has `weights` of its own, and the recipe draws weights from scan paths; drop `weights`, or \
                 unset salience.condition",
            ),
            (
                r#"{"code": "a", "content": "b", "path": [[0, 1]]}"#,
                "the row has `path` of its own, and the recipe draws weights from scan paths; drop `path`, or unset \
                 salience.condition",
            ),
            (
                r#"{"code": "a", "content": "b", "weight": 2}"#,
                "the row has `weight` of its own, and the recipe draws weights from scan paths; drop `weight`, or \
                 unset salience.condition",
            ),
            (
                r#"{"segments": [{"text": "a"}]}"#,
                "rows of `segments` carry weights of their own, and the recipe draws them from scan paths; give `code` \
                 and `content`, or unset salience.condition",
            ),
            (
                r#"{"input_ids": [1, 2]}"#,
                "rows of `input_ids` carry weights of their own, and the recipe draws them from scan paths; give \
                 `code` and `content`, or unset salience.condition",
            ),
        ] {
            assert_eq!(row(&plain(), paths(Align::TargetAst), Task::None, line).unwrap_err(), why);
        }
    }

    fn drawing(align: Align, weights: WeightSettings) -> Drawing {
        let priors = Priors::builtin("combined").unwrap();
        Drawing {
            salience: Salience { priors, path: Default::default(), weights, align, weighing: None },
            seed: 7,
            artifact: false,
        }
    }

    /// The weights of subwords are those of the tokens behind them; the prompt and EOS keep theirs.
    #[test]
    fn weights_and_roles_reach_the_example() {
        let code = "public int size() { if (n == 0) { return 0; } return n; }";
        let line = serde_json::json!({"code": code, "content": code}).to_string();
        let paths = paths(Align::TargetAst);
        let reading = Reading {
            task: Task::Translation,
            max_length: 500,
            prompt_weight: Some(0.25),
            paths: Some(paths),
            ..Reading::default()
        };
        let row =
            RowReader { tokenizer: Some(&plain()), vocab: 512, reading: &reading, keep_texts: false, open: false }
                .json(&line)
                .unwrap();
        let (plain_example, look) = (row.example, row.look.unwrap());
        let settings = WeightSettings { w_base: 2.0, off_path: OffPath::Number(0.5), ..WeightSettings::default() };
        let drawing = drawing(Align::TargetAst, settings);
        let mut example = plain_example.clone();
        drawing.apply(&mut example, &look, 0);
        let (_, expected) = drawing.salience.of(&look.spans, Key { seed: 7, example: 0, epoch: 0 });
        assert!(expected.iter().any(|w| w.on_path) && expected.iter().any(|w| !w.on_path));
        for (t, &by) in look.by.iter().enumerate() {
            let (weight, on_path) = match by {
                Weighs::Given => (plain_example.weights[t], false),
                Weighs::Like(place) => (expected[place as usize].value() as f32, expected[place as usize].on_path),
                _ => (0.5, false),
            };
            assert_eq!((example.weights[t], example.path[t]), (weight, on_path), "{t}");
        }
        assert_eq!((example.weights[0], example.weights.last()), (0.25, Some(&1.0)));

        // only the path: everything else of the target weighs 0, but EOS
        let only = WeightSettings { scope: Scope::Path, ..settings };
        let mut path_only = plain_example.clone();
        self::drawing(Align::TargetAst, only).apply(&mut path_only, &look, 0);
        for t in 0..path_only.ids.len() {
            let zero = !path_only.path[t] && look.by[t] != Weighs::Given;
            assert_eq!(path_only.weights[t] == 0.0, zero, "{t}");
        }
        assert_eq!(path_only.path, example.path);
        assert_eq!(path_only.weights.last(), Some(&1.0));

        // one weight for all of it, EOS too
        let mut whole = plain_example.clone();
        let broadcast = Look { by: vec![Weighs::Whole; look.by.len()], ..look.clone() };
        self::drawing(Align::BroadcastMax, settings).apply(&mut whole, &broadcast, 0);
        let most = expected.iter().map(|w| w.value() as f32).fold(0.0, f32::max);
        let answer = whole.prompt as usize;
        assert!(answer > 0 && whole.weights[answer..].iter().all(|&w| w == most));
        assert!(whole.path[answer..].iter().all(|&on| on));

        // another epoch only matters where paths are dynamic
        let mut later = plain_example.clone();
        drawing.apply(&mut later, &look, 3);
        assert_eq!(later, example);
        let mut dynamic = drawing;
        dynamic.salience.path.dynamic = true;
        dynamic.apply(&mut later, &look, 0);
        assert_eq!(later, example);
        let paths = (1..9).filter(|&epoch| {
            dynamic.apply(&mut later, &look, epoch);
            later.path != example.path
        });
        assert!(paths.count() > 4);
    }
}
