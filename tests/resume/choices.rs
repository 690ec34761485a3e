//! Which checkpoint a run goes on from, and which it refuses.

use super::{Case, WAYS, checkpoints, end, rows, signal, whole};
use serde_json::json;

#[test]
fn a_checkpoint_that_is_not_whole_is_passed_over() {
    let case = Case::new();
    let sets = ["train.save_steps=3", "train.save_total_limit=9"];
    case.trained("reference", &sets);
    case.trained("out", &sets);
    let cut = |name: &str, bytes: usize| {
        let file = case.path("out").join(name);
        let text = std::fs::read(&file).expect("there");
        std::fs::write(&file, &text[..text.len() - bytes]).expect("writes");
    };
    cut("checkpoint-9/state.safetensors", 1);
    std::fs::remove_file(case.path("out/checkpoint-6/metrics.jsonl")).expect("removes");
    let said = case.resumed("out", &sets);
    for line in [
        "note: out/checkpoint-9: skipped, it is no whole checkpoint (state.safetensors is not as it was written)\n",
        "note: out/checkpoint-6: skipped, it is no whole checkpoint (out/checkpoint-6/metrics.jsonl: cannot read: No \
         such file or directory (os error 2))\n",
        "note: going on from out/checkpoint-3, after step 3\n",
        "note: out/checkpoint-6: removed, the run will write its own\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    case.same("out", "reference");
    for (_, dir) in checkpoints(&case.path("out")) {
        assert!(whole(&dir));
    }
    let lines = case.read("out/checkpoint-9/checkpoint.b3");
    let text = String::from_utf8(lines).expect("UTF-8");
    let without: String =
        text.lines().filter(|l| !l.ends_with("  state.safetensors")).map(|l| format!("{l}\n")).collect();
    case.write("out/checkpoint-9/checkpoint.b3", &without);
    let why = "out/checkpoint-9: is no whole checkpoint (checkpoint.b3 does not list state.safetensors); give another, \
               or --resume auto for the newest";
    case.fails("out", &sets, &["--resume", "out/checkpoint-9"], 3, why);
    // the first of all, by name
    let ended = end(case.train("out", &sets, &["--resume", "out/checkpoint-3"]).spawn().expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    case.same("out", "reference");
    // and into a folder of its own
    let ended = end(case.train("elsewhere", &sets, &["--resume", "out/checkpoint-3"]).spawn().expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    case.same("elsewhere", "reference");
}

#[test]
fn nothing_to_resume_is_said() {
    let case = Case::new();
    case.trained("reference", &[]);
    let said = case.resumed("out", &[]);
    assert_eq!(said, "note: no checkpoint to go on from in out: the run starts afresh\n");
    case.same("out", "reference");
    for (_, dir) in checkpoints(&case.path("out")) {
        std::fs::remove_dir_all(dir).expect("removes");
    }
    let why = "out: holds adapter_model.safetensors of an earlier run; choose another train.output_dir or set \
               train.overwrite_output_dir = true";
    case.fails("out", &[], &["--resume", "auto"], 3, why);
    let why = "reference: holds checkpoint-10 of an earlier run; go on from it with --resume auto, choose another \
               train.output_dir or set train.overwrite_output_dir = true";
    case.fails("reference", &[], &[], 3, why);
    let why = "nowhere: is no whole checkpoint (checkpoint.b3 cannot be read: No such file or directory (os error \
               2)); give another, or --resume auto for the newest";
    case.fails("out", &[], &["--resume", "nowhere"], 3, why);
}

#[test]
fn what_changed_is_named_and_refused() {
    let case = Case::new();
    case.trained("out", &[]);
    std::fs::remove_dir_all(case.path("out/checkpoint-10")).expect("removes");
    let refused = |sets: &[&str], code, what: &str| {
        let why = format!(
            "out/checkpoint-5: is of another run: {what}; put that back, or take it with --allow-changed (the bits \
             will differ)"
        );
        case.fails("out", sets, &["--resume", "auto"], code, &why);
    };
    refused(&["train.learning_rate=2e-2"], 2, "train.learning_rate was 0.01 and is 0.02");
    let what = "data.shuffle was true and is false, train.seed was 42 and is 7";
    refused(&["train.seed=7", "data.shuffle=false"], 2, what);
    // the hash of the files' hashes; a model's weights count as they are
    let hash = |names: &[&str]| {
        let hashes: Vec<u8> = names.iter().flat_map(|name| *blake3::hash(&case.read(name)).as_bytes()).collect();
        blake3::hash(&hashes).to_hex()[..12].to_string()
    };
    let swapped = |name: &str, text: &[u8], what: &dyn Fn(&str, &str) -> String, of: &[&str]| {
        let (kept, before) = (case.read(name), hash(of));
        std::fs::write(case.path(name), text).expect("writes");
        refused(&[], 3, &what(&before, &hash(of)));
        std::fs::write(case.path(name), kept).expect("writes");
    };
    for (key, name) in [("data.train_file", "train.jsonl"), ("data.validation_file", "valid.jsonl")] {
        let what = |old: &str, new: &str| format!("{key} was blake3 {old} and is blake3 {new}");
        swapped(name, rows(11, 5).as_bytes(), &what, &[name]);
    }
    let mut weights = case.read("model/model.safetensors");
    *weights.last_mut().expect("bytes") ^= 1;
    let what = |old: &str, new: &str| format!("model.model_name_or_path was blake3 {old} and is blake3 {new}");
    let model_hash = ["model/config.json", "model/model.safetensors"];
    swapped("model/model.safetensors", &weights, &what, &model_hash);
    // what does not decide the bits of a step may change
    let free = ["train.save_steps=4", "train.logging_steps=1", "train.threads=2", "train.eval_steps=5"];
    let said = case.resumed("out", &free);
    assert_eq!(said, "note: going on from out/checkpoint-5, after step 5\n");
    std::fs::remove_dir_all(case.path("out/checkpoint-8")).expect("removes");
    let ended = end(case
        .train("out", &["train.learning_rate=2e-2"], &["--resume", "auto", "--allow-changed"])
        .spawn()
        .expect("starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let note = "note: changed since the checkpoint: train.learning_rate was 0.01 and is 0.02\n";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    let line = json!({"resumed": 5, "changes": ["train.learning_rate was 0.01 and is 0.02"]});
    assert!(case.metrics("out").contains(&line));
    let metrics = case.read("out/metrics.jsonl");
    let why = "out/checkpoint-10/state.safetensors: has no \
               base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight of 48 values in F32, as the run trains \
               it";
    case.fails("out", &["lora.r=2"], &["--resume", "auto", "--allow-changed"], 3, why);
    assert!(case.read("out/metrics.jsonl") == metrics, "refused before anything is cut");
}

#[test]
fn another_tokenizer_is_named_and_refused() {
    let case = Case::of(2);
    let sets = [WAYS[2].1, &["train.max_steps=1"]].concat();
    case.trained("out", &sets);
    let digest = || blake3::hash(&case.read("model/tokenizer.json")).to_hex()[..12].to_string();
    let before = digest();
    let text = String::from_utf8(case.read("model/tokenizer.json")).expect("UTF-8");
    case.write("model/tokenizer.json", &(text + "\n"));
    let why = format!(
        "out/checkpoint-1: is of another run: model.tokenizer was blake3 {before} and is blake3 {}; put that back, or \
         take it with --allow-changed (the bits will differ)",
        digest()
    );
    case.fails("out", &sets, &["--resume", "auto"], 3, &why);
}

#[test]
fn another_end_of_sequence_is_named_and_refused() {
    let case = Case::of(2);
    let sets = [WAYS[2].1, &["train.max_steps=1"]].concat();
    case.trained("out", &sets);
    let text = String::from_utf8(case.read("model/tokenizer_config.json")).expect("UTF-8");
    case.write("model/tokenizer_config.json", &text.replace("<|endoftext|>", "!"));
    let why = "out/checkpoint-1: is of another run: model.tokenizer.eos was 0 and is 1; put that back, or take it \
               with --allow-changed (the bits will differ)";
    case.fails("out", &sets, &["--resume", "auto"], 3, why);
}

#[test]
fn another_number_of_steps_is_the_one_that_is_told() {
    let case = Case::new();
    case.trained("out", &[]);
    let steps = || case.metrics("out")[0]["run"]["steps"].clone();
    assert_eq!(steps(), 10);
    assert_eq!(case.resumed("out", &["train.max_steps=12"]), "note: going on from out/checkpoint-10, after step 10\n");
    assert_eq!(steps(), 12);
    let said = case.resumed("out", &["train.max_steps=2"]);
    let note = "note: the recipe ends after step 2, which is before out/checkpoint-10: no step is done\n";
    assert!(said.ends_with(note), "{said}");
    assert_eq!((steps(), case.metrics("out").last().expect("a line")["step"].clone()), (json!(10), json!(10)));
    assert!(case.read("out/adapter_model.safetensors") == case.read("out/checkpoint-10/adapter_model.safetensors"));
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let case = Case::new();
    let sets = ["train.max_steps=3000", "train.save_steps=1000"];
    let mut first = case.train("out", &sets, &[]).spawn().expect("starts");
    while !case.path("out/checkpoint-1000").exists() {
        assert!(first.try_wait().expect("a child").is_none(), "it ended before there was a checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // it waits for the others, and has its lock
    signal(&first, "STOP");
    let why = "out: another run writes there; wait for its end, or choose another train.output_dir";
    case.fails("out", &sets, &["--resume", "auto"], 3, why);
    case.fails("out", &sets, &["--set", "train.overwrite_output_dir=true"], 3, why);
    // whoever is killed holds nothing any more
    first.kill().expect("kills");
    first.wait().expect("ends");
    case.trained("reference", &sets);
    case.resumed("out", &sets);
    case.same("out", "reference");
}

/// Settings with which a shorter run does the first steps of a longer one.
const STEADY: [&str; 3] = ["train.lr_scheduler_type=constant", "train.warmup_steps=0", "train.eval_steps=5"];

#[test]
fn a_file_that_is_named_as_a_checkpoint_is_none() {
    let case = Case::new();
    case.trained("reference", &STEADY);
    case.trained("out", &[&STEADY[..], &["train.max_steps=5"]].concat());
    for name in ["checkpoint-8", "checkpoint-100", "checkpoint-3.partial"] {
        case.write(&format!("out/{name}"), "notes of the user");
    }
    let said = case.resumed("out", &STEADY);
    for name in ["checkpoint-8", "checkpoint-100"] {
        let note = format!("note: out/{name}: skipped, it is a file and no checkpoint");
        assert!(said.lines().any(|line| line == note), "{said}");
        assert_eq!(case.read(&format!("out/{name}")), b"notes of the user");
        std::fs::remove_file(case.path(&format!("out/{name}"))).expect("removes");
    }
    case.same("out", "reference");
    // in the place of one that the run would write
    case.write("out/checkpoint-15", "notes of the user");
    let why = "is a file, and the run would write a checkpoint there; move it away or choose another train.output_dir";
    let sets = [&STEADY[..], &["train.max_steps=20"]].concat();
    case.fails("out", &sets, &["--resume", "auto"], 3, &format!("out/checkpoint-15: {why}"));
    std::fs::remove_file(case.path("out/checkpoint-15")).expect("removes");
    case.resumed("out", &sets);
}

/// Reference log p is computed for the rows that a run reaches, and its bits do not depend on which those are.
#[test]
fn references_are_those_of_the_rows_that_are_reached() {
    let case = Case::new();
    case.write("train.jsonl", &rows(60, 0));
    let sets = [&STEADY[..], &["objective.gamma=0.5"]].concat();
    let with = |steps: &'static str| [&sets[..], &[steps]].concat();
    let rows_of = |out: &str, sets: &[&str], flags: &[&str]| -> usize {
        let ended = end(case.train(out, sets, flags).spawn().expect("starts"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let mut lines = ended.stdout.lines();
        let line = lines.find_map(|line| line.strip_prefix("reference log-probabilities of ")).expect("a line");
        line.strip_suffix(" rows").expect("rows").parse().expect("a number")
    };
    let mut plan = case.train("none", &with("train.max_steps=1000"), &["--dry-run", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&end(plan.spawn().expect("starts")).stdout).expect("JSON");
    let per_epoch = 1000.0 / plan["epochs"].as_f64().expect("a number");
    assert!(per_epoch > 10.0, "{per_epoch}");
    let all = rows_of("whole", &with("train.max_steps=30"), &[]);
    let part = rows_of("out", &with("train.max_steps=5"), &[]);
    let rest = rows_of("out", &with("train.max_steps=10"), &["--resume", "auto"]);
    let both = rows_of("reference", &with("train.max_steps=10"), &[]);
    assert_eq!((all, part + rest), (60, both));
    assert!(part < 30 && both < 60, "{part} {both}");
    case.same("out", "reference");
    let losses = |out: &str| -> Vec<serde_json::Value> {
        let steps = case.metrics(out).into_iter().filter(|line| !line["dpo_loss"].is_null());
        steps.take(10).map(|line| line["dpo_loss"].clone()).collect()
    };
    assert_eq!(losses("whole"), losses("reference"));
}
