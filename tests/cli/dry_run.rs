//! `eyekern train --dry-run`: counts that can be made by hand, and no file touched.

use crate::{Case, Ran};
use serde_json::{Value, json};

/// Layers of the tiny Llama, its hidden and inner features, its vocabulary.
const L: usize = 2;
const H: usize = 24;
const I: usize = 40;
const V: usize = 97;
/// Columns of all query heads, and of all key heads.
const Q: usize = 4 * 12;
const KV: usize = 2 * 12;
/// Values of a block's last projection, and of all four.
const DOWN: usize = I * H;
const BLOCK: usize = H * (Q + 2 * KV) + Q * H + H * 2 * I + DOWN;
/// Inputs plus outputs of the seven slices that the recipe's adapters, of this rank, stand beside.
const ENDS: usize = (H + Q) + 2 * (H + KV) + (Q + H) + 2 * (H + I) + (I + H);
const RANK: usize = 4;
/// Of the base model and of the adapters.
const BASE: usize = V * H + L * (BLOCK + 2 * H) + H;
const TRAINED: usize = L * RANK * ENDS;
/// Six rows of 6 to 11 tokens, the first two of each not supervised: one micro-batch, an epoch of one step.
const TOKENS: usize = 6 + 7 + 8 + 9 + 10 + 11;
const SUPERVISED: usize = TOKENS - 6 * 2;
/// Each token sees itself and those before it in its row.
const KEYS: usize = (6 * 7 + 7 * 8 + 8 * 9 + 9 * 10 + 10 * 11 + 11 * 12) / 2;

fn dry(case: &Case, more: &[&str], sets: &[&str]) -> Ran {
    let args: Vec<&str> = ["train", "recipe.toml", "--dry-run"]
        .into_iter()
        .chain(more.iter().copied())
        .chain(sets.iter().flat_map(|set| ["--set", set]))
        .collect();
    case.run(&args, &[])
}

fn counted(case: &Case, device: &str, sets: &[&str]) -> Value {
    let ran = dry(case, &["--format", "json", "--device", device], sets);
    assert!(!ran.touched, "a dry run writes nothing");
    serde_json::from_str(&ran.trained()).expect("JSON")
}

#[track_caller]
fn is(value: &Value, expected: usize) {
    let (value, expected) = (value.as_f64().expect("a number"), expected as f64);
    assert!((value - expected).abs() <= 1e-9 * expected, "{value} instead of {expected}");
}

#[test]
fn the_work_of_a_step_is_that_of_the_formula() {
    let case = Case::ids();
    let linear = 2 * TOKENS * BLOCK;
    let attention = 2 * 2 * KEYS * Q;
    let head = 2 * SUPERVISED * H * V;
    let low = 2 * TOKENS * RANK * ENDS;
    // nothing that is trained lies before the first block: the gradients of its projection's input are not formed
    let unneeded = 2 * TOKENS * H * (Q + 2 * KV) + 3 * 2 * TOKENS * RANK * H;
    for (recompute, again) in [("none", 0), ("layer", linear - 2 * TOKENS * DOWN + low + attention)] {
        for device in ["cpu", "cuda"] {
            let plan = counted(&case, device, &[&format!("train.recompute={recompute}")]);
            assert_eq!(plan["parameters"], json!({"model": BASE, "trained": TRAINED}));
            let (step, flops) = (&plan["per_step"], &plan["per_step"]["flops"]);
            is(&step["micro_batches"], 1);
            is(&step["tokens"], TOKENS);
            is(&step["supervised"], SUPERVISED);
            is(&flops["forward"], L * (linear + low + attention) + head);
            is(&flops["backward"], L * (linear + 2 * low) + L * attention * 5 / 2 + head - unneeded);
            is(&flops["recompute"], again);
            assert_eq!((&plan["steps"], &plan["epochs"]), (&json!(2), &json!(2.0)));
        }
    }
    // padded to the longest row
    let sets = ["data.batching=padded", "train.per_device_train_batch_size=6", "train.max_steps=-1"];
    let plan = counted(&case, "cpu", &sets);
    is(&plan["per_step"]["tokens"], 6 * 11);
    assert_eq!((&plan["steps"], &plan["epochs"]), (&json!(3), &json!(3.0)));
}

