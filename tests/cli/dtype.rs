//! The number format of products: `train.compute_dtype` and `--dtype`. How far bf16 is from f32 is tested in
//! tests/parity/rounding.rs, the bits of its kernels in src/backend/cpu/gemm/pairs/tests.rs.

use super::*;
use serde_json::json;

const BF16: &str = "train.compute_dtype=bf16";

fn on_cpu(case: &Case, args: &[&str]) -> Ran {
    case.run(&[args, &["--device", "cpu"]].concat(), &[])
}

#[test]
fn a_run_trains_resumes_and_reports_in_bf16() {
    let case = Case::ids();
    let full = case.adapter("full", &[]);
    assert!(case.adapter("f32", &["train.compute_dtype=f32"]) == full, "auto is f32 on a CPU");
    let sets = [BF16, "train.max_steps=4", "train.save_steps=2"];
    let whole = case.adapter("whole", &sets);
    assert!(case.adapter("threads", &[&sets[..], &["train.threads=3"]].concat()) == whole, "the same bits");
    // nearly the same losses
    let (near, bf16) = (case.series("full", "loss"), case.series("whole", "loss"));
    let apart = (near[0] - bf16[0]).abs();
    assert!(apart > 1e-5 && apart < 0.1, "{near:?} {bf16:?}");

    // said where it is so
    let (_, notes) = case.train(&[BF16, "train.output_dir=noted"]).noted();
    let slower = "products in bf16 are not faster than in f32 on this CPU; results are the same as with AVX512_BF16";
    let cpu = std::fs::read_to_string("/proc/cpuinfo").expect("Linux");
    let fast = cpu.contains("avx512_bf16") && !cpu.contains("GenuineIntel");
    assert_eq!(notes.iter().any(|note| note == slower), !fast, "{notes:?}");

    let device = case.metrics("whole")[0]["run"]["device"].as_str().expect("a device").to_string();
    assert!(device.starts_with("cpu with 1 threads, f32, products in bf16 by "), "{device}");
    assert!(
        String::from_utf8(case.read("whole/recipe.resolved.toml")).expect("UTF-8").contains("compute_dtype = \"bf16\"")
    );
    let resume = |more: &[&str]| {
        let sets: Vec<&str> = more.iter().flat_map(|set| ["--set", set]).collect();
        let last = ["--set", "train.max_steps=4", "--set", "train.save_steps=2", "--set", "train.output_dir=whole"];
        on_cpu(&case, &[&["train", "recipe.toml", "--resume", "whole/checkpoint-2"], &last[..], &sets].concat())
    };
    let other = "precision was f32 with products in bf16 and is f32, train.compute_dtype was \"bf16\" and is \"auto\"";
    let refused = resume(&[]);
    assert!(refused.code == Some(2) && refused.stderr.contains(other), "{:?} {}", refused.code, refused.stderr);
    resume(&[BF16]).trained();
    assert!(case.read("whole/adapter_model.safetensors") == whole, "resumed bit for bit");

    let (plan, _) = on_cpu(&case, &["train", "recipe.toml", "--dry-run", "--set", BF16]).noted();
    assert!(plan.contains("\ndevice        cpu with 1 threads, f32, products in bf16 by "), "{plan}");
}

#[test]
fn texts_are_generated_and_evaluated_in_bf16() {
    let case = Case::ids();
    let (prompt, expected) = generate::fixture();
    case.write("rows.jsonl", json!({ "input_ids": prompt }).to_string() + "\n");
    let args = ["generate", "--model", "model", "--data", "rows.jsonl", "--max-new-tokens", "16", "-o"];
    on_cpu(&case, &[&args[..], &["f32.jsonl"]].concat()).noted();
    let (_, notes) = on_cpu(&case, &[&args[..], &["bf16.jsonl", "--dtype", "bf16"]].concat()).noted();
    assert!(notes.iter().any(|note| note.contains("products in bf16 by ")), "{notes:?}");
    let ids = |file: &str| {
        let row: Value = serde_json::from_slice(&case.read(file)).expect("a row");
        row["ids"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect::<Vec<_>>()
    };
    // the model is not trained, so the most likely token is not always the same
    assert_eq!((ids("f32.jsonl"), ids("bf16.jsonl").len()), (expected, 16));
    // rows of another format are not continued
    let other = on_cpu(&case, &[&args[..], &["bf16.jsonl"]].concat());
    assert!(other.code == Some(3) && other.stderr.contains("bf16.jsonl:1: "), "{}", other.stderr);

    let case = Case::text();
    case.write("test.jsonl", "{\"prompt\": \"int a;\", \"completion\": \"long b = a;\"}\n");
    let args = ["eval", "--model", "model", "--data", "test.jsonl", "--task", "none", "--max-new-tokens", "4"];
    let logp = |dtype: &str| {
        on_cpu(&case, &[&args[..], &["--lang", "java", "-o", dtype, "--dtype", dtype]].concat()).noted();
        let scores = case.json(&format!("{dtype}/scores.json"));
        assert_eq!(scores["generation"]["dtype"], dtype);
        scores["references"]["mean_logp"].as_f64().expect("log p")
    };
    let apart = (logp("f32") - logp("bf16")).abs();
    assert!(apart > 1e-6 && apart < 0.1, "{apart}");
}

#[test]
fn benches_name_format_and_instructions() {
    let case = Case::empty();
    for args in [
        &["step", "--steps", "1", "--warmup", "0", "--batch", "1", "--seq", "16"][..],
        &["decode", "--repeats", "1", "--warmup", "0", "--prompt", "4", "--new-tokens", "2"],
        &["kernels", "--size", "tiny", "--repeats", "1", "--only", "linear"],
    ] {
        for dtype in ["f32", "bf16"] {
            let more = ["--format", "json", "--dtype", dtype];
            let (text, _) = on_cpu(&case, &[&["bench"], args, &more].concat()).noted();
            let line: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
            let backend = line["backend"].as_str().expect("a backend");
            let instructions = ["avx512f", "avx512_bf16", "avx2", "baseline instructions"];
            let named = instructions.iter().any(|name| backend.ends_with(&format!(", {name}")));
            assert!(backend.starts_with(&format!("cpu {dtype}, ")) && named, "{backend}");
        }
    }
}

#[test]
fn cuda_has_no_f32() {
    let case = Case::ids();
    let why = |option: &str| {
        format!("{option} is f32, but CUDA kernels compute in bf16; choose auto or bf16, or the CPU (--device cpu)")
    };
    let train = ["train", "recipe.toml", "--set", "train.compute_dtype=f32", "--device"];
    let key = why("train.compute_dtype");
    case.run(&[&train[..], &["cuda"]].concat(), &[]).refused(2, &key);
    case.run(&[&train[..], &["cuda", "--dry-run"]].concat(), &[]).refused(2, &key);
    let decode = ["bench", "decode", "--dtype", "f32", "--device"];
    case.run(&[&decode[..], &["cuda"]].concat(), &[]).refused(2, &why("--dtype"));
    if cfg!(feature = "emulator") {
        case.run(&[&train[..], &["emulated"]].concat(), &[]).refused(2, &key);
    }
    // the CPU has it, whether or not there is a GPU
    let (text, _) = case.run(&[&train[..], &["auto"]].concat(), &[]).noted();
    assert!(text.contains(", cpu with 1 threads, f32, "), "{text}");

    let refused = on_cpu(&case, &["generate", "--model", "model", "--dtype", "f16", "--prompt", "x"]);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("[possible values: auto, f32, bf16]"),
        "{}",
        refused.stderr
    );
}
