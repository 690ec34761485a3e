//! The recipe, its layers and the flags: what is refused, and which layer wins.

use crate::Case;

/// `eyekern train recipe.toml --set SET`.
fn set(assignment: &str, why: &str) {
    Case::ids().train(&[assignment]).refused(2, why);
}

/// A recipe file.
fn file(text: &str, why: &str) {
    let case = Case::ids();
    case.write("recipe.toml", text);
    case.train(&[]).refused(2, &format!("recipe.toml{why}"));
}

/// A command line.
fn flags(args: &[&str], why: &str) {
    Case::ids().run(args, &[]).refused(2, why);
}

/// The recipe as `--print-config` shows it.
fn printed(case: &Case, args: &[&str], env: &[(&str, &str)]) -> toml::Table {
    let ran = case.run(&[&["train", "--print-config"], args].concat(), env);
    assert!(!ran.touched, "showing a recipe writes nothing");
    ran.trained().parse().expect("TOML")
}

#[test]
fn missing_recipe() {
    let why = "nope.toml: cannot read the recipe: No such file or directory (os error 2)";
    flags(&["train", "nope.toml"], why);
}

#[test]
fn not_toml() {
    file("[model]\n[data\n", ":2: unclosed table, expected `]`");
}

#[test]
fn key_given_twice() {
    file("[train]\nseed = 1\nseed = 2\n", ":3: duplicate key");
}

#[test]
fn typing_error_names_the_nearest_key() {
    file(
        "[train]\nseed = 1\nlearning_rat = 1\n",
        ":3: unknown key train.learning_rat; did you mean train.learning_rate?",
    );
}

#[test]
fn key_in_the_wrong_section() {
    file("[train]\nlora_alpha = 1\n", ":2: unknown key train.lora_alpha; did you mean lora.lora_alpha?");
}

#[test]
fn key_outside_all_sections() {
    file("lr = 1\n", ":1: unknown key lr; did you mean train.learning_rate?");
}

#[test]
fn unknown_section() {
    file("[trian]\nseed = 1\n", ":1: unknown section [trian]; did you mean [train]?");
}

#[test]
fn typing_error_in_a_flag() {
    set("train.sede=1", "--set: unknown key train.sede; did you mean train.seed?");
}

#[test]
fn typing_error_in_the_environment() {
    let ran = Case::ids().train_in(&[], &[("EYEKERN_TRAIN__SEEED", "1")]);
    ran.refused(2, "EYEKERN_TRAIN__SEEED: unknown key train.seeed; did you mean train.seed?");
}

#[test]
fn flag_that_is_no_assignment() {
    set("seed", "--set: \"seed\" is not an assignment: write --set section.key=value");
}

#[test]
fn wrong_type() {
    file("[train]\nseed = \"one\"\n", ":2: train.seed = \"one\": expected a whole number, at least 0");
    set("data.shuffle=1", "--set: data.shuffle = 1: expected true or false");
}

#[test]
fn wrong_type_in_the_environment() {
    let ran = Case::ids().train_in(&[], &[("EYEKERN_TRAIN__SEED", "one")]);
    ran.refused(2, "EYEKERN_TRAIN__SEED: train.seed = one: expected a whole number, at least 0");
}

#[test]
fn out_of_range() {
    file("[lora]\nr = 0\n", ":2: lora.r = 0: expected a whole number from 1 to 4294967295");
    let why = "--set: model.resid_dropout = 1: expected a finite number, at least 0 and below 1";
    set("model.resid_dropout=1", why);
    set("train.learning_rate=nan", "--set: train.learning_rate = nan: expected a finite number, at least 0");
}

#[test]
fn no_such_choice() {
    set("data.batching=packed", "--set: data.batching = packed: expected one of tokens, examples, padded");
}

#[test]
fn nothing_to_train_on() {
    let why = "recipe: model.model_name_or_path is missing: give a model directory or the id of a cached one";
    flags(&["train"], why);
    let why = "recipe: data.train_file is missing: give a JSONL file, or two parallel text files as [\"source\", \
               \"target\"]";
    flags(&["train", "--set", "model.model_name_or_path=model"], why);
}

#[test]
fn nothing_to_do() {
    let case = Case::ids();
    case.train(&["train.max_steps=-1", "train.num_train_epochs=0"]).refused(
        2,
        "recipe.toml: train.max_steps = -1 and train.num_train_epochs = 0: nothing to train, set one of them above 0",
    );
}

