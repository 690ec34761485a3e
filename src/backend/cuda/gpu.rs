//! A GPU as the backend's device: the driver's memory and launches, cublasLt's products.

#![allow(unsafe_code)] // products on addresses

use super::device::{Args, Device, Operand, Out, Product};
use super::driver::{Block, Driver};
use super::failure;
use super::lt::{Described, Lt};
use super::plans::{Choice, Plans, Problem};
use super::{Geometry, TensorMap};
use crate::error::Result;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Bytes of working memory for products: what the library's documentation advises for Hopper.
pub(in crate::backend) const WORKSPACE: usize = 32 << 20;

/// Runs of each candidate that are timed together, after one that is not.
const RUNS: usize = 3;

/// A GPU.
pub struct Gpu {
    lt: Lt,
    plans: RefCell<Plans>,
    workspace: Block,
    driver: Driver,
}

impl Gpu {
    /// Opens GPU `index`. Choices of algorithms are looked for in the folder `cache` and kept there, and those that are
    /// used are written to `record` (see `Plans::open`).
    pub fn open(index: usize, cache: Option<&Path>, record: Option<PathBuf>) -> Result<Gpu> {
        let driver = Driver::open(index)?;
        let version = driver.version();
        let lt = Lt::open(version).map_err(|why| failure::no_products(&why, version))?;
        let plans = RefCell::new(Plans::open(&driver.properties().gpu.name, lt.version(), cache, record));
        Ok(Gpu { workspace: driver.alloc(WORKSPACE)?, lt, plans, driver })
    }

    /// The file of the library of products.
    pub fn products(&self) -> &str {
        self.lt.place()
    }

    /// The driver beneath.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The algorithm for a product: a known one, else the fastest of those that the library offers.
    fn choose(
        &self, described: &Described, problem: &Problem, start: &dyn Fn(&Choice, Option<u64>) -> Result,
    ) -> Result<Choice> {
        let known = self.plans.borrow_mut().find(problem)?;
        let valid = known.filter(|choice| self.lt.does(described, choice, WORKSPACE));
        if let Some(choice) = valid {
            return Ok(choice);
        }
        let fail = |why: String| failure::product(&self.driver.properties().gpu, &why);
        let mut candidates =
            self.lt.candidates(described, problem, WORKSPACE).map_err(|why| fail(format!("{why} for {problem:?}")))?;
        if candidates.is_empty() {
            return Err(fail(format!("there is no algorithm for {problem:?}")));
        }
        if candidates.len() > 1 {
            self.time(problem, &mut candidates, start)?;
        }
        let choice = candidates.swap_remove(0);
        self.plans.borrow_mut().keep(problem, choice.clone())?;
        Ok(choice)
    }

    /// Sorts the candidates by the time that they take here. Those that add to c are tried on other memory; where there
    /// is none for that, the library's order stays.
    fn time(
        &self, problem: &Problem, candidates: &mut [Choice], start: &dyn Fn(&Choice, Option<u64>) -> Result,
    ) -> Result {
        let [m, n, _] = problem.shape;
        let width = if problem.out == Out::F32 { 4 } else { 2 };
        let scratch = problem.accumulate.then(|| self.driver.alloc((m * problem.ld[2] + n) * width)).transpose();
        let Ok(scratch) = scratch else { return Ok(()) };
        let other = scratch.as_ref().map(Block::address);
        for choice in candidates.iter_mut() {
            // what the library offers and cannot start goes last
            let runs = || (0..RUNS).try_for_each(|_| start(choice, other));
            let took = start(choice, other).and_then(|()| self.driver.time(runs));
            choice.microseconds = Some(took.map_or(f32::INFINITY, |ms| ms * 1e3 / RUNS as f32));
        }
        candidates.sort_by(|a, b| a.microseconds.unwrap_or(0.0).total_cmp(&b.microseconds.unwrap_or(0.0)));
        Ok(())
    }
}

/// What divides an address, up to what the library can make use of.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

/// Where a bf16 operand begins.
fn address(operand: &Operand<Block>) -> u64 {
    operand.memory.address() + 2 * operand.first as u64
}

impl Device for Gpu {
    type Memory = Block;

    fn alloc(&self, bytes: usize) -> Result<Block> {
        self.driver.alloc(bytes)
    }

    fn address(memory: &Block) -> u64 {
        memory.address()
    }

    fn hopper(&self) -> bool {
        self.driver.properties().capability == (9, 0) && self.driver.refused().is_none()
    }

    fn tensor_map(&self, memory: &Block, shape: [usize; 2]) -> Result<TensorMap> {
        self.driver.tensor_map(memory, shape, [64, 64])
    }

    fn upload(&self, to: &mut Block, bytes: &[u8]) -> Result {
        self.driver.write(to, 0, bytes)
    }

    fn download(&self, from: &Block, bytes: &mut [u8]) -> Result {
        self.driver.read(from, 0, bytes)
    }

    fn clear(&self, memory: &mut Block, bytes: usize) -> Result {
        self.driver.zero(memory, 0, bytes)
    }

    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result {
        self.driver.launch(kernel, geometry, &args.0)
    }

    fn product(&self, p: Product<Block>, c: &mut Block) -> Result {
        let (m, n, k) = p.shape;
        if m == 0 || n == 0 {
            return Ok(());
        }
        let width = if p.out == Out::F32 { 4 } else { 2 };
        let at = [address(&p.a), address(&p.b), c.address() + width * p.first as u64];
        let bias = p.bias.map(Block::address);
        let problem = Problem {
            shape: [m, n, k],
            ld: [p.a.ld, p.b.ld, p.ld],
            transposed: [p.a.transposed, p.b.transposed],
            out: p.out,
            accumulate: p.accumulate,
            bias: bias.is_some(),
            alignment: at.map(alignment),
        };
        let fail = |why: String| failure::product(&self.driver.properties().gpu, &format!("{why} for {problem:?}"));
        let described = self.lt.describe(&problem, bias).map_err(fail)?;
        let scales = [p.alpha as f32, if p.accumulate { 1.0 } else { 0.0 }];
        let start = |choice: &Choice, other: Option<u64>| {
            let [a, b, c] = at;
            let workspace = (self.workspace.address(), WORKSPACE);
            // SAFETY: blocks of this device that hold the shapes, as the backend's own sizes have it; the stream is the
            // device's, and what runs on it runs in order, the use of the workspace too.
            let started = unsafe {
                let (at, stream) = ([a, b, other.unwrap_or(c)], self.driver.stream());
                self.lt.start(&described, choice, scales, at, workspace, stream)
            };
            started.map_err(fail)
        };
        let choice = self.choose(&described, &problem, &start)?;
        start(&choice, None)
    }
}
