//! Moments in 8 bits: codes against their definition, steps against those with moments in full.

use eyekern::backend::cpu::{Cpu, Real};
use eyekern::backend::moments::{Codes, GROUP, Moments, Optim, SMALLEST};
use eyekern::backend::{AdamW, OptimOps, Update, scalar};
use eyekern::random::{Purpose, Stream, philox};

const ADAMW: AdamW = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
const LR: f64 = 0.01;

/// One parameter on its way through training.
struct Parameter<R: Real> {
    b: Cpu<R>,
    w: Vec<R>,
    moments: Moments<Cpu<R>>,
    step: u32,
}

impl<R: Real> Parameter<R> {
    fn new(len: usize, optim: Optim, threads: usize) -> Parameter<R> {
        let b = Cpu::new(threads).expect("a CPU");
        let moments = Moments::new(&b, len, optim).expect("memory");
        Parameter { b, w: vec![R::of(0.0); len], moments, step: 0 }
    }

    /// A step on this gradient; how far it moved each weight, in learning rates.
    fn step(&mut self, grad: &[f64]) -> Vec<f64> {
        self.step += 1;
        let mut scalars = vec![R::of(0.0); scalar::SCALARS];
        let mut set = |place: usize, x: f64| scalars[place] = R::of(x);
        set(scalar::LR, LR);
        set(scalar::CLIP, 1.0);
        set(scalar::BIAS1, 1.0 - ADAMW.beta1.powi(self.step as i32));
        set(scalar::BIAS2, 1.0 - ADAMW.beta2.powi(self.step as i32));
        let (before, grad) = (self.w.clone(), grad.iter().map(|&g| R::of(g)).collect());
        let (weight, moments) = (&mut self.w, &mut self.moments);
        let update = Update { len: before.len(), weight, master: None, grad: &grad, moments, decay: false };
        self.b.adamw(ADAMW, &vec![5, self.step], &scalars, &mut [update]).expect("a step");
        before.iter().zip(&self.w).map(|(a, b)| (a.f64() - b.f64()) / LR).collect()
    }

    fn coded(&self) -> [&Codes<Cpu<R>>; 2] {
        match &self.moments {
            Moments::Coded { m, root } => [m, root],
            Moments::Full { .. } => panic!("the moments are in full"),
        }
    }
}

/// What codes are worth: 0, then `per_octave` steps in a line from each power of two to the next, up to 1 for `top`.
fn table(top: i32, per_octave: i32) -> Vec<f64> {
    let worth = |code: i32| {
        let (octave, rest) = ((code - top).div_euclid(per_octave), (code - top).rem_euclid(per_octave));
        2f64.powi(octave) * (1.0 + f64::from(rest) / f64::from(per_octave))
    };
    (0..=top).map(|code| if code == 0 { 0.0 } else { worth(code) }).collect()
}

/// The 16 random bits of a value as a number in [0, 1).
fn chance(step: u32, value: usize) -> f64 {
    let word = philox([5, step], [(value / 8) as u32, 0, 0, u32::MAX])[value % 8 / 2];
    f64::from(word >> (16 * (value % 2)) & 0xffff) / 65536.0
}

/// The definition in f64, value by value: the gradient is constant in size and turns its sign now and then.
#[test]
fn codes_are_those_of_the_definition() {
    let len = SMALLEST + GROUP + 77;
    let mut stream = Stream::new(1, Purpose::Bench, 0);
    let sizes: Vec<f64> = (0..len).map(|_| (3.0 * stream.normal()).exp()).collect();
    let (signed, unsigned) = (table(127, 8), table(255, 16));
    let mut tested = Parameter::<f64>::new(len, Optim::AdamW8bit, 2);
    let (mut m, mut root) = (vec![0.0; len], vec![0.0; len]);
    let mut zeros = 0;
    for step in 1..=12 {
        // a group without any gradient, and values without one
        let grad = |i: usize| if i / GROUP == 3 || i % 50 == 7 { 0.0 } else { sizes[i] * stream.normal() };
        let grad: Vec<f64> = (0..len).map(grad).collect();
        tested.step(&grad);
        for (i, g) in grad.iter().enumerate() {
            m[i] = 0.9 * m[i] + 0.1 * g;
            root[i] = f64::sqrt(0.999 * root[i] * root[i] + 0.001 * g * g);
        }
        let [m_coded, root_coded] = tested.coded();
        for (group, first) in (0..len).step_by(GROUP).enumerate() {
            let places = first..len.min(first + GROUP);
            let most = |x: &[f64]| x[places.clone()].iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let (m_most, root_most) = (most(&m), most(&root));
            assert!((m_coded.absmax[group] - m_most).abs() <= 1e-12 * m_most, "step {step}, group {group}");
            assert!((root_coded.absmax[group] - root_most).abs() <= 1e-12 * root_most, "step {step}, group {group}");
            for i in places {
                let share = |x: f64, most: f64| if most > 0.0 { f64::from((x.abs() / most) as f32) } else { 0.0 };
                // the nearest; 0 stands where the code below the least would
                let x = share(m[i], m_most);
                let above = signed.partition_point(|&t| t <= x).min(127);
                let nearest = if x - signed[above - 1] < signed[above] - x { above - 1 } else { above };
                let expected = if x < 1.1875 / 65536.0 { 0 } else { nearest };
                let code = m_coded.codes[i];
                assert_eq!(usize::from(code & 0x7f), expected, "step {step}, m of {i}: {x}");
                assert_eq!(code >= 0x80, m[i] < 0.0, "step {step}, m of {i}");
                m[i] = signed[expected] * m_most * m[i].signum();
                // at random between the two around it, and never 0 where it is not
                let x = share(root[i], root_most);
                let below = unsigned.partition_point(|&t| t <= x) - 1;
                let between =
                    if below == 255 { 0.0 } else { (x - unsigned[below]) / (unsigned[below + 1] - unsigned[below]) };
                let code = usize::from(root_coded.codes[i]);
                if below > 0 {
                    let up = usize::from(between + chance(step, i) >= 1.0);
                    assert_eq!(code, below + up, "step {step}, root of {i}: {x}");
                } else {
                    assert_eq!(code, usize::from(x > 0.0), "step {step}, root of {i}: {x}");
                }
                zeros += usize::from(expected == 0 && m[i] != 0.0) + usize::from(x == 0.0);
                root[i] = unsigned[code] * root_most;
            }
        }
    }
    assert!(zeros > 1000, "zeros are met, too");
}

