//! `eyekern doctor`, `eyekern kernels` and the choice of `--device auto`, on a machine without a driver and with a
//! made-up driver (stub_cuda.c).

use super::*;
use eyekern::backend::cuda::driver::Driver;
use eyekern::backend::cuda::gpu::Gpu;
use eyekern::backend::cuda::kernels::{COMPILER, CUBINS, SOURCES};
use eyekern::backend::cuda::libraries;
use eyekern::backend::cuda::{Arg, Geometry};

/// Nothing of the machine's own: no toolkit, no Python packages, no compiler.
const BARE: [(&str, &str); 2] = [("PATH", ""), ("EYEKERN_NVRTC", "off")];

pub(crate) fn doctor(case: &Case, args: &[&str], env: &[(&str, &str)]) -> Ran {
    case.run(&[&["doctor"], args].concat(), &[&BARE, env].concat())
}

/// The stub as `libcuda.so.1` in the folder `driver`; false where there is no C compiler. `EYEKERN_SHARED`, which is
/// set where all tests have to run, makes its absence a failure.
fn stub(case: &Case, source: &str) -> bool {
    std::fs::create_dir_all(case.path("driver")).expect("creates");
    case.write("stub.c", source);
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wno-all", "-w", "-o"])
        .arg(case.path("driver/libcuda.so.1"))
        .arg(case.path("stub.c"));
    let made = cc.status().is_ok_and(|status| status.success());
    assert!(made || std::env::var_os("EYEKERN_SHARED").is_none(), "no C compiler");
    made
}

/// The made-up cublasLt beside the stub; false where there is no C++ compiler.
fn products(case: &Case) -> bool {
    let mut cpp = Command::new("c++");
    cpp.args(["-std=c++17", "-O1", "-shared", "-fPIC", "-DMADE_UP_CUDA=13000", "-o"])
        .arg(case.path("driver/libcublasLt.so.13"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/emulator/gpu/products.cpp"));
    let made = cpp.status().is_ok_and(|status| status.success());
    assert!(made || std::env::var_os("EYEKERN_SHARED").is_none(), "no C++ compiler");
    made
}

fn with_stub(case: &Case, args: &[&str], stub: &str, capability: &str) -> Ran {
    let driver = case.path("driver").display().to_string();
    doctor(case, args, &[("LD_LIBRARY_PATH", &driver), ("STUB", stub), ("STUB_CAPABILITY", capability)])
}

/// The findings of the CUDA section as (good, subject, text).
pub(crate) fn findings(text: &str) -> Vec<(bool, String, String)> {
    let section =
        text.split("training on the CPU)\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the section");
    let finding = |line: &str| {
        let (mark, rest) = line.trim_start().split_once("  ").expect(line);
        let (subject, says) = rest.split_once("  ").expect(line);
        (mark == "ok", subject.to_string(), says.trim_start().to_string())
    };
    section.lines().map(finding).collect()
}

pub(crate) fn says(findings: &[(bool, String, String)], subject: &str) -> (bool, String) {
    let found = findings.iter().find(|finding| finding.1 == subject);
    let (good, _, text) = found.unwrap_or_else(|| panic!("no {subject} in {findings:?}"));
    (*good, text.clone())
}

const NO_LT: &str = "no cublasLt for matrix products (libcublasLt.so.13 or libcublasLt.so.12 not found): install the \
                     Python package nvidia-cublas or a CUDA 13 toolkit, or name the library's folder with \
                     EYEKERN_CUDA_LIB";

/// What the stub says without a GPU.
fn no_gpu(case: &Case) -> String {
    let library = case.path("driver/libcuda.so.1").display().to_string();
    format!("the NVIDIA driver ({library}) sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu")
}

const OLD_DRIVER: &str = "the NVIDIA driver is of CUDA 12.1, and CUDA 12.2 is needed: update it to release 535 or \
                          later (for a data-centre GPU NVIDIA's package cuda-compat does, too), or use --device cpu";

const TURING: &str = "GPU 0 (Stub) has compute capability 7.5, and the kernels need 8.0, which GPUs from Ampere on \
                      have: choose another GPU with CUDA_VISIBLE_DEVICES, or use --device cpu";

fn files() -> String {
    format!("{} {}", SOURCES.len(), if SOURCES.len() == 1 { "file" } else { "files" })
}

/// The line on kernels and the line on the compiler, as this build has them.
fn of_this_build() -> [(bool, String, String); 2] {
    let files = files();
    let line = |good, subject: &str, says: String| (good, subject.to_string(), says);
    match COMPILER {
        Some((major, minor)) => {
            let mut list: Vec<&str> = CUBINS.iter().map(|cubin| cubin.architecture).collect();
            let mut seen = BTreeSet::new();
            list.retain(|architecture| seen.insert(*architecture));
            let list = list.join(" ");
            [
                line(true, "kernels", format!("{files} for {list}, compiled by NVRTC {major}.{minor}")),
                line(true, "NVRTC", "not found and not needed: the kernels are compiled".into()),
            ]
        }
        None => [
            line(
                false,
                "kernels",
                format!("sources only, {files}: run `python3 scripts/fetch_nvrtc.py` and build again"),
            ),
            line(false, "NVRTC", "not found (EYEKERN_NVRTC=off): install the Python package nvidia-cuda-nvrtc".into()),
        ],
    }
}

#[test]
fn without_a_driver_the_cpu_trains() {
    if libraries::driver().is_ok() {
        return; // a machine with a driver; the stub's tests say what doctor makes of one
    }
    let case = Case::empty();
    let text = doctor(&case, &[], &[]).trained();
    let driver = "no NVIDIA driver (libcuda.so.1 not found): install release 535 or later, or use --device cpu";
    let [kernels, nvrtc] = of_this_build();
    let expected = [(false, "driver".into(), driver.into()), kernels, nvrtc, (false, "cublasLt".into(), NO_LT.into())];
    assert_eq!(findings(&text), expected);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], [&format!("eyekern {}", env!("CARGO_PKG_VERSION")), "", "CPU"]);
    for (line, subject) in lines[3..6].iter().zip(["cores", "instructions", "memory"]) {
        assert!(line.starts_with("  ok  ") && line.contains(subject), "{line}");
    }
    assert_eq!(lines[6..8], ["", "CUDA (not needed for training on the CPU)"]);
    assert_eq!(lines.last(), Some(&"can train on: the CPU"));
}

