//! LoRA adapters (Hu et al. 2021) in PEFT's layout: one optional pair of matrices per slice of a projection.

use super::checkpoint::{Checkpoint, Values};
use super::decoder::{Decoder, Slice};
use super::names::{self, Layout, Module};
use super::params::Dense;
use crate::backend::moments::Optim;
use crate::backend::{Backend, F, S};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// `y += scale B A x` beside a slice `W [out, in]`.
pub struct Adapter<B: Backend> {
    /// `[rank, in]`.
    pub a: Dense<B>,
    /// `[out, rank]`.
    pub b: Dense<B>,
    /// Rank.
    pub rank: usize,
    /// alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023).
    pub scale: f64,
}

impl<B: Backend> Adapter<B> {
    /// Both matrices, and their gradients where they are trained.
    #[allow(clippy::type_complexity)] // four things that go to one operation
    pub fn split(&mut self) -> (&F<B>, &F<B>, Option<&mut S<B>>, Option<&mut S<B>>) {
        let Adapter { a, b, .. } = self;
        (&a.w, &b.w, a.train.as_mut().map(|t| &mut t.grad), b.train.as_mut().map(|t| &mut t.grad))
    }
}

/// Which slices are adapted.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Every projection of every block.
    AllLinear,
    /// By the last part (or any dotted end) of PEFT's module path.
    Named(Vec<String>),
}

/// What PEFT calls a LoraConfig.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Dropout on the adapter's input, in [0, 1).
    pub dropout: f32,
    /// Whether the scale is alpha / sqrt(rank).
    pub rslora: bool,
    /// Adapted modules.
    pub targets: Targets,
}

impl LoraConfig {
    /// Factor on the adapter's product.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    fn adapts(&self, path: &str) -> bool {
        match &self.targets {
            Targets::AllLinear => true,
            Targets::Named(names) => names.iter().any(|n| ends_with_module(path, n)),
        }
    }
}

/// Whether a module path is `name`, or ends with it after a dot.
pub(super) fn ends_with_module(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// Where an adapter's initial values come from.
pub enum AdapterInit<'a> {
    /// PEFT's default: A uniform in +-1 / sqrt(in), B zero.
    Fresh {
        /// Seed of A.
        seed: u64,
    },
    /// An `adapter_model.safetensors`.
    File(&'a Checkpoint),
    /// Sizes only.
    Shapes,
}

/// Name, shape and values of one adapter matrix.
pub type Exported<T> = (String, [usize; 2], Vec<T>);

/// PEFT's names of the two matrices of a module.
pub fn peft_names(path: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|ab| format!("base_model.model.{path}.{ab}.weight"))
}

