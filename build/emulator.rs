//! Compiles the emulator, the kernels and the test kernels for the host.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

/// Files in `dir` that end in `.{extension}`, in the order of their names.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut list: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    list.retain(|p| p.extension().is_some_and(|e| e == extension));
    list.sort();
    list
}

/// Links a static library with every `kernels/**/*.cu` and the emulator into the crate.
pub fn build() {
    println!("cargo::rerun-if-changed=build/emulator.rs");
    println!("cargo::rerun-if-changed=kernels");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by Cargo")).join("kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by Cargo"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).define("EYEKERN_EMULATED", None).include(&root);
    // FMA where the compiler likes it would give other bits on other hosts; #pragma unroll is CUDA's
    build.flag("-ffp-contract=off").flag("-Wno-unknown-pragmas").flag("-Wno-psabi").debug(true);
    println!("cargo::rerun-if-env-changed=EYEKERN_SANITIZE");
    if let Some(names) = env::var("EYEKERN_SANITIZE").ok().filter(|names| !names.is_empty()) {
        // scripts/sanitize.sh; the runtimes come from the compiler, as rustc has none on stable
        build.flag(format!("-fsanitize={names}")).flag("-fno-omit-frame-pointer").opt_level(1);
        println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
        for name in names.split(',') {
            let library = if name == "undefined" { "ubsan" } else { "asan" };
            println!("cargo::rustc-link-arg=-l{library}");
        }
    }
    let mut sources = files(&root.join("emulator"), "cpp");
    for (folder, prefix) in [(root.clone(), "kernel"), (root.join("tests"), "test")] {
        for kernel in files(&folder, "cu") {
            // C++ compilers do not know the extension .cu
            let name = kernel.file_stem().expect("a file").to_string_lossy().into_owned();
            let wrapper = out.join(format!("{prefix}_{name}.cpp"));
            fs::write(&wrapper, format!("#include {:?}\n", kernel.display().to_string())).expect("OUT_DIR is writable");
            sources.push(wrapper);
        }
    }
    // kernels are called through a table that their static constructors fill: nothing else refers to them
    build.link_lib_modifier("+whole-archive");
    let objects = objects(&build, &sources);
    build.objects(objects).compile("eyekern_emulator");
    made_up_gpu(&root, &out);
}

/// Compiles each source on as many threads as cargo grants, for it takes minutes of processor time in all.
fn objects(build: &cc::Build, sources: &[PathBuf]) -> Vec<PathBuf> {
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (next, objects) = (AtomicUsize::new(0), Mutex::new(vec![Vec::new(); sources.len()]));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(source) = sources.get(i) else { break };
                    let made = build.clone().file(source).compile_intermediates();
                    objects.lock().expect("no thread panics")[i] = made;
                }
            });
        }
    });
    objects.into_inner().expect("no thread panics").concat()
}

/// Makes the driver and the cublasLt of a GPU that the emulator plays, for tests of everything above them. One library
/// under both names: the loader asks for one or the other. Drivers of older CUDA versions lie in folders of their own,
/// `12.2` and `12.8`, with the cublasLt of their time.
fn made_up_gpu(kernels: &Path, out: &Path) {
    let folder = out.join("made_up_gpu");
    for (version, place, products) in [
        (13_000, folder.clone(), "libcublasLt.so.13"),
        (12_080, folder.join("12.8"), "libcublasLt.so.12"),
        (12_020, folder.join("12.2"), "libcublasLt.so.12"),
    ] {
        fs::create_dir_all(&place).expect("OUT_DIR is writable");
        let driver = place.join("libcuda.so.1");
        let mut link = cc::Build::new().cpp(true).get_compiler().to_command();
        link.args(["-std=c++17", "-O2", "-shared", "-fPIC", "-pthread", "-o"]).arg(&driver);
        link.arg(format!("-DMADE_UP_CUDA={version}")).arg("-I").arg(kernels);
        link.args(files(&kernels.join("emulator/gpu"), "cpp"));
        link.arg("-Wl,--whole-archive").arg(out.join("libeyekern_emulator.a")).arg("-Wl,--no-whole-archive");
        if let Some(names) = env::var("EYEKERN_SANITIZE").ok().filter(|names| !names.is_empty()) {
            link.arg(format!("-fsanitize={names}"));
        }
        assert!(link.status().is_ok_and(|status| status.success()), "the made-up GPU does not link");
        fs::copy(&driver, place.join(products)).expect("OUT_DIR is writable");
    }
    println!("cargo::rustc-env=EYEKERN_MADE_UP_GPU={}", folder.display());
}
