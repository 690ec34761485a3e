//! The floors of the house: a module imports only what lies below it, files stay readable in one sitting, `unsafe`
//! stays where the design allows it.

use std::path::{Path, PathBuf};

/// From the ground up; modules of one entry may not import each other.
const FLOORS: [&[&str]; 9] = [
    &["choices", "error", "random"],
    &["files"],
    &["report"],
    &["salience"],
    &["data"],
    &["backend"],
    &["model"],
    &["train"],
    &["cli"],
];

/// Files with `unsafe`, each block with its SAFETY comment.
const UNSAFE: [&str; 5] = [
    "backend/cpu/gemm.rs",
    "backend/cuda/driver.rs",
    "backend/cuda/libraries.rs",
    "backend/cuda/nvrtc.rs",
    "model/checkpoint.rs",
];

const LINES: usize = 500;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(dir).expect("src can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            list.push(path);
        }
    }
    list
}

/// Path below src and text of every source file.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = |p: &Path| p.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
    sources(&root).iter().map(|p| (relative(p), std::fs::read_to_string(p).expect("text"))).collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The module that a `crate::` path names first.
fn imported(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or("");
    let after = code.split("crate::").skip(1).filter(|_| !code.contains("$crate"));
    after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn modules_import_only_lower_floors() {
    let mut wrong = Vec::new();
    for (file, text) in files() {
        let module = file.split('/').next().unwrap_or("").trim_end_matches(".rs");
        let Some(own) = floor(module) else {
            assert!(["lib", "main"].contains(&module), "{file}: give src/{module} a floor");
            continue;
        };
        for (i, line) in text.lines().enumerate() {
            for name in imported(line) {
                let allowed = name == module || floor(&name).is_some_and(|f| f < own);
                if !allowed {
                    wrong.push(format!("{file}:{} imports {name}", i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

#[test]
fn the_model_knows_no_device() {
    for (file, text) in files().iter().filter(|(f, _)| f.starts_with("model/") || f.starts_with("train/")) {
        assert!(!text.contains("backend::cpu"), "{file} names a device; the choice is made in cli/");
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long: Vec<_> = files().into_iter().filter(|(_, text)| text.lines().count() > LINES).map(|f| f.0).collect();
    assert!(long.is_empty(), "above {LINES} lines: {long:?}");
}

#[test]
fn unsafe_stays_in_its_files_with_its_reason() {
    for (file, text) in files() {
        let blocks = text.matches("unsafe {").count();
        assert!(blocks == 0 || UNSAFE.contains(&file.as_str()), "{file}: unsafe code outside its files");
        assert_eq!(text.matches("// SAFETY:").count(), blocks, "{file}: unsafe blocks and SAFETY comments differ");
    }
}

#[test]
fn the_check_of_imports_sees_an_upward_one() {
    assert_eq!(imported("use crate::train::step; // crate::cli"), ["train"]);
    assert!(floor("train") > floor("model") && floor("nowhere").is_none());
}
