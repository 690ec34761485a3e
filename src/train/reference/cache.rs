//! log p under a reference on disk: the arms of a seed have the same rows in the same micro-batches, so one pass serves
//! all of them.
//!
//! An entry is one file, named by a hash of everything that its bits depend on: the program, the device, the weights of
//! the reference, the tokens and labels of the rows, and the micro-batches. Weights and roles are not among them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backend::Backend;
use crate::data::Example;
use crate::data::cache::{seal, unseal};
use crate::error::{Error, Result};
use crate::files;
use crate::train::fingerprint::Fingerprint;
use crate::train::recipe::Recipe;

/// The entries of one reference on one device.
pub struct Cache {
    dir: PathBuf,
    /// Of the program, the device and the reference.
    base: blake3::Hasher,
}

impl Cache {
    /// The cache of a run on `hardware`; `None` where the recipe has none, or a model that is no file.
    pub fn of<B: Backend>(backend: &B, recipe: &Recipe, fingerprint: &Fingerprint, hardware: &str) -> Option<Cache> {
        let (dir, reference) = (recipe.cache_dir()?, fingerprint.reference()?);
        let program = files::hash(&std::env::current_exe().ok()?).ok()?;
        let mut base = blake3::Hasher::new();
        let device = format!("{} {} {hardware}", std::any::type_name::<B>(), backend.precision());
        let quantizer = recipe.quantizer().filter(|_| recipe.reference_model().is_none());
        base.update(format!("{program} {device} {reference} {quantizer:?}").as_bytes());
        Some(Cache { dir, base })
    }

    /// The place of log p of these examples in these micro-batches.
    pub fn entry<'a>(&'a self, examples: &'a [Example], plan: &[Vec<usize>]) -> Entry<'a> {
        let mut hash = self.base.clone();
        let mut list = |values: &[u32]| {
            hash.update(&values.len().to_le_bytes());
            hash.update(bytemuck::cast_slice(values));
        };
        for indices in plan {
            list(&[indices.len() as u32]);
            for &i in indices {
                list(&[i as u32]);
                list(&examples[i].ids);
                list(&examples[i].labels);
            }
        }
        let lengths = examples.iter().map(Example::supervised).collect();
        Entry { dir: &self.dir, file: self.dir.join(format!("{}.logp", hash.finalize().to_hex())), lengths }
    }
}

/// One file of the cache.
pub struct Entry<'a> {
    dir: &'a Path,
    file: PathBuf,
    /// Supervised tokens of each example.
    lengths: Vec<usize>,
}

impl Entry<'_> {
    /// The folder, for display.
    pub fn dir(&self) -> std::path::Display<'_> {
        self.dir.display()
    }

    /// log p of the supervised tokens of each example; `None` where there is no entry, or the disk changed it.
    pub fn read(&self) -> Option<Vec<Vec<f32>>> {
        let bytes = fs::read(&self.file).ok()?;
        let values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(unseal(&bytes)?);
        if values.len() != self.lengths.iter().sum::<usize>() {
            return None;
        }
        let mut rest = values.as_slice();
        let mut next = |&length: &usize| {
            let (here, behind) = rest.split_at(length);
            rest = behind;
            here.to_vec()
        };
        Some(self.lengths.iter().map(&mut next).collect())
    }

    /// Keeps log p of all examples.
    pub fn write(&self, logp: &[Vec<f32>]) -> Result {
        fs::create_dir_all(self.dir).map_err(Error::io(self.dir, "create"))?;
        files::write(&self.file, seal(bytemuck::cast_slice(&logp.concat())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORE;

    fn example(ids: &[u32], labels: &[u32]) -> Example {
        Example { ids: ids.to_vec(), labels: labels.to_vec(), ..Example::default() }
    }

    #[test]
    fn an_entry_is_of_its_rows_and_micro_batches() {
        let dir = std::env::temp_dir().join(format!("eyekern-logp-{}", std::process::id()));
        let cache = |of: &str| Cache { dir: dir.clone(), base: blake3::Hasher::new().update(of.as_bytes()).clone() };
        let rows = [example(&[1, 2, 3], &[IGNORE, 2, 3]), example(&[4, 5], &[IGNORE, 5])];
        let plan = [vec![0], vec![1]];
        let logp = vec![vec![-0.5, -1.5], vec![f32::MIN]];
        let here = cache("a");
        let entry = here.entry(&rows, &plan);
        assert_eq!(entry.read(), None);
        entry.write(&logp).unwrap();
        assert_eq!(entry.read(), Some(logp.clone()));

        // weights, roles and the line of a row change nothing
        let mut weighed = rows.clone();
        weighed[0] = Example { row: 7, weights: vec![9.0; 3], path: vec![true; 3], prompt: 1, ..weighed[0].clone() };
        assert_eq!(here.entry(&weighed, &plan).read(), Some(logp.clone()));

        // anything else does
        assert_eq!(here.entry(&rows, &[vec![0, 1]]).read(), None);
        assert_eq!(here.entry(&rows, &[vec![1], vec![0]]).read(), None);
        assert_eq!(cache("b").entry(&rows, &plan).read(), None);
        let mut other = rows.clone();
        other[1].labels[1] = 6;
        assert_eq!(here.entry(&other, &plan).read(), None);
        other[1] = example(&[4, 6], &[IGNORE, 5]);
        assert_eq!(here.entry(&other, &plan).read(), None);

        // an entry that the disk changed is none
        let whole = fs::read(&entry.file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for bytes in [&changed[..], &whole[..whole.len() - 4], &[]] {
            fs::write(&entry.file, bytes).unwrap();
            assert_eq!(entry.read(), None);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
