//! Metrics of text, against values of sacrebleu, rouge-score, NLTK and rapidfuzz.

use crate::support::trials::{Check, gate, trials};
use crate::support::{fixtures, json, num};
use eyekern::eval::metrics::clean::Clean;
use eyekern::eval::metrics::stem::stem;
use eyekern::eval::metrics::wordnet::WordNet;
use eyekern::eval::metrics::{Family, Pair, Text, bleu, chrf, edit, exact, meteor, rouge};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    let mut list: Vec<Trial> = trials!(plain:
        stems_are_those_of_nltk,
        texts_are_cleaned_as_by_the_published_code,
        fenced_blocks_are_taken_out,
        an_identical_prediction_is_best,
        the_order_of_rows_moves_no_corpus_score,
        a_megabyte_is_scored_exactly,
    )
    .into();
    list.extend(trials!(fallible: pairs_score_as_by_the_packages, the_corpus_scores_as_by_the_packages));
    list.extend(trials!(on_shared: the_cases_of_the_fixtures_score_as_by_the_packages));
    list
}

/// Metrics by name.
pub type Values = BTreeMap<&'static str, f64>;

/// Each family, with WordNet from the fixtures.
fn families() -> Vec<Box<dyn Family>> {
    let wordnet = WordNet::open(&fixtures().join("wordnet")).expect("the fixtures have a small WordNet");
    vec![
        Box::new(exact::exact()),
        Box::new(bleu::bleu()),
        Box::new(bleu::codexglue_bleu()),
        Box::new(bleu::codexglue_summary_bleu()),
        Box::new(chrf::Chrf),
        Box::new(rouge::rouge()),
        Box::new(meteor::meteor()),
        Box::new(meteor::meteor_wordnet(wordnet)),
        Box::new(edit::edit()),
    ]
}

fn stats(family: &dyn Family, hyp: &str, reference: &str) -> Vec<f64> {
    let mut stats = vec![0.0; family.width()];
    family.stats(&Pair { hyp: &Text::new(hyp), reference: &Text::new(reference) }, &mut stats);
    stats
}

/// The names of a family's metrics with the values that `write` gives them.
fn named(family: &dyn Family, write: impl FnOnce(&mut [f64])) -> Values {
    let mut values = vec![f64::NAN; family.metrics().len()];
    write(&mut values);
    family.metrics().iter().map(|metric| metric.name).zip(values).collect()
}

/// The values of one pair.
pub fn score(families: &[Box<dyn Family>], hyp: &str, reference: &str) -> Values {
    let of = |family: &dyn Family| {
        let stats = stats(family, hyp, reference);
        named(family, |values| family.sentence(&stats, values))
    };
    families.iter().map(Box::as_ref).flat_map(of).collect()
}

/// The values of a corpus of predictions and references.
pub fn score_all<'a>(families: &[Box<dyn Family>], pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Values {
    let of = |family: &dyn Family| {
        let mut sums = vec![0.0; family.width()];
        for (hyp, reference) in pairs.clone() {
            sums.iter_mut().zip(stats(family, hyp, reference)).for_each(|(sum, x)| *sum += x);
        }
        named(family, |values| family.corpus(&sums, values))
    };
    families.iter().map(Box::as_ref).flat_map(of).collect()
}

fn stored() -> Value {
    json(&fixtures().join("text_metrics.json"))
}

fn rows<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    file[key].as_array().filter(|rows| rows.len() > 20).expect("the file has rows of the key")
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Rounding of sums and of `exp`, on scales up to 100.
const ROUNDING: f64 = 1e-9;

/// The fixtures have 10 decimals, some of them of shares that are compared in per cent.
const DECIMALS: f64 = 1e-8;

/// Fails where a value differs from the expected one, or where a metric has none.
pub fn compare(what: &str, found: &Values, expected: &Value) -> Check {
    for (name, &value) in found {
        let expected = expected[name].as_f64().ok_or_else(|| format!("{what}: no value of {name}"))?;
        gate(&format!("{what}: {name}"), (value - expected).abs(), ROUNDING)?;
    }
    Ok(())
}

