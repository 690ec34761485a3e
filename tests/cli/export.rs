//! `eyekern export`: the merged model's files and values, and refusals.

use super::models::{Tensor, edit, read};
use super::*;
use safetensors::Dtype;

fn export(case: &Case, args: &[&str]) -> Ran {
    case.run(&[&["export", "--model", "model", "--adapter", "out", "--merge", "-o", "merged"], args].concat(), &[])
}

fn trained() -> Case {
    let case = Case::ids();
    case.train(&["train.max_steps=8"]).trained();
    case
}

/// W + (alpha / r) B A by the two files, added up here.
fn expected(case: &Case) -> models::Tensors {
    let adapter = read(&case.path("out/adapter_model.safetensors"));
    let mut tensors = read(&case.path("model/model.safetensors"));
    for (name, weight) in tensors.iter_mut() {
        let module = name.trim_end_matches(".weight");
        let half = |ab: &str| adapter.get(&format!("base_model.model.{module}.lora_{ab}.weight"));
        let (Some(a), Some(b)) = (half("A"), half("B")) else { continue };
        let (rank, width) = (a.shape[0], a.shape[1]);
        let (a, b) = (a.values(), b.values());
        let update = |row: usize, column: usize| -> f64 {
            2.0 * (0..rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * width + column])).sum::<f64>()
        };
        let old = weight.values().into_iter().enumerate();
        let values: Vec<f32> = old.map(|(i, w)| (f64::from(w) + update(i / width, i % width)) as f32).collect();
        *weight = Tensor::f32(&weight.shape, &values);
    }
    tensors
}

#[test]
fn the_merged_model_is_the_sum() {
    let case = trained();
    let wanted = expected(&case);
    for (dtype, name, limit) in [
        (Dtype::F32, "auto", "1e-4"),
        (Dtype::F32, "float32", "1e-4"),
        (Dtype::F16, "float16", "2e-2"),
        (Dtype::BF16, "bfloat16", "1.5e-1"),
    ] {
        let text =
            case.run(&["export", "--model", "model", "--adapter", "out", "--merge", "-o", name, "--dtype", name], &[]);
        let stored = if name == "auto" { "float32" } else { name };
        let start = format!("{name}: out merged in {stored}; log p of a probe of 16 tokens differs by ");
        let text = text.trained();
        let end = format!(" from the unmerged model (limit {limit})\n");
        assert!(text.starts_with(&start) && text.ends_with(&end), "{text}");
        let found = read(&case.path(name).join("model.safetensors"));
        assert!(found.keys().eq(wanted.keys()));
        for (key, tensor) in &found {
            assert!(tensor.dtype == dtype && tensor.shape == wanted[key].shape, "{key}");
            let (values, close) = (tensor.values(), wanted[key].cast(dtype).values());
            // the order of a sum may move a rounding by one step of the format
            let step = match dtype {
                Dtype::F32 => 1e-6,
                Dtype::F16 => 1e-3,
                _ => 8e-3,
            };
            let apart = |(a, b): (&f32, &f32)| (a - b).abs() <= step * b.abs().max(1e-2);
            assert!(values.iter().zip(&close).all(apart), "{name} {key}");
        }
        let mut config = case.json("model/config.json");
        config["dtype"] = stored.into();
        assert_eq!(case.json(&format!("{name}/config.json")), config);
        assert_eq!(case.json(&format!("{name}/generation_config.json")), case.json("model/generation_config.json"));
    }
}

#[test]
fn nothing_is_written_over() {
    let case = trained();
    case.train(&["train.output_dir=merged"]).trained();
    export(&case, &[]).refused(3, "merged: holds metrics.jsonl already; choose another output directory");
    let from = "is where the model or the adapter comes from; choose another output directory";
    for out in ["model", "out"] {
        case.run(&["export", "--model", "model", "--adapter", "out", "--merge", "-o", out], &[])
            .refused(3, &format!("{out}: {from}"));
    }
}

#[test]
fn adapters_of_other_models_are_refused() {
    let case = trained();
    let original = case.read("out/adapter_config.json");
    let configure = |key: &str, value: Value| {
        let mut config: Value = serde_json::from_slice(&original).expect("JSON");
        config[key] = value;
        case.write("out/adapter_config.json", config.to_string());
    };
    configure("r", 8.into());
    let ran = export(&case, &[]);
    assert!(
        ran.code == Some(3) && ran.stderr.starts_with("eyekern: out/adapter_model.safetensors: "),
        "{}",
        ran.stderr
    );
    std::fs::remove_file(case.path("out/adapter_model.safetensors")).expect("removes");
    let why = "there is no such file; give the directory of an adapter as PEFT saves it, in safetensors";
    export(&case, &[]).refused(3, &format!("out/adapter_model.safetensors: {why}"));
    let without = case.run(&["export", "--model", "model", "--adapter", "out", "-o", "merged"], &[]);
    assert!(without.code == Some(2) && without.stderr.contains("--merge"), "{}", without.stderr);
}

