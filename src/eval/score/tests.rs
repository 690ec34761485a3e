use super::super::metrics::{Setup, names};
use super::panel::CONSTANTS;
use super::*;
use crate::random::{Purpose, Stream};
use crate::salience::syntax::Language;

/// All metrics that need no file.
fn metrics() -> Metrics {
    let setup = Setup { language: Some(Language::Java), ..Setup::default() };
    Metrics::named(names().filter(|name| *name != "meteor_wordnet"), &setup).unwrap()
}

/// Rows of short texts: code, constants, copies, empty predictions.
fn rows(n: usize, seed: u64, odd: bool) -> Vec<Row> {
    let mut draws = Stream::new(seed, Purpose::Bench, 0);
    let texts =
        ["int a = b;", "return foo(a, b);", "} ", "public", "", "for (;;) { a++; }", "String é = \"x\";", "public }"];
    let mut text = |all: bool| loop {
        let words = 1 + draws.below(3);
        let text = (0..words).map(|_| texts[draws.below(texts.len() as u32) as usize]).collect::<Vec<_>>().join(" ");
        if all || !text.trim().is_empty() {
            return text;
        }
    };
    let row = |i: usize| {
        let (reference, hyp) = (text(false), text(true));
        let hyp = if i.is_multiple_of(3) && !odd { reference.clone() } else { hyp };
        Row { hyps: vec![hyp], source: Some(reference.to_lowercase()), reference }
    };
    (0..n).map(row).collect()
}

fn report(rows: impl IntoIterator<Item = Row>) -> Report {
    let mut scorer = Scorer::new(metrics(), Box::new(str::to_string), None);
    for row in rows {
        scorer.push(row, &mut |_| Ok(())).unwrap();
    }
    scorer.finish(&mut |_| Ok(())).unwrap()
}

fn named<'a>(report: &'a Report, name: &str) -> &'a Figure {
    report.figures.iter().find(|figure| figure.name == name).unwrap()
}

#[test]
fn the_order_of_rows_changes_no_corpus_score() {
    let rows = rows(700, 1, false);
    let places = Stream::new(2, Purpose::Bench, 0).permutation(rows.len());
    let (a, b) = (report(rows.clone()), report(places.iter().map(|&i| rows[i].clone())));
    for figure in &a.figures {
        let other = named(&b, &figure.name);
        // every column but `shuffled`
        let values = |figure: &Figure| [&[Some(figure.value)], &figure.panel[..5]].concat();
        for (x, y) in values(figure).into_iter().zip(values(other)) {
            let (x, y) = (x.unwrap(), y.unwrap());
            assert!((x - y).abs() <= 1e-12 * figure.scale, "{}: {x} and {y}", figure.name);
        }
    }
}

#[test]
fn a_constant_never_wins_the_headline() {
    let mut none = 0;
    for seed in 0..40 {
        let n = 1 + seed as usize % 7;
        let mut rows = rows(n, seed, true);
        if seed % 4 == 0 {
            rows.iter_mut().for_each(|row| row.hyps = vec![CONSTANTS[seed as usize / 4 % 3].into()]);
        }
        let report = report(rows.clone());
        let constants = CONSTANTS.map(|text| {
            let row = |row: &Row| Row { hyps: vec![text.into()], ..row.clone() };
            self::report(rows.iter().map(row))
        });
        match report.headline() {
            Some(best) => {
                for constant in &constants {
                    assert!(named(constant, &best.name).value < best.value, "{seed}: {}", best.name);
                }
            }
            None => {
                none += 1;
                let loses = |figure: &Figure| constants.iter().all(|c| named(c, &figure.name).value < figure.value);
                assert!(report.figures.iter().all(|figure| !loses(figure)), "{seed}");
            }
        }
    }
    assert!(none >= 10, "the predictions of every fourth report are a constant: {none}");
}

/// The blocks are those of the rows, not of the calls; the last one has at least two rows.
#[test]
fn many_rows_are_scored_as_few() {
    let all = rows(2 * BLOCK + 1, 3, false);
    let mut seen = Vec::new();
    let mut sink = |example: &Example| {
        seen.push((example.row, example.hyp.to_string()));
        Ok(())
    };
    let mut scorer = Scorer::new(metrics(), Box::new(str::to_string), None);
    for row in all.clone() {
        scorer.push(row, &mut sink).unwrap();
        assert!(scorer.waiting.len() <= BLOCK + 1);
    }
    let whole = scorer.finish(&mut sink).unwrap();
    let expected: Vec<_> = all.iter().enumerate().map(|(i, row)| (i, row.hyps[0].clone())).collect();
    assert_eq!((seen, whole.rows), (expected, all.len()));
    // a mean over all rows is the mean of the means of its parts
    let parts = [report(all[..200].to_vec()), report(all[200..].to_vec())];
    for name in ["strict_exact", "edit_similarity", "contain"] {
        let mean = parts.iter().map(|part| named(part, name).value * part.rows as f64).sum::<f64>() / all.len() as f64;
        assert!((named(&whole, name).value - mean).abs() <= 1e-12, "{name}");
    }
    let shuffled = |report: &Report| report.figures.iter().map(|figure| figure.panel[5]).collect::<Vec<_>>();
    assert!(shuffled(&report(all[..1].to_vec())).iter().all(Option::is_none));
    assert!(shuffled(&whole).iter().all(Option::is_some));
}

/// Every sample counts as a prediction of its row, and the panel has each row once.
#[test]
fn samples_share_their_reference() {
    let rows = rows(20, 4, false);
    let several = rows.iter().map(|row| Row { hyps: vec![row.hyps[0].clone(), row.reference.clone()], ..row.clone() });
    let (one, two) = (report(rows.clone()), report(several));
    assert_eq!((two.rows, two.predictions), (20, 40));
    for name in ["strict_exact", "edit_similarity"] {
        let (one, two) = (named(&one, name), named(&two, name));
        assert!((two.value - (one.value + 1.0) / 2.0).abs() <= 1e-12);
        assert_eq!(one.panel, two.panel);
    }
}

#[test]
fn cleaning_reaches_every_text() {
    let clean = |text: &str| text.replace("// x", "");
    let row = Row { hyps: vec!["a // x".into()], reference: "a".into(), source: Some("// xa".into()) };
    let other = Row { hyps: vec!["b".into()], reference: "// xb".into(), source: Some("b// x".into()) };
    let mut scorer = Scorer::new(metrics(), Box::new(clean), None);
    [row, other].into_iter().for_each(|row| scorer.push(row, &mut |_| Ok(())).unwrap());
    let report = scorer.finish(&mut |_| Ok(())).unwrap();
    let exact = named(&report, "strict_exact");
    assert_eq!((exact.value, exact.panel[3]), (1.0, Some(1.0)));
}