#[test]
fn unknown_target_module() {
    set(
        "lora.target_modules=[\"q_proj\", \"query\"]",
        "lora.target_modules: \"query\" is no projection of this model; choose from down_proj, gate_proj, k_proj, \
         o_proj, q_proj, up_proj, v_proj, or \"all-linear\"",
    );
}

#[test]
fn adapter_on_the_head() {
    set(
        "lora.target_modules=[\"lm_head\"]",
        "lora.target_modules: \"lm_head\" is no projection of this model; choose from down_proj, gate_proj, k_proj, \
         o_proj, q_proj, up_proj, v_proj, or \"all-linear\"",
    );
}

#[test]
fn target_modules_of_another_architecture() {
    let case = Case::ids();
    crate::models::gpt2(&case.path("gpt2"), "", 16);
    case.train(&["model.model_name_or_path=gpt2", "lora.target_modules=[\"q_proj\"]"]).refused(
        2,
        "lora.target_modules: \"q_proj\" is no projection of this model; choose from c_attn, c_fc, c_proj, or \
         \"all-linear\"",
    );
}

#[test]
fn rank_beyond_the_model() {
    let why = "lora.r: 4000000000 is more than any adapted projection has rows or columns (48); lower it";
    set("lora.r=4000000000", why);
    let case = Case::ids();
    let why = "lora.r: 25 is more than any adapted projection has rows or columns (24); lower it";
    case.train(&["lora.r=25", "lora.target_modules=[\"k_proj\", \"v_proj\"]"]).refused(2, why);
    case.train(&["lora.r=24", "lora.target_modules=[\"k_proj\", \"v_proj\"]"]).trained();
}

#[test]
fn output_of_an_earlier_run() {
    let case = Case::ids();
    case.train(&[]).trained();
    let why = "out: holds metrics.jsonl of an earlier run; choose another train.output_dir or set \
               train.overwrite_output_dir = true";
    case.train(&[]).refused(3, why);
    case.train(&["train.overwrite_output_dir=true"]).trained();
}

/// What an earlier run saved goes before the next begins; what others put there stays.
#[test]
fn output_that_is_written_over() {
    let case = Case::ids();
    let there = |name: &str| case.path("out").join(name).exists();
    let adapter = ["adapter_model.safetensors", "adapter_config.json"];
    let model = ["model.safetensors", "config.json"];
    case.train(&[]).trained();
    case.write("out/notes.txt", "mine");
    let over = ["train.overwrite_output_dir=true", "train.method=full"];
    case.train(&over).trained();
    assert_eq!((adapter.map(there), model.map(there)), ([false; 2], [true; 2]));
    case.write("out/model-00002-of-00003.safetensors", "a shard");
    let failing = ["train.learning_rate=1e38", "train.max_steps=9", "train.lr_scheduler_type=constant"];
    let ran = case.train(&[&over[..1], &failing].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!((adapter.map(there), model.map(there)), ([false; 2], [false; 2]));
    assert!(!there("model-00002-of-00003.safetensors") && there("notes.txt"));
    // a model that no run saved there is not a run's to remove
    case.copy_model("out");
    case.train(&over[..1]).trained();
    assert_eq!((adapter.map(there), model.map(there)), ([true; 2], [true; 2]));
}

#[test]
fn output_that_holds_an_input() {
    let case = Case::ids();
    case.train(&["train.method=full", "train.save_steps=1"]).trained();
    let over = "train.overwrite_output_dir=true";
    let reference = ["objective.gamma=0.1", "objective.reference_model=out"];
    let why = "out: train.output_dir is the directory of the reference model; choose another";
    case.train(&[&reference[..], &[over]].concat()).refused(3, why);
    let why = "out: holds out/checkpoint-1, from which the run would read ./out/checkpoint-1 and which it may remove; \
               choose another train.output_dir";
    case.train(&["model.model_name_or_path=./out/checkpoint-1", over]).refused(3, why);
}

#[test]
fn output_with_a_folder_of_almost_that_name() {
    let case = Case::ids();
    for name in ["out/checkpoint-0007", "out/checkpoint-mine.partial"] {
        std::fs::create_dir_all(case.path(name)).expect("creates");
    }
    for _ in 0..2 {
        case.train(&["train.overwrite_output_dir=true", "train.save_steps=1"]).trained();
    }
    assert!(case.path("out/checkpoint-0007").exists() && case.path("out/checkpoint-mine.partial").exists());
}

#[test]
fn output_that_is_a_model() {
    let case = Case::ids();
    case.copy_model("out");
    let why = "out: holds model.safetensors of an earlier run; choose another train.output_dir or set \
               train.overwrite_output_dir = true";
    case.train(&[]).refused(3, why);
}

#[test]
fn output_over_the_base_model() {
    let ran = Case::ids().train(&["train.output_dir=model/../model", "train.overwrite_output_dir=true"]);
    let why = "model/../model: train.output_dir is the directory of the base model; choose another";
    ran.refused(3, why);
}

#[test]
fn output_where_a_file_lies() {
    let case = Case::ids();
    case.write("out", "");
    case.train(&[]).refused(3, "out: cannot create: File exists (os error 17)");
    case.train(&["train.output_dir=out/below"]).refused(3, "out/below: cannot create: Not a directory (os error 20)");
}

#[test]
fn no_command() {
    let ran = Case::ids().run(&[], &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.starts_with("eyekern: a command is missing\n\n"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("eyekern: ").count(), 1);
    for part in ["\n  train  ", "\n  demo   ", "Exit codes:\n  0  done\n  1  "] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}

#[test]
fn unknown_command() {
    flags(
        &["trian"],
        "unrecognized subcommand 'trian'\n\n  tip: a similar subcommand exists: 'train'\n\nUsage: eyekern \
         <COMMAND>\n\nFor more information, try '--help'.",
    );
}

#[test]
fn unknown_flag() {
    let ran = Case::ids().run(&["train", "recipe.toml", "--lr", "1"], &[]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.touched), (Some(2), "", false));
    assert!(ran.stderr.starts_with("eyekern: unexpected argument '--lr' found\n"), "{}", ran.stderr);
}

#[test]
fn unknown_device() {
    let ran = Case::ids().run(&["train", "recipe.toml", "--device", "tpu"], &[]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.touched), (Some(2), "", false));
    let start = "eyekern: invalid value 'tpu' for '--device <DEVICE>'\n  [possible values: auto, cpu";
    assert!(ran.stderr.starts_with(start), "{}", ran.stderr);
}

