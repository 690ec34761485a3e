//! `eyekern inspect`: what it counts, shows and refuses. The counts one by one are tested in src/data/survey, the page
//! in a browser by tests/browser.

use super::*;

fn inspect(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["inspect"], args].concat(), &[])
}

fn row(code: &str, content: &str) -> String {
    serde_json::json!({"code": code, "content": content}).to_string() + "\n"
}

const JAVA: &str = "public int size() {\n    return count;\n}";
const CS: &str = "public int Size() {\n    return count;\n}";

/// The demo's tokenizer and three pairs: the third repeats the first.
fn pairs() -> Case {
    let case = Case::empty();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
        std::fs::copy(assets.join(name), case.path(name)).expect("copies");
    }
    case.write("d.jsonl", row(JAVA, CS) + &row("int twice(int n) { return 2 * n; }", "x") + &row(JAVA, CS));
    case
}

const TASK: [&str; 6] =
    ["--tokenizer", "tokenizer.json", "--set", "data.task=translation", "--set", "salience.condition=combined"];

fn json(case: &Case, args: &[&str]) -> Value {
    let text = inspect(case, &[args, &["--format", "json"]].concat()).trained();
    serde_json::from_str(&text).expect("one JSON object")
}

#[test]
fn the_summary_tells_defects_with_their_rows() {
    let case = pairs();
    let text = inspect(&case, &[&["d.jsonl"], &TASK[..]].concat()).trained();
    let line = |name: &str| {
        text.lines()
            .find(|l| l.get(2..).is_some_and(|l| l.starts_with(name)))
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!(line("rows"), "  rows              3 read, 3 kept");
    assert_eq!(line("truncated"), "  truncated         0 of 3 (0.0 %)");
    assert_eq!(
        line("duplicates"),
        "! duplicates        1 of 3 (33.3 %)  row 3 (= 1): same tokens and labels as the row in brackets, so they are \
         trained on twice (1 different row repeated)"
    );
    assert!(line("without EOS").starts_with("  without EOS       0 of 3 (0.0 %)"));
    assert!(
        text.contains(
            "weights drawn from combined priors, paper paths, target-ast; arm data, seed 42; task translation"
        )
    );
    assert!(text.contains("weights by label") && text.contains("  function declaration"));
    // shares of labels and n-grams are those of the JSON
    let json = json(&case, &[&["d.jsonl"], &TASK[..]].concat());
    assert_eq!((&json["rows"], &json["duplicates"]["count"]), (&3.into(), &1.into()));
    assert_eq!(json["duplicates"]["first"], serde_json::json!([{"row": 3, "like": 1}]));
    assert_eq!(json["longest"]["row"], 1);
    let labels = json["weights"]["by_label"].as_array().expect("labels");
    let tokens: u64 = labels.iter().filter_map(|label| label["tokens"].as_u64()).sum();
    assert_eq!(Some(tokens), json["supervised"].as_u64());
    let bins: u64 = labels.iter().flat_map(|l| l["bins"].as_array().expect("bins")).filter_map(Value::as_u64).sum();
    assert_eq!(bins, tokens);
    let n = &json["n_grams"];
    let of = |name: &str| n[name].as_u64().expect(name);
    assert_eq!(of("mono") + 2 * of("bi") + 3 * of("tri"), of("on_path"));
}

#[test]
fn code_that_does_not_parse_is_listed_with_its_language() {
    let case = pairs();
    let python = "def area(w, h):\n    if w < 0:\n        raise ValueError(w)\n    return w";
    let named = serde_json::json!({"code": python, "lang": "python"}).to_string() + "\n";
    let bare = |code: &str| serde_json::json!({ "code": code }).to_string() + "\n";
    case.write("d.jsonl", bare(JAVA) + &bare(python) + &named + &bare("Here it is:\n```java\nint a;\n```\nBye!"));
    let copy = ["d.jsonl", "--tokenizer", "tokenizer.json", "--set", "data.task=copy"];
    let drawn = [&copy[..], &["--set", "salience.condition=combined"]].concat();
    let text = inspect(&case, &drawn).trained();
    assert!(text.contains("\n! unparsed code     2 of 4 (50.0 %)  rows 2, 4: the code has syntax errors ("), "{text}");
    let language = "\n! language          java 3 (2 do not parse), python 1  3 of them name no language (`lang`, \
                    salience.source_lang), so the default java was taken\n";
    assert!(text.contains(language), "{text}");
    let found = json(&case, &drawn);
    assert_eq!(found["unparsed"], serde_json::json!({"count": 2, "first": [{"row": 2}, {"row": 4}]}));
    assert_eq!((&found["code"]["unparsed"], &found["code"]["assumed"]), (&2.into(), &3.into()));
    // without drawn weights no code is parsed
    let plain = json(&case, &copy);
    assert!(plain["unparsed"].is_null() && plain["code"].is_null());
    assert!(!inspect(&case, &copy).trained().contains("unparsed code"));
}

/// Weight and role of each subword are those that training has; the prompt has none.
#[test]
fn a_row_is_shown_with_its_weights() {
    let case = pairs();
    case.write(
        "w.jsonl",
        "{\"prompt\": \"int a;\", \"completion\": \"long b = a;\", \"weights\": [[0, 4, 2.5, true], [5, 6, 0.5]]}\n",
    );
    let text = inspect(&case, &["w.jsonl", "--tokenizer", "tokenizer.json"]).trained();
    let shown = "int a;long‹2.50*› b‹0.50› =‹1.00› a‹1.00›;‹1.00› [<|endoftext|>]‹1.00›\n";
    assert!(text.contains(shown), "{text}");
    assert!(
        text.contains("‹w› is the weight of the text before it, ‹w*› on the scan path; text without is not supervised")
    );
    assert!(!text.contains('\x1b'));
    let text = inspect(&case, &["w.jsonl", "--tokenizer", "tokenizer.json", "--set", "data.max_length=6"]).trained();
    assert!(text.contains("✂ 3 tokens cut off (data.max_length = 6)"), "{text}");
    assert!(text.contains("! truncated         1 of 1 (100.0 %)  row 1: longer than data.max_length = 6;"), "{text}");
}

#[test]
fn a_path_is_told_segment_by_segment() {
    let case = pairs();
    let text = inspect(&case, &[&["d.jsonl", "--row", "3"], &TASK[..]].concat()).trained();
    let (_, path) = text.split_once("Looked at: ").expect("a path");
    let title = path.lines().next().expect("a title");
    let number = |word: usize| title.split_whitespace().nth(word).and_then(|n| n.parse::<usize>().ok()).expect(title);
    let (on, segments) = (number(0), number(5));
    // every token on the path carries a raised number, every segment has a line
    let raised: Vec<char> = path.chars().filter(|c| "⁰¹²³⁴⁵⁶⁷⁸⁹".contains(*c)).collect();
    assert_eq!((on, raised.len()), (on, on), "{path}");
    let listed = path.lines().filter(|l| l.ends_with(" times)") || l.ends_with("(not counted)")).count();
    assert_eq!(listed, segments, "{path}");
    assert!(text.contains("Row 3  ") && !text.contains("Row 1  "));
}

#[test]
fn rows_are_chosen() {
    let case = pairs();
    let rows = |args: &[&str]| -> Vec<String> {
        let text = inspect(&case, &[&["d.jsonl", "--tokenizer", ".", "--set", "data.task=translation"], args].concat());
        text.trained().lines().filter_map(|l| l.strip_prefix("Row ")).map(|l| l[..1].to_string()).collect()
    };
    assert_eq!(rows(&[]), ["1"]);
    assert_eq!(rows(&["--row", "3,1"]), ["1", "3"]);
    assert_eq!(rows(&["--row", "2-3", "--row", "2"]), ["2", "3"]);
    assert_eq!(rows(&["--row", "2-99"]), ["2", "3"]);
}

#[test]
fn shared_rows_are_found_in_other_data_and_in_the_recipe() {
    let case = pairs();
    case.write("v.jsonl", row("int other;", "y") + &row(JAVA, "another"));
    let found = serde_json::json!([{"row": 1, "like": 2}, {"row": 3, "like": 2}]);
    let seen = json(&case, &[&["d.jsonl", "--against", "v.jsonl"], &TASK[..]].concat());
    assert_eq!((&seen["shared"]["inputs"]["first"], &seen["shared"]["pairs"]["count"]), (&found, &0.into()));
    case.write("r.toml", "[data]\ntrain_file = \"d.jsonl\"\nvalidation_file = \"v.jsonl\"\ntask = \"translation\"\n");
    let seen = json(&case, &["--recipe", "r.toml", "--tokenizer", "."]);
    assert_eq!(seen["shared"]["inputs"]["first"], found);
    // data that are named are not those of the recipe, and are compared with nothing
    let seen = json(&case, &["v.jsonl", "--recipe", "r.toml", "--tokenizer", "."]);
    assert_eq!((&seen["data"], &seen["shared"]), (&"v.jsonl".into(), &Value::Null));
    // two parallel files, twice
    case.write("a.java", "int a;\nint b;\n");
    case.write("a.cs", "int A;\nint B;\n");
    let two = ["a.java", "a.cs", "--against", "a.java", "--against", "a.cs"];
    let seen = json(&case, &[&two[..], &TASK[..]].concat());
    assert_eq!(seen["shared"]["pairs"]["count"], 2);
    assert_eq!(seen["shared"]["with"], "a.java + a.cs");
}

#[test]
fn a_page_is_written_whole_and_nothing_else() {
    let case = pairs();
    let hostile = "int x; // </script><img src=x onerror=alert(1)>";
    case.write("d.jsonl", row(JAVA, CS) + &row(hostile, hostile));
    let text = inspect(&case, &[&["d.jsonl", "--html", "p.html"], &TASK[..]].concat()).trained();
    assert!(text.ends_with("\nwrote p.html (2 rows)\n"), "{text}");
    assert!(text.contains("\nRow 1  ") && !text.contains("\nRow 2  "), "the terminal shows the first row alone");
    let page = String::from_utf8(case.read("p.html")).expect("UTF-8");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(!page.contains("<img") && page.contains("img"));
    for part in [
        "<title>eyekern inspect: d.jsonl</title>",
        "<b title=\"worth a look\">!</b> copies",
        "id=\"row-1\"",
        "id=\"row-2\"",
        "token id\t",
        "\nscan path\ton it, segment 1\nn-gram\tfunction declaration",
        " base + ",
        "class=\"t h0 end\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let text =
        inspect(&case, &[&["d.jsonl", "--html", "p.html", "--format", "json", "--row", "2"], &TASK[..]].concat());
    assert_eq!(text.trained().lines().count(), 1);
    let page = String::from_utf8(case.read("p.html")).expect("UTF-8");
    assert!(!page.contains("id=\"row-1\"") && page.contains("id=\"row-2\""));
}

/// A model's tokenizer and vocabulary, without its weights.
#[test]
fn a_model_is_only_asked_for_its_tokenizer() {
    let case = Case::text();
    std::fs::remove_file(case.path("model/model.safetensors")).expect("removes");
    let by_recipe = json(&case, &["--recipe", "recipe.toml"]);
    let by_model = json(&case, &["train.jsonl", "--model", "model"]);
    assert_eq!(by_recipe, by_model);
    assert_eq!(by_recipe["eos_rows"], 1);
    case.configure("model", "vocab_size", 100.into());
    let outside = inspect(&case, &["train.jsonl", "--model", "model"]);
    assert_eq!(outside.code, Some(3));
    assert!(outside.stderr.contains("is outside the model's vocabulary of 100"), "{}", outside.stderr);
    // rows of ids need no tokenizer; what they cannot tell without is said
    let case = Case::empty();
    case.write("ids.jsonl", id_rows());
    let text = inspect(&case, &["ids.jsonl"]).trained();
    assert!(text.contains("  without EOS       unknown  the id of EOS is unknown without a tokenizer"), "{text}");
    assert!(text.contains("3 8 13‹2.50›"), "{text}");
}

#[test]
fn bad_input_is_one_sentence() {
    let case = pairs();
    case.write("text.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    case.write("a.java", "int a;\n");
    case.write("a.cs", "int a;\n");
    let refused = |args: &[&str], code, message: &str| inspect(&case, args).refused(code, message);
    refused(&[], 2, "nothing to inspect: give a JSONL file, two parallel text files, or --recipe RECIPE.toml");
    let missing = "there is no such file; give the path of a JSONL file, or of two parallel text files";
    refused(&["none.jsonl"], 3, &format!("none.jsonl: {missing}"));
    refused(&["text.jsonl", "--against", "none.jsonl", "--tokenizer", "."], 3, &format!("none.jsonl: {missing}"));
    let needed = "the row is text and there is no tokenizer; put tokenizer.json beside the model, name one \
                  (model.tokenizer), or give `input_ids`";
    refused(&["text.jsonl"], 3, &format!("text.jsonl:1: {needed}"));
    let needed = "text needs a tokenizer: name one with --tokenizer FILE, or a model that has one with --model DIR";
    refused(&["a.java", "a.cs"], 2, needed);
    let absent = "there is no such file, and a tokenizer is needed; \
                  `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one";
    refused(&["text.jsonl", "--tokenizer", "no"], 3, &format!("no/tokenizer.json: {absent}"));
    let row = "--row: d.jsonl has no row on line 4; --row takes line numbers, from 1";
    refused(&["d.jsonl", "--row", "4", "--tokenizer", ".", "--set", "data.task=copy"], 2, row);
    let row = "--row: d.jsonl has no row on lines 7 to 9; --row takes line numbers, from 1";
    refused(&["d.jsonl", "--row", "1,7-9", "--tokenizer", ".", "--set", "data.task=copy"], 2, row);
    let many = "--row selects 501 rows, but at most 500 can be shown at once";
    refused(&["d.jsonl", "--row", "1-501", "--tokenizer", "."], 2, many);
    let page = "no/p.html.partial: cannot write: No such file or directory (os error 2)";
    refused(&["text.jsonl", "--tokenizer", ".", "--html", "no/p.html"], 3, page);
    let page = "--html ./d.jsonl: the command reads this file, and would write over it; name another";
    refused(&["d.jsonl", "--tokenizer", ".", "--html", "./d.jsonl"], 2, page);
    let thrice = "--against is given more than twice: once for a JSONL file, twice for two parallel files";
    let against = ["--against", "text.jsonl"].repeat(3);
    refused(&[&["d.jsonl", "--tokenizer", "."], &against[..]].concat(), 2, thrice);
    let key = "--set: unknown key salience.conditoin; did you mean salience.condition?";
    refused(&["d.jsonl", "--set", "salience.conditoin=combined"], 2, key);
    let condition =
        "recipe: salience.condition: no built-in priors for condition \"both\": use one of reading, writing, combined";
    let both = ["--set", "salience.condition=both", "--set", "data.task=copy"];
    refused(&[&["d.jsonl", "--tokenizer", "."], &both[..]].concat(), 2, condition);
    refused(
        &["d.jsonl", "--priors", "p.json", "--tokenizer", ".", "--set", "data.task=copy"],
        3,
        "p.json: cannot read: No such file or directory (os error 2)",
    );
    refused(
        &["d.jsonl", "--recipe", "no.toml"],
        2,
        "no.toml: cannot read the recipe: No such file or directory (os error 2)",
    );
    let usage = |args: &[&str], start: &str| {
        let ran = inspect(&case, args);
        assert!(ran.stderr.starts_with(&format!("eyekern: {start}")), "{}", ran.stderr);
        assert_eq!((ran.code, ran.touched), (Some(2), false));
    };
    usage(
        &["d.jsonl", "--row", "0"],
        "invalid value '0' for '--row <N,A-B>': give a line number from 1, or two as in 3-7",
    );
    usage(&["a", "b", "c"], "unexpected value 'c' for '[DATA]...' found; no more were expected");
}
