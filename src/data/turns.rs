//! Rows of several texts: `segments` as given, `messages` through the model's chat template.

use serde_json::Value;

use super::chat::{Chat, Talk};
use super::jinja::Date;
use super::json::{self, Object, given, text};
use super::reader::{RowReader, push};
use super::row::{Row, Words};
use super::{Example, IGNORE};

/// A text that is tokenised separately.
struct Part<'a> {
    text: &'a str,
    weight: f32,
    train: bool,
    on_path: bool,
}

impl RowReader<'_> {
    /// A list of `{"text", "weight" = 1, "train" = true, "path" = false}`. EOS follows if the last one is trained.
    pub(super) fn segments(&self, list: &Value) -> Result<Row, String> {
        self.refuse_drawn("segments")?;
        let list = list.as_array().ok_or("`segments` must be a list of {\"text\", \"weight\", \"train\", \"path\"}")?;
        fn part((index, segment): (usize, &Value)) -> Result<Part<'_>, String> {
            let name = |why: String| format!("`segments`[{index}]: {why}");
            let segment = segment.as_object().ok_or_else(|| name("an object with a `text` is needed".into()))?;
            let flag = |key, default| {
                let wrong = || name(format!("`{key}` must be true or false"));
                given(segment, key).map_or(Ok(default), |v| json::flag(v).ok_or_else(wrong))
            };
            Ok(Part {
                text: text(segment, "text").map_err(name)?.ok_or_else(|| name("`text` is missing".into()))?,
                weight: given(segment, "weight").map_or(Ok(1.0), json::weight).map_err(name)?,
                train: flag("train", true)?,
                on_path: flag("path", false)?,
            })
        }
        let parts: Vec<Part> = list.iter().enumerate().map(part).collect::<Result<_, String>>()?;
        let ends = parts.last().is_some_and(|last| last.train);
        self.joined(&parts, ends)
    }

    /// A list of `{"role", "content", "weight" = 1, "train"}`, as the chat template writes it. Answers (role
    /// "assistant", unless `train` is false) are trained, each with the end that the template puts after it.
    pub(super) fn messages(&self, list: &Value, row: &Object) -> Result<Row, String> {
        self.refuse_drawn("messages")?;
        let list = list.as_array().ok_or("`messages` must be a list of {\"role\", \"content\"}")?;
        let (mut learned, mut weights) = (Vec::new(), Vec::new());
        for (index, message) in list.iter().enumerate() {
            let name = |why: String| format!("`messages`[{index}]: {why}");
            let message = message.as_object().ok_or_else(|| name("an object with a `role` is needed".into()))?;
            let role = text(message, "role").map_err(name)?.ok_or_else(|| name("`role` is missing".into()))?;
            let weight = given(message, "weight").map_or(Ok(1.0), json::weight).map_err(name)?;
            let wrong = || name("`train` must be true or false".into());
            let train = given(message, "train").map(|v| json::flag(v).ok_or_else(wrong)).transpose()?;
            match (train, role) {
                (Some(true), role) if role != "assistant" => {
                    return Err(name(format!(
                        "only answers of the assistant can be learned, and its role is \"{role}\""
                    )));
                }
                (None | Some(true), "assistant") => {
                    learned.push(index);
                    weights.push(weight);
                }
                _ => {}
            }
        }
        let why = "the row has `messages` and the model brings no chat template; put chat_template.jinja or \
                   tokenizer_config.json beside its tokenizer, or give `segments`";
        let chat = self.tokenizer()?.chat().ok_or(why)?;
        let arguments = given(row, "chat_template_kwargs").map(|arguments| {
            let wrong = || format!("`chat_template_kwargs` must be an object, not {}", json::brief(arguments));
            arguments.as_object().ok_or_else(wrong)
        });
        let (tools, documents) = (given(row, "tools"), given(row, "documents"));
        let date = self.reading.date.unwrap_or_else(Date::today);
        let talk = Talk { messages: list, tools, documents, arguments: arguments.transpose()?, date };
        if list.is_empty() {
            return self.joined(&[], false);
        }
        if self.open {
            return self.open_talk(chat, &talk);
        }
        let tokenizer = self.tokenizer()?;
        let whole = chat.render(&talk, false)?;
        let pieces = tokenizer.encode(&whole.text).map_err(|e| e.to_string())?;
        // answers behind the last token that is kept need no place
        let limit = pieces.get(self.reading.max_length).map_or(usize::MAX, |piece| piece.start);
        let answers = chat.answers(&talk, &whole, &learned, limit)?;
        let mut example = Example::default();
        let mut places = answers.places.iter().peekable();
        for piece in &pieces {
            while places.next_if(|(_, place)| place.end <= piece.start).is_some() {}
            let answer = places.peek().filter(|(_, place)| piece.start < place.end && place.start < piece.end);
            let weight = answer.and_then(|(message, _)| weights.get(learned.iter().position(|at| at == message)?));
            match weight {
                Some(&weight) => push(&mut example, piece.id, piece.id, weight, false),
                None => push(&mut example, piece.id, IGNORE, 1.0, false),
            }
        }
        let words = self.keep_texts.then(|| {
            let (mut words, mut at) = (Words::default(), 0);
            for (_, place) in &answers.places {
                words.source += &whole.text[at..place.start];
                words.target += &whole.text[place.clone()];
                at = place.end;
            }
            words.source += &whole.text[at..];
            words.add(&whole.text, &pieces);
            words
        });
        Ok(Row { words, rewritten: answers.rewritten, ..self.finish(example)? })
    }

    /// A conversation to be continued. Its last answer is the one to generate, whether it is present or not.
    fn open_talk(&self, chat: &Chat, talk: &Talk) -> Result<Row, String> {
        let (last, before) = match talk.messages.split_last() {
            Some((last, before)) if last["role"] == "assistant" && !before.is_empty() => (true, before),
            _ => (false, talk.messages),
        };
        let prompt = chat.render(&Talk { messages: before, ..*talk }, true)?.text;
        let mut parts = vec![Part { text: &prompt, weight: 1.0, train: false, on_path: false }];
        let whole = if last { chat.render(talk, false)?.text } else { String::new() };
        if let Some(answer) = whole.strip_prefix(&prompt) {
            parts.push(Part { text: answer.trim_end(), weight: 1.0, train: true, on_path: false });
        } else if last {
            let at = before.len();
            let why = "the chat template writes the conversation up to `messages`[AT] in another way when its answer \
                       follows; leave the answer out";
            return Err(why.replace("AT", &at.to_string()));
        }
        self.parts(&parts, false, None)
    }

    /// BOS (if there is one) part part ..., and EOS if the row `ends`.
    fn joined(&self, parts: &[Part], ends: bool) -> Result<Row, String> {
        self.parts(parts, ends, self.tokenizer()?.bos())
    }

    /// The parts, each tokenised separately, behind `bos` and before EOS if the row `ends`.
    fn parts(&self, parts: &[Part], ends: bool, bos: Option<u32>) -> Result<Row, String> {
        let tokenizer = self.tokenizer()?;
        let (mut example, mut words) = (Example::default(), Words::default());
        let mut first = true;
        for part in parts {
            let pieces = match first {
                true => tokenizer.encode(part.text),
                false => tokenizer.encode_behind(part.text),
            };
            let pieces = pieces.map_err(|e| e.to_string())?;
            if first
                && let Some(begin) = pieces.first()
                && let Some(bos) = bos.filter(|&bos| begin.id != bos)
            {
                push(&mut example, bos, IGNORE, 1.0, false);
                words.places.push(0..0);
            }
            first &= pieces.is_empty();
            if self.keep_texts {
                words.add(part.text, &pieces);
                if part.train { words.target += part.text } else { words.source += part.text }
            }
            for piece in pieces {
                let label = if part.train { piece.id } else { IGNORE };
                push(&mut example, piece.id, label, part.weight, part.on_path);
            }
        }
        if ends {
            push(&mut example, tokenizer.eos(), tokenizer.eos(), 1.0, false);
            words.end();
        }
        Ok(Row { words: self.keep_texts.then_some(words), ..self.finish(example)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::super::source::Reading;
    use super::*;

    /// `u`, `a` and the content, then EOS and a line break; BOS in front if the tokenizer adds it.
    const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}{{ m.content }}</s>\n{% endfor %}\
                            {% if add_generation_prompt %}a{% endif %}";

    fn read(line: &str) -> Result<Row, String> {
        read_as(line, false)
    }

    fn read_as(line: &str, open: bool) -> Result<Row, String> {
        let chat = Chat::new(TEMPLATE, &[("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap();
        let (tokenizer, reading) = (with_bos().with_chat(chat), Reading { max_length: 1000, ..Reading::default() });
        RowReader { tokenizer: Some(&tokenizer), vocab: 512, reading: &reading, keep_texts: false, open }.json(line)
    }

    #[test]
    fn answers_are_learned_with_their_ends() {
        let (n, a, line) = (IGNORE, u32::from(b'a'), 200);
        let conversation = |more: &str| {
            format!(
                r#"{{"messages": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "y"{more}}},
                {{"role": "user", "content": "z"}}, {{"role": "assistant", "content": "w", "weight": 2}}]}}"#
            )
            .replace('\n', "")
        };
        let row = read(&conversation("")).unwrap().example;
        let [u, x, y, z, w] = [b'u', b'x', b'y', b'z', b'w'].map(u32::from);
        assert_eq!(row.ids, [BOS, u, x, EOS, line, a, y, EOS, line, u, z, EOS, line, a, w, EOS, line]);
        assert_eq!(row.labels, [n, n, n, n, n, n, y, EOS, n, n, n, n, n, n, w, EOS, n]);
        assert_eq!(row.weights[6..], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0]);
        let last = read(&conversation(r#", "train": false"#)).unwrap().example;
        assert_eq!((&last.ids, last.labels.iter().filter(|&&l| l != n).count()), (&row.ids, 2));
    }

    #[test]
    fn an_open_conversation_ends_where_an_answer_begins() {
        let open = |line: &str| read_as(line, true).unwrap().example;
        let asked = open(r#"{"messages": [{"role": "user", "content": "x"}]}"#);
        let [u, x, a, y] = [b'u', b'x', b'a', b'y'].map(u32::from);
        assert_eq!(asked.ids, [BOS, u, x, EOS, 200, a]);
        assert!(asked.labels.iter().all(|&label| label == IGNORE));
        let turns = r#"{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}"#;
        let answered = open(&format!(r#"{{"messages": [{turns}, {turns}]}}"#));
        assert_eq!(answered.labels.iter().position(|&label| label != IGNORE), Some(14));
        assert_eq!(answered.ids[13..], [a, y, EOS]);
    }

    #[test]
    fn a_conversation_without_answers_is_context() {
        let row = read(r#"{"messages": [{"role": "user", "content": "x"}]}"#).unwrap().example;
        assert_eq!(row.ids, [BOS, u32::from(b'u'), u32::from(b'x'), EOS, 200]);
        assert_eq!(row.supervised(), 0);
        assert!(read(r#"{"messages": []}"#).unwrap().example.ids.is_empty());
    }

    #[test]
    fn what_messages_lack_is_said() {
        let user = r#"{"role": "user", "content": "x", "train": true}"#;
        for (messages, why) in [
            ("1", "`messages` must be a list of {\"role\", \"content\"}"),
            ("[1]", "`messages`[0]: an object with a `role` is needed"),
            (r#"[{"content": "x"}]"#, "`messages`[0]: `role` is missing"),
            (
                &format!("[{user}]"),
                "`messages`[0]: only answers of the assistant can be learned, and its role is \"user\"",
            ),
            (r#"[{"role": "assistant", "train": 3}]"#, "`messages`[0]: `train` must be true or false"),
            (r#"[{"role": "assistant", "weight": "a"}]"#, "`messages`[0]: the weight \"a\" is not a finite number"),
        ] {
            assert_eq!(read(&format!(r#"{{"messages": {messages}}}"#)).unwrap_err(), why);
        }
        let why = read(r#"{"messages": [{"role": "assistant"}], "path": [[0, 1]]}"#).unwrap_err();
        let drop = "drop it, and give an answer a `weight` of its own";
        assert_eq!(why, format!("the row has `path`, which has no effect on `messages`; {drop}"));
        let reading = Reading::default();
        let reader =
            RowReader { tokenizer: Some(&plain()), vocab: 512, reading: &reading, keep_texts: false, open: false };
        let why = reader.json(r#"{"messages": [{"role": "assistant", "content": "a"}]}"#).unwrap_err();
        assert!(why.starts_with("the row has `messages` and the model brings no chat template;"), "{why}");
    }

    #[test]
    fn alpaca_rows_have_their_prompt() {
        let row = |line: &str| read(line).map(|row| row.example);
        let with = row(r#"{"instruction": "x", "input": "y", "output": "z", "weights": [[0, 1, 3]]}"#);
        assert_eq!(with.map(|e| e.weights[e.ids.len() - 2..].to_vec()), Ok(vec![3.0, 1.0]));
        assert_eq!(row(r#"{"instruction": "x"}"#).unwrap_err().split(':').next(), Some("`output` is missing"));
        let prompt = super::super::template::alpaca;
        assert!(prompt("a", "b").ends_with(" request.\n\n### Instruction:\na\n\n### Input:\nb\n\n### Response:\n"));
        assert!(prompt("a", "").ends_with(" request.\n\n### Instruction:\na\n\n### Response:\n"));
    }
}
