//! Chat templates: how a conversation becomes text, and which stretch of the text is which message.
//!
//! A template is the model's own, in Jinja, from `chat_template.jinja` or the key `chat_template` of
//! tokenizer_config.json. It is rendered as transformers does: blocks are trimmed, `tojson` writes Python's spacing,
//! `raise_exception` refuses. `strftime_now` is left undefined, so that a template that can do without the date of
//! today gives the same text every day.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error as Fault, ErrorKind as Kind, Value as Jinja, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value;
use serde_json::ser::Formatter;

use crate::error::{Error, Result};

/// Steps that a template may take: hundreds of times what a long conversation needs, and an end to one without an end.
const FUEL: u64 = 20_000_000;

/// A chat template, compiled.
pub struct Chat {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// A stretch of a rendered conversation.
#[derive(Debug, PartialEq)]
pub(crate) struct Stretch {
    pub text: String,
    /// The message that it is the answer of, counted from 0; `None`: context.
    pub message: Option<usize>,
}

impl Chat {
    /// The template beside a tokenizer, if there is one; `config` is its tokenizer_config.json. Of several the one that
    /// is named "default".
    pub fn beside(tokenizer: &Path, config: &Value) -> Result<Option<Chat>> {
        let file = tokenizer.with_file_name("chat_template.jinja");
        let source = match fs::read_to_string(&file) {
            Ok(source) => Some(source),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io(&file, "read")(e)),
        };
        let (file, source) = match source {
            Some(source) => (file, Some(source)),
            None => (tokenizer.with_file_name("tokenizer_config.json"), named(&config["chat_template"])),
        };
        let special =
            |key: &str| config[key].as_str().or(config[key]["content"].as_str()).unwrap_or_default().to_string();
        let compile = |source| Chat::new(source, special("bos_token"), special("eos_token"));
        source.map(compile).transpose().map_err(|why| Error::file(&file, why))
    }

    /// Compiles a template. Errors with a sentence about it.
    pub fn new(source: String, bos: String, eos: String) -> std::result::Result<Chat, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", python_json);
        environment.add_function("raise_exception", |why: String| {
            Err::<Jinja, _>(Fault::new(Kind::InvalidOperation, format!("it refuses: {why}")))
        });
        let compiled = environment.add_template_owned("chat", source.clone());
        compiled.map_err(|e| format!("the chat template cannot be read ({})", brief(&e)))?;
        Ok(Chat { environment, source, bos, eos })
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation; with `prompt` up to where an answer begins.
    pub fn render(
        &self, messages: &[Value], tools: Option<&Value>, prompt: bool,
    ) -> std::result::Result<String, String> {
        let (bos_token, eos_token) = (&self.bos, &self.eos);
        let (messages, tools) = (Jinja::from(Serde(messages)), tools.map(|tools| Jinja::from(Serde(tools))));
        let context = context! { messages, tools, bos_token, eos_token, add_generation_prompt => prompt };
        let rendered = self.environment.get_template("chat").and_then(|template| template.render(context));
        rendered.map_err(|e| format!("the chat template fails on `messages` ({})", brief(&e)))
    }

    /// The conversation cut at the answers `learned`, in order: context, answer, context, ... An answer ends with what
    /// the template puts behind it, white space excepted; what follows the last one is left out.
    ///
    /// The template does not say where answers lie, so each is found as the difference of two renderings: up to where
    /// it begins, and with it. Fails where these are not the beginning of the whole, as with templates that rewrite
    /// earlier turns.
    pub(crate) fn stretches(
        &self, messages: &[Value], tools: Option<&Value>, learned: &[usize],
    ) -> std::result::Result<Vec<Stretch>, String> {
        let whole = self.render(messages, tools, false)?;
        let (mut stretches, mut at) = (Vec::new(), 0);
        for &message in learned {
            let rewritten = || {
                format!(
                    "the chat template writes the conversation up to `messages`[{message}] in another way when more \
                     follows, so that its answer has no place; give `segments` instead"
                )
            };
            let before = self.render(&messages[..message], tools, true)?;
            let with = self.render(&messages[..=message], tools, false)?;
            let answer = with.strip_prefix(&before).map(str::trim_end).filter(|_| whole.starts_with(&with));
            let (answer, context) = answer.zip(whole.get(at..before.len())).ok_or_else(rewritten)?;
            at = before.len() + answer.len();
            stretches.push(Stretch { text: context.to_string(), message: None });
            stretches.push(Stretch { text: answer.to_string(), message: Some(message) });
        }
        Ok(stretches)
    }
}

/// A template as tokenizer_config.json has it: a string, or a list of named ones.
fn named(value: &Value) -> Option<String> {
    let listed = || value.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
    value.as_str().or_else(listed).map(str::to_string)
}

/// What went wrong, in a line.
fn brief(fault: &Fault) -> String {
    let what = fault.detail().map_or_else(|| fault.kind().to_string(), str::to_string);
    fault.line().map_or(what.clone(), |line| format!("line {line}: {what}"))
}

