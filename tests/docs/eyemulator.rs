//! The recipes of recipes/eyemulator load, and need the memory that their page gives: each is counted as a dry run
//! counts it, on the public config of its model (tests/fixtures/backbones) and rows as long as can be.
//!
//! `EYEKERN_WRITE_DOCS=1` writes the table of the page anew.

use eyekern::backend::plan::Plan;
use eyekern::model::config::Spec;
use eyekern::model::names;
use eyekern::train::estimate::{self, Bytes};
use eyekern::train::prepare::Prepared;
use eyekern::train::recipe::Recipe;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The models with the number of their parameters as their pages on the hub give it, in the order of the table.
const MODELS: [(&str, usize); 6] = [
    ("starcoderbase-1b", 1_137_207_296),
    ("llama-3.2-1b", 1_235_814_400),
    ("deepseek-coder-1.3b", 1_346_471_936),
    ("qwen2.5-coder-1.5b", 1_543_714_304),
    ("smollm3-3b", 3_075_098_624),
    ("granite-3b-code", 3_482_503_680),
];
const TASKS: [&str; 3] = ["translation", "completion", "summarization"];
const MARKS: [&str; 2] = ["<!-- memory -->\n", "<!-- /memory -->"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A model folder with this config whose weights are zeros that take no room on the disk.
fn hollow(model: &str, dir: &Path) {
    std::fs::create_dir_all(dir).expect("creates");
    std::fs::copy(root().join(format!("tests/fixtures/backbones/{model}.json")), dir.join("config.json")).expect(model);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(root().join("assets/demo").join(name), dir.join(name)).expect("copies");
    }
    let spec = Spec::load(&dir.join("config.json")).expect(model);
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for tensor in names::tensors(&spec) {
        let (shape, start) = (tensor.shape(), end);
        end += 2 * shape.iter().product::<usize>();
        header.insert(tensor.name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    let file = dir.join("model.safetensors");
    std::fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], &header].concat()).expect("writes");
    let file = std::fs::File::options().append(true).open(file).expect("opens");
    file.set_len((8 + header.len() + end) as u64).expect("a sparse file");
}

/// Rows of a task that are longer than an example may be, but for their prompts.
fn rows(task: &str, dir: &Path) -> String {
    let (java, long) = ("int a = b + c * 2;\n".repeat(8), "int a = b + c * 2;\n".repeat(400));
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("writes");
    let lines = |text: &str| format!("{}\n", text.replace('\n', " ")).repeat(16);
    match task {
        "translation" => {
            write("rows.java", lines(&java));
            write("rows.cs", lines(&long));
            format!("[{:?}, {:?}]", dir.join("rows.java"), dir.join("rows.cs"))
        }
        "completion" => {
            write("rows.jsonl", format!("{}\n", json!({"code": java.clone() + &long.replace(";\n", "; ")})).repeat(16));
            format!("{:?}", dir.join("rows.jsonl"))
        }
        _ => {
            write("rows.jsonl", format!("{}\n", json!({"code": java, "content": long})).repeat(16));
            format!("{:?}", dir.join("rows.jsonl"))
        }
    }
}

/// What `eyekern train --dry-run --device cuda` counts.
fn counted(task: &str, model: &str, hollow: &Path, dir: &Path, sets: &[&str]) -> (usize, Bytes) {
    let data = rows(task, dir);
    let mut all = vec![
        format!("model.model_name_or_path={}", hollow.display()),
        format!("data.train_file={data}"),
        format!("data.validation_file={data}"),
        format!("train.output_dir={}", dir.join("out").display()),
        "data.cache=false".into(),
    ];
    all.extend(sets.iter().map(|set| set.to_string()));
    let file = root().join(format!("recipes/eyemulator/{task}/{model}.toml"));
    let recipe = Recipe::load(Some(&file), std::iter::empty(), &all).unwrap_or_else(|e| panic!("{e}"));
    let prepared = Prepared::from_recipe(recipe).unwrap_or_else(|e| panic!("{task} {model}: {e}"));
    let work = estimate::work(&prepared).expect("counts");
    assert_eq!(work.tokens, 16.0 * 1024.0, "{task} {model}: rows are as long as can be");
    (
        estimate::parameters(&prepared).expect("counts").model,
        estimate::bytes(Plan::cuda, &prepared).unwrap_or_else(|e| panic!("{task} {model}: {e}")),
    )
}

/// The table of the page.
fn table() -> String {
    let mut table = String::from("| model | parameters | 4 rows, layers recomputed | | 16 rows, all kept | |\n");
    table += "|---|---|---|---|---|---|\n";
    for (model, parameters) in MODELS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        hollow(model, &dir.path().join("model"));
        let cells = [&[][..], &WHOLE].map(|sets| {
            let of = |task: &str| counted(task, model, &dir.path().join("model"), dir.path(), sets);
            let counts = TASKS.map(of);
            assert!(counts.iter().all(|(counted, _)| *counted == parameters), "{model}");
            let most = counts.into_iter().map(|(_, bytes)| gib(bytes.total() as f64)).fold(0.0, f64::max);
            // what the driver, a context and its libraries take beside
            let card = [24, 48, 80].into_iter().find(|&gb| most + 1.5 <= gib(f64::from(gb) * 1e9));
            format!("{most:.1} GiB | {}", card.map_or("none".into(), |gb| format!("{gb} GB")))
        });
        let parameters = parameters as f64 / 1e9;
        writeln!(table, "| {model} | {parameters:.2} billion | {} |", cells.join(" | ")).expect("a string");
    }
    table
}

/// A step in one micro-batch.
const WHOLE: [&str; 3] =
    ["train.per_device_train_batch_size=16", "train.gradient_accumulation_steps=1", "train.recompute=none"];

fn gib(bytes: f64) -> f64 {
    bytes / (1u64 << 30) as f64
}

#[test]
fn recipes_need_what_their_page_says() {
    let file = root().join("recipes/eyemulator/README.md");
    let page = std::fs::read_to_string(&file).expect("recipes/eyemulator/README.md");
    let (before, rest) = page.split_once(MARKS[0]).expect("the table's begin");
    let (_, after) = rest.split_once(MARKS[1]).expect("the table's end");
    let expected = format!("{before}{}{}{}{after}", MARKS[0], table(), MARKS[1]);
    if std::env::var("EYEKERN_WRITE_DOCS").is_ok_and(|v| v == "1") {
        std::fs::write(&file, expected).expect("writes");
        return;
    }
    assert_eq!(page, expected, "write the table anew with EYEKERN_WRITE_DOCS=1");
}

/// Each model with each task, and nothing else.
#[test]
fn there_is_a_recipe_for_each_model_and_task() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join("recipes/eyemulator").join(folder)).expect(folder);
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let models: BTreeSet<String> = MODELS.iter().map(|(model, _)| format!("{model}.toml")).collect();
    assert_eq!(names("models"), models);
    assert_eq!(names("tasks"), TASKS.iter().map(|task| format!("{task}.toml")).collect());
    for task in TASKS {
        assert_eq!(names(task), models, "{task}");
        for (model, _) in MODELS {
            let file = root().join(format!("recipes/eyemulator/{task}/{model}.toml"));
            let text = std::fs::read_to_string(&file).expect("a recipe");
            for part in ["models/MODEL.toml", "tasks/TASK.toml", "runs/TASK/MODEL\""] {
                let part = part.replace("MODEL", model).replace("TASK", task);
                assert!(text.contains(&part), "{}: {part}", file.display());
            }
        }
    }
}
