//! Stopped from outside.

use super::{Case, checkpoints, end, rows, signal, whole};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A run of many steps, after its first line.
fn running(case: &Case, sets: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = case.train("out", sets, &[]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("step ") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0);
    }
    (child, lines)
}

const LONG: [&str; 4] =
    ["train.max_steps=1000", "train.save_steps=500", "train.logging_steps=1", "train.eval_steps=100"];

#[test]
fn a_signal_ends_with_a_checkpoint() {
    let case = Case::new();
    case.trained("reference", &LONG);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let (child, lines) = running(&case, &LONG);
        signal(&child, name);
        drop(std::thread::spawn(move || lines.lines().count()));
        let ended = end(child);
        let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
        let why = format!(
            "interrupted after step {step}; the same command with --resume auto goes on from out/checkpoint-{step}"
        );
        assert_eq!((ended.stderr, ended.code), (format!("eyekern: {why}\n"), Some(code)));
        assert!(whole(&dir) && step < 1000 && ended.stdout.is_empty());
        case.resumed("out", &LONG);
        case.same("out", "reference");
        std::fs::remove_dir_all(case.path("out")).expect("removes");
    }
    // a pipe that is closed is the wish of its reader, and no failure
    let (child, lines) = running(&case, &LONG);
    drop(lines);
    let ended = end(child);
    assert_eq!((ended.stderr.as_str(), ended.code), ("", Some(0)));
    let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
    assert!(whole(&dir) && step < 1000, "it did not stop: {step}");
    case.resumed("out", &LONG);
    case.same("out", "reference");
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let case = Case::new();
    let mut nohup = Command::new("sh");
    let line =
        format!("trap '' HUP; exec {} train recipe.toml --set train.max_steps=1000", env!("CARGO_BIN_EXE_eyekern"));
    nohup.args(["-c", &line]).current_dir(case.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = nohup.spawn().expect("starts");
    while !case.path("out/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "HUP");
    assert_eq!(end(child).code, Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let case = Case::new();
    // one step over many tokens: it takes seconds
    case.write("train.jsonl", &rows(60_000, 0));
    let sets = ["train.gradient_accumulation_steps=100000", "data.max_tokens=4096", "train.max_steps=9"];
    let mut child = case.train("out", &sets, &[]).spawn().expect("starts");
    while !case.path("out/metrics.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // two that are pending at once are one to the system, so more are sent until two have arrived
    while child.try_wait().expect("a child").is_none() {
        signal(&child, "INT");
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = end(child);
    assert_eq!((ended.stderr.as_str(), ended.code), ("", Some(130)));
    assert!(checkpoints(&case.path("out")).is_empty());
}
