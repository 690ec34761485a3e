//! The files of a module import each other without cycles.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path below the crate: `["train", "run"]`.
type Module = Vec<String>;

/// The module of a file of src; `mod.rs`, `lib.rs` and `main.rs` are those of their folder.
fn module(file: &str) -> Module {
    let mut path: Module = file.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    path.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    path
}

/// The code of a file without comments and without its unit tests, which stand at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    text.lines().map(|line| line.split("//").next().unwrap_or("").to_string() + "\n").collect()
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The path at the start of `rest`, with the group of imports at its end: `a::{b, c::{d, e}}`.
fn tree(rest: &str) -> &str {
    let path = rest.find(|c| !word(c) && c != ':').unwrap_or(rest.len());
    let mut depth = 0;
    let end = rest[path..].find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    match rest[path..].starts_with('{') {
        true => &rest[..end.map_or(rest.len(), |end| path + end)],
        false => &rest[..path],
    }
}

/// Every path of a tree without its last brace.
fn paths(tree: &str) -> Vec<Module> {
    let steps = |path: &str| path.split("::").map(|step| step.trim().to_string()).filter(|s| !s.is_empty()).collect();
    let Some((prefix, group)) = tree.split_once('{') else { return vec![steps(tree)] };
    let (mut members, mut depth) = (vec![String::new()], 0);
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            ',' if depth == 0 => members.push(String::new()),
            '}' if depth == 0 => {}
            c => members.last_mut().expect("not empty").push(c),
        }
    }
    let prefix: Module = steps(prefix);
    members.iter().flat_map(|member| paths(member)).map(|path| [prefix.clone(), path].concat()).collect()
}

/// Absolute paths of everything that the code of a module names by `crate::` or `super::`.
fn named(own: &Module, code: &str) -> Vec<Module> {
    let mut list = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // a later `super` of the same path, or the end of another word
            if code[..at].ends_with("::") || code[..at].ends_with(word) {
                continue;
            }
            let mut base: Module = if start == "crate::" { Vec::new() } else { own[..own.len().max(1) - 1].to_vec() };
            let mut rest = &code[at + start.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            list.extend(paths(tree(rest)).into_iter().map(|path| [base.clone(), path].concat()));
        }
    }
    list
}

/// For each folder of modules, by its path, which of them names which other.
fn graphs(files: &[(String, String)]) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let modules: BTreeSet<Module> = files.iter().map(|(file, _)| module(file)).collect();
    let exists = |path: &[String]| modules.iter().any(|module| module.starts_with(path));
    let mut graphs: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
        let own = module(file);
        for path in named(&own, &code(text)) {
            let common = own.iter().zip(&path).take_while(|(a, b)| a == b).count();
            // floors hold the modules of the crate apart; what is no module is an item of the folder's mod.rs
            if common > 0 && common < own.len() && common < path.len() && exists(&path[..=common]) {
                let graph = graphs.entry(own[..common].to_vec()).or_default();
                graph.entry(own[common].clone()).or_default().insert(path[common].clone());
            }
        }
    }
    graphs
}

/// Pairs of files of one folder, each of which reaches the other.
fn cycles(files: &[(String, String)]) -> Vec<String> {
    let mut list = Vec::new();
    for (folder, graph) in graphs(files) {
        let reached = |from: &String| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(next) = open.pop() {
                for to in graph.get(next).into_iter().flatten().filter(|&to| seen.insert(to.clone())) {
                    open.push(to);
                }
            }
            seen
        };
        let all: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|name| (name, reached(name))).collect();
        for (a, from_a) in &all {
            for b in from_a.iter().filter(|b| a < b && all.get(b).is_some_and(|from_b| from_b.contains(*a))) {
                list.push(format!("{}: {a} and {b}", folder.join("/")));
            }
        }
    }
    list
}

/// Pairs of types that hold each other, and the two halves of one product.
const ALLOWED: [&str; 7] = [
    "backend/cpu: gemm and wide",
    "backend/cpu: real and wide",
    "backend/cpu/gemm: kernel and lanes",
    "backend/cpu/gemm: kernel and pack",
    "backend/cpu/gemm: lanes and pack",
    "backend/cuda: backend and optim",
    "model: adapter and decoder",
];

#[test]
fn files_of_a_module_import_each_other_without_cycles() {
    let found = cycles(&super::files());
    let new: Vec<_> = found.iter().filter(|cycle| !ALLOWED.contains(&cycle.as_str())).collect();
    assert!(new.is_empty(), "move what both need into a file below both:\n{new:#?}");
    let gone: Vec<_> = ALLOWED.iter().filter(|cycle| !found.iter().any(|found| found == *cycle)).collect();
    assert!(gone.is_empty(), "these are no cycles any more: {gone:?}");
}

#[test]
fn the_check_of_cycles_sees_each_kind() {
    let found = |files: &[(&str, &str)]| {
        cycles(&files.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect::<Vec<_>>())
    };
    let run = ("train/run.rs", "use super::resume::{self, Resumed};\nuse crate::train::{epochs, step::Machine};");
    assert_eq!(found(&[run, ("train/resume.rs", "use super::Recipe;")]), [""; 0]);
    for resume in
        ["use super::run;", "fn f() { crate::train::run::f() }", "use crate::{\n    data, train::run::Run,\n};"]
    {
        assert_eq!(found(&[run, ("train/resume.rs", resume)]), ["train: resume and run"], "{resume}");
    }
    // by way of a third file, and from a folder
    let step = ("train/step/mod.rs", "use super::resume;");
    assert_eq!(found(&[run, step, ("train/resume.rs", "use super::step;")]), ["train: resume and step"]);
    let deep = ("train/step/feed.rs", "use super::super::run::positions;");
    assert_eq!(found(&[run, deep]), ["train: run and step"]);
    // comments, tests and items of mod.rs do not count
    let free =
        "// use super::run;\nuse super::{Item, other};\n#[cfg(test)]\nmod tests {\n    use super::super::run;\n}";
    assert_eq!(found(&[run, ("train/resume.rs", free)]), [""; 0]);
}
