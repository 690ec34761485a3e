//! Where the answers of a conversation stand in its text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use serde_json::Value;

use super::super::jinja::{Rendered, Template, Variables};
use super::{Answers, Chat, Made, Talk, message};

/// Around the content of an answer, to find it in the text: a start and an end with the number of the message. They are
/// of Unicode's private use.
const START: char = '\u{f5a1e}';
const END: char = '\u{f5a1f}';
const DIGITS: [char; 10] = [
    '\u{f5a20}',
    '\u{f5a21}',
    '\u{f5a22}',
    '\u{f5a23}',
    '\u{f5a24}',
    '\u{f5a25}',
    '\u{f5a26}',
    '\u{f5a27}',
    '\u{f5a28}',
    '\u{f5a29}',
];

/// A conversation with its template and variables.
pub(super) struct Written<'a> {
    talk: &'a Talk<'a>,
    template: &'a Template,
    variables: Variables,
}

impl<'a> Written<'a> {
    pub fn new(chat: &'a Chat, talk: &'a Talk) -> Made<Written<'a>> {
        let template = chat.template(talk.tools.is_some_and(|tools| !tools.is_null()))?;
        Ok(Written { talk, template, variables: chat.variables(talk)? })
    }

    /// The text of the first `length` messages.
    pub fn render(&self, length: usize, prompt: bool) -> Made<Rendered> {
        self.render_with(&self.variables.first("messages", length), prompt)
    }

    fn render_with(&self, variables: &Variables, prompt: bool) -> Made<Rendered> {
        let mut variables = variables.first("", 0);
        variables.set("add_generation_prompt", &prompt.into())?;
        let rendered = self.template.render(&variables, self.talk.date);
        let remedy = "change the row or the template, or give `segments` instead";
        rendered.map_err(|why| format!("the chat template fails on `messages` ({why}); {remedy}"))
    }

    fn is_answer(&self, message: usize) -> bool {
        self.talk.messages.get(message).is_some_and(|message| message["role"] == "assistant")
    }

    /// The stretches that the template marks, one for each answer.
    pub fn generated(&self, whole: &Rendered, learned: &[usize]) -> Made<Answers> {
        let answers: Vec<usize> = (0..self.talk.messages.len()).filter(|&at| self.is_answer(at)).collect();
        if answers.len() != whole.generated.len() {
            return Err(format!(
                "the chat template marks {} stretches as generated, and the conversation has {} answers, so that it is \
                 unknown which is which; give `segments` instead",
                whole.generated.len(),
                answers.len()
            ));
        }
        let places = answers.into_iter().zip(whole.generated.iter().cloned());
        let places = places.filter(|(message, _)| learned.contains(message)).collect();
        Ok(Answers { places, rewritten: false })
    }

    /// The answers by marks in them; `None` where an answer has no mark that is written, or marks change the text.
    pub fn marked(&self, whole: &str, learned: &[usize]) -> Made<Option<Answers>> {
        for place in Place::ALL {
            let (found, marks) = self.marks(whole, learned.iter().map(|&at| (at, place)))?;
            if let Some(contents) = found.filter(|contents| contents.len() == learned.len()) {
                return self.located(whole, learned, &contents, &marks);
            }
        }
        // each answer takes its own place
        let mut fitting = Vec::new();
        for &at in learned {
            for place in Place::ALL {
                let (found, _) = self.marks(whole, [(at, place)])?;
                if found.is_some_and(|contents| contents.contains_key(&at)) {
                    fitting.push((at, place));
                    break;
                }
            }
        }
        match self.marks(whole, fitting)? {
            (Some(contents), marks) => self.located(whole, learned, &contents, &marks),
            (None, _) => Ok(None),
        }
    }

    /// The conversation with marks in these answers, and what they surround; `None` where they change the text.
    fn marks(&self, whole: &str, at: impl IntoIterator<Item = (usize, Place)>) -> Made<(Option<Contents>, Marked<'_>)> {
        let mut messages = self.talk.messages.to_vec();
        let partly =
            at.into_iter().filter(|&(at, place)| mark(&mut messages[at], at, place)).map(|(at, _)| at).collect();
        let mut variables = self.variables.first("", 0);
        variables.set("messages", &Value::from(messages.iter().map(message).collect::<Vec<_>>()))?;
        let marks = Marked { written: self, variables, partly };
        let read = marks.read(messages.len(), false).filter(|(text, _)| text == whole);
        Ok((read.map(|(_, contents)| contents), marks))
    }

    /// The answers around their `contents`.
    fn located(&self, whole: &str, learned: &[usize], contents: &Contents, marks: &Marked) -> Made<Option<Answers>> {
        let (Some(&first), Some(&last)) = (learned.first(), learned.last()) else {
            return Ok(Some(Answers::default()));
        };
        let opening = self.opening(first)?;
        let gap = if opening.is_empty() { self.gap(whole, contents, &marks.partly) } else { "" };
        let shape = |at: usize| {
            let keys = self.talk.messages[at].as_object().into_iter().flatten();
            keys.filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect::<Vec<_>>()
        };
        let common = marks.behind(last, &opening);
        let (mut places, mut before) = (Vec::new(), 0);
        for &at in learned {
            let content = match contents.get(&at) {
                Some(content) => content.clone(),
                // its text is empty: it begins and ends where an answer is opened
                None => {
                    let next = contents.range(at..).next().map_or(whole.len(), |(_, content)| content.start);
                    let window = whole.get(before..next).filter(|text| text.matches(&opening).count() == 1);
                    match window.and_then(|text| text.find(&opening)) {
                        Some(found) if !opening.is_empty() => {
                            let at = before + found + opening.len();
                            at..at
                        }
                        _ if self.without(at).is_some_and(|text| text == whole) => continue,
                        _ => return Ok(None),
                    }
                }
            };
            // a template that changes the order of messages
            let Some(head) = whole.get(before..content.start) else { return Ok(None) };
            let rest = &whole[content.end..];
            let fits = |ends: &[String]| ends.iter().find(|end| rest.starts_with(*end)).map(String::len);
            let end = fits(&common).filter(|_| shape(at) == shape(last)).unwrap_or_else(|| {
                let own = marks.behind(at, &opening);
                fits(&own).unwrap_or_else(|| own.first().map_or(0, |end| shared(rest, end)))
            });
            // without a mark at its beginning, or with marks elsewhere, the content does not say where it begins
            let partly = content.is_empty() || marks.partly.contains(&at);
            let opened =
                head.rfind(&opening).filter(|_| !opening.is_empty()).map(|found| before + found + opening.len());
            let start = match opened.filter(|_| head.matches(&opening).count() == 1) {
                Some(start) => start,
                None if opening.is_empty() && !partly => {
                    content.start - if head.ends_with(gap) { gap.len() } else { 0 }
                }
                None => match self.begins(whole, at, &opening, before..=content.end) {
                    Some(start) if partly => start,
                    Some(start) => start.min(content.start),
                    None if partly => return Ok(None),
                    None => opened.unwrap_or(content.start),
                },
            };
            before = content.end + end;
            places.push((at, start..before));
        }
        let rewritten = first + 1 < self.talk.messages.len() && {
            let same = |prompt: bool, opening: &str| {
                let alone = self.render(first + 1, prompt).ok().map(|alone| alone.text);
                alone.is_some_and(|text| whole.starts_with(text.strip_suffix(opening).unwrap_or(&text).trim_end()))
            };
            !same(false, "") && !same(true, &opening)
        };
        Ok(Some(Answers { places, rewritten }))
    }

    /// What the template writes where an answer begins.
    fn opening(&self, first: usize) -> Made<String> {
        for length in [first, self.talk.messages.len()].into_iter().filter(|&length| length > 0) {
            if let (Ok(with), Ok(without)) = (self.render(length, true), self.render(length, false)) {
                // a template may end the text where no answer is opened
                let common = match with.text.strip_prefix(&without.text) {
                    Some(_) => without.text.len(),
                    None => shared(&with.text, &without.text),
                };
                if common < with.text.len() && !without.text.starts_with(&with.text) {
                    let opening = &with.text[common..];
                    return Ok(if common < without.text.len() { opening.trim_start() } else { opening }.to_string());
                }
            }
        }
        Ok(String::new())
    }

    /// Where an answer begins, within a window: behind the conversation before it, or at least behind the message
    /// before it.
    fn begins(&self, whole: &str, at: usize, opening: &str, window: RangeInclusive<usize>) -> Option<usize> {
        let fits = |start: &usize| window.contains(start);
        self.after(whole, at, opening).filter(fits).or_else(|| self.after_neighbour(whole, at).filter(fits))
    }

    /// The end of the message before an answer with the opening, for templates that write earlier messages in another
    /// way when more follows.
    fn after_neighbour(&self, whole: &str, at: usize) -> Option<usize> {
        let neighbour = at.checked_sub(1)?;
        Place::ALL.into_iter().find_map(|place| {
            let (found, marks) = self.marks(whole, [(neighbour, place)]).ok()?;
            let from = found?.get(&neighbour)?.end;
            let (text, contents) = marks.read(at, true)?;
            let closing = text.get(contents.get(&neighbour)?.end..)?;
            whole[from..].starts_with(closing).then_some(from + closing.len())
        })
    }

    /// The end of the conversation before an answer with the opening, or with as much of the opening as is written.
    fn after(&self, whole: &str, at: usize, opening: &str) -> Option<usize> {
        let before = |prompt| Some(self.render(at, prompt).ok()?.text).filter(|text| whole.starts_with(text));
        let opened = before(true).map(|text| text.len());
        opened.or_else(|| {
            let from = before(false)?.len();
            let same = whole[from..].chars().zip(opening.chars()).take_while(|(a, b)| a == b);
            let same: String = same.map(|(c, _)| c).collect();
            // the beginning of a marker may be that of another one
            Some(from + same.trim_end_matches(|c| "<[{(|#".contains(c)).len())
        })
    }

    /// The text without a message.
    fn without(&self, at: usize) -> Option<String> {
        let mut messages: Vec<Value> = self.talk.messages.iter().map(message).collect();
        messages.remove(at);
        let mut variables = self.variables.first("", 0);
        variables.set("messages", &messages.into()).ok()?;
        Some(self.render_with(&variables, false).ok()?.text)
    }

    /// What stands between the conversation before an answer and its content, for a template without an opening.
    fn gap<'w>(&self, whole: &'w str, contents: &Contents, partly: &BTreeSet<usize>) -> &'w str {
        let gap = contents.range(1..).find(|(at, content)| !content.is_empty() && !partly.contains(at));
        let gap = gap.and_then(|(&at, content)| {
            let before = self.render(at, true).ok()?.text;
            whole.get(before.len()..content.start).filter(|_| whole.starts_with(&before))
        });
        gap.unwrap_or_default()
    }

    /// The answers as differences: from where each begins to where the text with it ends.
    pub fn differences(&self, whole: &str, learned: &[usize], limit: usize) -> Made<Answers> {
        let mut places = Vec::new();
        for &at in learned {
            let before = match self.render(at, true) {
                Ok(before) => before.text,
                // many templates read the first message
                Err(_) if at == 0 => self.opening(0)?,
                Err(why) => return Err(why),
            };
            if before.len() >= limit {
                break;
            }
            let with = self.render(at + 1, false)?.text;
            let end = with.trim_end().len();
            if !with.starts_with(&before) || !whole.starts_with(&with[..end]) || end < before.len() {
                return Err(format!(
                    "the chat template writes the conversation up to `messages`[{at}] in another way when more \
                     follows, so that its answer has no place; give `segments` instead"
                ));
            }
            places.push((at, before.len()..end));
        }
        Ok(Answers { places, rewritten: false })
    }
}

