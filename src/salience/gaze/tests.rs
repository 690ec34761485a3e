//! Tests of the library's interface: box hits by hand, and arbitrary bytes as tables.

use std::path::Path;

use proptest::prelude::*;

use super::boxes::{Hit, Snippets};
use super::build::{Method, build};
use super::mapping::Mapping;
use super::recording::Recording;
use super::screens::Screens;
use super::source;
use crate::salience::Label;
use crate::salience::labels::Calls;
use crate::salience::priors::Priors;

const CODE: &str = "int f(int a) { return a; }\n";
const BOXES: &str = "snippet,token,byte_start,x_px,y_px,w_px,h_px\nA,int,0,50,200,60,20\nA,f,4,120,200,60,20\n\
                     A,(,5,190,200,10,20\nA,return,15,50,230,90,20\nA,eturn,16,300,230,90,20\n\
                     A,f(int,4,500,200,60,20\n";
const GAZE: &str = "time_ms,x_px,y_px,snippet\n0,80,210,A\n60,80,210,A\n110,80,210,A\n";

/// The three inputs of a build as files, and its result.
fn outcome(gaze: &[u8], boxes: &[u8], mapping: &str) -> crate::error::Result<super::build::Study> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (gaze, boxes) = (file("P.csv", gaze), file("boxes.csv", boxes));
    let code = dir.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("A.java"), CODE).unwrap();
    let mapping = Mapping::load(&file("m.toml", mapping.as_bytes()))?;
    let snippets = Snippets::load(&boxes, &code, Calls::Syntax)?;
    let screens = Screens::load(None, mapping.screen)?;
    build(&[gaze], &mapping, &screens, snippets, &Method::default(), Priors::new("reading", "a test"))
}

#[test]
fn boxes_take_the_label_of_the_token_they_show() {
    let study = outcome(GAZE.as_bytes(), BOXES.as_bytes(), "").unwrap();
    let snippet = study.snippets.find("A").unwrap();
    let layout = &snippet.layouts[&0];
    let named: Vec<_> = layout.boxes.iter().map(|b| (b.line, snippet.label(b).map(|l| l.name()))).collect();
    let [function, returned, parameter] = ["function declaration", "return", "parameter"].map(Some);
    // `f(int` is the parameter's for the greater part
    let expected = [(2, function), (3, function), (4, None), (7, parameter), (5, returned), (6, returned)];
    assert_eq!(named, expected);
    // `int`, `f`, the parameter's `int`, and `return` in two boxes; neither `a` has a box
    assert_eq!(snippet.shown(layout).iter().filter(|&&shown| shown).count(), 4);
    let ntok = [Label::FunctionDeclaration, Label::Parameter, Label::Return].map(|l| study.priors.counts(l).ntok);
    assert_eq!(ntok, [2, 1, 1]);
    assert_eq!(study.tallies["P"].labelled, 1);
    let names = ["A", "A.java", "A.png"].map(|name| study.snippets.find(name).map(|s| s.name.as_str()));
    assert_eq!(names, [Some("A"); 3]);
    assert!(study.snippets.find("A.java.png").is_none());
}

#[test]
fn a_fixation_goes_to_its_box_else_to_the_nearest_within_the_radius() {
    let study = outcome(GAZE.as_bytes(), BOXES.as_bytes(), "").unwrap();
    let layout = &study.snippets.find("A").unwrap().layouts[&0];
    let hit = |x: f64, y: f64| layout.hit(x, y, 25.0);
    // the left and the upper edge belong to a box, the right and the lower one do not
    assert_eq!((hit(50.0, 200.0), hit(109.9, 219.9)), (Some(Hit::On(0)), Some(Hit::On(0))));
    assert_eq!((hit(110.0, 210.0), hit(80.0, 220.0)), (Some(Hit::Near(0)), Some(Hit::Near(0))));
    // 5 from the first and 5 from the second: the first of the table
    assert_eq!((hit(115.0, 210.0), hit(115.1, 210.0)), (Some(Hit::Near(0)), Some(Hit::Near(1))));
    // 15 left and 20 above a corner: a distance of 25, and a little more
    assert_eq!((hit(35.0, 180.0), hit(34.9, 180.0)), (Some(Hit::Near(0)), None));
    assert_eq!((hit(f64::NAN, 210.0), hit(1e300, -1e300)), (None, None));
    assert_eq!(layout.hit(112.0, 210.0, 0.0), None);
    assert_eq!(layout.hit(60.0, 210.0, 0.0), Some(Hit::On(0)));
}

