//! Where NVIDIA's libraries are, and opening them.
//!
//! The folders of cublasLt and NVRTC, in order of search:
//!
//! 1. those of `EYEKERN_CUDA_LIB`, separated by colons;
//! 2. CUDA toolkits: `$CUDA_HOME`, `$CUDA_PATH`, `/usr/local/cuda`, `/usr/local/cuda-13`, `/usr/local/cuda-12`;
//! 3. `$CONDA_PREFIX/lib`;
//! 4. Python packages (PyTorch brings them): `nvidia/cu13/lib`, `nvidia/cu12/lib`, `nvidia/cuda_nvrtc/lib` and
//!    `nvidia/cublas/lib` below the site-packages of `$VIRTUAL_ENV`, `./.venv` and `$CONDA_PREFIX`, then below the
//!    search path of `python3`;
//! 5. wherever the system's loader looks.
//!
//! The driver's library comes with the driver ([`driver`]).
//!
//! A library is opened by its full path and never closed, and its functions are taken from its handle: another of its
//! name, which the loader would find, is not called. Other libraries that ask for it by its short name get it too.
//!
//! Also part of the build script, so it uses the standard library and libloading only.
#![allow(unsafe_code)] // opening a library runs its initialisers

use super::system;
use libloading::Library;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// The driver.
pub const DRIVER: &str = "libcuda.so.1";
/// The run-time compiler: of CUDA 13, of CUDA 12.
pub const NVRTC: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12"];
/// Matrix products: of CUDA 13, of CUDA 12.
pub const CUBLASLT: &[&str] = &["libcublasLt.so.13", "libcublasLt.so.12"];

/// The names of [`NVRTC`] or [`CUBLASLT`] that a driver of this CUDA version (12020) serves: what is of CUDA 13 needs a
/// driver of CUDA 13.
pub fn served(names: &'static [&'static str], driver: i32) -> &'static [&'static str] {
    if driver < 13_000 { &names[1..] } else { names }
}

/// A library that is open for the rest of the process.
pub struct Opened {
    /// Its handle.
    pub library: &'static Library,
    /// Its file, as far as it is known.
    pub path: Option<PathBuf>,
}

impl Opened {
    /// Its file for a report.
    pub fn place(&self) -> String {
        place(self.path.as_deref())
    }
}

/// The file of an open library for a report.
pub fn place(path: Option<&Path>) -> String {
    path.map_or("in the process".to_string(), |path| path.display().to_string())
}

/// Folders that an environment variable names.
fn named(variable: &str) -> Vec<PathBuf> {
    let folders = env::var_os(variable).iter().flat_map(env::split_paths).collect::<Vec<_>>();
    folders.into_iter().filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// The folders of the search order, the system's excepted. Asks `python3` for its search path.
pub fn folders() -> Vec<PathBuf> {
    let mut list = named("EYEKERN_CUDA_LIB");
    let toolkits = ["/usr/local/cuda", "/usr/local/cuda-13", "/usr/local/cuda-12"].map(system::path);
    for toolkit in named("CUDA_HOME").into_iter().chain(named("CUDA_PATH")).chain(toolkits) {
        list.extend([toolkit.join("lib64"), toolkit.join("lib")]);
    }
    let conda = named("CONDA_PREFIX");
    list.extend(conda.iter().map(|prefix| prefix.join("lib")));
    let here = env::current_dir().ok().map(|folder| folder.join(".venv"));
    let environments = named("VIRTUAL_ENV").into_iter().chain(here).chain(conda);
    for site in environments.flat_map(|root| site_packages(&root)).chain(python_path()) {
        let packages = ["cu13", "cu12", "cuda_nvrtc", "cublas"];
        list.extend(packages.map(|package| site.join("nvidia").join(package).join("lib")));
    }
    list.retain(|folder| folder.is_dir());
    let mut seen = std::collections::HashSet::new();
    list.retain(|folder| seen.insert(folder.clone()));
    list
}

/// `lib/python3.*/site-packages` of a virtual environment.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut sites: Vec<PathBuf> = versions.map(|version| version.join("site-packages")).collect();
    sites.sort();
    sites
}

