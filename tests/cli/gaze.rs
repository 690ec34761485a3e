//! `eyekern priors build`: the recordings of tests/fixtures/gaze, whose plan is known, and everything that is refused.

use super::*;

/// A method whose tokens stand 100 pixels apart, each in a box of 60 x 20.
pub const CODE: &str = "int f(int a) { return a; }\n";
const TOKENS: [(&str, usize); 6] = [("int", 0), ("f", 4), ("int", 6), ("a", 10), ("return", 15), ("a", 22)];

pub fn boxes() -> String {
    let row = |(i, (token, start)): (usize, &(&str, usize))| format!("A,{token},{start},{},200,60,20\n", 100 * i + 50);
    let rows: String = TOKENS.iter().enumerate().map(row).collect();
    format!("snippet,token,byte_start,x_px,y_px,w_px,h_px\n{rows}")
}

/// Samples every 20 ms, seven on each token that is listed: 120 ms.
pub fn gaze(tokens: &[usize]) -> String {
    let at = |(i, token): (usize, &usize)| format!("{},{},210,A\n", 20 * i, 100 * token + 80);
    let rows = tokens.iter().flat_map(|t| [t; 7]).enumerate().map(at);
    rows.fold("time_ms,x_px,y_px,snippet\n".to_string(), |text, row| text + &row)
}

/// `code/A.java`, `boxes.csv` and `P.csv`, in which all is well.
pub fn good() -> Case {
    let case = Case::empty();
    std::fs::create_dir(case.path("code")).expect("creates");
    case.write("code/A.java", CODE);
    case.write("boxes.csv", boxes());
    case.write("P.csv", gaze(&[0, 3, 5]));
    case
}

pub fn build(case: &Case, args: &[&str]) -> Ran {
    let start = ["priors", "build", "--boxes", "boxes.csv", "--snippets", "code", "-o", "priors.json", "--gaze"];
    case.run(&[&start, args].concat(), &[])
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures").join("gaze").join(name);
    path.to_string_lossy().into_owned()
}

pub fn shown(case: &Case, file: &str) -> Value {
    let text = case.run(&["priors", "show", "--priors", file, "--format", "json"], &[]).trained();
    serde_json::from_str(&text).expect("JSON")
}

/// Builds from recordings of the fixture.
fn from_fixture(case: &Case, gaze: &[&str], more: &[&str]) -> Ran {
    let (boxes, code) = (fixture("boxes.csv"), fixture("code"));
    let gaze: Vec<String> = gaze.iter().map(|name| fixture(name)).collect();
    let mut args = vec!["priors", "build", "--boxes", &boxes, "--snippets", &code, "-o", "p.json", "--gaze"];
    args.extend(gaze.iter().map(String::as_str));
    args.extend(more);
    case.run(&args, &[])
}

pub const FD: u8 = 10;
const PARAMETER: u8 = 16;
const VD: u8 = 20;
const LOOP: u8 = 13;
const RETURN: u8 = 17;
const CS: u8 = 5;

