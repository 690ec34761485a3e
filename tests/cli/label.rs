//! `eyekern label`: what it prints and what it refuses. The labels themselves are tested in tests/labels.

use super::*;

const JAVA: &str = "int twice(int n) {\n    return 2 * n;\n}\n";

fn label(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["label"], args].concat(), &[])
}

#[test]
fn a_file_one_token_a_line() {
    let case = Case::empty();
    case.write("A.java", JAVA);
    let text = label(&case, &["A.java"]).trained();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["1", "0..3", "function", "declaration", "int"]);
    assert_eq!(rows[2], ["1", "10..13", "parameter", "int"]);
    assert_eq!(rows[4], ["2", "23..29", "return", "return"]);
    assert_eq!(rows.len(), 8);
}

#[test]
fn rows_give_one_object_each() {
    let case = Case::empty();
    let row = |code: &str, lang: Option<&str>| serde_json::json!({ "snippet": code, "lang": lang }).to_string() + "\n";
    case.write("rows.jsonl", row(JAVA, None) + "\n" + &row("f(y)\n", Some("python")));
    let text = label(&case, &["--jsonl", "rows.jsonl", "--field", "snippet"]).trained();
    // the mark of some editors and their line ends say nothing, as in training
    case.write("marked.jsonl", format!("\u{feff}{}", row(JAVA, None).replace('\n', "\r\n")));
    let marked = label(&case, &["--jsonl", "marked.jsonl", "--field", "snippet"]).trained();
    assert_eq!(Some(marked.trim_end()), text.lines().next());
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["tokens"], serde_json::json!(["int", "twice", "int", "n", "return", "2", "*", "n"]));
    assert_eq!(rows[0]["labels"], serde_json::json!([10, 10, 16, 16, 17, 17, 17, 17]));
    assert_eq!(rows[0]["starts"], serde_json::json!([0, 4, 10, 14, 23, 30, 32, 34]));
    assert_eq!(rows[0]["ends"], serde_json::json!([3, 9, 13, 15, 29, 31, 33, 35]));
    assert_eq!(rows[0]["lines"], serde_json::json!([0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(rows[0]["label_names"][2], "parameter");
    let tokens: Vec<&str> = rows[1]["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
    let f = tokens.iter().position(|t| *t == "f").expect("f is a token");
    assert_eq!(rows[1]["label_names"][f], "function call");
}

#[test]
fn the_published_listing_has_its_own_lines() {
    let case = Case::empty();
    case.write("A.java", JAVA);
    let text = label(&case, &["A.java", "--format", "jsonl", "--compat", "artifact"]).trained();
    let row: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(row["lines"], serde_json::json!([0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(row["file"], "A.java");
}

#[test]
fn bad_input_is_one_sentence() {
    let case = Case::empty();
    case.write("a.txt", "x");
    case.write("rows.jsonl", "{\"text\": \"int x;\", \"number\": 1}\n");
    case.write("broken.jsonl", "{\"code\": \n");
    label(&case, &[]).refused(2, "nothing to label: give a file, or rows with --jsonl ROWS.jsonl");
    let names = "java, c-sharp, python, javascript, typescript, go, c, cpp, rust";
    let unknown = format!("a.txt: no language is known by this extension; name one of {names}");
    label(&case, &["a.txt"]).refused(3, &unknown);
    label(&case, &["a.txt", "--lang", "cobol"]).refused(2, &format!("unknown language \"cobol\": one of {names}"));
    let missing = "none.java: cannot read: No such file or directory (os error 2)";
    label(&case, &["none.java"]).refused(3, missing);
    let no_code = "rows.jsonl:1: this row has no text `code`; name the key of the code with --field";
    label(&case, &["--jsonl", "rows.jsonl"]).refused(3, no_code);
    let no_text = "rows.jsonl:1: this row has no text `number`; name the key of the code with --field";
    label(&case, &["--jsonl", "rows.jsonl", "--field", "number"]).refused(3, no_text);
    case.write("lang.jsonl", "\n{\"code\": \"f()\", \"lang\": \"cobol\"}\n");
    let lang = format!("lang.jsonl:2: unknown language \"cobol\": one of {names}");
    label(&case, &["--jsonl", "lang.jsonl"]).refused(3, &lang);
    case.write("lang.jsonl", "{\"code\": \"f()\", \"lang\": 3}\n");
    label(&case, &["--jsonl", "lang.jsonl"]).refused(3, "lang.jsonl:1: `lang` is 3, not the name of a language");
    std::fs::create_dir(case.path("src.java")).expect("creates");
    label(&case, &["src.java"]).refused(3, "src.java: cannot read: Is a directory (os error 21)");
    case.write("wide.cs", b"\xff\xfei\0n\0t\0".as_slice());
    let wide = "wide.cs: this is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)";
    label(&case, &["wide.cs"]).refused(3, wide);
    case.write("angles.java", "a<".repeat(5000));
    let angles = "angles.java: 10000 bytes do not parse as java in reasonable time: is the language right?";
    label(&case, &["angles.java"]).refused(3, angles);
    let broken = "broken.jsonl:1: not valid JSON (EOF while parsing a value at column 9); each line must hold one \
                  whole object {...}";
    label(&case, &["--jsonl", "broken.jsonl"]).refused(3, broken);
}

/// A row without `lang` is read as Java and counted; so is a row that does not parse.
#[test]
fn rows_that_do_not_parse_or_name_no_language_are_noted() {
    let case = Case::empty();
    let python = "def area(w, h):\n    if w < 0:\n        raise ValueError(w)\n    return w";
    let rows = [
        serde_json::json!({"code": JAVA}),
        serde_json::json!({ "code": python }),
        serde_json::json!({"code": python, "lang": "python"}),
        serde_json::json!({"code": "@@ -1 +1 @@\n-int a;\n+int b;", "lang": "java"}),
    ];
    case.write("rows.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    let (_, notes) = label(&case, &["--jsonl", "rows.jsonl"]).noted();
    let start = "rows.jsonl: the code of 2 rows of 4 do not parse (first: row 2, as java; ";
    assert!(notes[0].starts_with(start), "{notes:?}");
    let remedy = "`lang` in the rows, or --lang";
    assert!(notes[0].ends_with(&format!("check the code, and name its language: {remedy}")), "{notes:?}");
    let assumed = format!("rows.jsonl: 2 rows of 4 name no language and are read as java; name it: {remedy}");
    assert_eq!(notes[1..], [assumed]);
    // named on the command line, no language is assumed
    let (_, notes) = label(&case, &["--jsonl", "rows.jsonl", "--lang", "python"]).noted();
    assert!(notes.len() == 1 && notes[0].contains("(first: row 1, as python; "), "{notes:?}");
}

/// Neither stops the labelling of the files beside it.
#[test]
fn empty_and_binary_files_are_noted() {
    let case = Case::empty();
    case.write("empty.java", "");
    case.write("A.java", JAVA);
    let ran = label(&case, &["empty.java", "A.java"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 8));
    assert_eq!(ran.stderr, "empty.java: contains no java token to label; is the file empty?\n");
    case.write("odd.java", b"int \xff\xfe x(\0{{{{ return".as_slice());
    let ran = label(&case, &["odd.java"]);
    assert!(ran.code == Some(0) && !ran.stdout.is_empty());
    let parse = "note: odd.java: does not parse as java (4 of 14 syntax nodes are errors); is --lang right?";
    assert_eq!(ran.stderr, format!("odd.java: contains zero bytes; is it a binary file?\n{parse}\n"));
    case.write("rows.jsonl", "{\"code\": \"f()\"}\n{\"code\": \" \"}\n");
    let ran = label(&case, &["--jsonl", "rows.jsonl"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2));
    let notes: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(notes[0], "rows.jsonl:2: `code` contains no java token to label");
    assert!(notes[1..].iter().all(|note| note.starts_with("note: rows.jsonl: ")), "{notes:?}");
}
