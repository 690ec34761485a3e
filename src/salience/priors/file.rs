//! Priors as JSON: the reader, which trusts nothing in the file, and the writer.
//!
//! ```json
//! {"format": "eyekern priors", "version": 1, "source": "who measured, licence", "ordered": true,
//!  "observed": [[1, 1], [1, 2, 3]],
//!  "conditions": {"reading": {
//!    "labels": [{"id": 1, "label": "argument", "c1": 595, "ntok": 1974, "mono": 1812}, "... 19 in all"],
//!    "bigrams": [[1, 2, 17]], "trigrams": [[1, 2, 3, 4]]}}}
//! ```
//!
//! n-grams are label ids; the last number of a counted n-gram is its count. `observed` lists the n-grams that a scan
//! path may contain; without it, those are the counted n-grams, which requires ordered counts. `built` may hold an
//! object that describes how the figures were made; it is kept and has no other effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::Label;
use super::{PLACES, Priors, labels_at, place};

const FORMAT: &str = "eyekern priors";
const VERSION: u64 = 1;
/// Counts are exact in a double, and sums of 20 of them fit into 64 bits.
const MOST: i64 = 1 << 53;

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    source: String,
    ordered: bool,
    observed: Option<Vec<Vec<i64>>>,
    built: Option<serde_json::Map<String, serde_json::Value>>,
    conditions: BTreeMap<String, Tables>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    labels: Vec<Row>,
    bigrams: Vec<[i64; 3]>,
    trigrams: Vec<[i64; 4]>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: i64,
    label: String,
    c1: i64,
    ntok: i64,
    mono: i64,
}

/// The priors of one condition; without a name, the file must have a single condition. The error is a sentence without
/// the file's name.
pub(super) fn parse(text: &[u8], condition: Option<&str>) -> Result<Priors, String> {
    let malformed = |e: serde_json::Error| format!("not a file of priors ({e}); `eyekern priors build` writes one");
    // The head is read first, so that the error for a file of another kind or a later version names that reason.
    let head: Head = serde_json::from_slice(text).map_err(malformed)?;
    if head.format != FORMAT {
        let found: String = head.format.chars().take(40).collect();
        return Err(format!("its format is {found:?}, not {FORMAT:?}; `eyekern priors build` writes a file of priors"));
    }
    if head.version != VERSION {
        let found = head.version;
        return Err(format!("version {found} of the format, but this eyekern reads version {VERSION}; update eyekern"));
    }
    let mut file: File = serde_json::from_slice(text).map_err(malformed)?;
    let names = file.conditions.keys().cloned().collect::<Vec<_>>().join(", ");
    let (name, tables) = match condition {
        Some(name) => file.conditions.remove_entry(name),
        None if file.conditions.len() > 1 => return Err(format!("it holds several conditions; name one of {names}")),
        None => file.conditions.pop_first(),
    }
    .ok_or_else(|| match condition {
        Some(name) if !names.is_empty() => format!("it has no condition {name:?}; name one of {names}"),
        _ => "it holds no condition; `eyekern priors build` writes a file of priors".to_string(),
    })?;

    let made = Priors::new(&name, &file.source);
    let mut priors = Priors { ordered: file.ordered, built: file.built, ..made };
    let within = |why: String| format!("condition {name:?}: {why}");
    read_labels(&mut priors, &tables.labels).map_err(within)?;
    for ngram in tables.bigrams.iter().map(|n| &n[..]).chain(tables.trigrams.iter().map(|n| &n[..])) {
        read_ngram(&mut priors, ngram, file.observed.is_none()).map_err(within)?;
    }
    match file.observed {
        Some(observed) => {
            for ids in &observed {
                let place = labels(ids).and_then(|ngram| place(&ngram));
                let place = place.ok_or_else(|| format!("`observed` lists {ids:?}, {OUTSIDE}"))?;
                priors.seen[place] = true;
            }
        }
        None if !file.ordered => {
            let why = "`observed` is missing; where `ordered` is false, list in it the n-grams that a path may contain";
            return Err(why.to_string());
        }
        None => {}
    }
    Ok(priors)
}

