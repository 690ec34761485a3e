//! A folder of parity fixtures: a model, inputs, and what transformers makes of them.

use super::{Array, arrays, example, json, nums};
use eyekern::data::pack;
use eyekern::data::{Batch, Example};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One model's fixtures.
pub struct Folder {
    pub dir: PathBuf,
    pub meta: Value,
    pub inputs: BTreeMap<String, Array>,
    pub expected: BTreeMap<String, Array>,
}

impl Folder {
    pub fn open(dir: &Path) -> Folder {
        Folder {
            meta: json(&dir.join("meta.json")),
            inputs: arrays(&dir.join("inputs.safetensors")),
            expected: arrays(&dir.join("expected.safetensors")),
            dir: dir.to_path_buf(),
        }
    }

    pub fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// The rows of the padded set without their pads.
    pub fn padded(&self) -> Vec<Example> {
        let get = |key: &str| &self.inputs[&format!("padded.{key}")];
        let t = get("input_ids").shape[1];
        let row = |b: usize| {
            let n = get("attention_mask").values[b * t..][..t].iter().filter(|&&m| m != 0.0).count();
            let part = |key: &str| &get(key).values[b * t..][..n];
            example(b as u32, part("input_ids"), part("labels"), part("weights"))
        };
        (0..get("input_ids").shape[0]).map(row).collect()
    }

    /// The segments of the packed set.
    pub fn packed(&self) -> Vec<Example> {
        let part = |key: &str, a: usize, n: usize| &self.inputs[&format!("packed.{key}")].values[a..a + n];
        let mut at = 0;
        let mut list = Vec::new();
        for (i, n) in nums(&self.meta["segments"]).into_iter().enumerate() {
            let n = n as usize;
            list.push(example(i as u32, part("input_ids", at, n), part("labels", at, n), part("weights", at, n)));
            at += n;
        }
        list
    }

    /// Expected NLL of the batch's supervised rows, in the batch's order; `width` is the row length of the fixture.
    pub fn nll(&self, key: &str, examples: &[Example], row_at: impl Fn(usize) -> usize) -> Vec<f64> {
        let nll = &self.expected[key].values;
        let mut list = Vec::new();
        for (i, e) in examples.iter().enumerate() {
            let supervised = (1..e.ids.len()).filter(|&t| e.labels[t] != eyekern::data::IGNORE);
            list.extend(supervised.map(|t| nll[row_at(i) + t - 1]));
        }
        list
    }

    pub fn padded_nll(&self, examples: &[Example]) -> Vec<f64> {
        let width = self.expected["padded.nll"].shape[1];
        self.nll("padded.nll", examples, |i| i * width)
    }
}

pub fn batch_of(examples: &[Example], pad: Option<u32>) -> Batch {
    pack::batch(&examples.iter().collect::<Vec<_>>(), pad)
}

/// Every folder with a meta.json below `root`.
pub fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut list: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    list.retain(|p| p.join("meta.json").is_file());
    list.sort();
    assert!(!list.is_empty(), "{}: no parity folders", root.display());
    list
}
