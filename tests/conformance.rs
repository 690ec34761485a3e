//! The instructions behind kernels/prim.cuh and sm90.cuh, one wrapper after the other: does the emulator do what a GPU
//! does? Test kernels run on both, on the same inputs.
//!
//! Moves, shuffles, conversions, ldmatrix, copies and barriers are compared bit for bit, and so are products of whole
//! numbers, which f32 sums hold exactly. Products of random numbers and approximate functions may differ in rounding:
//! each is held to the bound that the PTX ISA gives, against f64.
//!
//! `EYEKERN_DEVICE=cuda` compares with the first GPU, whose test kernels NVRTC compiles at the start; with `emulated`
//! it is the emulator under another schedule, which tests this file. Without it the comparisons are listed as ignored.

use eyekern::backend::cuda::driver::{Block, Driver};
use eyekern::backend::cuda::emulated::{Emulator, Memory, Schedule};
use eyekern::backend::cuda::nvrtc::KernelSource;
use eyekern::backend::cuda::{Arg, Geometry};
use eyekern::random::{Purpose, Stream};
use half::bf16;
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;

type Check = Result<(), Failed>;

/// Outputs of a launch.
type Run = dyn Fn(&Launch) -> Vec<u8>;

const PRIMITIVES: KernelSource =
    KernelSource { name: "primitives.cu", text: include_str!("../kernels/tests/primitives.cu") };
const HOPPER: KernelSource = KernelSource { name: "gemm.sm90.cu", text: include_str!("../kernels/tests/gemm_sm90.cu") };

/// An argument of a kernel.
enum Operand {
    /// Memory with these bytes.
    Input(Vec<u8>),
    /// Memory of so many bytes, which come back. It starts with all bits set.
    Output(usize),
    /// A number.
    Int(i32),
    /// A bf16 matrix `[rows, columns]` for TMA, in boxes of `[rows, columns]`.
    Matrix(Vec<u8>, [usize; 2], [u32; 2]),
}

/// One launch.
struct Launch {
    kernel: &'static str,
    geometry: Geometry,
    operands: Vec<Operand>,
}

impl Launch {
    /// The outputs, end to end, on a device with these means of memory and launch.
    fn run<M>(
        &self, upload: impl Fn(&[u8]) -> M, arg: impl Fn(&M) -> Arg, map: impl Fn(&M, [usize; 2], [u32; 2]) -> Arg,
        launch: impl Fn(&[Arg]), download: impl Fn(&M, usize) -> Vec<u8>,
    ) -> Vec<u8> {
        let memory: Vec<M> = self
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Input(bytes) | Operand::Matrix(bytes, ..) => upload(bytes),
                Operand::Output(bytes) => upload(&vec![0xff; *bytes]),
                Operand::Int(_) => upload(&[0, 0]),
            })
            .collect();
        let args: Vec<Arg> = (self.operands.iter().zip(&memory))
            .map(|(operand, memory)| match operand {
                Operand::Int(n) => Arg::I32(*n),
                Operand::Matrix(_, shape, boxes) => map(memory, *shape, *boxes),
                _ => arg(memory),
            })
            .collect();
        launch(&args);
        let outputs = self.operands.iter().zip(&memory).filter_map(|(operand, memory)| match operand {
            Operand::Output(bytes) => Some(download(memory, *bytes)),
            _ => None,
        });
        outputs.flatten().collect()
    }

    fn emulated(&self, seed: u64) -> Vec<u8> {
        let on = Emulator::new(64 << 20, Schedule { seed, threads: 2 });
        self.run(
            // halves of words, as the matrices have them
            |bytes| on.upload::<u16>(&bytemuck::pod_collect_to_vec(bytes)).expect("memory"),
            Memory::arg,
            |memory, shape, boxes| Arg::Map(on.tensor_map::<u16>(memory.address(), shape, boxes, 128).expect("a map")),
            |args| {
                // SAFETY: every access of these kernels goes through a wrapper, which the emulator checks.
                unsafe { on.launch(self.kernel, self.geometry, args) }.expect("runs");
            },
            |memory, _| bytes(&memory.read().expect("reads")),
        )
    }

    fn on(&self, driver: &Driver) -> Vec<u8> {
        self.run(
            |bytes| {
                let mut block = driver.alloc(bytes.len()).expect("memory");
                driver.write(&mut block, 0, bytes).expect("writes");
                block
            },
            |block| Arg::Address(block.address()),
            |block, shape, boxes| Arg::Map(driver.tensor_map(block, shape, boxes).expect("a map")),
            |args| driver.launch(self.kernel, self.geometry, args).expect("launches"),
            |block: &Block, bytes| {
                let mut host = vec![0; bytes];
                driver.read(block, 0, &mut host).expect("reads");
                host
            },
        )
    }
}

