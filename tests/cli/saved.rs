//! What a run leaves behind: files, names, values, bits.

use crate::Case;
use crate::models::{Tensor, edit, read};
use safetensors::Dtype;
use serde_json::{Value, json};

/// Names in a directory.
fn names(case: &Case, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(case.path(dir)).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Trains for some steps with an evaluation at the end, on the rows it trains on.
const EVALUATED: [&str; 4] = [
    "data.validation_file=train.jsonl",
    "train.max_steps=12",
    "train.eval_steps=12",
    "train.lr_scheduler_type=constant",
];

/// The loss over the rows of `case` of the model in `dir`.
fn loss_of(case: &Case, dir: &str) -> f64 {
    let out = format!("{dir}-loss");
    let model = format!("model.model_name_or_path=./{dir}");
    case.adapter(&out, &[&model, "train.learning_rate=0", "train.max_steps=1"]);
    case.series(&out, "loss")[0]
}

#[track_caller]
fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
}

#[test]
fn an_adapter_is_what_peft_saves() {
    let case = Case::ids();
    case.train(&["lora.lora_dropout=0.05"]).trained();
    let files = [
        ".lock",
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "metrics.jsonl",
        "recipe.resolved.toml",
    ];
    assert_eq!(names(&case, "out"), files);
    let config = case.json("out/adapter_config.json");
    let wanted = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "./model", "r": 4, "lora_alpha": 8,
        "lora_dropout": 0.05, "use_rslora": false, "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
        "target_modules": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    });
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&config[key], value, "{key}");
    }
    let tensors = read(&case.path("out/adapter_model.safetensors"));
    assert_eq!(tensors.len(), 2 * 7 * 2);
    assert!(tensors.values().all(|t| t.dtype == Dtype::F32));
    let shape = |name: &str| &tensors[&format!("base_model.model.model.layers.1.{name}.weight")].shape;
    assert_eq!(shape("self_attn.k_proj.lora_A"), &[4, 24]);
    assert_eq!(shape("self_attn.k_proj.lora_B"), &[24, 4]);
    assert_eq!(shape("mlp.down_proj.lora_A"), &[4, 40]);
}

#[test]
fn an_adapter_added_to_its_base_gives_the_loss_of_the_run() {
    let case = Case::ids();
    case.train(&EVALUATED).trained();
    let before = case.series("out", "loss")[0];
    close(loss_of(&case, "model"), before);
    // W + (alpha / r) B A
    let adapter = read(&case.path("out/adapter_model.safetensors"));
    case.copy_model("merged");
    edit(&case.path("merged/model.safetensors"), |tensors| {
        for (name, weight) in tensors.iter_mut() {
            let half = |ab: &str| {
                adapter.get(&format!("base_model.model.{}.lora_{ab}.weight", name.trim_end_matches(".weight")))
            };
            let (Some(a), Some(b)) = (half("A"), half("B")) else { continue };
            let (rank, width) = (a.shape[0], a.shape[1]);
            let (a, b, mut values) = (a.values(), b.values(), weight.values());
            for (i, value) in values.iter_mut().enumerate() {
                let (row, column) = (i / width, i % width);
                *value += 2.0 * (0..rank).map(|k| b[row * rank + k] * a[k * width + column]).sum::<f32>();
            }
            *weight = Tensor::f32(&weight.shape, &values);
        }
    });
    let after = case.series("out", "eval_loss")[0];
    assert!(after < 0.9 * before, "{after} {before}");
    close(loss_of(&case, "merged"), after);
}

