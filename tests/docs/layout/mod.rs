//! The layout of the code: a module imports only modules below it, files are short and import each other without
//! cycles, lines fit the screen, `unsafe` stays where the design allows it.

mod cycles;

use std::path::{Path, PathBuf};

/// From the ground up; modules of one entry may not import each other.
const FLOORS: [&[&str]; 11] = [
    &["choices", "error", "random"],
    &["files"],
    &["render"],
    &["salience"],
    &["data"],
    &["backend"],
    &["model"],
    &["eval"],
    &["train"],
    &["study"],
    &["cli"],
];

/// Files with `unsafe`, each block with its SAFETY comment.
const UNSAFE: [&str; 16] = [
    "backend/cpu/gemm/kernel.rs",
    "backend/cpu/gemm/lanes.rs",
    "backend/cpu/gemm/target.rs",
    "backend/cpu/wide.rs",
    "backend/cuda/api.rs",
    "backend/cuda/context.rs",
    "backend/cuda/devices.rs",
    "backend/cuda/driver.rs",
    "backend/cuda/emulated.rs",
    "backend/cuda/emulation.rs",
    "backend/cuda/gpu.rs",
    "backend/cuda/libraries.rs",
    "backend/cuda/lt.rs",
    "backend/cuda/nvrtc.rs",
    "backend/cuda/sys.rs",
    "model/checkpoint.rs",
];

const LINES: usize = 500;

const COLUMNS: usize = 120;

/// The only kernel files with inline PTX.
const PTX: [&str; 2] = ["prim.cuh", "sm90.cuh"];

const KERNEL_LINES: usize = 400;

fn sources(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // what a package of its own was built into is not source
            if !path.ends_with("target") {
                list.extend(sources(&path, extensions));
            }
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            list.push(path);
        }
    }
    list
}

/// Path below `folder` and text of every file with one of the extensions.
fn files_in(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let relative = |p: &Path| p.strip_prefix(&root).expect("below it").to_string_lossy().replace('\\', "/");
    sources(&root, extensions).iter().map(|p| (relative(p), std::fs::read_to_string(p).expect("text"))).collect()
}