/// Root mean square of a difference and the change of mean size, relative to `reference`.
fn error(found: &[f64], reference: &[f64]) -> (f64, f64) {
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(reference).map(|(a, b)| square(a - b)).sum();
    let size = |x: &[f64]| x.iter().map(|x| x.abs()).sum::<f64>();
    ((difference / reference.iter().map(|&x| square(x)).sum::<f64>()).sqrt(), size(found) / size(reference) - 1.0)
}

/// Gradients of very different sizes, whose sizes drift apart as training goes on: steps stay those of moments in full,
/// to some noise that has no direction. (Rounded to the nearest, the second moment would stand still: steps that are a
/// third too small; a second moment that is rounded to 0: steps that are thousands of times too large.)
#[test]
fn steps_stay_close_to_those_with_moments_in_full() {
    for (spread, drift, sparse) in [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 0.0, 0.05)] {
        let len = 2 * SMALLEST;
        let mut stream = Stream::new(2, Purpose::Bench, 0);
        let sizes: Vec<f64> = (0..len).map(|_| (spread * stream.normal()).exp()).collect();
        let drifts: Vec<f64> = (0..len).map(|_| drift * stream.normal()).collect();
        let mut full = Parameter::<f32>::new(len, Optim::AdamW, 1);
        let mut coded = Parameter::<f32>::new(len, Optim::AdamW8bit, 1);
        let (mut found, mut reference, mut worst) = (Vec::new(), Vec::new(), 0.0f64);
        for step in 0..800 {
            let grad = |i: usize| {
                let there = stream.uniform() < sparse;
                let trend = 0.3 * (f64::from(step) / 20.0 + i as f64).sin();
                let size = sizes[i] * (drifts[i] * f64::from(step) / 800.0).exp();
                if there { size * (stream.normal() + trend) } else { 0.0 }
            };
            let grad: Vec<f64> = (0..len).map(grad).collect();
            let (a, b) = (coded.step(&grad), full.step(&grad));
            worst = a.iter().zip(&b).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
            if step >= 700 {
                found.extend(a);
                reference.extend(b);
            }
        }
        let (rms, size) = error(&found, &reference);
        println!("spread {spread}, drift {drift}, {sparse} there: rms {rms:.3}, size {size:+.3}, worst {worst:.2}");
        assert!(rms < 0.2, "spread {spread}, drift {drift}, {sparse} there: rms {rms}");
        assert!(size.abs() < 0.03, "spread {spread}, drift {drift}, {sparse} there: size {size}");
        assert!(worst < 2.0, "spread {spread}, drift {drift}, {sparse} there: worst {worst}");
    }
}

/// Results do not depend on the number of threads, nor on how often they are worked out.
#[test]
fn bits_do_not_depend_on_threads() {
    let len = 300_001;
    let run = |threads| {
        let mut stream = Stream::new(3, Purpose::Bench, 0);
        let mut parameter = Parameter::<f32>::new(len, Optim::AdamW8bit, threads);
        for _ in 0..3 {
            parameter.step(&(0..len).map(|_| stream.normal()).collect::<Vec<_>>());
        }
        let bits: Vec<u32> = parameter.w.iter().map(|w| w.to_bits()).collect();
        (bits, parameter.coded().map(|part| (part.codes.clone(), part.absmax.clone())))
    };
    assert!(run(1) == run(2));
    assert!(run(2) == run(3));
}

#[test]
fn small_tensors_keep_their_moments_in_full() {
    let b = Cpu::<f32>::new(1).expect("a CPU");
    let full = |len, optim| matches!(Moments::new(&b, len, optim).expect("memory"), Moments::Full { .. });
    assert!(full(SMALLEST - 1, Optim::AdamW8bit) && !full(SMALLEST, Optim::AdamW8bit));
    assert!(full(SMALLEST, Optim::AdamW));
}
