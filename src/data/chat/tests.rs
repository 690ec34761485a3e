//! Conversations against what transformers made of them (`tests/fixtures/make_chat.py`), and what cannot be rendered.

use super::*;
use serde_json::json;
use std::ops::Range;

fn talk(messages: &[Value]) -> Talk<'_> {
    Talk { messages, tools: None, documents: None, arguments: None, date: "2026-11-30".parse().unwrap() }
}

fn chat(source: &str) -> Chat {
    Chat::new(source, &[("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap()
}

#[test]
fn conversations_read_as_transformers_writes_them() {
    let fixture: Value = serde_json::from_str(include_str!("../../../tests/fixtures/chat.json")).unwrap();
    let special = fixture["special"].as_object().unwrap();
    let special: Vec<(&str, &str)> =
        special.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap())).collect();
    let sources = fixture["templates"].as_object().unwrap();
    let chats: BTreeMap<&str, Chat> = sources
        .iter()
        .map(|(name, text)| (name.as_str(), Chat::new(text.as_str().unwrap(), &special).unwrap()))
        .collect();
    let (mut wrong, mut found) = (Vec::new(), 0);
    for case in fixture["cases"].as_array().unwrap() {
        let (chat, row) = (&chats[case["template"].as_str().unwrap()], &case["row"]);
        let messages = row["messages"].as_array().unwrap();
        let given = |key: &str| row.get(key).filter(|value| !value.is_null());
        let arguments = given("chat_template_kwargs").map(|arguments| arguments.as_object().unwrap());
        let talk = Talk { tools: given("tools"), documents: given("documents"), arguments, ..talk(messages) };
        let render = |prompt| chat.render(&talk, prompt).map(|rendered| rendered.text);
        for (key, prompt) in [("text", false), ("prompt", true)] {
            let ours = render(prompt);
            if ours.as_deref().ok() != case[key].as_str() {
                wrong.push(format!("{key} {:?}\n    {ours:?}\n    {}", case["refused"], case));
            }
        }
        let Some(answers) = case["answers"].as_array() else { continue };
        let whole = chat.render(&talk, false).unwrap();
        let byte = |at: &Value| {
            let at = usize::try_from(at.as_u64().unwrap()).unwrap();
            whole.text.char_indices().nth(at).map_or(whole.text.len(), |(byte, _)| byte)
        };
        let theirs: Vec<Range<usize>> = answers.iter().map(|pair| byte(&pair[0])..byte(&pair[1])).collect();
        let learned: Vec<usize> = (0..messages.len()).filter(|&at| messages[at]["role"] == "assistant").collect();
        let ours = chat.answers(&talk, &whole, &learned, usize::MAX);
        let places = ours.as_ref().map(|a| a.places.iter().map(|(_, place)| place.clone()).collect::<Vec<_>>());
        if places.as_ref().ok() != Some(&theirs) {
            let shown: Vec<&str> = theirs.iter().map(|place| &whole.text[place.clone()]).collect();
            let got: Option<Vec<&str>> =
                places.ok().map(|p| p.iter().map(|place| &whole.text[place.clone()]).collect());
            wrong.push(format!("answers {} {ours:?}\n    ours   {got:?}\n    theirs {shown:?}", case["template"]));
        }
        found += theirs.len();
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(found > 150, "{found} answers");
}

#[test]
fn templates_are_found_beside_the_tokenizer_and_compiled_when_needed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    let user = [json!({"role": "user", "content": "x"})];
    let tool = json!([{"name": "t"}]);
    let special = |config: &Value| {
        let token = |name: &str| config[name].as_str().map(|text| (name.to_string(), text.to_string()));
        ["bos_token", "eos_token"].into_iter().filter_map(token).collect::<Vec<_>>()
    };
    let beside = |config: Value| Chat::beside(&mut Beside::new(file.clone()), &config, &special(&config)).unwrap();
    let text = |config: Value, tools: bool| {
        let talk = Talk { tools: Some(&tool).filter(|_| tools), ..talk(&user) };
        beside(config).map(|chat| chat.render(&talk, false).map(|rendered| rendered.text))
    };
    let ok = |text: &str| Some(Ok(text.to_string()));
    assert_eq!(text(json!({}), false), None);
    let eos = "</s>";
    assert_eq!(text(json!({"chat_template": "a{{ eos_token }}", "eos_token": eos}), false), ok("a</s>"));
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ bos_token }}"}]);
    let config = json!({"chat_template": list, "bos_token": "<s>"});
    assert_eq!((text(config.clone(), false), text(config.clone(), true)), (ok("d<s>"), ok("t")));
    fs::write(dir.path().join("chat_template.jinja"), "file\n").unwrap();
    assert_eq!((text(config.clone(), false), text(config.clone(), true)), (ok("file"), ok("file")));
    let more = dir.path().join("additional_chat_templates");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("tool_use.jinja"), "tools").unwrap();
    assert_eq!((text(config.clone(), false), text(config.clone(), true)), (ok("file"), ok("tools")));
    // a template that cannot be read stops the conversations that need it, and nothing else
    fs::write(dir.path().join("chat_template.jinja"), "{% nothing %}").unwrap();
    assert_eq!(text(config.clone(), true), ok("tools"));
    let why = text(config, false).unwrap().unwrap_err();
    assert!(why.ends_with(
        "chat_template.jinja: the chat template cannot be read (line 1: unknown tag `nothing`); rows of `prompt` and \
         `completion` need none"
    ), "{why}");
    let named = json!({"chat_template": [{"name": "rag", "template": "r"}]});
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    fs::remove_dir_all(more).unwrap();
    let why = text(named, false).unwrap().unwrap_err();
    assert_eq!(why, "of the model's chat templates (rag) none is named `default`; name one so");
    assert!(Chat::beside(&mut Beside::new(file), &json!({"chat_template": 3}), &[]).is_err());
}

