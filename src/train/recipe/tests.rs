use super::*;
use crate::model::adapter::Targets;

/// The message of a recipe that must not load.
fn refused(text: &str) -> String {
    let (_folder, path) = saved(text);
    let error = load(Some(&path), &[], &[]).expect_err(text);
    assert_eq!(error.exit_code(), 2);
    error.to_string().replace(&path.display().to_string(), "r.toml")
}

fn saved(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(file: Option<&Path>, env: &[(&str, &str)], sets: &[&str]) -> Result<Recipe> {
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    Recipe::load(file, env, &sets.iter().map(|s| s.to_string()).collect::<Vec<_>>())
}

const REQUIRED: [&str; 2] = ["model.model_name_or_path=m", "data.train_file=d.jsonl"];

/// `sets` beside what is required.
fn set(sets: &[&str]) -> Result<Recipe> {
    load(None, &[], &[&REQUIRED[..], sets].concat())
}

fn set_refused(sets: &[&str]) -> String {
    set(sets).expect_err(&sets.join(" ")).to_string()
}

#[test]
fn later_layers_win() {
    let text = "[model]\nmodel_name_or_path = 'm'\n[data]\ntrain_file = 'd'\n\
                [train]\nlearning_rate = 1\nseed = 1\nwarmup_steps = 1\n";
    let (_folder, path) = saved(text);
    let env =
        [("EYEKERN_TRAIN__SEED", "2"), ("EYEKERN_TRAIN__WARMUP_STEPS", "2"), ("EYEKERN_SHARED", "x"), ("A__B", "")];
    let recipe = load(Some(&path), &env, &["train.warmup_steps=3", "train.warmup_steps = 4"]).unwrap();
    let train = &recipe.train;
    assert_eq!((train.learning_rate, train.seed, train.warmup_steps, train.logging_steps), (1.0, 2, 4, 10));
}

#[test]
fn text_is_toml_or_else_a_string() {
    let recipe = set(&[
        "train.lr_scheduler_type=cosine",
        "train.method=\"full\"",
        "data.validation_file=[\"a.java\", 'b.cs']",
        "data.prompt_weight=-0.5",
        "data.shuffle=false",
        "lora.target_modules=[\"q_proj\"]",
        "model.tokenizer=2024",
        "train.output_dir=a=b c",
    ])
    .unwrap();
    assert_eq!(recipe.train.lr_scheduler_type, Schedule::Cosine);
    assert_eq!(recipe.train.method, Method::Full);
    assert_eq!(recipe.data.validation_file, Some(DataSource::Parallel("a.java".into(), "b.cs".into())));
    assert_eq!(recipe.data.prompt_weight, Some(-0.5));
    assert!(!recipe.data.shuffle);
    assert_eq!(recipe.lora.target_modules, Targets::Named(vec!["q_proj".into()]));
    assert_eq!(recipe.model.tokenizer, Some("2024".into()));
    assert_eq!(recipe.train.output_dir, PathBuf::from("a=b c"));
    let taken_back = set(&["data.prompt_weight=1", "data.prompt_weight=", "model.tokenizer=t", "model.tokenizer="]);
    assert_eq!(taken_back.unwrap(), set(&[]).unwrap());
}

#[test]
fn a_file_error_names_line_key_and_remedy() {
    for (text, want) in [
        ("[train]\nlearning_rat = 1\n", "r.toml:2: unknown key train.learning_rat; did you mean train.learning_rate?"),
        ("learning_rate = 1\n", "r.toml:1: unknown key learning_rate; did you mean train.learning_rate?"),
        ("\n[trian]\nseed = 1\n", "r.toml:2: unknown section [trian]; did you mean [train]?"),
        ("train = 1\n", "r.toml:1: train is a section, not a key: write its keys below [train]"),
        (
            "[train]\nseed = 1\nlearning_rate = 'fast'\n",
            "r.toml:3: train.learning_rate = \"fast\": expected a finite number, at least 0",
        ),
        ("[lora]\nr = 0\n", "r.toml:2: lora.r = 0: expected a whole number from 1 to 4294967295"),
        ("[lora]\nr = 4294967296\n", "r.toml:2: lora.r = 4294967296: expected a whole number from 1 to 4294967295"),
        ("[train]\nseed = -1\n", "r.toml:2: train.seed = -1: expected a whole number, at least 0"),
        ("[train]\nmethod = 'qlora'\n", "r.toml:2: train.method = \"qlora\": expected one of lora, full"),
        (
            "[data]\ntask = 'translate'\n",
            "r.toml:2: data.task = \"translate\": expected one of none, completion, translation, summarization, copy",
        ),
        (
            "[data]\ntrain_file = ['a', 'b', 'c']\n",
            "r.toml:2: data.train_file = [\"a\", \"b\", \"c\"]: expected a JSONL file, or two parallel text files as \
             [\"source\", \"target\"]",
        ),
        ("[train]\nseed = 1\nseed = 2\n", "r.toml:3: duplicate key"),
        ("[train]\nseed 1\n", "r.toml:2: key with no value, expected `=`"),
        ("[train]\nseed = 9223372036854775808\n", "r.toml:2: train.seed = 9223372036854775808: too large a number"),
        ("[train.seed]\n", "r.toml:1: train.seed = {}: expected a whole number, at least 0"),
        ("", "r.toml: model.model_name_or_path is missing: give a model directory or the id of a cached one"),
    ] {
        assert_eq!(refused(text), want);
    }
}

/// A folder with recipe files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn a_file_is_assigned_over_those_that_it_extends() {
    let files = folder(&[
        ("base/all.toml", "[data]\ntrain_file = 'rows'\n[train]\nseed = 1\nwarmup_steps = 1\nlearning_rate = 1\n"),
        ("models/a.toml", "extends = '../base/all.toml'\n[model]\nmodel_name_or_path = './m'\n[train]\nseed = 2\n"),
        ("tasks/b.toml", "extends = ['../base/all.toml']\n[train]\nwarmup_steps = 3\nseed = 3\n"),
        ("run.toml", "extends = ['models/a.toml', 'tasks/b.toml']\n[train]\nlearning_rate = 4\n"),
    ]);
    let recipe = load(Some(&files.path().join("run.toml")), &[], &["train.adam_beta1=0.5"]).unwrap();
    let t = &recipe.train;
    // the base is read once: it does not take back what the first overlay changed
    assert_eq!((t.warmup_steps, t.seed, t.learning_rate, t.adam_beta1), (3, 3, 4.0, 0.5));
    let other = load(Some(&files.path().join("models/a.toml")), &[], &[]).unwrap();
    assert_eq!((other.train.seed, other.train.warmup_steps), (2, 1));
    // paths start at the file that has them
    let DataSource::Jsonl(rows) = &recipe.data.train_file else { panic!("one file") };
    assert_eq!(rows.canonicalize().err().map(|_| rows.ends_with("base/rows")), Some(true), "{rows:?}");
    assert!(recipe.model.model_name_or_path.ends_with("models/m"), "{}", recipe.model.model_name_or_path);
}