fn pairs_score_as_by_the_packages() -> Check {
    let (file, families) = (stored(), families());
    for (i, row) in rows(&file, "pairs").iter().enumerate() {
        let (hyp, reference) = (text(&row[0]), text(&row[1]));
        compare(&format!("pair {i}, {hyp:?} for {reference:?}"), &score(&families, hyp, reference), &row[2])?;
    }
    Ok(())
}

fn the_corpus_scores_as_by_the_packages() -> Check {
    let file = stored();
    let pairs = rows(&file, "pairs").iter().map(|row| (text(&row[0]), text(&row[1])));
    compare("corpus", &score_all(&families(), pairs), &file["corpus"])
}

fn stems_are_those_of_nltk() {
    for row in rows(&stored(), "stems") {
        assert_eq!(stem(text(&row[0])), text(&row[1]), "{}", row[0]);
    }
}

fn texts_are_cleaned_as_by_the_published_code() {
    for row in rows(&stored(), "cleaned") {
        let cleaned = [true, false].map(|code| Clean::Artifact.apply(text(&row[0]), code));
        assert_eq!(cleaned, [text(&row[1]), text(&row[2])], "{}", row[0]);
    }
    assert_eq!(Clean::None.apply(" // x\n", true), " // x\n");
}

fn fenced_blocks_are_taken_out() {
    let cases = [
        ("int x;\n", "int x;\n"),
        ("Here it is:\n```java\nint x;\n\nint y;\n```\nand more\n```\nz\n```", "int x;\n\nint y;"),
        ("```\nint x;", "int x;"),
        ("````\na\n```\nb\n````", "a\n```\nb"),
        ("~~~ c#\na\n```\n ~~~  \n", "a\n```"),
        ("```int x;```", "```int x;```"),
        ("  ```\r\n  a\r\n  ```\r\n", "  a\r"),
        ("```\n```\na", ""),
        ("a ``` b\n``\nc\n``", "a ``` b\n``\nc\n``"),
        ("```\n", ""),
        ("", ""),
    ];
    for (text, block) in cases {
        assert_eq!(Clean::Fences.apply(text, true), block, "{text:?}");
    }
}

/// No prediction scores above the reference itself, which scores 1 or 100 in each metric; in METEOR 1 - 0.5 / n^3 for n
/// words. A reference without a word is another matter: `codexglue_bleu` gives its 64 to two words.
fn an_identical_prediction_is_best() {
    let (file, families) = (stored(), families());
    let scales: BTreeMap<_, _> = families.iter().flat_map(|f| f.metrics().iter().map(|m| (m.name, m.scale))).collect();
    let texts: Vec<&str> = rows(&file, "pairs").iter().map(|row| text(&row[1])).collect();
    let mut whole = 0;
    for (i, reference) in texts.iter().enumerate().filter(|(_, text)| text.contains(char::is_alphanumeric)) {
        let best = score(&families, reference, reference);
        let others = [texts[(i + 1) % texts.len()], text(&rows(&file, "pairs")[i][0])];
        for other in others.map(str::to_string).into_iter().chain([format!("{reference} {reference}"), String::new()]) {
            for (name, value) in score(&families, &other, reference) {
                assert!(value <= best[name] + ROUNDING, "{name}: {other:?} scores {value} for {reference:?}");
            }
        }
        let words = reference.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).count();
        if words < 4 {
            continue;
        }
        whole += 1;
        for (name, value) in best {
            let n = reference.split_whitespace().count() as f64;
            let expected = if name.starts_with("meteor") { 1.0 - 0.5 / n.powi(3) } else { scales[name] };
            // words between the separators U+001C to U+001F are words of Python
            if !name.starts_with("meteor") || !reference.contains(['\x1c', '\x1d', '\x1e', '\x1f']) {
                assert!((value - expected).abs() <= ROUNDING, "{name}: {value} for {reference:?}");
            }
        }
    }
    assert!(whole > 50, "{whole} references have four words");
}