#[test]
fn a_full_model_loads_again_with_the_loss_of_the_run() {
    let case = Case::ids();
    case.train(&[&EVALUATED[..], &["train.method=full"]].concat()).trained();
    let files = [
        ".lock",
        "config.json",
        "generation_config.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.resolved.toml",
    ];
    assert_eq!(names(&case, "out"), files);
    assert_eq!(case.json("out/config.json"), case.json("model/config.json"));
    let (base, saved) = (read(&case.path("model/model.safetensors")), read(&case.path("out/model.safetensors")));
    let outline = |tensors: &crate::models::Tensors| -> Vec<_> {
        tensors.iter().map(|(name, t)| (name.clone(), t.shape.clone(), t.dtype)).collect()
    };
    assert_eq!(outline(&saved), outline(&base));
    assert!(base.iter().all(|(name, t)| saved[name].bytes != t.bytes), "every tensor has learned");
    close(loss_of(&case, "out"), case.series("out", "eval_loss")[0]);
}

#[test]
fn a_full_model_is_saved_in_the_format_asked_for() {
    let case = Case::ids();
    for (dtype, name) in [(Dtype::F32, "float32"), (Dtype::F16, "float16"), (Dtype::BF16, "bfloat16")] {
        let (out, format) = (format!("train.output_dir={name}"), format!("train.save_dtype={name}"));
        case.train(&["train.method=full", &out, &format]).trained();
        let saved = read(&case.path(name).join("model.safetensors"));
        assert!(saved.values().all(|t| t.dtype == dtype));
        assert_eq!(case.json(&format!("{name}/config.json"))["dtype"], name);
        let wide = read(&case.path("float32/model.safetensors"));
        assert!(saved.iter().all(|(key, t)| t.bytes == wide[key].cast(dtype).bytes), "rounded to the nearest");
    }
}

#[test]
fn the_tokenizer_lies_beside() {
    let case = Case::text();
    case.train(&[]).trained();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        assert!(case.read(&format!("out/{name}")) == case.read(&format!("model/{name}")), "{name}");
    }
}

#[test]
fn the_tokenizer_of_the_recipe_lies_beside() {
    let case = Case::text();
    apart(&case, "other");
    for (out, tokenizer) in [("directory", "other"), ("file", "other/tokenizer.json")] {
        let (out_dir, tokenizer) = (format!("train.output_dir={out}"), format!("model.tokenizer={tokenizer}"));
        case.train(&[&out_dir, &tokenizer]).trained();
        assert!(case.read(&format!("{out}/tokenizer.json")) == case.read("other/tokenizer.json"));
        assert!(case.read(&format!("{out}/tokenizer_config.json")) == case.read("other/tokenizer_config.json"));
    }
}

#[test]
fn the_saved_recipe_trains_the_same() {
    let case = Case::ids();
    let wanted = case.adapter("out", &["train.seed=3", "lora.lora_dropout=0.1"]);
    case.run(&["train", "out/recipe.resolved.toml", "--set", "train.output_dir=again"], &[]).trained();
    assert!(case.read("again/adapter_model.safetensors") == wanted);
}

