//! `eyekern train` on CUDA: the kernels on the emulator, and the driver's side on a made-up GPU (kernels/emulator/gpu),
//! against the processor.

use crate::cuda::{findings, says};
use crate::{Case, RECIPE, Ran, id_rows, models};
use eyekern::backend::cuda::kernels::COMPILER;
use serde_json::Value;

/// The folder with the made-up driver and cublasLt.
const LIBRARIES: (&str, &str) = ("LD_LIBRARY_PATH", env!("EYEKERN_MADE_UP_GPU"));

/// Four steps at a constant rate over six rows, which fit one micro-batch: every step has the same shapes.
const STEPS: [&str; 3] = ["train.max_steps=4", "train.lr_scheduler_type=constant", "data.batching=padded"];

fn on(device: &str, case: &Case, out: &str, sets: &[&str], env: &[(&str, &str)]) -> Ran {
    let to = format!("train.output_dir={out}");
    let sets = [&STEPS, sets, &[to.as_str(), "train.overwrite_output_dir=true"]].concat();
    let args: Vec<&str> = ["train", "recipe.toml", "--device", device]
        .into_iter()
        .chain(sets.iter().flat_map(|s| ["--set", s]))
        .collect();
    case.run(&args, env)
}

/// Trains on the made-up GPU into `out`, with the kernels for Hopper and without their proof.
fn on_gpu(case: &Case, out: &str, sets: &[&str], env: &[(&str, &str)]) -> Ran {
    on("cuda", case, out, sets, &[&[LIBRARIES, ("EYEKERN_KERNELS", "hopper")], env].concat())
}

/// Whether there is machine code to look up; where it must be, the build itself has failed without.
pub(crate) fn compiled() -> bool {
    COMPILER.is_some()
}

#[track_caller]
fn close(ours: &[f64], theirs: &[f64], limit: f64) {
    assert!(!theirs.is_empty() && ours.len() == theirs.len(), "{ours:?} {theirs:?}");
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= limit * b.abs(), "{ours:?}\n{theirs:?}");
    }
}

fn lines(case: &Case, file: &str) -> Vec<String> {
    String::from_utf8(case.read(file)).expect("UTF-8").lines().map(str::to_string).collect()
}

/// A Llama whose heads the kernels take, and rows of ids.
pub(crate) fn case() -> Case {
    let case = Case::empty();
    models::llama(&case.path("model"), 97);
    case.write("train.jsonl", id_rows());
    case.write("recipe.toml", RECIPE);
    case
}

/// Six rows of one length, so that all micro-batches have one shape.
fn even_rows() -> String {
    let rows = id_rows();
    rows.lines().next().map(|row| format!("{row}\n").repeat(6)).expect("a row")
}

#[test]
fn twenty_steps_of_the_demo_follow_the_processor() {
    let case = Case::empty();
    case.run(&["demo", "--output-dir", "demo"], &[]).trained();
    let run = |device, out: &str| {
        let to = format!("train.output_dir={out}");
        let sets = ["train.max_steps=20", "data.max_tokens=192", "data.max_length=96", &to];
        let args: Vec<&str> = ["train", "demo/recipe.toml", "--device", device]
            .into_iter()
            .chain(sets.iter().flat_map(|set| ["--set", set]))
            .collect();
        case.run(&args, &[]).trained();
        (case.series(out, "loss"), case.series(out, "grad_norm"))
    };
    let (ours, theirs) = (run("emulated", "emulated"), run("cpu", "cpu"));
    assert_eq!(theirs.0.len(), 20);
    // bf16 activations move a loss by less than a thousandth of a nat, and a norm by less than a twentieth
    let apart = ours.0.iter().zip(&theirs.0).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-3, "{ours:?}\n{theirs:?}");
    close(&ours.1, &theirs.1, 5e-2);
}