fn the_order_of_rows_moves_no_corpus_score() {
    let (file, families) = (stored(), families());
    let pairs = rows(&file, "pairs").iter().map(|row| (text(&row[0]), text(&row[1])));
    let mut turned: Vec<_> = pairs.clone().collect();
    turned.reverse();
    let (one, other) = (score_all(&families, pairs), score_all(&families, turned.iter().copied()));
    for (name, value) in one {
        assert!((value - other[name]).abs() < 1e-12, "{name}: {value} and {}", other[name]);
    }
}

/// Texts of 150,000 different words, whose values follow from their making. A metric that compares every word with
/// every other does not end.
fn a_megabyte_is_scored_exactly() {
    let mut families = families();
    families.retain(|family| family.metrics()[0].name != "edit_similarity"); // the package's takes minutes, too
    let words: Vec<String> = (0..150_000).map(|i| format!("{}q{i}", if i % 2 == 0 { 'a' } else { 'b' })).collect();
    let reference = words.join(" ");
    let n = words.len() as f64;
    let same = score(&families, &reference, &reference);
    for name in ["strict_exact", "contain", "rouge1", "rouge2", "rougeL"] {
        assert_eq!(same[name], 1.0, "{name}");
    }
    // every second word is left out: no two words stay neighbours
    let half = words.iter().step_by(2).map(String::as_str).collect::<Vec<_>>().join(" ");
    let short = score(&families, &half, &reference);
    let near = |name: &str, expected: f64| {
        assert!((short[name] - expected).abs() < ROUNDING, "{name}: {} for {expected}", short[name]);
    };
    near("rouge1", 2.0 / 3.0);
    near("rouge2", 0.0);
    // precision 1, recall 1/2, a chunk for each match
    near("meteor", 0.5 * 0.5 / (0.9 + 0.1 * 0.5));
    near("meteor_wordnet", short["meteor"]);
    let precision: f64 = (1..4).map(|order| (1.0 / (n / 2.0 - f64::from(order) + 1.0)).ln()).sum();
    near("codexglue_bleu", 100.0 * (precision / 4.0 - 1.0).exp());
}

/// A WordNet whose words have the given synonyms and no base forms: adverbs have none.
fn adverbs(synonyms: &Value, dir: &Path) -> Result<WordNet, Failed> {
    let synonyms = synonyms.as_object().ok_or("no synonyms")?;
    let mut sets: Vec<Vec<&str>> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for (word, list) in synonyms {
        index.insert(word.clone(), sets.len());
        sets.push(list.as_array().ok_or("no list")?.iter().map(text).collect());
    }
    for word in sets.concat() {
        // the reader requires that every word has an entry
        index.entry(word.to_lowercase()).or_insert_with(|| {
            sets.push(vec![word]);
            sets.len() - 1
        });
    }
    let (mut data, mut places) = (String::from("  1 made for a test\n"), Vec::new());
    for words in &sets {
        places.push(data.len());
        data += &format!("{:08} 02 r {:02x} {} 0 000 | gloss\n", data.len(), words.len(), words.join(" 0 "));
    }
    let line = |(word, set): (&String, &usize)| format!("{word} r 1 0 1 0 {:08}\n", places[*set]);
    let lines: String = index.iter().map(line).collect();
    for part in ["noun", "verb", "adj", "adv"] {
        let adverb = part == "adv";
        let (data, lines) = if adverb { (data.as_str(), lines.as_str()) } else { ("  none\n", "  none\n") };
        for (name, content) in [(format!("data.{part}"), data), (format!("index.{part}"), lines)] {
            std::fs::write(dir.join(name), content)?;
        }
        std::fs::write(dir.join(format!("{part}.exc")), "x x\n")?;
    }
    Ok(WordNet::open(dir)?)
}