const OUTSIDE: &str = "which is not one to three label ids from 1 to 20 without 18 (`type` has no data); correct it";

fn read_labels(priors: &mut Priors, rows: &[Row]) -> Result<(), String> {
    let mut given = [false; 20];
    for row in rows {
        let Some(label) = Label::from_name(&row.label).filter(|&label| label != Label::Type) else {
            let shown: String = row.label.chars().take(40).collect();
            return Err(format!("{shown:?} is none of the 19 labels; spell it as `eyekern priors show` does"));
        };
        let name = label.name();
        if row.id != i64::from(label.id()) {
            // The published code decoded ids with another table; this check prevents a repetition.
            let why = format!("label `{name}` has id {}, but its n-grams must use {}", row.id, label.id());
            return Err(format!("{why}; renumber the file"));
        }
        if std::mem::replace(&mut given[label as usize - 1], true) {
            return Err(format!("label `{name}` is given twice; keep one entry"));
        }
        for (key, count) in [("c1", row.c1), ("ntok", row.ntok), ("mono", row.mono)] {
            natural(count).map_err(|why| format!("{key} of label `{name}` is {count}, {why}"))?;
        }
        if row.c1 > row.ntok {
            let (c1, ntok) = (row.c1, row.ntok);
            let why = format!("label `{name}` has c1 = {c1} above ntok = {ntok}");
            return Err(format!("{why}; c1 counts the tokens fixated at least once, not the fixations"));
        }
        let counts = &mut priors.labels[label as usize - 1];
        (counts.c1, counts.ntok, counts.mono) = (row.c1 as u64, row.ntok as u64, row.mono as u64);
        if let Some(place) = place(&[label]) {
            priors.freq[place] = counts.mono;
            priors.seen[place] = counts.mono > 0;
        }
    }
    match Label::ALL.into_iter().find(|&label| label != Label::Type && !given[label as usize - 1]) {
        Some(label) => {
            let why = format!("label `{}` is missing", label.name());
            Err(format!("{why}; give it c1 = 0, ntok = 0 and mono = 0 if it was never shown"))
        }
        None if rows.iter().all(|row| row.ntok == 0) => {
            Err("no label has a token shown (ntok is 0 throughout); check the recordings it was built from".into())
        }
        None => Ok(()),
    }
}

fn read_ngram(priors: &mut Priors, entry: &[i64], observed: bool) -> Result<(), String> {
    let Some((&count, ids)) = entry.split_last() else { return Ok(()) };
    let mut ngram = labels(ids).ok_or_else(|| format!("an n-gram is {ids:?}, {OUTSIDE}"))?;
    natural(count).map_err(|why| format!("the count of n-gram {ids:?} is {count}, {why}"))?;
    if !priors.ordered {
        ngram.sort_unstable();
    }
    let Some(place) = place(&ngram) else { return Ok(()) };
    if priors.freq[place] > 0 {
        let order = if priors.ordered { "" } else { ", with `ordered` false perhaps in another order" };
        return Err(format!("n-gram {ids:?} is counted twice{order}; add the counts up"));
    }
    priors.freq[place] = count as u64;
    priors.seen[place] |= observed && count > 0;
    Ok(())
}

fn natural(count: i64) -> Result<(), &'static str> {
    match count {
        i64::MIN..0 => Err("but a count cannot be negative; count again"),
        0..=MOST => Ok(()),
        _ => Err("more than can have been counted (2^53); count again"),
    }
}

fn labels(ids: &[i64]) -> Option<Vec<Label>> {
    let label = |&id: &i64| Label::from_id(u8::try_from(id).ok()?).filter(|&label| label != Label::Type);
    ids.iter().map(label).collect()
}

