//! `eyekern priors build`: lost samples, several recordings in one file, fixations, source positions, BIDS, XML.

use super::gaze::*;
use super::*;

/// The second line of the report: samples, lost, fixations, on a token.
fn first_line(ran: Ran) -> Vec<String> {
    let (text, _) = ran.noted();
    text.lines().nth(1).expect("a participant").split_whitespace().take(5).map(String::from).collect()
}

/// One look of a second, every sixth sample lost: the marks of vendors give what an empty field gives.
#[test]
fn lost_samples_are_known_however_they_are_written() {
    let case = good();
    let marked = |x: &str, y: &str| {
        let row = |i: usize| {
            let (x, y) = if i % 6 == 5 { (x, y) } else { ("80", "210") };
            format!("{},{x},{y},A\n", 17 * i)
        };
        (0..60).map(row).fold("time_ms,x_px,y_px,snippet\n".to_string(), |text, row| text + &row)
    };
    let ran = |x: &str, y: &str, mapping: &str| {
        case.write("P.csv", marked(x, y));
        case.write("m.toml", mapping);
        build(&case, &["P.csv", "--mapping", "m.toml"])
    };
    let expected = ["P", "60", "10", "1", "1"];
    for (x, y) in [
        ("", ""),
        (".", "."),
        ("None", "(null)"),
        ("-1.#IND", "1.#QNAN"),
        ("0", "0"),
        ("0.00", "-0.0"),
        ("-1", "-1"),
        ("100000000", "100000000"),
        ("1e8", "210"),
        ("-32768", "-32768.0"),
        ("80", "-5"),
        ("1e300", "210"),
    ] {
        assert_eq!(first_line(ran(x, y, "")), expected, "{x},{y}");
    }
    assert_eq!(first_line(ran("9999", "210", "missing = [9999]")), expected);
    assert_eq!(first_line(ran("9999", "210", "screen = [1920, 1080]")), expected);
    assert_eq!(first_line(ran("LOST", "lost", "missing = [\"lost\", 0]")), expected);
    // one coordinate may be 0; then the look is cut
    assert_eq!(ran("0", "210", "").code, Some(3));
}

const HEAD: &str = "session,time_ms,x_px,y_px,snippet\n";

/// Seven samples from time 0 on each of these tokens, as one recording.
fn recorded(name: &str, tokens: &[usize]) -> String {
    let body = gaze(tokens);
    body.lines().skip(1).map(|line| format!("{name},{line}\n")).collect()
}

