//! Clipping and AdamW.

use super::{Bound, Lab, Output};
use crate::compare;
use eyekern::backend::cpu::Cpu;
use eyekern::backend::cuda::device::{Args, Device, Product};
use eyekern::backend::cuda::emulated::{Memory, Schedule};
use eyekern::backend::cuda::emulation::Emulated;
use eyekern::backend::cuda::{Cuda, Geometry, TensorMap};
use eyekern::backend::moments::{Codes, GROUP, Moments, Optim, SMALLEST};
use eyekern::backend::{AdamW, Backend, F, Ids, Number, S, Update, scalar};
use eyekern::error::Result;
use std::cell::RefCell;
use std::rc::Rc;

const ADAMW: AdamW = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };

/// Nothing at all, less than a pack of eight, whole packs, tails, a block's 16,384 values and one less and one more,
/// several blocks; every second one decays. With moments in 8 bits, most end inside a group.
const LENGTHS: [usize; 12] = [0, 1, 7, 8, 300, 16_383, 16_384, 16_385, 0, 50_001, 13, 0];

/// A parameter and what the optimiser keeps beside it.
struct Tensor<B: Backend> {
    weight: F<B>,
    master: S<B>,
    grad: S<B>,
    moments: Moments<B>,
    len: usize,
    decay: bool,
}

/// Moments in full are somewhere; those in 8 bits start at 0, as in training.
fn tensors<B: Backend>(lab: &mut Lab<B>, lengths: &[usize], optim: Optim) -> Vec<Tensor<B>> {
    let mut one = |(i, &len): (usize, &usize)| {
        let values = lab.values(len, 1.0);
        let v: Vec<f64> = lab.values(len, 0.3).into_iter().map(f64::abs).collect();
        let (weight, master) = (lab.float_of(&values), lab.stat_of(&values));
        let (grad, m) = (lab.stat(len, 0.7), lab.stat(len, 0.2));
        let moments = match Moments::new(lab.b, len, optim).expect("memory") {
            Moments::Full { .. } => Moments::Full { m, v: lab.stat_of(&v) },
            coded => coded,
        };
        Tensor { weight, master, grad, moments, len, decay: i % 2 == 0 }
    };
    lengths.iter().enumerate().map(&mut one).collect()
}

fn scalars<B: Backend>(lab: &Lab<B>, max_norm: f64) -> S<B> {
    let mut values = vec![0.0; scalar::SCALARS];
    (values[scalar::LR], values[scalar::MAX_NORM]) = (0.01, max_norm);
    (values[scalar::BIAS1], values[scalar::BIAS2]) = (1.0 - 0.9f64.powi(3), 1.0 - 0.999f64.powi(3));
    lab.stat_of(&values)
}

fn step<B: Backend>(b: &B, tensors: &mut [Tensor<B>], key: &Ids<B>, scalars: &mut S<B>) {
    let grads: Vec<_> = tensors.iter().map(|t| (&t.grad, t.len)).collect();
    b.clip(&grads, scalars).expect("clip");
    let mut updates: Vec<Update<B>> = Vec::new();
    for Tensor { weight, master, grad, moments, len, decay } in tensors {
        updates.push(Update { len: *len, weight, master: B::MASTER.then_some(master), grad, moments, decay: *decay });
    }
    b.adamw(ADAMW, key, scalars, &mut updates).expect("adamw");
}