#[test]
fn the_plan_of_the_fixture_comes_out() {
    let case = Case::empty();
    let text = from_fixture(&case, &["P01.csv", "P02.csv.gz"], &[]).trained();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    // samples, lost, fixations, on a token, within 25 px, unmapped, labelled: as make_gaze.py planned them
    assert_eq!(lines[1][..8], ["P01", "341", "18", "22", "21", "21", "1", "21"]);
    assert_eq!(lines[2][..8], ["P02", "216", "18", "13", "13", "13", "0", "13"]);
    assert_eq!(lines[3][..8], ["all", "557", "36", "35", "34", "34", "1", "34"]);
    assert!(text.contains("wrote p.json: condition reading, 12 different bigrams, 15 trigrams\n"), "{text}");

    // the labels of the planned looks, by hand
    let paths: [&[u8]; 4] = [
        &[FD, PARAMETER, VD, LOOP, LOOP, LOOP, LOOP, LOOP, LOOP, RETURN, RETURN],
        &[FD, PARAMETER, PARAMETER, CS, CS, CS, RETURN, RETURN, RETURN, RETURN],
        &[FD, CS, CS, CS, CS, RETURN],
        &[FD, LOOP, LOOP, LOOP, LOOP, LOOP, RETURN],
    ];
    let all = shown(&case, "p.json");
    assert_eq!((&all["ordered"], &all["condition"]), (&Value::from(true), &Value::from("reading")));
    for (n, key) in [(1, "monograms"), (2, "bigrams"), (3, "trigrams")] {
        let mut expected = std::collections::BTreeMap::<Vec<u64>, u64>::new();
        for window in paths.iter().flat_map(|path| path.windows(n)) {
            *expected.entry(window.iter().map(|&id| id.into()).collect()).or_default() += 1;
        }
        let ids = |v: &Value| v.as_array().expect("ids").iter().filter_map(Value::as_u64).collect::<Vec<_>>();
        let found = all[key].as_array().expect(key).iter();
        let found = found.map(|e| (ids(&e["ids"]), e["count"].as_u64().expect("a count"))).collect();
        assert_eq!(expected, found, "{key}");
    }
    // c1 and ntok over both people, by hand: six tokens of the loop are looked at by P01 (`for`, `value`, `values`,
    // `total`, `value`; `total` twice), five by P02 of the eight: int value : values total += value
    let label = |name: &str| all["labels"].as_array().expect("labels").iter().find(|l| l["label"] == name).cloned();
    let counts = |name: &str| label(name).map(|l| (l["c1"].as_u64(), l["ntok"].as_u64()));
    assert_eq!(counts("loop"), Some((Some(10), Some(16))));
    assert_eq!(counts("variable declaration"), Some((Some(1), Some(8))));
    assert_eq!(counts("function declaration"), Some((Some(4), Some(8))));
    assert_eq!(counts("literal"), Some((Some(0), Some(0))));
    assert_eq!(all["built"]["method"]["dispersion_px"], 60.0);
    assert_eq!(all["built"]["participants"][0]["lost"], 18);
}

#[test]
fn exports_of_four_vendors_fit_the_mappings_of_the_docs() {
    let mapping = |name: &str| {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join("mappings");
        docs.join(name).to_string_lossy().into_owned()
    };
    for (file, map, who) in [
        ("tobii.tsv", "tobii.toml", "P01"),
        ("gazepoint_all_gaze.csv", "gazepoint.toml", "gazepoint"),
        ("eyelink.txt", "eyelink.toml", "P01"),
        ("smi.txt", "smi.toml", "smi"),
    ] {
        let case = Case::empty();
        let text = from_fixture(&case, &[file], &["--mapping", &mapping(map)]).trained();
        let line: Vec<&str> = text.lines().nth(1).expect("a participant").split_whitespace().collect();
        assert_eq!(line, [who, "202", "9", "12", "11", "11", "1", "11", "234.7"], "{file}");
        let all = shown(&case, "p.json");
        assert_eq!(all["monograms"][0]["ids"], serde_json::json!([LOOP]), "{file}");
        assert_eq!(all["monograms"][0]["count"], 6, "{file}");
    }
}

#[test]
fn thresholds_and_names_can_be_set() {
    let case = Case::empty();
    let people = |more: &[&str]| from_fixture(&case, &["P01.csv"], more).trained();
    let column =
        |text: &str, at: usize| text.lines().nth(1).and_then(|l| l.split_whitespace().nth(at)).map(String::from);
    assert_eq!(column(&people(&["--min-ms", "230"]), 3).as_deref(), Some("6")); // looks planned at 250 ms and more
    for nothing in [["--dispersion-px", "2"], ["--gap-ms", "16"]] {
        let ran = from_fixture(&case, &["P01.csv"], &nothing);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
        let why = "P01.csv: participant `P01` has no fixation in 323 samples, and 18 lost ones; check the thresholds \
                   (--dispersion-px, --min-ms, --gap-ms), and `missing`, `x`, `y` and `time_unit` in the mapping\n";
        assert!(ran.stderr.ends_with(why), "{}", ran.stderr);
    }
    assert_eq!(column(&people(&["--radius-px", "1000"]), 6).as_deref(), Some("0"));
    people(&["--condition", "debugging", "--source", "my lab, CC0"]);
    let all = shown(&case, "p.json");
    assert_eq!((&all["condition"], &all["source"]), (&Value::from("debugging"), &Value::from("my lab, CC0")));
    for (flag, value) in [("--dispersion-px", "-1"), ("--radius-px", "nan"), ("--min-ms", "inf"), ("--gap-ms", "-0.5")]
    {
        let shown = if value == "nan" { "NaN" } else { value };
        build(&good(), &["P.csv", &format!("{flag}={value}")])
            .refused(2, &format!("{flag} is {shown}, but must be at least 0"));
    }
}

