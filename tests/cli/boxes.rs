//! Machines that people have, on the made-up driver (kernels/emulator/gpu): drivers of several CUDA versions, boxes
//! with something wrong, boxes with several GPUs. Each sentence names the cause and the remedy, and `doctor`, a dry run
//! and a run agree on the device.

use crate::cuda::{doctor, findings, says};
use crate::gpu::{case, compiled};
use crate::{Case, Ran};
use eyekern::backend::cuda::libraries;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The folder with the made-up driver of CUDA 13.0; those of other versions lie below it.
const MADE_UP: &str = env!("EYEKERN_MADE_UP_GPU");

/// The driver, and nothing of the machine's own; kernels that need no proof.
const BOX: [(&str, &str); 4] =
    [("LD_LIBRARY_PATH", MADE_UP), ("PATH", ""), ("EYEKERN_NVRTC", "off"), ("EYEKERN_KERNELS", "portable")];

/// Two steps on the device, into `out`.
fn train(case: &Case, device: &str, out: &str, env: &[(&str, &str)]) -> Ran {
    let to = format!("train.output_dir={out}");
    let args = ["train", "recipe.toml", "--device", device, "--set", &to, "--set", "train.max_steps=2"];
    case.run(&args, &[&BOX, env].concat())
}

/// What a run by `auto` takes, and its notes; a dry run has to plan for the same device, with the same notes.
fn taken(case: &Case, env: &[(&str, &str)]) -> (String, Vec<String>) {
    let (planned, same) = case.run(&["train", "recipe.toml", "--dry-run"], &[&BOX, env].concat()).noted();
    let (text, notes) = train(case, "auto", "auto", &[&[("XDG_CACHE_HOME", "cache")], env].concat()).noted();
    std::fs::remove_dir_all(case.path("auto")).expect("a run");
    assert_eq!(same, notes);
    let line = text.lines().find(|line| line.starts_with("run ")).expect("a line on the run");
    assert_eq!(planned.contains("device        cuda, "), line.contains(", bf16, "), "{planned}{line}");
    (line.to_string(), notes)
}

/// What doctor says of a subject.
fn told(case: &Case, subject: &str, env: &[(&str, &str)]) -> (bool, String) {
    says(&findings(&doctor(case, &[], &[&BOX, env].concat()).trained()), subject)
}

/// Whether doctor says that a GPU can train.
fn trains(case: &Case, env: &[(&str, &str)]) -> bool {
    let text = doctor(case, &[], &[&BOX, env].concat()).trained();
    assert!(!text.contains("eyekern doctor"), "doctor does not send to itself: {text}");
    text.lines().last() == Some("can train on: the CPU and the GPU")
}

#[test]
fn drivers_from_cuda_12_2_on_train() {
    if !compiled() {
        return;
    }
    let case = case();
    train(&case, "cpu", "cpu", &[]).trained();
    let expected = case.series("cpu", "loss");
    for (version, products) in
        [("12.2", "libcublasLt.so.12"), ("12.8", "libcublasLt.so.12"), ("13.0", "libcublasLt.so.13")]
    {
        let folder = if version == "13.0" { MADE_UP.to_string() } else { format!("{MADE_UP}/{version}") };
        let env = [("LD_LIBRARY_PATH", folder.as_str())];
        assert_eq!(told(&case, "driver", &env), (true, format!("CUDA {version}, {folder}/libcuda.so.1")));
        assert_eq!(told(&case, "cublasLt", &env), (true, format!("{folder}/{products}")));
        assert!(trains(&case, &env), "{version}");
        let text = train(&case, "cuda", version, &env).trained();
        assert!(text.contains("GPU 0 (Made-up H200), bf16, "), "{text}");
        let found = case.series(version, "loss");
        assert!(found.len() == 2 && found.iter().zip(&expected).all(|(x, y)| (x - y).abs() <= 5e-3 * y), "{found:?}");
    }
    // an older one is called old, and a library of CUDA 13 is not for a driver of CUDA 12
    let old = [("MADE_UP_VERSION", "12010")];
    let why = "the NVIDIA driver is of CUDA 12.1, and CUDA 12.2 is needed: update it to release 535 or later (for a \
               data-centre GPU NVIDIA's package cuda-compat does, too), or use --device cpu";
    assert_eq!(told(&case, "driver", &old), (false, why.to_string()));
    train(&case, "cuda", "old", &old).stopped(4, why);
    let twelve = [("EYEKERN_CUDA_LIB", MADE_UP), ("MADE_UP_VERSION", "12080"), ("LD_LIBRARY_PATH", "")];
    let why = format!(
        "no cublasLt for matrix products ({MADE_UP}/libcublasLt.so.13 needs a driver of CUDA 13, and libcublasLt.so.12 \
         not found): install the Python package nvidia-cublas-cu12 or a CUDA 12 toolkit, or name the library's folder \
         with EYEKERN_CUDA_LIB"
    );
    assert_eq!(told(&case, "cublasLt", &twelve), (false, why.clone()));
    train(&case, "cuda", "thirteen", &twelve).stopped(4, &why);
}

