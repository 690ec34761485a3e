//! `eyekern priors`: what it prints and draws, and what it refuses.

use super::*;

fn show(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["priors", "show"], args].concat(), &[])
}

/// The line of the table that begins with this id and label.
fn row(text: &str, start: &str) -> String {
    text.lines().find(|l| l.trim_start().starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}")).to_string()
}

#[test]
fn the_published_priors_as_text() {
    let case = Case::empty();
    let text = show(&case, &[]).trained();
    assert!(text.starts_with("Priors of human attention: combined\nsource   EyeMulator artifact"), "{text}");
    assert!(text.contains("licence CC-BY-4.0"));
    assert!(text.contains("n-grams  without order: a \u{b7} b counts both directions"));
    let function = row(&text, "10  function declaration ");
    let words: Vec<&str> = function.split_whitespace().collect();
    assert_eq!(words[3..8], ["2899", "4485", "2900", "1587", "0.6463"], "{function}");
    assert_eq!(
        row(&text, "aggregate").split_whitespace().collect::<Vec<_>>()[..6],
        ["aggregate", "21918", "62280", "21937", "40381", "0.3520"]
    );
    let bigram = row(&text, "8399 ");
    assert_eq!(bigram, "    8399     0.1107  function declaration \u{b7} variable declaration");
    assert_eq!(text.lines().filter(|l| l.contains(" \u{b7} ")).count(), 1 + 2 * 12);
    let text = show(&case, &["--condition", "writing", "--top", "3"]).trained();
    assert!(row(&text, "11  index operation").ends_with("never shown"));
    assert_eq!(text.lines().filter(|l| l.contains(" \u{b7} ")).count(), 1 + 2 * 3);
}

#[test]
fn the_published_priors_as_json_with_a_picture() {
    let case = Case::empty();
    let text = show(&case, &["--condition", "reading", "--format", "json", "--svg", "p.svg"]).trained();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&all["condition"], &all["ordered"]), (&Value::from("reading"), &Value::from(false)));
    assert_eq!(all["labels"].as_array().map(Vec::len), Some(19));
    let first = &all["labels"][0];
    for key in ["id", "label", "c1", "ntok", "mono", "alpha", "beta", "mean", "interval"] {
        assert!(first.get(key).is_some_and(|v| !v.is_null()), "{key} of {first}");
    }
    let n = |key: &str| first[key].as_u64().expect(key);
    assert_eq!((n("alpha"), n("beta")), (n("c1") + 1, n("ntok") - n("c1") + 1));
    let bigram = &all["bigrams"][0];
    let count = bigram["count"].as_f64().expect("a count");
    assert!((bigram["rarity"].as_f64().expect("a number") - 1.0 / (count + 2.0).ln()).abs() < 1e-12);
    assert_eq!(bigram["ids"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["aggregate"]["alpha"].as_u64().map(|a| a > 10_000), Some(true));

    let svg = String::from_utf8(case.read("p.svg")).expect("UTF-8");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for part in
        ["Priors of human attention: reading", "aggregate of all labels", "externally defined variable or function"]
    {
        assert!(svg.contains(part), "{part}");
    }
    // a ridge for each label and one for all of them
    assert_eq!(svg.matches("<polygon").count(), 20);
}

#[test]
fn priors_that_are_not_there_are_refused() {
    let case = Case::empty();
    let known = "use one of reading, writing, combined";
    let unknown = format!("no built-in priors for condition \"skimming\": {known}");
    show(&case, &["--condition", "skimming"]).refused(2, &unknown);
    show(&case, &["--priors", "p.json"]).refused(3, "p.json: cannot read: No such file or directory (os error 2)");
    case.write("p.json", "{\"format\": \"gaze\", \"version\": 1}");
    let other =
        "p.json: its format is \"gaze\", not \"eyekern priors\"; `eyekern priors build` writes a file of priors";
    show(&case, &["--priors", "p.json"]).refused(3, other);
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join("priors.json");
    let text = std::fs::read_to_string(assets).expect("the built-in priors");
    case.write("p.json", &text);
    let over = "--svg ./p.json: the command reads this file, and would write over it; name another";
    show(&case, &["--priors", "p.json", "--condition", "writing", "--svg", "./p.json"]).refused(2, over);
    let several = "p.json: it holds several conditions; name one of combined, reading, writing";
    show(&case, &["--priors", "p.json"]).refused(3, several);
    assert!(show(&case, &["--priors", "p.json", "--condition", "writing"]).trained().contains(": writing\n"));
    let spoilt = text.replacen("\"c1\": ", "\"c1\": -", 1);
    assert_ne!(spoilt, text);
    case.write("p.json", &spoilt);
    let negative = "p.json: condition \"reading\": c1 of label `argument` is -";
    let ran = show(&case, &["--priors", "p.json", "--condition", "reading"]);
    assert!(ran.stderr.contains(negative) && ran.stderr.ends_with("but a count cannot be negative; count again\n"));
    assert_eq!(ran.code, Some(3));
    show(&case, &["--svg", "none/p.svg"])
        .refused(3, "none/p.svg.partial: cannot write: No such file or directory (os error 2)");
}