/// Python's `json.dumps(value, ensure_ascii=False)`, which templates were written against.
fn python_json(value: Jinja, options: Kwargs) -> std::result::Result<Jinja, Fault> {
    struct Spaced;
    impl Formatter for Spaced {
        fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
            to.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
            to.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
            to.write_all(b": ")
        }
    }
    let indent: Option<usize> = options.get("indent")?;
    let (mut text, fail) = (Vec::new(), |e: serde_json::Error| Fault::new(Kind::BadSerialization, e.to_string()));
    match indent {
        None => write(&value, &mut serde_json::Serializer::with_formatter(&mut text, Spaced)).map_err(fail)?,
        Some(n) => {
            let indent = " ".repeat(n.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            write(&value, &mut serde_json::Serializer::with_formatter(&mut text, pretty)).map_err(fail)?;
        }
    }
    Ok(Jinja::from_safe_string(String::from_utf8_lossy(&text).into_owned()))
}

fn write<S: serde::Serializer>(value: &Jinja, to: S) -> std::result::Result<S::Ok, S::Error> {
    serde::Serialize::serialize(value, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fixture() -> Value {
        serde_json::from_str(include_str!("../../tests/fixtures/chat.json")).unwrap()
    }

    fn chat(source: &str) -> Chat {
        Chat::new(source.into(), "<s>".into(), "</s>".into()).unwrap()
    }

    #[test]
    fn conversations_read_as_transformers_writes_them() {
        let fixture = fixture();
        for case in fixture["cases"].as_array().unwrap() {
            let chat = chat(fixture["templates"][case["template"].as_str().unwrap()].as_str().unwrap());
            let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
            let text = chat.render(case["messages"].as_array().unwrap(), tools, case["prompt"] == true);
            match case["refused"].as_str() {
                None => assert_eq!(text.as_deref().ok(), case["text"].as_str(), "{case}"),
                Some(why) => {
                    let said = text.unwrap_err();
                    assert!(said.contains(&format!("it refuses: {why}")), "{said}");
                }
            }
        }
    }

    #[test]
    fn answers_are_found_with_their_ends() {
        let fixture = fixture();
        let case = &fixture["cases"][2];
        let messages = case["messages"].as_array().unwrap();
        let chatml = chat(fixture["templates"]["chatml"].as_str().unwrap());
        let stretches = chatml.stretches(messages, None, &[2, 4]).unwrap();
        let answers: Vec<_> = stretches.iter().filter_map(|s| Some((s.message?, s.text.as_str()))).collect();
        assert_eq!(answers, [(2, "int size() { return n; } // 漢字 é 🙂<|im_end|>"), (4, "No.\n<|im_end|>")]);
        assert_eq!(stretches[2].text, "\n<|im_start|>user\nShorter?<|im_end|>\n<|im_start|>assistant\n");
        // end to end they are the conversation, but for the white space at its end
        let joined: String = stretches.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(joined, case["text"].as_str().unwrap().trim_end());
        let last = chatml.stretches(messages, None, &[4]).unwrap();
        assert_eq!((last.len(), last.iter().map(|s| s.text.as_str()).collect::<String>()), (2, joined));
        assert!(chatml.stretches(messages, None, &[]).unwrap().is_empty());
    }

    #[test]
    fn what_a_template_cannot_do_is_a_sentence() {
        let messages = [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})];
        let rewriting = chat("{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}");
        let why = rewriting.stretches(&messages, None, &[1]).unwrap_err();
        assert!(
            why.starts_with("the chat template writes the conversation up to `messages`[1] in another way"),
            "{why}"
        );
        let endless = chat("{% for i in range(100000) %}{% for j in range(100000) %}{{ j }}{% endfor %}{% endfor %}");
        let why = endless.render(&messages, None, false).unwrap_err();
        assert!(why.starts_with("the chat template fails on `messages` ("), "{why}");
        let why = Chat::new("{% if %}".into(), String::new(), String::new()).err().unwrap();
        assert!(why.starts_with("the chat template cannot be read (line 1: "), "{why}");
    }

    #[test]
    fn templates_are_found_beside_the_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokenizer.json");
        let text = |config: Value| {
            let chat = Chat::beside(&file, &config).unwrap();
            chat.map(|chat| chat.render(&[], None, false).unwrap())
        };
        assert_eq!(text(json!({})), None);
        let eos = json!({"content": "</s>"});
        assert_eq!(text(json!({"chat_template": "a{{ eos_token }}", "eos_token": eos})), Some("a</s>".into()));
        let list = json!([{"name": "rag", "template": "r"}, {"name": "default", "template": "d{{ bos_token }}"}]);
        assert_eq!(text(json!({"chat_template": list, "bos_token": "<s>"})), Some("d<s>".into()));
        fs::write(dir.path().join("chat_template.jinja"), "file\n").unwrap();
        assert_eq!(text(json!({"chat_template": "a"})), Some("file".into()));
        fs::write(dir.path().join("chat_template.jinja"), "{% nothing %}").unwrap();
        let error = Chat::beside(&file, &json!({})).err().unwrap().to_string();
        assert!(error.contains("chat_template.jinja: the chat template cannot be read (line 1: "), "{error}");
    }
}