#[test]
fn recordings_of_one_file_are_told_apart() {
    let case = good();
    let two = format!("{HEAD}{}{}", recorded("1", &[0, 3]), recorded("2", &[4, 5]));
    case.write("P.csv", &two);
    let back = build(&case, &["P.csv"]);
    assert_eq!(back.code, Some(3));
    assert!(
        back.stderr.contains("P.csv:16: its time 0 is before that of line 15; if another recording"),
        "{}",
        back.stderr
    );
    case.write("m.toml", "recording = \"session\"\n");
    let with = ["P.csv", "--mapping", "m.toml"];
    assert_eq!(first_line(build(&case, &with)), ["P", "28", "0", "4", "4"]);
    // no path leads from one recording to the next: a step in each
    let all = shown(&case, "priors.json");
    let steps = all["bigrams"].as_array().expect("bigrams").iter().filter_map(|b| b["count"].as_u64()).sum::<u64>();
    assert_eq!(steps, 2);
    // a column of the name `recording` needs no mapping
    case.write("R.csv", two.replacen("session", "recording", 1));
    assert_eq!(first_line(build(&case, &["R.csv"])), ["R", "28", "0", "4", "4"]);
    // sorted by time, two recordings look like one person who looks here and there
    let mut rows: Vec<&str> = two.lines().skip(1).collect();
    rows.sort_by_key(|row| row.split(',').nth(1).and_then(|time| time.parse::<u32>().ok()));
    case.write("P.csv", HEAD.to_string() + &rows.join("\n") + "\n");
    build(&case, &["P.csv"]).refused(
        3,
        "P.csv:3: 26 of 28 samples jump away from the sample before them and back, first this one; the rows of \
         several recordings are mixed: set `recording` in the mapping to the column that tells them apart and keep the \
         rows of each together, or put each into a file of its own",
    );
    // with clocks of their own
    let late = |row: &&str| {
        let field: Vec<&str> = row.splitn(3, ',').collect();
        format!("{0},{1}.{0},{2}\n", field[0], field[1], field[2])
    };
    case.write("S.csv", HEAD.to_string() + &rows.iter().map(late).collect::<String>());
    assert!(build(&case, &["S.csv"]).stderr.contains("samples jump away from the sample before them and back"));
    case.write("T.csv", HEAD.replacen("session", "recording", 1) + &rows.join("\n") + "\n");
    build(&case, &["T.csv"]).refused(
        3,
        "T.csv:4: recording `1` goes on here after another one, so their rows are mixed; keep the rows of each \
         recording together",
    );
    // the same with another snippet each
    case.write("code/B.java", CODE);
    case.write(
        "boxes.csv",
        boxes() + &boxes().lines().skip(1).map(|l| l.replacen('A', "B", 1) + "\n").collect::<String>(),
    );
    let other = |row: &str| if row.starts_with('2') { row.replace(",A", ",B") + "\n" } else { row.to_string() + "\n" };
    case.write("Q.csv", HEAD.to_string() + &rows.iter().map(|row| other(row)).collect::<String>());
    build(&case, &["Q.csv"]).refused(
        3,
        "Q.csv: the snippet or participant changes 28 times in 28 samples; the rows of several recordings are mixed: \
         set `recording` in the mapping to the column that tells them apart and keep the rows of each together, or put \
         each into a file of its own",
    );
    build(&case, &with).refused(
        3,
        "P.csv:4: recording `1` goes on here after another one, so their rows are mixed; keep the rows of each \
         recording together",
    );
}

#[test]
fn wrong_files_of_fixations_are_refused() {
    let case = good();
    case.write("m.toml", "time = \"t\"\nduration = \"d\"\nx = \"x\"\ny = \"y\"\n");
    let ran = |rows: &str| {
        case.write("P.csv", format!("t,d,x,y,snippet\n{rows}"));
        build(&case, &["P.csv", "--mapping", "m.toml"])
    };
    assert_eq!(first_line(ran("0,200,80,210,A\n250,200,,,A\n500,200,380,210,A\n")), ["P", "3", "1", "2", "2"]);
    let again = "another recording begins here, set `recording` in the mapping to the column that tells recordings \
                 apart, or put each into a file of its own; a file of fixations has one row per fixation, in order of \
                 time";
    ran("5,200,80,210,A\n5,220,80,210,A\n")
        .refused(3, &format!("P.csv:3: its time 5 is also that of line 2; if {again}"));
    ran("0,200,80,210,A\n8,200,80,210,A\n").refused(
        3,
        "P.csv:3: the fixation starts before that of line 2 ends; a file of fixations has one row per fixation, and \
         those of one eye",
    );
    ran("5,-200,80,210,A\n").refused(3, "P.csv:2: d is `-200`, so the fixation ends before it starts; correct the row");
    for number in ["NaN", "1e300", "x", "inf"] {
        let why = format!("P.csv:2: d is `{number}`, which is no time; correct the row, or `decimal` in the mapping");
        ran(&format!("5,{number},80,210,A\n")).refused(3, &why);
    }
    ran("0,0.2,80,210,A\n250,0.25,380,210,A\n").refused(
        3,
        "P.csv: read in ms, the median duration of its fixations is 0.2500 ms, and fixations have 30 to 5000; \
         duration_unit = \"s\" would make it 250 ms: set it in the mapping",
    );
    case.write("m.toml", "time = \"t\"\nend = \"d\"\nx = \"x\"\ny = \"y\"\n");
    ran("500,200,80,210,A\n").refused(3, "P.csv:2: d is `200`, so the fixation ends before it starts; correct the row");
    assert_eq!(first_line(ran("0,200,80,210,A\n")), ["P", "1", "0", "1", "1"]);
    assert_eq!(shown(&case, "priors.json")["built"]["method"]["fixations"], "of the recordings");
}

