//! Standard output and standard error: pipes that close, disks that fill, colours; and the demo, which prints most.

use crate::Case;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// Standard error and exit code of a command that was left alone with its pipe.
fn end(child: Child) -> (String, Option<i32>) {
    let output = child.wait_with_output().expect("it ends");
    (String::from_utf8(output.stderr).expect("UTF-8"), output.status.code())
}

const RICH: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];

#[test]
fn a_pipe_that_is_closed_from_the_start() {
    let case = Case::ids();
    for args in [&["--help"][..], &["train", "--print-config"], &["train", "recipe.toml"], &["demo", "--steps", "1"]] {
        let mut child = case.command(args, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        assert_eq!(end(child), (String::new(), Some(0)), "{args:?}");
    }
}

#[test]
fn a_pipe_that_is_closed_after_a_line() {
    let case = Case::ids();
    let args = ["train", "recipe.toml", "--set", "train.max_steps=100000", "--set", "train.logging_steps=1"];
    let mut child = case.command(&args, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "model   ./model (llama), 15.1 k parameters, 3.5 k trained (lora)\n");
    assert_eq!(end(child), (String::new(), Some(0)));
    assert!(!case.path("out/adapter_model.safetensors").exists(), "it stopped, with most of its steps still to go");
}

#[test]
fn a_closed_standard_error_does_not_stop_training() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let args = ["train", "recipe.toml", "--set", "objective.gamma=0.1"];
    let mut child = case.command(&args, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(case.path("out/adapter_model.safetensors").is_file());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_a_failure_at_the_end() {
    let case = Case::ids();
    for args in [&["--version"][..], &["train", "--print-config"], &["train", "recipe.toml"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let child = case.command(args, &[]).stdout(full).stderr(Stdio::piped()).spawn().expect("starts");
        let why = "eyekern: standard output: cannot write: No space left on device (os error 28)\n";
        assert_eq!(end(child), (why.to_string(), Some(3)), "{args:?}");
    }
    assert!(case.path("out/adapter_model.safetensors").is_file(), "the training itself went through");
}

#[test]
fn a_pipe_gets_no_colours() {
    let case = Case::ids();
    for args in [
        &["--help"][..],
        &["train", "--help"],
        &["train", "--print-config"],
        &["train", "recipe.toml"],
        &["demo", "--steps", "1"],
    ] {
        let ran = case.run(args, &RICH);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(!ran.stdout.contains('\x1b') && !ran.stdout.contains('\r') && !ran.stdout.is_empty(), "{}", ran.stdout);
        assert_eq!(ran.stderr, "", "no bar either");
    }
}

#[test]
fn no_color_changes_nothing_in_a_pipe() {
    let case = Case::ids();
    let text = |env: &[(&str, &str)]| case.run(&["--help"], env).trained();
    assert_eq!(text(&[("NO_COLOR", "1")]), text(&RICH));
}

#[test]
fn errors_have_no_colours_and_no_escape_sequences() {
    let case = Case::ids();
    let ran = case.run(&["train", "recipe.toml", "--set", "train.\x1b[31mseed=1"], &RICH);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("eyekern: --set: unknown key train.\u{fffd}[31mseed; "), "{}", ran.stderr);
}

#[test]
fn help_and_version_are_no_errors() {
    let case = Case::empty();
    assert_eq!(case.run(&["--version"], &[]).trained(), concat!("eyekern ", env!("CARGO_PKG_VERSION"), "\n"));
    for args in [&["--help"][..], &["help"], &["train", "--help"], &["demo", "-h"]] {
        let text = case.run(args, &[]).trained();
        assert!(text.contains("Exit codes:\n  0  done\n") && text.contains("Examples:\n  eyekern "), "{text}");
    }
}

#[test]
fn the_demo_needs_nothing_and_can_be_gone_on_from() {
    let case = Case::empty();
    let text = case.run(&["demo", "--steps", "2"], &[]).trained();
    for part in [
        "One example, coloured by the weight of each token's loss (dim: the prompt, not supervised)\n",
        "\npublic‹1.65› void‹1.65› ",
        "\n        combined priors, paper paths, target-ast\n",
        "\nmodel   a new small model (llama), 869.5 k parameters, 869.5 k trained (full)\n",
        "\ndata    64 rows, ",
        "\n        EOS supervised in 100.0 % of rows\n",
        "\nstep 1/2  epoch ",
        "  path ",
        "  off ",
        "\nsaved to eyekern-demo/model\n\nNext:\n  eyekern train eyekern-demo/recipe.toml\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let files = ["pairs.jsonl", "recipe.toml", "model/config.json", "model/metrics.jsonl", "model/model.safetensors"];
    for name in
        files.into_iter().chain(["model/recipe.resolved.toml", "model/tokenizer.json", "model/tokenizer_config.json"])
    {
        assert!(case.path("eyekern-demo").join(name).is_file(), "{name}");
    }
    let commands = text.lines().filter_map(|line| line.strip_prefix("  eyekern "));
    for command in commands {
        let args: Vec<&str> = command.split(' ').chain(["--set", "train.max_steps=1"]).collect();
        case.run(&args, &[]).trained();
    }
    assert!(case.path("eyekern-demo/adapter/adapter_model.safetensors").is_file());
    assert!(case.path("eyekern-demo/uniform/adapter_model.safetensors").is_file());
}

#[test]
fn the_demo_is_the_same_for_the_same_seed() {
    let case = Case::empty();
    let model = |dir: &str, seed: &str| {
        case.run(&["demo", "--steps", "2", "--output-dir", dir, "--seed", seed], &[]).trained();
        case.read(&format!("{dir}/model/model.safetensors"))
    };
    let once = model("a", "7");
    assert!(model("b", "7") == once && model("c", "8") != once);
}