// ---- inputs

fn bytes<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

fn words(n: usize) -> Vec<u32> {
    let mut stream = Stream::new(3, Purpose::Init, 0);
    (0..n).map(|_| stream.word()).collect()
}

/// In +-1, exact in bf16.
fn fractions(n: usize, seed: u32) -> Vec<bf16> {
    let mut stream = Stream::new(3, Purpose::Init, seed);
    (0..n).map(|_| bf16::from_f64(2.0 * stream.uniform() - 1.0)).collect()
}

/// From -8 to 7: sums of thousands of their products are exact in f32.
fn whole(n: usize, seed: u32) -> Vec<bf16> {
    let mut stream = Stream::new(4, Purpose::Init, seed);
    (0..n).map(|_| bf16::from_f64(f64::from(stream.below(16)) - 8.0)).collect()
}

/// Every exponent and sign, with infinities, NaN, subnormal and tied values among them.
fn floats() -> Vec<f32> {
    let mut all: Vec<f32> = words(2048).into_iter().map(f32::from_bits).collect();
    all.extend((0..1024u32).map(|i| f32::from_bits((i << 22) | 0x8000)));
    all.extend((0..1024u32).map(|i| f32::from_bits((i << 22) | 0x1_8000)));
    all
}

// ---- launches

fn line(kernel: &'static str, blocks: usize, threads: u32, shared: u32, operands: Vec<Operand>) -> Launch {
    Launch { kernel, geometry: Geometry::line(blocks as u32, threads, shared), operands }
}

/// Whose results are the same to the bit.
fn exact() -> Vec<(&'static str, Launch)> {
    use Operand::{Input, Int, Output};
    let x = floats();
    let n = x.len();
    let (a, b) = (whole(256, 1), whole(128, 2));
    let c: Vec<f32> = whole(128, 3).into_iter().map(bf16::to_f32).collect();
    vec![
        ("lanes", line("test_lanes", 1, 32, 0, vec![Input(bytes(&words(32))), Output(384)])),
        ("moves", line("test_moves", 1, 32, 0, vec![Input(bytes(&words(128))), Output(3072)])),
        ("copies", line("test_copies", 1, 32, 1536, vec![Input(bytes(&words(384))), Output(1536)])),
        ("conversions", line("test_conversions", n / 32, 32, 0, vec![Input(bytes(&x)), Output(16 * n), Int(n as i32)])),
        ("ldmatrix", line("test_ldmatrix", 1, 32, 512, vec![Input(bytes(&words(128))), Output(512), Output(512)])),
        (
            "mma of whole numbers",
            line("test_mma", 1, 32, 0, vec![Input(bytes(&a)), Input(bytes(&b)), Input(bytes(&c)), Output(512)]),
        ),
        (
            "named barriers",
            line("test_named_barriers", 1, 64, 4, vec![Input(bytes(&fractions_f32(40))), Output(160), Int(40)]),
        ),
    ]
}

fn fractions_f32(n: usize) -> Vec<f32> {
    fractions(n, 9).into_iter().map(bf16::to_f32).collect()
}

fn random_mma() -> (Launch, Vec<f64>, Vec<f64>) {
    let (a, b, c) = (fractions(256, 5), fractions(128, 6), fractions_f32(128));
    let operands =
        vec![Operand::Input(bytes(&a)), Operand::Input(bytes(&b)), Operand::Input(bytes(&c)), Operand::Output(512)];
    let (expected, size) = product(&a, &b, 16, 8, 16, |i| f64::from(c[i]));
    (line("test_mma", 1, 32, 0, operands), expected, size)
}

/// `c + a bᵀ` in f64, and the sum of the absolute values of its terms.
fn product(a: &[bf16], b: &[bf16], m: usize, n: usize, k: usize, c: impl Fn(usize) -> f64) -> (Vec<f64>, Vec<f64>) {
    let terms = |at: usize| (0..k).map(move |i| (at / n * k + i, at % n * k + i));
    let value = |(i, j): (usize, usize)| a[i].to_f64() * b[j].to_f64();
    let sums = (0..m * n).map(|at| terms(at).map(value).sum::<f64>() + c(at));
    let sizes = (0..m * n).map(|at| terms(at).map(|t| value(t).abs()).sum::<f64>() + c(at).abs());
    (sums.collect(), sizes.collect())
}

