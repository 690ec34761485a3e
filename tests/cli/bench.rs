//! `eyekern bench`: what it counts and what it refuses. How long things take is for whoever runs it.

use super::*;

fn lines(case: &Case, args: &[&str]) -> Vec<Value> {
    let text = case.run(&[&["bench"], args, &["--format", "json"]].concat(), &[]).trained();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"))
}

/// Every operation of the backend, on every device that this build has without hardware.
fn every_kernel(device: &str, name: &str) {
    let case = Case::empty();
    let all = lines(&case, &["kernels", "--size", "tiny", "--repeats", "1", "--device", device]);
    let names: BTreeSet<&str> = all.iter().filter_map(|line| line["case"].as_str()).collect();
    for operation in [
        "zero",
        "copy",
        "norm",
        "add_norm",
        "norm_bwd",
        "dropout_bwd",
        "embed",
        "embed_bwd",
        "gather",
        "gather_bwd",
        "rope",
        "swiglu",
        "swiglu_bwd",
        "gelu_tanh",
        "gelu_tanh_bwd",
        "gelu_erf",
        "gelu_erf_bwd",
        "linear",
        "linear_bias",
        "linear_bwd",
        "lora",
        "lora_bwd",
        "attention",
        "attention_bwd",
        "head_logp",
        "head",
        "clip",
        "adamw",
        "adamw_8bit",
    ] {
        assert!(names.contains(operation), "{operation} is not timed");
    }
    for line in &all {
        let [median, min, max] = ["median_us", "min_us", "max_us"].map(|key| number(line, key));
        assert!(0.0 < min && min <= median && median <= max, "{line}");
        let rate = number(line, "bytes") / median / 1e3;
        assert!((rate / number(line, "gb_s") - 1.0).abs() < 1e-9, "{line}");
        assert!(line["backend"].as_str().is_some_and(|b| b.starts_with(name)) && line["bench"] == "kernel", "{line}");
    }
}

#[test]
fn every_operation_is_timed() {
    every_kernel("cpu", "cpu f32, ");
}

#[cfg(feature = "emulator")]
#[test]
fn every_operation_is_timed_on_the_emulator() {
    every_kernel("emulated", "CUDA kernels, emulated");
}

#[test]
fn costs_are_those_of_the_definitions() {
    let case = Case::empty();
    let only =
        ["kernels", "--size", "tiny", "--repeats", "1", "--device", "cpu", "--only", "attention,attention_bwd,head"];
    let timed = lines(&case, &only);
    let cost = |i: usize| (number(&timed[i], "flops"), number(&timed[i], "bytes"));
    // two examples of 24 tokens, 4 and 2 heads of 8: per query and key 2 x 8 operations for score and output each
    let pairs: usize = (0..48).map(|t| t % 24 + 1).sum();
    assert_eq!(timed[0]["shape"], "48 tokens, 4/2 heads of 8, length 24");
    assert_eq!(cost(0), ((4 * 32 * pairs) as f64, (4 * 48 * (64 + 32 + 4)) as f64));
    // scores again, and the gradients of values, probabilities, queries and keys
    assert_eq!(cost(1), ((10 * 32 * pairs) as f64, (4 * 48 * (64 + 64 + 32 + 32 + 4)) as f64));
    // log p and the gradient of 24 rows of 32, against 96 words
    let head = timed.last().expect("the head");
    assert_eq!((&head["case"], &head["shape"]), (&"head".into(), &"24 of 48 rows x 32 x 96".into()));
    assert_eq!(cost(timed.len() - 1), ((4 * 24 * 32 * 96) as f64, (4 * (32 * 96 + 2 * 24 * 32)) as f64));
    assert!(timed.iter().all(|line| line["memory_share"].is_f64()), "the floor is timed though it was not asked for");
}