#[test]
fn pictures_of_the_fixations() {
    let case = Case::empty();
    let gaze = ["P01.csv", "P02.csv.gz"];
    let text = from_fixture(&case, &gaze, &["--svg", "all"]).trained();
    assert!(text.ends_with("drew 4 pictures into all\n"), "{text}");
    let svg = String::from_utf8(case.read("all/P01-Sum.svg")).expect("UTF-8");
    assert!(svg.starts_with("<svg ") && svg.contains("Sum read by P01"));
    assert!(svg.contains("12 fixations, 2.8 s: 11 on a token, 0 near one, 1 on none (1 beyond the picture)"), "{svg}");
    // 11 fixations and 5 in the legend
    assert_eq!(svg.matches("<circle").count(), 16);
    assert!(svg.contains(">values</text>") && svg.contains(">12</text>"));
    let text = from_fixture(&case, &gaze, &["--svg", "one", "--svg-participant", "P02"]).trained();
    assert!(text.ends_with("drew 2 pictures into one\n"), "{text}");
    assert_eq!(listing(&case.path("one")).len(), 2);
    let nobody = from_fixture(&case, &gaze, &["--svg", "x", "--svg-participant", "P03"]);
    nobody.refused(2, "--svg-participant: no participant \"P03\"; the participants are P01, P02");
}

#[test]
fn a_token_looked_at_twice_in_a_row_is_one_visit() {
    let case = good();
    // `(` has a box but no label
    case.write("boxes.csv", boxes() + "A,(,5,50,400,60,20\n");
    // looks as (milliseconds of the first sample, x, y): `f`, then `f` again after a gap, `(`, a blank place, `f`, `a`
    let looks = [(0, 180, 210), (220, 180, 210), (440, 80, 410), (660, 700, 600), (880, 180, 210), (1100, 380, 210)];
    let rows = looks.iter().flat_map(|(ms, x, y)| (0..7).map(move |i| format!("{},{x},{y},A\n", ms + 20 * i)));
    case.write("P.csv", rows.fold("time_ms,x_px,y_px,snippet\n".to_string(), |text, row| text + &row));
    let report = build(&case, &["P.csv"]).trained();
    let line: Vec<&str> = report.lines().nth(1).expect("a line").split_whitespace().collect();
    // six fixations: five on a token, one on none; four of them labelled
    assert_eq!(line, ["P", "42", "0", "6", "5", "5", "1", "4", "120.0"], "{report}");
    let all = shown(&case, "priors.json");
    let counts = |key: &str| -> Vec<(Value, u64)> {
        let entries = all[key].as_array().expect(key).iter();
        entries.map(|e| (e["ids"].clone(), e["count"].as_u64().expect("a count"))).collect()
    };
    // the path is f, a: neither the bracket nor the blank place nor looking again makes a step
    assert_eq!(counts("monograms"), [(serde_json::json!([FD]), 1), (serde_json::json!([PARAMETER]), 1)]);
    assert_eq!(counts("bigrams"), [(serde_json::json!([FD, PARAMETER]), 1)]);
    assert_eq!(counts("trigrams"), []);
}

#[test]
fn a_path_does_not_cross_from_one_viewing_to_the_next() {
    let case = good();
    std::fs::copy(case.path("code/A.java"), case.path("code/B.java")).expect("copies");
    let text = boxes();
    case.write(
        "boxes.csv",
        text.clone() + &text.lines().skip(1).map(|l| l.replacen('A', "B", 1) + "\n").collect::<String>(),
    );
    // f, a of A; then f, a of B; then `return` of A again
    let looks = [(0, 1, "A"), (200, 3, "A"), (400, 1, "B"), (600, 3, "B"), (800, 4, "A")];
    let row = |(ms, token, name): (usize, usize, &str)| -> String {
        (0..7).map(|i| format!("{},{},210,{name}\n", ms + 20 * i, 100 * token + 80)).collect()
    };
    case.write("P.csv", "time_ms,x_px,y_px,snippet\n".to_string() + &looks.map(row).concat());
    build(&case, &["P.csv"]).trained();
    let all = shown(&case, "priors.json");
    assert_eq!(all["bigrams"][0]["ids"], serde_json::json!([FD, PARAMETER]));
    assert_eq!((&all["bigrams"][0]["count"], all["bigrams"].as_array().map(Vec::len)), (&Value::from(2), Some(1)));
    // a snippet that comes back was shown once: two tokens `return` and `a` in each of A and B, one of four looked at
    let label =
        |id: u8| all["labels"].as_array().and_then(|l| l.iter().find(|l| l["id"] == id)).cloned().expect("a label");
    assert_eq!((&label(RETURN)["c1"], &label(RETURN)["ntok"]), (&Value::from(1), &Value::from(4)));
    assert_eq!((&label(PARAMETER)["c1"], &label(PARAMETER)["ntok"]), (&Value::from(2), &Value::from(4)));
}