#[test]
fn later_layers_win() {
    let case = Case::ids();
    case.write("recipe.toml", "[train]\nseed = 1\nmax_steps = 1\nwarmup_steps = 1\n");
    let env = [("EYEKERN_TRAIN__SEED", "2"), ("EYEKERN_TRAIN__MAX_STEPS", "2"), ("EYEKERN_SHARED", "elsewhere")];
    let recipe = printed(&case, &["recipe.toml", "--set", "train.seed=3"], &env);
    let train = |key: &str| recipe["train"][key].as_integer().expect("a number");
    assert_eq!(["seed", "max_steps", "warmup_steps", "logging_steps"].map(train), [3, 2, 1, 10]);
    let twice = printed(&case, &["--set", "train.seed=4", "--set", "train.seed=5"], &[]);
    assert_eq!(twice["train"]["seed"].as_integer(), Some(5), "the last flag counts");
}

#[test]
fn a_shown_recipe_is_complete_and_explained() {
    let case = Case::ids();
    let text = case.run(&["train", "--print-config"], &[]).trained();
    for line in
        ["[model]", "[data]", "[lora]", "[objective]", "[train]", "learning_rate = 1e-4", "# validation_file = \"\""]
    {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("# Peak learning rate of AdamW. (a finite number, at least 0)\nlearning_rate"), "{text}");
}

#[test]
fn a_shown_recipe_trains_the_same_from_elsewhere() {
    let case = Case::ids();
    let wanted = case.adapter("out", &["train.seed=7", "objective.gamma=0.5"]);
    let flags = ["train", "recipe.toml", "--set", "train.seed=7", "--set", "objective.gamma=0.5", "--print-config"];
    let text = case.run(&flags, &[]).trained();
    let elsewhere = Case::empty();
    elsewhere.write("resolved.toml", text);
    elsewhere.run(&["train", "resolved.toml", "--set", "train.output_dir=again"], &[]).trained();
    assert!(elsewhere.read("again/adapter_model.safetensors") == wanted);
}

#[test]
fn paths_of_a_recipe_start_at_its_directory_and_those_of_flags_here() {
    let case = Case::ids();
    let inner = case.path("inner");
    std::fs::create_dir(&inner).expect("creates");
    for name in ["recipe.toml", "train.jsonl", "model"] {
        std::fs::rename(case.path(name), inner.join(name)).expect("moves");
    }
    case.run(&["train", "inner/recipe.toml"], &[]).trained();
    assert!(inner.join("out/adapter_model.safetensors").is_file());
    case.run(&["train", "inner/recipe.toml", "--set", "train.output_dir=out"], &[]).trained();
    assert!(case.path("out/adapter_model.safetensors").is_file());
}
