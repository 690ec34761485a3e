//! Training on every form of data, of model and of batch. Where two spellings mean the same run, the adapters they
//! give are compared bit for bit.

use crate::models::{Tensor, edit, gpt2, read, write};
use crate::{Case, id_rows};
use safetensors::Dtype;
use serde_json::{Value, json};

fn jsonl(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

const SOURCES: [&str; 3] = ["int a;", "public void run() { }", "return x + 1;"];
const TARGETS: [&str; 3] = ["long a;", "public void Run() { }", "return x + 2;"];

/// Rows of two strings under these keys.
fn pairs(first: &str, second: &str, wrap: impl Fn(&str) -> String) -> String {
    jsonl(&SOURCES.iter().zip(TARGETS).map(|(s, t)| json!({first: wrap(s), second: t})).collect::<Vec<_>>())
}

fn translation(code: &str) -> String {
    format!("### Instruction:\nTranslate the following Java code to C#.\n\n### Input Code:\n{code}\n\n### Output:\n")
}

#[track_caller]
fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert!(!a.is_empty() && a.len() == b.len(), "{a:?}\n{b:?}");
    assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() <= tolerance * y.abs()), "{a:?}\n{b:?}");
}

#[test]
fn rows_of_ids_need_no_tokenizer() {
    let case = Case::ids();
    let (text, notes) = case.train(&[]).noted();
    let header = "\
model   ./model (llama), 15.1 k parameters, 3.5 k trained (lora)
data    6 rows, 51 tokens, 76.5 % supervised
        EOS unknown without a tokenizer
weights 0.500 to 2.500, mean 1.551; 46.2 % on the scan path
loss    arm data, weighted cross-entropy / tokens
run     2 steps, seed 42, cpu with 1 threads, f32, 0.00 GiB planned
";
    assert!(text.starts_with(header), "{text}");
    assert!(text.ends_with("\nsaved to out\n"), "{text}");
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn rows_of_text() {
    let case = Case::text();
    case.write("train.jsonl", pairs("prompt", "completion", translation));
    let text = case.train(&[]).trained();
    assert!(text.contains("\n        EOS supervised in 100.0 % of rows\n"), "{text}");
    assert!(text.contains("\nweights 1.000 to 1.000, mean 1.000; 0.0 % on the scan path\n"), "{text}");
}

#[test]
fn code_and_content_under_a_task() {
    let case = Case::text();
    case.write("train.jsonl", pairs("prompt", "completion", translation));
    let wanted = case.adapter("prompts", &[]);
    case.write("train.jsonl", pairs("code", "content", str::to_string));
    assert!(case.adapter("task", &["data.task=translation"]) == wanted);
    assert!(case.adapter("none", &[]) != wanted);
}

#[test]
fn parallel_files_under_a_task() {
    let case = Case::text();
    case.write("train.jsonl", pairs("code", "content", str::to_string));
    let wanted = case.adapter("jsonl", &["data.task=translation"]);
    case.write("train.java", SOURCES.join("\n"));
    case.write("train.cs", TARGETS.join("\r\n") + "\r\n");
    let files = "data.train_file=[\"train.java\", \"train.cs\"]";
    assert!(case.adapter("parallel", &[files, "data.task=translation"]) == wanted);
}

#[test]
fn segments_say_what_is_trained() {
    let case = Case::text();
    case.write("train.jsonl", pairs("prompt", "completion", translation));
    let wanted = case.adapter("pairs", &[]);
    let row = |(s, t): (&&str, &str)| json!({"segments": [{"text": translation(s), "train": false}, {"text": t}]});
    case.write("train.jsonl", jsonl(&SOURCES.iter().zip(TARGETS).map(row).collect::<Vec<_>>()));
    assert!(case.adapter("segments", &[]) == wanted);
}

#[test]
fn spans_weigh_what_segments_weigh() {
    let case = Case::text();
    // a border that no subword crosses
    case.write(
        "train.jsonl",
        jsonl(&[json!({"prompt": "x", "completion": "int\nlong", "weights": [[0, 4, 3.0, true]]})]),
    );
    let wanted = case.adapter("spans", &["objective.gamma=0.5"]);
    let segments = json!([
        {"text": "x", "train": false}, {"text": "int\n", "weight": 3.0, "path": true}, {"text": "long"}
    ]);
    case.write("train.jsonl", jsonl(&[json!({"segments": segments})]));
    assert!(case.adapter("segments", &["objective.gamma=0.5"]) == wanted);
    assert!(case.adapter("uniform", &["objective.gamma=0.5", "objective.arm=uniform"]) != wanted);
}

#[test]
fn completion_cuts_code_that_has_no_target() {
    let case = Case::text();
    let rows = ["int a;\nint b;", "return x;\nreturn y;"];
    case.write("train.jsonl", jsonl(&rows.map(|code| json!({"code": code}))));
    let (_, notes) = case.train(&["data.task=completion"]).noted();
    assert_eq!(
        notes,
        ["train.jsonl: 2 completion rows had no target of their own; a half of their code is the target (data.cut)"]
    );
    let wanted = case.read("out/adapter_model.safetensors");
    case.write("train.jsonl", jsonl(&rows.map(|code| json!({"code": code, "content": code}))));
    assert!(case.adapter("copies", &["data.task=completion"]) == wanted);
    let halves = [("int a;", "int b;"), ("return x;", "return y;")];
    case.write("train.jsonl", jsonl(&halves.map(|(code, content)| json!({"code": code, "content": content}))));
    assert!(case.adapter("halves", &["data.task=completion"]) == wanted);
}

#[test]
fn prompts_are_trained_where_they_have_a_weight() {
    let case = Case::text();
    let supervised = |case: &Case, out: &str| case.series(out, "supervised_tokens")[0];
    case.adapter("out", &[]);
    case.adapter("weighted", &["data.prompt_weight=0.5"]);
    assert!(supervised(&case, "weighted") > supervised(&case, "out"));
}

#[test]
fn what_is_cut_or_left_out_is_said() {
    let case = Case::ids();
    case.write("train.jsonl", id_rows() + "{\"input_ids\": [3, 4], \"labels\": [3, -100]}\n");
    let (text, notes) = case.train(&["data.max_length=9"]).noted();
    let said = [
        "train.jsonl: 2 of 7 rows were cut at 9 tokens",
        "train.jsonl: 1 rows have no supervised token and were left out",
    ];
    assert_eq!(notes, said);
    assert!(text.contains("\ndata    6 of 7 rows, "), "{text}");
}

#[test]
fn rows_that_teach_no_end_are_said() {
    let case = Case::text();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let (text, notes) = case.train(&[]).noted();
    let said = "train.jsonl: no row supervises its EOS token, so the model will not learn to stop";
    assert_eq!(notes, [said]);
    assert!(text.contains("\n        EOS supervised in 0.0 % of rows\n"), "{text}");
}

#[test]
fn settings_without_effect_are_said() {
    let case = Case::ids();
    case.write("train.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let (_, notes) = case.train(&["objective.gamma=0.5"]).noted();
    let said =
        "objective.gamma is set, but no example has supervised tokens both on and off the path: the DPO term is empty";
    assert_eq!(notes, [said]);
    let sets = ["train.output_dir=two", "objective.reference_model=nope", "train.method=full", "lora.lora_dropout=0.1"];
    let (_, notes) = case.train(&sets).noted();
    let said = [
        "objective.reference_model is not used, since objective.gamma is 0",
        "without effect on full fine-tuning: lora.lora_alpha, lora.lora_dropout, lora.r",
    ];
    assert_eq!(notes, said);
    let sets = [
        "train.output_dir=three",
        "salience.w_base=3",
        "salience.mode=artifact",
        "train.eval_steps=5",
        "data.batching=padded",
        "data.max_tokens=300",
    ];
    let (_, notes) = case.train(&sets).noted();
    let said = [
        "without effect where neither salience.condition nor salience.priors is set: salience.mode, salience.w_base",
        "without effect where data.validation_file is unset: train.eval_steps",
        "without effect where data.batching is not \"tokens\": data.max_tokens",
    ];
    assert_eq!(notes, said);
}

#[test]
fn rows_that_a_prompt_weight_does_not_reach_are_said() {
    let case = Case::text();
    let mut rows = String::from_utf8(case.read("train.jsonl")).expect("UTF-8");
    rows += "{\"segments\": [{\"text\": \"int a;\", \"train\": false}, {\"text\": \"int b;\"}]}\n";
    case.write("train.jsonl", rows);
    let (_, notes) = case.train(&["data.prompt_weight=0.5"]).noted();
    let said = "train.jsonl: data.prompt_weight has no effect on 1 rows, whose `segments`, `messages` or `labels` say \
                themselves what is learned";
    assert_eq!(notes, [said]);
}

#[test]
fn dropout_of_the_config_is_said_and_the_recipe_decides() {
    let case = Case::ids();
    let wanted = case.adapter("out", &[]);
    case.configure("model", "attention_dropout", json!(0.1));
    let (_, notes) = case.train(&["train.output_dir=two"]).noted();
    let said = "config.json asks for dropout (attention 0.1, residual 0, embedding 0); the recipe decides: 0, 0, 0";
    assert_eq!(notes, [said]);
    assert!(case.read("two/adapter_model.safetensors") == wanted);
    let rates = ["model.attention_dropout=0.1", "model.resid_dropout=0.1", "model.embd_dropout=0.1"];
    assert!(case.adapter("dropped", &rates) != wanted);
    assert!(case.adapter("lora", &["lora.lora_dropout=0.1"]) != wanted);
}

#[test]
fn batches_of_any_form_train_the_same() {
    let case = Case::ids();
    let all = ["data.shuffle=false", "train.max_steps=4"];
    let run = |out: &str, sets: &[&str]| {
        case.adapter(out, &[&all, sets].concat());
        case.series(out, "loss")
    };
    let packed = run("tokens", &[]);
    close(&run("examples", &["data.batching=examples"]), &packed, 1e-5);
    close(&run("padded", &["data.batching=padded"]), &packed, 1e-5);
    let halves = ["train.per_device_train_batch_size=3", "train.gradient_accumulation_steps=2"];
    close(&run("accumulated", &[&halves[..], &["data.batching=examples"]].concat()), &packed, 1e-5);
    close(&run("budget", &["data.max_tokens=11", "train.gradient_accumulation_steps=6"]), &packed, 1e-5);
}

#[test]
fn epochs_and_steps_are_counted() {
    let case = Case::ids();
    let sets = ["train.max_steps=-1", "train.num_train_epochs=1.5", "data.batching=examples"];
    let text =
        case.train(&[&sets[..], &["train.per_device_train_batch_size=2", "train.logging_steps=2"]].concat()).trained();
    assert_eq!(case.series("out", "step"), [1.0, 2.0, 3.0, 4.0, 5.0]);
    close(&case.series("out", "epoch"), &[1.0 / 3.0, 2.0 / 3.0, 1.0, 4.0 / 3.0, 5.0 / 3.0], 1e-12);
    let shown: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("step ")?.split("  ").next()).collect();
    assert_eq!(shown, ["2/5", "4/5", "5/5"]);
}

#[test]
fn adapters_on_chosen_modules() {
    let case = Case::ids();
    let text = case.train(&["lora.target_modules=[\"q_proj\", \"mlp.down_proj\"]", "lora.use_rslora=true"]).trained();
    assert!(text.contains(" trained (lora)\n"), "{text}");
    let names: Vec<String> = read(&case.path("out/adapter_model.safetensors")).into_keys().collect();
    let path = |layer, module, ab| format!("base_model.model.model.layers.{layer}.{module}.lora_{ab}.weight");
    let mut wanted = Vec::new();
    for layer in 0..2 {
        for module in ["mlp.down_proj", "self_attn.q_proj"] {
            wanted.extend(["A", "B"].map(|ab| path(layer, module, ab)));
        }
    }
    assert_eq!(names, wanted);
    let config = case.json("out/adapter_config.json");
    assert_eq!((&config["target_modules"], &config["use_rslora"]), (&json!(["mlp.down_proj", "q_proj"]), &json!(true)));
}

#[test]
fn reference_of_its_own_or_given() {
    let case = Case::ids();
    let sets = ["objective.gamma=0.5", "train.max_steps=3", "data.validation_file=train.jsonl", "train.eval_steps=1"];
    let text = case.train(&[&sets[..], &["train.output_dir=own"]].concat()).trained();
    assert!(text.contains(" / tokens + 0.5 x token DPO\n"), "{text}");
    assert_eq!(text.matches("reference log-probabilities of 6 rows\n").count(), 2, "{text}");
    let (loss, sft, dpo) = (case.series("own", "loss"), case.series("own", "sft_loss"), case.series("own", "dpo_loss"));
    assert!((dpo[0] - std::f64::consts::LN_2).abs() < 1e-6, "the policy starts as its reference: {dpo:?}");
    assert!(dpo[2] != dpo[0]);
    let sum: Vec<f64> = sft.iter().zip(&dpo).map(|(s, d)| s + 0.5 * d).collect();
    close(&loss, &sum, 1e-12);
    // a copy of the model as reference is the same; another model is not
    let wanted = case.read("own/adapter_model.safetensors");
    case.copy_model("reference");
    let given = [&sets[..], &["objective.reference_model=reference"]].concat();
    assert!(case.adapter("copy", &given) == wanted);
    assert_eq!(case.series("copy", "eval_dpo_loss"), case.series("own", "eval_dpo_loss"));
    edit(&case.path("reference/model.safetensors"), |tensors| {
        let norm = tensors.get_mut("model.norm.weight").expect("there");
        *norm = Tensor::f32(&[24], &norm.values().iter().map(|x| 1.5 * x).collect::<Vec<_>>());
    });
    assert!(case.adapter("other", &given) != wanted);
}

#[test]
fn full_fine_tuning_with_a_reference() {
    let case = Case::ids();
    case.copy_model("reference");
    let sets = ["objective.gamma=0.5", "train.method=full"];
    case.train(&[&sets[..], &["train.output_dir=own"]].concat()).trained();
    case.train(&[&sets[..], &["objective.reference_model=reference"]].concat()).trained();
    assert!(case.read("own/model.safetensors") == case.read("out/model.safetensors"));
}

#[test]
fn normalisers_scale_the_loss() {
    let case = Case::ids();
    let loss = |rule: &str| {
        case.adapter(rule, &[&format!("objective.normalize={rule}")]);
        case.series(rule, "loss")[0]
    };
    let (tokens, weights, none) = (loss("tokens"), loss("weights"), loss("none"));
    close(&[none / 39.0, none / 60.5], &[tokens, weights], 1e-6);
}

#[test]
fn validation_at_steps_or_at_the_end_of_epochs() {
    let case = Case::ids();
    let text = case.train(&["data.validation_file=train.jsonl", "train.eval_steps=2", "train.max_steps=5"]).trained();
    let evaluated: Vec<&str> = text.lines().filter(|l| l.contains("  eval loss ")).map(|l| &l[..6]).collect();
    assert_eq!(evaluated, ["step 2", "step 4", "step 5"]);
    case.adapter("epochs", &["data.validation_file=train.jsonl", "train.max_steps=-1", "train.num_train_epochs=2"]);
    let steps = case.metrics("epochs").into_iter().filter(|l| l.get("eval_loss").is_some()).map(|l| l["step"].clone());
    assert_eq!(steps.collect::<Vec<_>>(), [1, 2]);
    let (eval, loss) = (case.series("epochs", "eval_loss"), case.series("epochs", "loss"));
    close(&eval[..1], &loss[1..], 1e-6);
}

#[test]
fn sharded_checkpoint() {
    let case = Case::ids();
    let wanted = case.adapter("out", &[]);
    let all = read(&case.path("model/model.safetensors"));
    std::fs::remove_file(case.path("model/model.safetensors")).expect("removes");
    let shard = |name: &str| if name.contains("layers.1") { "b.safetensors" } else { "a.safetensors" };
    let map: serde_json::Map<String, Value> = all.keys().map(|name| (name.clone(), shard(name).into())).collect();
    for file in ["a.safetensors", "b.safetensors"] {
        let part = all.iter().filter(|(name, _)| shard(name) == file).map(|(n, t)| (n.clone(), t.clone())).collect();
        write(&case.path("model").join(file), &part);
    }
    case.write("model/model.safetensors.index.json", json!({"metadata": {}, "weight_map": map}).to_string());
    assert!(case.adapter("sharded", &[]) == wanted);
}

#[test]
fn checkpoints_in_half_precision() {
    for (dtype, name) in [(Dtype::BF16, "bfloat16"), (Dtype::F16, "float16")] {
        let case = Case::ids();
        // values that both formats hold, so that all three files are one model
        let cut = |t: &Tensor| t.cast(Dtype::BF16).cast(Dtype::F32);
        let clamp = |t: &Tensor| {
            Tensor::f32(&t.shape, &t.values().iter().map(|x| (x * 256.0).round() / 256.0).collect::<Vec<_>>())
        };
        edit(&case.path("model/model.safetensors"), |all| all.values_mut().for_each(|t| *t = cut(&clamp(t))));
        let wanted = case.adapter("wide", &[]);
        edit(&case.path("model/model.safetensors"), |all| all.values_mut().for_each(|t| *t = t.cast(dtype)));
        let narrow = case.adapter("narrow", &[]);
        assert!(narrow.len() == wanted.len());
        close(&case.series("narrow", "loss"), &case.series("wide", "loss"), 1e-6);
        // a full model keeps the format of its base
        case.train(&["train.method=full"]).trained();
        assert!(read(&case.path("out/model.safetensors")).values().all(|t| t.dtype == dtype));
        assert_eq!(case.json("out/config.json")["dtype"], name);
    }
}

#[test]
fn model_of_the_hub_cache() {
    let case = Case::ids();
    let wanted = case.adapter("out", &[]);
    let repo = case.path("cache/hub/models--org--tiny");
    std::fs::create_dir_all(repo.join("refs")).expect("creates");
    std::fs::create_dir_all(repo.join("snapshots")).expect("creates");
    std::fs::write(repo.join("refs/main"), "0123abcd").expect("writes");
    std::fs::rename(case.path("model"), repo.join("snapshots/0123abcd")).expect("moves");
    let sets = ["model.model_name_or_path=org/tiny", "train.output_dir=cached"];
    let text = case.train_in(&sets, &[("HF_HOME", "cache")]).trained();
    assert!(text.starts_with("model   org/tiny (llama), "), "{text}");
    assert!(case.read("cached/adapter_model.safetensors") == wanted);
    assert_eq!(case.json("cached/adapter_config.json")["base_model_name_or_path"], "org/tiny");
}

#[test]
fn gpt2_as_the_hub_has_it() {
    let case = Case::ids();
    gpt2(&case.path("gpt2"), "transformer.", 64);
    let model = "model.model_name_or_path=gpt2";
    let wanted = case.adapter("prefixed", &[model]);
    case.train(&[model, "train.method=full", "train.output_dir=full"]).trained();
    // the hub's file: no prefix, and the causal mask as a buffer, here larger than all weights together
    gpt2(&case.path("gpt2"), "", 64);
    edit(&case.path("gpt2/model.safetensors"), |tensors| {
        let mask = Tensor { dtype: Dtype::U8, shape: vec![1, 1, 256, 256], bytes: vec![1; 256 * 256] };
        tensors.insert("h.0.attn.bias".into(), mask);
        tensors.insert("h.0.attn.masked_bias".into(), Tensor::f32(&[1], &[-1e4]));
    });
    assert!(case.adapter("bare", &[model]) == wanted);
    case.train(&[model, "train.method=full"]).trained();
    assert!(case.read("out/model.safetensors") == case.read("full/model.safetensors"));
    assert!(read(&case.path("out/model.safetensors")).keys().all(|name| name.starts_with("transformer.")));
    let config = case.json("bare/adapter_config.json");
    assert_eq!(
        (&config["fan_in_fan_out"], &config["target_modules"]),
        (&json!(true), &json!(["c_attn", "c_fc", "c_proj"]))
    );
}

#[test]
fn what_shows_only_at_the_end_is_said_before() {
    let case = Case::ids();
    case.configure("model", "max_position_embeddings", json!(10));
    let (_, notes) = case.train(&["train.save_steps=7"]).noted();
    let said = [
        "train.jsonl: rows have up to 11 tokens, more than the 10 positions that the model was made for; lower \
         data.max_length, or expect poor results beyond them",
        "train.save_steps = 7 is beyond the run's 2 steps, so no checkpoint is written before the end",
    ];
    assert_eq!(notes, said);
    assert_eq!(case.train(&["data.max_length=10", "train.save_steps=2", "train.output_dir=b"]).noted().1.len(), 1);
    // a tensor in f32 among others in f16
    edit(&case.path("model/model.safetensors"), |all| {
        all.values_mut().for_each(|t| *t = t.cast(Dtype::F16));
        all.insert("model.norm.weight".into(), Tensor::f32(&[24], &[65520.0; 24]));
    });
    let why = "model.norm.weight has values beyond float16's 65504; set train.save_dtype to bfloat16 or float32";
    case.train(&["train.method=full", "train.output_dir=c"]).refused(3, &format!("./model/model.safetensors: {why}"));
    case.train(&["train.method=full", "train.output_dir=c", "train.save_dtype=bfloat16"]).trained();
}

/// A run does not end with nothing because its values outgrew the format.
#[test]
fn values_that_outgrow_float16_are_saved_in_float32() {
    let case = Case::ids();
    let sets = ["train.method=full", "train.save_dtype=float16", "train.learning_rate=1e5", "train.max_steps=1"];
    let (_, notes) = case.train(&sets).noted();
    assert_eq!(notes[1..], ["trained values are beyond float16's 65504, so the weights are saved as float32"]);
    assert!(read(&case.path("out/model.safetensors")).values().all(|t| t.dtype == Dtype::F32));
    assert_eq!(case.json("out/config.json")["dtype"], "float32");
}