#[test]
fn samples_are_scaled_and_lost_ones_known() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("P.csv");
    let text = "t,x,y,L,R,S\n0,0.5,0.25,1,0,A\n0.02,0.5,0.25,0,0,A\n0.04,NaN,0.25,1,1,A\n0.06,0.1,inf,1,1,A\n\
                0.08,0,-0.5,0,1,B\n0.1,x,x,1,1,cross\n0.12,0,0,1,1,B\n0.14,0,1,1,1,B\n";
    std::fs::write(&file, text).unwrap();
    let mapping = "time = \"t\"\ntime_unit = \"s\"\nx = \"x\"\ny = \"y\"\ncoordinates = \"normalised\"\n\
                   screen = [800, 400]\n\
                   validity = [\"L\", \"R\"]\nsnippet = \"S\"\nignore = [\"cross\"]";
    let mapping = Mapping::parse(mapping).unwrap();
    let screens = Screens::load(None, mapping.screen).unwrap();
    let mut recording = Recording::open(&file, &mapping, &screens).unwrap();
    let mut rows = Vec::new();
    while let Some((row, line)) = recording.advance().unwrap() {
        rows.push((line, row.new_stretch, (1000.0 * row.ms).round() / 1000.0, row.point));
    }
    let expected = [
        (2, true, 0.0, Some((400.0, 100.0))),
        (3, false, 20.0, None),
        (4, false, 40.0, None),
        (5, false, 60.0, None),
        (6, true, 80.0, None),                 // above the screen
        (8, true, 120.0, None),                // 0, 0; the cross came between
        (9, false, 140.0, Some((0.0, 400.0))), // edges are on the screen
    ];
    assert_eq!(rows, expected);
}

/// The forms of make_positions.py, each by its mapping of the docs, give the fixations that the script found: their
/// times and the words under them.
#[test]
fn other_forms_give_the_fixations_of_an_independent_computation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = root.join("tests/fixtures/gaze");
    let text = std::fs::read_to_string(fixtures.join("positions.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (file, mapping) in [
        ("codegrits.xml", "codegrits.toml"),
        ("itrace.xml", "itrace.toml"),
        ("fixations.csv", "fixations.toml"),
        ("source_fixations.csv", "source_fixations.toml"),
        ("sub-01_task-Sum_recording-eye1_physio.tsv.gz", "bids.toml"),
        ("sub-02_ses-1_task-Sum_physio.tsv.gz", "bids.toml"),
    ] {
        let mapping = Mapping::load(&root.join("docs/mappings").join(mapping)).unwrap();
        let code = fixtures.join("code");
        let (snippets, radius_px) = match mapping.in_source() {
            true => (source::load(&code, mapping.tab.into(), Calls::Syntax).unwrap(), 0.0),
            false => (Snippets::load(&fixtures.join("boxes.csv"), &code, Calls::Syntax).unwrap(), 25.0),
        };
        let screens = Screens::load(None, mapping.screen).unwrap();
        let method = Method { radius_px, ..Method::default() };
        let study =
            build(&[fixtures.join(file)], &mapping, &screens, snippets, &method, Priors::new("a", "b")).unwrap();
        let mut found = Vec::new();
        for viewing in &study.viewings {
            let snippet = study.snippets.find(&viewing.snippet).unwrap();
            for (fixation, hit) in &viewing.fixations {
                let word = hit.map(|hit| {
                    let token = &snippet.layouts[&0].boxes[hit.index()];
                    String::from_utf8_lossy(&snippet.code[token.start..token.end]).into_owned()
                });
                found.push((fixation.start_ms, fixation.ms(), word));
            }
        }
        let expected = expected[file].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{file}: {found:?}");
        for ((start, duration, word), expected) in found.iter().zip(expected) {
            let close = |a: f64, b: &serde_json::Value| (a - b.as_f64().unwrap()).abs() < 1e-6;
            assert!(close(*start, &expected[0]) && close(*duration, &expected[1]), "{file}: {start}: {expected}");
            assert_eq!(word.as_deref(), expected[2].as_str(), "{file}: {start}");
        }
        let tally = study.tallies.values().next().unwrap();
        assert_eq!(tally.fixations as usize, expected.len());
        assert!(tally.labelled > 0 && tally.unmapped() > 0, "{file}: {tally:?}");
    }
}

/// A table of bytes that look like one, cells of all kinds and stray bytes.
fn cells() -> impl Strategy<Value = Vec<u8>> {
    let cell = prop_oneof![
        Just("A".to_string()),
        Just("1e999".into()),
        Just("-".into()),
        Just("\"".into()),
        (-1000i32..1000).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "\\PC{0,4}",
    ];
    proptest::collection::vec(proptest::collection::vec(cell, 0..9).prop_map(|row| row.join(",")), 0..12)
        .prop_map(|rows| rows.join("\n").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_counted_or_refused(
        raw in proptest::collection::vec(any::<u8>(), 0..300), cells in cells(), headed in any::<bool>(),
    ) {
        let head = |line: &str, rest: &[u8]| [if headed { line.as_bytes() } else { b"" }, rest].concat();
        for bytes in [&raw, &cells] {
            let _ = outcome(&head("time_ms,x_px,y_px,snippet\n", bytes), BOXES.as_bytes(), "");
            let more = head(BOXES, bytes);
            let _ = outcome(GAZE.as_bytes(), &more, "");
            let _ = outcome(&[&[0x1f, 0x8b, 8, 0], &bytes[..]].concat(), BOXES.as_bytes(), "");
            let _ = outcome(&head("t;x;y;s;p\n", bytes), BOXES.as_bytes(), "delimiter=\";\"\ntime=\"t\"\nx=\"x\"\n\
                y=\"y\"\nsnippet=\"s\"\nparticipant=\"p\"\ncoordinates=\"normalised\"\nscreen=[9,9]\ncomment=\"#\"");
        }
    }
}
