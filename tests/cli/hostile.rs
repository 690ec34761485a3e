//! Numbers of files that decide how much is allocated or how long a loop runs, set to what no honest file has, and
//! files that never end: the command ends soon, with a sentence, in an address space that a mistaken allocation would
//! burst.

use crate::models::{forge, parts};
use crate::{Case, Ran};
use serde_json::{Value, json};
use std::process::Command;

/// KiB of address space: the program, its libraries and its threads take less than 1 GiB of it.
const SPACE: u32 = 4 << 20;

/// Seconds of work: of the processor's and not of the clock, which other programs share.
const WORK: u32 = 30;

/// The command in that space, and not for long.
fn confined(case: &Case, args: &[&str]) -> Ran {
    let limited = format!("ulimit -v {SPACE}; ulimit -t {WORK}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_eyekern")]).args(args).current_dir(case.path(""));
    command.env_clear().env("HOME", "home").stdin(std::process::Stdio::null());
    let output = command.output().expect("sh starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), touched: false }
}

/// It ended with this code and one sentence that names `place`.
fn refused(case: &Case, args: &[&str], code: i32, place: &str, what: &dyn std::fmt::Display) {
    let ran = confined(case, args);
    assert_eq!(ran.code, Some(code), "{what}: {}", ran.stderr);
    assert!(ran.stderr.starts_with("eyekern: ") && ran.stderr.contains(place), "{what}: {}", ran.stderr);
    assert!(ran.stderr.lines().count() == 1 && ran.stderr.len() < 1000, "{what}: {}", ran.stderr);
}

const TRAIN: [&str; 2] = ["train", "recipe.toml"];

fn huge() -> [Value; 8] {
    [json!(u64::MAX), json!(1u64 << 40), json!(1 << 24), json!(-1), json!(1e308), json!(0), json!("7"), json!([[]])]
}

#[test]
fn sizes_of_a_config() {
    let keys =
        ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"];
    for key in keys.into_iter().chain(["num_key_value_heads"]) {
        for value in huge() {
            let case = Case::ids();
            case.configure("model", key, value.clone());
            refused(&case, &TRAIN, 3, "./model/", &format!("{key} = {value}"));
        }
    }
    // sizes that are each allowed
    let case = Case::ids();
    for key in ["hidden_size", "intermediate_size", "vocab_size", "head_dim", "max_position_embeddings"] {
        case.configure("model", key, json!(1 << 24));
    }
    refused(&case, &TRAIN, 3, "beyond any model that eyekern can train", &"all sizes");
}

#[test]
fn numbers_of_a_config_that_give_no_numbers() {
    let rope = |theta: f64, factor: f64, low: f64, high: f64| {
        json!({"rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": low,
               "high_freq_factor": high, "original_max_position_embeddings": 48})
    };
    for (key, value, place) in [
        ("rope_parameters", rope(1e-300, 8.0, 1.0, 4.0), "angles that are no finite numbers"),
        ("rope_parameters", rope(500.0, 1e-320, 1.0, 4.0), "angles that are no finite numbers"),
        ("rms_norm_eps", json!(-1), "`rms_norm_eps`"),
    ] {
        let case = Case::ids();
        case.configure("model", key, value.clone());
        refused(&case, &TRAIN, 3, place, &value);
    }
    let case = Case::ids();
    case.configure("model", "model_type", json!("granite"));
    case.configure("model", "logits_scaling", json!(1e-320));
    refused(&case, &TRAIN, 3, "a multiplier of this config", &"logits_scaling");
}

#[test]
fn headers_of_weights() {
    let weights = "model/model.safetensors";
    for length in [u64::MAX, i64::MAX as u64, 1 << 40, 100_000_000, 0] {
        let case = Case::ids();
        let mut bytes = case.read(weights);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        case.write(weights, bytes);
        refused(&case, &TRAIN, 3, "not a complete safetensors file", &length);
    }
    for shape in [json!([u64::MAX, 2]), json!([1u64 << 40, 1u64 << 40]), json!([1e308]), json!([-1]), json!([0])] {
        for offsets in [json!([0, u64::MAX]), json!([u64::MAX, 0]), json!([0, 96])] {
            let case = Case::ids();
            let (mut header, data) = parts(&case.path(weights));
            header["model.norm.weight"] = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
            forge(&case.path(weights), &Value::from(header).to_string(), &data);
            refused(&case, &TRAIN, 3, weights, &format!("{shape} {offsets}"));
        }
    }
}

