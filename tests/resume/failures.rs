//! What fails on the way leaves the last checkpoint.

use super::{Case, checkpoints, end, rows, signal, whole};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Steps of some milliseconds, so that there is time to spoil the second checkpoint.
const FAILING: &[&str] =
    &["train.method=full", "lora.r=16", "train.max_steps=100", "train.save_steps=25", "data.max_tokens=200"];

/// Lets a run fail at a checkpoint: `spoil` does its work when the first one is there.
fn failing(case: &Case, spoil: &dyn Fn(&Child), why: &str) {
    let sets = FAILING;
    let mut command = case.train("out", sets, &[]);
    // as a shell does it whose user had it ignored: writing beyond the limit is then an error, and no death
    let args: Vec<_> = command.get_args().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let line = format!("trap '' XFSZ; exec '{}'", args.join("' '"));
    command = Command::new("sh");
    command.args(["-c", &line]).current_dir(case.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("starts");
    while !case.path("out/checkpoint-25").exists() {
        std::thread::sleep(Duration::from_micros(200));
    }
    signal(&child, "STOP");
    spoil(&child);
    signal(&child, "CONT");
    let ended = end(child);
    let kept = checkpoints(&case.path("out"));
    assert!(kept.iter().all(|(_, dir)| whole(dir)));
    let last = kept.last().expect("one is left").0;
    let why = why.replace("NEXT", &format!("out/checkpoint-{}", last + 25));
    let sentence = format!(
        "eyekern: out/checkpoint-{}: the checkpoint cannot be written: {why}; out/checkpoint-{last} is whole, and \
         --resume auto goes on from it\n",
        last + 25
    );
    assert_eq!((ended.stderr, ended.code), (sentence, Some(3)));
    // what a user put there is not ours to remove
    let partial = case.path(&format!("out/checkpoint-{}.partial", last + 25));
    assert_eq!(partial.exists(), why.ends_with("File exists (os error 17)"));
    case.resumed("out", sets);
    case.same("out", "reference");
    std::fs::remove_dir_all(case.path("out")).expect("removes");
}

#[test]
fn a_checkpoint_that_fails_leaves_the_one_before() {
    let case = Case::new();
    case.write("train.jsonl", &rows(60, 0));
    case.trained("reference", FAILING);
    let size = case.path("reference/checkpoint-100/state.safetensors").metadata().expect("there").len();
    assert!(case.path("reference/metrics.jsonl").metadata().expect("there").len() < size - 100, "it would fail first");
    // no file may grow to the size of the state, as on a full disk
    let limit = |child: &Child| {
        let (pid, size) = (format!("--pid={}", child.id()), format!("--fsize={}", size - 100));
        assert!(Command::new("prlimit").args([pid, size]).status().expect("prlimit").success());
    };
    failing(&case, &limit, "NEXT.partial/state.safetensors: cannot write: File too large (os error 27)");
    let remove = |_: &Child| std::fs::remove_file(case.path("out/metrics.jsonl")).expect("removes");
    failing(&case, &remove, "out/metrics.jsonl: cannot copy: No such file or directory (os error 2)");
    let block = |_: &Child| {
        for step in [50, 75, 100] {
            let _ = std::fs::create_dir(case.path(&format!("out/checkpoint-{step}.partial")));
        }
    };
    failing(&case, &block, "NEXT.partial: cannot create: File exists (os error 17)");
}

#[test]
fn a_loss_that_is_not_finite_names_the_checkpoint() {
    let case = Case::new();
    let sets = ["train.learning_rate=1e38", "train.lr_scheduler_type=constant", "train.save_steps=1"];
    let ended = end(case.train("out", &sets, &[]).spawn().expect("starts"));
    let (step, dir) = checkpoints(&case.path("out")).pop().expect("a checkpoint");
    assert!(whole(&dir) && ended.code == Some(1));
    let start = format!("eyekern: training stopped at step {}: the ", step + 1);
    let tail = format!("; out/checkpoint-{step} is whole, and --resume auto goes on from it\n");
    assert!(ended.stderr.starts_with(&start) && ended.stderr.ends_with(&tail), "{}", ended.stderr);
}