#[test]
fn bytes_are_told_by_what_they_are_for() {
    let case = Case::ids();
    let angles = 11 * 12;
    for (device, width, copies) in [("cpu", 4, 2), ("cuda", 2, 3)] {
        let plan = counted(&case, device, &[]);
        let bytes = &plan["bytes"];
        is(&bytes["weights"], width * (BASE + TRAINED) + 4 * angles);
        is(&bytes["gradients"], 4 * TRAINED);
        is(&bytes["optimiser"], copies * 4 * TRAINED);
        is(&bytes["reference"], 0);
        let all: u64 = bytes.as_object().expect("an object").values().filter_map(Value::as_u64).sum();
        assert_eq!(plan["total_bytes"], json!(all));
    }
    let scratch = |device| counted(&case, device, &[])["bytes"]["scratch"].as_u64();
    let room = 640 * (120 + 1024) * 4;
    // attention's backward has 64 queries of both heads of a key head: two scores for each of 64 keys, two rows of 12
    let why = "packed operands of products and a part of attention on one thread";
    assert_eq!(scratch("cpu"), Some(room + 2 * 64 * (2 * 64 + 2 * 12) * 4), "{why}");
    assert_eq!(scratch("cuda"), Some(32 << 20), "the product library's");

    // a reference model is gone before activations are there: the larger of both counts
    let plan = counted(&case, "cpu", &["objective.gamma=1", "objective.reference_model=./model"]);
    let of = |name: &str| plan["bytes"][name].as_u64().expect("a number");
    assert!(of("reference") > 4 * BASE as u64);
    let model = of("weights") + of("gradients") + of("optimiser") + of("scratch");
    assert_eq!(plan["total_bytes"], json!(model + of("reference").max(of("activations") + of("workspace"))));
}

#[test]
fn the_text_has_a_line_for_each() {
    let ran = dry(&Case::ids(), &["--device", "cpu"], &["train.recompute=layer"]);
    assert!(!ran.touched);
    let (text, notes) = ran.noted();
    assert!(notes.is_empty(), "{notes:?}");
    let start = format!(
        "\
model         llama, {BASE} parameters, {TRAINED} trained
device        cpu with 1 threads, f32
run           2 steps, 2.00 epochs
step          on average 1.0 micro-batches, {TOKENS} tokens, {SUPERVISED} supervised
weights           0.000 GiB
gradients         0.000 GiB
optimiser         0.000 GiB  moments
activations       0.000 GiB  kept for backward, recompute = layer
workspace         0.000 GiB  gradients of activations, micro-batch, rows and logits of the head
scratch           0.003 GiB  of the backend
total             0.003 GiB  of "
    );
    assert!(text.starts_with(&start), "{text}\n{start}");
    let rest: Vec<&str> = text[start.len()..].lines().collect();
    assert!(rest[0].ends_with(" GiB available"), "{text}");
    let names: Vec<&str> = rest[1..].iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["forward", "backward", "recompute"]);
    assert!(rest[1..].iter().all(|line| line.ends_with(" TFLOP a step")), "{text}");
}

#[test]
fn what_a_run_refuses_is_refused() {
    let case = Case::ids();
    let refused = |more: &[&str], sets: &[&str]| {
        let ran = dry(&case, more, sets);
        assert!(!ran.touched && ran.stdout.is_empty());
        (ran.code, ran.stderr)
    };
    let sets = ["model.model_name_or_path=./absent"];
    let run = case.train(&sets);
    assert_eq!(refused(&[], &sets), (run.code, run.stderr));
    let sets = ["train.recompute=block"];
    let (code, text) = refused(&[], &sets);
    assert_eq!(code, Some(2));
    assert_eq!(text, "eyekern: --set: train.recompute = block: expected one of none, layer\n");
    let (code, text) = refused(&["--print-config"], &[]);
    assert!(code == Some(2) && text.contains("cannot be used with"), "{text}");
    let ran = case.run(&["train", "recipe.toml", "--format", "json"], &[]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--dry-run"), "{}", ran.stderr);
}

/// What a container grants counts, and not the machine's memory.
#[test]
fn a_control_group_bounds_the_memory() {
    let case = Case::ids();
    for (file, text) in [
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/memory.max", "1048576\n"),
        ("sys/fs/cgroup/memory.current", "524288\n"),
    ] {
        let path = case.path("root").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(path, text).expect("writes");
    }
    let root = case.path("root").display().to_string();
    let env = [("EYEKERN_ROOT", root.as_str())];
    let ran = case.train_in(&[], &env);
    let start = "eyekern: out of memory: the run needs 0.0 GiB and 0.0 GiB are available; lower data.max_tokens, ";
    assert!(ran.code == Some(4) && ran.stderr.starts_with(start), "{}", ran.stderr);
    let text = case.run(&["train", "recipe.toml", "--dry-run"], &env).trained();
    assert!(text.contains(" GiB  of 0.000 GiB available"), "{text}");
    let text = case.run(&["doctor", "--format", "json"], &env).trained();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["processor"]["memory_bytes"], 1 << 20);
    assert_eq!(value["processor"]["available_bytes"], 1 << 19);
    // without the group it runs
    case.train(&[]).trained();
}