/// Two files of one name in folders of the project, and everything that a recording of positions can get wrong.
#[test]
fn positions_in_source_files_need_no_boxes() {
    let case = Case::empty();
    for folder in ["src/a", "src/b"] {
        std::fs::create_dir_all(case.path(folder)).expect("creates");
    }
    case.write("src/a/A.java", CODE);
    case.write("src/b/A.java", "class A {}\n");
    case.write("src/notes.txt", "no code");
    case.write("m.toml", "time = \"t\"\nduration = \"d\"\nsnippet = \"file\"\nline = \"line\"\ncolumn = \"column\"\n");
    let start = ["priors", "build", "--snippets", "src", "-o", "p.json", "--gaze", "P.csv", "--mapping", "m.toml"];
    let ran = |rows: &str| {
        case.write("P.csv", format!("t,d,file,line,column\n{rows}"));
        case.run(&start, &[])
    };
    // `f`, a blank, `return`, a look beside the text, and the class of the other file
    let rows = "0,200,C:\\x\\src\\a\\A.java,1,5\n300,200,C:\\x\\src\\a\\A.java,1,4\n\
                600,200,a/A.java,1,16\n900,200,,-1,-1\n1200,200,/x/src/b/A.java,1,7\n";
    let refusal = "P.csv:4: `a/A.java` and `C:\\x\\src\\a\\A.java` are both taken for a/A.java of --snippets; put \
                   the files there in the folders that tell them apart";
    ran(rows).refused(3, refusal);
    assert_eq!(
        first_line(ran(&rows.replace("C:\\x\\src\\", ""))),
        ["P", "5", "1", "4", "3"].map(String::from).to_vec()
    );
    let all = shown(&case, "p.json");
    assert_eq!(all["built"]["method"]["source_positions"], true);
    // `class A` beside the method: each file was shown whole
    let declared = all["labels"].as_array().expect("labels").iter().find(|l| l["id"] == FD).cloned().expect("a label");
    assert_eq!((&declared["c1"], &declared["ntok"]), (&2.into(), &4.into()));
    ran("0,200,a/B.java,1,1\n").refused(
        3,
        "P.csv:2: `a/B.java` is no source file of --snippets (src has a/A.java, b/A.java); add it, or list it under \
         `ignore` in the mapping",
    );
    ran("0,200,a/A.java,0,4\n")
        .refused(3, "P.csv:2: line is 0, but they are counted from 1; set first_line = 0 in the mapping");
    ran("0,200,a/A.java,1,0\n")
        .refused(3, "P.csv:2: column is 0, but they are counted from 1; set first_column = 0 in the mapping");
    for number in ["-7", "1.5", "1e300"] {
        let ran = ran(&format!("0,200,a/A.java,{number},4\n"));
        let end = "which is no number of one; list it under `missing` if it marks a lost sample\n";
        assert!(
            ran.code == Some(3) && ran.stderr.starts_with("eyekern: P.csv:2: line is ") && ran.stderr.ends_with(end)
        );
    }
    ran("0,200,a/A.java,1,-1\n").refused(
        3,
        "P.csv: all 1 samples of participant `P` are lost (empty or not valid); check `line`, `column`, `missing`, \
         `validity` and `valid` in the mapping",
    );
    case.write("boxes.csv", boxes());
    case.run(&[&start[..], &["--boxes", "boxes.csv"]].concat(), &[]).refused(
        2,
        "--boxes boxes.csv: the mapping has lines and columns of source files, which need no boxes; leave \
         out one of them",
    );
    let without: Vec<&str> = start.iter().copied().filter(|a| !matches!(*a, "--mapping" | "m.toml")).collect();
    case.run(&without, &[]).refused(
        2,
        "--boxes is missing: positions on the screen need a table of token boxes; lines and columns of source files \
         (`line` and `column` in the mapping) need none",
    );
    std::fs::create_dir(case.path("empty")).expect("creates");
    let empty: Vec<&str> = start.iter().map(|a| if *a == "src" { "empty" } else { a }).collect();
    case.run(&empty, &[])
        .refused(3, "empty: has no source file in a known language; put the code that was shown there");
}

