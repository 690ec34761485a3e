//! `eyekern doctor`: checks what this machine can train on, and what CUDA training lacks.

use super::Format;
use super::device;
use super::machine::{self, gib};
use super::proof::{self, HOPPER};
use super::terminal::{Terminal, counted};
use crate::backend::cpu::cores;
use crate::backend::cuda::devices::{self, Properties};
use crate::backend::cuda::driver::kernel_files;
use crate::backend::cuda::gpu::Gpu;
use crate::backend::cuda::kernels::{COMPILER, CUBINS, REMEDY, SOURCES};
use crate::backend::cuda::libraries::{self, Opened};
use crate::backend::cuda::nvrtc::Nvrtc;
use crate::backend::cuda::{architecture, failure, lt, products, selftest, system};
use crate::error::Result;
use clap::Args;
use serde_json::{Value, json};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern doctor
  eyekern doctor --format json

The exit code is 0 with and without CUDA, because the CPU can always train.";

/// Arguments of `eyekern doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// The result of one check.
struct Finding {
    subject: String,
    good: bool,
    /// The finding, or the defect and its remedy.
    says: String,
}

impl Finding {
    fn new(subject: &str, result: std::result::Result<String, String>) -> Finding {
        let good = result.is_ok();
        let (Ok(says) | Err(says)) = result;
        Finding { subject: subject.into(), good, says: failure::in_doctor(&says) }
    }

    fn object(&self) -> Value {
        json!({ "subject": self.subject, "ok": self.good, "says": self.says })
    }
}

/// Checks and prints. Missing CUDA is not a failure, because the CPU can train.
pub fn run(args: &DoctorArgs, out: &mut Terminal) -> Result {
    let processor = Processor::look();
    let (cuda, gpu) = cuda(out);
    match args.format {
        Format::Json => out.line(&format!(
            "{:#}",
            json!({
                "eyekern": env!("CARGO_PKG_VERSION"),
                "processor": processor.object(),
                "cuda": cuda.iter().map(Finding::object).collect::<Vec<_>>(),
                "can_train": { "cpu": true, "gpu": gpu },
            })
        )),
        Format::Text => {
            out.line(&format!("eyekern {}\n", env!("CARGO_PKG_VERSION")));
            section("CPU", &processor.findings(), out);
            section("CUDA (not needed for training on the CPU)", &cuda, out);
            out.line(&format!("can train on: the CPU{}", if gpu { " and the GPU" } else { "" }));
        }
    }
    Ok(())
}

fn section(title: &str, findings: &[Finding], out: &mut Terminal) {
    out.line(&out.bold(title));
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    for Finding { subject, good, says } in findings {
        let mark = if *good { "ok".to_string() } else { out.red("--") };
        out.line(&format!("  {mark}  {subject:width$}  {says}"));
    }
    out.line("");
}

struct Processor {
    cores: usize,
    instructions: Vec<&'static str>,
    memory: Option<u64>,
    available: Option<u64>,
}

impl Processor {
    fn look() -> Processor {
        Processor {
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            instructions: machine::instructions(),
            memory: machine::total(),
            available: machine::available(),
        }
    }

    fn object(&self) -> Value {
        json!({
            "cores": self.cores,
            "threads": cores(0),
            "instructions": self.instructions,
            "memory_bytes": self.memory,
            "available_bytes": self.available,
        })
    }

    fn findings(&self) -> Vec<Finding> {
        let memory = match (self.available, self.memory) {
            (Some(available), Some(all)) => Ok(format!("{:.1} of {:.1} GiB available", gib(available), gib(all))),
            _ => Err("unknown on this system: the memory of a run is not checked before it starts".into()),
        };
        let instructions = match self.instructions.as_slice() {
            [] => Err("no AVX2 or NEON: matrix products are slow".into()),
            list => Ok(list.join(" ")),
        };
        vec![
            Finding::new("cores", Ok(format!("{}; {} threads unless train.threads is set", self.cores, cores(0)))),
            Finding::new("instructions", instructions),
            Finding::new("memory", memory),
        ]
    }
}

