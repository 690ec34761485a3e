//! Products in bf16 on the CPU against the f32 values of transformers. The bounds are not ours: they are the errors of
//! transformers' bf16 autocast on the same models (tests/fixtures/autocast.json, made by make_autocast.py), and for
//! other folders those by which `tests/emulated.rs` judges CUDA.

use crate::support::folder::{Folder, batch_of};
use crate::support::trials::{Check, MORE, SHARED, gate, on_folders};
use crate::support::*;
use eyekern::backend::AdamW;
use eyekern::backend::cpu::{Cpu, Operands};
use eyekern::data::Batch;
use eyekern::model::config::Spec;
use eyekern::model::{names, save};
use eyekern::train::step::{Machine, Update};
use libtest_mimic::Trial;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    on_folders("rounding::", &[SHARED, MORE], &[("", errors_are_no_larger_than_autocasts)])
}

fn build(folder: &Folder, adapter: bool, threads: usize) -> Machine<Cpu<f32>> {
    let cpu = Cpu::<f32>::new(threads).expect("threads").rounding(Operands::Bf16);
    let spec = Spec::load(&folder.model().join("config.json")).expect("a fixture's config is supported");
    let init = folder.dir.join("adapter_init");
    machine_on(cpu, spec, &folder.model(), adapter.then_some(init.as_path()), Setup::plain(!adapter))
}

/// Gradients of every tensor, end to end.
fn gradients(machine: &mut Machine<Cpu<f32>>, batch: &Batch) -> Vec<f64> {
    machine.gradients(std::slice::from_ref(batch), 1).expect("gradients");
    let list = names::tensors(&machine.model.spec.clone());
    let read = |tensor: &names::Tensor| {
        save::stored_gradient(&machine.backend, &mut machine.model, tensor).expect("reads").expect("is trained")
    };
    list.iter().flat_map(read).collect()
}

/// Relative errors of the losses of five steps of the adapter and of the model after them, and the error of the adapter
/// beside what the steps changed.
fn adapter_errors(folder: &Folder, batch: &Batch) -> (Vec<f64>, f64) {
    let (mut machine, meta) = (build(folder, true, 1), &folder.meta["lora"]);
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: num(&meta["weight_decay"]) };
    let update = Update { adamw, lr: num(&meta["lr"]), max_norm: 0.0 };
    let mut step = |n| machine.step(std::slice::from_ref(batch), n, &update).expect("a step").loss;
    let mut losses: Vec<f64> = (1..=5).map(&mut step).collect();
    losses.push(machine.evaluate(std::slice::from_ref(batch)).expect("evaluates").loss);
    let losses = losses.iter().zip(nums(&meta["losses"])).map(|(a, b)| (a - b) / b).collect();
    let adapter = |which: &str| arrays(&folder.dir.join(which).join("adapter_model.safetensors"));
    let (before, after) = (adapter("adapter_init"), adapter("adapter_final"));
    let (mut found, mut start, mut end) = (Vec::new(), Vec::new(), Vec::new());
    for (name, _, values) in machine.model.export_adapter(|d| d.values(&machine.backend)).expect("reads") {
        found.extend(values.iter().map(|&x| f64::from(x)));
        start.extend(&before[&name].values);
        end.extend(&after[&name].values);
    }
    (losses, norm(&difference(&found, &end)) / norm(&difference(&start, &end)))
}

fn rms(errors: &[f64]) -> f64 {
    norm(errors) / (errors.len() as f64).sqrt()
}

fn largest(errors: &[f64]) -> f64 {
    errors.iter().map(|e| e.abs()).fold(0.0, worst)
}

fn errors_are_no_larger_than_autocasts(dir: &Path) -> Check {
    let folder = Folder::open(dir);
    let name = folder.meta["name"].as_str().unwrap_or("?");
    let examples = folder.padded();
    let (batch, expected) = (batch_of(&examples, None), folder.padded_nll(&examples));

    let mut machine = build(&folder, false, 1);
    let logp = machine.logp(&batch, true).map_err(|e| e.to_string())?;
    let nll = difference(&logp.iter().map(|&l| -f64::from(l)).collect::<Vec<_>>(), &expected);
    let cached = difference(&cached_nll(&machine.backend, &machine.model, &examples), &expected);
    let ours = gradients(&mut machine, &batch);
    let list = names::tensors(&machine.model.spec);
    let theirs: Vec<f64> =
        list.iter().flat_map(|tensor| folder.expected[&format!("grad.{}", tensor.name)].values.clone()).collect();
    let gradient = relative(&ours, &theirs);
    let (losses, adapter) = adapter_errors(&folder, &batch);

    for threads in 2..=4 {
        let mut other = build(&folder, false, threads);
        let bits = |logp: &[f32]| logp.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&other.logp(&batch, true).map_err(|e| e.to_string())?) != bits(&logp) {
            return Err(format!("other losses with {threads} threads").into());
        }
        if gradients(&mut other, &batch).iter().zip(&ours).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("other gradients with {threads} threads").into());
        }
    }

    println!(
        "{name}: nll {:.1e} (largest {:.1e}), cached {:.1e}, gradients {gradient:.1e}, losses {:.1e}, \
         adapter {adapter:.1e}",
        rms(&nll),
        largest(&nll),
        rms(&cached),
        rms(&losses)
    );
    // in f32 the error is below 1e-4
    if rms(&nll) < 1e-3 || gradient < 1e-3 {
        return Err("products are not rounded".into());
    }
    let autocast = json(&fixtures().join("autocast.json"));
    let of = |key: &str| {
        let of = |attention: &str| autocast["models"][name][attention][key].as_f64();
        Some(f64::max(of("eager")?, of("sdpa")?))
    };
    let noise = folder.meta["noise_floor"]["bf16_nll_maxabs"].as_f64().unwrap_or(0.1);
    // the largest of a few dozen errors: half more is chance
    let most = 1.5 * of("nll_max").unwrap_or(0.0).max(noise);
    gate("nll", largest(&nll), most)?;
    gate("nll through the cache", largest(&cached), most)?;
    gate("gradients", gradient, (0.5 * noise).max(0.1))?;
    gate("adapter losses", largest(&losses), (0.12 * noise).max(3e-2))?;
    // five steps of AdamW amplify rounding, so that of two roundings the better one can end a little farther away
    let found = [
        ("nll_rms", rms(&nll), 1.0),
        ("nll_rms", rms(&cached), 1.0),
        ("gradients", gradient, 1.0),
        ("adapter", adapter, 1.25),
    ];
    for (key, error, factor) in found {
        of(key).map_or(Ok(()), |limit| gate(&format!("{key} beside autocast's"), error, factor * limit))?;
    }
    Ok(())
}
