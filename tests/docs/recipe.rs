//! docs/recipe.md lists every key of a recipe as the program has it.
//!
//! `EYEKERN_WRITE_DOCS=1` writes the tables anew, for a person to look at and commit; text between the tables stays.

use eyekern::train::recipe::{self, Key};
use std::fmt::Write;
use std::path::Path;

const END: &str = "<!-- /keys -->";

/// The table of a section, as it stands between its marks.
fn table(section: &str) -> String {
    let mut table = "\n| key | accepts | default | meaning |\n|---|---|---|---|\n".to_string();
    for Key { name, accepts, default, doc, choices, .. } in recipe::keys().filter(|k| k.section == section) {
        let default = if default == "\"\"" { "unset".into() } else { format!("`{default}`") };
        let mut meaning = doc.to_string();
        for (choice, doc) in choices.iter().filter(|(_, doc)| !doc.is_empty()) {
            write!(meaning, "<br>`{choice}`: {doc}").expect("a string");
        }
        writeln!(table, "| `{name}` | {accepts} | {default} | {} |", meaning.replace('|', "\\|")).expect("a string");
    }
    table
}

/// The sections in the order of the recipe.
fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = recipe::keys().map(|k| k.section).collect();
    sections.dedup();
    sections
}

/// The page with the tables of the program.
fn written(page: &str) -> String {
    let mut rest = page;
    let mut whole = String::new();
    for section in sections() {
        let mark = format!("<!-- keys: {section} -->\n");
        let (before, after) = rest.split_once(&mark).unwrap_or_else(|| panic!("{mark:?} is missing, or out of order"));
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("{END:?} is missing behind {mark:?}"));
        whole += &format!("{before}{mark}{}\n{END}", table(section));
        rest = after;
    }
    assert!(!rest.contains("<!-- keys:"), "a table of no section:{rest}");
    whole + rest
}

#[test]
fn every_key_is_on_the_page_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipe.md");
    let page = std::fs::read_to_string(&file).expect("docs/recipe.md");
    let expected = written(&page);
    if std::env::var("EYEKERN_WRITE_DOCS").is_ok_and(|v| v == "1") {
        std::fs::write(&file, expected).expect("writes");
        return;
    }
    for (line, (is, should)) in page.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "docs/recipe.md:{}: write the tables anew with EYEKERN_WRITE_DOCS=1", line + 1);
    }
    assert_eq!(page, expected, "docs/recipe.md: write the tables anew with EYEKERN_WRITE_DOCS=1");
}