#[test]
fn wrong_recordings_are_refused() {
    let case = good();
    let refuse = |text: &str, message: &str| {
        case.write("P.csv", text);
        build(&case, &["P.csv"]).refused(3, message);
    };
    let text = gaze(&[0, 3]);
    let remedy = "set `x` in a mapping (--mapping)";
    refuse(
        &text.replacen("x_px", "GazeX", 1),
        &format!("P.csv:1: no column `x_px`; there are `time_ms`, `GazeX`, `y_px`, `snippet`; {remedy}"),
    );
    refuse(
        &text.replace(',', ";"),
        "P.csv:1: no column `time_ms`; there are `time_ms;x_px;y_px;snippet` (is `delimiter` right?); set `time` in a \
         mapping (--mapping)",
    );
    refuse(
        &text.replacen("\n40,", "\n4,", 1),
        "P.csv:4: its time 4 is before that of line 3; if another recording begins here, set `recording` in the \
         mapping to the column that tells recordings apart, or put each into a file of its own; sort the rows by time \
         only if they are of one recording",
    );
    refuse(
        &text.replacen("\n40,", "\n4o,", 1),
        "P.csv:4: time_ms is `4o`, which is no time; correct the row, or `decimal` in the mapping",
    );
    refuse(
        &text.replacen("\n40,80,", "\n40,8 0,", 1),
        "P.csv:4: x_px is `8 0`, which is no number; correct the row, or set `decimal` or `missing` in the mapping",
    );
    refuse(
        &text.replacen("\n40,80,210,A", "\n40,80", 1),
        "P.csv:4: 2 fields where the header has 4; is the line cut short, or `delimiter` wrong?",
    );
    refuse(
        &text.replacen(",A\n", ",B\n", 1),
        "P.csv:2: snippet `B` has no boxes (boxes.csv has A); add them, or list it under `ignore` in the mapping",
    );
    refuse("", "P.csv: is empty; a header line with the names of the columns is needed");
    refuse("time_ms,x_px,y_px,snippet\n", "P.csv: has a header but no rows; export the recording again");
    refuse(
        "time_ms,x_px,y_px,snippet\n0,1,2,\n",
        "P.csv: none of its 1 rows is a sample of a snippet; check `snippet`, `ignore`, `rows` and `keep` in the \
         mapping",
    );
    refuse(
        "time_ms,x_px,y_px,snippet\n0,NaN,2,A\n20,,,A\n40,.,.,A\n",
        "P.csv: all 3 samples of participant `P` are lost (empty, not valid, or off the screen); check `x`, `y`, \
         `screen`, `missing`, `validity` and `valid` in the mapping",
    );
    let packed: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2];
    case.write("P.csv.gz", packed);
    let ran = build(&case, &["P.csv.gz"]);
    assert!(ran.stderr.starts_with("eyekern: P.csv.gz: the gzip stream is damaged or cut short ("), "{}", ran.stderr);
    assert_eq!(ran.code, Some(3));
    build(&case, &["none.csv"]).refused(3, "none.csv: cannot read: No such file or directory (os error 2)");
    case.write("P.csv", &text);
    build(&case, &["P.csv", "P.csv"]).refused(2, "--gaze P.csv is given twice; its fixations would count twice");
    build(&case, &["P.csv", "./P.csv"]).refused(2, "--gaze ./P.csv is given twice; its fixations would count twice");
    let build = ["priors", "build", "--boxes", "boxes.csv", "--snippets", "code", "--gaze", "P.csv", "-o"];
    for file in ["P.csv", "./boxes.csv", "code/A.java"] {
        let why = format!("-o {file}: the command reads this file, and would write over it; name another");
        case.run(&[&build[..], &[file]].concat(), &[]).refused(2, &why);
    }
}

