//! Task templates: how `code` and `content` become a prompt and the completion to learn.

use crate::choices::choices;

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
    /// Whether the completion was cut from the code.
    pub split: bool,
    /// The byte of the code at which the completion begins, where it is a stretch of it.
    pub at: Option<usize>,
    /// Whether the completion goes on where the code ends.
    pub continues: bool,
}

/// Applies a task to `code` and, where the row has it, `content`.
///
/// Completion cuts the code in two where there is no content, or where the content only repeats the code. The error
/// is a sentence about the row.
pub(crate) fn pair(task: Task, code: &str, content: Option<&str>) -> Result<Pair, String> {
    let completion = match (task, content) {
        (Task::Completion, content) if content.is_none_or(|c| c.trim() == code.trim()) => {
            let (prefix, suffix) = halves(code).ok_or(
                "`code` is a single word, which cannot be cut into a prefix and a suffix; give `content`, or drop the \
                 row",
            )?;
            // the suffix is a slice of the code, so that the distance of their beginnings is its place
            let at = Some(suffix.as_ptr() as usize - code.as_ptr() as usize);
            let (prompt, completion) = (render(task, prefix), suffix.to_string());
            return Ok(Pair { prompt, completion, split: true, at, continues: false });
        }
        (_, Some(content)) => content,
        (Task::Copy, None) => code,
        (_, None) => return Err(format!("`content` is missing; the task `{task}` needs it as the target for `code`")),
    };
    let at = (task == Task::Copy && completion == code).then_some(0);
    let continues = matches!(task, Task::Completion | Task::None);
    Ok(Pair { prompt: render(task, code), completion: completion.to_string(), split: false, at, continues })
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
        let cut = pair(Task::Completion, "a\nb\n", None).unwrap();
        assert_eq!((cut.prompt.as_str(), cut.completion.as_str()), (render(Task::Completion, "a").as_str(), "b"));
        assert_eq!((cut.split, cut.at, cut.continues), (true, Some(2), false));
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
                Pair { prompt: render(task, code), completion: completion.into(), split: false, at, continues };
            assert_eq!(pair(task, code, content).unwrap(), expected);
        }
        assert_eq!(pair(Task::None, "a", Some("b")).unwrap().prompt, "a");
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