#[test]
fn metrics_are_lines_with_known_keys() {
    let case = Case::ids();
    let sets = ["objective.gamma=0.1", "data.validation_file=train.jsonl", "train.eval_steps=3", "train.max_steps=6"];
    case.train(&sets).trained();
    let lines = case.metrics("out");
    let header = [
        "model",
        "model_type",
        "parameters",
        "trainable",
        "method",
        "rows",
        "rows_read",
        "tokens",
        "supervised",
        "eos",
        "on_path",
        "weights",
        "salience",
        "normalize",
        "arm",
        "gamma",
        "steps",
        "seed",
        "device",
        "peak_flops",
    ];
    assert_eq!(keys(&lines[0]), ["run"]);
    assert_eq!(keys(&lines[0]["run"]), header);
    let run = &lines[0]["run"];
    assert_eq!(
        (&run["rows"], &run["tokens"], &run["eos"], &run["steps"]),
        (&json!(6), &json!(51), &Value::Null, &json!(6))
    );
    let step = [
        "step",
        "epoch",
        "loss",
        "sft_loss",
        "dpo_loss",
        "path_loss",
        "off_path_loss",
        "grad_norm",
        "clipped",
        "learning_rate",
        "tokens",
        "supervised_tokens",
        "pairs",
        "flops",
        "seconds",
        "mfu",
        "peak_bytes",
        "seconds_left",
        "time",
    ];
    let evaluation = [
        "step",
        "eval_loss",
        "eval_sft_loss",
        "eval_dpo_loss",
        "eval_path_loss",
        "eval_off_path_loss",
        "eval_seconds",
        "time",
    ];
    let (steps, evaluations): (Vec<&Value>, Vec<&Value>) = lines[1..].iter().partition(|l| l.get("loss").is_some());
    assert!(steps.iter().all(|line| keys(line) == step));
    assert!(evaluations.iter().all(|line| keys(line) == evaluation));
    let of = |lines: &[&Value], key: &str| lines.iter().map(|l| l[key].clone()).collect::<Vec<_>>();
    assert_eq!(of(&steps, "step"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(of(&evaluations, "step"), [3, 6]);
    assert_eq!(of(&steps, "tokens"), [51; 6]);
    assert_eq!(of(&steps, "supervised_tokens"), [39; 6]);
    let rates: Vec<f64> = (0..6).map(|s| 1e-2 * f64::from(6 - s) / 6.0).collect();
    let got = case.series("out", "learning_rate");
    assert!(got.iter().zip(&rates).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
}

#[test]
fn speed_and_memory_are_told() {
    let case = Case::ids();
    let text = case.train(&["train.logging_steps=3", "train.max_steps=6", "train.peak_tflops=1e-3"]).trained();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("step ")).collect();
    assert!(lines.len() == 2 && lines[0].ends_with(" s left") && !lines[1].contains("left"), "{text}");
    assert_eq!(case.metrics("out")[0]["run"]["peak_flops"], json!(1e9));
    let of = |key: &str| case.series("out", key);
    let (flops, seconds, mfu, left) = (of("flops"), of("seconds"), of("mfu"), of("seconds_left"));
    // all 51 tokens at each step; the model has 11.6 k values behind its embedding and 3.5 k in adapters
    assert!(flops.iter().all(|&f| f == flops[0] && (2e6..6e6).contains(&f)), "{flops:?}");
    let expected: Vec<f64> = flops.iter().zip(&seconds).map(|(f, s)| f / s / 1e9).collect();
    mfu.iter().zip(&expected).for_each(|(&a, &b)| close(a, b));
    assert!(left[5] == 0.0 && left[0] >= 5.0 * seconds[0] && left.iter().all(|&l| l < 60.0), "{left:?}");
    let printed = |line: &str, steps: std::ops::Range<usize>| {
        let share = flops[steps.clone()].iter().sum::<f64>() / 1e9 / seconds[steps].iter().sum::<f64>();
        assert!(line.contains(&format!("  MFU {:.1} %  peak ", 100.0 * share)), "{line} {share}");
    };
    printed(lines[0], 0..3);
    printed(lines[1], 3..6);
    // what the process had in memory: more than the model, less than the machine
    let peak = of("peak_bytes");
    assert!(peak.iter().all(|p| (1e6..1e11).contains(p)) && peak.is_sorted(), "{peak:?}");
    let text = case.train(&["train.output_dir=unknown"]).trained();
    assert!(!text.contains("MFU") && case.metrics("unknown")[1]["mfu"].is_null(), "{text}");
}

#[test]
fn a_mean_over_nothing_is_null() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    case.train(&[]).trained();
    let step = &case.metrics("out")[1];
    assert_eq!((&step["path_loss"], step["off_path_loss"].is_f64()), (&Value::Null, true));
}

#[test]
fn the_loss_falls_on_rows_learned_by_heart() {
    let case = Case::ids();
    for (out, method) in [("adapter", "lora"), ("all", "full")] {
        let sets = [&format!("train.output_dir={out}"), &format!("train.method={method}"), "train.max_steps=60"];
        case.train(&sets).trained();
        let loss = case.series(out, "loss");
        assert!(loss[59] < 0.35 * loss[0], "{method}: {loss:?}");
    }
}

#[test]
fn a_run_gives_the_same_bits_with_any_number_of_threads() {
    let case = Case::ids();
    let sets = ["objective.gamma=0.1", "lora.lora_dropout=0.1", "model.attention_dropout=0.1", "train.max_steps=5"];
    let run = |out: &str, threads: &str| {
        let bytes = case.adapter(out, &[&sets[..], &[threads]].concat());
        (bytes, ["loss", "dpo_loss", "grad_norm"].map(|key| case.series(out, key)))
    };
    let once = run("a", "train.threads=1");
    for (out, threads) in [("b", "train.threads=1"), ("c", "train.threads=2"), ("d", "train.threads=3")] {
        assert!(run(out, threads) == once, "{threads}");
    }
    assert!(run("e", "train.seed=43") != once);
}

#[test]
fn a_full_run_gives_the_same_bits_with_any_number_of_threads() {
    let case = Case::ids();
    let run = |out: &str, threads: &str| {
        case.train(&["train.method=full", &format!("train.output_dir={out}"), threads]).trained();
        case.read(&format!("{out}/model.safetensors"))
    };
    let once = run("a", "train.threads=1");
    assert!(run("b", "train.threads=2") == once && run("c", "train.threads=3") == once);
}

/// The tokenizer files of the model, moved to a folder of their own.
fn apart(case: &Case, dir: &str) {
    std::fs::create_dir(case.path(dir)).expect("creates");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::rename(case.path("model").join(name), case.path(dir).join(name)).expect("moves");
    }
}