#[test]
fn numbers_of_rows() {
    for row in [
        r#"{"input_ids": [18446744073709551615, 3]}"#,
        r#"{"input_ids": [4294967295, 3]}"#,
        r#"{"input_ids": [3, 1e308]}"#,
        r#"{"input_ids": [3, 4], "labels": [-100, 18446744073709551615]}"#,
        r#"{"input_ids": [3, 4], "weights": [1, 1e308]}"#,
        r#"{"prompt": "a", "completion": "b", "weights": [[0, 18446744073709551615, 1]]}"#,
        r#"{"prompt": "a", "completion": "b", "weights": [[18446744073709551615, 1, 1]]}"#,
        r#"{"prompt": "a", "completion": "b", "weights": [[0, 1, 1e308]]}"#,
    ] {
        let case = Case::text();
        case.write("train.jsonl", row);
        refused(&case, &TRAIN, 3, "train.jsonl:1: ", &row);
    }
}

#[test]
fn ranks_of_an_adapter() {
    let case = Case::text();
    assert_eq!(confined(&case, &TRAIN).code, Some(0));
    let config = case.json("out/adapter_config.json");
    for r in huge().into_iter().chain([json!(1.5), json!(null)]) {
        let mut config = config.clone();
        config["r"] = r.clone();
        case.write("out/adapter_config.json", config.to_string());
        refused(&case, &["generate", "--model", "model", "--adapter", "out", "--prompt", "a"], 3, "out/adapter_", &r);
    }
}

#[test]
fn numbers_of_a_recipe() {
    for key in ["lora.r", "train.threads"] {
        refused(&Case::ids(), &["train", "recipe.toml", "--set", &format!("{key}=4294967295")], 2, key, &key);
    }
    // more than there is of anything is no harm
    for key in [
        "data.max_length",
        "data.max_tokens",
        "train.per_device_train_batch_size",
        "train.gradient_accumulation_steps",
        "train.save_total_limit",
    ] {
        let ran = confined(&Case::ids(), &["train", "recipe.toml", "--set", &format!("{key}=4294967295")]);
        assert_eq!(ran.code, Some(0), "{key}: {}", ran.stderr);
    }
    for key in ["warmup_steps", "logging_steps", "eval_steps", "save_steps", "seed"] {
        let ran = confined(&Case::ids(), &["train", "recipe.toml", "--set", &format!("train.{key}={}", i64::MAX)]);
        assert_eq!(ran.code, Some(0), "{key}: {}", ran.stderr);
    }
}

/// Writes the hashes of a checkpoint anew, as whoever made the file up would.
fn seal(case: &Case, dir: &str) {
    let seal = String::from_utf8(case.read(&format!("{dir}/checkpoint.b3"))).expect("UTF-8");
    let hashed = seal.lines().map(|line| {
        let name = line.split_once("  ").expect("a name").1;
        format!("{}  {name}\n", blake3::hash(&case.read(&format!("{dir}/{name}"))).to_hex())
    });
    let text: String = hashed.collect();
    case.write(&format!("{dir}/checkpoint.b3"), text);
}