#[test]
fn programs_read_the_same() {
    let case = Case::empty();
    let value: Value = serde_json::from_str(&doctor(&case, &["--format", "json"], &[]).trained()).expect("JSON");
    assert!(
        value["processor"]["cores"].as_u64() > Some(0) && value["processor"]["memory_bytes"].as_u64() > Some(1 << 20)
    );
    assert_eq!(value["can_train"], serde_json::json!({"cpu": true, "gpu": false}));
    let cuda = value["cuda"].as_array().expect("findings");
    let subjects: Vec<&str> = cuda.iter().filter_map(|finding| finding["subject"].as_str()).take(4).collect();
    assert_eq!(subjects, ["driver", "kernels", "NVRTC", "cublasLt"]);
    assert_eq!((&cuda[3]["ok"], &cuda[3]["says"]), (&Value::Bool(false), &Value::from(NO_LT)));
}

#[test]
fn an_unusable_driver_is_a_sentence() {
    let case = Case::empty();
    if !stub(&case, include_str!("stub_cuda.c")) {
        return;
    }
    let driver = |name| says(&findings(&with_stub(&case, &[], name, "90").trained()), "driver");
    assert_eq!(driver("none"), (false, no_gpu(&case)));
    assert_eq!(driver("old"), (false, OLD_DRIVER.to_string()));
    assert!(stub(&case, "int cuInit(unsigned flags) { return 0; }\n"));
    let library = case.path("driver/libcuda.so.1").display().to_string();
    let hollow = |name: &str| {
        let why =
            format!("no NVIDIA driver ({library} has no {name}): install release 535 or later, or use --device cpu");
        (false, why)
    };
    assert_eq!(driver(""), hollow("cuDriverGetVersion"));
    // the version goes first: what an old driver lacks is its age
    let versioned = |version| format!("int cuDriverGetVersion(int* version) {{ *version = {version}; return 0; }}\n");
    assert!(stub(&case, &versioned(12010)));
    assert_eq!(driver(""), (false, OLD_DRIVER.to_string()));
    assert!(stub(&case, &versioned(12020)));
    assert_eq!(driver(""), hollow("cuCtxSetCurrent"));
}

