//! Templates against what transformers made of them (`tests/fixtures/make_jinja.py`).

use super::*;
use serde_json::Value;

fn render(source: &str, variables: &Variables) -> Result<String, String> {
    let date = "2026-11-30".parse().unwrap();
    Ok(Template::new(source)?.render(variables, date)?.text)
}

#[test]
fn templates_give_the_texts_of_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../../../tests/fixtures/jinja.json")).unwrap();
    let given = fixture["variables"].as_object().unwrap();
    let mut variables = Variables::new(given.iter().map(|(name, value)| (name.as_str(), value))).unwrap();
    for (name, value) in [
        ("messages", fixture["variables"]["rows"].clone()),
        ("tools", Value::Null),
        ("documents", Value::Null),
        ("add_generation_prompt", false.into()),
        ("bos_token", "<s>".into()),
        ("eos_token", "</s>".into()),
    ] {
        variables.set(name, &value).unwrap();
    }
    let mut wrong = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let source = case["source"].as_str().unwrap();
        let text = render(source, &variables);
        match (&text, case["text"].as_str()) {
            (Ok(ours), Some(theirs)) if ours == theirs => {}
            (Err(_), None) => {}
            (_, theirs) => wrong.push(format!("{source}\n  theirs {theirs:?} {}\n  ours   {text:?}", case["why"])),
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// What a template may not do without an end: it has to fail, soon and with a sentence.
#[test]
fn hostile_templates_end_in_a_sentence() {
    let variables = Variables::new([("m", &serde_json::json!({"y": {}, "s": "a"}))]).unwrap();
    let repeated =
        |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(50_000), close.repeat(50_000));
    let chain = |link: &str| format!("{{{{ m{} }}}}", link.repeat(50_000));
    for source in [
        chain(".y"),
        chain("['y']"),
        chain("|string"),
        chain("()"),
        chain(" + 1"),
        chain(" is defined"),
        chain(" if m"),
        format!("{{{{ {}m }}}}", "not ".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(50_000)),
        repeated("{{ (", "1", ")"),
        repeated("{{ [", "1", "]"),
        repeated("{{ {1:", "1", "}"),
        repeated("{% if m %}", "", "{% endif %}"),
        repeated("{% for x in m %}", "", "{% endfor %}"),
        "{{ 'a' * 100000000000 }}".into(),
        "{{ ('a' * 1000000) * 1000000 }}".into(),
        "{{ [0] * 100000000000 }}".into(),
        "{{ 'a'.center(100000000000) }}".into(),
        "{{ '%999999999s' % 'a' }}".into(),
        "{{ '{:999999999}'.format(1) }}".into(),
        "{{ ' '|indent(999999999) }}".into(),
        "{{ m|tojson(indent=999999999) }}".into(),
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}".into(),
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}".into(),
        "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}".into(),
        "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = (n.s, n.s)|join %}{% endfor %}".into(),
        "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l] %}{% endfor %}{{ n.l }}".into(),
        "{% set n = namespace(l={}) %}{% for i in range(99999) %}{% set n.l = {1: n.l} %}{% endfor %}{{ n.l }}".into(),
        "{% set n = namespace() %}{% set n.n = [n] %}{% for i in range(400) %}{% set n.l = [n.l] %}{% endfor %}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f(n) %}{{ n }}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".into(),
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".into(),
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}".into(),
        "{{ (range(500)|list + ['a', none] * 300 + range(500)|list)|sort }}".into(),
        "{{ (['nan'|float, 1.0, 0.5] * 300)|sort }}".into(),
        "{{ 2 ** 999999999 }}".into(),
        "{{ 9 ** 9 ** 9 }}".into(),
        "{{ range(-9223372036854775808, 9223372036854775807)|list }}".into(),
        "{{ 'a'[99999999999999999999999999999999999999:] * 2 ~ 99999999999999999999999999999999999999999999 }}".into(),
    ] {
        let shown: String = source.chars().take(60).collect();
        let why = render(&source, &variables).expect_err(&shown);
        assert!(why.starts_with("line 1: ") && why.len() < 300, "{shown}: {why}");
    }
    // long, but flat
    for (source, length) in [
        (format!("{{{{ m.s{} }}}}", " ~ 'b'".repeat(50_000)), 50_001),
        (format!("{{{{ x{} }}}}", " or x".repeat(50_000)), 0),
        (format!("{{% if m.x %}}a{}{{% endif %}}", "{% elif m.x %}b".repeat(50_000)), 0),
        ("{{ m.s }}".repeat(50_000), 50_000),
    ] {
        assert_eq!(render(&source, &variables).map(|text| text.len()), Ok(length));
    }
}

#[test]
fn a_fault_names_its_line() {
    let variables = Variables::new([]).unwrap();
    for (source, why) in [
        ("a\n{{ x.y }}", "line 2: `x` is undefined"),
        ("{% if true %}\n\n{{ raise_exception('no') }}{% endif %}", "line 3: it refuses: no"),
        ("{{ 1 }}\n{% nothing %}", "line 2: unknown tag `nothing`"),
        ("{% include 'x' %}", "line 1: the tag `include` is not supported"),
        ("{{ 'a'|groupby('b') }}", "line 1: the filter `groupby` is not supported"),
        ("{{ joiner() }}", "line 1: the function `joiner` is not supported"),
        ("{% for x in [1] %}\n{{ x.append(1) }}{% endfor %}", "line 2: a value of type int has no attribute `append`"),
        ("{{ [1].append(1) }}", "line 1: `append` of a value of type list is not supported"),
        ("{{ strftime_now('%Q') }}", "line 1: `strftime_now` with `%Q` is not supported"),
    ] {
        assert_eq!(render(source, &variables).unwrap_err(), why, "{source}");
    }
}

#[test]
fn dates_are_those_of_python() {
    let variables = Variables::new([]).unwrap();
    let format = "{{ strftime_now('%Y %y %m %d %e %j %B %b %A %a %w %u %H:%M:%S %I%p %-d %-m %F %D %%') }}";
    // datetime(year, month, day).strftime(format)
    for (day, text) in [
        ("2026-11-30", "2026 26 11 30 30 334 November Nov Monday Mon 1 1 00:00:00 12AM 30 11 2026-11-30 11/30/26 %"),
        ("2024-02-29", "2024 24 02 29 29 060 February Feb Thursday Thu 4 4 00:00:00 12AM 29 2 2024-02-29 02/29/24 %"),
        ("2000-03-05", "2000 00 03 05  5 065 March Mar Sunday Sun 0 7 00:00:00 12AM 5 3 2000-03-05 03/05/00 %"),
    ] {
        let made = Template::new(format).unwrap().render(&variables, day.parse().unwrap()).unwrap();
        assert_eq!(made.text, text);
    }
    for wrong in ["2026-02-29", "2026-13-01", "2026-1-1", "today", "", "0000-01-01", "2026-11-30 "] {
        assert!(wrong.parse::<Date>().is_err(), "{wrong}");
    }
    let today = Date::today().to_string();
    assert!(today.as_str() > "2026-11-01" && today.parse::<Date>().is_ok(), "{today}");
}