#[test]
fn state_of_a_checkpoint() {
    let dir = "out/checkpoint-1";
    let saved = || {
        let case = Case::ids();
        assert_eq!(confined(&case, &["train", "recipe.toml", "--set", "train.save_steps=1"]).code, Some(0));
        case
    };
    let resume = ["train", "recipe.toml", "--resume", dir, "--set", "train.overwrite_output_dir=true"];
    for length in [u64::MAX, 1 << 40, 99_999_999] {
        let case = saved();
        let mut bytes = case.read(&format!("{dir}/state.safetensors"));
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        case.write(&format!("{dir}/state.safetensors"), bytes);
        seal(&case, dir);
        refused(&case, &resume, 3, "state.safetensors", &length);
    }
    for offsets in [json!([u64::MAX, u64::MAX]), json!([1u64 << 40, 1u64 << 41]), json!([8, 0])] {
        let case = saved();
        let file = case.path(&format!("{dir}/state.safetensors"));
        let (mut header, data) = parts(&file);
        let entry = header.values_mut().next().expect("a tensor");
        entry["data_offsets"] = offsets.clone();
        forge(&file, &Value::from(header).to_string(), &data);
        seal(&case, dir);
        refused(&case, &resume, 3, "state.safetensors", &offsets);
    }
    for key in ["step", "epoch", "step_of_epoch", "since_best"] {
        for value in [json!(u64::MAX), json!(u32::MAX), json!(-1), json!(1e308)] {
            let case = saved();
            let mut state = case.json(&format!("{dir}/state.json"));
            state["progress"][key] = value.clone();
            case.write(&format!("{dir}/state.json"), state.to_string());
            seal(&case, dir);
            // the next of these would overflow
            if [("epoch", json!(u32::MAX)), ("since_best", json!(u64::MAX))].contains(&(key, value.clone())) {
                refused(&case, &resume, 3, "state.json has counts that no run reaches", &value);
                continue;
            }
            let ran = confined(&case, &resume);
            assert!(matches!(ran.code, Some(0 | 3)), "{key} = {value}: {:?} {}", ran.code, ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{key} = {value}: {}", ran.stderr);
        }
    }
}

/// A device without an end, as every file that a command reads.
#[test]
fn files_that_never_end() {
    let endless = "/dev/zero";
    let large = ": it has more than 1 GiB; is it the right file";
    let line = "the line has more than 256 MiB; write one example per line";
    let model = ["--model", "model"];
    let generate = |args: &[&'static str]| [&["generate"], &model[..], args].concat();
    for (args, code, why) in [
        (vec!["inspect", endless, "--tokenizer", "model"], 3, line),
        (vec!["inspect", "train.jsonl", "--recipe", endless], 2, large),
        (vec!["train", "recipe.toml", "--set", "data.train_file=/dev/zero"], 3, line),
        (vec!["train", endless], 2, large),
        (vec!["train", "recipe.toml", "--priors", endless, "--set", "salience.align=target-ast"], 3, large),
        (vec!["label", endless, "--lang", "java"], 3, large),
        (vec!["label", "--jsonl", endless], 3, line),
        (generate(&["--file", endless]), 3, large),
        (generate(&["--data", endless, "-o", "o"]), 3, line),
        (vec!["priors", "show", "--priors", endless], 3, large),
    ] {
        let ran = confined(&Case::text(), &args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(endless) && ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    }
    let case = Case::empty();
    std::os::unix::fs::symlink(endless, case.path("metrics.jsonl")).expect("links");
    refused(&case, &["report", "."], 3, large, &"metrics.jsonl");
    // a model's files, as links that lead there
    for name in
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    {
        let case = Case::text();
        let file = case.path("model").join(name);
        let _ = std::fs::remove_file(&file);
        std::os::unix::fs::symlink(endless, &file).expect("links");
        let ran = confined(&case, &TRAIN);
        // what is no file counts as absent where it may be
        let saved = std::fs::symlink_metadata(case.path("out").join(name));
        let unused =
            ran.code == Some(0) && saved.is_ok_and(|saved| saved.is_file()) == (name == "generation_config.json");
        let refused = ran.code == Some(3) && ran.stderr.starts_with("eyekern: ") && ran.stderr.lines().count() == 1;
        assert!(unused || refused, "{name}: {:?} {}", ran.code, ran.stderr);
    }
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let case = Case::text();
        std::fs::remove_file(case.path("model/model.safetensors")).expect("removes");
        std::os::unix::fs::symlink(endless, case.path("model").join(name)).expect("links");
        refused(&case, &TRAIN, 3, name, &name);
    }
    let case = Case::text();
    assert_eq!(confined(&case, &["train", "recipe.toml", "--set", "train.save_steps=1"]).code, Some(0));
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::remove_file(case.path("out").join(name)).expect("removes");
        std::os::unix::fs::symlink(endless, case.path("out").join(name)).expect("links");
        refused(&case, &generate(&["--adapter", "out", "--prompt", "a"]), 3, "out/adapter_", &name);
    }
    for name in ["checkpoint.b3", "state.json"] {
        let file = case.path("out/checkpoint-1").join(name);
        std::fs::remove_file(&file).expect("removes");
        std::os::unix::fs::symlink(endless, file).expect("links");
        let resume = ["train", "recipe.toml", "--resume", "out/checkpoint-1"];
        refused(&case, &resume, 3, "is no whole checkpoint", &name);
        // put back for the next
        let file = case.path("out/checkpoint-1/checkpoint.b3");
        if name == "checkpoint.b3" {
            std::fs::remove_file(&file).expect("removes");
            let lines = ["metrics.jsonl", "state.safetensors", "state.json"].map(|name| {
                let hash = blake3::hash(&case.read(&format!("out/checkpoint-1/{name}")));
                format!("{}  {name}\n", hash.to_hex())
            });
            std::fs::write(file, lines.concat()).expect("writes");
        }
    }
}
