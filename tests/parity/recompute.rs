//! `train.recompute = "layer"` against `"none"` for the ten architectures, by the configs of transformers' own models,
//! filled with random values. tests/numerics/recompute.rs has the rest.

use crate::support::folder::folders;
use crate::support::models::Method::{Full, Lora};
use crate::support::models::{DRY, WET};
use crate::support::recompute::same_bits;
use crate::support::trials::{Check, SHARED, trials};
use eyekern::backend::cpu::Cpu;
use eyekern::model::config::Spec;
use libtest_mimic::Trial;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials!(on_shared: every_architecture_gives_the_same_bits).into()
}

fn every_architecture_gives_the_same_bits(shared: &Path) -> Check {
    for dir in folders(&shared.join(SHARED.1)) {
        let spec = Spec::load(&dir.join("model").join("config.json")).expect("a fixture's config is supported");
        for (method, rates) in [(Full, DRY), (Full, WET), (Lora, DRY), (Lora, WET)] {
            same_bits(|| Cpu::<f32>::new(1).expect("threads"), &spec, method, rates);
        }
    }
    Ok(())
}