/// 128 x 256 x 384 through TMA, barriers that count bytes, and wgmma.
fn gemm(a: &[bf16], b: &[bf16]) -> Launch {
    let operands = vec![
        Operand::Matrix(bytes(a), [128, 384], [64, 64]),
        Operand::Matrix(bytes(b), [256, 384], [128, 64]),
        Operand::Output(128 * 256 * 4),
        Operand::Int(384),
        Operand::Int(256),
    ];
    Launch {
        kernel: "test_gemm_sm90",
        geometry: Geometry { grid: [2, 2, 1], block: [256, 1, 1], shared: 98368 },
        operands,
    }
}

fn stored(a: &[bf16], b: &[bf16]) -> Launch {
    let operands = vec![Operand::Input(bytes(a)), Operand::Input(bytes(b)), Operand::Output(64 * 128 * 4)];
    line("test_wgmma_stored", 1, 128, 24576, operands)
}

/// The other shapes, three of them with the left operand in registers: `a bᵀ`, `a` times half of `b2`, `a b2`, `a bᵀ`,
/// each row of the result end to end.
fn shapes(a: &[bf16], b: &[bf16], b2: &[bf16]) -> (Launch, Vec<f64>, Vec<f64>) {
    let operands = vec![
        Operand::Input(bytes(a)),
        Operand::Input(bytes(b)),
        Operand::Input(bytes(b2)),
        Operand::Output(64 * 320 * 4),
    ];
    let turned: Vec<bf16> = (0..128 * 64).map(|at| b2[at % 64 * 128 + at / 64]).collect();
    let parts = [b, &turned[..64 * 64], &turned, b].map(|b| product(a, b, 64, b.len() / 64, 64, |_| 0.0));
    let (values, sizes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    (line("test_wgmma_registers", 1, 128, 32768, operands), end_to_end(&values), end_to_end(&sizes))
}

/// Matrices of 64 rows as one, each row of it a row of each.
fn end_to_end(parts: &[Vec<f64>]) -> Vec<f64> {
    let row = |i: usize| parts.iter().flat_map(move |part| &part[i * part.len() / 64..(i + 1) * part.len() / 64]);
    (0..64).flat_map(row).copied().collect()
}

// ---- comparisons

fn same(name: &str, a: &[u8], b: &[u8]) -> Check {
    let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
    let first = a.iter().zip(b).position(|(a, b)| a != b);
    match first {
        None if a.len() == b.len() => Ok(()),
        _ => Err(format!("{name}: {differ} of {} bytes differ, the first at {first:?}", a.len()).into()),
    }
}

/// |x - expected| <= `ulps` x 2^-23 x size, for each.
fn near(name: &str, found: &[u8], expected: &[f64], size: &[f64], ulps: f64) -> Check {
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(found);
    for ((&x, &e), &size) in values.iter().zip(expected).zip(size) {
        let error = (f64::from(x) - e).abs() / (size * 2f64.powi(-23));
        if error <= ulps {
            continue;
        }
        return Err(format!("{name}: {x:e} for {e:e} is {error:.1} units of 2^-23 off, above {ulps}").into());
    }
    Ok(())
}

/// 2^x, log2 x and 1 / sqrt x, with the errors that the PTX ISA allows: 2^-22 of ex2, 2^-22 of lg2 (of its value, or of
/// 1 where x is between 1/2 and 2), 2^-22.9 of rsqrt; rounding to f32 adds half a unit.
fn functions(run: &Run) -> Check {
    let mut stream = Stream::new(5, Purpose::Init, 0);
    let x: Vec<f32> = (0..4096).map(|i| ((stream.uniform() * 2.0 - 1.0) * 2f64.powi(i % 13 - 6)) as f32).collect();
    let n = x.len();
    let operands = [Operand::Input(bytes(&x))].into_iter().chain((0..5).map(|_| Operand::Output(4 * n)));
    let out = run(&line("test_numbers", n / 32, 32, 0, operands.collect()));
    let part = |i: usize| &out[4 * n * i..4 * n * (i + 1)];
    let values = |f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(f64::from(x))).collect::<Vec<f64>>();
    let powers = values(&f64::exp2);
    near("ex2", part(2), &powers, &powers, 2.5)?;
    let logs = values(&|x| x.abs().log2());
    near("lg2", part(3), &logs, &logs.iter().map(|l| l.abs().max(1.0)).collect::<Vec<_>>(), 2.5)?;
    let roots = values(&|x| x.abs().sqrt().recip());
    near("rsqrt", part(4), &roots, &roots, 1.6)
}