/// The findings on CUDA, and whether the GPU that a run would take can train.
fn cuda(out: &mut Terminal) -> (Vec<Finding>, bool) {
    let started = device::start(out);
    let driver = started.as_ref().map(|api| format!("CUDA {}, {}", failure::cuda(api.version), api.place));
    let mut findings = vec![Finding::new("driver", driver.map_err(ToString::to_string))];
    if let Some(release) = system::kernel_module() {
        findings.push(Finding::new("kernel module", Ok(release)));
    }
    let version = started.as_ref().map_or(failure::CUDA_13, |api| api.version);
    let count = started.and_then(|_| devices::count());
    let gpus: Vec<Result<Properties>> =
        (0..count.as_ref().map_or(0, |count| *count)).map(devices::properties).collect();
    // what the first GPU needs whose kernels are not in the binary
    let lacking =
        |gpu: &&Properties| gpu.capability >= architecture::OLDEST && kernel_files(gpu.capability, version).1 > 0;
    let lacking = gpus.iter().flatten().find(lacking);
    let nvrtc = Nvrtc::serving(version, lacking.map(|gpu| architecture::of_device(gpu.capability)).as_deref());
    findings.push(Finding::new("kernels", machine_code(nvrtc.is_ok())));
    findings.push(Finding::new("NVRTC", compiler(&nvrtc, lacking, version)));
    let lt = lt::find(version).map_err(|why| failure::no_products(&why, version).to_string());
    findings.push(Finding::new("cublasLt", lt.as_ref().map(Opened::place).map_err(String::clone)));

    // the one that a run takes is the first that can be opened
    let mut taken = None;
    for (index, properties) in gpus.iter().enumerate() {
        // before the GPU is opened here
        let hopper = properties.as_ref().ok().filter(|gpu| gpu.capability == HOPPER);
        let attention = hopper.map(|gpu| proof::of(gpu, kernel_files(gpu.capability, version).1 > 0));
        let result = match properties {
            Ok(properties) => match Gpu::open(index, None, None).map_err(|why| why.to_string()) {
                Ok(gpu) => {
                    let checked = check(&gpu, properties);
                    taken.get_or_insert(checked.is_ok());
                    checked
                }
                Err(why) if lt.as_ref().err() == Some(&why) => {
                    Err(format!("{}: there is no cublasLt, as said above", describe(properties)))
                }
                Err(why) => Err(why),
            },
            Err(why) => Err(why.to_string()),
        };
        let opened = result.is_ok();
        findings.push(Finding::new(&format!("GPU {index}"), result));
        if let Some(proof) = attention.filter(|_| opened) {
            let finding = proof.map_err(|why| why.to_string()).and_then(|proof| proof.finding());
            findings.push(Finding::new(&format!("attention {index}"), finding));
        }
    }
    match count {
        Err(why) if findings[0].good => findings.push(Finding::new("GPUs", Err(why.to_string()))),
        _ => {}
    }
    (findings, taken.unwrap_or(false))
}

/// The compiler: found, missing and not needed, or missing.
fn compiler(
    nvrtc: &std::result::Result<Nvrtc, String>, lacking: Option<&Properties>, driver: i32,
) -> std::result::Result<String, String> {
    let why = match nvrtc {
        Ok(found) => {
            let place = libraries::place(found.path.as_deref());
            return Ok(format!("{}.{}, {place}", found.version.0, found.version.1));
        }
        Err(why) => why,
    };
    let remedy = format!("install {}", failure::nvrtc(driver));
    match lacking {
        Some(Properties { gpu, capability, .. }) => {
            let architecture = architecture::of_device(*capability);
            Err(format!(
                "not found ({why}), and {gpu} needs it, as its kernels, {architecture}, are not in this build: {remedy}"
            ))
        }
        None if COMPILER.is_some() => Ok("not found and not needed: the kernels are compiled".into()),
        None => Err(format!("not found ({why}): {remedy}")),
    }
}

/// The kernels in the binary.
fn machine_code(compiler_here: bool) -> std::result::Result<String, String> {
    let Some((major, minor)) = COMPILER else {
        let sources = format!("sources only, {}", counted(SOURCES.len(), "file"));
        return match compiler_here {
            true => Ok(format!("{sources}: compiled when a GPU is opened")),
            false => Err(format!("{sources}: {REMEDY}")),
        };
    };
    let mut architectures: Vec<&str> = Vec::new();
    for cubin in CUBINS {
        if !architectures.contains(&cubin.architecture) {
            architectures.push(cubin.architecture);
        }
    }
    let list = architectures.join(" ");
    Ok(format!("{} for {list}, compiled by NVRTC {major}.{minor}", counted(SOURCES.len(), "file")))
}

fn describe(Properties { gpu, capability: (major, minor), multiprocessors, memory, .. }: &Properties) -> String {
    let memory = gib(*memory as u64);
    format!("{}, compute capability {major}.{minor}, {multiprocessors} multiprocessors, {memory:.1} GiB", gpu.name)
}

/// Describes an opened GPU and its kernels after a self-test of conversions and products.
fn check(gpu: &Gpu, properties: &Properties) -> std::result::Result<String, String> {
    let driver = gpu.driver();
    let (free, _) = driver.memory().map_err(|why| why.to_string())?;
    let checked = selftest::run(driver).and_then(|()| products::check(gpu));
    checked.map_err(|why| format!("self-test: {why}"))?;
    let kernels = match driver.compiler() {
        None => format!("{} embedded", kernel_files(properties.capability, driver.version()).0),
        Some(nvrtc) => format!("compiled now by NVRTC {}.{}", nvrtc.version.0, nvrtc.version.1),
    };
    let (what, free) = (describe(properties), gib(free as u64));
    Ok(format!("{what}, {free:.1} GiB free; kernel files: {kernels}; self-test passed"))
}