#[test]
fn steps_count_tokens_labels_and_slots() {
    let case = Case::empty();
    let shape = ["--batch", "3", "--seq", "40", "--seg-lens", "7,21", "--rank", "4", "--steps", "2", "--warmup", "1"];
    let kinds = ["--device", "cpu", "--rows", "full,packed,padded,unpadded", "--active", "1.0,0.35"];
    let all = lines(&case, &[&["step"], &shape[..], &kinds].concat());
    let of = |i: usize, key: &str| number(&all[i], key) as usize;
    assert_eq!(
        all.iter().map(|line| line["rows"].as_str().unwrap_or("")).collect::<Vec<_>>(),
        ["full", "full", "packed", "packed", "padded", "padded", "unpadded", "unpadded"]
    );
    assert_eq!([of(0, "slots"), of(0, "real_tokens"), of(0, "supervised_tokens")], [120, 120, 117]);
    assert_eq!([of(6, "slots"), of(6, "real_tokens")], [120, of(4, "real_tokens")]);
    assert_eq!(of(4, "supervised_tokens"), of(4, "real_tokens") - 3);
    for line in &all {
        let rate = number(line, "real_tokens") / number(line, "step_ms") * 1e3;
        assert!((rate / number(line, "tok_s") - 1.0).abs() < 1e-9, "{line}");
        // q, k, v, o, gate, up, down of two layers: rank 4 x (rows + columns)
        assert_eq!(number(line, "trained") as usize, 2 * 4 * (128 + 96 + 96 + 128 + 192 + 192 + 192), "{line}");
        // weights of 1 to 4 on the loss of a guess among 512
        let loss = number(line, "loss") / 512f64.ln();
        assert!((1.0..4.0).contains(&loss), "{line}");
    }
    let full = lines(&case, &[&["step", "--method", "full", "--device", "cpu"], &shape[..]].concat());
    assert!(number(&full[0], "trained") > 1e5 && full[0]["rank"].is_null());
}

/// The emulated kernels see the same batch, so their loss is that of the CPU but for bf16.
#[cfg(feature = "emulator")]
#[test]
fn a_step_on_the_emulator_is_that_of_the_cpu() {
    let case = Case::empty();
    let args =
        ["step", "--batch", "2", "--seq", "24", "--rank", "8", "--steps", "1", "--warmup", "0", "--rows", "packed"];
    let loss =
        |device| number(&lines(&case, &[&args[..], &["--seg-lens", "5,11", "--device", device]].concat())[0], "loss");
    let (cpu, emulated) = (loss("cpu"), loss("emulated"));
    assert!((emulated / cpu - 1.0).abs() < 0.01, "{cpu} {emulated}");
}

#[test]
fn a_continuation_is_timed_on_every_size() {
    let case = Case::empty();
    let args = ["decode", "--batch", "3", "--prompt", "5", "--new-tokens", "4", "--repeats", "2", "--device", "cpu"];
    let line = &lines(&case, &args)[0];
    let keys = ["batch", "prompt", "new_tokens"].map(|key| number(line, key) as usize);
    assert_eq!((keys, &line["shape"], &line["bench"]), ([3, 5, 4], &"tiny".into(), &"decode".into()));
    assert!(number(line, "prefill_ms") > 0.0);
    assert!(number(line, "tok_s_min") <= number(line, "tok_s") && number(line, "tok_s") <= number(line, "tok_s_max"));
    let text = case.run(&["bench", "decode", "--prompt", "2", "--new-tokens", "2", "--device", "cpu"], &[]);
    assert!(text.stdout.contains("1 x 2 tokens read in "), "{}", text.stdout);
}

#[test]
fn a_directory_gives_the_shape() {
    let case = Case::ids();
    let args = ["step", "--shape", "model", "--batch", "2", "--seq", "16", "--steps", "1", "--device", "cpu"];
    assert_eq!(lines(&case, &args)[0]["shape"], "model");
    case.run(&["bench", "step", "--shape", "none"], &[])
        .refused(2, "--shape: none is neither 1b, 135m, 15m or tiny nor a directory");
}

#[test]
fn bad_arguments_are_sentences() {
    let case = Case::empty();
    let refused = |args: &[&str]| {
        let ran = case.run(&[&["bench"], args].concat(), &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
        ran.stderr.lines().next().unwrap_or("").to_string()
    };
    assert_eq!(
        refused(&["step", "--active", "0"]),
        "eyekern: invalid value '0' for '--active <SHARE,..>': give shares above 0 and at most 1"
    );
    assert_eq!(
        refused(&["step", "--seg-lens", "9,3"]),
        "eyekern: invalid value '9,3' for '--seg-lens <MIN,MAX>': give two lengths of at least 2, the shorter first, \
         such as 128,640"
    );
    let unknown = refused(&["kernels", "--only", "norm,warp", "--device", "cpu"]);
    assert!(unknown.starts_with("eyekern: --only: unknown case warp; the cases are zero, copy, norm, "), "{unknown}");
    assert_eq!(unknown.matches("linear_bias").count(), 1, "{unknown}");
}