#[test]
fn what_cannot_be_extended_is_refused_with_its_line() {
    for (run, want) in [
        ("\nextends = 'none.toml'\n", "run.toml:2: extends = \"none.toml\": cannot read the recipe: No such file"),
        (
            "extends = 3\n",
            "run.toml:1: extends: expected a recipe file or a list of recipe files, such as \"base.toml\"",
        ),
        ("extends = ['a.toml', 3]\n", "run.toml:1: extends: expected a recipe file or a list"),
        ("extends = ''\n", "run.toml:1: extends: expected a recipe file or a list"),
        (
            "extends = 'run.toml'\n",
            "run.toml:1: extends = \"run.toml\": the file extends itself; leave one of the two out",
        ),
        ("extends = 'a.toml'\n", "a.toml:1: extends = \"run.toml\": the file extends itself"),
        ("extends = 'wrong.toml'\n", "wrong.toml:2: unknown key train.sed; did you mean train.seed?"),
        ("extend = 'a.toml'\n", "run.toml:1: unknown key extend; did you mean extends?"),
        (
            "[train]\nextends = 'a.toml'\n",
            "run.toml:2: train.extends: extends stands in a recipe file, before its first section",
        ),
    ] {
        let files = [("run.toml", run), ("a.toml", "extends = 'run.toml'\n"), ("wrong.toml", "[train]\nsed = 1\n")];
        let files = folder(&files);
        let error = load(Some(&files.path().join("run.toml")), &[], &[]).expect_err(run);
        let message = error.to_string().replace(&format!("{}/", files.path().display()), "");
        assert!(message.starts_with(want) && error.exit_code() == 2, "{message}");
    }
}

