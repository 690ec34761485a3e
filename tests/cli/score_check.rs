//! `eyekern score --check`: outcomes, pass@k, and what is left of a command that does not end.

use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

/// Four predictions: the commands below go by their words.
fn case() -> Case {
    let case = Case::empty();
    case.write("hyp.txt", "good\nbad\nkill\ngood\n");
    case.write("ref.txt", "good\ngood a\ngood b\nc\n");
    std::fs::create_dir(case.path("tmp")).expect("creates");
    case
}

/// A command of these four, with temporary folders in `tmp`.
fn check(case: &Case, command: &str, more: &[&str]) -> Ran {
    let files = ["score", "--hyp", "hyp.txt", "--ref", "ref.txt", "--task", "completion", "--metrics", "strict_exact"];
    let args = [&files[..], &["--check", command], more].concat();
    let tmp = case.path("tmp");
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TMPDIR", tmp.to_str().expect("UTF-8"))];
    case.run(&args, &env)
}

fn report(case: &Case, command: &str, more: &[&str]) -> Value {
    let ran = check(case, command, &[&["--format", "json"], more].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(listing(&case.path("tmp")).len(), 0, "temporary folders are left");
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// Fails on `bad`, ends by a signal on `kill`.
const BY_WORD: &str =
    "sh -c 'case $(cat \"$1\") in *good*) echo fine;; kill) kill -9 $$;; *) echo \"no $0\" >&2; exit 3; esac' it {}";

#[test]
fn outcomes_are_counted_apart() {
    let case = case();
    let json = report(&case, BY_WORD, &["--check-timeout", "600", "--examples", "out.jsonl", "--check-jobs", "3"]);
    assert_eq!(json["check"], json!({"pass": 2, "fail": 1, "error": 1, "timeout": 0}));
    assert_eq!(json["metrics"]["check_pass"], 0.5);
    // constants fail; three of four references pass, also with a run-on, and wherever they are shuffled to
    let panel = |column: &str| json["panel"][column]["check_pass"].as_f64();
    assert_eq!(["empty", "}", "public", "source"].map(panel), [Some(0.0), Some(0.0), Some(0.0), None]);
    assert_eq!(["run_on", "shuffled"].map(panel), [Some(0.75); 2]);
    assert_eq!(json["won_by_constant"]["check_pass"], json!([]));
    let text = String::from_utf8(case.read("out.jsonl")).expect("UTF-8");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let outcome = |row: &Value| (row["check"].clone(), row["check_output"].clone());
    assert_eq!(outcome(&rows[0]), (json!("pass"), json!("fine\n")));
    assert_eq!(outcome(&rows[1]), (json!("fail"), json!("no it\n")));
    assert_eq!(outcome(&rows[2]), (json!("error"), json!("")));
    let text = check(&case, BY_WORD, &["--check-timeout", "600"]).trained();
    assert!(text.contains("\ncheck: 2 pass, 1 fail, 1 error, 0 timeout\n"), "{text}");
    assert!(
        text.contains("\ncheck_pass     0.5000     1    0.0000   0.0000   0.0000        -   0.7500   0.7500\n"),
        "{text}"
    );
}

/// A file without a shebang and with the mark of another machine's program is not started.
#[test]
fn what_cannot_be_started_is_an_error() {
    let case = case();
    case.write("program", b"\x7fELF broken".as_slice());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(case.path("program"), mode).expect("permissions");
    let json = report(&case, "./program {}", &["--examples", "out.csv"]);
    assert_eq!(json["check"], json!({"pass": 0, "fail": 0, "error": 4, "timeout": 0}));
    let csv = String::from_utf8(case.read("out.csv")).expect("UTF-8");
    assert!(csv.starts_with("row,strict_exact,check,check_output\n1,1.0,error,not started: "), "{csv}");
}

/// An empty file passes, so the rate says nothing of the predictions.
#[test]
fn a_check_that_constants_pass_is_marked() {
    let case = case();
    let json = report(&case, "test -f {}", &["--metrics", "check_pass"]);
    assert_eq!(json["metrics"], json!({"check_pass": 1.0, "strict_exact": 0.25}));
    assert_eq!(json["won_by_constant"]["check_pass"], json!(["empty", "}", "public"]));
    assert_eq!(json["headline"], "strict_exact");
}

#[test]
fn a_command_gets_words_a_folder_and_its_row() {
    let case = case();
    let passes = |command: &str, more: &[&str]| {
        let json = report(&case, command, &[&["--check-timeout", "600"], more].concat());
        assert_eq!(json["check"]["pass"], 4, "{command}: {json}");
    };
    // no shell reads it, except one that it names
    passes("sh -c 'test \"$1$2\" = \"a  b\\$HOME\" && test -f \"$3\"' x 'a  b' $HOME {}", &[]);
    passes(
        "sh -c 'test \"$1\" = \"$PWD/prediction.py\" && test \"$(ls)\" = prediction.py' x {}",
        &["--lang", "python"],
    );
    passes("sh -c 'test \"$1\" = \"--file=$PWD/prediction.txt\" && touch made && ! read line' x --file={}", &[]);
    case.write("hyp.txt", "1 1\n2 1\n3 1\n4 1\n");
    passes("sh -c 'test \"$EYEKERN_ROW $EYEKERN_SAMPLE\" = \"$(cat $0)\"' {}", &[]);
    case.write("ref.txt", "a\nb\n");
    case.write("hyp.txt", "1 1\n1 2\n2 1\n2 2\n");
    passes("sh -c 'test \"$EYEKERN_ROW $EYEKERN_SAMPLE\" = \"$(cat $0)\"' {}", &["--samples", "2"]);
}

/// Of three samples a row passes 0, 1, 2 or 3: pass@2 is 0, 2/3, 1, 1.
#[test]
fn samples_give_pass_at_k() {
    let case = case();
    let row = |passing: usize| (0..3).map(|i| if i < passing { "good\n" } else { "bad\n" }).collect::<String>();
    case.write("hyp.txt", (0..4).map(row).collect::<String>());
    let json = report(&case, "grep -q good {}", &["--samples", "3", "--check-timeout", "600"]);
    let value = |name: &str| json["metrics"][name].as_f64().expect("a number");
    for (name, expected) in [("check_pass", 0.5), ("check_pass@2", 8.0 / 12.0), ("check_pass@3", 0.75)] {
        assert!((value(name) - expected).abs() <= 1e-12, "{name}: {}", value(name));
    }
    assert_eq!(json["check"]["pass"], 6);
}

#[test]
fn much_output_is_not_kept() {
    let case = case();
    let command = "sh -c 'head -c 3000000 /dev/zero | tr \"\\0\" x; echo end >&2' {}";
    let json = report(&case, command, &["--check-timeout", "600", "--examples", "out.jsonl"]);
    assert_eq!(json["check"]["pass"], 4);
    let text = String::from_utf8(case.read("out.jsonl")).expect("UTF-8");
    let row: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(row["check_output"], "x".repeat(2000));
}

/// Processes that run in a folder below `tmp`, or name it.
fn left(case: &Case) -> Vec<String> {
    let tmp = case.path("tmp").to_str().expect("UTF-8").to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let line = |path: PathBuf| std::fs::read_to_string(path.join("cmdline")).ok();
    // the command itself has the folder in its environment only
    processes.filter_map(line).filter(|line| line.contains(&tmp)).collect()
}

/// Waits until nothing is left: a killed process takes a moment to disappear.
fn none_left(case: &Case) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !left(case).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", left(case));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command and its child name the file, and neither ends by itself nor at SIGTERM.
const HANGS: &str = "sh -c 'trap \"\" TERM HUP INT; tail -f \"$1\" & tail -f \"$1\"; sleep 600' it {}";

#[test]
fn a_command_out_of_time_ends_with_its_children() {
    let case = case();
    let json = report(&case, HANGS, &["--check-timeout", "0.5", "--check-jobs", "4"]);
    assert_eq!(json["check"], json!({"pass": 0, "fail": 0, "error": 0, "timeout": 4}));
    none_left(&case);
    // the command ends, and a child in the background is left to be killed
    let json = report(&case, "sh -c 'tail -f \"$1\" > /dev/null 2>&1 & exit 0' it {}", &["--check-timeout", "600"]);
    assert_eq!(json["check"]["pass"], 4);
    none_left(&case);
    // a process that leaves the group and writes without an end delays nothing; it ends when nobody reads
    let json = report(&case, "sh -c 'setsid yes & exit 0' {}", &["--check-timeout", "600"]);
    assert_eq!(json["check"]["pass"], 4);
    // a child that keeps the output open delays nothing
    let json = report(&case, "sh -c 'tail -f \"$1\" & exit 0' it {}", &["--check-timeout", "600"]);
    assert_eq!(json["check"]["pass"], 4);
    none_left(&case);
}

#[test]
fn ctrl_c_ends_the_commands() {
    let case = case();
    let tmp = case.path("tmp");
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TMPDIR", tmp.to_str().expect("UTF-8"))];
    let files = ["score", "--hyp", "hyp.txt", "--ref", "ref.txt", "--task", "completion", "--metrics", "strict_exact"];
    let args = [&files[..], &["--check", HANGS, "--check-timeout", "3600", "--html", "page.html"]].concat();
    let mut command = case.command(&args, &env);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    while left(&case).is_empty() {
        assert!(Instant::now() < deadline, "no command was started");
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            None => child.kill().expect("ends"),
        }
    };
    none_left(&case);
    assert_eq!((status.code(), case.path("page.html").exists()), (Some(130), false));
    let output = child.stderr.take().map(std::io::read_to_string).expect("piped").expect("text");
    assert_eq!(output, "eyekern: interrupted; no report was written\n");
    assert_eq!(listing(&tmp).len(), 0, "temporary folders are left");
}

#[test]
fn a_check_that_cannot_work_is_refused() {
    let case = case();
    for (command, why) in [
        ("true", "put {} where the command takes the path of the prediction"),
        ("no-such-program {}", "there is no program \"no-such-program\"; give its path, or install it"),
        ("./none.sh {}", "there is no program \"./none.sh\"; give its path, or install it"),
        (" ", "the command is empty"),
        ("sh 'a {}", "a single quote is not closed"),
    ] {
        check(&case, command, &[]).refused(2, &format!("--check {command:?}: {why}"));
    }
    let time = check(&case, "true {}", &["--check-timeout", "0"]);
    assert!(time.stderr.contains("give seconds, above 0 and at most 86400") && time.code == Some(2), "{}", time.stderr);
}