/// The text of a file with this one condition, with one list entry per line.
pub(super) fn write(priors: &Priors) -> String {
    let mut tables = Tables { labels: Vec::new(), bigrams: Vec::new(), trigrams: Vec::new() };
    for label in Label::ALL.into_iter().filter(|&label| label != Label::Type) {
        let counts = priors.counts(label);
        let [c1, ntok, mono] = [counts.c1, counts.ntok, counts.mono].map(|n| n as i64);
        tables.labels.push(Row { id: label.id().into(), label: label.name().into(), c1, ntok, mono });
    }
    let mut observed: Vec<Vec<u8>> = Vec::new();
    for at in 21..PLACES {
        let ids: Vec<u8> = labels_at(at).into_iter().map(Label::id).collect();
        let count = priors.freq[at] as i64;
        match ids[..] {
            [a, b] if count > 0 => tables.bigrams.push([a.into(), b.into(), count]),
            [a, b, c] if count > 0 => tables.trigrams.push([a.into(), b.into(), c.into(), count]),
            _ => {}
        }
        if priors.seen[at] {
            observed.push(ids);
        }
    }
    let Tables { labels, bigrams, trigrams } = tables;
    let head = format!(
        "\"format\": {},\n\"version\": {VERSION},\n\"source\": {},\n\"ordered\": {}",
        json(&FORMAT),
        json(&priors.source),
        priors.ordered
    );
    let tables = format!(
        "\"labels\": [\n{}\n],\n\"bigrams\": [\n{}\n],\n\"trigrams\": [\n{}\n]",
        rows(&labels),
        rows(&bigrams),
        rows(&trigrams)
    );
    let (observed, name) = (rows(&observed), json(&priors.condition));
    let built = priors.built.as_ref().map(|built| format!("\"built\": {},\n", pretty(built))).unwrap_or_default();
    format!("{{\n{head},\n{built}\"observed\": [\n{observed}\n],\n\"conditions\": {{{name}: {{\n{tables}\n}}}}\n}}\n")
}

