//! Attention probabilities against transformers' `output_attentions`, in f32: each row of a fixture alone, and packed
//! with others in every order. `tests/fixtures/make_attentions.py` wrote the expected values, each of a row alone.

use crate::support::folder::{Folder, batch_of};
use crate::support::trials::{Check, SHARED, gate, on_folders};
use crate::support::*;
use eyekern::backend::cpu::Cpu;
use eyekern::data::Example;
use eyekern::model::attention::{Extent, Observer};
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::decoder::{Decoder, Init};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::path::Path;

/// The most by which a probability may differ.
const LIMIT: f64 = 1e-5;

/// Examples in one batch, and for each the name of its expected values. All probabilities are compared.
fn batch(
    model: &Decoder<Cpu<f32>>, b: &Cpu<f32>, rows: &[(&Example, String)], expected: &BTreeMap<String, Array>,
) -> f64 {
    let examples: Vec<Example> = rows.iter().map(|(example, _)| (*example).clone()).collect();
    let batch = batch_of(&examples, None);
    // the chosen rows of all examples, with the place of each among its example's
    let (mut chosen, mut places, mut first) = (Vec::new(), Vec::new(), 0);
    for (example, name) in rows {
        for (i, row) in expected[&format!("{name}.rows")].values.iter().enumerate() {
            chosen.push(first + *row as u32);
            places.push((name, i));
        }
        first += example.ids.len() as u32;
    }
    let longest = examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let extent = Extent { tokens: batch.ids.len(), longest };
    let (mut most, mut seen) = (0.0, 0);
    let mut observer = Observer::new(b, model, extent).expect("allocates");
    let logp = observer.observe(&batch, &chosen, |layer, i, probs, keys| {
        let (name, place) = places[i];
        let array = &expected[name];
        let [layers, heads, rows, n] = array.shape[..] else { panic!("{:?}", array.shape) };
        assert_eq!((layers, heads), (model.spec.layers, model.spec.q_heads));
        for (head, found) in probs.chunks(keys).enumerate() {
            let expected = &array.values[((layer * heads + head) * rows + place) * n..][..n];
            // what lies behind the keys of the batch is not seen there either
            let at = |list: &[f32], j: usize| f64::from(list.get(j).copied().unwrap_or(0.0));
            most = (0..n.max(keys))
                .map(|j| (at(found, j) - expected.get(j).copied().unwrap_or(0.0)).abs())
                .fold(most, worst);
        }
        seen += 1;
        Ok(())
    });
    assert_eq!(logp.expect("runs").len(), batch.labels.len());
    assert_eq!(seen, chosen.len() * model.spec.layers, "rows that were handed over");
    most
}

fn build(b: &Cpu<f32>, folder: &Folder) -> Decoder<Cpu<f32>> {
    let spec = Spec::load(&folder.model().join("config.json")).expect("a fixture's config");
    let checkpoint = Checkpoint::open(&folder.model()).expect("a fixture's weights");
    Decoder::build(b, spec, &Init::File(&checkpoint), None, 64).expect("builds")
}

fn probabilities(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(2).expect("threads"));
    let model = build(&b, &folder);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let expected = arrays(&fixtures().join(format!("attentions/{name}.safetensors")));
    let (padded, packed) = (folder.padded(), folder.packed());
    let named = |kind: &str, i: usize| format!("{kind}.{i}");
    let padded = padded.iter().enumerate().map(|(i, example)| (example, named("padded", i)));
    let packed = packed.iter().enumerate().map(|(i, example)| (example, named("packed", i)));
    let mut rows: Vec<(&Example, String)> = padded.chain(packed).collect();
    for row in &rows {
        gate(&format!("{} alone", row.1), batch(&model, &b, std::slice::from_ref(row), &expected), LIMIT)?;
    }
    gate("all packed", batch(&model, &b, &rows, &expected), LIMIT)?;
    rows.reverse();
    gate("all packed, in reverse", batch(&model, &b, &rows, &expected), LIMIT)
}

/// log p of labels beside the fixtures' nll, of the packed set.
fn labels(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(1).expect("threads"));
    let model = build(&b, &folder);
    let examples = folder.padded();
    let batch = batch_of(&examples, None);
    let longest = examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let mut observer = Observer::new(&b, &model, Extent { tokens: batch.ids.len(), longest }).expect("allocates");
    let logp = observer.observe(&batch, &[], |_, _, _, _| Ok(())).expect("runs");
    let expected = folder.padded_nll(&examples);
    assert_eq!(logp.len(), expected.len());
    let most = logp.iter().zip(&expected).map(|(logp, nll)| (f64::from(*logp) + nll).abs()).fold(0.0, worst);
    gate("log p", most, 1e-4)
}

pub fn trials() -> Vec<Trial> {
    on_folders("attention::", &[SHARED], &[("::probabilities", probabilities), ("::labels", labels)])
}