/// What `--device auto` and `--device cuda` come to: the lines of a dry run and of a run that name the device, and the
/// notes, which have to be the same.
fn chosen(case: &Case, env: &[(&str, &str)]) -> (String, String, Vec<String>) {
    let run = |more: &[&str], name: &str| {
        let args = ["train", "recipe.toml", "--set", "train.overwrite_output_dir=true"];
        let (text, notes) = case.run(&[&args, more].concat(), &[&BARE, env].concat()).noted();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        (line.to_string(), notes)
    };
    let ((planned, notes), (taken, same)) = (run(&["--dry-run"], "device "), run(&[], "run "));
    assert_eq!(notes, same);
    (planned, taken, notes)
}

/// A dry run counts for the device that a run takes, and both give the same reason for the CPU.
#[test]
fn auto_falls_back_in_a_dry_run_as_in_a_run() {
    let case = Case::ids();
    models::llama(&case.path("wide"), 97);
    let on_cpu = |case: &Case, env: &[(&str, &str)]| {
        let (planned, taken, notes) = chosen(case, env);
        assert_eq!(planned, "device        cpu with 1 threads, f32", "{notes:?}");
        assert!(taken.contains(", cpu with 1 threads, f32, "), "{taken}");
        notes
    };
    if libraries::driver().is_err() {
        assert_eq!(on_cpu(&case, &[]), [""; 0], "without a driver there is nothing to explain");
    }
    if !stub(&case, include_str!("stub_cuda.c")) {
        return;
    }
    let driver = case.path("driver").display().to_string();
    let env =
        |stub, capability| [("LD_LIBRARY_PATH", driver.as_str()), ("STUB", stub), ("STUB_CAPABILITY", capability)];
    let reason = |stub, capability| {
        let notes = on_cpu(&case, &env(stub, capability));
        let [note] = notes.as_slice() else { panic!("{notes:?}") };
        note.strip_prefix("using the CPU instead of a GPU: ").unwrap_or_else(|| panic!("{note}")).to_string()
    };
    let heads = "attention heads of 12 are not supported on CUDA, only multiples of 8 up to 256; train on the CPU \
                 (--device cpu)";
    assert_eq!(reason("", "90"), heads);
    case.write("recipe.toml", RECIPE.replace("./model", "./wide"));
    let none = no_gpu(&case);
    for (stub, capability, why) in
        [("empty", "90", none.as_str()), ("none", "90", &none), ("old", "90", OLD_DRIVER), ("", "75", TURING)]
    {
        assert_eq!(reason(stub, capability), why, "{stub} {capability}");
    }
    let no_code = reason("", "103");
    let start = "this build has no machine code for GPU 0 (Stub), sm_103a is needed, and there is no NVRTC to make it ";
    assert!(no_code.starts_with(start), "{no_code}");
    if COMPILER.is_some() {
        assert_eq!(reason("", "90"), NO_LT);
    }
    // a benchmark says it too
    let args = ["bench", "decode", "--prompt", "2", "--new-tokens", "2"];
    let (text, notes) = case.run(&args, &[&BARE[..], &env("empty", "90")].concat()).noted();
    assert!(text.contains(", cpu f32, ") && notes == [format!("using the CPU instead of a GPU: {none}")], "{notes:?}");
    // named, the GPU is required by a run, and not by a dry run
    let args = ["train", "recipe.toml", "--device", "cuda", "--set", "train.overwrite_output_dir=true"];
    let (text, notes) = case.run(&[&args[..], &["--dry-run"]].concat(), &env("empty", "90")).noted();
    assert!(text.contains("device        cuda, bf16 with f32 masters") && notes.is_empty(), "{text}");
    case.run(&args, &env("empty", "90")).stopped(4, &none);
}

