//! Gaze recordings of seven people reading Java against the fixations and labels of a separate implementation.

use crate::support::json;
use crate::support::trials::{Check, trials};
use eyekern::salience::Label;
use eyekern::salience::gaze::boxes::{Hit, Snippets};
use eyekern::salience::gaze::build::{Method, Study, build};
use eyekern::salience::gaze::mapping::Mapping;
use eyekern::salience::gaze::screens::Screens;
use eyekern::salience::labels::{Calls, compat};
use eyekern::salience::priors::Priors;
use eyekern::salience::syntax::Language;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials!(on_shared:
        fixations_and_tokens_are_those_of_the_reference,
        labels_are_those_of_the_reference_by_its_rules,
        other_labels_have_one_of_four_reasons,
        the_priors_survive_their_file,
    )
    .into()
}

fn study(shared: &Path, calls: Calls) -> Result<Study, Failed> {
    let data = shared.join("data/gaze");
    let mut recordings = Vec::new();
    for entry in std::fs::read_dir(data.join("gaze")).map_err(|e| format!("{}: {e}", data.display()))? {
        recordings.push(entry?.path());
    }
    recordings.sort();
    let screens = Screens::load(Some(&data.join("participants.csv")), None)?;
    let snippets = Snippets::load(&data.join("token_boxes.csv"), &data.join("snippets"), calls)?;
    let priors = Priors::new("reading", "a test");
    Ok(build(&recordings, &Mapping::default(), &screens, snippets, &Method::default(), priors)?)
}

fn reference(shared: &Path) -> Result<BTreeMap<String, Value>, Failed> {
    let all = json(&shared.join("data/gaze/reference_fixations.json"));
    let people = all["participants"].as_object().ok_or("no participants")?;
    Ok(people.iter().map(|(who, numbers)| (who.clone(), numbers.clone())).collect())
}

/// Participants with samples off the screen, which the reference keeps: the number of these samples, and fixations and
/// their mean duration without them. From a separate computation by the definition of I-DT (quadratic, in Python),
/// which gives the numbers of the reference where it keeps them.
const OFF_SCREEN: [(&str, u64, u64, f64); 7] = [
    ("1f8beed4", 214, 928, 209.42),
    ("49b9b7d0", 57, 958, 206.82),
    ("582108f0", 199, 1013, 157.21),
    ("8b56a1da", 60, 1431, 153.85),
    ("a6710f7d", 213, 1180, 251.71),
    ("b8d2109c", 13, 1109, 175.57),
    ("baaa7f91", 20, 1375, 189.86),
];

fn fixations_and_tokens_are_those_of_the_reference(shared: &Path) -> Check {
    let (study, reference) = (study(shared, Calls::Syntax)?, reference(shared)?);
    assert_eq!(reference.len(), 7);
    assert!(study.tallies.keys().eq(reference.keys()));
    for (who, expected) in &reference {
        let tally = &study.tallies[who];
        let expected_counts = ["on_token", "within_25px"].map(|key| expected[key].as_u64());
        assert_eq!(expected_counts, [tally.on_token, tally.within].map(Some), "{who}");
        let off = OFF_SCREEN.iter().find(|(name, ..)| name == who).ok_or("not in the table")?;
        assert_eq!((tally.lost, tally.fixations), (off.1, off.2), "{who}");
        // no fixation that the reference has and this lacks is near a token
        assert!(expected["fixations"].as_u64() >= Some(tally.fixations), "{who}");
        // the table is rounded to a hundredth
        let mean = tally.mean_ms().ok_or("no fixation")?;
        assert!((mean - off.3).abs() <= 0.005 + 1e-9, "{who}: {mean} {}", off.3);
    }
    Ok(())
}

/// What the reference labelled: tokens of methods with a body, by the published listing with the word list for calls,
/// where box and token begin at the same byte.
fn listed(code: &[u8]) -> Result<BTreeMap<usize, Label>, Failed> {
    let tokens = compat::artifact(code, Language::Java, Calls::Lexicon)?;
    Ok(tokens.into_iter().filter_map(|t| Some((t.start, t.label?))).collect())
}

