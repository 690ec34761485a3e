//! Which algorithm does which product: timed once for a shape, then kept, so that later runs give the same bits and
//! lose no time.

use super::device::Out;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What an algorithm is chosen for: `c [m, n] = a [m, k] b [k, n]`, everything but addresses and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// m, n, k.
    pub shape: [usize; 3],
    /// Values from row to row of a, b, c as they lie in memory.
    pub ld: [usize; 3],
    /// Whether a and b are transposes of what lies in memory.
    pub transposed: [bool; 2],
    /// The format of c.
    pub out: Out,
    /// Whether the product is added to c.
    pub accumulate: bool,
    /// Whether a bias is added to each row.
    pub bias: bool,
    /// What divides the addresses of a, b, c, in bytes; at most 256.
    pub alignment: [u32; 3],
}

/// Up to the next of eight steps between powers of two: 1000 becomes 1024, 1100 becomes 1152.
fn step_up(n: usize) -> usize {
    n.next_multiple_of((n.next_power_of_two() / 16).max(1))
}

impl Problem {
    /// What stands for it: the number of tokens of a micro-batch differs from step to step, and shapes that differ by
    /// less than an eighth share an algorithm.
    fn class(&self) -> Problem {
        Problem { shape: self.shape.map(step_up), ..*self }
    }
}

/// An algorithm of cublasLt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The library's own description; opaque, and of one version.
    pub algorithm: [u64; 8],
    /// Bytes of working memory.
    pub workspace: usize,
    /// The library's number for it.
    pub id: Option<u32>,
    /// The library's number for its tile.
    pub tile: Option<u32>,
    /// Parts into which its sums are split.
    pub splits: Option<u32>,
    /// How these are added: 0 not at all, 2 in f32, 4 in the format of c.
    pub reduction: Option<u32>,
    /// What it took when it was chosen; `None` where it was the only one.
    pub microseconds: Option<f32>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    choice: Choice,
}

/// A file of choices.
#[derive(Serialize, Deserialize)]
struct Kept {
    device: String,
    cublaslt: usize,
    products: Vec<Entry>,
}

/// The choices of a device and a version of the library.
pub struct Plans {
    device: String,
    version: usize,
    /// All that are known.
    known: HashMap<Problem, Choice>,
    /// Those that this process has used.
    used: HashMap<Problem, Choice>,
    cache: Option<PathBuf>,
    record: Option<PathBuf>,
}

impl Plans {
    /// The choices that a folder of caches and the record of an earlier run hold for this device and version; the
    /// record's go first. A file that is missing or of something else is none.
    pub fn open(device: &str, version: usize, cache: Option<&Path>, record: Option<PathBuf>) -> Plans {
        let name: String = device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let cache = cache.map(|folder| folder.join(format!("products-{name}-{version}.json")));
        let mut plans =
            Plans { device: device.into(), version, known: HashMap::new(), used: HashMap::new(), cache, record };
        for file in [&plans.cache, &plans.record].into_iter().flatten() {
            let kept = files::read(file).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
            let fitting = kept.filter(|kept| kept.device == plans.device && kept.cublaslt == plans.version);
            plans.known.extend(fitting.into_iter().flat_map(|kept| kept.products).map(|e| (e.problem, e.choice)));
        }
        plans
    }

    /// The choice for a product, if one was made: for exactly this shape, else for its class.
    pub fn find(&mut self, problem: &Problem) -> Result<Option<Choice>> {
        // whatever is used is known
        let found = [*problem, problem.class()].into_iter().find_map(|key| Some((key, self.known.get(&key)?.clone())));
        let Some((key, choice)) = found else { return Ok(None) };
        if self.used.insert(key, choice.clone()).is_none() {
            self.write_record()?;
        }
        Ok(Some(choice))
    }