#[test]
fn wrong_bids_recordings_are_refused() {
    let case = good();
    case.write(
        "m.toml",
        "format = \"bids\"\ntime = \"timestamp\"\nx = \"x\"\ny = \"y\"\n\
         file_name = \"sub-{participant}_task-{snippet}_physio\"\n",
    );
    let name = "sub-P_task-A_physio";
    let rows: String = (0..7).map(|i| format!("{}\t80\t210\n", 20 * i)).collect();
    case.write(&format!("{name}.tsv"), &rows);
    let good = serde_json::json!({"Columns": ["timestamp", "x", "y"], "SamplingFrequency": 50, "StartTime": 0});
    let ran = |change: &dyn Fn(&mut Value)| {
        let mut sidecar = good.clone();
        change(&mut sidecar);
        case.write(&format!("{name}.json"), sidecar.to_string());
        build(&case, &[&format!("{name}.tsv"), "--mapping", "m.toml"])
    };
    assert_eq!(first_line(ran(&|_| {})), ["P", "7", "0", "1", "1"]);
    let refuse = |key: &str, value: Value, why: &str| {
        ran(&|sidecar| sidecar[key] = value.clone()).refused(3, &format!("{name}.json: {why}"));
    };
    let columns = "but must be the list of the columns' names";
    refuse("Columns", Value::Null, &format!("Columns is missing, {columns}"));
    refuse("Columns", serde_json::json!([1]), &format!("Columns is [1], {columns}"));
    refuse("Columns", serde_json::json!(["x", "y", "x"]), "Columns has `x` twice; correct it");
    let hz = "but eye trackers have 10 to 5000 (Hz); correct it";
    refuse("SamplingFrequency", Value::Null, &format!("SamplingFrequency is missing, {hz}"));
    refuse("SamplingFrequency", 1e9.into(), &format!("SamplingFrequency is 1000000000.0, {hz}"));
    refuse("StartTime", "n/a".into(), "StartTime is \"n/a\", but must be a number of seconds; correct it");
    refuse("PhysioType", "generic".into(), "PhysioType is \"generic\", not \"eyetrack\"; name a recording of gaze");
    let origin =
        "EnvironmentCoordinates is `center`; gaze must count from the top-left corner of the screen, convert it";
    refuse("EnvironmentCoordinates", "center".into(), origin);
    let unit = "the unit of x is `deg`, which is not `coordinates` in the mapping; priors are built from pixels, or \
                from shares of the screen (normalised)";
    refuse("SampleCoordinateUnits", "deg".into(), unit);
    refuse("x", serde_json::json!({"Units": "deg"}), unit);
    let time = "the unit of timestamp is `s`; set time_unit = \"s\" in the mapping";
    refuse("timestamp", serde_json::json!({"Units": "s"}), time);
    ran(&|sidecar| sidecar["Columns"] = serde_json::json!(["timestamp", "x"])).refused(
        3,
        &format!("{name}.tsv: no column `y`; there are `timestamp`, `x`; set `y` in a mapping (--mapping)"),
    );
    ran(&|sidecar| sidecar["Columns"] = serde_json::json!(["timestamp", "x", "y", "pupil"])).refused(
        3,
        &format!("{name}.tsv:1: 3 fields where Columns of the sidecar lists 4; correct the row or the sidecar"),
    );
    let stamps = "its time stamps, read in ms, are of 50.0 Hz, but the sidecar says 500; correct SamplingFrequency, or \
                  `time` and `time_unit` in the mapping";
    ran(&|sidecar| sidecar["SamplingFrequency"] = 500.into()).refused(3, &format!("{name}.tsv: {stamps}"));
    build(&case, &[&format!("{name}.tsv")]).refused(
        3,
        &format!(
            "{name}.tsv: is a BIDS recording, without a header; describe it in a mapping (--mapping) with format = \
             \"bids\""
        ),
    );
    case.write(&format!("{name}.json"), b"\xff\xfe{\0");
    let wide = format!("{name}.json: is UTF-16 text; save it as UTF-8");
    build(&case, &[&format!("{name}.tsv"), "--mapping", "m.toml"]).refused(3, &wide);
    // a header where BIDS has none
    case.write(&format!("{name}.tsv"), format!("timestamp\tx\ty\n{rows}"));
    ran(&|_| {}).refused(
        3,
        &format!(
            "{name}.tsv:1: timestamp is `timestamp`, which is no time; correct the row, or `decimal` in the mapping"
        ),
    );
    case.write(&format!("{name}.json"), "{");
    let ran = build(&case, &[&format!("{name}.tsv"), "--mapping", "m.toml"]);
    assert!(ran.stderr.starts_with(&format!("eyekern: {name}.json: is not valid JSON (")), "{}", ran.stderr);
    std::fs::remove_file(case.path(&format!("{name}.json"))).expect("removes");
    build(&case, &[&format!("{name}.tsv"), "--mapping", "m.toml"]).refused(
        3,
        &format!(
            "{name}.tsv: has no sidecar {name}.json; put the JSON file with Columns, SamplingFrequency and StartTime \
             beside it, also where the data set has it once for all"
        ),
    );
    case.write("sub-P_task-A_physio.csv", &rows);
    build(&case, &["sub-P_task-A_physio.csv", "--mapping", "m.toml"]).refused(
        3,
        "sub-P_task-A_physio.csv: format is \"bids\" in the mapping, and such a file is named ..._physio.tsv.gz; \
         rename it",
    );
}