#[test]
fn errors_of_text_layers_name_their_origin() {
    for (set, want) in [
        ("train.lr=2e-5", "--set: unknown key train.lr; did you mean train.learning_rate?"),
        ("learning_rate=1", "--set: unknown key learning_rate; did you mean train.learning_rate?"),
        ("train.learning_rate", "--set: \"train.learning_rate\" is not an assignment: write --set section.key=value"),
        ("train.learning_rate=inf", "--set: train.learning_rate = inf: expected a finite number, at least 0"),
        ("model.embd_dropout=1", "--set: model.embd_dropout = 1: expected a finite number, at least 0 and below 1"),
        ("data.prompt_weight=1e39", "--set: data.prompt_weight = 1e39: expected a finite number, or \"\" for none"),
        ("data.shuffle=maybe", "--set: data.shuffle = maybe: expected true or false"),
        (
            "lora.target_modules=q_proj",
            "--set: lora.target_modules = q_proj: expected \"all-linear\" or a list of layer names such as \
             [\"q_proj\", \"v_proj\"]",
        ),
    ] {
        assert_eq!(set_refused(&[set]), want);
    }
    // A list that fits nothing is not taken for a file of that name.
    assert!(set_refused(&["data.train_file=[\"a\"]"]).contains("expected a JSONL file"));
    let env = [("EYEKERN_TRAIN__SEDE", "1"), ("EYEKERN_ZZZ__A", "1")];
    let error = load(None, &env, &REQUIRED).unwrap_err().to_string();
    assert_eq!(error, "EYEKERN_TRAIN__SEDE: unknown key train.sede; did you mean train.seed?");
}

#[test]
fn a_recipe_that_cannot_be_read_is_a_usage_error() {
    let error = load(Some(Path::new("no/such.toml")), &[], &[]).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: cannot read the recipe: "), "{error}");
    assert_eq!(error.exit_code(), 2);
    let (_folder, path) = saved("\u{feff}[model]\r\nmodel_name_or_path = 'm'\r\n[data]\r\ntrain_file = 'd'\r\n");
    load(Some(&path), &[], &[]).expect("a byte order mark and CRLF are harmless");
}

#[test]
fn completeness_is_checked_last() {
    assert!(load(None, &[], &REQUIRED[..1]).unwrap_err().to_string().starts_with("recipe: data.train_file is missing"));
    assert_eq!(
        set_refused(&["train.num_train_epochs=0"]),
        "recipe: train.max_steps = -1 and train.num_train_epochs = 0: nothing to train, set one of them above 0"
    );
    assert!(set_refused(&["train.num_train_epochs=0", "train.max_steps=0"]).contains("nothing to train"));
    set(&["train.num_train_epochs=0", "train.max_steps=1"]).unwrap();
    for (key, value) in [("early_stopping_patience", "1"), ("load_best_model_at_end", "true")] {
        let asked = format!("train.{key}={value}");
        let why = format!("recipe: train.{key} goes by evaluations: give data.validation_file");
        assert_eq!(set_refused(&[&asked]), why);
        set(&[&asked, "data.validation_file=v"]).unwrap();
    }
    let mut built = set(&[]).unwrap();
    built.train.adam_beta2 = f64::NAN;
    assert_eq!(
        built.validate().unwrap_err().to_string(),
        "recipe: train.adam_beta2 = nan: expected a finite number, at least 0 and below 1"
    );
}

#[test]
fn ranges_hold_at_their_ends() {
    for (key, inside, outside) in [
        ("model.resid_dropout", "0", "1"),
        ("data.max_length", "2", "1"),
        ("lora.lora_alpha", "1e-9", "0"),
        ("lora.lora_dropout", "0.999", "-0.1"),
        ("objective.gamma", "0", "-1e-9"),
        ("objective.beta", "1e-9", "0"),
        ("train.learning_rate", "0", "-1"),
        ("train.per_device_train_batch_size", "1", "0"),
        ("train.gradient_accumulation_steps", "1", "0"),
        ("train.num_train_epochs", "0.5", "1e7"),
        ("train.max_steps", "0", "-2"),
        ("train.seed", "9223372036854775807", "-1"),
        ("lora.r", "4294967295", "4294967296"),
        ("train.warmup_ratio", "1", "1.01"),
        ("train.weight_decay", "0", "-1"),
        ("train.adam_beta1", "0", "1"),
        ("train.adam_epsilon", "1e-12", "0"),
        ("train.max_grad_norm", "0", "nan"),
        ("train.logging_steps", "1", "0"),
        ("train.save_total_limit", "1", "0"),
        ("train.threads", "1024", "1025"),
    ] {
        set(&[&format!("{key}={inside}")]).unwrap();
        assert!(set_refused(&[&format!("{key}={outside}")]).contains(&format!("{key} = {outside}: expected ")));
    }
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let text = "[model]\nmodel_name_or_path = 'tiny'\ntokenizer = '/t'\n\
                [data]\ntrain_file = 'd.jsonl'\nvalidation_file = ['a', 'b']\n[train]\noutput_dir = '../out'\n";
    let (folder, path) = saved(text);
    let at = |name: &str| folder.path().join(name);
    let id = load(Some(&path), &[], &[]).unwrap();
    assert_eq!(id.model.model_name_or_path, "tiny", "no directory of that name: an id");
    std::fs::create_dir(at("tiny")).unwrap();
    let recipe = load(Some(&path), &[], &["objective.reference_model=ref"]).unwrap();
    assert_eq!(recipe.model.model_name_or_path, at("tiny").to_string_lossy());
    assert_eq!(recipe.model.tokenizer, Some("/t".into()));
    assert_eq!(recipe.data.train_file, DataSource::Jsonl(at("d.jsonl")));
    assert_eq!(recipe.data.validation_file, Some(DataSource::Parallel(at("a"), at("b"))));
    assert_eq!(recipe.train.output_dir, at("../out"));
    assert_eq!(recipe.objective.reference_model, Some("ref".into()));
    let dotted = load(Some(&saved("[model]\nmodel_name_or_path = './none'\n[data]\ntrain_file = 'd'\n").1), &[], &[]);
    assert!(Path::new(&dotted.unwrap().model.model_name_or_path).is_absolute(), "./ is always a path");
}

