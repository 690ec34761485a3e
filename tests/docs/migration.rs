//! Every key that docs/migration.md names exists, and every choice that it gives a key.

use eyekern::train::recipe;

const PAGE: &str = include_str!("../../docs/migration.md");

#[test]
fn every_key_exists_and_takes_the_value() {
    let sections: Vec<_> = recipe::keys().map(|k| k.section).collect();
    let quoted = PAGE.split('`').skip(1).step_by(2);
    let named: Vec<_> = quoted.filter(|code| sections.iter().any(|s| code.starts_with(&format!("{s}.")))).collect();
    assert!(named.len() > 50, "the page names {} keys", named.len());
    for code in named {
        let (name, value) = code.split_once(" = ").map_or((code, None), |(name, value)| (name, Some(value)));
        let key = recipe::keys().find(|k| format!("{}.{}", k.section, k.name) == name);
        let key = key.unwrap_or_else(|| panic!("docs/migration.md names `{name}`, which is no key"));
        if let Some(value) = value {
            let set = [format!("{name}={value}")];
            let taken = recipe::Recipe::layered(None, [].into_iter(), &set);
            taken.unwrap_or_else(|e| panic!("docs/migration.md: `{code}`: {e}; it takes {}", key.accepts));
        }
    }
}