/// JSON of plain numbers and strings, which cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn rows(values: &[impl Serialize]) -> String {
    values.iter().map(json).collect::<Vec<_>>().join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A small valid file, as a value to corrupt.
    fn good() -> Value {
        let labels: Vec<Value> = Label::ALL
            .iter()
            .filter(|&&label| label != Label::Type)
            .map(|l| json!({"id": l.id(), "label": l.name(), "c1": 1, "ntok": 4, "mono": 2}))
            .collect();
        json!({"format": FORMAT, "version": 1, "source": "a test", "ordered": true,
            "conditions": {"reading": {"labels": labels, "bigrams": [[1, 2, 3]], "trigrams": [[3, 2, 1, 5]]}}})
    }

    fn refusal(spoil: impl FnOnce(&mut Value)) -> String {
        let mut file = good();
        spoil(&mut file);
        let why = parse(file.to_string().as_bytes(), Some("reading")).expect_err("it was spoilt");
        assert!(why.len() < 240 && !why.contains('\n'), "{why}");
        why
    }

    #[test]
    fn what_is_right_is_read() {
        let priors = parse(good().to_string().as_bytes(), None).unwrap();
        let [a, b, c] = [1, 2, 3].map(|id| Label::from_id(id).unwrap());
        assert_eq!(priors.freq(&[a, b]), Some(3));
        assert_eq!(priors.freq(&[c, b, a]), Some(5));
        assert_eq!(priors.freq(&[b, a]), None);
        assert!(priors.valid(&[a, b]) && !priors.valid(&[b, a]) && priors.valid(&[c, b, a]));
    }

    #[test]
    fn wrong_labels_and_counts_are_refused_with_a_remedy() {
        fn row<'a>(file: &'a mut Value, at: usize, key: &str) -> &'a mut Value {
            &mut file["conditions"]["reading"]["labels"][at][key]
        }
        let why = refusal(|f| {
            f["conditions"]["reading"]["labels"].as_array_mut().unwrap().remove(12);
        });
        assert_eq!(
            why,
            "condition \"reading\": label `loop` is missing; give it c1 = 0, ntok = 0 and mono = 0 if it was never \
             shown"
        );
        let why = refusal(|f| *row(f, 12, "c1") = json!(-3));
        assert_eq!(why, "condition \"reading\": c1 of label `loop` is -3, but a count cannot be negative; count again");
        let why = refusal(|f| *row(f, 12, "c1") = json!(5));
        assert!(why.contains("label `loop` has c1 = 5 above ntok = 4; c1 counts the tokens fixated at least once"));
        assert!(refusal(|f| *row(f, 0, "mono") = json!(i64::MAX)).contains("2^53"));
        assert!(refusal(|f| *row(f, 0, "ntok") = json!(1.5)).contains("floating point"));
        assert!(
            refusal(|f| *row(f, 3, "id") = json!(9))
                .contains("`conditional block` has id 9, but its n-grams must use 4")
        );
        assert!(refusal(|f| *row(f, 3, "label") = json!("if")).contains("\"if\" is none of the 19 labels"));
        assert!(refusal(|f| *row(f, 3, "label") = json!("type")).contains("\"type\" is none of the 19 labels"));
        assert!(refusal(|f| *row(f, 3, "c1") = Value::Null).contains("invalid type: null"));
        let twice = |f: &mut Value| {
            let first = f["conditions"]["reading"]["labels"][0].clone();
            f["conditions"]["reading"]["labels"].as_array_mut().unwrap().push(first);
        };
        assert!(refusal(twice).contains("`argument` is given twice"));
        let unseen =
            |f: &mut Value| (0..19).for_each(|at| (*row(f, at, "c1"), *row(f, at, "ntok")) = (json!(0), json!(0)));
        assert!(refusal(unseen).contains("no label has a token shown"));
    }

    #[test]
    fn wrong_ngrams_are_refused() {
        let tables = |key: &'static str, value: Value| refusal(|f| f["conditions"]["reading"][key] = value);
        assert!(tables("bigrams", json!([[1, 21, 3]])).contains("an n-gram is [1, 21], which is not"));
        assert!(tables("bigrams", json!([[1, 18, 3]])).contains("`type` has no data"));
        assert!(tables("bigrams", json!([[1, 2, -3]])).contains("the count of n-gram [1, 2] is -3, but"));
        assert!(tables("bigrams", json!([[1, 2, 3], [1, 2, 3]])).contains("counted twice; add"));
        assert!(tables("trigrams", json!([[1, 2, 3]])).contains("not a file of priors"));
        assert!(
            refusal(|f| f["observed"] = json!([[1, 2, 3, 4]])).contains("`observed` lists [1, 2, 3, 4], which is not")
        );
        assert!(refusal(|f| f["observed"] = json!([[0]])).contains("`observed` lists [0]"));
        assert!(refusal(|f| f["ordered"] = json!(false)).contains("`observed` is missing"));
        let both_orders = |f: &mut Value| {
            (f["ordered"], f["observed"]) = (json!(false), json!([]));
            f["conditions"]["reading"]["bigrams"] = json!([[1, 2, 3], [2, 1, 3]]);
        };
        assert!(
            refusal(both_orders).contains("[2, 1] is counted twice, with `ordered` false perhaps in another order")
        );
    }

    #[test]
    fn other_files_and_conditions_are_refused() {
        assert!(refusal(|f| f["format"] = json!("gaze")).contains("its format is \"gaze\""));
        assert!(refusal(|f| f["version"] = json!(2)).contains("version 2 of the format"));
        assert!(refusal(|f| f["built"] = json!(3)).contains("expected a map"));
        assert!(refusal(|f| f["extra"] = json!(2)).contains("unknown field `extra`"));
        assert!(refusal(|f| f["conditions"] = json!({})).contains("it holds no condition"));
        let text = good().to_string();
        let why = parse(text.as_bytes(), Some("writing")).unwrap_err();
        assert_eq!(why, "it has no condition \"writing\"; name one of reading");
        let why = parse(super::super::BUILTIN.as_bytes(), None).unwrap_err();
        assert_eq!(why, "it holds several conditions; name one of combined, reading, writing");
        for bytes in [&b""[..], b"[]", b"{", b"\xff\xfe", b"{\"format\": 3}"] {
            assert!(parse(bytes, None).unwrap_err().starts_with("not a file of priors ("));
        }
        // truncated at any byte, it is an error and never a panic
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end], None).is_err());
        }
    }
}