#[test]
fn the_printed_recipe_loads_back() {
    let plain = set(&[]).unwrap();
    let full = set(&[
        "model.tokenizer=t \"quoted\" \\",
        "data.train_file=['a', 'b']",
        "data.validation_file=v.jsonl",
        "data.prompt_weight=0.1",
        "lora.lora_dropout=0.05",
        "lora.target_modules=['q_proj', 'v_proj']",
        "objective.normalize=weights",
        "objective.reference_model=ref",
        "train.learning_rate=2.5e-5",
        "train.seed=9223372036854775807",
        "train.save_dtype=bfloat16",
    ])
    .unwrap();
    let text = full.to_toml_commented();
    for line in ["lora_dropout = 0.05", "prompt_weight = 0.1", "learning_rate = 2.5e-5", "beta = 0.1"] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(plain.to_toml_commented().contains("\n# tokenizer = \"\"\n"), "unset keys are comments");
    for recipe in [Recipe::default(), plain, full] {
        let text = recipe.to_toml_commented();
        let (_folder, path) = saved(&text);
        let back = Recipe::layered(Some(&path), std::iter::empty(), &[]).expect(&text);
        assert_eq!(back, layers::absolute(&recipe), "{text}");
        assert_eq!(back.to_toml_commented(), text);
        assert!(text.lines().all(|line| !line.starts_with('#') || line.len() <= 100), "{text}");
    }
}

#[test]
fn keys_are_listed_with_defaults() {
    let of = |name: &str| keys().find(|k| k.name == name).unwrap();
    assert_eq!((of("learning_rate").section, of("learning_rate").default.as_str()), ("train", "1e-4"));
    assert_eq!(of("target_modules").default, "\"all-linear\"");
    assert_eq!(of("tokenizer").default, "\"\"");
    assert_eq!(of("r").accepts, "a whole number from 1 to 4294967295");
    assert!(keys().all(|k| k.doc.ends_with(['.', ')']) && !k.doc.contains("  ")), "doc lines are sentences");
    assert_eq!(keys().count(), 85);
}

#[test]
fn the_token_budget_follows_the_batch() {
    assert_eq!(Recipe::default().token_budget(), 8 * 1024);
    assert_eq!(set(&["data.max_tokens=7"]).unwrap().token_budget(), 7);
    let top = u32::MAX;
    let sets = [format!("data.max_length={top}"), format!("train.per_device_train_batch_size={top}")];
    let recipe = set(&[&sets[0], &sets[1]]).unwrap();
    assert_eq!(recipe.token_budget(), (top as usize).saturating_mul(top as usize));
}

#[test]
fn a_recipe_is_also_json() {
    let json = serde_json::to_value(set(&["lora.target_modules=['q_proj']"]).unwrap()).unwrap();
    assert_eq!(json["train"]["lr_scheduler_type"], "linear");
    assert_eq!(json["data"]["train_file"], "d.jsonl");
    assert_eq!(json["lora"]["target_modules"][0], "q_proj");
    assert!(json["model"]["tokenizer"].is_null());
}

proptest::proptest! {
    /// Whatever is typed, the answer is a recipe or a sentence.
    #[test]
    fn no_text_panics(text in "\\PC{0,40}", key in "[a-z_.]{0,12}") {
        let _ = load(None, &[("EYEKERN_TRAIN__SEED", &text)], &[&text]);
        let _ = load(None, &[], &[&format!("{key}={text}")]);
        for k in keys() {
            let _ = load(None, &[], &[&format!("{}.{}={text}", k.section, k.name)]);
        }
    }
}