    /// Keeps a choice: for the class, or for this shape alone where the class has a choice already, which cannot do
    /// this shape. So each shape is timed once, whichever shapes alternate. A cache that cannot be written does no
    /// harm; the run's record must be.
    pub fn keep(&mut self, problem: &Problem, choice: Choice) -> Result {
        let class = problem.class();
        let key = if self.known.contains_key(&class) { *problem } else { class };
        self.known.insert(key, choice.clone());
        self.used.insert(key, choice);
        if let Some(cache) = &self.cache {
            let folder = cache.parent().map_or(Ok(()), std::fs::create_dir_all);
            let _ = folder.map(|()| files::write(cache, self.text(&self.known)));
        }
        self.write_record()
    }

    fn write_record(&self) -> Result {
        let Some(record) = &self.record else { return Ok(()) };
        if let Some(folder) = record.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        }
        files::write(record, self.text(&self.used))
    }

    fn text(&self, choices: &HashMap<Problem, Choice>) -> String {
        let mut products: Vec<Entry> =
            choices.iter().map(|(problem, choice)| Entry { problem: *problem, choice: choice.clone() }).collect();
        products.sort_by_key(|entry| entry.problem);
        let kept = Kept { device: self.device.clone(), cublaslt: self.version, products };
        serde_json::to_string_pretty(&kept).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(m: usize) -> Problem {
        Problem {
            shape: [m, 2048, 512],
            ld: [512, 512, 2048],
            transposed: [false, true],
            out: Out::Bf16,
            accumulate: false,
            bias: false,
            alignment: [256; 3],
        }
    }

    fn choice(id: u32) -> Choice {
        let algorithm = [u64::MAX - u64::from(id); 8];
        Choice { algorithm, workspace: 0, id: Some(id), tile: None, splits: None, reduction: None, microseconds: None }
    }

    #[test]
    fn near_shapes_share_a_choice() {
        assert_eq!(
            [1, 7, 16, 17, 33, 1000, 1024, 1025, 151_936].map(step_up),
            [1, 7, 16, 18, 36, 1024, 1024, 1152, 163_840]
        );
        let mut plans = Plans::open("a", 1, None, None);
        plans.keep(&problem(1000), choice(1)).unwrap();
        assert_eq!(plans.find(&problem(1024)).unwrap(), Some(choice(1)));
        assert_eq!(plans.find(&problem(1025)).unwrap(), None);
        // where the shared choice cannot do a shape, that shape has its own, and the others keep theirs
        plans.keep(&problem(1001), choice(2)).unwrap();
        assert_eq!(plans.find(&problem(1001)).unwrap(), Some(choice(2)));
        assert_eq!(plans.find(&problem(1000)).unwrap(), Some(choice(1)));
        assert_eq!(plans.find(&Problem { accumulate: true, ..problem(1000) }).unwrap(), None);
        assert_eq!(plans.find(&Problem { alignment: [256, 256, 16], ..problem(1000) }).unwrap(), None);
    }

    #[test]
    fn choices_outlive_the_process_for_their_device_and_version() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, record) = (dir.path().join("cache"), dir.path().join("run/products.json"));
        let open = |device, version| Plans::open(device, version, Some(&cache), Some(record.clone()));
        open("NVIDIA H200", 130_100).keep(&problem(8), choice(1)).unwrap();
        assert_eq!(open("NVIDIA H200", 130_100).find(&problem(8)).unwrap(), Some(choice(1)));
        assert_eq!(open("NVIDIA H200", 130_200).find(&problem(8)).unwrap(), None);
        assert_eq!(open("NVIDIA H100", 130_100).find(&problem(8)).unwrap(), None);
        // the record of the run goes before what the cache has learnt since
        Plans::open("NVIDIA H200", 130_100, Some(&cache), None).keep(&problem(8), choice(2)).unwrap();
        assert_eq!(open("NVIDIA H200", 130_100).find(&problem(8)).unwrap(), Some(choice(1)));
        std::fs::remove_file(&record).unwrap();
        assert_eq!(open("NVIDIA H200", 130_100).find(&problem(8)).unwrap(), Some(choice(2)));
        // and holds what the run has used, from the cache too
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(text.contains("\"id\": 2") && text.contains("NVIDIA H200"), "{text}");
        std::fs::write(&record, "not JSON").unwrap();
        assert_eq!(open("NVIDIA H200", 130_100).find(&problem(8)).unwrap(), Some(choice(2)));
    }
}
