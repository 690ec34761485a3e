//! `eyekern ablate` and `eyekern compare`: a grid resumes to the same cells, counts cells from elsewhere, goes on after
//! a failure; a comparison is that of the files, and says what is not fair.

use super::{Case, Ran, listing, models};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A recipe that is trained on two rows and evaluated on five.
fn case() -> Case {
    let case = Case::text();
    let row = |name: &str| {
        let content = format!("long {name} = 1;");
        json!({"code": format!("int {name};"), "content": content, "weights": [[0, 4, 3.0, true]]}).to_string() + "\n"
    };
    let rows = |names: &[&str]| names.iter().map(|name| row(name)).collect::<String>();
    case.write("train.jsonl", rows(&["a", "b"]));
    case.write("val.jsonl", rows(&["a", "b", "c", "d", "e"]));
    let recipe = "[model]\nmodel_name_or_path = \"./model\"\n[data]\ntrain_file = \"train.jsonl\"\nvalidation_file = \
                  \"val.jsonl\"\ntask = \"translation\"\n[lora]\nr = 4\n[eval]\nmax_new_tokens = 12\nmetrics = \
                  [\"chrf\", \"strict_exact\", \"edit_similarity\"]\n[train]\nlearning_rate = 1e-2\nmax_steps = \
                  3\nthreads = 1\nseed = 1\n";
    case.write("recipe.toml", recipe);
    case
}

fn ablate(case: &Case, more: &[&str]) -> Ran {
    case.run(&[&["ablate", "recipe.toml"], more].concat(), &[])
}

fn grid(case: &Case, out: &str, more: &[&str]) -> Ran {
    ablate(case, &[&["--arms", "uniform,data", "--seeds", "2", "-o", out], more].concat())
}

/// What a cell says, without what a clock decides.
fn cell(case: &Case, dir: &str) -> (Value, Vec<u8>, Vec<u8>) {
    let mut record = case.json(&format!("{dir}/cell.json"));
    record.as_object_mut().expect("an object").remove("seconds").expect("seconds");
    let file = |name: &str| case.read(&format!("{dir}/eval/{name}"));
    (record, file("contributions.csv"), file("predictions.jsonl"))
}

const CELLS: [&str; 4] = ["uniform/seed-1", "data/seed-1", "uniform/seed-2", "data/seed-2"];