/// Everything that a step writes.
fn state<B: Backend>(lab: &Lab<B>, tensors: &[Tensor<B>]) -> Vec<Output> {
    let mut out = Vec::new();
    for t in tensors {
        let weight = lab.read(&t.weight, t.len);
        // the reference has no masters: its weights are as exact
        let exact = if B::MASTER { lab.read_stat(&t.master, t.len) } else { weight.clone() };
        let rounded = |x: &f64| B::Float::of(*x).f64();
        assert!(weight.iter().copied().eq(exact.iter().map(rounded)), "a weight is its master, rounded");
        out.push(("master", Bound::Rms(1e-6), exact));
        match &t.moments {
            Moments::Full { m, v } => {
                out.push(("m", Bound::Rms(1e-6), lab.read_stat(m, t.len)));
                out.push(("v", Bound::Rms(1e-6), lab.read_stat(v, t.len)));
            }
            Moments::Coded { m, root } => {
                let signed = |code: u8| value(code & 0x7f, 127, 8) * if code < 0x80 { 1.0 } else { -1.0 };
                // a code that is rounded the other way moves one value by 1/8 or 1/16
                out.push(("m in 8 bits", Bound::Rms(2e-3), decoded(lab, m, t.len, signed)));
                out.push(("root in 8 bits", Bound::Rms(2e-3), decoded(lab, root, t.len, |code| value(code, 255, 16))));
            }
        }
    }
    out
}

/// What a code is worth: 1 for `top`, half of that `octave` codes below it, in a line between.
fn value(code: u8, top: i32, octave: i32) -> f64 {
    let (octaves, rest) = ((i32::from(code) - top).div_euclid(octave), (i32::from(code) - top).rem_euclid(octave));
    if code == 0 { 0.0 } else { 2f64.powi(octaves) * (1.0 + f64::from(rest) / f64::from(octave)) }
}

fn decoded<B: Backend>(lab: &Lab<B>, part: &Codes<B>, len: usize, value: impl Fn(u8) -> f64) -> Vec<f64> {
    let (mut codes, absmax) = (vec![0; len], lab.read_stat(&part.absmax, len.div_ceil(GROUP)));
    lab.b.read(&part.codes, &mut codes).expect("reads");
    codes.iter().enumerate().map(|(i, &code)| value(code) * absmax[i / GROUP]).collect()
}

/// Two steps on all tensors, then one on a few of them, so that what is kept between steps is used and replaced.
fn steps<B: Backend>(lab: &mut Lab<B>, max_norm: f64, optim: Optim) -> Vec<Output> {
    let (mut tensors, mut scalars) = (tensors(lab, &LENGTHS, optim), scalars(lab, max_norm));
    let mut out = Vec::new();
    for (i, range) in (7..).zip([0..LENGTHS.len(), 0..LENGTHS.len(), 4..LENGTHS.len() - 2]) {
        let key = lab.ids_of(&[3, i]);
        step(lab.b, &mut tensors[range], &key, &mut scalars);
        out.push(("scalars", Bound::Rms(1e-6), lab.read_stat(&scalars, scalar::SCALARS)));
        out.extend(state(lab, &tensors));
    }
    out
}

#[test]
fn steps_of_the_optimiser() {
    for max_norm in [0.0, 1.0, 1e6] {
        compare!(format!("max_norm {max_norm}"), |lab: &mut Lab<_>| steps(lab, max_norm, Optim::AdamW));
    }
    compare!("8 bits", |lab: &mut Lab<_>| steps(lab, 1.0, Optim::AdamW8bit));
}

/// What is there before a step whose gradient has `bad` somewhere, the norm, and what is there after it.
fn spoilt<B: Backend>(b: &B, bad: f64, optim: Optim) -> (Vec<Output>, f64, Vec<Output>) {
    let mut lab = Lab::new(b, 1);
    let (mut tensors, mut scalars) = (tensors(&mut lab, &[9, 20_000, 3], optim), scalars(&lab, 1.0));
    let mut grad = lab.values(20_000, 1.0);
    grad[17_001] = bad;
    tensors[1].grad = lab.stat_of(&grad);
    let (before, key) = (state(&lab, &tensors), lab.ids_of(&[1, 2]));
    step(b, &mut tensors, &key, &mut scalars);
    (before, lab.read_stat(&scalars, scalar::SCALARS)[scalar::SQ_NORM], state(&lab, &tensors))
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    fn holds<B: Backend>(b: &B) {
        for optim in [Optim::AdamW, Optim::AdamW8bit] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let (before, norm, after) = spoilt(b, bad, optim);
                assert!(!norm.is_finite());
                let [before, after] = [&before, &after].map(|out| out.iter().map(|x| &x.2).collect::<Vec<_>>());
                assert_eq!(before, after);
            }
            let (before, norm, after) = spoilt(b, 0.5, optim);
            assert!(norm.is_finite());
            assert!(before.iter().zip(&after).all(|(x, y)| x.2 != y.2), "a finite norm moves every tensor");
        }
    }
    holds(&Cpu::<f64>::new(1).expect("a CPU"));
    holds(&Cpu::<f32>::new(2).expect("a CPU"));
    match super::device::on_gpu() {
        true => super::with_gpu(false, holds),
        false => super::schedules(false).take(1).for_each(|cuda| holds(&cuda)),
    }
}

