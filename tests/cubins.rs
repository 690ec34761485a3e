//! The gate of the compiled kernels: what each may cost, without a GPU and without NVIDIA's tools.
//!
//! tests/cubins.toml is the budget: for each kernel and architecture the registers of a thread, bytes of static shared
//! memory, bytes of stack (0: nothing spills), atomic operations and, on sm_90a, instructions of the main loop that it
//! has at most, and the tensor-core instructions that it has at least. A kernel that is not in it fails, and so does a
//! line of it without a kernel. A kernel that touches registers of a product under way fails, whatever the budget says.
//!
//! `EYEKERN_WRITE_BUDGET=1` writes what the kernels cost now, for a person to look at and commit; the stored cubins of
//! tests/fixtures/cubins too. Where the build had no compiler, the gate is ignored; with `EYEKERN_REQUIRE_NVRTC=1` it
//! fails.

use eyekern::backend::cuda::architecture::{ARCHITECTURES, wanted};
use eyekern::backend::cuda::cubin::{self, Instruction, Kernel};
use eyekern::backend::cuda::kernels::{COMPILER, CUBINS, SOURCES};
use eyekern::backend::cuda::nvrtc::{KernelSource, Nvrtc};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The compiler of scripts/fetch_nvrtc.py.
const PINNED: (i32, i32) = (12, 9);

/// Sources in tests/fixtures/cubins and the architectures for which their cubins are stored.
const STORED: [(&str, &str); 6] = [
    ("spilling.cu", "sm_90a"),
    ("tensor.cu", "sm_80"),
    ("tensor.cu", "sm_90a"),
    ("tensor.cu", "sm_120"),
    ("serialised.sm90.cu", "sm_90a"),
    ("flight.sm90.cu", "sm_90a"),
];

type Check = Result<(), Failed>;

