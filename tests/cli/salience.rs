//! Weights drawn from scan paths: what `[salience]` does to a run, and what it refuses.

use super::Case;
use eyekern::salience::Label;
use eyekern::salience::align::{Align, Salience};
use eyekern::salience::labels::{self, Calls};
use eyekern::salience::priors::Priors;
use eyekern::salience::scanpath::Key;
use eyekern::salience::syntax::Language;
use eyekern::salience::weights::WeightSettings;
use serde_json::json;

const PAIRS: [(&str, &str); 3] = [
    (
        "public int size(int n) { if (n < 0) { return 0; } return count; }",
        "public int Size(int n) { if (n < 0) { return 0; } return count; }",
    ),
    ("void a(int s) { frob(s); frob(s); frob(s); }", "void A(int s) { Frob(s); Frob(s); Frob(s); }"),
    (
        "boolean has(int x) { for (int i = 0; i < n; i++) if (a[i] == x) return true; return false; }",
        "bool Has(int x) { for (int i = 0; i < n; i++) if (a[i] == x) return true; return false; }",
    ),
];

/// Java-to-C# rows of `code` and `content`, a model with a tokenizer, a learning rate of 0.
fn case() -> Case {
    let case = Case::text();
    let row = |(code, content): &(&str, &str)| json!({"code": code, "content": content}).to_string() + "\n";
    case.write("train.jsonl", PAIRS.iter().map(row).collect::<String>());
    let recipe = "[model]\nmodel_name_or_path = \"./model\"\n[data]\ntrain_file = \"train.jsonl\"\ntask \
                  = \"translation\"\n\
                  shuffle = false\nmax_length = 256\n[salience]\ncondition = \"combined\"\n[train]\noutput_dir \
                  = \"out\"\n\
                  learning_rate = 0.0\nmax_steps = 2\nlogging_steps = 1\nthreads = 1\noverwrite_output_dir = true\n";
    case.write("recipe.toml", recipe);
    case
}

/// The losses of a run, step by step.
fn losses(case: &Case, sets: &[&str]) -> Vec<f64> {
    case.train(sets).trained();
    case.series("out", "sft_loss")
}

/// The same weights written into the data by hand, as spans of characters, give the same loss.
#[test]
fn training_uses_the_weights_of_the_library() {
    let case = case();
    let drawn = losses(&case, &[]);
    let uniform = losses(&case, &["salience.condition="]);
    let priors = Priors::builtin("combined").expect("built in");
    let (path, weights, align) = (Default::default(), WeightSettings::default(), Align::TargetAst);
    let salience = Salience { priors, path, weights, align, weighing: None };
    let row = |(row, (code, content)): (usize, &(&str, &str))| {
        let spans = labels::label(content.as_bytes(), Language::CSharp, Calls::Syntax).expect("parses");
        let (_, weights) = salience.of(&spans, Key { seed: 42, example: row as u64, epoch: 0 });
        let span = |(s, w): (&eyekern::salience::Span, &eyekern::salience::weights::Weight)| {
            json!([s.start, s.end, w.value(), w.on_path])
        };
        let list: Vec<_> = spans.iter().zip(&weights).map(span).collect();
        json!({"code": code, "content": content, "weights": list}).to_string() + "\n"
    };
    case.write("train.jsonl", PAIRS.iter().enumerate().map(row).collect::<String>());
    let written = losses(&case, &["salience.condition="]);
    assert_eq!(drawn.len(), 2);
    for (a, b) in drawn.iter().zip(&written) {
        assert!((a - b).abs() < 1e-6 * a, "{drawn:?} {written:?}");
    }
    assert!(drawn[0] > 1.02 * uniform[0], "weights are above 1: {drawn:?} {uniform:?}");
}

#[test]
fn the_header_says_what_weights_are_drawn_from() {
    let case = case();
    let text = case.train(&["salience.mode=artifact", "salience.dynamic=true", "salience.align=lexical"]).trained();
    assert!(text.contains("\n        combined priors, artifact paths, lexical, a new path every epoch\n"), "{text}");
    let run = &case.metrics("out")[0]["run"];
    assert_eq!(run["salience"], "combined priors, artifact paths, lexical, a new path every epoch");
    assert!(run["on_path"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0));
    case.train(&["salience.condition="]).trained();
    let run = &case.metrics("out")[0]["run"];
    assert!(run["salience"].is_null() && run["code"].is_null());
}

