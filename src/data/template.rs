//! Task templates: how `code` and `content` become a prompt and the completion to learn.

use super::cut::{self, Before, Cutting, Unit};
use crate::choices::choices;
use crate::salience::syntax::Language;

choices! {
    /// What is asked of the model. Rows that bring their own `prompt` are not touched by it.
    Task {
        /// No template: the prompt is the code as it stands.
        None = "none",
        /// Continue a piece of code: its first half is given, its second half is the target.
        Completion = "completion",
        /// Java to C#.
        Translation = "translation",
        /// Java to English.
        Summarization = "summarization",
        /// Repeat the code: what the published completion data amount to, since their target equals their input.
        Copy = "copy",
    }
}

impl Task {
    fn instruction(self) -> &'static str {
        match self {
            Task::None => "",
            Task::Completion | Task::Copy => "Complete the following code snippet.",
            Task::Translation => "Translate the following Java code to C#.",
            Task::Summarization => "Summarize the following code.",
        }
    }
}

/// The prompt for `code`. [`Task::None`] gives the code itself.
pub fn render(task: Task, code: &str) -> String {
    match task {
        Task::None => code.to_string(),
        _ => format!("### Instruction:\n{}\n\n### Input Code:\n{code}\n\n### Output:\n", task.instruction()),
    }
}

/// The byte of [`render`]'s prompt at which the code begins.
pub(crate) fn begin(task: Task) -> usize {
    match task {
        Task::None => 0,
        _ => render(task, "").len() - "\n\n### Output:\n".len(),
    }
}

/// The prompt of a row of the Alpaca data (Taori et al. 2023).
pub fn alpaca(instruction: &str, input: &str) -> String {
    const REQUEST: &str = "Write a response that appropriately completes the request.";
    let (given, input) = match input {
        "" => (".", String::new()),
        _ => (", paired with an input that provides further context.", format!("### Input:\n{input}\n\n")),
    };
    let begin = format!("Below is an instruction that describes a task{given} {REQUEST}\n\n");
    format!("{begin}### Instruction:\n{instruction}\n\n{input}### Response:\n")
}

/// A `code`/`content` row made into text.
#[derive(Debug, PartialEq)]
pub(crate) struct Pair {
    pub prompt: String,
    pub completion: String,
    /// The code before the completion, where that was cut from the code.
    pub before: Option<Before>,
    /// The byte of the code at which the completion begins, where it is a stretch of it.
    pub at: Option<usize>,
    /// Whether the completion goes on where the code ends.
    pub continues: bool,
}

/// Applies a task to `code` and, where the row has it, `content`.
///
/// Completion cuts the code where there is no content, or where the content only repeats the code; so does no task
/// where there is a unit to cut. `lang` is the language that the row names. The error is a sentence about the row.
pub(crate) fn pair(
    task: Task, code: &str, content: Option<&str>, cutting: &Cutting, lang: Option<Language>,
) -> Result<Pair, String> {
    let cuts = task == Task::Completion || task == Task::None && cutting.unit != Unit::Half;
    let completion = match (task, content) {
        (_, content) if cuts && content.is_none_or(|c| c.trim() == code.trim()) => {
            return cut(task, code, cutting, lang);
        }
        (_, Some(content)) => content,
        (Task::Copy, None) => code,
        (_, None) => return Err(format!("`content` is missing; the task `{task}` needs it as the target for `code`")),
    };
    let at = (task == Task::Copy && completion == code).then_some(0);
    let continues = matches!(task, Task::Completion | Task::None);
    Ok(Pair { prompt: render(task, code), completion: completion.to_string(), before: None, at, continues })
}

/// The pair of a code that brings no target of its own.
fn cut(task: Task, code: &str, cutting: &Cutting, lang: Option<Language>) -> Result<Pair, String> {
    let (before, target, behind, language) = match cutting.unit {
        Unit::Half => {
            let (prefix, suffix) = halves(code).ok_or(
                "`code` is a single word, which cannot be cut into a prefix and a suffix; give `content`, or drop the \
                 row",
            )?;
            (prefix, suffix, "", None)
        }
        unit => {
            let language = cutting.language.or(lang).ok_or_else(|| {
                format!(
                    "the row names no language, which a cut by {unit} requires; give `lang`, or set --lang or \
                         salience.source_lang"
                )
            })?;
            let place = cut::place(code, language, unit, cutting.seed)?;
            (&code[..place.start], &code[place.clone()], &code[place.end..], Some(language))
        }
    };
    // the target is a slice of the code, so that the distance of their beginnings is its place
    let at = Some(target.as_ptr() as usize - code.as_ptr() as usize);
    let prompt = match &cutting.fim {
        Some(fim) => fim.prompt(before, behind),
        None => render(task, before),
    };
    let before = Some(Before { text: before.to_string(), language });
    Ok(Pair { prompt, completion: target.to_string(), before, at, continues: false })
}