fn main() {
    let required = flag("EYEKERN_REQUIRE_NVRTC");
    let compiled = COMPILER.is_some() || required;
    let nvrtc = Nvrtc::find(Some(&root().join("third_party/nvrtc")));
    let found = nvrtc.is_ok() || required;
    // one compiler for all checks
    let nvrtc: &'static Result<Nvrtc, String> = Box::leak(Box::new(nvrtc));

    let trials = vec![
        Trial::test("every_kernel_keeps_to_its_budget", gate).with_ignored_flag(!compiled),
        Trial::test("every_architecture_is_there", whole).with_ignored_flag(!required),
        Trial::test("the_assembler_has_no_complaint", quiet).with_ignored_flag(!compiled),
        Trial::test("reader_and_assembler_agree", agree).with_ignored_flag(!compiled),
        Trial::test("the_gate_sees_each_excess_and_shortfall", controls),
        Trial::test("the_gate_sees_a_spilling_kernel", spilling),
        Trial::test("complaints_are_seen", move || complaining(nvrtc)).with_ignored_flag(!found),
        Trial::test("the_stored_cubins_are_of_their_sources", move || stored(nvrtc)).with_ignored_flag(!found),
        Trial::test("a_header_changes_what_is_compiled", move || headers(nvrtc)).with_ignored_flag(!found),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn flag(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/cubins").join(name)
}

fn none_of(complaints: Vec<String>) -> Check {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n").into()) }
}

/// What a kernel may cost on an architecture. Absent numbers are 0.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    registers: u32,
    shared: u32,
    stack: u32,
    atomics: u32,
    /// Instructions of the main loop, on sm_90a.
    in_loop: u32,
    /// At least.
    hmma: u32,
    /// At least.
    hgmma: u32,
}

impl Limits {
    fn of(kernel: &Kernel) -> Limits {
        Limits {
            registers: kernel.registers,
            shared: kernel.shared,
            stack: kernel.stack,
            atomics: kernel.count(Instruction::Atomic),
            in_loop: kernel.in_loop,
            hmma: kernel.count(Instruction::Hmma),
            hgmma: kernel.count(Instruction::Hgmma),
        }
    }

    fn fields(&self) -> [(&'static str, u32); 7] {
        let Limits { registers, shared, stack, atomics, in_loop, hmma, hgmma } = *self;
        [
            ("registers", registers),
            ("shared", shared),
            ("stack", stack),
            ("atomics", atomics),
            ("in_loop", in_loop),
            ("hmma", hmma),
            ("hgmma", hgmma),
        ]
    }

    /// Where a kernel goes beyond these limits, or stays below.
    fn broken_by(&self, kernel: &Kernel) -> Vec<String> {
        let mut list = Vec::new();
        for ((name, limit), (_, found)) in self.fields().into_iter().zip(Limits::of(kernel).fields()) {
            let at_least = ["hmma", "hgmma"].contains(&name);
            if if at_least { found < limit } else { found > limit } {
                list.push(format!("{name} {found}, at {} {limit}", if at_least { "least" } else { "most" }));
            }
        }
        if self.stack == 0 && kernel.stack_accesses() > 0 {
            list.push(format!("{} accesses to the stack", kernel.stack_accesses()));
        }
        list.extend(kernel.fault());
        list
    }
}

#[derive(serde::Deserialize)]
struct Budget {
    /// The compiler whose figures these are: another allots other registers.
    nvrtc: String,
    kernels: BTreeMap<String, BTreeMap<String, Limits>>,
}

/// The kernels of all cubins as (architecture, kernel).
fn kernels() -> Result<Vec<(&'static str, Kernel)>, Failed> {
    let mut list = Vec::new();
    for cubin in CUBINS {
        let kernels =
            cubin::read(cubin.code).map_err(|why| format!("{} {}: {why}", cubin.source, cubin.architecture))?;
        list.extend(kernels.into_iter().map(|kernel| (cubin.architecture, kernel)));
    }
    Ok(list)
}

fn version() -> Result<String, Failed> {
    let (major, minor) = COMPILER.ok_or("built without NVRTC: run `python3 scripts/fetch_nvrtc.py` and build again")?;
    Ok(format!("{major}.{minor}"))
}

fn gate() -> Check {
    let (version, kernels) = (version()?, kernels()?);
    let file = root().join("tests/cubins.toml");
    if flag("EYEKERN_WRITE_BUDGET") {
        return Ok(std::fs::write(&file, budget(&version, &kernels))?);
    }
    let budget: Budget = toml::from_str(&std::fs::read_to_string(&file)?)?;
    if budget.nvrtc != version {
        return Err(format!("built with NVRTC {version}, but the budget is of NVRTC {}", budget.nvrtc).into());
    }
    none_of(compare(&budget, &kernels))
}

fn compare(budget: &Budget, kernels: &[(&str, Kernel)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut built: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (architecture, kernel) in kernels {
        built.entry(architecture).or_default().push(&kernel.name);
        match budget.kernels.get(&kernel.name).and_then(|limits| limits.get(*architecture)) {
            Some(limits) => complaints
                .extend(limits.broken_by(kernel).into_iter().map(|c| format!("{} {architecture}: {c}", kernel.name))),
            None => complaints.push(format!("{} {architecture}: not in the budget", kernel.name)),
        }
    }
    for (name, limits) in &budget.kernels {
        // an architecture that this build left out is not held against it
        let gone = |a: &&String| built.get(a.as_str()).is_some_and(|names| !names.contains(&name.as_str()));
        complaints.extend(limits.keys().filter(gone).map(|a| format!("{name} {a}: in the budget, but no such kernel")));
    }
    complaints
}

/// The budget as the kernels are now, a line for each architecture.
fn budget(version: &str, kernels: &[(&str, Kernel)]) -> String {
    let mut text = format!(
        "# What each kernel may cost: registers, bytes of static shared memory, bytes of stack and atomics at most,\n\
         # on sm_90a instructions of the main loop at most, tensor-core instructions at least; what is not named is\n\
         # 0. Held by tests/cubins.rs, rewritten by\n\
         #   EYEKERN_WRITE_BUDGET=1 cargo test --release --test cubins\n\
         nvrtc = \"{version}\"\n"
    );
    let mut by_name: BTreeMap<&str, Vec<(&str, Limits)>> = BTreeMap::new();
    for (architecture, kernel) in kernels {
        by_name.entry(&kernel.name).or_default().push((architecture, Limits::of(kernel)));
    }
    for (name, rows) in by_name {
        let _ = writeln!(text, "\n[kernels.{name}]");
        for (architecture, limits) in rows {
            let numbers = limits.fields().into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} = {n}"));
            let _ = writeln!(text, "{architecture:7} = {{ {} }}", numbers.collect::<Vec<_>>().join(", "));
        }
    }
    text
}

/// Where a compiler is required, nothing may be left out.
fn whole() -> Check {
    version()?;
    let missing = SOURCES.iter().flat_map(|source| {
        let built = |a: &str| CUBINS.iter().any(|cubin| (cubin.source, cubin.architecture) == (source.name, a));
        let wanted = ARCHITECTURES.into_iter().filter(|a| wanted(source.name, a));
        wanted.filter(move |a| !built(a)).map(|a| format!("{} is not compiled for {a}", source.name))
    });
    none_of(missing.collect())
}

/// Lines of a log that are no mere report: warnings, and advice that an instruction was serialised or ignored.
fn complaints(log: &str) -> Vec<String> {
    let bad = ["(C7", "Potential Performance Loss", "ignored", "warning"];
    log.lines().filter(|line| bad.iter().any(|part| line.contains(part))).map(str::to_string).collect()
}

fn quiet() -> Check {
    let of = |cubin: &eyekern::backend::cuda::kernels::Cubin| {
        let lines = complaints(cubin.log).into_iter();
        lines.map(|line| format!("{} {}: {line}", cubin.source, cubin.architecture)).collect::<Vec<_>>()
    };
    version()?;
    none_of(CUBINS.iter().flat_map(of).collect())
}

/// (kernel, registers, stack, shared) in the assembler's own words.
fn reported(log: &str) -> Vec<(String, u32, u32, u32)> {
    let before = |line: &str, unit: &str| -> u32 {
        let words = line.split_once(unit).map_or("", |(before, _)| before);
        words.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let (mut list, mut name, mut stack) = (Vec::new(), String::new(), 0);
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().unwrap_or("").to_string();
        } else if line.contains("bytes stack frame") {
            stack = before(line, " bytes stack frame");
        } else if line.contains("Used ") {
            list.push((name.clone(), before(line, " registers"), stack, before(line, " bytes smem")));
        }
    }
    list.sort();
    list
}

fn read_again(code: &[u8]) -> Result<Vec<(String, u32, u32, u32)>, Failed> {
    Ok(cubin::read(code)?.into_iter().map(|k| (k.name, k.registers, k.stack, k.shared)).collect())
}

fn agree() -> Check {
    version()?;
    for cubin in CUBINS {
        let (said, read) = (reported(cubin.log), read_again(cubin.code)?);
        if said != read || said.is_empty() {
            return Err(format!("{} {}: {said:?} said, {read:?} read", cubin.source, cubin.architecture).into());
        }
    }
    Ok(())
}

fn controls() -> Check {
    let fits = Limits { registers: 40, shared: 1024, stack: 0, atomics: 1, in_loop: 50, hmma: 8, hgmma: 2 };
    let mut kernel = Kernel {
        name: "k".into(),
        registers: 40,
        stack: 0,
        shared: 1024,
        parameters: vec![8],
        instructions: 100,
        counts: [0; Instruction::ALL.len()],
        threads: 384,
        wanted: vec![24, 48],
        in_loop: 50,
        hazards: Vec::new(),
    };
    for (instruction, n) in [(Instruction::Hmma, 8), (Instruction::Hgmma, 2), (Instruction::Atomic, 1)] {
        kernel.counts[instruction as usize] = n;
    }
    assert_eq!(fits.broken_by(&kernel), [""; 0]);
    let said = |limits: Limits| limits.broken_by(&kernel);
    assert_eq!(said(Limits { registers: 39, ..fits.clone() }), ["registers 40, at most 39"]);
    assert_eq!(said(Limits { shared: 1023, ..fits.clone() }), ["shared 1024, at most 1023"]);
    assert_eq!(said(Limits { atomics: 0, ..fits.clone() }), ["atomics 1, at most 0"]);
    assert_eq!(said(Limits { in_loop: 49, ..fits.clone() }), ["in_loop 50, at most 49"]);
    assert_eq!(said(Limits { hmma: 9, ..fits.clone() }), ["hmma 8, at least 9"]);
    assert_eq!(said(Limits { hgmma: 3, ..fits.clone() }), ["hgmma 2, at least 3"]);
    let parse = |name: &str| -> Budget {
        let text = budget("12.9", &[("sm_80", Kernel { name: name.into(), ..kernel.clone() })]);
        toml::from_str(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    };
    let built = [("sm_80", kernel.clone())];
    // what is written is what is read
    assert_eq!(compare(&parse("k"), &built), [""; 0]);
    assert_eq!(parse("k").kernels["k"]["sm_80"], fits);
    let both = ["k sm_80: not in the budget", "gone sm_80: in the budget, but no such kernel"];
    assert_eq!(compare(&parse("gone"), &built), both);
    assert_eq!(compare(&parse("k"), &[("sm_89", kernel.clone())]), ["k sm_89: not in the budget"]);
    let waiting = Kernel { wanted: vec![56, 24], ..kernel.clone() };
    assert_eq!(fits.broken_by(&waiting), ["setmaxnreg waits forever for 16 registers"]);
    let touching = Kernel { hazards: vec!["instruction 0x221 at 0x10 touches R24".into()], ..kernel.clone() };
    assert_eq!(fits.broken_by(&touching), ["instruction 0x221 at 0x10 touches R24"]);
    let mut accessing = kernel;
    accessing.counts[Instruction::Stl as usize] = 3;
    assert_eq!(fits.broken_by(&accessing), ["3 accesses to the stack"]);
    Ok(())
}

fn spilling() -> Check {
    let kernels = cubin::read(&std::fs::read(fixture("spilling.sm_90a.cubin"))?)?;
    let broken = Limits { registers: 32, ..Limits::default() }.broken_by(&kernels[0]);
    let accesses = kernels[0].stack_accesses();
    let expected = [format!("stack {}, at most 0", kernels[0].stack), format!("{accesses} accesses to the stack")];
    assert_eq!(broken, expected);
    assert!(kernels[0].stack > 0 && accesses > 20, "{kernels:?}");
    Ok(())
}

fn complaining(nvrtc: &Result<Nvrtc, String>) -> Check {
    let nvrtc = nvrtc.as_ref()?;
    let log = |name: &str| -> Result<Vec<String>, Failed> {
        let text = std::fs::read_to_string(fixture(name))?;
        Ok(complaints(&nvrtc.compile(KernelSource { name, text: &text }, &[], "sm_90a")?.log))
    };
    let serialised = log("serialised.sm90.cu")?;
    assert!(serialised.iter().any(|line| line.contains("C7511")), "{serialised:?}");
    let ignored = log("ignored.sm90.cu")?;
    assert!(ignored.iter().any(|line| line.contains("'setmaxnreg' ignored")), "{ignored:?}");
    assert_eq!(log("tensor.cu")?, [""; 0]);

    let short = |text| nvrtc.compile(KernelSource { name: "k.cu", text }, &[], "sm_80");
    let warned = complaints(&short("extern \"C\" __global__ void k(int* x) { int unused; *x = 1; }")?.log);
    assert!(warned.iter().any(|line| line.contains("k.cu(1): warning")), "{warned:?}");
    let error = short("__global__ void k() { wrong; }").err().unwrap_or_default();
    assert!(error.contains("k.cu(1): error: identifier \"wrong\" is undefined"), "{error}");
    Ok(())
}

/// A stored cubin `tensor.sm_80.cubin` is what the compiler makes of `tensor.cu`, byte for byte.
fn stored(nvrtc: &Result<Nvrtc, String>) -> Check {
    let nvrtc = nvrtc.as_ref()?;
    for (source, architecture) in STORED {
        let path = fixture(&format!("{}.{architecture}.cubin", source.trim_end_matches(".cu")));
        let text = std::fs::read_to_string(fixture(source))?;
        let made = nvrtc.compile(KernelSource { name: source, text: &text }, &[], architecture)?;
        let read = read_again(&made.cubin)?;
        assert_eq!(reported(&made.log), read, "{source} {architecture}");
        if flag("EYEKERN_WRITE_BUDGET") {
            std::fs::write(&path, &made.cubin)?;
        } else if std::fs::read(&path)? != made.cubin && nvrtc.version == PINNED {
            return Err(format!("{} is not of its source", path.display()).into());
        }
    }
    Ok(())
}

fn headers(nvrtc: &Result<Nvrtc, String>) -> Check {
    let nvrtc = nvrtc.as_ref()?;
    let file = KernelSource {
        name: "k.cu",
        text: "#include \"v.cuh\"\nextern \"C\" __global__ void k(int* x) { *x = VALUE; }",
    };
    let with = |text| nvrtc.compile(file, &[KernelSource { name: "v.cuh", text }], "sm_80").map(|c| (c.cubin, c.log));
    let (one, two) = (with("#define VALUE 1")?, with("#define VALUE 2")?);
    assert!(one != two && one == with("#define VALUE 1")?);
    Ok(())
}