/// A value that the format cannot hold, and one that leaves nothing of the logits.
#[test]
fn what_cannot_be_stored_is_refused() {
    let case = trained();
    edit(&case.path("model/model.safetensors"), |tensors| {
        let norm = &tensors["model.norm.weight"];
        let large = Tensor::f32(&norm.shape, &vec![1e5; norm.shape[0]]);
        tensors.insert("model.norm.weight".into(), large);
    });
    let why = "model.norm.weight has values beyond float16's 65504; save as bfloat16 or float32";
    export(&case, &["--dtype", "float16"]).stopped(3, &format!("merged: {why}"));
}

/// A disk that is full between the weights and what belongs beside them.
#[test]
fn a_result_that_does_not_fit_is_none() {
    let case = trained();
    // a companion that is larger than the weights
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo.join(name), case.path("out").join(name)).expect("copies");
    }
    case.write("out/vocab.json", vec![b' '; 3 << 20]);
    let args = "export --model model --adapter out --merge -o merged";
    // no file may grow beyond 2 MiB; a shell's user who had the signal ignored gets an error in place of it
    let line = format!("trap '' XFSZ; ulimit -f 2048; exec '{}' {args}", env!("CARGO_BIN_EXE_eyekern"));
    let mut command = std::process::Command::new("bash");
    let output = command.args(["-c", &line]).current_dir(case.path("")).output().expect("a shell");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let why = "eyekern: merged/vocab.json.partial: cannot write: File too large (os error 27)";
    assert_eq!((text.lines().last(), output.status.code()), (Some(why), Some(3)));
    assert!(!case.path("merged").exists(), "nothing is left");
    export(&case, &[]).trained();
    assert_eq!(case.read("merged/vocab.json").len(), 3 << 20);
    assert!(!case.path("merged/.lock").exists() && !case.path("merged/result.partial").exists());
}

#[test]
fn a_folder_that_is_written_to_is_refused() {
    let case = trained();
    std::fs::create_dir(case.path("merged")).expect("creates");
    let lock = std::fs::File::create(case.path("merged/.lock")).expect("creates");
    lock.lock().expect("locks");
    let why = "merged: another run writes there; wait for its end, or choose another output directory";
    export(&case, &[]).stopped(3, why);
    drop(lock);
    export(&case, &[]).trained();
}

/// What an export that was killed at any file leaves is no model, and does not stay.
#[test]
fn a_killed_export_leaves_nothing_that_looks_like_a_model() {
    let case = trained();
    export(&case, &[]).trained();
    let whole = |out: &str| -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(case.path(out)).expect("a folder");
        let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().into_string().unwrap()).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), case.read(&format!("{out}/{name}")))).collect()
    };
    let wanted = whole("merged");
    let places = [".lock", "result.partial", "result.partial/model.safetensors", "result.partial/config.json"];
    let places = places.into_iter().chain(["config.json", "generation_config.json", "model.safetensors"]);
    for (i, place) in places.enumerate() {
        let out = format!("killed-{i}");
        let args = ["export", "--model", "model", "--adapter", "out", "--merge", "-o", &out];
        let mut command = case.command(&args, &[]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("starts");
        while !case.path(&out).join(place).exists() && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        if case.path(&out).join("model.safetensors").exists() {
            // whatever else is there: all that belongs to the model is
            for (name, bytes) in &wanted {
                assert!(case.read(&format!("{out}/{name}")) == *bytes, "{place}: {name}");
            }
            continue;
        }
        case.run(&args, &[]).trained();
        assert!(whole(&out) == wanted, "{place}: not as after a single run");
    }
}

#[test]
fn threads_are_those_that_are_asked_for() {
    let case = trained();
    let generate = ["generate", "--model", "model", "--adapter", "out", "--data", "train.jsonl", "-o"];
    let row = |out: &str, args: &[&str], env: &[(&str, &str)]| {
        case.run(&[&generate, &[out][..], args].concat(), env).trained();
        case.read(out)
    };
    let one = row("one", &["--threads", "1"], &[]);
    assert!(one == row("three", &["--threads", "3"], &[]) && one == row("env", &[], &[("RAYON_NUM_THREADS", "3")]));
    export(&case, &["--threads", "2"]).trained();
    let ran = export(&case, &["--threads", "1025"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--threads"), "{}", ran.stderr);
    // an option or a key goes before the variable
    let device = |sets: &[&str], env: &[(&str, &str)]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["train", "recipe.toml", "--dry-run"].into_iter().chain(sets).collect();
        let text = case.run(&[&args[..], &["--set", "train.output_dir=dry"]].concat(), env).trained();
        text.lines().find(|line| line.starts_with("device")).expect("a line").to_string()
    };
    let five = [("RAYON_NUM_THREADS", "5")];
    let key = |threads: u32| format!("train.threads={threads}");
    assert!(device(&[&key(0)], &five).ends_with("cpu with 5 threads, f32"));
    assert!(device(&[&key(2)], &five).ends_with("cpu with 2 threads, f32"));
}