/// The tensor cores add in f32 without rounding every sum: a few units in the last place of the largest sum so far, for
/// each step of 16 products.
fn random_products(hopper: bool, run: &Run) -> Check {
    let (launch, expected, size) = random_mma();
    near("mma", &run(&launch), &expected, &size, 4.0)?;
    if hopper {
        let (a, b) = (fractions(128 * 384, 7), fractions(256 * 384, 8));
        let (expected, size) = product(&a, &b, 128, 256, 384, |_| 0.0);
        near("wgmma", &run(&gemm(&a, &b)), &expected, &size, 24.0 * 4.0)?;
        let (launch, expected, size) = shapes(&a[..64 * 64], &b[..64 * 64], &b[64 * 64..3 * 64 * 64]);
        near("wgmma, other shapes", &run(&launch), &expected, &size, 4.0 * 4.0)?;
    }
    Ok(())
}

fn whole_products(run: &Run) -> Check {
    let (a, b) = (whole(128 * 384, 7), whole(256 * 384, 8));
    let (expected, _) = product(&a, &b, 128, 256, 384, |_| 0.0);
    same("TMA and wgmma", &run(&gemm(&a, &b)), &bytes(&expected.iter().map(|&x| x as f32).collect::<Vec<_>>()))?;
    let narrow = |expected: Vec<f64>| bytes(&expected.into_iter().map(|x| x as f32).collect::<Vec<_>>());
    let (launch, expected, _) = shapes(&a[..64 * 64], &b[..64 * 64], &b[64 * 64..3 * 64 * 64]);
    same("wgmma, other shapes", &run(&launch), &narrow(expected))?;
    let (a, b) = (&a[..64 * 64], &b[..128 * 64]);
    let (expected, _) = product(a, b, 64, 128, 64, |_| 0.0);
    same("wgmma, stored", &run(&stored(a, b)), &narrow(expected))
}

/// Every wrapper is called by a test kernel: one that is not here is compared nowhere.
fn every_wrapper_is_called() -> Check {
    let headers = [include_str!("../kernels/prim.cuh"), include_str!("../kernels/sm90.cuh")];
    let declared = headers.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let after = line.split("DEVICE ").nth(1).filter(|_| line.contains('(') && !line.starts_with('#'))?;
        after.split('(').next()?.split_whitespace().last().map(str::to_string)
    });
    let declared: BTreeSet<String> = declared.collect();
    let calls = format!("{}{}", PRIMITIVES.text, HOPPER.text);
    let missing: Vec<&String> = declared
        .iter()
        .filter(|name| ![format!("{name}("), format!("{name}<")].iter().any(|call| calls.contains(call.as_str())))
        .collect();
    if missing.is_empty() && declared.len() > 30 {
        return Ok(());
    }
    Err(format!("wrappers without a test kernel: {missing:?} of {}", declared.len()).into())
}

/// The device under test, and whether it is a Hopper. A test has its own thread, so each opens it for itself.
fn device() -> (Box<Run>, bool) {
    if std::env::var("EYEKERN_DEVICE").as_deref() != Ok("cuda") {
        return (Box::new(|launch| launch.emulated(5)), true);
    }
    let mut driver = Driver::open(0).expect("a GPU");
    let hopper = driver.properties().capability == (9, 0);
    driver.add(&PRIMITIVES).expect("compiles");
    if hopper {
        driver.add(&HOPPER).expect("compiles");
    }
    (Box::new(move |launch| launch.on(&driver)), hopper)
}

fn main() {
    let args = Arguments::from_args();
    let ignored = std::env::var_os("EYEKERN_DEVICE").is_none();
    let mut trials = vec![Trial::test("every wrapper has a test kernel", every_wrapper_is_called)];
    let mut add = |name: &str, check: Box<dyn FnOnce() -> Check + Send>| {
        trials.push(Trial::test(name.to_string(), check).with_ignored_flag(ignored));
    };
    for (i, (name, _)) in exact().into_iter().enumerate() {
        let check = move || {
            let launch = &exact()[i].1;
            same(name, &device().0(launch), &launch.emulated(0))
        };
        add(name, Box::new(check));
    }
    add("approximate functions", Box::new(|| functions(&*device().0)));
    let fractions = || {
        let (run, hopper) = device();
        random_products(hopper, &*run)
    };
    add("products of fractions", Box::new(fractions));
    let whole = || {
        let (run, hopper) = device();
        if hopper { whole_products(&*run) } else { Ok(()) }
    };
    add("Hopper's products of whole numbers", Box::new(whole));
    libtest_mimic::run(&args, trials).exit();
}