/// An emulated device that writes down what it is asked for.
struct Watched {
    device: Emulated,
    log: Rc<RefCell<Vec<String>>>,
}

impl Watched {
    fn note(&self, what: &str) {
        self.log.borrow_mut().push(what.into());
    }
}

impl Device for Watched {
    type Memory = Memory<u8>;

    fn alloc(&self, bytes: usize) -> Result<Memory<u8>> {
        self.note("alloc");
        self.device.alloc(bytes)
    }
    fn address(memory: &Memory<u8>) -> u64 {
        Emulated::address(memory)
    }
    fn hopper(&self) -> bool {
        self.device.hopper()
    }
    fn tensor_map(&self, memory: &Memory<u8>, shape: [usize; 2]) -> Result<TensorMap> {
        self.device.tensor_map(memory, shape)
    }
    fn upload(&self, to: &mut Memory<u8>, bytes: &[u8]) -> Result {
        self.note("upload");
        self.device.upload(to, bytes)
    }
    fn download(&self, from: &Memory<u8>, bytes: &mut [u8]) -> Result {
        self.note("download");
        self.device.download(from, bytes)
    }
    fn clear(&self, memory: &mut Memory<u8>, bytes: usize) -> Result {
        self.note("clear");
        self.device.clear(memory, bytes)
    }
    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result {
        self.note(kernel);
        self.device.launch(kernel, geometry, args)
    }
    fn product(&self, product: Product<Memory<u8>>, c: &mut Memory<u8>) -> Result {
        self.note("product");
        self.device.product(product, c)
    }
}

/// However many tensors there are: three launches, four with moments in 8 bits, and from the second step on nothing
/// else.
#[test]
fn a_step_is_three_launches() {
    for (optim, launches) in [
        (Optim::AdamW, &["square_sum", "clip_factor", "adamw"][..]),
        (Optim::AdamW8bit, &["square_sum", "clip_factor", "adamw", "adamw_8bit"]),
    ] {
        let log = Rc::new(RefCell::new(Vec::new()));
        let device = Emulated::open(Schedule { seed: 0, threads: 1 }).expect("an emulated device");
        let cuda = Cuda::new(Watched { device, log: log.clone() });
        let mut lab = Lab::new(&cuda, 1);
        let (mut tensors, mut scalars) = (tensors(&mut lab, &LENGTHS, optim), scalars(&lab, 1.0));
        let key = lab.ids_of(&[1, 2]);
        step(&cuda, &mut tensors, &key, &mut scalars);
        for _ in 0..2 {
            log.borrow_mut().clear();
            step(&cuda, &mut tensors, &key, &mut scalars);
            assert_eq!(*log.borrow(), launches);
        }
        // what another tensor has taken the place of is looked up anew
        tensors[4].grad = lab.stat(LENGTHS[4], 0.7);
        assert!(LENGTHS[4] < SMALLEST);
        log.borrow_mut().clear();
        step(&cuda, &mut tensors, &key, &mut scalars);
        let mut expected = launches.to_vec();
        expected.splice(2..2, ["alloc", "upload"]);
        expected.splice(0..0, ["alloc", "upload"]);
        assert_eq!(*log.borrow(), expected);
    }
}