/// A shared library of this C source.
fn library(case: &Case, source: &str, file: &str) {
    std::fs::create_dir_all(case.path(file).parent().expect("a folder")).expect("creates");
    case.write("library.c", source);
    let mut made = Command::new("cc");
    made.args(["-shared", "-fPIC", "-w", "-o"]).arg(case.path(file)).arg(case.path("library.c"));
    assert!(made.status().is_ok_and(|status| status.success()), "the C compiler, as g++ is there");
}

#[test]
fn the_library_that_was_found_is_the_one_that_is_called() {
    if !compiled() {
        return;
    }
    let case = case();
    // ahead on the loader's path: a toolkit's stub for linking, and the cublasLt of another toolkit
    library(&case, "int cuInit(void) { return 34; } int cuDriverGetVersion(void) { return 34; }", "ahead/libcuda.so");
    for version in ["12", "13"] {
        let file = format!("ahead/libcublasLt.so.{version}");
        library(&case, "unsigned long cublasLtGetVersion(void) { return 120805; }", &file);
    }
    let path = format!("{}:{MADE_UP}", case.path("ahead").display());
    let env = [("LD_LIBRARY_PATH", path.as_str()), ("EYEKERN_CUDA_LIB", MADE_UP)];
    assert!(trains(&case, &env));
    train(&case, "cuda", "gpu", &env).trained();
    // without a name the loader's is found, and it says which functions it lacks
    let lacks = format!("({}/libcublasLt.so.13 has no cublasLtCreate)", case.path("ahead").display());
    let text = train(&case, "cuda", "lacks", &env[..1]).stderr;
    assert!(text.contains(&lacks), "{text}");
    assert!(!trains(&case, &env[..1]));
    // a stub under the driver's own name is called a stub
    library(&case, "int cuInit(void) { return 34; } int cuDriverGetVersion(void) { return 34; }", "stub/libcuda.so.1");
    let stub = case.path("stub").display().to_string();
    let (good, text) = told(&case, "driver", &[("LD_LIBRARY_PATH", &stub)]);
    let start = format!("(error 34): {stub}/libcuda.so.1 is a stub for linking and no driver: remove its folder from ");
    assert!(!good && text.contains(&start), "{text}");
}