fn files() -> Vec<(String, String)> {
    files_in("src", &["rs"])
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The module that a `crate::` path names first.
fn imported(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or("");
    let after = code.split("crate::").skip(1).filter(|_| !code.contains("$crate"));
    after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn modules_import_only_lower_floors() {
    let mut wrong = Vec::new();
    for (file, text) in files() {
        let module = file.split('/').next().unwrap_or("").trim_end_matches(".rs");
        let Some(own) = floor(module) else {
            assert!(["lib", "main"].contains(&module), "{file}: give src/{module} a floor");
            continue;
        };
        for (i, line) in text.lines().enumerate() {
            for name in imported(line) {
                let allowed = name == module || floor(&name).is_some_and(|f| f < own);
                if !allowed {
                    wrong.push(format!("{file}:{} imports {name}", i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

/// The only files above `backend` that may name CUDA: those that choose a device or report on CUDA itself.
const CUDA: [&str; 4] = ["cli/device.rs", "cli/doctor.rs", "cli/kernels.rs", "cli/proof.rs"];

/// Whether the code names `backend::DEVICE`, in a path of its own or in a group of imports.
fn names_device(text: &str, device: &str) -> bool {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("").to_string() + "\n").collect();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_string).collect()
    };
    code.split("backend::").skip(1).any(|rest| match rest.strip_prefix('{') {
        Some(group) => words(group.split(';').next().unwrap_or("")).iter().any(|word| word == device),
        None => words(rest).first().is_some_and(|word| word == device),
    })
}

/// The devices that a file may not name and names.
fn device_faults(file: &str, text: &str) -> Vec<&'static str> {
    let may = |device: &str| match file.split('/').next() {
        Some("backend") => true,
        Some("cli") => device == "cpu" || CUDA.contains(&file),
        _ => false,
    };
    ["cpu", "cuda"].into_iter().filter(|&device| !may(device) && names_device(text, device)).collect()
}

#[test]
fn only_the_command_line_knows_devices() {
    for (file, text) in files() {
        let faults = device_faults(&file, &text).join(", ");
        assert!(faults.is_empty(), "{file} names the device {faults}, which is chosen in cli/device.rs");
    }
    assert!(CUDA.iter().all(|file| files().iter().any(|(name, _)| name == file)), "{CUDA:?} are not all there");
}

#[test]
fn the_check_of_devices_sees_each_fault() {
    let group = "use crate::backend::{\n    Backend,\n    cuda::gpu::Gpu,\n};";
    for (file, text, faults) in [
        ("model/decoder.rs", "use crate::backend::cpu::Cpu;", &["cpu"][..]),
        ("train/run.rs", "use crate::backend::cuda::Cuda;", &["cuda"]),
        ("data/pack.rs", "fn f(b: &crate::backend::cuda::Cuda<G>) {}", &["cuda"]),
        ("cli/bench/mod.rs", group, &["cuda"]),
        ("eval.rs", "use crate::backend::{cpu, cuda};", &["cpu", "cuda"]),
        ("cli/export.rs", "use crate::backend::cpu::Cpu;", &[]),
        ("cli/doctor.rs", "use crate::backend::cuda::selftest;", &[]),
        ("backend/plan.rs", "use crate::backend::cpu::cores;", &[]),
        ("train/run.rs", "use crate::backend::{Backend, F}; // not backend::cuda\nlet cuda = cpu();", &[]),
    ] {
        assert_eq!(device_faults(file, text), faults, "{file}: {text}");
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long: Vec<_> = files().into_iter().filter(|(_, text)| text.lines().count() > LINES).map(|f| f.0).collect();
    assert!(long.is_empty(), "above {LINES} lines: {long:?}");
}

/// The lines with `#[test]` in a binary's files.
fn attributes(binary: &str, file: &str, text: &str) -> Vec<String> {
    if file != format!("{binary}.rs") && !file.starts_with(&format!("{binary}/")) {
        return Vec::new();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| line.trim() == "#[test]");
    lines.map(|(i, _)| format!("tests/{file}:{}", i + 1)).collect()
}

/// Without the harness of libtest an attribute `#[test]` removes its function, and nothing says so.
#[test]
fn every_test_is_run_by_its_harness() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let tests = manifest["test"].as_array().expect("tests").iter().filter(|test| test.get("harness").is_some());
    let names: Vec<_> = tests.filter_map(|test| test["name"].as_str()).collect();
    assert!(names.contains(&"parity") && names.contains(&"labels"), "{names:?}");
    let files = files_in("tests", &["rs"]);
    let lost: Vec<_> =
        names.iter().flat_map(|name| files.iter().flat_map(|(file, text)| attributes(name, file, text))).collect();
    assert!(lost.is_empty(), "tests that nothing runs: {lost:?}");
}

/// Lines with more than 120 columns, as `file:line`.
fn long_lines(file: &str, text: &str) -> Vec<String> {
    let long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS);
    long.map(|(i, _)| format!("{file}:{}", i + 1)).collect()
}

/// rustfmt leaves comments and strings as they are.
#[test]
fn lines_fit_the_screen() {
    let rust = ["src", "tests", "benches", "examples", "build"];
    let mut files: Vec<_> = rust.iter().flat_map(|folder| files_in(folder, &["rs"])).collect();
    files.extend(files_in("kernels", &["cu", "cuh", "cpp", "h"]));
    let long: Vec<_> = files.iter().flat_map(|(file, text)| long_lines(file, text)).collect();
    assert!(long.is_empty(), "above {COLUMNS} columns:\n{}", long.join("\n"));
    assert_eq!(long_lines("f", &format!("é\n{}\n{}", "é".repeat(COLUMNS), "x".repeat(COLUMNS + 1))), ["f:3"]);
}

#[test]
fn unsafe_stays_in_its_files_with_its_reason() {
    for (file, text) in files() {
        let blocks = text.matches("unsafe {").count() + text.matches("unsafe impl").count();
        assert!(blocks == 0 || UNSAFE.contains(&file.as_str()), "{file}: unsafe code outside its files");
        assert_eq!(text.matches("// SAFETY:").count(), blocks, "{file}: unsafe blocks and SAFETY comments differ");
    }
}

/// What a kernel file may not contain, with its line; `file` is its path below kernels.
fn kernel_faults(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let words = |line: &str| -> Vec<String> {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_string).collect()
    };
    for (i, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let has = |word: &str| words(code).iter().any(|w| w == word);
        let mut fault = |why: &str| faults.push(format!("{file}:{}: {why}", i + 1));
        if !PTX.contains(&file) && (has("asm") || has("__asm__") || has("__asm")) {
            fault("inline PTX belongs in prim.cuh or sm90.cuh, where the emulator has its counterpart");
        }
        if (has("wgmma_fence") || has("wgmma_wait")) && file != "sm90.cuh" && !file.starts_with("tests/") {
            fault("wgmma_begin and wgmma_end pin the registers of products, too");
        }
        if has("__shared__") && file != "prim.cuh" {
            fault("static shared memory escapes the bounds checks: use DYNAMIC_SHARED");
        }
        if code.trim_start().starts_with("#include") {
            let own =
                code.split('"').nth(1).is_some_and(|name| name.ends_with(".cuh") || name.starts_with("emulator/"));
            let host = file == "prim.cuh" && code.contains("<cstdint>");
            if !own && !host {
                fault("kernels include only kernels/*.cuh, so that NVRTC alone compiles them");
            }
        }
        if has("EYEKERN_EMULATED") && !PTX.contains(&file) {
            fault("a kernel must not know that it is emulated");
        }
    }
    if text.lines().count() > KERNEL_LINES {
        faults.push(format!("{file}: above {KERNEL_LINES} lines"));
    }
    faults
}

#[test]
fn kernels_can_be_emulated() {
    let files = files_in("kernels", &["cu", "cuh"]);
    assert!(files.iter().any(|f| f.0 == "prim.cuh") && files.iter().any(|f| f.0.ends_with(".cu")), "no kernels");
    let faults: Vec<_> = files.iter().flat_map(|(file, text)| kernel_faults(file, text)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let long: Vec<_> = files_in("kernels", &["cpp", "h"])
        .into_iter()
        .filter(|f| f.1.lines().count() > KERNEL_LINES)
        .map(|f| f.0)
        .collect();
    assert!(long.is_empty(), "above {KERNEL_LINES} lines: {long:?}");
}

#[test]
fn the_check_of_kernels_sees_each_fault() {
    let faults = |text| kernel_faults("norm.cu", text).len();
    assert_eq!(faults("#include \"prim.cuh\"\n// asm __shared__ #include <mma.h>\nfloat chasm; smem_u32(shared);"), 0);
    let wait = "wgmma_wait<0>();";
    for text in ["asm(\"\");", "__shared__ float x[32];", "#include <cuda_bf16.h>", "#if EYEKERN_EMULATED", wait] {
        assert_eq!(faults(text), 1, "{text}");
    }
    assert_eq!(faults("#include \"cuda_bf16.h\""), 1);
    assert_eq!(faults(&"\n".repeat(KERNEL_LINES + 1)), 1);
    assert!(kernel_faults("prim.cuh", "asm(\"\"); extern __shared__ char x[];\n#include <cstdint>").is_empty());
}

#[test]
fn the_check_of_harnesses_sees_a_lost_test() {
    let text = "fn a() {}\n    #[test]\n    fn b() {}\n";
    assert_eq!(attributes("parity", "parity/a.rs", text), ["tests/parity/a.rs:2"]);
    assert_eq!(attributes("parity", "parity.rs", text), ["tests/parity.rs:2"]);
    assert!(attributes("parity", "labels/parity.rs", text).is_empty());
}

#[test]
fn the_check_of_imports_sees_an_upward_one() {
    assert_eq!(imported("use crate::train::step; // crate::cli"), ["train"]);
    assert!(floor("train") > floor("model") && floor("nowhere").is_none());
}
