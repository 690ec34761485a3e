//! Rows of `messages` by the command: which files they need, what is recorded of them, what is refused.

use super::*;
use serde_json::json;

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " = 1;"}]}"#;
const TEMPLATE: &str = "{% for m in messages %}{{ bos_token }}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}{{ bos_token }}<assistant>{% endif %}";

/// A model with this chat template, and conversations to train on.
fn case(template: &str) -> Case {
    let case = Case::text();
    case.write("model/chat_template.jinja", template);
    case.write("chat.jsonl", format!("{CHAT}\n").repeat(8));
    case
}

fn set(case: &Case, key: &str, value: Value) {
    let mut config = case.json("model/tokenizer_config.json");
    config[key] = value;
    case.write("model/tokenizer_config.json", config.to_string());
}

#[test]
fn only_the_rows_that_need_a_template_read_it() {
    let case = case("{% generation %}{{ messages[0].content }}{% endgeneration %}{% nothing %}");
    case.train(&["train.output_dir=plain"]).noted();
    let made = case.run(&["generate", "--model", "model", "--prompt", "int", "--max-new-tokens", "1"], &[]);
    made.noted();
    case.train(&["data.train_file=chat.jsonl"]).refused(
        3,
        "chat.jsonl:1: ./model/chat_template.jinja: the chat template cannot be read (line 1: unknown tag `nothing`); \
         rows of `prompt` and `completion` need none",
    );
}

#[test]
fn a_template_without_an_end_is_stopped() {
    let case = case("{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}");
    case.train(&["data.train_file=chat.jsonl"]).refused(
        3,
        "chat.jsonl:1: the chat template fails on `messages` (line 1: it makes more text than any conversation needs); \
         change the row or the template, or give `segments` instead",
    );
}

#[test]
fn a_resumed_run_needs_the_same_rows() {
    let case = case(TEMPLATE);
    set(&case, "bos_token", json!("int"));
    let run = ["data.train_file=chat.jsonl", "train.max_steps=4", "train.save_steps=2"];
    case.train(&run).noted();
    std::fs::remove_dir_all(case.path("out/checkpoint-4")).expect("removes");
    let resume = |more: &[&str]| {
        let sets = run.iter().chain(more).flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["train", "recipe.toml", "--resume", "auto"].into_iter().chain(sets).collect();
        case.run(&args, &[])
    };
    // a file that changes no row is no other run
    set(&case, "pad_token", json!("public"));
    case.write("model/special_tokens_map.json", "{}");
    assert_eq!(resume(&[]).noted().1.last().map(String::as_str), Some("going on from out/checkpoint-2, after step 2"));
    std::fs::remove_dir_all(case.path("out/checkpoint-4")).expect("removes");
    set(&case, "bos_token", json!("public"));
    let ran = resume(&[]);
    assert_eq!(ran.code, Some(3));
    let why = "eyekern: out/checkpoint-2: is of another run: data.rows was blake3 ";
    assert!(ran.stderr.contains(why) && ran.stderr.contains("put that back"), "{}", ran.stderr);
}

#[test]
fn a_resumed_run_writes_the_date_of_the_first() {
    let case = case("{{ strftime_now('%d %B %Y') }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
    let run = ["data.train_file=chat.jsonl", "train.max_steps=4", "train.save_steps=2"];
    case.train(&[&run[..], &["data.chat_date=2024-02-29"]].concat()).noted();
    std::fs::remove_dir_all(case.path("out/checkpoint-4")).expect("removes");
    let resume = |more: &[&str]| {
        let sets = run.iter().chain(more).flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["train", "recipe.toml", "--resume", "auto"].into_iter().chain(sets).collect();
        case.run(&args, &[])
    };
    resume(&[]).noted();
    std::fs::remove_dir_all(case.path("out/checkpoint-4")).expect("removes");
    let ran = resume(&["data.chat_date=2024-03-01"]);
    let why = "data.chat_date was \"2024-02-29\" and is \"2024-03-01\"";
    assert!(ran.code == Some(3) && ran.stderr.contains(why), "{}", ran.stderr);
    case.train(&["data.chat_date=yesterday"])
        .refused(2, "--set: data.chat_date = yesterday: expected a date such as \"2026-11-30\", or \"\" for none");
}

#[test]
fn named_templates_are_saved_beside_the_result() {
    let case = case(TEMPLATE);
    std::fs::create_dir(case.path("model/additional_chat_templates")).expect("creates");
    case.write("model/additional_chat_templates/tool_use.jinja", format!("{{{{ tools|tojson }}}}{TEMPLATE}"));
    case.train(&["data.train_file=chat.jsonl"]).noted();
    for file in ["chat_template.jinja", "additional_chat_templates/tool_use.jinja"] {
        assert_eq!(case.read(&format!("out/{file}")), case.read(&format!("model/{file}")), "{file}");
    }
}