#[test]
fn a_gpu_is_opened_and_tested() {
    let case = Case::empty();
    if !stub(&case, include_str!("stub_cuda.c")) {
        return;
    }
    let gpu = |name, capability| says(&findings(&with_stub(&case, &[], name, capability).trained()), "GPU 0");
    assert_eq!(gpu("", "75"), (false, TURING.to_string()));
    if COMPILER.is_none() {
        let (good, text) = gpu("", "90");
        let start = "this build has no machine code for GPU 0 (Stub), sm_90a is needed, and there is no NVRTC to make \
                     it (EYEKERN_NVRTC=off): install";
        assert!(!good && text.starts_with(start), "{text}");
        return;
    }
    // without products it cannot train
    let described = "Stub, compute capability 9.0, 132 multiprocessors, 8.0 GiB";
    assert_eq!(gpu("", "90"), (false, format!("{described}: there is no cublasLt, as said above")));
    let last = |run: Ran| run.trained().lines().last().map(str::to_string);
    assert_eq!(last(with_stub(&case, &[], "", "90")), Some("can train on: the CPU".into()));
    if !products(&case) {
        return;
    }
    // those that are for Hopper only are left out elsewhere
    let files = |hopper: bool| SOURCES.iter().filter(|source| hopper || !source.name.ends_with(".sm90.cu")).count();
    assert!(files(true) > files(false));
    for (capability, named) in [("90", "9.0"), ("100", "10.0"), ("120", "12.0"), ("80", "8.0"), ("89", "8.9")] {
        let files = files(capability == "90");
        let fine = format!(
            "Stub, compute capability {named}, 132 multiprocessors, 8.0 GiB, 3.0 GiB free; kernel files: {files} \
             embedded; self-test passed"
        );
        assert_eq!(gpu("", capability), (true, fine), "{capability}");
    }
    // it trains with all that it needs only
    assert_eq!(last(with_stub(&case, &[], "", "90")), Some("can train on: the CPU and the GPU".into()));
    assert_eq!(last(with_stub(&case, &[], "wrong", "90")), Some("can train on: the CPU".into()));
    let memory = "GPU 0 (Stub) is out of memory: 32.0 MiB were asked for, and 3072.0 of 8192.0 MiB are free; \
                  lower data.max_tokens, train.per_device_train_batch_size or data.max_length, or end other programs \
                  on it (see nvidia-smi)";
    assert_eq!(gpu("memory", "90"), (false, memory.to_string()));
    let lost = "self-test: GPU 0 (Stub): work on the GPU failed: uncorrectable ECC error encountered (error 214): the \
                GPU was lost; see `dmesg` for its Xid, and start again";
    assert_eq!(gpu("lost", "90"), (false, lost.to_string()));
    let wrong = "self-test: GPU 0 (Stub): 1 of 262144 results are wrong";
    assert_eq!(gpu("wrong", "90"), (false, wrong.to_string()));
    // a GPU of a family without embedded code: refused without a compiler, compiled for with one
    let (good, text) = gpu("", "103");
    assert!(!good && text.starts_with("this build has no machine code for GPU 0 (Stub), sm_103a "), "{text}");
    let nvrtc = Path::new(env!("CARGO_MANIFEST_DIR")).join("third_party/nvrtc").display().to_string();
    if Path::new(&nvrtc).is_dir() {
        let driver = case.path("driver").display().to_string();
        let env = [("LD_LIBRARY_PATH", driver.as_str()), ("STUB_CAPABILITY", "103"), ("EYEKERN_NVRTC", &nvrtc)];
        let text = doctor(&case, &[], &env).trained();
        let (good, text) = says(&findings(&text), "GPU 0");
        let end = "kernel files: compiled now by NVRTC 12.9; self-test passed";
        assert!(good && text.ends_with(end), "{text}");
    }
}