/// The names of the fixtures, in per cent.
const SHARED: [(&str, &str, f64); 15] = [
    ("exact_minified", "strict_exact", 1.0),
    ("contain_minified", "contain", 1.0),
    ("h_exact_artifact", "h_exact", 1.0),
    ("h_exact_paper_eq2", "h_exact_paper", 1.0),
    ("exact_strip_codexglue_trans", "codexglue_exact", 1.0),
    ("exact_split_codexglue_line", "codexglue_line_exact", 1.0),
    ("chrfpp_artifact_called_CrystalBLEU", "chrf", 1.0),
    ("bleu_codexglue_trans", "codexglue_bleu", 1.0),
    ("meteor_exact_stem", "meteor", 100.0),
    ("meteor_wn_partial", "meteor_wordnet", 100.0),
    ("rouge1_stem_f", "rouge1", 100.0),
    ("rouge2_stem_f", "rouge2", 100.0),
    ("rougeL_stem_f", "rougeL", 100.0),
    ("bleu_codexglue_sum", "codexglue_summary_bleu", 1.0),
    ("sacrebleu_sentence_13a_exp", "bleu", 1.0),
];

fn the_cases_of_the_fixtures_score_as_by_the_packages(shared: &Path) -> Check {
    let file = json(&shared.join("fixtures/metrics/metric_fixtures.json"));
    let dir = tempfile::tempdir()?;
    let mut families = families();
    families.push(Box::new(meteor::meteor_wordnet(adverbs(&file["wn_synonyms"], dir.path())?)));
    let mut tasks: BTreeMap<String, Vec<[&str; 4]>> = BTreeMap::new();
    let mut compared = 0;
    for case in rows(&file, "cases") {
        let raw = [text(&case["hypothesis_raw"]), text(&case["reference_raw"])];
        let clean = [text(&case["hypothesis_clean"]), text(&case["reference_clean"])];
        let code = case["task"] != "summarization";
        if raw.map(|text| Clean::Artifact.apply(text, code)) != clean {
            return Err(format!("case {}: {raw:?} is cleaned to something else", case["id"]).into());
        }
        let task = format!("{}/{}", text(&case["task"]), text(&case["lang"]));
        tasks.entry(task).or_default().push([raw[0], raw[1], clean[0], clean[1]]);
        let (of_raw, of_clean) = (score(&families, raw[0], raw[1]), score(&families, clean[0], clean[1]));
        for (theirs, ours, scale) in SHARED {
            let expected = match theirs.strip_suffix("_stem_f") {
                // 0..1 here, in per cent for the corpus
                Some(rouge) => case["metrics"]["rouge_stem"][rouge]["f"].as_f64().map(|f| 100.0 * f),
                None => case["metrics"][theirs].as_f64(),
            };
            let Some(expected) = expected else { continue };
            let found = if ours.starts_with("codexglue_") && ours.ends_with("exact") { &of_raw } else { &of_clean };
            gate(&format!("case {}: {theirs}", case["id"]), (scale * found[ours] - expected).abs(), DECIMALS)?;
            compared += 1;
        }
    }
    // 36 pairs of code with 8 values, 24 summaries with 7
    if compared != 36 * 8 + 24 * 7 {
        return Err(format!("{compared} values were compared").into());
    }
    for (task, pairs) in &tasks {
        let expected = &file["corpus_level"][task];
        let of = |i: usize| score_all(&families, pairs.iter().map(move |texts| (texts[i], texts[i + 1])));
        let (of_raw, of_clean) = (of(0), of(2));
        for (theirs, ours, scale) in SHARED.into_iter().chain([("sacrebleu_corpus_13a", "bleu", 1.0)]) {
            let Some(expected) = expected.get(theirs) else { continue };
            let raw = ours.starts_with("codexglue_") && ours.ends_with("exact");
            let scale = if ours.contains("exact") || ours == "contain" { 100.0 } else { scale };
            let found = if raw { of_raw[ours] } else { of_clean[ours] };
            gate(&format!("{task}: {theirs}"), (scale * found - num(expected)).abs(), DECIMALS)?;
        }
    }
    Ok(())
}