#[test]
fn the_row_gives_variables_of_its_own() {
    let chat = chat("{{ thinking }}|{{ tools|length }}|{{ documents }}|{{ bos_token }}");
    let user = [json!({"role": "user", "content": "x"})];
    let render = |tools: Value, arguments: Value| {
        let talk = Talk { tools: Some(&tools), arguments: arguments.as_object(), ..talk(&user) };
        chat.render(&talk, false).map(|rendered| rendered.text)
    };
    assert_eq!(render(json!("[{\"name\": \"t\"}]"), json!({"thinking": false})), Ok("False|1|None|<s>".into()));
    assert_eq!(render(json!([]), json!({"bos_token": "<x>"})), Ok("|0|None|<x>".into()));
    let why = render(json!([]), json!({"messages": []})).unwrap_err();
    assert_eq!(why, "`chat_template_kwargs` has `messages`, which has a key of its own in the row");
    assert_eq!(render(json!([1]), json!({})).unwrap_err(), "`tools` must be a list of objects");
    assert!(render(json!("["), json!({})).unwrap_err().starts_with("`tools` is a text that is not valid JSON ("));
}

/// The answers of a conversation of these roles and contents.
fn answers(source: &str, turns: &[(&str, &str)]) -> Made<Vec<String>> {
    let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let chat = chat(source);
    let whole = chat.render(&talk(&messages), false)?;
    let learned: Vec<usize> = (0..turns.len()).filter(|&at| turns[at].0 == "assistant").collect();
    let found = chat.answers(&talk(&messages), &whole, &learned, usize::MAX)?;
    assert_eq!(found.places.iter().map(|(at, _)| *at).collect::<Vec<_>>(), learned);
    Ok(found.places.into_iter().map(|(_, place)| whole.text[place].to_string()).collect())
}

