//! `eyekern report` and `eyekern completions`.

use super::*;

#[test]
fn a_run_becomes_a_page_and_a_picture() {
    let case = Case::ids();
    case.train(&["train.max_steps=4", "data.validation_file=train.jsonl", "train.eval_steps=2"]).trained();
    let printed = case.run(&["report", "out"], &[]).trained();
    assert_eq!(printed, "wrote out/report.html\n");
    let page = String::from_utf8(case.read("out/report.html")).expect("UTF-8");
    let last = &case.metrics("out")[5];
    assert_eq!(last["step"], 4);
    for part in [
        "<title>eyekern report: out</title>",
        "model: ./model (llama), 15.1 k parameters, 3.5 k trained (lora)",
        "<td>4 of 4</td>",
        "learning_rate = 0.01",
        &format!("<td>{:.4}</td>", last["loss"].as_f64().expect("a loss")),
        &format!("<td>{:.4}</td>", case.series("out", "eval_loss")[1]),
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("<script") && !page.contains("class=\"note\""), "{page}");
    let printed = case.run(&["report", "out", "-o", "page.html", "--svg", "loss.svg"], &[]).trained();
    assert_eq!(printed, "wrote loss.svg\nwrote page.html\n");
    assert!(case.read("page.html") == case.read("out/report.html"));
    let svg = String::from_utf8(case.read("loss.svg")).expect("UTF-8");
    assert!(svg.starts_with("<svg xmlns=") && page.contains(svg.trim()), "the page has the same picture");
}

#[test]
fn an_unfinished_run_says_so() {
    let case = Case::ids();
    case.train(&[]).trained();
    let text = String::from_utf8(case.read("out/metrics.jsonl")).expect("UTF-8");
    case.write("out/metrics.jsonl", &text[..text.len() - 9]);
    case.run(&["report", "out"], &[]).trained();
    let page = String::from_utf8(case.read("out/report.html")).expect("UTF-8");
    for note in ["The run is not finished: 1 of 2 steps are complete.", "The last line of metrics.jsonl is incomplete"]
    {
        assert!(page.contains(&format!("<p class=\"note\">{note}")), "{note}\n{page}");
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let case = Case::ids();
    let message = "out/metrics.jsonl: cannot read: No such file or directory (os error 2)";
    case.run(&["report", "out"], &[]).refused(3, message);
    std::fs::create_dir(case.path("out")).expect("creates");
    case.write("out/metrics.jsonl", "");
    let message = "out/metrics.jsonl: has no whole first line: the run was cut before it began";
    case.run(&["report", "out"], &[]).refused(3, message);
    case.write("out/metrics.jsonl", "{\"run\": {}}\n{\"loss\": 1}\n\n");
    let message = "out/metrics.jsonl:3: is no line of a run's metrics: EOF while parsing a value at line 2 column 0";
    case.run(&["report", "out"], &[]).refused(3, message);
}

#[test]
fn a_page_is_not_written_over_the_run() {
    let case = Case::ids();
    case.train(&[]).trained();
    let why = "the command reads this file, and would write over it; name another";
    let refused = |args: &[&str], file: &str| {
        case.run(&[&["report", "out"], args].concat(), &[]).refused(2, &format!("{file}: {why}"));
    };
    refused(&["-o", "out/metrics.jsonl"], "-o out/metrics.jsonl");
    refused(&["--svg", "./out/recipe.resolved.toml"], "--svg ./out/recipe.resolved.toml");
}

#[test]
fn an_event_file_is_written_where_it_is_asked_for() {
    let case = Case::ids();
    case.train(&[]).trained();
    assert!(!case.path("out/runs").exists());
    let board = ["train.output_dir=board", "train.report_to=tensorboard", "train.overwrite_output_dir=true"];
    for _ in 0..2 {
        case.train(&board).trained();
        let files: Vec<_> = std::fs::read_dir(case.path("board/runs")).expect("a folder").collect();
        assert_eq!(files.len(), 1, "that of an earlier run goes");
        let bytes = std::fs::read(files[0].as_ref().expect("a file").path()).expect("reads");
        let count = |tag: &[u8]| bytes.windows(tag.len()).filter(|part| part == &tag).count();
        assert_eq!((count(b"brain.Event:2"), count(b"train/loss"), count(b"train/peak_bytes")), (1, 2, 2));
    }
}

#[test]
fn shells_get_every_command() {
    let case = Case::empty();
    let help = case.run(&["--help"], &[]).trained();
    let (_, list) = help.split_once("\nCommands:\n").expect("a list of commands");
    let commands: Vec<&str> = list.lines().map_while(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 10 && commands.contains(&"report"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = case.run(&["completions", shell], &[]).trained();
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("allow-changed") && script.contains("svg"), "{shell}: flags");
        if shell == "bash" {
            case.write("eyekern.bash", &script);
            for command in &commands {
                assert!(script.contains(&format!("eyekern__subcmd__{command}")), "{command}");
            }
            let read = Command::new("bash").arg("-n").arg(case.path("eyekern.bash")).output().expect("bash");
            assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
