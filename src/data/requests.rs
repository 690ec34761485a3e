//! Rows as prompts to continue: what training puts before the first supervised token, with the target kept beside it.

use super::IGNORE;
use super::corpus::{self, DataSource, Reading};
use super::cut::Before;
use super::reader::{self, RowReader};
use super::row::Row;
use super::template::{self, Task};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// What a model is given to continue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Line in its file, from 0: what draws are keyed by.
    pub row: u32,
    /// Its tokens, at least one.
    pub ids: Vec<u32>,
    /// The supervised tokens of the row without their EOS.
    pub target: Vec<u32>,
    /// Their text, where there is a tokenizer.
    pub target_text: Option<String>,
    /// The source of the target as the row has it; none for rows of ids.
    pub source: Option<String>,
    /// The code before the target, where that was cut from the code of its row.
    pub before: Option<Before>,
    /// Which tokens of the whole row, prompt and target, are on its scan path; empty where paths are not read.
    pub path: Vec<bool>,
}

/// The rows of a source, in its order; forms and templates are those of training ([`corpus`]), and the target may be
/// left out. Everything before the first supervised token is the prompt, nothing is cut.
///
/// Errors name the first line that cannot be used, and the remedy.
pub fn read(source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, task: Task) -> Result<Vec<Prompt>> {
    read_as(source, tokenizer, vocab, &Reading { task, ..Reading::default() }, usize::MAX)
}

/// At most the first `most` rows of a source, read as `reading` says, but with no limit of length and no weights.
pub fn read_as(
    source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading, most: usize,
) -> Result<Vec<Prompt>> {
    let reading = Reading { max_length: usize::MAX, paths: None, prompt_weight: None, ..reading.clone() };
    let reader = RowReader { tokenizer, vocab, reading: &reading, keep_texts: true, open: true };
    let mut prompts = Vec::new();
    let mut keep = |prompt| {
        if prompts.len() < most {
            prompts.push(prompt);
        }
    };
    corpus::scan(source, &reader, |_, row| split(row, tokenizer), &mut keep)?;
    let mut list = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let prompt: Prompt = prompt?;
        if prompt.ids.is_empty() {
            let why = "there is nothing to continue: no token comes before the target; give a prompt, or drop the row";
            return Err(Error::row(source.file(), prompt.row as usize + 1, why));
        }
        list.push(prompt);
    }
    Ok(list)
}

/// A text as a prompt for a model of `vocab` ids. Errors with a sentence about the text.
pub fn text(text: &str, tokenizer: &Tokenizer, vocab: usize, task: Task) -> std::result::Result<Prompt, String> {
    let ids = tokenizer.encode_prompt(&template::render(task, text)).map_err(|e| e.to_string())?;
    if ids.is_empty() {
        return Err("the prompt is empty; give a text to continue".into());
    }
    reader::check_ids("id", &ids, vocab, Some(tokenizer))?;
    Ok(Prompt { ids, ..Prompt::default() })
}

