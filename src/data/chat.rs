//! Chat templates of a model: which one a conversation takes, its variables, and the answers in its text.

mod answers;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::beside::Beside;
use super::jinja::{Date, Rendered, Template, Variables};
use crate::error::{Error, Result};
use answers::Written;

type Made<T> = std::result::Result<T, String>;

/// The chat templates of a model. A template is compiled when a conversation needs it.
pub struct Chat {
    templates: BTreeMap<String, Source>,
    /// Names and texts of the special tokens that templates see.
    special: Vec<(String, Value)>,
}

/// A template and its file.
struct Source {
    file: PathBuf,
    text: String,
    template: OnceLock<Made<Template>>,
}

/// A conversation, as a template is given it.
pub(crate) struct Talk<'a> {
    pub messages: &'a [Value],
    pub tools: Option<&'a Value>,
    pub documents: Option<&'a Value>,
    /// Variables of the row's own.
    pub arguments: Option<&'a Map<String, Value>>,
    /// The day of `strftime_now`.
    pub date: Date,
}

/// The answers of a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answers {
    /// The message of each, counted from 0, and its place in bytes.
    pub places: Vec<(usize, Range<usize>)>,
    /// Whether the template writes an answer in another way when it is the last: without its thinking, for example.
    pub rewritten: bool,
}

/// The folder of named templates.
pub(crate) const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Variables that transformers sets itself.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// Names under which the reasoning of a message is given; templates read the first, some the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Chat {
    /// The templates beside a tokenizer, if there are any: chat_template.jinja and
    /// additional_chat_templates/NAME.jinja, else `chat_template` of `config`, its tokenizer_config.json.
    pub(super) fn beside(files: &mut Beside, config: &Value, special: &[(String, String)]) -> Result<Option<Chat>> {
        let mut templates = BTreeMap::new();
        let mut add = |name: &str, file: PathBuf, text: String| {
            templates.insert(name.to_string(), Source { file, text, template: OnceLock::new() });
        };
        let mut single = false;
        for (name, place) in template_files(files)? {
            if let Some(bytes) = files.read(&place)? {
                let file = files.path(&place);
                let wrong = |_| Error::file(&file, "the chat template is not UTF-8; save it as UTF-8");
                let text = String::from_utf8(bytes).map_err(wrong)?;
                add(&name, file, text);
                single = true;
            }
        }
        if !single {
            let file = files.path("tokenizer_config.json");
            match &config["chat_template"] {
                Value::Null => return Ok(None),
                Value::String(text) => add("default", file, text.clone()),
                named => {
                    let wrong = || {
                        let why = "`chat_template` must be a template or a list of {\"name\", \"template\"}";
                        Error::file(&file, why)
                    };
                    for entry in named.as_array().ok_or_else(wrong)? {
                        let (name, text) = entry["name"].as_str().zip(entry["template"].as_str()).ok_or_else(wrong)?;
                        add(name, file.clone(), text.to_string());
                    }
                }
            }
        }
        let special = special.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        Ok(Some(Chat { templates, special }))
    }

    /// A single template. Errors with a sentence about it.
    pub fn new(source: &str, special: &[(&str, &str)]) -> Made<Chat> {
        let template = Template::new(source).map_err(|why| unreadable(&why))?;
        let source = Source { file: "chat_template.jinja".into(), text: source.into(), template: Ok(template).into() };
        let special = special.iter().map(|&(name, text)| (name.to_string(), text.into())).collect();
        Ok(Chat { templates: BTreeMap::from([("default".to_string(), source)]), special })
    }

    /// Names and texts of all templates, in order.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.templates.iter().map(|(name, source)| (name.as_str(), source.text.as_str()))
    }

    /// Whether a template may write the date.
    pub fn uses_date(&self) -> bool {
        self.sources().any(|(_, text)| text.contains("strftime_now"))
    }

    /// The template for conversations with or without tools.
    fn template(&self, tools: bool) -> Made<&Template> {
        let chosen = self.templates.get("tool_use").filter(|_| tools).or_else(|| self.templates.get("default"));
        let source = chosen.ok_or_else(|| {
            let names: Vec<&str> = self.templates.keys().map(String::as_str).collect();
            format!("of the model's chat templates ({}) none is named `default`; name one so", names.join(", "))
        })?;
        let template = source.template.get_or_init(|| {
            let why = |why: String| format!("{}: {}", source.file.display(), unreadable(&why));
            Template::new(&source.text).map_err(why)
        });
        template.as_ref().map_err(Clone::clone)
    }

    /// The variables of a conversation.
    fn variables(&self, talk: &Talk) -> Made<Variables> {
        let messages = Value::from(talk.messages.iter().map(message).collect::<Vec<_>>());
        let tools = match talk.tools {
            // tables keep lists as text
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|e| format!("`tools` is a text that is not valid JSON ({e}); give a list of tools"))?,
            tools => tools.cloned().unwrap_or_default(),
        };
        let objects = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_object));
        for (key, list) in [("tools", &tools), ("documents", talk.documents.unwrap_or(&Value::Null))] {
            if !list.is_null() && !objects(list) {
                return Err(format!("`{key}` must be a list of objects"));
            }
        }
        let mut variables = Variables::new(self.special.iter().map(|(name, text)| (name.as_str(), text)))?;
        for (name, value) in talk.arguments.into_iter().flatten() {
            if RESERVED.contains(&name.as_str()) {
                return Err(format!("`chat_template_kwargs` has `{name}`, which has a key of its own in the row"));
            }
            variables.set(name, value)?;
        }
        variables.set("messages", &messages)?;
        variables.set("tools", &tools)?;
        variables.set("documents", talk.documents.unwrap_or(&Value::Null))?;
        Ok(variables)
    }

    /// The text of a conversation; with `prompt` up to where an answer begins.
    pub(crate) fn render(&self, talk: &Talk, prompt: bool) -> Made<Rendered> {
        Written::new(self, talk)?.render(talk.messages.len(), prompt)
    }

    /// Where the answers `learned` (messages, in order) stand in the text `whole` of the conversation. An answer
    /// includes what the template writes behind it, white space excepted. Answers that begin at or behind the byte
    /// `limit` may be left out.
    ///
    /// A template with `{% generation %}` says itself where answers stand. Otherwise their content is marked and
    /// rendered once more; where that changes the text, an answer is the difference of the conversations with and
    /// without it.
    pub(crate) fn answers(&self, talk: &Talk, whole: &Rendered, learned: &[usize], limit: usize) -> Made<Answers> {
        let written = Written::new(self, talk)?;
        if !whole.generated.is_empty() {
            return written.generated(whole, learned);
        }
        match written.marked(&whole.text, learned)? {
            Some(answers) => Ok(answers),
            None => written.differences(&whole.text, learned, limit),
        }
    }
}

