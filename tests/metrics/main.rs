//! Metrics of generated text against the packages that define them: on a stored sample, and with the data of
//! `EYEKERN_SHARED` on its cases.
#![deny(dead_code)] // a test that no trial runs

mod code;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod wordnet;

fn main() {
    let trials = [code::trials(), text::trials(), wordnet::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit();
}