#[test]
fn a_model_trained_on_one_device_goes_on_on_another() {
    let case = case();
    case.write("train.jsonl", even_rows());
    let full = ["train.method=full", "train.learning_rate=5e-3"];
    // four steps on either device, then four more of the saved model on the other
    let then = |first, second| {
        on(first, &case, &format!("{first}-1"), &full, &[]).trained();
        let model = format!("model.model_name_or_path=./{first}-1");
        let out = format!("{first}-{second}");
        on(second, &case, &out, &[&full[..], &[&model]].concat(), &[]).trained();
        case.series(&out, "loss")
    };
    let (forth, back, stay) = (then("cpu", "emulated"), then("emulated", "cpu"), then("cpu", "cpu"));
    close(&forth, &stay, 5e-3);
    close(&back, &stay, 5e-3);
    let start = case.series("cpu-1", "loss")[0];
    assert!(stay[0] < 0.99 * start, "the second run begins where the first began: {start} {stay:?}");
}

#[test]
fn the_driver_trains_as_the_processor_does() {
    if !compiled() {
        return;
    }
    let case = case();
    let text = on_gpu(&case, "gpu", &[], &[]).trained();
    assert!(text.contains("GPU 0 (Made-up H200), bf16, 4.0 of 4.0 GiB free"), "{text}");
    on("cpu", &case, "cpu", &[], &[]).trained();
    close(&case.series("gpu", "loss"), &case.series("cpu", "loss"), 5e-3);
    close(&case.series("gpu", "grad_norm"), &case.series("cpu", "grad_norm"), 5e-2);
    // and `auto` finds it
    let text = on("auto", &case, "auto", &["train.max_steps=1"], &[LIBRARIES]).trained();
    assert!(text.contains("GPU 0 (Made-up H200)"), "{text}");
}

#[test]
fn algorithms_are_timed_once_and_their_bits_repeat() {
    if !compiled() {
        return;
    }
    let case = case();
    let cache = case.path("cache").display().to_string();
    let log = case.path("products.log").display().to_string();
    let run = |out: &str, env: &[(&str, &str)]| {
        on_gpu(&case, out, &[], &[&[("MADE_UP_PRODUCTS", log.as_str())], env].concat()).trained();
        (case.read(&format!("{out}/adapter_model.safetensors")), lines(&case, "products.log"))
    };
    // a first run times what it meets, and a second takes what the cache has
    let (first, timed) = run("a", &[("XDG_CACHE_HOME", &cache)]);
    let (second, cached) = run("b", &[("XDG_CACHE_HOME", &cache)]);
    assert!(timed.len() > cached.len() && first == second, "{} {}", timed.len(), cached.len());
    let record: Value = case.json("b/products.json");
    assert_eq!((record["device"].as_str(), record["cublaslt"].as_u64()), (Some("Made-up H200"), Some(130_100)));
    assert_eq!(record["products"], case.json("a/products.json")["products"]);
    let product = &record["products"][0];
    assert!(product["microseconds"].as_f64() > Some(0.0) && product["shape"][0].as_u64() > Some(0), "{product}");
    // a run's own record goes before the cache: here it asks for the second algorithm everywhere
    let mut asked = record;
    for product in asked["products"].as_array_mut().expect("products") {
        product["algorithm"] = serde_json::json!([2, 0, 0, 0, 0, 0, 0, 0]);
    }
    std::fs::create_dir(case.path("c")).expect("creates");
    case.write("c/products.json", asked.to_string());
    let (third, used) = run("c", &[("XDG_CACHE_HOME", &cache)]);
    assert!(used.len() == cached.len() && used.iter().all(|id| id == "2"), "{used:?}");
    assert!(third != first, "the algorithms differ in bits");
    // an algorithm that cannot do its product is not used, wherever it was found
    for product in asked["products"].as_array_mut().expect("products") {
        product["algorithm"][0] = Value::from(9);
    }
    case.write("c/products.json", asked.to_string());
    assert!(run("c", &[]).1.iter().all(|id| id != "9"));
}