#[test]
fn each_reason_for_not_starting_has_its_remedy() {
    let case = case();
    for (code, remedy) in [
        ("2", "has too little memory left"),
        ("34", "is a stub for linking and no driver"),
        ("100", "sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ("802", "start the service nvidia-fabricmanager"),
        ("803", "and the kernel module are of releases that do not fit"),
        ("804", "is of the package cuda-compat, which serves data-centre GPUs only"),
        ("805", "see that nvidia-cuda-mps-control runs and is of this user"),
        ("999", "see that the kernel module nvidia_uvm is loaded"),
    ] {
        let env = [("MADE_UP_INIT", code)];
        let (good, text) = told(&case, "driver", &env);
        assert!(!good && text.contains(remedy) && !text.contains("doctor"), "{text}");
        assert!(!trains(&case, &env));
        train(&case, "cuda", "gpu", &env).stopped(4, &text);
        let (line, notes) = taken(&case, &env);
        assert!(line.contains(", cpu with "), "{line}");
        assert_eq!(notes, [format!("using the CPU instead of a GPU: {text}")]);
    }
}

#[test]
fn the_first_gpu_that_is_fit_is_taken() {
    if !compiled() {
        return;
    }
    let case = case();
    let old = "GPU 0 (Made-up H200) has compute capability 7.5, and the kernels need 8.0, which GPUs from Ampere on \
               have: choose another GPU with CUDA_VISIBLE_DEVICES, or use --device cpu";
    let busy = "GPU 0 (Made-up H200): opening failed: CUDA-capable device(s) is/are busy or unavailable (error 46): \
                another process holds it, as its compute mode is exclusive, or the host of a virtual GPU is busy: see \
                nvidia-smi for the process, set the mode with `nvidia-smi -c DEFAULT`, or choose another GPU with \
                CUDA_VISIBLE_DEVICES";
    let full = "GPU 0 (Made-up H200): opening failed: out of memory (error 2): its memory is full: end other programs \
                on it (see nvidia-smi), or choose another GPU with CUDA_VISIBLE_DEVICES";
    let locked = "GPU 0 (Made-up H200): locking memory of the host failed: out of memory (error 2): the machine or the \
                  container has too little memory that can be locked: end other programs, or raise the limit of memory \
                  or of locked memory (ulimit -l)";
    let silent = "GPU 0 (unknown): asking what it is failed: some other failure (error 999): see nvidia-smi";
    for (gpus, name, value, why) in [
        ("75,90", "MADE_UP_OPEN", "0", old),
        ("90,90", "MADE_UP_OPEN", "46,0", busy),
        ("90,90", "MADE_UP_OPEN", "2,0", full),
        ("90,90", "MADE_UP_LOCK", "2,0", locked),
        ("90,90", "MADE_UP_ASK", "999,0", silent),
    ] {
        let env = [("MADE_UP_GPUS", gpus), (name, value)];
        // the others are not hidden by the one that fails
        assert_eq!(told(&case, "GPU 0", &env), (false, why.to_string()));
        let (good, text) = told(&case, "GPU 1", &env);
        assert!(good && text.starts_with("Made-up 1, compute capability 9.0, "), "{text}");
        assert!(trains(&case, &env));
        let (line, notes) = taken(&case, &env);
        assert!(line.contains("GPU 1 (Made-up 1), bf16, "), "{line}");
        let why = if why == silent { format!("{why} and `eyekern doctor`") } else { why.to_string() };
        assert_eq!(notes, [format!("using GPU 1 (Made-up 1): {why}")]);
        // named, the device is found in the same way; alone, the GPU that fails is the reason
        assert!(train(&case, "cuda", "cuda", &env).stdout.contains("GPU 1 (Made-up 1), bf16, "));
        std::fs::remove_dir_all(case.path("cuda")).expect("a run");
        train(&case, "cuda", "alone", &[("MADE_UP_GPUS", &gpus[..2]), (name, &value[..value.len().min(3)])])
            .stopped(4, &why);
    }
    let env = [("MADE_UP_GPUS", "75,70")];
    let message = format!(
        "no GPU can be used: {old}; {}",
        old.replace("0 (Made-up H200)", "1 (Made-up 1)").replace("7.5", "7.0")
    );
    train(&case, "cuda", "none", &env).stopped(4, &message);
    assert_eq!(taken(&case, &env).1, [format!("using the CPU instead of a GPU: {message}")]);
    assert!(!trains(&case, &env));
    // the one that a run takes decides
    assert!(!trains(&case, &[("MADE_UP_GPUS", "90,90"), ("MADE_UP_LT_WRONG", "bias")]));
    assert!(trains(&case, &[("MADE_UP_GPUS", "90,75")]));
    // a virtual GPU without a pool of memory
    let pools = [("MADE_UP_POOLS", "0")];
    assert!(trains(&case, &pools) && taken(&case, &pools).0.contains("GPU 0 (Made-up H200), bf16, "));
}

#[test]
fn a_gpu_trains_only_with_products_that_are_right() {
    if !compiled() {
        return;
    }
    let case = case();
    let product = "self-test: GPU 0 (Made-up H200): a matrix product failed: ";
    // of the 33 values of a column that are 0 two are right
    for (name, value, start) in [
        ("MADE_UP_LT_WRONG", "bias", format!("{product}1")),
        ("MADE_UP_LT_WRONG", "odd", format!("{product}31 of 1221 results of [33, 40] x [40, 37] to Bf16 are wrong: ")),
        ("MADE_UP_LT_NONE", "1", format!("{product}cublasLt status 15, not supported for Problem ")),
        (
            "MADE_UP_LT",
            "1",
            format!(
                "no cublasLt for matrix products ({MADE_UP}/libcublasLt.so.13 does not start: cublasLt status 1, it is \
                 not initialised): "
            ),
        ),
    ] {
        let env = [(name, value)];
        let (good, text) = told(&case, "GPU 0", &env);
        assert!(!good && text.starts_with(&start), "{text}");
        assert!(!trains(&case, &env));
    }
}

#[test]
fn a_device_gets_machine_code_that_it_takes() {
    if !compiled() {
        return;
    }
    let case = case();
    // Orin takes no code of another device of its family; B300 has no code here
    for (capability, architecture) in [("87", "sm_87"), ("103", "sm_103a"), ("110", "sm_110")] {
        let env = [("MADE_UP_GPUS", capability)];
        let remedy = "install the Python package nvidia-cuda-nvrtc";
        let gpu = format!(
            "this build has no machine code for GPU 0 (Made-up H200), {architecture} is needed, and there is no NVRTC \
             to make it (EYEKERN_NVRTC=off): {remedy}, or name the library with EYEKERN_NVRTC"
        );
        assert_eq!(told(&case, "GPU 0", &env), (false, gpu));
        let nvrtc = format!(
            "not found (EYEKERN_NVRTC=off), and GPU 0 (Made-up H200) needs it, as its kernels, {architecture}, are not \
             in this build: {remedy}"
        );
        assert_eq!(told(&case, "NVRTC", &env), (false, nvrtc));
    }
    for capability in ["80", "86", "89", "100", "120", "121"] {
        assert!(trains(&case, &[("MADE_UP_GPUS", capability)]), "{capability}");
    }
    // one that refuses code of an older device, without NVRTC and with it
    let env = [("MADE_UP_GPUS", "86"), ("MADE_UP_EXACT", "1")];
    let refuses = "GPU 0 (Made-up H200) refuses the machine code of this build, sm_86 is needed, and there is no NVRTC \
                   to make it (EYEKERN_NVRTC=off): install the Python package nvidia-cuda-nvrtc, or name the library \
                   with EYEKERN_NVRTC";
    assert_eq!(told(&case, "GPU 0", &env), (false, refuses.to_string()));
    let nvrtc = Path::new(env!("CARGO_MANIFEST_DIR")).join("third_party/nvrtc");
    if nvrtc.is_dir() {
        let nvrtc = nvrtc.display().to_string();
        let env = [&env[..], &[("EYEKERN_NVRTC", &nvrtc)]].concat();
        let (good, text) = told(&case, "GPU 0", &env);
        assert!(good && text.ends_with("kernel files: compiled now by NVRTC 12.9; self-test passed"), "{text}");
    }
}

/// A folder for EYEKERN_ROOT with these files, empty.
fn root(case: &Case, name: &str, files: &[&str]) -> String {
    for file in files {
        let path = case.path(name).join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(path, "").expect("writes");
    }
    case.path(name).display().to_string()
}

#[test]
fn a_gpu_without_a_driver_library_is_not_passed_over_in_silence() {
    let case = case();
    if libraries::driver().is_ok() {
        return; // the loader finds the machine's own
    }
    let bare = [("LD_LIBRARY_PATH", "")];
    let none = root(&case, "none", &["dev/null"]);
    assert_eq!(taken(&case, &[&bare[..], &[("EYEKERN_ROOT", &none)]].concat()).1, [""; 0]);
    for (name, file, remedy) in [
        (
            "container",
            "/dev/nvidia0",
            "start a container with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility; ",
        ),
        ("module", "/proc/driver/nvidia", "start a container with --gpus all and "),
        ("wsl", "/dev/dxg", "under WSL install the driver on Windows and not in Linux, and see that /usr/lib/wsl/lib/"),
    ] {
        let root = root(&case, name, &[&file[1..]]);
        let env = [&bare[..], &[("EYEKERN_ROOT", root.as_str())]].concat();
        let has = if name == "wsl" { "may have an NVIDIA GPU" } else { "has a GPU" };
        let why = format!(
            "this machine {has} ({file}), but the driver's library cannot be opened (libcuda.so.1 not found): \
             {remedy}"
        );
        let (good, text) = told(&case, "driver", &env);
        assert!(!good && text.starts_with(&why), "{text}");
        let (line, notes) = taken(&case, &env);
        assert!(line.contains(", cpu with "), "{line}");
        assert_eq!(notes, [format!("using the CPU instead of a GPU: {text}")]);
        train(&case, "cuda", "gpu", &env).stopped(4, &text);
    }
    // where NixOS and WSL keep it, and where the user says; under WSL one that Linux brought does not go first
    let driver = format!("{MADE_UP}/libcuda.so.1");
    for (name, folder, path) in
        [("nixos", "run/opengl-driver/lib", ""), ("windows", "usr/lib/wsl/lib", MADE_UP), ("named", "here", "")]
    {
        let root =
            root(&case, name, &[&format!("{folder}/empty"), if name == "windows" { "dev/dxg" } else { "dev/nvidia0" }]);
        std::os::unix::fs::symlink(&driver, format!("{root}/{folder}/libcuda.so.1")).expect("links");
        let named = if name == "named" { format!("{root}/{folder}:{MADE_UP}") } else { String::new() };
        let env = [("LD_LIBRARY_PATH", path), ("EYEKERN_ROOT", &root), ("EYEKERN_CUDA_LIB", &named)];
        assert_eq!(told(&case, "driver", &env), (true, format!("CUDA 13.0, {root}/{folder}/libcuda.so.1")), "{name}");
    }
    // the kernel module's version
    let root = root(&case, "versions", &["proc/driver/nvidia/version"]);
    for (text, version) in [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC\n",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n", "550.54.14"),
    ] {
        std::fs::write(case.path("versions/proc/driver/nvidia/version"), text).expect("writes");
        assert_eq!(told(&case, "kernel module", &[("EYEKERN_ROOT", &root)]), (true, version.to_string()));
    }
}

/// The driver waits until the test has read the note: no clock decides.
#[test]
fn a_driver_that_waits_is_explained() {
    let case = case();
    let file = case.path("started").display().to_string();
    let mut command = case.command(&["doctor"], &[&BOX[..], &[("MADE_UP_WAIT", &file)]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut note = String::new();
    BufReader::new(child.stderr.take().expect("standard error")).read_line(&mut note).expect("reads");
    case.write("started", "");
    assert!(child.wait().expect("ends").success());
    let expected = "note: the NVIDIA driver has not started after 10 s: it may wait for the MPS server of \
                    /tmp/nvidia-mps, which has to be this user's (`echo quit | nvidia-cuda-mps-control` ends it); \
                    --device cpu does not wait\n";
    assert_eq!(note, expected);
}
