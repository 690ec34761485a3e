//! From code to labels, scan paths and priors: labels by hand-labelled snippets ([`by_hand`]) and on any bytes
//! ([`robust`]); with the data of `EYEKERN_SHARED`, labels against the published examples ([`published`]), scan paths
//! against the published ones ([`paths`]), recordings against a separate implementation ([`gaze`]), and the arm
//! `artifact` against the published code ([`arms`]).
#![deny(dead_code)] // a test that no trial runs

mod arms;
mod by_hand;
#[path = "../fuzz/labels.rs"]
mod fuzz;
mod gaze;
mod paths;
mod published;
mod robust;
mod snippets;
#[path = "../support/mod.rs"]
mod support;

fn main() {
    let trials =
        [by_hand::trials(), robust::trials(), published::trials(), paths::trials(), gaze::trials(), arms::trials()];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit();
}