/// The place of the content of each answer, by its message.
type Contents = BTreeMap<usize, Range<usize>>;

/// A conversation with marks in its answers.
struct Marked<'a> {
    written: &'a Written<'a>,
    variables: Variables,
    /// Messages whose marks do not stand around the content.
    partly: BTreeSet<usize>,
}

impl Marked<'_> {
    /// The text of the first `length` messages without the marks, and what stood between them.
    fn read(&self, length: usize, prompt: bool) -> Option<(String, Contents)> {
        let variables = self.variables.first("messages", length);
        unmarked(&self.written.render_with(&variables, prompt).ok()?.text)
    }

    /// What may stand behind the content of an answer: what does when it is the last message, or when another answer is
    /// opened behind it.
    fn behind(&self, at: usize, opening: &str) -> Vec<String> {
        let end = |prompt: bool, cut: &str| {
            let (text, contents) = self.read(at + 1, prompt)?;
            let text = text.strip_suffix(cut)?;
            // an answer that is not written at all ends where it is opened
            let opened = || text.rfind(opening).filter(|_| !opening.is_empty()).map(|found| found + opening.len());
            let from = contents.get(&at).map(|content| content.end).or_else(opened)?;
            Some(text.get(from..)?.trim_end().to_string())
        };
        end(false, "").into_iter().chain(end(true, opening)).collect()
    }
}