#[test]
fn answers_are_found_with_their_ends() {
    let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}\n{% endfor %}\
                 {% if add_generation_prompt %}<assistant>{% endif %}";
    // reads the first message, so that the empty conversation cannot be rendered
    let strict = format!("{{% if messages[0].role == 'x' %}}{{% endif %}}{plain}");
    // opens an answer with an empty thought, which earlier answers lack
    let thought = plain.replace("<assistant>{% endif %}", "<assistant><think></think>{% endif %}");
    let end = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}\
               {% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}";
    let last = "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last else m.content.split('</think>')[-1] }}\
                {{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let asks = "{% for m in messages %}<{{ m.role }}>{% if m.content %}{{ m.content|trim }}{% endif %}<end>{% endfor %}\
                {% if add_generation_prompt %}<assistant>{% endif %}";
    for (source, turns, expected) in [
        (plain, vec![("user", "a"), ("assistant", "b"), ("assistant", " c ")], vec!["b</s>", " c </s>"]),
        (plain, vec![("assistant", "a"), ("user", "a"), ("assistant", "a")], vec!["a</s>", "a</s>"]),
        (&strict, vec![("assistant", "a"), ("user", "u")], vec!["a</s>"]),
        (end, vec![("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")], vec!["b<end>", "d<end></s>"]),
        (
            last,
            vec![("user", "a"), ("assistant", "x</think>b"), ("user", "c"), ("assistant", "y</think>d")],
            vec!["b</s>", "y</think>d</s>"],
        ),
        (asks, vec![("user", "a"), ("assistant", ""), ("user", "c"), ("assistant", "\n")], vec!["<end>", "<end>"]),
        (plain, vec![("user", "<assistant>"), ("assistant", "<assistant>")], vec!["<assistant></s>"]),
        (
            &thought,
            vec![("user", "a"), ("assistant", "<b>"), ("user", "c"), ("assistant", "d")],
            vec!["<b></s>", "d</s>"],
        ),
    ] {
        assert_eq!(answers(source, &turns), Ok(expected.into_iter().map(String::from).collect()), "{turns:?}");
    }
}

/// The system's text moves to the last question, so that the conversation before an answer is written in another way;
/// a call is written with text of its own around its name.
#[test]
fn an_answer_begins_where_the_message_before_it_ends() {
    let source = "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST] \
                  {% if loop.last %}{{ messages[0].content }} {% endif %}{{ m.content }}[/INST]{% elif m.tool_calls %}\
                  [CALLS] {{ m.tool_calls | tojson }}</s>{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}";
    let call = json!([{"name": "f"}]);
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    for more in [vec![], vec![turn("user", "v"), turn("assistant", "w")]] {
        let calls = json!({"role": "assistant", "tool_calls": call});
        let messages = [vec![turn("system", "s"), turn("user", "u "), calls], more].concat();
        let chat = chat(source);
        let whole = chat.render(&talk(&messages), false).unwrap();
        let found = chat.answers(&talk(&messages), &whole, &[2], usize::MAX).unwrap();
        assert_eq!(&whole.text[found.places[0].1.clone()], "[CALLS] [{\"name\": \"f\"}]</s>");
    }
}

#[test]
fn answers_that_are_rewritten_are_told() {
    let source =
        "{% for m in messages %}<{{ m.role }}>{% if loop.last %}{{ m.thinking }}{% endif %}{{ m.content }}{% endfor %}";
    let turn = |role: &str| json!({"role": role, "content": "c", "thinking": "t"});
    for (roles, rewritten) in [(vec!["user", "assistant"], false), (vec!["user", "assistant", "user"], true)] {
        let messages: Vec<Value> = roles.into_iter().map(turn).collect();
        let chat = chat(source);
        let whole = chat.render(&talk(&messages), false).unwrap();
        assert_eq!(chat.answers(&talk(&messages), &whole, &[1], usize::MAX).unwrap().rewritten, rewritten);
    }
}

#[test]
fn what_has_no_place_is_refused() {
    // every character is written apart, so that marks are
    let apart = "{% for m in messages %}{% for c in m.content %}{{ c }}-{% endfor %}{{ messages|length }}{% endfor %}";
    let why = answers(apart, &[("user", "a"), ("assistant", "b"), ("user", "c")]).unwrap_err();
    assert!(why.starts_with("the chat template writes the conversation up to `messages`[1] in another way"), "{why}");
    let twice = "{% generation %}a{% endgeneration %}{% generation %}b{% endgeneration %}";
    let why = answers(twice, &[("user", "a"), ("assistant", "b")]).unwrap_err();
    assert!(
        why.starts_with("the chat template marks 2 stretches as generated, and the conversation has 1 answers"),
        "{why}"
    );
}
