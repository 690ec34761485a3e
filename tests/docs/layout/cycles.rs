//! The files of a module folder do not use each other in a circle: one can then be read after those that it uses.

use super::files;
use std::collections::{BTreeMap, BTreeSet};

/// Circles that are still there, as a folder and the files in it. The list may only become shorter: a folder that is
/// not named has none, and an entry whose files no longer form a circle has to go. It should be empty.
const CYCLES: [(&str, &[&str]); 4] = [
    ("backend::cpu", &["coded", "optim"]),
    ("backend::cpu", &["gemm", "real", "wide"]),
    ("backend::cuda", &["backend", "optim"]),
    ("model", &["adapter", "decoder", "workspace"]),
];

/// The path of a file's module: `train/recipe/mod.rs` is train, recipe.
fn module(file: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    parts.pop_if(|last| ["mod", "lib", "main"].contains(last));
    parts
}

/// The code without comments and without items for tests, and the names of the modules that are files for tests.
fn without_tests(text: &str) -> (String, Vec<&str>) {
    let (mut code, mut tests) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code += line.split("//").next().unwrap_or("");
            code.push('\n');
            continue;
        }
        let Some(item) = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")) else { break };
        tests.extend(item.trim().strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')));
        if !item.ends_with([';', '}']) {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            lines.by_ref().find(|line| *line == end);
        }
    }
    (code, tests)
}

/// Names, `::` and other characters, without space.
fn tokens(code: &str) -> Vec<&str> {
    let (mut list, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if name > 0 {
            name
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        list.push(token);
        rest = after.trim_start();
    }
    list
}

/// Adds the paths of a use tree, each with `path` in front, to `found`; gives what follows the tree.
fn tree<'t, 'a>(mut rest: &'t [&'a str], mut path: Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) -> &'t [&'a str] {
    while let [name, "::", after @ ..] = rest {
        path.push(name);
        rest = after;
    }
    let ["{", after @ ..] = rest else {
        path.extend(rest.first());
        found.push(path);
        return rest.get(1..).unwrap_or_default();
    };
    rest = after;
    loop {
        match rest {
            [] => return rest,
            ["}", after @ ..] => return after,
            [",", after @ ..] => rest = after,
            _ => rest = tree(rest, path.clone(), found),
        }
    }
}

/// The paths in code that begin with `crate` or `super`.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let (tokens, mut found) = (tokens(code), Vec::new());
    for (i, token) in tokens.iter().enumerate() {
        let follows = i > 0 && ["::", "$"].contains(&tokens[i - 1]);
        if ["crate", "super"].contains(token) && !follows && tokens.get(i + 1) == Some(&"::") {
            tree(&tokens[i..], Vec::new(), &mut found);
        }
    }
    found
}

/// By folder: which of its modules use which others. What lies in a folder below counts for that folder.
type Graphs = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn graphs(files: &[(String, String)]) -> Graphs {
    let sources: Vec<_> = files.iter().map(|(file, text)| (module(file), without_tests(text))).collect();
    let modules: BTreeSet<&[&str]> = sources.iter().map(|(module, _)| module.as_slice()).collect();
    let tests: Vec<Vec<&str>> = (sources.iter())
        .flat_map(|(module, (_, tests))| tests.iter().map(move |&test| [module.as_slice(), &[test]].concat()))
        .collect();
    let mut graphs = Graphs::new();
    for (own, (code, _)) in sources.iter().filter(|(own, _)| !tests.iter().any(|test| own.starts_with(test))) {
        for path in paths(code) {
            let up = path.iter().take_while(|&&part| part == "super").count();
            let base = if up == 0 { &[][..] } else { &own[..own.len().saturating_sub(up)] };
            let target = [base, &path[up.max(1)..]].concat();
            let common = own.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (1.., Some(from), Some(to)) = (common, own.get(common), target.get(common))
                && modules.contains(&target[..=common])
            {
                let graph = graphs.entry(own[..common].join("::")).or_default();
                graph.entry(from.to_string()).or_default().insert(to.to_string());
            }
        }
    }
    graphs
}

/// All modules that a module uses, through others too.
fn reached<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        let new = graph.get(next).into_iter().flatten().filter(|to| seen.insert(to.as_str()));
        open.extend(new.map(String::as_str).collect::<Vec<_>>());
    }
    seen
}

/// Folders with modules that all use each other.
fn cycles(graphs: &Graphs) -> BTreeSet<(&str, Vec<&str>)> {
    let mut found = BTreeSet::new();
    for (folder, graph) in graphs {
        for from in graph.keys() {
            let back = |to: &&str| reached(graph, to).contains(from.as_str());
            let circle: Vec<&str> = reached(graph, from).into_iter().filter(back).collect();
            if !circle.is_empty() {
                found.insert((folder.as_str(), circle));
            }
        }
    }
    found
}

#[test]
fn files_of_a_folder_do_not_use_each_other_in_a_circle() {
    let graphs = graphs(&files());
    let found = cycles(&graphs);
    let within = |(folder, circle): &(&str, Vec<&str>), (named, files): &(&str, &[&str])| {
        folder == named && circle.iter().all(|file| files.contains(file))
    };
    let new: Vec<_> = found.iter().filter(|circle| !CYCLES.iter().any(|known| within(circle, known))).collect();
    assert!(new.is_empty(), "files that use each other in a circle: {new:?}");
    let gone: Vec<_> = CYCLES.iter().filter(|known| !found.iter().any(|circle| within(circle, known))).collect();
    assert!(gone.is_empty(), "no longer circles, to be taken out of the list: {gone:?}");
}

#[test]
fn the_check_of_circles_sees_one() {
    let circles = |files: &[(&str, &str)]| -> String {
        let files: Vec<_> = files.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect();
        format!("{:?}", cycles(&graphs(&files)))
    };
    let [a, b, d] = [
        ("m/a.rs", "use super::b::{self, B};"),
        ("m/b.rs", "pub use crate::{\n    m::{c::C as B, d::e::{E, F}},\n    n,\n};"),
        ("m/d/mod.rs", "mod e;"),
    ];
    let (c, e) = (("m/c.rs", "fn c() {}"), ("m/d/e.rs", "fn e() { crate::m::a::f() }"));
    assert_eq!(circles(&[a, b, c, d, e]), r#"{("m", ["a", "b", "d"])}"#);
    // the same through `super`, from a file below
    let up = ("m/d/e.rs", "use super::super::a;");
    assert_eq!(circles(&[a, b, c, d, up]), r#"{("m", ["a", "b", "d"])}"#);
    // in comments and tests, by names that mod.rs hands on, and by macros from elsewhere there is none
    for none in [
        "// use super::super::a;",
        "#[cfg(test)]\nmod tests {\n    use crate::m::a;\n}",
        "use super::super::A;",
        "macro_rules! f { () => { $crate::m::a::f() }; }",
    ] {
        assert_eq!(circles(&[a, b, c, d, ("m/d/e.rs", none)]), "{}", "{none}");
    }
    let tests = ("m/d/mod.rs", "#[cfg(test)]\nmod e;");
    assert_eq!(circles(&[a, b, c, tests, e]), "{}");
}