/// The length of the end of an answer that two continuations share. What they have in common beyond it is the beginning
/// of a marker.
fn shared(a: &str, b: &str) -> usize {
    let common =
        a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(a.len().min(b.len()), |((at, _), _)| at);
    a[..common].trim_end_matches(|c: char| c.is_whitespace() || "<[{(|#".contains(c)).len()
}

/// Where marks are put in an answer. Templates differ in what of it they write, and in what they cut off.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// At the ends of its content, or around the name of its first call if there is none.
    Ends,
    /// The same, inside of the white space at the ends of the content: many templates cut that off.
    Inside,
    /// Inside of the white space of the content, although that may be all of it.
    Content,
    /// At the end of its content alone: some templates take its beginning for thinking.
    Last,
    /// Around the name of its first call.
    Call,
}

impl Place {
    const ALL: [Place; 5] = [Place::Ends, Place::Inside, Place::Content, Place::Last, Place::Call];
}

/// Puts marks into message `at`; whether they stand elsewhere than around its content.
fn mark(message: &mut Value, at: usize, place: Place) -> bool {
    let blank = |value: &Value| value.as_str().is_none_or(|text| text.trim().is_empty());
    let bare = match &message["content"] {
        Value::Array(parts) => parts.iter().all(|part| blank(&part["text"])),
        content => blank(content),
    };
    let names = ["/tool_calls/0/function/name", "/tool_calls/0/name"];
    let path = match (place, names.into_iter().find(|name| message.pointer(name).is_some())) {
        (Place::Call, None) => return false,
        (Place::Call, Some(name)) => name,
        (Place::Ends | Place::Inside, Some(name)) if bare => name,
        _ => "/content",
    };
    if path == "/content" && message["content"].is_null() {
        message["content"] = "".into();
    }
    let mut texts: Vec<&mut String> = match message.pointer_mut(path) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(parts)) => parts
            .iter_mut()
            .filter_map(|part| match part.get_mut("text") {
                Some(Value::String(text)) if !text.trim().is_empty() => Some(text),
                _ => None,
            })
            .collect(),
        _ => return false,
    };
    if texts.iter().any(|text| text.contains([START, END]) || text.contains(DIGITS)) {
        return false;
    }
    let number: String = at.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect();
    let edges = matches!(place, Place::Ends | Place::Last);
    let inside = |text: &str| match (edges, text.trim().is_empty()) {
        (true, _) => [0, text.len()],
        // in a text of white space alone both stand at its end
        (_, true) => [text.len(); 2],
        _ => [text.len() - text.trim_start().len(), text.trim_end().len()],
    };
    let start = texts.first().map_or(0, |first| inside(first)[0]);
    if let Some(last) = texts.last_mut() {
        last.insert_str(inside(last)[1], &format!("{END}{number}"));
    }
    if let Some(first) = texts.first_mut().filter(|_| place != Place::Last) {
        first.insert_str(start, &format!("{START}{number}"));
    }
    path != "/content" || place == Place::Last
}

/// A text without its marks, and the stretches between them; `None` where marks are broken. A start may be missing,
/// where a template leaves out the beginning of an answer.
fn unmarked(text: &str) -> Option<(String, Contents)> {
    let (mut plain, mut starts, mut contents) = (String::with_capacity(text.len()), BTreeMap::new(), Contents::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if DIGITS.contains(&c) {
            return None;
        }
        if c != START && c != END {
            plain.push(c);
            continue;
        }
        let (mut at, mut any) = (0usize, false);
        while let Some(digit) = rest.peek().and_then(|next| DIGITS.iter().position(|digit| digit == next)) {
            (at, any) = (at.checked_mul(10)?.checked_add(digit)?, true);
            rest.next();
        }
        if !any {
            return None;
        }
        // the name of a call may be written again with its result
        if c == START {
            starts.entry(at).or_insert(plain.len());
        } else {
            contents.entry(at).or_insert(starts.get(&at).copied().unwrap_or(plain.len())..plain.len());
        }
    }
    Some((plain, contents))
}