/// Rows that do not parse in their language are counted in the header and noted, from the cache too.
#[test]
fn the_header_counts_code_that_does_not_parse() {
    let case = case();
    let (_, notes) = case.train(&[]).noted();
    assert!(notes.iter().all(|note| !note.contains("parse") && !note.contains("language")), "{notes:?}");
    let code = |case: &Case| case.metrics("out")[0]["run"]["code"].clone();
    assert_eq!((&code(&case)["rows"], &code(&case)["unparsed"]), (&json!(3), &json!(0)));
    assert_eq!(code(&case)["languages"], json!({"c-sharp": {"rows": 3, "unparsed": 0}}));
    assert!(code(&case)["first_unparsed"].is_null());

    // 2,600 rows, which the cache keeps: every 20th is Python, of which every second says so
    let python = "def area(w, h):\n    if w < 0:\n        raise ValueError(w)\n    return w";
    let row = |n: usize| {
        let id = "x".repeat(300 + n % 7);
        match n % 40 {
            5 => json!({"code": python, "id": id}),
            25 => json!({"code": python, "lang": "python", "id": id}),
            _ => json!({"code": PAIRS[n % 3].0, "lang": "java", "id": id}),
        }
        .to_string()
            + "\n"
    };
    case.write("train.jsonl", (0..2600).map(row).collect::<String>());
    let cache = case.path("cache");
    let env = [("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"))];
    let sets = ["data.task=copy", "train.max_steps=1"];
    let (_, first) = case.train_in(&sets, &env).noted();
    let header = code(&case);
    let (_, again) = case.train_in(&sets, &env).noted();
    assert_eq!(code(&case), header);
    assert_eq!(again[1..], first);
    let start = "train.jsonl: the code of 65 rows of 2600 do not parse (first: row 6, as java; ";
    assert!(first[0].starts_with(start), "{first:?}");
    let assumed = "train.jsonl: 65 rows of 2600 name no language and are read as java; name it: `lang` in the rows, or \
                   salience.source_lang";
    assert_eq!(first[1], assumed);
    assert_eq!((&header["rows"], &header["unparsed"], &header["assumed"]), (&json!(2600), &json!(65), &json!(65)));
    assert_eq!(header["first_unparsed"], json!({"row": 6, "language": "java"}));
    let languages = json!({"java": {"rows": 2535, "unparsed": 65}, "python": {"rows": 65, "unparsed": 0}});
    assert_eq!(header["languages"], languages);
    let number = |key: &str| header[key].as_f64().expect(key);
    assert_eq!(number("error_share"), number("error_nodes") / number("nodes"));
    assert!(number("error_share") > 0.0 && number("error_share") < 0.1);
}

#[test]
fn every_key_changes_the_weights() {
    let case = case();
    let weights = |sets: &[&str]| {
        case.train(sets).trained();
        let run = case.metrics("out")[0]["run"].clone();
        // the loss at a learning rate of 0 tells apart paths of the same weights
        (run["weights"].to_string(), run["on_path"].to_string(), format!("{:?}", case.series("out", "sft_loss")))
    };
    let default = weights(&[]);
    for set in [
        "salience.condition=reading",
        "salience.mode=artifact",
        "salience.w_base=3.0",
        "salience.off_path=formula",
        "salience.off_path=0.25",
        "salience.unseen=literal",
        "salience.align=broadcast-max",
        "salience.align=lexical",
        "salience.scope=path",
        "salience.calls=lexicon",
        "salience.target_lang=python",
        "train.seed=43",
    ] {
        assert_ne!(weights(&[set]), default, "{set}");
    }
    // what decides nothing here decides nothing
    for set in ["salience.source_lang=python", "salience.align=target-ast", "salience.target_lang=c-sharp"] {
        assert_eq!(weights(&[set]), default, "{set}");
    }
    // lines matter to n-grams only, and these methods have one line
    assert_eq!(weights(&["salience.max_lines=0"]), default);
    // the same roles with every weight at 1
    let uniform = weights(&["objective.arm=uniform"]);
    assert_eq!((uniform.0.as_str(), &uniform.1), ("[1.0,1.0,1.0]", &default.1));
}