fn labels_are_those_of_the_reference_by_its_rules(shared: &Path) -> Check {
    let (study, reference) = (study(shared, Calls::Lexicon)?, reference(shared)?);
    let mut found: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for viewing in &study.viewings {
        let snippet = study.snippets.find(&viewing.snippet).ok_or("no snippet")?;
        let listed = listed(&snippet.code)?;
        for hit in viewing.fixations.iter().filter_map(|f| f.1) {
            let token = &snippet.layouts[&viewing.layout].boxes[hit.index()];
            if let Some(label) = listed.get(&token.start) {
                *found.entry(&viewing.participant).or_default().entry(label.name()).or_default() += 1;
            }
        }
    }
    for (who, expected) in &reference {
        let mut expected: BTreeMap<&str, u64> = expected["labels"]
            .as_object()
            .ok_or("no labels")?
            .iter()
            .filter_map(|(name, n)| Some((name.as_str(), n.as_u64()?)))
            .collect();
        // One fixation has its mean exactly on the edge between two lines of InsertSort, y = 380.8. An upper edge
        // belongs to its box here, so it falls on `jthElement` below; the reference gave it to `jMinusOneElement`
        // above.
        if who == "a6710f7d" {
            let viewing = study.viewings.iter().find(|v| v.participant == *who && v.snippet == "InsertSort");
            let fixations = &viewing.ok_or("no such viewing")?.fixations;
            let on_edge: Vec<_> = fixations.iter().filter(|f| (f.0.y - 380.8).abs() < 1e-9).collect();
            let [(fixation, Some(Hit::On(_)))] = on_edge[..] else { return Err("not one fixation on the edge".into()) };
            assert!((fixation.x - 825.98).abs() < 1e-9);
            *expected.get_mut("loop").ok_or("no loop")? -= 1;
            *expected.get_mut("conditional statement").ok_or("no condition")? += 1;
        }
        assert_eq!(found.get(who.as_str()), Some(&expected), "{who}");
    }
    Ok(())
}

/// The labels that priors are built with differ from the reference's on tokens that it left without any, and on calls,
/// which go by syntax and not by a list of words. Nothing else may differ.
fn other_labels_have_one_of_four_reasons(shared: &Path) -> Check {
    let study = study(shared, Calls::Syntax)?;
    // fixations: same label; token not listed (outside of methods with a body); piece of a listed token (`if` of `else
    // if`, the bracket of `[]`, the end of `break;`); call by syntax
    let mut counts = [0u64; 4];
    for viewing in &study.viewings {
        let snippet = study.snippets.find(&viewing.snippet).ok_or("no snippet")?;
        let listed = listed(&snippet.code)?;
        for hit in viewing.fixations.iter().filter_map(|f| f.1) {
            let token = &snippet.layouts[&viewing.layout].boxes[hit.index()];
            let Some(ours) = snippet.label(token) else {
                assert!(!listed.contains_key(&token.start), "the reference labels a token that we do not");
                continue;
            };
            let span = snippet.spans[token.span.ok_or("a label without a span")?];
            let calls = [Label::FunctionCall, Label::ExternallyDefined];
            let reason = match listed.get(&token.start) {
                Some(theirs) if *theirs == ours => 0,
                Some(theirs) if calls.contains(theirs) && calls.contains(&ours) => 3,
                Some(theirs) => {
                    let at = token.start;
                    return Err(format!("{} byte {at}: {} but {}", snippet.name, ours.name(), theirs.name()).into());
                }
                None if listed.contains_key(&span.start) => 2,
                None => 1,
            };
            counts[reason] += 1;
        }
    }
    println!("same {}, outside methods {}, piece of a token {}, calls {}", counts[0], counts[1], counts[2], counts[3]);
    assert!(counts.iter().all(|&n| n > 0), "{counts:?}");
    let labelled: u64 = study.tallies.values().map(|t| t.labelled).sum();
    assert_eq!(counts.iter().sum::<u64>(), labelled);
    let within =
        study.viewings.iter().flat_map(|v| &v.fixations).filter(|f| matches!(f.1, Some(Hit::On(_) | Hit::Near(_))));
    assert_eq!(within.count() as u64, study.tallies.values().map(|t| t.within).sum::<u64>());
    Ok(())
}

fn the_priors_survive_their_file(shared: &Path) -> Check {
    let study = study(shared, Calls::Syntax)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("priors.json");
    study.priors.save(&path)?;
    assert!(Priors::load(&path, Some("reading"))? == study.priors, "what was read is not what was written");
    assert!(study.priors.ordered() && study.priors.built().is_some());
    for label in Label::ALL {
        let counts = study.priors.counts(label);
        assert!(counts.c1 <= counts.ntok, "{}", label.name());
    }
    Ok(())
}