/// What [`Driver`] does and refuses. Runs in a process of its own, whose driver is the stub.
#[test]
fn the_driver_keeps_its_contract() {
    let case = Case::empty();
    if std::env::var_os("STUB").is_some() {
        contract();
        println!("the contract held");
        return;
    }
    if COMPILER.is_none() || !stub(&case, include_str!("stub_cuda.c")) {
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    again.args(["--exact", "--nocapture", "cuda::the_driver_keeps_its_contract"]).env("STUB", "fine");
    again.env("LD_LIBRARY_PATH", case.path("driver")).env("EYEKERN_CUDA_LIB", "").env("PATH", "");
    let output = again.output().expect("starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the contract held"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn contract() {
    let open = |index| Driver::open(index).map_err(|why| (why.exit_code(), why.to_string()));
    let none = "no GPU 1: there is 1, GPU 0; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu";
    assert_eq!(open(1).err(), Some((4, none.to_string())));
    let driver = open(0).unwrap_or_else(|(_, why)| panic!("{why}"));
    assert_eq!((driver.properties().capability, driver.memory().unwrap()), ((9, 0), (3 << 30, 8 << 30)));
    assert!(!driver.stream().is_null() && driver.compiler().is_none());
    let gpu = Gpu::open(0, None, None).map(|_| ()).map_err(|why| why.to_string());
    assert_eq!(gpu, Err(NO_LT.to_string()));

    let mut block = driver.alloc(10).unwrap();
    driver.write(&mut block, 3, &[1, 2, 3, 4]).unwrap();
    driver.zero(&mut block, 4, 2).unwrap();
    let mut all = [9; 10];
    driver.read(&block, 0, &mut all).unwrap();
    assert_eq!(all, [0, 0, 0, 1, 0, 0, 4, 0, 0, 0]);
    assert_eq!((block.bytes(), driver.alloc(0).unwrap().bytes()), (10, 0));
    let beyond = |result: eyekern::error::Result| result.unwrap_err().to_string();
    assert_eq!(beyond(driver.write(&mut block, 8, &[0; 3])), "3 bytes from 8 on are not within a block of 10");
    assert_eq!(
        beyond(driver.zero(&mut block, usize::MAX, 2)),
        format!("2 bytes from {} on are not within a block of 10", usize::MAX)
    );
    assert_eq!(beyond(driver.read(&block, 11, &mut [])), "0 bytes from 11 on are not within a block of 10");

    let launch = |name, shared, args: &[Arg]| beyond(driver.launch(name, Geometry::line(1, 32, shared), args));
    let arg = Arg::Address(0);
    let kernel = "GPU 0 (Stub): kernel widen_bf16: ";
    assert_eq!(launch("no_such", 0, &[]), "GPU 0 (Stub): kernel no_such: there is no such kernel");
    let wrong = |given: &str| format!("{kernel}arguments of {given} bytes, and it takes [8, 8, 8]");
    assert_eq!(launch("widen_bf16", 0, &[arg, arg]), wrong("[8, 8]"));
    assert_eq!(launch("widen_bf16", 0, &[arg, arg, Arg::I32(1)]), wrong("[8, 8, 4]"));
    let most = 227 * 1024;
    let shared = format!("{kernel}{} bytes of shared memory, and the GPU has {most}", most + 1);
    assert_eq!(launch("widen_bf16", most + 1, &[arg; 3]), shared);
}

/// A library in all places at once, then in one less, and so on.
#[test]
fn libraries_are_found_in_the_documented_order() {
    let case = Case::empty();
    if !stub(&case, "int nothing;\n") {
        return;
    }
    let site = |root: &str, package: &str| format!("{root}/lib/python3.12/site-packages/nvidia/{package}/lib");
    let (cu13, cu12, cublas) = (site("venv", "cu13"), site("venv", "cu12"), site("venv", "cublas"));
    let (hidden, conda) = (site(".venv", "cublas"), site("conda", "cublas"));
    // where both are, CUDA 13's goes first
    let (thirteen, twelve) = ("libcublasLt.so.13", "libcublasLt.so.12");
    let places = [
        ("named", thirteen),
        ("named", twelve),
        ("second", thirteen),
        ("home/lib64", thirteen),
        ("home/lib", twelve),
        ("path/lib64", thirteen),
        ("root/usr/local/cuda/lib64", thirteen),
        ("root/usr/local/cuda-13/lib64", thirteen),
        ("root/usr/local/cuda-12/lib64", twelve),
        ("conda/lib", twelve),
        (&cu13, thirteen),
        (&cu12, twelve),
        (&cublas, twelve),
        (&hidden, twelve),
        (&conda, twelve),
        ("python/nvidia/cu13/lib", thirteen),
        ("loader", twelve),
    ];
    for (place, name) in places {
        std::fs::create_dir_all(case.path(place)).expect("creates");
        std::fs::copy(case.path("driver/libcuda.so.1"), case.path(place).join(name)).expect("copies");
    }
    let at = |place: &str| case.path(place).display().to_string();
    std::fs::create_dir(case.path("bin")).expect("creates");
    case.write("bin/python3", format!("#!/bin/sh\necho\necho {}\n", at("python")));
    let mut mode = std::fs::metadata(case.path("bin/python3")).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(case.path("bin/python3"), mode).expect("may be run");
    let named = format!("{}:{}", at("named"), at("second"));
    let (home, path, venv, bin, loader) = (at("home"), at("path"), at("venv"), at("bin"), at("loader"));
    let (conda, root) = (at("conda"), at("root"));
    let env = [
        ("EYEKERN_CUDA_LIB", named.as_str()),
        ("CUDA_HOME", &home),
        ("CUDA_PATH", &path),
        ("CONDA_PREFIX", &conda),
        ("VIRTUAL_ENV", &venv),
        ("EYEKERN_ROOT", &root),
        ("PATH", &bin),
        ("LD_LIBRARY_PATH", &loader),
    ];
    for (place, name) in places {
        let found = says(&findings(&doctor(&case, &[], &env).trained()), "cublasLt");
        assert_eq!(found, (true, format!("{}/{name}", at(place))));
        std::fs::remove_file(case.path(place).join(name)).expect("removes");
    }
    assert_eq!(says(&findings(&doctor(&case, &[], &env).trained()), "cublasLt"), (false, NO_LT.to_string()));
}

/// A `python3` that never answers is given up. Were it not, this would end with it, minutes later.
#[test]
fn a_slow_python_holds_nothing_up() {
    let case = Case::empty();
    std::fs::create_dir(case.path("bin")).expect("creates");
    // the shell ends with its signal, and the child keeps the pipe open
    case.write("bin/python3", "#!/bin/sh\n/bin/sleep 300\necho /\n");
    let mut mode = std::fs::metadata(case.path("bin/python3")).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(case.path("bin/python3"), mode).expect("may be run");
    let began = std::time::Instant::now();
    let bin = case.path("bin").display().to_string();
    let text = doctor(&case, &[], &[("PATH", &bin)]).trained();
    assert_eq!(says(&findings(&text), "cublasLt"), (false, NO_LT.to_string()));
    assert!(began.elapsed().as_secs() < 200);
}

#[test]
fn the_table_of_kernels_is_that_of_the_build() {
    let case = Case::empty();
    let text = case.run(&["kernels"], &[]).trained();
    let value: Value = serde_json::from_str(&case.run(&["kernels", "--format", "json"], &[]).trained()).expect("JSON");
    let kernels = value["kernels"].as_array().expect("kernels");
    assert_eq!(value["sources"].as_array().map(Vec::len), Some(SOURCES.len()));
    if COMPILER.is_none() {
        assert!(text.starts_with("no machine code in this build, only the sources: ") && kernels.is_empty(), "{text}");
        return;
    }
    assert!(kernels.len() >= CUBINS.len());
    assert_eq!(text.lines().count(), 1 + kernels.len() + 2);
    for (line, kernel) in text.lines().skip(1).zip(kernels) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            (cells[0], cells[1]),
            (kernel["kernel"].as_str().unwrap(), kernel["architecture"].as_str().unwrap())
        );
        assert_eq!(cells[2], kernel["registers"].to_string());
    }
}
