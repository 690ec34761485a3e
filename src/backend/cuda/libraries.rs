//! Where NVIDIA's libraries are, and opening them.
//!
//! The folders, in order of search:
//!
//! 1. those of `EYEKERN_CUDA_LIB`, separated by colons;
//! 2. CUDA toolkits: `$CUDA_HOME`, `$CUDA_PATH`, `/usr/local/cuda`, `/usr/local/cuda-13`;
//! 3. Python packages (PyTorch brings them): `nvidia/cu13/lib`, `nvidia/cuda_nvrtc/lib` and `nvidia/cublas/lib` below
//!    the site-packages of `$VIRTUAL_ENV`, then below the search path of `python3`;
//! 4. wherever the system's loader looks.
//!
//! A library is opened by its full path and never closed. From then on the loader knows it by its short name too,
//! which is how cudarc and the libraries themselves ask for it; `LD_LIBRARY_PATH` would have to be set beforehand.
//!
//! Also part of the build script, so it uses the standard library and libloading only.
#![allow(unsafe_code)] // opening a library runs its initialisers

use libloading::Library;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The driver; it comes with the system, never with a toolkit.
pub const DRIVER: &str = "libcuda.so.1";
/// The run-time compiler.
pub const NVRTC: &str = "libnvrtc.so.13";
/// Matrix products.
pub const CUBLASLT: &str = "libcublasLt.so.13";

/// A library that is open for the rest of the process.
pub struct Opened {
    /// Its handle.
    pub library: &'static Library,
    /// Its file, as far as it is known.
    pub path: Option<PathBuf>,
}

/// The folders of the search order, the system's excepted. Asks `python3` for its search path.
pub fn folders() -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = env::var_os("EYEKERN_CUDA_LIB").iter().flat_map(env::split_paths).collect();
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    for toolkit in named.chain(["/usr/local/cuda".into(), "/usr/local/cuda-13".into()]) {
        list.extend([toolkit.join("lib64"), toolkit.join("lib")]);
    }
    for site in virtual_environment().into_iter().chain(python_path()) {
        list.extend(["cu13", "cuda_nvrtc", "cublas"].map(|package| site.join("nvidia").join(package).join("lib")));
    }
    list.retain(|folder| folder.is_dir());
    let mut seen = std::collections::HashSet::new();
    list.retain(|folder| seen.insert(folder.clone()));
    list
}

/// `lib/python3.*/site-packages` of the virtual environment that is active.
fn virtual_environment() -> Vec<PathBuf> {
    let Some(root) = env::var_os("VIRTUAL_ENV") else { return Vec::new() };
    let versions = std::fs::read_dir(Path::new(&root).join("lib")).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("site-packages")).collect()
}

/// Where `python3` looks for packages, if there is a `python3`.
fn python_path() -> Vec<PathBuf> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(*sys.path, sep='\\n')"]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = python.output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
}

/// Opens the library of this name in the first folder that has it, else by the system's loader. Fails with the reason.
pub fn open(name: &str, folders: &[PathBuf]) -> Result<Opened, String> {
    let mut reason = None;
    for path in folders.iter().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
        match open_file(&path) {
            Ok(library) => return Ok(Opened { library, path: Some(path) }),
            Err(why) => reason = Some(why),
        }
    }
    match load(Path::new(name)) {
        Ok(library) => Ok(Opened { library, path: mapped(name) }),
        Err(why) => Err(reason.unwrap_or(why)),
    }
}

/// Opens one library file.
pub fn open_file(path: &Path) -> Result<&'static Library, String> {
    // NVRTC opens its builtins by their short name, without knowing that they lie beside it
    let folder = path.parent().and_then(|folder| folder.read_dir().ok());
    let beside = folder.into_iter().flatten().flatten().map(|entry| entry.path());
    for builtins in beside.filter(|file| is_nvrtc(path) && name_of(file).starts_with("libnvrtc-builtins.so")) {
        load(&builtins)?;
    }
    load(path)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

fn is_nvrtc(path: &Path) -> bool {
    name_of(path).starts_with("libnvrtc.so")
}

#[cfg(unix)]
fn load(path: &Path) -> Result<&'static Library, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
    // SAFETY: NVIDIA's libraries do nothing on loading but set themselves up, on any thread.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) };
    keep(library.map(Into::into))
}

#[cfg(not(unix))]
fn load(path: &Path) -> Result<&'static Library, String> {
    // SAFETY: as above.
    keep(unsafe { Library::new(path) })
}

/// Leaks the handle, so that nothing can close the library. Of an error it takes the system's own words, which
/// libloading keeps one level down.
fn keep(library: Result<Library, libloading::Error>) -> Result<&'static Library, String> {
    let words = |error: libloading::Error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    };
    Ok(Box::leak(Box::new(library.map_err(words)?)))
}

/// The file from which a library of this name is in the process.
fn mapped(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let file = |line: &str| line.find('/').map(|start| PathBuf::from(&line[start..]));
    // the file of libnvrtc.so.13 may bear a longer name: libnvrtc.so.13.0.88
    maps.lines().filter_map(file).find(|path| name_of(path).starts_with(name))
}