#[test]
fn wrong_units_are_told_with_the_right_one() {
    let case = good();
    let text = gaze(&[0, 3, 5]);
    let scaled = |factor: f64| -> String {
        let row = |line: &str| match line.split_once(',') {
            Some((time, rest)) if time != "time_ms" => {
                format!("{},{rest}\n", time.parse::<f64>().expect("a time") * factor)
            }
            _ => line.to_string() + "\n",
        };
        text.lines().map(row).collect()
    };
    case.write("P.csv", scaled(1e-3));
    build(&case, &["P.csv"]).refused(
        3,
        "P.csv: read in ms, its sampling rate is 50000 Hz, and eye trackers have 10 to 5000; time_unit = \"s\" would \
         make it 50.0 Hz: set it in the mapping",
    );
    case.write("seconds.toml", "time_unit = \"s\"\n");
    build(&case, &["P.csv", "--mapping", "seconds.toml"]).trained();
    case.write("P.csv", scaled(1e3));
    build(&case, &["P.csv"]).refused(
        3,
        "P.csv: read in ms, its sampling rate is 0.0500 Hz, and eye trackers have 10 to 5000; time_unit = \"us\" would \
         make it 50.0 Hz: set it in the mapping",
    );
    // shares of the screen, taken for pixels
    let share = "0,0.1,0.3,A\n".to_string();
    let shares: String = (0..30).map(|i| share.replacen('0', &(20 * i).to_string(), 1)).collect();
    case.write("P.csv", format!("time_ms,x_px,y_px,snippet\n{shares}"));
    build(&case, &["P.csv"]).refused(
        3,
        "P.csv: all coordinates lie within 3 pixels of the corner, so they are not in pixels; set coordinates = \
         \"normalised\" and screen in the mapping",
    );
    case.write("shares.toml", "coordinates = \"normalised\"\n");
    build(&case, &["P.csv", "--mapping", "shares.toml"]).refused(
        3,
        "P.csv:2: coordinates are normalised but the screen of participant `P` is not known; set screen = [width, \
         height] in the mapping, or list it in --participants",
    );
    case.write("people.csv", "id,screen_w,screen_h\nP,800,700\n");
    let both = ["P.csv", "--mapping", "shares.toml", "--participants", "people.csv"];
    assert!(build(&case, &both).trained().contains("within 25 px"));
    case.write("P.csv", &text);
    build(&case, &both).refused(
        3,
        "P.csv: most coordinates are far above 1, so they are not normalised; set coordinates = \"pixels\" in the \
         mapping",
    );
}

#[test]
fn wrong_boxes_and_snippets_are_refused() {
    let case = good();
    let refuse = |text: &str, message: &str| {
        case.write("boxes.csv", text);
        build(&case, &["P.csv"]).refused(3, message);
    };
    let text = boxes();
    let needs =
        "a table of token boxes needs snippet, token, byte_start, x_px, y_px, w_px, h_px, and may have screen_h";
    let found = "`snippet`, `token`, `start`, `x_px`, `y_px`, `w_px`, `h_px`";
    refuse(
        &text.replacen("byte_start", "start", 1),
        &format!("boxes.csv:1: no column `byte_start`; there are {found}; {needs}"),
    );
    refuse(
        &text.replacen("f,4,150", "f,4,100", 1),
        "boxes.csv:3: this box overlaps that of line 2; each token needs a place of its own",
    );
    refuse(
        &text.replacen("int,0,50", "int,0,-50", 1),
        "boxes.csv:2: the box from (-50, 200) to (10, 220) lies outside the screen; give pixels from its upper left \
         corner",
    );
    refuse(
        &text.replacen("f,4,", "g,4,", 1),
        "boxes.csv:3: token is `g` but code/A.java has `f` at byte 4; make the boxes from this version of the file",
    );
    refuse(
        &text.replacen("f,4,", "f,400,", 1),
        "boxes.csv:3: token is `f` but code/A.java has 27 bytes and nothing at byte 400; make the boxes from this \
         version of the file",
    );
    refuse(&text.replacen("f,4,", ",4,", 1), "boxes.csv:3: token is empty; a box needs the text it shows");
    refuse(
        &text.replacen("200,60,20", "200,0,20", 1),
        "boxes.csv:2: a box of 0 x 20 pixels; width and height must be above 0",
    );
    refuse(
        &text.replacen("A,int", "B,int", 1),
        "boxes.csv:2: code has no source file for snippet `B`; put it there, named like the snippet",
    );
    refuse(text.lines().next().expect("a header"), "boxes.csv: has a header but no rows; it must hold a row per token");
    case.write("boxes.csv", &text);
    case.write("code/A.py", "x = 1\n");
    let two = "boxes.csv:2: snippet `A` could be A.java or A.py in code; write the extension into the table";
    build(&case, &["P.csv"]).refused(3, two);
    std::fs::remove_file(case.path("code/A.py")).expect("removes");
    case.write("code/A.java", "");
    build(&case, &["P.csv"]).refused(3, "code/A.java: has no token to look at; put the code that was shown there");
}