pub(super) fn split(row: Row, tokenizer: Option<&Tokenizer>) -> Result<Prompt> {
    let Row { example, words, before, .. } = row;
    let source = words.as_ref().map(|words| words.source.clone());
    let first = example.labels.iter().position(|&label| label != IGNORE).unwrap_or(example.ids.len());
    let mut target: Vec<u32> = example.labels[first..].iter().copied().filter(|&label| label != IGNORE).collect();
    let end = target.pop_if(|last| tokenizer.is_some_and(|tokenizer| *last == tokenizer.eos()));
    let target_text = match (words, tokenizer) {
        (Some(mut words), _) => {
            // a chat template spells the end out
            let last = end.and_then(|_| example.labels.iter().rposition(|&label| label != IGNORE));
            let spelled = last.and_then(|last| words.places.get(last)).map_or(0, |place| place.len());
            words.target.truncate(words.target.len().saturating_sub(spelled));
            Some(words.target)
        }
        (None, Some(tokenizer)) => Some(tokenizer.decode_behind(&example.ids[..first], &target)?),
        (None, None) => None,
    };
    Ok(Prompt {
        row: example.row,
        ids: example.ids[..first].to_vec(),
        target,
        target_text,
        source,
        before,
        ..Prompt::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::chat::Chat;
    use super::super::cut::{Cutting, Fim, Unit};
    use super::super::samples::*;
    use super::*;
    use crate::salience::syntax::Language;
    use std::path::Path;

    fn read_rows(jsonl: &str, tokenizer: Option<&Tokenizer>, task: Task) -> std::result::Result<Vec<Prompt>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        std::fs::write(&file, jsonl).unwrap();
        let place = format!("{}/", dir.path().display());
        read(&DataSource::Jsonl(file), tokenizer, 512, task).map_err(|e| e.to_string().replace(&place, ""))
    }

    /// Ids and target of the one row.
    fn one(line: &str, task: Task) -> (Vec<u32>, Vec<u32>, String) {
        let mut rows = read_rows(line, Some(&with_bos()), task).unwrap();
        let row = rows.remove(0);
        (row.ids, row.target, row.target_text.unwrap())
    }

    #[test]
    fn a_prompt_is_what_training_puts_before_the_target() {
        let x = (vec![BOS, 97], vec![120], "x".to_string());
        let none = (vec![BOS, 97], vec![], String::new());
        for (line, expected) in [
            (r#"{"prompt": "a", "completion": "x"}"#, &x),
            (r#"{"code": "a", "content": "x"}"#, &x),
            (r#"{"segments": [{"text": "a", "train": false}, {"text": "x"}]}"#, &x),
            (r#"{"input_ids": [300, 97, 120, 301], "labels": [-100, -100, 120, 301]}"#, &x),
            // the form is that of training, not the first that an empty target would complete
            (r#"{"instruction": "i", "prompt": "a", "completion": "x"}"#, &x),
            (r#"{"instruction": "i", "code": "a", "content": "x"}"#, &x),
            (r#"{"prompt": "i", "code": "a", "content": "x"}"#, &x),
            (r#"{"prompt": "a"}"#, &none),
            (r#"{"prompt": "a", "completion": null}"#, &none),
            (r#"{"code": "a"}"#, &none),
            (r#"{"segments": [{"text": "a", "train": false}]}"#, &none),
            (r#"{"input_ids": [300, 97]}"#, &none),
            // the next turn is no part of the prompt, but of the target
            (
                concat!(
                    r#"{"segments": [{"text": "a", "train": false}, {"text": "x"}, "#,
                    r#"{"text": "a", "train": false}, {"text": "y"}]}"#
                ),
                &(vec![BOS, 97], vec![120, 121], "xy".to_string()),
            ),
        ] {
            assert_eq!(one(line, Task::None), *expected, "{line}");
        }
    }

    #[test]
    fn tasks_make_the_prompt() {
        let template = super::super::template::render(Task::Translation, "a");
        let (ids, target, text) = one(r#"{"code": "a"}"#, Task::Translation);
        assert_eq!(ids, with_bos().encode_prompt(&template).unwrap());
        assert_eq!((target, text), (vec![], String::new()));
        // completion cuts the code, copy asks for all of it
        let (ids, target, text) = one(r#"{"code": "a\nx"}"#, Task::Completion);
        let template = super::super::template::render(Task::Completion, "a");
        assert_eq!((ids, target, text.as_str()), (with_bos().encode_prompt(&template).unwrap(), vec![120], "x"));
        assert_eq!(one(r#"{"code": "x"}"#, Task::Copy).2, "x");
        assert_eq!(one(r#"{"prompt": "i", "code": "x"}"#, Task::Copy).2, "x");
    }

    #[test]
    fn code_is_cut_by_its_grammar() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        let code = "def f(a):\n    return a\nx = 1\n";
        let row = serde_json::json!({"code": code, "lang": "python"});
        std::fs::write(&file, format!("{row}\n{row}\n")).unwrap();
        let read = |task, unit, fim| {
            let cutting = Cutting { unit, fim, ..Cutting::default() };
            let reading = Reading { task, cutting, max_length: 1, ..Reading::default() };
            read_as(&DataSource::Jsonl(file.clone()), Some(&plain()), 512, &reading, 1)
        };
        let text = |task, fim| {
            let mut rows = read(task, Unit::Block, fim).unwrap();
            assert_eq!(rows.len(), 1);
            let row = rows.remove(0);
            let before = Before { text: "def f(a):\n".into(), language: Some(Language::Python) };
            assert_eq!((row.target_text.as_deref(), row.before.as_ref()), (Some("    return a"), Some(&before)));
            assert_eq!(before.first("    return b\nz = 2", Unit::Block), "    return b");
            plain().decode(&row.ids).unwrap()
        };
        assert_eq!(text(Task::None, None), "def f(a):\n");
        assert_eq!(text(Task::Completion, None), super::super::template::render(Task::Completion, "def f(a):\n"));
        let marks = Fim(["<p>", "<q>", "<m>"]);
        assert_eq!(text(Task::Completion, Some(marks)), "<p>def f(a):\n<q>\nx = 1\n<m>");
        assert!(read(Task::None, Unit::Half, None).unwrap()[0].before.is_none());
        std::fs::write(&file, serde_json::json!({ "code": code }).to_string()).unwrap();
        let why = read(Task::None, Unit::Line, None).unwrap_err().to_string();
        assert!(why.contains("the row names no language, which a cut by line requires; give `lang`, or"), "{why}");
    }

    #[test]
    fn the_target_of_a_conversation_is_its_answer() {
        let template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}</s>{% endfor %}\
                        {% if add_generation_prompt %}a{% endif %}";
        let chat = Chat::new(template, &[]).unwrap();
        let turns = r#"{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}"#;
        let rows = format!(r#"{{"messages": [{turns}, {turns}]}}"#);
        let rows = read_rows(&rows, Some(&plain().with_chat(chat)), Task::None).unwrap();
        assert_eq!((&rows[0].target[..], rows[0].target_text.as_deref()), (&[121][..], Some("y")));
    }

    #[test]
    fn rows_keep_their_lines_and_need_no_tokenizer_for_ids() {
        let rows =
            read_rows("\n{\"input_ids\": [5]}\n\n{\"input_ids\": [6, 7], \"labels\": [-100, 7]}", None, Task::None);
        let expected = |row, ids: &[u32], target: &[u32]| Prompt {
            row,
            ids: ids.to_vec(),
            target: target.to_vec(),
            ..Prompt::default()
        };
        assert_eq!(rows.unwrap(), [expected(1, &[5], &[]), expected(3, &[6], &[7])]);
    }

    #[test]
    fn rows_that_cannot_be_continued_are_named() {
        let why = |text: &str| read_rows(text, Some(&plain()), Task::None).unwrap_err();
        let nothing = "there is nothing to continue: no token comes before the target; give a prompt, or drop the row";
        assert_eq!(why("{\"prompt\": \"a\"}\n{\"prompt\": \"\"}"), format!("d.jsonl:2: {nothing}"));
        assert_eq!(why(r#"{"input_ids": [5], "labels": [5]}"#), format!("d.jsonl:1: {nothing}"));
        assert!(why("{\"text\": 1}").starts_with("d.jsonl:1: no text to train on"));
        assert!(why("{\"input_ids\": 1}").starts_with("d.jsonl:1: `input_ids` must be a list"));
        assert!(read(&DataSource::Jsonl(Path::new("nowhere").into()), None, 9, Task::None).is_err());
    }
}
