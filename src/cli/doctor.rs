//! `eyekern doctor`: checks what this machine can train on, and what CUDA training lacks.

use super::Format;
use super::device::kernel_files;
use super::machine::{self, gib};
use super::terminal::{Terminal, counted};
use crate::backend::cpu::cores;
use crate::backend::cuda::driver::{self, Driver, Properties};
use crate::backend::cuda::kernels::{COMPILER, CUBINS, REMEDY, SOURCES};
use crate::backend::cuda::libraries::{self, CUBLASLT};
use crate::backend::cuda::nvrtc::Nvrtc;
use crate::backend::cuda::{failure, selftest};
use crate::error::Result;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;

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
        Finding { subject: subject.into(), good, says }
    }

    fn object(&self) -> Value {
        json!({ "subject": self.subject, "ok": self.good, "says": self.says })
    }
}

/// Checks and prints. Missing CUDA is not a failure, because the CPU can train.
pub fn run(args: &DoctorArgs, out: &mut Terminal) -> Result {
    let processor = Processor::look();
    let (cuda, gpu) = cuda();
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

/// The findings on CUDA, and whether a GPU can train.
fn cuda() -> (Vec<Finding>, bool) {
    let at = |path: Option<&Path>| path.map_or("in the process".to_string(), |path| path.display().to_string());
    let started = driver::start();
    let nvrtc = Nvrtc::find(None);
    let products = libraries::open(CUBLASLT, &libraries::folders());
    let mut findings = vec![
        Finding::new(
            "driver",
            started.as_ref().map(|version| format!("CUDA {}", failure::cuda(*version))).map_err(ToString::to_string),
        ),
        Finding::new("kernels", machine_code(nvrtc.is_ok())),
        Finding::new(
            "NVRTC",
            match &nvrtc {
                Ok(found) => Ok(format!("{}.{}, {}", found.version.0, found.version.1, at(found.path.as_deref()))),
                Err(_) if COMPILER.is_some() => Ok("not found and not needed: the kernels are compiled".into()),
                Err(why) => {
                    Err(format!("not found ({why}): install the Python package nvidia-cuda-nvrtc of version 13"))
                }
            },
        ),
        Finding::new(
            "cublasLt",
            match &products {
                Ok(opened) => Ok(at(opened.path.as_deref())),
                Err(why) => Err(failure::no_products(why).to_string()),
            },
        ),
    ];
    let mut usable = false;
    if started.is_ok() {
        match driver::devices() {
            Ok(devices) => {
                for device in &devices {
                    let result = gpu(device);
                    usable |= result.is_ok() && products.is_ok();
                    findings.push(Finding::new(&format!("GPU {}", device.gpu.index), result));
                }
            }
            Err(why) => findings.push(Finding::new("GPUs", Err(why.to_string()))),
        }
    }
    (findings, usable)
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

/// Describes a GPU and its kernels after a self-test.
fn gpu(device: &Properties) -> std::result::Result<String, String> {
    let (major, minor) = device.capability;
    let what = format!(
        "{}, compute capability {major}.{minor}, {} multiprocessors, {:.1} GiB",
        device.gpu.name,
        device.multiprocessors,
        gib(device.memory as u64)
    );
    let driver = Driver::open(device.gpu.index).map_err(|why| why.to_string())?;
    let (free, _) = driver.memory().map_err(|why| why.to_string())?;
    selftest::run(&driver).map_err(|why| format!("self-test: {why}"))?;
    let (here, made) = kernel_files(device.capability);
    let kernels = if made == 0 { format!("{here} embedded") } else { format!("{here} embedded, {made} compiled now") };
    Ok(format!("{what}, {:.1} GiB free; kernel files: {kernels}; self-test passed", gib(free as u64)))
}
