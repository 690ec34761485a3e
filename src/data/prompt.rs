//! Task templates: how `code` and `content` become a prompt and the completion to learn.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// What is asked of the model. Rows that bring their own `prompt` are not touched by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// No template: the prompt is the code as it stands.
    #[default]
    None,
    /// Continue a piece of code: its first half is given, its second half is the target.
    Completion,
    /// Java to C#.
    Translation,
    /// Java to English.
    Summarization,
    /// Repeat the code: what the published completion data amount to, since their target equals their input.
    Copy,
}

impl Task {
    pub(crate) const NAMES: &[(&'static str, Task)] = &[
        ("none", Task::None),
        ("completion", Task::Completion),
        ("translation", Task::Translation),
        ("summarization", Task::Summarization),
        ("copy", Task::Copy),
    ];

    fn instruction(self) -> &'static str {
        match self {
            Task::None => "",
            Task::Completion | Task::Copy => "Complete the following code snippet.",
            Task::Translation => "Translate the following Java code to C#.",
            Task::Summarization => "Summarize the following code.",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Task::NAMES.iter().find(|(_, task)| task == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Task, Error> {
        let unknown = || Error::Usage(format!("there is no task `{name}`; give one of {}", names(Task::NAMES)));
        Task::NAMES.iter().find(|(n, _)| *n == name).map(|&(_, task)| task).ok_or_else(unknown)
    }
}

/// The names of a table of choices, for an error message.
pub(crate) fn names<T>(table: &[(&str, T)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The prompt for `code`. [`Task::None`] gives the code itself.
pub fn render(task: Task, code: &str) -> String {
    match task {
        Task::None => code.to_string(),
        _ => format!("### Instruction:\n{}\n\n### Input Code:\n{code}\n\n### Output:\n", task.instruction()),
    }
}

/// A `code`/`content` row made into text.
#[derive(Debug, PartialEq)]
pub(crate) struct Pair {
    pub prompt: String,
    pub completion: String,
    /// Whether the completion was cut from the code.
    pub split: bool,
}

/// Applies a task to `code` and, where the row has it, `content`.
///
/// Completion cuts the code in two where there is no content, or where the content only repeats the code. The error
/// is a sentence about the row.
pub(crate) fn pair(task: Task, code: &str, content: Option<&str>) -> Result<Pair, String> {
    let completion = match (task, content) {
        (Task::Completion, content) if content.is_none_or(|c| c.trim() == code.trim()) => {
            let (prefix, suffix) = halves(code).ok_or(
                "`code` is a single word, which cannot be cut into a prefix and a suffix; give `content`, or drop the row",
            )?;
            return Ok(Pair { prompt: render(task, prefix), completion: suffix.to_string(), split: true });
        }
        (_, Some(content)) => content,
        (Task::Copy, None) => code,
        (_, None) => return Err(format!("`content` is missing; the task `{task}` needs it as the target for `code`")),
    };
    Ok(Pair { prompt: render(task, code), completion: completion.to_string(), split: false })
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
    fn names_go_both_ways() {
        for name in ["none", "completion", "translation", "summarization", "copy"] {
            assert_eq!(name.parse::<Task>().unwrap().to_string(), name);
        }
        assert_eq!(
            "translate".parse::<Task>().unwrap_err().to_string(),
            "there is no task `translate`; give one of none, completion, translation, summarization, copy"
        );
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
        let cut = Pair { prompt: render(Task::Completion, "a"), completion: "b".into(), split: true };
        assert_eq!(pair(Task::Completion, "a\nb\n", None).unwrap(), cut);
        assert_eq!(pair(Task::Completion, "a\nb\n", Some("a\nb")).unwrap(), cut);
        let given = pair(Task::Completion, "a", Some("b")).unwrap();
        assert_eq!(given, cut_free(Task::Completion, "a", "b"));
        assert_eq!(pair(Task::Copy, "a\nb", Some("a\nb")).unwrap(), cut_free(Task::Copy, "a\nb", "a\nb"));
        assert_eq!(pair(Task::Copy, "a", None).unwrap(), cut_free(Task::Copy, "a", "a"));
        assert_eq!(pair(Task::None, "a", Some("b")).unwrap().prompt, "a");
    }

    fn cut_free(task: Task, code: &str, content: &str) -> Pair {
        Pair { prompt: render(task, code), completion: content.into(), split: false }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
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