/// A gigabyte of zeros in a megabyte, an endless device, a quote that is never closed: one sentence, in little memory.
#[test]
fn files_that_are_no_tables_are_refused_in_little_memory() {
    let case = good();
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    for _ in 0..64 {
        std::io::Write::write_all(&mut zeros, &block).expect("packs");
    }
    case.write("P.csv.gz", zeros.finish().expect("packs"));
    let why = "has a row of more than 1 MiB; is it a table of text, and is every quote closed?";
    build(&case, &["P.csv.gz"]).refused(3, &format!("P.csv.gz: {why}"));
    let open = format!("time_ms,x_px,y_px,snippet\n0,1,2,\"A\n{}", "1,80,210,A\n".repeat(200_000));
    case.write("P.csv", open);
    build(&case, &["P.csv"]).refused(3, &format!("P.csv: {why}"));
    if Path::new("/dev/zero").exists() {
        build(&case, &["/dev/zero"]).refused(3, &format!("/dev/zero: {why}"));
    }
    case.write("m.toml", "format = \"xml\"\nelement = \"gaze\"\n");
    let xml = |bytes: &[u8], why: &str| {
        case.write("P.xml", bytes);
        build(&case, &["P.xml", "--mapping", "m.toml"]).refused(3, &format!("P.xml{why}"));
    };
    xml(b"<a/>", ": has no element `gaze`; set `element` in the mapping to the elements that are rows");
    xml(b"\xff\xfe<\0", ": is UTF-16 text; export or save it as UTF-8");
    xml(b"<\0a\0/\0>\0", ": is UTF-16 text; export or save it as UTF-8");
    xml(b"<a><gaze x=\"1\"/></a>", ": no column `time_ms`; there are `x`; set `time` in a mapping (--mapping)");
    build(&case, &["P.xml"])
        .refused(3, "P.xml: is XML; describe it in a mapping (--mapping) with format = \"xml\" and `element`");
    let bomb = "<!DOCTYPE l [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><l><gaze x=\"&b;\"/></l>";
    xml(bomb.as_bytes(), ":1: a document type or an entity declaration; recordings need none, remove it");
}