/// What `python3` may take for its answer. It can lie on a slow disk, or be a script that does more than start Python.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where `python3` looks for packages, if there is a `python3` and it answers in time; asked once a process.
fn python_path() -> Vec<PathBuf> {
    static PATH: OnceLock<Vec<PathBuf>> = OnceLock::new();
    PATH.get_or_init(|| ask_python().unwrap_or_default()).clone()
}

fn ask_python() -> Option<Vec<PathBuf>> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(*sys.path, sep='\\n')"]);
    python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = python.spawn().ok()?;
    let mut output = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    // not waited for: a child of `python3` may hold the other end of the pipe after its death
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = std::io::Read::read_to_end(&mut output, &mut text);
        let _ = send.send(read.map(|_| text));
    });
    let answer = receive.recv_timeout(PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
    let text = answer.ok()?.ok()?;
    Some(String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect())
}

/// Opens the driver's library: in the folders of `EYEKERN_CUDA_LIB`, under WSL in the folder that Windows fills, then
/// by the system's loader, then where NixOS and WSL keep it. Fails with the reason.
pub fn driver() -> Result<Opened, String> {
    let [wsl, nixos] = ["/usr/lib/wsl/lib", "/run/opengl-driver/lib"].map(system::path);
    let mut first = named("EYEKERN_CUDA_LIB");
    first.extend(system::wsl().then(|| wsl.clone()));
    search(&[DRIVER], &first, &[nixos, wsl])
}

/// Opens a library of one of these names, preferred first: in the first folder that has one, else by the system's
/// loader. Fails with the reason.
pub fn open(names: &[&str], folders: &[PathBuf]) -> Result<Opened, String> {
    search(names, folders, &[])
}

/// In the folders `first`, by the system's loader, in the folders `last`.
fn search(names: &[&str], first: &[PathBuf], last: &[PathBuf]) -> Result<Opened, String> {
    let mut reasons = Vec::new();
    let mut within = |folders: &[PathBuf]| {
        files(names, folders).into_iter().find_map(|path| match open_file(&path) {
            Ok(library) => Some(Opened { library, path: Some(path) }),
            Err(why) => {
                reasons.push(why);
                None
            }
        })
    };
    if let Some(opened) = within(first) {
        return Ok(opened);
    }
    let mut loader = Vec::new();
    for name in names {
        match load(Path::new(name)) {
            Ok(library) => return Ok(Opened { library, path: mapped(name) }),
            Err(why) => loader.push(why),
        }
    }
    if let Some(opened) = within(last) {
        return Ok(opened);
    }
    // a library that is there and cannot be opened says more than one that is missing
    let missing =
        |why: &String| names.iter().any(|name| why.starts_with(&format!("{name}: cannot open shared object")));
    reasons.extend(loader.into_iter().filter(|why| !missing(why)));
    Err(reasons.into_iter().next().unwrap_or_else(|| format!("{} not found", names.join(" or "))))
}

/// The files of these names, folder by folder, preferred names first.
pub fn files(names: &[&str], folders: &[PathBuf]) -> Vec<PathBuf> {
    let all = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    all.filter(|path| path.is_file()).collect()
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

/// Opens a library whose symbols no other library sees: two versions of one can be open at once.
fn load(path: &Path) -> Result<&'static Library, String> {
    // SAFETY: NVIDIA's libraries do nothing on loading but set themselves up, on any thread.
    let library = unsafe { Library::new(path) };
    // the system's own words, which libloading keeps one level down
    let words = |error: libloading::Error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    };
    // leaked, so that nothing can close the library
    Ok(Box::leak(Box::new(library.map_err(words)?)))
}

/// The file from which a library of this name is in the process.
fn mapped(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let file = |line: &str| line.find('/').map(|start| PathBuf::from(&line[start..]));
    let files: Vec<PathBuf> = maps.lines().filter_map(file).collect();
    // the file of libcuda.so.1 bears a longer name, libcuda.so.1.1, or its release: libcuda.so.580.65.06
    let stem = name.find(".so").map_or(name, |end| &name[..end + 3]);
    let of = |start: &str| files.iter().find(|path| name_of(path).starts_with(start)).cloned();
    of(name).or_else(|| of(stem))
}