#[test]
fn screens_choose_the_boxes() {
    let case = good();
    // the same boxes for a screen of 500 pixels, and 100 pixels lower for one of 600
    let text = boxes();
    let mut rows = text.lines().next().expect("a header").to_string() + ",screen_h\n";
    for line in text.lines().skip(1) {
        rows += &format!("{line},500\n{},600\n", line.replacen(",200,", ",300,", 1));
    }
    case.write("boxes.csv", &rows);
    build(&case, &["P.csv"]).refused(
        3,
        "P.csv:2: boxes of `A` differ by screen_h (500, 600) and participant `P` has no screen; list it in \
         --participants or set screen in the mapping",
    );
    let on_token = |screen: &str| {
        case.write("m.toml", format!("screen = {screen}\n"));
        let text = build(&case, &["P.csv", "--mapping", "m.toml"]).trained();
        text.lines().nth(1).and_then(|l| l.split_whitespace().nth(4)).map(String::from)
    };
    assert_eq!((on_token("[800, 500]").as_deref(), on_token("[800, 600]").as_deref()), (Some("3"), Some("0")));
    case.write("m.toml", "screen = [800, 700]\n");
    build(&case, &["P.csv", "--mapping", "m.toml"]).refused(
        3,
        "P.csv:2: the screen of participant `P` is 700 pixels high but boxes.csv has boxes of `A` for 500, 600; add \
         those for 700",
    );
    case.write("m.toml", "screen = [400, 500]\n");
    build(&case, &["P.csv", "--mapping", "m.toml"]).refused(
        3,
        "boxes.csv:8: this box ends at (410, 220), outside the screen of participant `P` (400 x 500); correct the box \
         or the screen",
    );
    case.write("boxes.csv", rows.replacen(",500\n", ",210\n", 1));
    build(&case, &["P.csv"]).refused(
        3,
        "boxes.csv:2: the box from (50, 200) to (110, 220) lies outside the screen of height 210; give pixels from its \
         upper left corner",
    );
}

#[test]
fn wrong_mappings_are_refused_as_configuration() {
    let case = good();
    let refuse = |text: &str, message: &str| {
        case.write("m.toml", text);
        build(&case, &["P.csv", "--mapping", "m.toml"]).refused(2, message);
    };
    refuse("\ntime_unit = \"min\"\n", "m.toml:2: unknown variant `min`, expected one of `s`, `ms`, `us`, `ns`");
    refuse(
        "delimiter = \"tab\"",
        "m.toml: delimiter is \"tab\", but must be one ASCII character, such as \",\" or \"\\t\"",
    );
    case.write("m.toml", "file_name = \"{participant}_{snippet}\"\n");
    build(&case, &["P.csv", "--mapping", "m.toml"]).refused(
        3,
        "P.csv: its name does not fit file_name = \"{participant}_{snippet}\" of the mapping; rename it or mend the \
         pattern",
    );
    case.write("Q_A.csv", gaze(&[0, 3]));
    let text = build(&case, &["Q_A.csv", "--mapping", "m.toml"]).trained();
    assert!(text.lines().nth(1).is_some_and(|l| l.starts_with("Q ")), "{text}");
}