/// Cuts code after half of its lines; a single line after half of its words. Blank lines around the code and the
/// break at the cut belong to neither half, indentation stays.
fn halves(code: &str) -> Option<(&str, &str)> {
    let code = code.trim_end();
    let blank = code.len() - code.trim_start().len();
    let indented = code.get(..blank)?.rfind('\n').map_or(0, |at| at + 1);
    let code = code.get(indented..)?;
    let breaks: Vec<usize> = code.match_indices('\n').map(|(at, _)| at).collect();
    let lines = breaks.len() + 1;
    if let Some(&at) = (lines / 2).checked_sub(1).and_then(|last| breaks.get(last)) {
        let prefix = code.get(..at)?;
        return Some((prefix.strip_suffix('\r').unwrap_or(prefix), code.get(at + 1..)?));
    }
    let mut words = Vec::new();
    let mut blank = true;
    for (at, c) in code.char_indices() {
        if blank && !c.is_whitespace() {
            words.push(at);
        }
        blank = c.is_whitespace();
    }
    let &at = words.get(words.len() / 2).filter(|_| words.len() > 1)?;
    Some((code.get(..at)?.trim_end(), code.get(at..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_those_of_the_method() {
        assert_eq!(
            render(Task::Translation, "int x;"),
            "### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\nint x;\n\n### Output:\n"
        );
        assert_eq!(
            render(Task::Summarization, "a"),
            "### Instruction:\nSummarize the following code.\n\n### Input Code:\na\n\n### Output:\n"
        );
        let completion =
            "### Instruction:\nComplete the following code snippet.\n\n### Input Code:\na\n\n### Output:\n";
        assert_eq!(render(Task::Completion, "a"), completion);
        assert_eq!(render(Task::Copy, "a"), completion);
        assert_eq!(render(Task::None, "int x;"), "int x;");
    }

    #[test]
    fn code_is_cut_after_half_of_its_lines() {
        for (code, prefix, suffix) in [
            ("a\nb", "a", "b"),
            ("a\nb\nc", "a", "b\nc"),
            ("a\n  b\n  c\nd", "a\n  b", "  c\nd"),
            ("a\r\nb\r\n", "a", "b"),
            ("\n\n  a\nb\n\n", "  a", "b"),
            ("a\n\n\n\nb\n", "a\n", "\n\nb"),
        ] {
            assert_eq!(halves(code), Some((prefix, suffix)), "{code:?}");
        }
    }

    #[test]
    fn a_single_line_is_cut_after_half_of_its_words() {
        assert_eq!(halves("return a + b;"), Some(("return a", "+ b;")));
        assert_eq!(halves("a b  c"), Some(("a", "b  c")));
        assert_eq!(halves("é 漢"), Some(("é", "漢")));
        assert_eq!(halves("word"), None);
        assert_eq!(halves(" \n "), None);
    }

    #[test]
    fn completion_never_copies() {
        let pair = |task, code, content| pair(task, code, content, &Cutting::default(), None);
        let cut = pair(Task::Completion, "a\nb\n", None).unwrap();
        assert_eq!((cut.prompt.as_str(), cut.completion.as_str()), (render(Task::Completion, "a").as_str(), "b"));
        let before = Before { text: "a".into(), language: None };
        assert_eq!((&cut.before, cut.at, cut.continues), (&Some(before), Some(2), false));
        assert_eq!(pair(Task::Completion, "a\nb\n", Some("a\nb")).unwrap(), cut);
        for (task, code, content, completion, at, continues) in [
            (Task::Completion, "a", Some("b"), "b", None, true),
            (Task::Copy, "a\nb", Some("a\nb"), "a\nb", Some(0), false),
            (Task::Copy, "a", None, "a", Some(0), false),
            (Task::Copy, "a", Some("b"), "b", None, false),
            (Task::None, "a", Some("b"), "b", None, true),
            (Task::Translation, "a", Some("a"), "a", None, false),
        ] {
            let expected =
                Pair { prompt: render(task, code), completion: completion.into(), before: None, at, continues };
            assert_eq!(pair(task, code, content).unwrap(), expected);
        }
        assert_eq!(pair(Task::None, "a", Some("b")).unwrap().prompt, "a");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let pair = |task, code, content| pair(task, code, content, &Cutting::default(), None);
        assert_eq!(
            pair(Task::Completion, "word", None).unwrap_err(),
            "`code` is a single word, which cannot be cut into a prefix and a suffix; give `content`, or drop the row"
        );
        assert_eq!(
            pair(Task::Translation, "a", None).unwrap_err(),
            "`content` is missing; the task `translation` needs it as the target for `code`"
        );
    }
}