#[test]
fn a_tokenizer_is_not_copied_over_itself() {
    let case = Case::text();
    apart(&case, "out");
    let names = ["out/tokenizer.json", "out/tokenizer_config.json"];
    let before = names.map(|name| case.read(name));
    case.train(&["model.tokenizer=out", "train.output_dir=out/../out"]).trained();
    assert!(names.map(|name| case.read(name)) == before);
}

#[test]
fn the_tokenizer_that_was_trained_with_is_saved() {
    let case = Case::text();
    // beside the one that the recipe names lies another, and the model has a template that is not this one's
    std::fs::create_dir(case.path("other")).expect("creates");
    let text = String::from_utf8(case.read("model/tokenizer.json")).expect("UTF-8");
    case.write("other/mine.json", text + "\n");
    std::fs::copy(case.path("model/tokenizer.json"), case.path("other/tokenizer.json")).expect("copies");
    std::fs::copy(case.path("model/tokenizer_config.json"), case.path("other/tokenizer_config.json")).expect("copies");
    case.write("model/chat_template.jinja", "{{ messages }}");
    case.train(&["model.tokenizer=other/mine.json"]).trained();
    assert!(case.read("out/tokenizer.json") == case.read("other/mine.json"));
    assert!(case.read("out/tokenizer_config.json") == case.read("other/tokenizer_config.json"));
    assert!(!case.path("out/chat_template.jinja").exists(), "a template of another tokenizer");
}

#[test]
fn read_only_inputs_leave_results_that_can_be_replaced() {
    let case = Case::text();
    let protect = |name: &str| {
        let mut permissions = case.path(name).metadata().expect("there").permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(case.path(name), permissions).expect("sets");
    };
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        protect(&format!("model/{name}"));
    }
    for _ in 0..2 {
        case.train(&["train.overwrite_output_dir=true"]).trained();
    }
    case.run(&["export", "--model", "model", "--adapter", "out", "--merge", "-o", "merged"], &[]).trained();
    for dir in ["out", "merged"] {
        for name in names(&case, dir) {
            let permissions = case.path(dir).join(&name).metadata().expect("there").permissions();
            assert!(!permissions.readonly(), "{dir}/{name}");
        }
    }
}