/// The names and places of `chat_template.jinja` and the files of additional_chat_templates.
fn template_files(files: &Beside) -> Result<Vec<(String, String)>> {
    let mut found = vec![("default".to_string(), "chat_template.jinja".to_string())];
    let dir = files.path(MORE_TEMPLATES);
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(Error::io(&dir, "read"))?,
    };
    for entry in entries {
        let file = entry.map_err(Error::io(&dir, "read"))?.file_name();
        if let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".jinja")) {
            found.push((name.to_string(), format!("{MORE_TEMPLATES}/{name}.jinja")));
        }
    }
    found.sort();
    Ok(found)
}

fn unreadable(why: &str) -> String {
    format!("the chat template cannot be read ({why}); rows of `prompt` and `completion` need none")
}

/// A message as transformers gives it to a template: without null keys, its reasoning under each of its names.
fn message(message: &Value) -> Value {
    let Value::Object(map) = message else { return message.clone() };
    let given = || map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone()));
    let Some(reasoning) = REASONING.iter().find_map(|name| map.get(*name).filter(|value| !value.is_null())) else {
        return given().collect();
    };
    // the order of the keys is transformers', too
    let mut map: Map<String, Value> =
        [(REASONING[1].to_string(), reasoning.clone())].into_iter().chain(given()).collect();
    map.insert(REASONING[0].into(), reasoning.clone());
    map.into()
}

#[cfg(test)]
mod tests;
