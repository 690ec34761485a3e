//! Mappings that are read, and mistakes that are named.

use super::*;
use proptest::prelude::*;

fn refusal(text: &str) -> String {
    Mapping::parse(text).expect_err(text).1
}

#[test]
fn an_empty_mapping_is_the_default() {
    assert_eq!(Mapping::parse("").unwrap(), Mapping::default());
}

#[test]
fn mistakes_are_named_with_their_line() {
    let (line, why) = Mapping::parse("time = \"t\"\ntime_units = \"s\"\n").unwrap_err();
    assert_eq!(line, Some(2));
    assert!(why.starts_with("unknown field `time_units`, expected one of `format`"), "{why}");
    let (line, why) = Mapping::parse("\n\ntime_unit = \"hours\"").unwrap_err();
    assert_eq!((line, why.as_str()), (Some(3), "unknown variant `hours`, expected one of `s`, `ms`, `us`, `ns`"));
    assert!(refusal("delimiter = \"tab\"").contains("delimiter is \"tab\", but must be one ASCII character"));
    assert!(refusal("comment = \",\"").contains("comment is \",\""));
    assert!(refusal("decimal = \",\"").contains("decimal and delimiter are both"));
    assert!(refusal("screen = [0, 5]").contains("screen is [0.0, 5.0], but must be [width, height] in pixels"));
    assert!(refusal("validity = [\"v\"]\nvalid = []").contains("valid is empty"));
    assert!(refusal("rows = \"Sensor\"").contains("keep is empty"));
    assert!(refusal("file_name = \"x\"").contains("nothing says who was recorded"));
    assert!(refusal("file_name = \"{snippet}-{snippet}\"").contains("{snippet} twice"));
    for pattern in ["{participant}{snippet}", "{participant}*", "*{participant}", "{participant}_**"] {
        assert!(refusal(&format!("file_name = \"{pattern}\"")).contains("some text between"), "{pattern}");
    }
    assert!(refusal("format = \"xml\"").contains("element is unset"));
    assert!(refusal("element = \"gaze\"").contains("format is not \"xml\""));
    assert!(refusal("end = \"e\"\nduration = \"d\"").contains("both set"));
    assert!(refusal("duration_unit = \"s\"").contains("duration is not"));
    assert!(refusal("line = \"l\"").contains("both line and column"));
    let positions = "line = \"l\"\ncolumn = \"c\"\n";
    assert!(refusal(&format!("{positions}first_line = 2")).contains("must be 0 or 1"));
    assert!(refusal(&format!("{positions}tab = 0")).contains("tab is 0, but must be 1 to 16"));
    assert!(refusal(&format!("{positions}x = \"x\"")).contains("leave out x, y"));
    assert!(refusal("tab = 4").contains("belong to line and column"));
    assert!(refusal("missing = [nan]").contains("not finite"));
}

#[test]
fn the_name_of_a_file_gives_participant_and_snippet() {
    let split = |pattern: &str, file: &str| {
        let mapping = Mapping { file_name: pattern.into(), ..Mapping::default() };
        mapping.from_file_name(Path::new(file)).map_err(|e| e.to_string())
    };
    let pair = |a: &str, b: &str| Ok([a.to_string(), b.to_string()]);
    assert_eq!(split("{participant}", "d/P 1.csv.gz"), pair("P 1", ""));
    assert_eq!(split("{participant}_{snippet}", "p01_Sum_Array.tsv"), pair("p01", "Sum_Array"));
    assert_eq!(split("{snippet}-{participant}_all_gaze", "A-User 0_all_gaze.csv"), pair("User 0", "A"));
    assert_eq!(split("rec-{participant}", "rec-7"), pair("7", ""));
    let bids = "sub-{participant}_*task-{snippet}_*physio";
    assert_eq!(split(bids, "sub-01_task-Sum_physio.tsv.gz"), pair("01", "Sum"));
    assert_eq!(split(bids, "sub-01_ses-2_task-Sum_run-1_recording-eye1_physio.tsv.gz"), pair("01", "Sum"));
    assert!(split(bids, "sub-01_ses-2_recording-eye1_physio.tsv.gz").is_err());
    let wrong = "x/p01.tsv: its name does not fit file_name = \"{participant}_{snippet}\" of the mapping; rename \
                 it or mend the pattern";
    assert_eq!(split("{participant}_{snippet}", "x/p01.tsv"), Err(wrong.into()));
    assert!(split("{participant}_{snippet}", "_a.tsv").is_err() && split("a{participant}", "b.csv").is_err());
    // {snippet} in the pattern replaces the column, unless one is named
    let column = |text: &str| Mapping::parse(text).unwrap().snippet_column().map(str::to_string);
    assert_eq!(column("").as_deref(), Some("snippet"));
    assert_eq!(column("file_name = \"{participant}_{snippet}\"").as_deref(), None);
    assert_eq!(column("file_name = \"{participant}_{snippet}\"\nsnippet = \"S\"").as_deref(), Some("S"));
}

#[test]
fn snippets_are_ignored_by_name_or_its_start() {
    let mapping = Mapping { ignore: vec!["Cross".into(), "Eyetracker*".into()], ..Mapping::default() };
    assert!(mapping.ignores("Cross") && mapping.ignores("Eyetracker Calibration"));
    assert!(!mapping.ignores("Cross2") && !mapping.ignores("Sum"));
}

#[test]
fn lost_samples_are_known_by_their_values() {
    let lost = |text: &str, pairs: &[(f64, f64)]| -> Vec<bool> {
        let mapping = Mapping::parse(text).unwrap();
        pairs.iter().map(|&(x, y)| mapping.marks_lost(x, y)).collect()
    };
    let pairs = [(0.0, 0.0), (0.0, 5.0), (-1.0, -1.0), (5.0, -1.0), (1e8, 1e8), (-32768.0, 9.0), (7.0, 7.0)];
    assert_eq!(lost("", &pairs), [true, false, true, true, true, true, false]);
    assert_eq!(lost("missing = []", &pairs), [false; 7]);
    assert_eq!(lost("missing = [7]", &pairs), [false, false, false, false, false, false, true]);
    // the first line and column of a file that counts from 0
    let source = "line = \"l\"\ncolumn = \"c\"\nfirst_line = 0\nfirst_column = 0";
    assert_eq!(lost(source, &pairs[..3]), [false, false, true]);
    let mapping = Mapping::parse("missing = [\"Lost\", 0]").unwrap();
    assert!(mapping.marks_missing(b"lost") && mapping.marks_missing(b"NaN") && !mapping.marks_missing(b"0"));
}

proptest! {
    #[test]
    fn any_text_is_a_mapping_or_an_error(
        text in "\\PC{0,200}",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Mapping::parse(&text);
        let _ = Mapping::parse(&String::from_utf8_lossy(&bytes));
        let pattern = Mapping { file_name: text.clone(), ..Mapping::default() };
        let _ = pattern.from_file_name(Path::new(&text));
    }
}
