//! Trials for binaries whose data may be absent. They run under libtest-mimic, because libtest cannot ignore a test at
//! run time: without the variable that names its data a test is listed as ignored, with it the data must be there.
//!
//! `#[test]` has no effect in these binaries. [`trials!`] lists their functions, and a function that is not listed is
//! dead code, which the binaries deny.
#![allow(unused_imports, unused_macros)] // only some binaries list functions

use super::fixtures;
use super::folder::folders;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

/// The outcome of a test.
pub type Check = Result<(), Failed>;

/// A variable, and the folder below its value that holds the parity folders.
pub type Root = (&'static str, &'static str);

pub const SHARED: Root = ("EYEKERN_SHARED", "fixtures/parity");
pub const MORE: Root = ("EYEKERN_PARITY", "");

/// Functions of a module as trials, made by [`plain`], [`fallible`] or [`on_shared`], under the names that libtest
/// would give them.
macro_rules! trials {
    ($kind:ident: $($name:ident),+ $(,)?) => {
        [$($crate::support::trials::$kind(concat!(module_path!(), "::", stringify!($name)), $name)),+]
    };
}
pub(crate) use trials;

/// The path of a function without its crate.
fn below_crate(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, rest)| rest)
}

/// A test that needs no data.
pub fn plain(path: &str, test: fn()) -> Trial {
    let run = move || {
        test();
        Ok(())
    };
    Trial::test(below_crate(path), run)
}

/// A test that needs no data, and that says in its error what differs.
pub fn fallible(path: &str, test: fn() -> Check) -> Trial {
    Trial::test(below_crate(path), test)
}

/// A test of the data in the folder that `EYEKERN_SHARED` names.
pub fn on_shared(path: &str, test: Test) -> Trial {
    let shared = std::env::var_os(SHARED.0).map(PathBuf::from);
    let ignored = shared.is_none();
    let run = move || test(&shared.ok_or("EYEKERN_SHARED is not set")?);
    Trial::test(below_crate(path), run).with_ignored_flag(ignored)
}

/// A check of a folder.
type Test = fn(&Path) -> Check;

/// A trial of each check on each parity folder: the project's own, and those below each variable.
pub fn on_folders(module: &str, variables: &[Root], checks: &[(&str, Test)]) -> Vec<Trial> {
    let (mut trials, mut roots) = (Vec::new(), vec![("tests/fixtures", fixtures())]);
    for &(variable, below) in variables {
        match std::env::var_os(variable) {
            Some(root) => roots.push((variable, Path::new(&root).join(below))),
            None => {
                let why = format!("{variable} is not set");
                let name = format!("{module}more folders ({why})");
                trials.push(Trial::test(name, || Err(why.into())).with_ignored_flag(true));
            }
        }
    }
    for (source, root) in roots {
        for dir in folders(&root) {
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for &(what, check) in checks {
                let dir = dir.clone();
                trials.push(Trial::test(format!("{module}{source}::{name}{what}"), move || check(&dir)));
            }
        }
    }
    trials
}

/// Fails where `error` is above `limit` or NaN.
pub fn gate(what: &str, error: f64, limit: f64) -> Check {
    if error <= limit { Ok(()) } else { Err(format!("{what}: error {error:.2e} above {limit:.1e}").into()) }
}
