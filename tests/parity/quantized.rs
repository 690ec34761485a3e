//! Adapters over weights in 4 bits: losses, gradients and training against transformers, bitsandbytes and PEFT, with
//! weights that transformers wrote and with weights that are quantised on load (tests/fixtures/make_nf4_parity.py).

use crate::support::folder::{Folder, batch_of, folders};
use crate::support::trials::{Check, gate};
use crate::support::*;
use crate::training::{lora, nll_error};
use eyekern::backend::Stored;
use eyekern::backend::cpu::Cpu;
use eyekern::backend::nf4::Scheme;
use eyekern::data::Batch;
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::decoder::Init;
use eyekern::model::quantized::Quantizer;
use eyekern::train::step::Machine;
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// A model with weights from `folder`, quantised on load where there is a quantizer.
fn machine(
    spec: &Spec, folder: &Path, quantizer: Option<&Quantizer>, adapter: Option<&Path>,
) -> Result<Machine<Cpu<f32>>, Failed> {
    let checkpoint = Checkpoint::open(folder).map_err(|e| e.to_string())?;
    let values = Init::File(&checkpoint).quantized(quantizer);
    let b = Cpu::new(1).map_err(|e| e.to_string())?;
    let m = machine_from(b, spec.clone(), &values, adapter, Setup::plain(false));
    let coded = m.model.layers.iter().flat_map(|l| &l.proj).all(|p| matches!(p.w.w, Stored::Nf4(_)));
    if coded { Ok(m) } else { Err("a projection is not in 4 bits".into()) }
}

/// The decoded projections, as bits.
fn weights(m: &Machine<Cpu<f32>>) -> Result<Vec<u32>, Failed> {
    let projections = m.model.layers.iter().flat_map(|l| &l.proj);
    let values = projections.map(|p| p.w.values(&m.backend)).collect::<Result<Vec<_>, _>>();
    Ok(values.map_err(|e| e.to_string())?.concat().into_iter().map(f32::to_bits).collect())
}

fn check(dir: &Path) -> Check {
    let folder = Folder::open(dir);
    let spec = Spec::load(&dir.join("quantized/config.json")).map_err(|e| e.to_string())?;
    if spec != Spec::load(&folder.model().join("config.json")).map_err(|e| e.to_string())? {
        return Err("the config of the quantised model gives another model".into());
    }
    let adapter = dir.join("adapter_init");
    let double = Quantizer { scheme: Scheme { double: true }, skip: Vec::new() };
    let (padded, packed) = (folder.padded(), folder.packed());
    let (batch, segments) = (batch_of(&padded, None), batch_of(&packed, None));
    let expected = folder.padded_nll(&padded);
    let offsets: Vec<usize> = packed.iter().scan(0, |at, e| Some(std::mem::replace(at, *at + e.ids.len()))).collect();
    let expected_packed = folder.nll("packed.nll", &packed, |i| offsets[i]);
    let mut line = String::new();
    let mut kept = Vec::new();
    for (from, quantizer) in [("quantized", None), ("model", Some(&double))] {
        let mut note = |what: &str, error: f64| line.push_str(&format!(" {what} {error:.1e}"));
        let mut plain = machine(&spec, &dir.join(from), quantizer, None)?;
        let error = nll_error(&mut plain, &batch, &expected);
        gate("nll", error, 2e-5)?;
        note(from, error);
        gate("packed nll", nll_error(&mut plain, &segments, &expected_packed), 2e-5)?;
        lora(machine(&spec, &dir.join(from), quantizer, Some(&adapter))?, &folder, &batch, &mut note)?;
        kept.push(weights(&plain)?);
    }
    if kept[0] != kept[1] {
        let apart = kept[0].iter().zip(&kept[1]).filter(|(a, b)| a != b).count();
        return Err(format!("{apart} of {} weights differ between the file and the load", kept[0].len()).into());
    }
    single(dir, &spec, &folder, &batch)?;
    // without quantisation the same numbers must be wrong
    let mut whole = machine_of::<f32>(spec, &folder.model(), None, Setup::plain(false));
    let moved = nll_error(&mut whole, &batch, &expected);
    if moved < 1e-3 {
        return Err(format!("quantisation moves the loss by {moved:.1e} only").into());
    }
    println!("nf4 {}:{line}", folder.meta["name"]);
    Ok(())
}

/// Scales that are not quantised, and codes that are stored as another type.
fn single(dir: &Path, spec: &Spec, folder: &Folder, batch: &Batch) -> Check {
    let from = dir.join("quantized_single");
    if !from.is_dir() {
        return Ok(());
    }
    let width = folder.expected["single.nll"].shape[1];
    let expected = folder.nll("single.nll", &folder.padded(), |i| i * width);
    gate("single nll", nll_error(&mut machine(spec, &from, None, None)?, batch, &expected), 2e-5)
}

pub fn trials() -> Vec<Trial> {
    let dirs = folders(&fixtures().join("nf4"));
    assert!(dirs.len() >= 9, "folders of weights in 4 bits");
    let trial = |dir: std::path::PathBuf| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(format!("quantized::{name}"), move || check(&dir))
    };
    dirs.into_iter().map(trial).collect()
}