/// What the recipe leaves open, the task decides: the same as if it were said.
#[test]
fn each_task_has_its_alignment_and_its_languages() {
    let case = case();
    let rows = [
        json!({"code": PAIRS[0].0, "content": "the size of n // or count, if n is not below 0"}),
        json!({"code": PAIRS[1].0, "content": "calls frob on s // three times"}),
    ];
    case.write("text.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    let copies = PAIRS.map(|(code, _)| json!({"code": code}).to_string() + "\n").concat();
    case.write("code.jsonl", copies);
    for (task, file, align, target, other) in [
        ("translation", "train.jsonl", "target-ast", "c-sharp", "python"),
        ("summarization", "text.jsonl", "lexical", "text", "java"),
        ("copy", "code.jsonl", "identity", "java", ""),
    ] {
        let (task, file) = (format!("data.task={task}"), format!("data.train_file={file}"));
        let with = |sets: &[&str]| losses(&case, &[&[task.as_str(), &file], sets].concat());
        let said = [format!("salience.align={align}"), format!("salience.target_lang={target}")];
        let left_open = with(&[]);
        assert_eq!(left_open, with(&[&said[0], &said[1], "salience.source_lang=java"]), "{task}");
        if !other.is_empty() {
            assert_ne!(left_open, with(&[&format!("salience.target_lang={other}")]), "{task} in {other}");
        }
        assert_ne!(left_open, with(&["salience.align=broadcast-max"]), "{task}");
    }
}

#[test]
fn dynamic_paths_change_from_epoch_to_epoch_and_others_do_not() {
    let case = case();
    let batch = "train.per_device_train_batch_size=3";
    let epochs = |sets: &[&str]| losses(&case, &[&["train.max_steps=4", batch], sets].concat());
    let fixed = epochs(&[]);
    assert!(fixed.iter().all(|loss| *loss == fixed[0]), "{fixed:?}");
    let dynamic = epochs(&["salience.dynamic=true"]);
    assert_eq!(dynamic[0], fixed[0]);
    assert!(dynamic[1..].windows(2).all(|w| w[0] != w[1]), "{dynamic:?}");
    // an epoch's paths depend on nothing but the epoch
    let threads = epochs(&["salience.dynamic=true", "train.threads=2"]);
    assert_eq!(threads, dynamic);
    let shuffled = epochs(&["salience.dynamic=true", "data.shuffle=true"]);
    assert!(shuffled.iter().zip(&dynamic).all(|(a, b)| (a - b).abs() < 1e-5 * b), "{shuffled:?} {dynamic:?}");
}

#[test]
fn the_preference_term_has_its_pairs() {
    let case = case();
    case.train(&["objective.gamma=0.1"]).trained();
    assert_eq!(case.series("out", "pairs"), [3.0, 3.0]);
    // one weight for the whole target: nothing lies off the path
    let ran = case.train(&["objective.gamma=0.1", "salience.align=broadcast-mean"]);
    let note = "note: objective.gamma is set, but no example has supervised tokens both on and off the path: the DPO \
                term is empty\n";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

/// `--priors FILE` is a key of the recipe by a shorter name.
#[test]
fn priors_of_ones_own_decide() {
    let case = case();
    // declarations are always looked at, nothing else ever is
    let mut priors = Priors::new("mine", "made for a test, CC0");
    for label in Label::ALL {
        for _ in 0..1000 {
            priors.add_token(label, label == Label::FunctionDeclaration);
        }
    }
    priors.save(&case.path("mine.json")).expect("writes");
    for args in [&["--priors", "mine.json"][..], &["--set", "salience.priors=mine.json"]] {
        let args = [&["train", "recipe.toml", "--set", "salience.condition=", "--set", "salience.mode=artifact"], args];
        let text = case.run(&args.concat(), &[]).trained();
        assert!(text.contains("\n        mine priors, artifact paths, target-ast\n"), "{text}");
        // E[theta] = 1001 / 1002, no counts of n-grams
        assert!(text.contains("\nweights 1.000 to 1.999, "), "{text}");
    }
    let file = json!({"conditions": 3}).to_string();
    case.write("broken.json", file);
    let ran = case.run(&["train", "recipe.toml", "--priors", "broken.json"], &[]);
    assert!(ran.stderr.starts_with("eyekern: broken.json: ") && ran.code == Some(3), "{}", ran.stderr);
    let ran = case.run(&["train", "recipe.toml", "--priors", "mine.json"], &[]);
    assert!(ran.stderr.starts_with("eyekern: mine.json: ") && ran.stderr.contains("combined"), "{}", ran.stderr);
    let ran = case.run(&["train", "recipe.toml", "--priors", "none.json"], &[]);
    assert!(ran.stderr.starts_with("eyekern: none.json: cannot read"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let case = case();
    case.train(&["salience.condition=skimming"]).refused(
        2,
        "recipe: salience.condition: no built-in priors for condition \"skimming\": use one of reading, writing, \
         combined",
    );
    case.train(&["data.task=none"]).refused(
        2,
        "recipe: salience.align is unset and data.task = \"none\" leaves it open; give one of identity, target-ast, \
         lexical, broadcast-mean, broadcast-max",
    );
    case.train(&["salience.align=diagonal"]).refused(
        2,
        "--set: salience.align = diagonal: expected one of identity, target-ast, lexical, \
         broadcast-mean, broadcast-max, or \"\" for none",
    );
    case.train(&["salience.off_path=-1"])
        .refused(2, "--set: salience.off_path = -1: expected \"formula\" or a finite number, at least 0");
    case.train(&["salience.align=identity"]).refused(
        3,
        "train.jsonl:1: the target is no part of the source, so weights cannot cross by `identity`; set align to \
         target-ast, lexical or broadcast-mean",
    );
    case.write("a.java", "int a;\n");
    case.write("a.txt", "long a;\n");
    case.train(&["data.train_file=['a.java', 'a.txt']"])
        .refused(3, "a.txt: no language is known by this extension; name it in salience.target_lang");
    case.train(&["data.train_file=['a.java', 'a.txt']", "salience.target_lang=c-sharp"]).trained();
    case.train(&["data.train_file=['a.txt', 'a.java']"])
        .refused(3, "a.txt: no language is known by this extension; name it in salience.source_lang");
    case.write("train.jsonl", "{\"code\": \"int a;\", \"content\": \"int a;\", \"weights\": [[0, 1, 2]]}\n");
    case.train(&[]).refused(
        3,
        "train.jsonl:1: the row has `weights` of its own, and the recipe draws weights from scan paths; drop \
         `weights`, or unset salience.condition",
    );
}

#[test]
fn prepared_data_are_kept_and_found_again() {
    let case = case();
    let row = |n: usize| {
        let (code, content) = PAIRS[n % 3];
        json!({"code": code, "content": content, "id": "x".repeat(300 + n % 7)}).to_string() + "\n"
    };
    case.write("train.jsonl", (0..2600).map(row).collect::<String>());
    let cache = case.path("cache");
    let env = [("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"))];
    let entries = || std::fs::read_dir(cache.join("eyekern")).map_or(0, |list| list.count());
    let note =
        format!("note: train.jsonl: prepared by an earlier run, read from {}\n", cache.join("eyekern").display());
    let go = |sets: &[&str]| {
        let ran = case.train_in(&[&["train.max_steps=1"], sets].concat(), &env);
        let hit = ran.stderr.contains(&note);
        ran.trained();
        (hit, case.series("out", "sft_loss"), entries())
    };
    let (first, again) = (go(&[]), go(&[]));
    assert_eq!(((first.0, first.2), (again.0, again.2)), ((false, 1), (true, 1)));
    assert_eq!(first.1, again.1);
    // other priors use the same entry, and get other weights
    let reading = go(&["salience.condition=reading"]);
    assert!(reading.0 && reading.1 != first.1);
    assert!(!go(&["data.cache=false"]).0);
    assert_eq!(go(&["data.max_length=128"]).2, 2);
    let elsewhere = case.path("elsewhere");
    let to = format!("data.cache_dir={}", elsewhere.display());
    go(&[&to]);
    assert_eq!(std::fs::read_dir(elsewhere).expect("made").count(), 1);
}