fn compare(case: &Case, args: &[&str]) -> Value {
    let ran = case.run(&[&["compare"], args, &["--format", "json"]].concat(), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn a_grid_has_a_cell_for_each_arm_and_seed_and_is_computed_once() {
    let case = case();
    let ran = grid(&case, "grid", &["--baseline", "uniform", "--primary", "chrf"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for (i, line) in ran.stdout.lines().skip(1).take(4).enumerate() {
        let (arm, seed) = (["uniform", "data"][i % 2], 1 + i / 2);
        assert!(line.starts_with(&format!("[{}/4] {arm} seed {seed}: 3 steps, loss ", i + 1)), "{line}");
    }
    // the table has the figures of the cells, and the mean of contributions is the metric
    let table = String::from_utf8(case.read("grid/grid.csv")).expect("UTF-8");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 5);
    for (dir, line) in CELLS.iter().zip(&lines[1..]) {
        let (record, contributions, _) = cell(&case, &format!("grid/{dir}"));
        let contributions = String::from_utf8(contributions).expect("UTF-8");
        let rows: Vec<Vec<&str>> = contributions.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 6);
        for (i, name) in rows[0].iter().enumerate().skip(1) {
            let mean = rows[1..].iter().map(|row| row[i].parse::<f64>().expect("a number")).sum::<f64>() / 5.0;
            let metric = record["metrics"][name].as_f64().expect("a metric");
            assert!((mean - metric).abs() < 1e-9 * metric.abs().max(1.0), "{name}: {mean} {metric}");
            let place = lines[0].iter().position(|column| column == name).expect("a column");
            assert_eq!(line[place].parse::<f64>().expect("a number"), metric);
            // a mean over rows has the values of the rows
            if *name == "strict_exact" {
                assert!(rows[1..].iter().all(|row| ["0", "1"].contains(&row[i])), "{contributions}");
            }
        }
        assert_eq!(record["training"]["steps"], 3);
    }
    // arms of a seed share what they should, and differ in what they should
    let log = |dir: &str| case.metrics(&format!("grid/{dir}/run"));
    let (uniform, data) = (log("uniform/seed-1"), log("data/seed-1"));
    for key in ["tokens", "supervised_tokens"] {
        assert_eq!(uniform[1][key], data[1][key]);
    }
    assert_eq!(uniform[1]["path_loss"], data[1]["path_loss"], "the same rows, initial values and roles");
    assert_ne!(uniform[1]["loss"], data[1]["loss"]);
    assert_ne!(log("uniform/seed-2")[3]["loss"], uniform[3]["loss"]);
    assert!(uniform[3]["loss"].is_number());

    let before = listing(&case.path("grid"));
    let again = grid(&case, "grid", &["--baseline", "uniform", "--primary", "chrf"]);
    assert!(again.stdout.starts_with("2 arms and 2 seeds: 4 cells in grid, 4 done\n"), "{}", again.stdout);
    assert_eq!(listing(&case.path("grid")), before);
    // choices that follow the results are refused
    let ran = grid(&case, "grid", &["--baseline", "uniform", "--primary", "strict_exact"]);
    let why = "--primary was \"chrf\" when the grid was begun, and is \"strict_exact\" now; a comparison whose choices";
    assert!(ran.code == Some(2) && ran.stderr.contains(why), "{}", ran.stderr);
    // so is a cell of another recipe
    let ran = grid(&case, "grid", &["--set", "train.learning_rate=2e-2", "--baseline", "uniform", "--primary", "chrf"]);
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stderr.contains("cell.json: was computed from something else: train.learning_rate was "),
        "{}",
        ran.stderr
    );
}

/// Cells that were computed in another folder, with another path to the same files, count.
#[test]
fn cells_from_elsewhere_count_if_recipe_and_data_agree() {
    let (here, there) = (case(), case());
    assert_eq!(grid(&there, "g", &[]).code, Some(0));
    for dir in CELLS {
        let (from, to) = (there.path("g").join(dir), here.path("g").join(dir));
        std::fs::create_dir_all(to.join("eval")).expect("creates");
        // what is small enough to be committed
        for file in ["cell.json", "eval/contributions.csv", "eval/scores.json", "eval/references.jsonl"] {
            std::fs::copy(from.join(file), to.join(file)).expect("copies");
        }
    }
    let ran = grid(&here, "g", &[]);
    assert!(ran.stdout.starts_with("2 arms and 2 seeds: 4 cells in g, 4 done\n"), "{}{}", ran.stdout, ran.stderr);
    let study = |case: &Case| compare(case, &["g", "--baseline", "uniform", "--primary", "chrf"]);
    assert_eq!(study(&here), study(&there));
    // other data
    here.write("val.jsonl", here.read("train.jsonl"));
    let ran = grid(&here, "g", &[]);
    assert!(ran.stderr.contains("something else: data.validation_file was blake3 "), "{}", ran.stderr);
}

/// Killed while a cell is trained, while it is evaluated, and between cells: the same cells in the end.
#[test]
fn a_killed_grid_resumes_to_the_same_cells() {
    let case = case();
    assert_eq!(grid(&case, "whole", &[]).code, Some(0));
    let args = ["ablate", "recipe.toml", "--arms", "uniform,data", "--seeds", "2", "-o", "killed"];
    for there in ["uniform/seed-1/run/metrics.jsonl", "uniform/seed-1/eval/predictions.jsonl", "data/seed-1/cell.json"]
    {
        let mut command = case.command(&args, &[("PATH", "/usr/bin:/bin")]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let deadline = Instant::now() + Duration::from_secs(300);
        while !case.path("killed").join(there).exists() && child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "{there} does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    let ran = case.run(&args, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for dir in CELLS {
        let [mut a, mut b] = ["whole", "killed"].map(|out| cell(&case, &format!("{out}/{dir}")));
        for (record, ..) in [&mut a, &mut b] {
            assert!(record["training"]["loss"].is_number());
        }
        assert_eq!(a, b, "{dir}");
    }
}

/// log p under the reference is computed once for all arms of a seed, and the cells are those that compute it each.
#[test]
fn arms_of_a_seed_share_their_reference() {
    let case = case();
    case.write("train.jsonl", case.read("val.jsonl"));
    for (out, keep) in [("kept", "data.cache_dir=cache"), ("alone", "data.cache=false")] {
        let arms = ["--arms", "uniform+dpo,data+dpo", "--seeds", "2", "-o", out, "--set", keep];
        let ran = ablate(&case, &arms);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    // one of the training rows for each seed; the validation rows have one order
    assert_eq!(listing(&case.path("cache")).len(), 3);
    for (dir, read) in CELLS.iter().zip([0, 2, 1, 2]) {
        let dir = dir.replace("/", "+dpo/");
        assert_eq!(cell(&case, &format!("kept/{dir}")), cell(&case, &format!("alone/{dir}")));
        let log = String::from_utf8(case.read(&format!("kept/{dir}/log.txt"))).expect("UTF-8");
        assert_eq!(log.matches("reference log p of an earlier run, read from").count(), read, "{log}");
    }
}

/// The peak of the process stops growing: what a cell leaves behind is less than the half of its model.
#[test]
fn memory_of_a_finished_cell_is_released() {
    let case = case();
    // so large that what an allocator keeps is small beside it
    models::llama(&case.path("model"), 20_000);
    let seeds = 15;
    let ran = ablate(&case, &["--arms", "uniform,data", "--seeds", &seeds.to_string(), "-o", "grid"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let peak = |seed: usize| {
        let log = case.metrics(&format!("grid/data/seed-{seed}/run"));
        log.iter().filter_map(|line| line["peak_bytes"].as_u64()).max().expect("steps")
    };
    let model = std::fs::metadata(case.path("model/model.safetensors")).expect("a model").len();
    let (early, cells) = (3, 2 * (seeds as u64 - 3));
    let grown = peak(seeds) - peak(early);
    assert!(grown < cells * model / 2, "{grown} bytes in {cells} cells with a model of {model} bytes");
}

#[test]
fn a_failed_cell_does_not_end_the_grid() {
    let case = case();
    // no row has a path
    let rows = String::from_utf8(case.read("train.jsonl")).expect("UTF-8").replace(",true", "");
    case.write("train.jsonl", rows);
    let ran = ablate(&case, &["--arms", "path,uniform", "--seeds", "1", "-o", "grid"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("[1/2] path seed 1 failed: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("no supervised token is on a path, which objective.arm = \"path\" requires"));
    assert!(ran.stdout.contains("[2/2] uniform seed 1: 3 steps"), "{}", ran.stdout);
    assert!(!case.path("grid/path/seed-1/cell.json").exists() && case.path("grid/uniform/seed-1/cell.json").exists());
}

#[test]
fn arms_that_contradict_the_recipe_are_refused() {
    let case = case();
    for (arms, sets, why) in [
        ("unifrom", &[][..], "unknown arm \"unifrom\"; did you mean uniform?"),
        ("uniform+data", &[], "the arm uniform+data: it names two arms"),
        ("full", &[], "the arm full: it draws weights from scan paths; set salience.condition, or name the arm data"),
        (
            "data+dpo",
            &["objective.gamma=0.3"],
            "the arm data+dpo: it sets objective.gamma = 0.1, and the recipe sets 0.3 for every arm; remove one",
        ),
        (
            "writing",
            &["salience.condition=reading"],
            "the arm writing: it sets salience.condition = \"writing\", and the recipe sets \"reading\"; remove one",
        ),
        ("uniform", &["objective.arm=data"], "--set objective.arm: every cell sets it; use --arms and -o"),
    ] {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let ran = ablate(&case, &[&["--arms", arms, "-o", "grid"], &sets[..]].concat());
        ran.refused(2, why);
    }
    let ran = ablate(&case, &["--arms", "data", "-o", "grid", "--set", "data.validation_file="]);
    ran.refused(2, "which rows are the cells evaluated on? set data.validation_file, or give --data");
    let ran = ablate(&case, &["--arms", "data", "-o", "grid", "--baseline", "uniform"]);
    ran.refused(2, "--baseline uniform is none of --arms");
}

/// A comparison of folders that were written by hand: its figures are those of the numbers.
#[test]
fn differences_are_those_of_the_files() {
    let case = Case::empty();
    let write = |dir: &str, values: &[f64], target: &str| {
        std::fs::create_dir_all(case.path(dir)).expect("creates");
        let rows =
            values.iter().enumerate().map(|(i, value)| format!("{},{value},{}\n", i + 1, f64::from(*value > 2.0)));
        case.write(
            &format!("{dir}/contributions.csv"),
            "row,chrf,strict_exact\n".to_string() + &rows.collect::<String>(),
        );
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let scores = json!({
            "metrics": {"chrf": mean, "strict_exact": 0.0}, "scales": {"chrf": 100.0, "strict_exact": 1.0},
            "generation": {"max_new_tokens": 9},
        });
        case.write(&format!("{dir}/scores.json"), scores.to_string());
        let lines = (1..=values.len()).map(|row| json!({"row": row, "target": target, "prediction": dir}).to_string());
        case.write(&format!("{dir}/predictions.jsonl"), lines.collect::<Vec<_>>().join("\n"));
    };
    write("base", &[1.0, 2.0, 3.0, 4.0], "x");
    write("tuned", &[2.0, 4.0, 3.5, 6.5], "x");
    let study = compare(&case, &["base", "tuned", "--baseline", "base", "--primary", "chrf"]);
    let c = &study["comparisons"][0];
    // d = 1, 2, 0.5, 2.5: mean 1.5, standard error 0.91287 / 2, t(3) = 3.18245 at 97.5 %
    let close = |value: &Value, expected: f64| (value.as_f64().expect("a number") - expected).abs() < 1e-4;
    assert!(close(&c["effect"]["mean"], 1.5) && close(&c["baseline_value"], 2.5) && close(&c["value"], 4.0), "{c}");
    assert!(close(&c["effect"]["low"], 1.5 - 1.45258) && close(&c["effect"]["high"], 1.5 + 1.45258), "{c}");
    // all four signs are the same: 2 of 16
    assert!(close(&c["pairs"][0]["sign_flip"], 0.125) && c["pairs"][0]["mcnemar"].is_null());
    assert_eq!(c["verdict"], "no verdict");
    // one row is right in the arm alone
    let exact = &study["comparisons"][1];
    assert!(close(&exact["pairs"][0]["mcnemar"], 1.0) && exact["primary"] == false && exact["verdict"].is_null());

    write("other", &[1.0, 2.0, 3.0, 4.0], "y");
    let ran = case.run(&["compare", "base", "other", "--baseline", "base"], &[]);
    ran.refused(3, "other: has other references than base; a paired comparison requires the same rows");
    write("fewer", &[1.0, 2.0, 3.0], "x");
    let ran = case.run(&["compare", "base", "fewer", "--baseline", "base"], &[]);
    ran.refused(3, "fewer: has 3 rows, and base has 4; a paired comparison requires the same rows");
    for (args, why) in [
        (&["base"][..], "which arm is the baseline? give --baseline: base"),
        (&["base", "--baseline", "base"], "only the baseline base is there; compare it with another arm"),
        (&["base", "tuned", "--baseline", "bse"], "no arm is named \"bse\"; there are base, tuned"),
        (
            &["base", "tuned", "--baseline", "base", "--primary", "bleu"],
            "the primary metric \"bleu\" is not one that all arms have: chrf, strict_exact",
        ),
    ] {
        case.run(&[&["compare"], args].concat(), &[]).refused(2, why);
    }
    let ran = case.run(&["compare", ".", "--baseline", "x"], &[]);
    ran.refused(
        3,
        ".: is no grid, no cell and no evaluation: it has neither grid.json nor cell.json nor contributions.csv; give \
         the -o of eyekern ablate or eyekern eval",
    );
    case.write("tuned/contributions.csv", "row,chrf,strict_exact\n1,NaN,0\n");
    let ran = case.run(&["compare", "base", "tuned", "--baseline", "base"], &[]);
    ran.refused(3, "tuned/contributions.csv:2: \"NaN\" is no number");
}

#[test]
fn runs_are_listed_with_their_state() {
    let case = case();
    assert_eq!(grid(&case, "g", &[]).code, Some(0));
    // a run that was stopped before its end
    let partial = String::from_utf8(case.read("g/data/seed-1/run/metrics.jsonl")).expect("UTF-8");
    std::fs::create_dir(case.path("stopped")).expect("creates");
    case.write("stopped/metrics.jsonl", partial.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    let ran = case.run(&["runs"], &[]);
    assert_eq!((ran.code, ran.touched), (Some(0), false), "{}", ran.stderr);
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 6);
    let chrf = case.json("g/uniform/seed-2/cell.json")["metrics"]["chrf"].as_f64().expect("a metric");
    assert_eq!(lines[4][..5], ["./g/uniform/seed-2/run", "done", "3/3", "uniform", "2"]);
    assert_eq!(lines[4][6..], ["chrf", &format!("{chrf:.4}")]);
    assert_eq!(lines[5][..5], ["./stopped", "stopped", "1/3", "data", "1"]);
    let json: Value = serde_json::from_str(&case.run(&["runs", "g", "--format", "json"], &[]).stdout).expect("JSON");
    assert_eq!((json.as_array().map(Vec::len), &json[3]["state"]), (Some(4), &json!("done")));
    assert_eq!(case.run(&["runs", "model"], &[]).stdout, "no runs below model\n");
    assert_eq!(case.run(&["runs", "none"], &[]).code, Some(3));
}

#[test]
fn comparisons_that_are_not_fair_are_marked() {
    let case = case();
    let ran = ablate(&case, &["--arms", "uniform,artifact-baseline", "--seeds", "1", "-o", "g"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let study = compare(&case, &["g", "--baseline", "uniform"]);
    let marks = study["marks"].to_string();
    assert!(marks.contains("artifact-baseline and uniform differ in the share of supervised tokens: "), "{marks}");
    assert!(marks.contains("artifact-baseline and uniform differ in the share of rows with a supervised EOS: 0 and 1"));
    let ran = case.run(&["compare", "g", "--baseline", "uniform", "--html", "study.html"], &[]);
    assert!(ran.stdout.contains("not fair: artifact-baseline and uniform differ in"), "{}", ran.stdout);
    assert!(ran.stdout.contains("No metric was declared to decide"), "{}", ran.stdout);
    let page = String::from_utf8(case.read("study.html")).expect("UTF-8");
    assert!(page.contains("<svg") && page.contains("id=\"rows\"") && page.contains("id=\"loss\""));
}