#[test]
fn a_step_waits_once_and_allocates_nothing() {
    if !compiled() {
        return;
    }
    let case = case();
    case.write("train.jsonl", even_rows());
    let log = case.path("log").display().to_string();
    on_gpu(&case, "gpu", &[], &[("MADE_UP_LOG", &log)]).trained();
    let lines = lines(&case, "log");
    // pieces of work between two waits; a step is one that begins at the embedding and ends at the update
    let pieces: Vec<&[String]> = lines.split(|line| line == "wait").filter(|piece| !piece.is_empty()).collect();
    let is_step = |piece: &&&[String]| {
        let has = |word: &str| piece.iter().any(|line| line.starts_with(word));
        has("launch embed") && has("launch adamw")
    };
    let steps: Vec<&&[String]> = pieces.iter().filter(is_step).collect();
    assert!(steps.len() >= 3, "{} steps in one piece", steps.len());
    let last = steps[steps.len() - 3..].iter().map(|piece| piece.to_vec()).collect::<Vec<_>>();
    assert!(
        last.iter().all(|piece| *piece == last[0] && !piece.iter().any(|line| line.starts_with("alloc"))),
        "{last:?}"
    );
}

#[test]
fn what_goes_wrong_on_a_gpu_is_a_sentence() {
    if !compiled() {
        return;
    }
    let case = case();
    let memory = ((32 << 20) + (16 << 10)).to_string(); // a little more than products work in
    let ran = on_gpu(&case, "gpu", &[], &[("MADE_UP_MEMORY", &memory)]);
    assert_eq!(ran.code, Some(4));
    let said = ran.stderr.lines().last().unwrap_or_default();
    assert!(said.starts_with("eyekern: GPU 0 (Made-up H200) is out of memory: "), "{said}");
    assert!(said.contains(" MiB were asked for, and ") && said.contains("of 32.0 MiB are free; lower data."), "{said}");
    let lost = "GPU 0 (Made-up H200): launching";
    let ran = on_gpu(&case, "lost", &[], &[("MADE_UP_LOST", "80")]);
    assert!(ran.stderr.contains(lost) && ran.stderr.contains("the GPU was lost; see `dmesg`"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(4));
    // heads that no kernel takes are known before anything is done
    let odd = Case::ids();
    let message = "attention heads of 12 are not supported on CUDA, only multiples of 8 up to 256; train on the CPU \
                   (--device cpu)";
    on_gpu(&odd, "odd", &[], &[]).refused(4, message);
    // `auto` falls back to the CPU instead, in a dry run too, and gives the reason
    let why = format!("using the CPU instead of a GPU: {message}");
    let dry = |case: &Case| case.run(&["train", "recipe.toml", "--dry-run"], &[LIBRARIES]).noted();
    let ((planned, notes), (text, same)) = (dry(&odd), on("auto", &odd, "odd", &[], &[LIBRARIES]).noted());
    assert!(planned.contains("cpu with 1 threads, f32") && text.contains("cpu with 1 threads, f32"), "{planned}{text}");
    assert_eq!((&notes, &same), (&vec![why.clone()], &vec![why]));
    // on a GPU that can run the model a dry run counts for it
    let (planned, notes) = dry(&case);
    assert!(planned.contains("cuda, bf16 with f32 masters") && notes.is_empty(), "{planned}{notes:?}");
    // a failure that shows only when the GPU is opened
    let (text, notes) = on("auto", &case, "auto", &[], &[LIBRARIES, ("MADE_UP_MEMORY", "1000")]).noted();
    assert!(text.contains("cpu with 1 threads"), "{text}");
    assert!(notes[0].starts_with("using the CPU instead of a GPU: GPU 0 (Made-up H200) is out of memory"), "{notes:?}");
}

/// A kernel for Hopper that hangs, faults or computes wrongly: training goes on with those for all GPUs, as it does
/// where a person chooses them.
#[test]
fn hopper_kernels_that_fail_are_not_used() {
    if !compiled() {
        return;
    }
    let case = case();
    models::llama_with_heads(&case.path("model"), 97, 64);
    // the same algorithms of products in all runs
    let cache = case.path("cache").display().to_string();
    let train = |out: &str, env: &[(&str, &str)]| {
        let env = [&[("XDG_CACHE_HOME", cache.as_str())], env].concat();
        let (text, notes) = on_gpu(&case, out, &["train.max_steps=1"], &env).noted();
        (text, notes, case.read(&format!("{out}/adapter_model.safetensors")))
    };
    let run = |out: &str, env: &[(&str, &str)]| {
        let (text, notes, bytes) = train(out, env);
        assert!(text.contains("attention kernels for all GPUs"), "{text}");
        (notes, bytes)
    };
    let (notes, expected) = run("portable", &[("EYEKERN_KERNELS", "portable")]);
    assert!(notes.is_empty(), "{notes:?}");
    for (what, limit, why) in [
        ("hang", "2", "did not end within 2 s"),
        ("fault", "600", "failed (GPU 0 (Made-up H200): "),
        (
            "wrong",
            "600",
            "failed (attention, 2 heads over 1 of 64 features: the kernels for Hopper and for all GPUs differ by ",
        ),
    ] {
        let broken = [("EYEKERN_KERNELS", "auto"), ("MADE_UP_HOPPER", what), ("EYEKERN_KERNELS_SECONDS", limit)];
        let (notes, bytes) = run(what, &broken);
        let [note] = &notes[..] else { panic!("{what}: {notes:?}") };
        let start = format!("on GPU 0 (Made-up H200) the attention kernels for Hopper {why}");
        assert!(note.starts_with(&start), "{note}");
        assert!(note.ends_with("; those for all GPUs are used in their place. Please report it"), "{note}");
        assert!(bytes == expected, "{what}");
        let text = case.run(&["doctor"], &[&[LIBRARIES], &broken[..]].concat()).trained();
        let (good, finding) = says(&findings(&text), "attention 0");
        assert!(!good && finding.starts_with(&format!("the kernels for Hopper {why}")), "{text}");
        assert!(text.ends_with("can train on: the CPU and the GPU\n"), "{text}");
    }
    // those that agree are used, and by hand they are not asked
    let log = case.path("log").display().to_string();
    for by_hand in ["auto", "hopper", "portable"] {
        let (text, notes, _) = train(by_hand, &[("EYEKERN_KERNELS", by_hand), ("MADE_UP_LOG", &log)]);
        let launched = lines(&case, "log").iter().any(|line| line.contains("attention_fwd_sm90_64"));
        assert_eq!(launched, by_hand != "portable");
        assert_eq!(launched, text.contains("GPU 0 (Made-up H200), bf16, 4.0 of"), "{text}");
        assert!(notes.is_empty(), "{notes:?}");
    }
    on_gpu(&case, "x", &[], &[("EYEKERN_KERNELS", "fast")])
        .refused(2, "EYEKERN_KERNELS is \"fast\"; it can be auto, hopper or portable");
    on_gpu(&case, "x", &[], &[("EYEKERN_KERNELS_SECONDS", "0")])
        .refused(2, "EYEKERN_KERNELS_SECONDS is \"0\"; it must be a whole number of seconds from 1 to 86400");
}

/// A model that knows its rows by heart, so that rounding to bf16 tips no token.
#[test]
fn generation_follows_the_processor() {
    let case = case();
    let learn = ["train.method=full", "train.max_steps=150", "train.learning_rate=3e-2", "train.output_dir=learnt"];
    case.train(&learn).trained();
    let rows = id_rows();
    let starts = rows.lines().map(|row| {
        let row: Value = serde_json::from_str(row).expect("JSON");
        serde_json::json!({ "input_ids": row["input_ids"].as_array().expect("ids")[..4] }).to_string() + "\n"
    });
    case.write("starts.jsonl", starts.collect::<String>());
    let run = |device: &str, out: &str, env: &[(&str, &str)]| {
        let args = ["generate", "--model", "learnt", "--data", "starts.jsonl", "-o", out, "--max-new-tokens", "6"];
        case.run(&[&args[..], &["--batch-size", "4", "--device", device]].concat(), env).noted();
        lines(&case, out)
    };
    let expected = run("cpu", "cpu.jsonl", &[]);
    assert_eq!(run("emulated", "emulated.jsonl", &[]), expected);
    assert_eq!(run("cuda", "cuda.jsonl", &[LIBRARIES]), expected);
}