impl<B: Backend> Decoder<B> {
    /// Puts adapters beside the slices that `config` names; `train` gives them gradients and what the optimiser keeps.
    pub fn attach(&mut self, b: &B, config: &LoraConfig, start: &AdapterInit, train: Option<Optim>) -> Result {
        if train.is_some() && self.embed.train.is_some() {
            // the optimiser takes either the base or the adapters: the others' gradients would never be cleared
            let why = "adapters are trained beside a frozen model; this one is trained in full".into();
            return Err(Error::Recipe { origin: "train.method".into(), why });
        }
        self.check_targets(config)?;
        if !matches!(start, AdapterInit::File(_)) {
            self.check_rank(config)?;
        }
        let mut index = 0;
        for layer in &mut self.layers {
            for proj in &mut layer.proj {
                let inp = proj.w.cols;
                for slice in proj.slices.iter_mut().filter(|s| config.adapts(&s.path)) {
                    let [values_a, values_b] = initial(start, slice, config.r, inp, index)?;
                    index += 1;
                    slice.adapter = Some(Adapter {
                        a: Dense::matrix(b, config.r * inp, &values_a, train)?,
                        b: Dense::matrix(b, slice.out * config.r, &values_b, train)?,
                        rank: config.r,
                        scale: config.scale(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Every named target must exist; a name that matches nothing is a typing error, not an empty adapter.
    fn check_targets(&self, config: &LoraConfig) -> Result {
        let Targets::Named(targets) = &config.targets else { return Ok(()) };
        let paths: Vec<&str> = self.slices().map(|(_, s)| s.path.as_str()).collect();
        for target in targets {
            if !paths.iter().any(|p| ends_with_module(p, target)) {
                let known = self.target_names(&Targets::AllLinear).join(", ");
                return Err(Error::Recipe {
                    origin: "lora.target_modules".into(),
                    why: format!("\"{target}\" is no projection of this model; choose from {known}, or \"all-linear\""),
                });
            }
        }
        if targets.is_empty() {
            return Err(Error::Recipe { origin: "lora.target_modules".into(), why: "the list is empty".into() });
        }
        Ok(())
    }

    /// A rank beyond every matrix that it adapts is a typing error, and would exhaust the memory.
    fn check_rank(&self, config: &LoraConfig) -> Result {
        let adapted = self.slices().filter(|(_, s)| config.adapts(&s.path));
        let largest = adapted.map(|(inp, s)| inp.max(s.out)).max().unwrap_or(0);
        if config.r <= largest {
            return Ok(());
        }
        let why = format!("{} is more than any adapted projection has rows or columns ({largest}); lower it", config.r);
        Err(Error::Recipe { origin: "lora.r".into(), why })
    }

    /// All slices with their projection's input features.
    pub fn slices(&self) -> impl Iterator<Item = (usize, &Slice<B>)> {
        let proj = self.layers.iter().flat_map(|l| l.proj.iter());
        proj.flat_map(|p| p.slices.iter().map(|s| (p.w.cols, s)))
    }

    /// The last parts of the adapted module paths, sorted: PEFT's `target_modules`.
    pub fn target_names(&self, targets: &Targets) -> Vec<String> {
        if let Targets::Named(names) = targets {
            let mut names = names.clone();
            names.sort();
            return names;
        }
        let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_string();
        let mut names: Vec<String> = self.slices().map(|(_, s)| last(&s.path)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Every adapter matrix as PEFT saves it; `read` picks what is read of each (its values or its gradient).
    pub fn export_adapter<T: Copy>(&self, read: impl Fn(&Dense<B>) -> Result<Vec<T>>) -> Result<Vec<Exported<T>>> {
        let mut tensors = Vec::new();
        for (inp, slice) in self.slices() {
            let Some(adapter) = &slice.adapter else { continue };
            let [name_a, name_b] = peft_names(&slice.path);
            let b = row_layout(slice.layout).store(slice.out, adapter.rank, &read(&adapter.b)?);
            tensors.push((name_a, [adapter.rank, inp], read(&adapter.a)?));
            tensors.push((name_b, [slice.out, adapter.rank], b));
        }
        Ok(tensors)
    }
}

/// PEFT keeps A and B as `Linear` matrices even beside a Conv1D; only the order of output rows follows the checkpoint.
fn row_layout(layout: Layout) -> Layout {
    if layout == Layout::Transposed { Layout::Plain } else { layout }
}

fn initial<B: Backend>(
    start: &AdapterInit, slice: &Slice<B>, r: usize, inp: usize, index: u32,
) -> Result<[Vec<f32>; 2]> {
    match start {
        AdapterInit::Shapes => Ok([Vec::new(), Vec::new()]),
        AdapterInit::Fresh { seed } => {
            let (mut stream, bound) = (Stream::new(*seed, Purpose::Adapter, index), 1.0 / (inp as f64).sqrt());
            let a = (0..r * inp).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
            Ok([a, vec![0.0; slice.out * r]])
        }
        AdapterInit::File(file) => {
            let [name_a, name_b] = peft_names(&slice.path);
            let b = file.read(&name_b, &[slice.out, r]).map(Values::into_f32)?;
            let a = file.read(&name_a, &[r, inp]).map(Values::into_f32)?;
            Ok([a, row_layout(slice.layout).load(slice.out, r, &b)])
        }
    }
}

/// Trainable values that `config` adds to a model of this shape.
pub fn parameters(spec: &super::config::Spec, config: &LoraConfig) -> usize {
    let mut total = 0;
    for layer in 0..spec.layers {
        for module in Module::ALL {
            let slices = names::slices(spec, layer, module);
            let adapted = slices.iter().filter(|s| config.adapts(&s.path));
            total += adapted.map(|s| config.r * (names::fan_in(spec, module) + s.out)).sum::<usize>();
        }
    }
    total
}
