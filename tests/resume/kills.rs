//! Killed at any moment: the same bits.

use super::support::models::{self, COMPOSITE, Method, WET};
use super::{Case, WAYS, checkpoints, end, kill_at, whole};
use eyekern::backend::AdamW;
use eyekern::backend::cpu::Real;
use eyekern::model::config::Spec;
use eyekern::model::state::{self, Saved};
use eyekern::train::step::Update;
use safetensors::{Dtype, SafeTensors};
use std::time::Instant;

#[test]
fn ten_steps_are_five_a_kill_and_five() {
    for (way, (name, sets)) in WAYS.iter().enumerate() {
        let case = Case::of(way);
        case.trained("reference", sets);
        let first = checkpoints(&case.path("reference"))[0].1.file_name().expect("a name").to_owned();
        loop {
            kill_at(case.train("out", sets, &[]), &case.path("out").join(&first));
            if !["adapter_model.safetensors", "model.safetensors"].iter().any(|f| case.path("out").join(f).exists()) {
                break;
            }
            // it was over before it was killed
            std::fs::remove_dir_all(case.path("out")).expect("removes");
        }
        let said = case.resumed("out", sets);
        let on = said.lines().any(|line| line.starts_with("note: going on from out/checkpoint-"));
        assert!(on, "{name}: {said}");
        case.same("out", "reference");
    }
}

/// A full model that was killed while it was saved: what is there is whole or no model, and a resume completes it.
#[test]
fn a_killed_save_is_no_model_and_is_done_again() {
    let case = Case::new();
    let sets = ["train.method=full"];
    case.trained("reference", &sets);
    for place in ["result.partial", "result.partial/model.safetensors", "result.partial/config.json", "config.json"] {
        kill_at(case.train("out", &sets, &[]), &case.path("out").join(place));
        if case.path("out/model.safetensors").exists() {
            assert!(case.read("out/model.safetensors") == case.read("reference/model.safetensors"), "{place}");
            assert!(case.read("out/config.json") == case.read("reference/config.json"), "{place}");
        }
        case.resumed("out", &sets);
        case.same("out", "reference");
        let left = |dir: &str| -> Vec<_> {
            let names = std::fs::read_dir(case.path(dir)).expect("a folder");
            let mut names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(left("out"), left("reference"), "{place}");
        std::fs::remove_dir_all(case.path("out")).expect("removes");
    }
}

/// What a save leaves behind is removed by the next run, also where none of its files was complete.
#[test]
fn leftovers_of_a_save_are_removed() {
    let case = Case::new();
    let sets = ["train.max_steps=5"];
    case.trained("out", &sets);
    std::fs::create_dir(case.path("out/result.partial")).expect("creates");
    case.write("out/result.partial/.tmpAbC", "half of a model");
    case.resumed("out", &[]);
    assert!(!case.path("out/result.partial").exists());
}

/// Values and moments of every trained parameter, and the losses of a step, as bits.
fn steps<R: Real>(spec: &Spec, method: Method, dtype: Dtype) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("state.safetensors");
    let update =
        |lr| Update { adamw: AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 }, lr, max_norm: 1.0 };
    let examples = models::examples(&[9, 1, 7, 4], spec.vocab, 4);
    let batches = [models::batch(&examples.iter().collect::<Vec<_>>(), None)];
    let build = || models::build::<R>((spec.clone(), 0.3), method, (COMPOSITE, WET), 64, 1);
    let (mut there, mut back) = (build(), build());
    there.step(&batches, 1, &update(0.01)).expect("a step");
    state::save(&there.backend, &mut there.model, &file).expect("writes");
    let bytes = std::fs::read(&file).expect("reads");
    let tensors = SafeTensors::deserialize(&bytes).expect("valid safetensors");
    let values: usize = there.model.trained().iter().map(|p| p.len()).sum();
    assert!(tensors.tensors().iter().all(|(_, t)| t.dtype() == dtype));
    assert_eq!(tensors.tensors().iter().map(|(_, t)| t.shape()[0]).sum::<usize>(), 3 * values);
    let saved = Saved::open(&mut back.model, &file).expect("fits");
    saved.restore(&back.backend, &mut back.model).expect("reads");
    let [first, second] = [&mut there, &mut back].map(|machine| {
        let outcome = machine.step(&batches, 2, &update(0.02)).expect("a step");
        state::save(&machine.backend, &mut machine.model, &file).expect("writes");
        (outcome.loss.to_bits(), outcome.grad_norm.to_bits(), std::fs::read(&file).expect("reads"))
    });
    assert!(first == second);
}

#[test]
fn every_parameter_and_moment_is_kept() {
    for spec in [Spec { tied: false, ..models::llama() }, models::starcoder2(), models::gpt2(), models::bigcode(true)] {
        for method in [Method::Full, Method::Lora] {
            steps::<f64>(&spec, method, Dtype::F64);
            steps::<f32>(&spec, method, Dtype::F32);
        }
    }
}

/// Numbers that are the same in every run (Lehmer's generator).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0 * 48271 % 0x7fff_ffff;
        self.0 as f64 / 0x7fff_ffff as f64
    }
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    let wanted: usize = std::env::var("EYEKERN_KILLS").map_or(12, |n| n.parse().expect("a number"));
    let (mut kills, mut torn, mut chance) = (0, 0, Chance(20_261_123));
    for round in 0.. {
        let way = round % WAYS.len();
        // between checkpoints, and within them
        let every = ["train.save_steps=1", "train.save_steps=3"][round / WAYS.len() % 2];
        let sets = [WAYS[way].1, &[every]].concat();
        let case = Case::of(way);
        let started = Instant::now();
        case.trained("reference", &sets);
        let length = started.elapsed();
        loop {
            let mut child = case.train("out", &sets, &["--resume", "auto"]).spawn().expect("starts");
            std::thread::sleep(length.mul_f64(chance.next()));
            if child.try_wait().expect("a child").is_some() {
                let ended = end(child);
                assert_eq!(ended.code, Some(0), "{}", ended.stderr);
                break;
            }
            child.kill().expect("kills");
            child.wait().expect("ends");
            kills += 1;
            for (_, dir) in checkpoints(&case.path("out")) {
                assert!(whole(&dir), "{} is torn", dir.display());
            }
            let names = std::fs::read_dir(case.path("out")).into_iter().flatten();
            torn += names
                .filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "partial")))
                .count();
        }
        case.same("out", "reference");
        if kills >= wanted {
            println!("{kills} kills over {} runs, {torn} of them while a checkpoint was written", round + 1);
            return;
        }
    }
}
