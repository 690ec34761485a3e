//! kernels/*.cu to machine code for each architecture, embedded as the table that `src/backend/cuda/kernels.rs`
//! includes. Without a compiler the table has the sources only.
//!
//! | variable | |
//! |---|---|
//! | `EYEKERN_NVRTC` | the compiler: its file, or a folder that has it; `off` for none |
//! | `EYEKERN_REQUIRE_NVRTC` | `1`: no compiler is an error |
//! | `EYEKERN_ARCHS` | only these architectures, separated by commas |

use crate::architecture::{ARCHITECTURES, wanted};
use crate::nvrtc::{self, Compiled, KernelSource, Nvrtc, OPTIONS};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const REMEDY: &str = "fetch it with `python3 scripts/fetch_nvrtc.py` or name it with EYEKERN_NVRTC";

/// A file of kernels/.
struct File {
    name: String,
    text: String,
    path: PathBuf,
}

impl File {
    fn source(&self) -> KernelSource<'_> {
        KernelSource { name: &self.name, text: &self.text }
    }
}

/// Compiles what there is to compile and writes the table to `$OUT_DIR/kernels.rs`.
pub fn embed() -> Result<(), String> {
    let root = folder("CARGO_MANIFEST_DIR")?;
    let out = folder("OUT_DIR")?;
    println!("cargo::rerun-if-changed={}", root.join("kernels").display());
    let sources = files(&root.join("kernels"), "cu")?;
    let headers = files(&root.join("kernels"), "cuh")?;
    let architectures = architectures()?;

    let nvrtc = match compiler(&root)? {
        Ok(nvrtc) => Some(nvrtc),
        Err(why) if required() => {
            return Err(format!("EYEKERN_REQUIRE_NVRTC=1, but there is no NVRTC ({why}): {REMEDY}"));
        }
        Err(why) => {
            println!("cargo::warning=no NVRTC ({why}), so no compiled CUDA kernels are embedded: {REMEDY}");
            None
        }
    };
    let mut cubins = Vec::new();
    if let Some(nvrtc) = &nvrtc {
        let jobs: Vec<(&File, &str)> = sources
            .iter()
            .flat_map(|file| architectures.iter().map(move |&architecture| (file, architecture)))
            .filter(|(file, architecture)| wanted(&file.name, architecture))
            .collect();
        let cache = Cache::new(&out, nvrtc)?;
        cubins = compile(nvrtc, &cache, &headers, &jobs)?;
    }
    write_table(&out.join("kernels.rs"), nvrtc.as_ref(), &sources, &headers, &cubins)
}

fn folder(variable: &'static str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {variable}"))
}

fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn required() -> bool {
    variable("EYEKERN_REQUIRE_NVRTC").is_some_and(|value| value != "0")
}

/// The files of a folder with this extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<File>, String> {
    let fail = |path: &Path, why: std::io::Error| format!("{}: cannot read: {why}", path.display());
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).map_err(|why| fail(folder, why))? {
        let path = entry.map_err(|why| fail(folder, why))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            list.push(File { name, text: fs::read_to_string(&path).map_err(|why| fail(&path, why))?, path });
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

fn architectures() -> Result<Vec<&'static str>, String> {
    let Some(names) = variable("EYEKERN_ARCHS") else { return Ok(ARCHITECTURES.to_vec()) };
    let find = |name: &str| ARCHITECTURES.into_iter().find(|&known| known == name);
    let unknown = |name| format!("EYEKERN_ARCHS: unknown architecture {name:?}: any of {}", ARCHITECTURES.join(","));
    names.split(',').map(str::trim).map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

/// The compiler. The outer error is a variable that names none; the inner one says why there is none.
fn compiler(root: &Path) -> Result<Result<Nvrtc, String>, String> {
    // the folder is in the repository, so that the arrival of the library below it is seen
    let third_party = root.join("third_party");
    if third_party.is_dir() {
        println!("cargo::rerun-if-changed={}", third_party.display());
    }
    for name in ["EYEKERN_CUDA_LIB", "CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"] {
        variable(name);
    }
    let named = variable(nvrtc::VARIABLE).is_some_and(|name| name != "off");
    match Nvrtc::find(Some(&third_party.join("nvrtc"))) {
        Err(why) if named => Err(why),
        found => Ok(found),
    }
}

/// Files of the cache: code, log.
type Kept = (PathBuf, PathBuf);

/// What was compiled, and in which files of the cache it lies.
struct Cubin<'a> {
    source: &'a str,
    architecture: &'a str,
    code: PathBuf,
    log: PathBuf,
}

/// Compiles the jobs on as many threads as cargo grants. Fails with all messages of the first that fails.
fn compile<'a>(
    nvrtc: &Nvrtc, cache: &Cache, headers: &[File], jobs: &[(&'a File, &'a str)],
) -> Result<Vec<Cubin<'a>>, String> {
    let headers: Vec<KernelSource> = headers.iter().map(File::source).collect();
    let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(file, architecture)) = jobs.get(job) else { break };
                    let result = cache.get(nvrtc, file.source(), &headers, architecture);
                    done.lock().expect("no thread panics").insert(job, result);
                }
            });
        }
    });
    let done = done.into_inner().expect("no thread panics").into_values();
    let cubin = |(&(file, architecture), result): (&(&'a File, &'a str), Result<Kept, String>)| {
        let (code, log) = result.map_err(|why| format!("kernels/{} for {architecture}:\n{why}", file.name))?;
        Ok(Cubin { source: &file.name, architecture, code, log })
    };
    jobs.iter().zip(done).map(cubin).collect()
}

/// Compiled code, kept in the target directory by everything that determines it.
struct Cache {
    folder: PathBuf,
    compiler: String,
}

impl Cache {
    /// In the target directory, so that all profiles share it and `cargo clean` empties it.
    fn new(out: &Path, nvrtc: &Nvrtc) -> Result<Cache, String> {
        let target = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out);
        let folder = target.join("kernels");
        fs::create_dir_all(&folder).map_err(|why| format!("{}: cannot create: {why}", folder.display()))?;
        // builds of one version differ in size, if in nothing else that is quick to tell
        let size = nvrtc.path.as_ref().and_then(|path| path.metadata().ok()).map_or(0, |file| file.len());
        Ok(Cache { folder, compiler: format!("NVRTC {:?} of {size} bytes, {OPTIONS:?}", nvrtc.version) })
    }

    /// The files of code and log. The whole key is kept and compared, so its hash need only be short.
    fn get(
        &self, nvrtc: &Nvrtc, file: KernelSource, headers: &[KernelSource], architecture: &str,
    ) -> Result<Kept, String> {
        let key = format!("{}, {architecture}\n{file:?}\n{headers:?}\n", self.compiler);
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let path = |extension: &str| {
            let stem = file.name.strip_suffix(".cu").unwrap_or(file.name);
            self.folder.join(format!("{stem}.{architecture}.{:016x}.{extension}", hasher.finish()))
        };
        let (code, log, whole) = (path("cubin"), path("log"), path("key"));
        if fs::read(&whole).is_ok_and(|kept| kept == key.as_bytes()) && code.is_file() && log.is_file() {
            return Ok((code, log));
        }
        let compiled: Compiled = nvrtc.compile(file, headers, architecture)?;
        put(&code, &compiled.cubin)?;
        put(&log, compiled.log.as_bytes())?;
        // last: where there is a key, there is the rest
        put(&whole, key.as_bytes())?;
        Ok((code, log))
    }
}

/// Writes a file through another, as two builds may share the target directory.
fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.map_err(|why| format!("{}: cannot write: {why}", path.display()))
}

fn write_table(
    path: &Path, nvrtc: Option<&Nvrtc>, sources: &[File], headers: &[File], cubins: &[Cubin],
) -> Result<(), String> {
    let mut table = String::new();
    let version = nvrtc.map(|nvrtc| nvrtc.version);
    let mut line = |text: std::fmt::Arguments| writeln!(table, "{text}").map_err(|why| why.to_string());
    line(format_args!("pub static COMPILER: Option<(i32, i32)> = {version:?};"))?;
    for (name, files) in [("SOURCES", sources), ("HEADERS", headers)] {
        line(format_args!("pub static {name}: &[KernelSource<'static>] = &["))?;
        for file in files {
            line(format_args!("KernelSource {{ name: {:?}, text: include_str!({:?}) }},", file.name, file.path))?;
        }
        line(format_args!("];"))?;
    }
    line(format_args!("pub static CUBINS: &[Cubin] = &["))?;
    for Cubin { source, architecture, code, log } in cubins {
        line(format_args!(
            "Cubin {{ source: {source:?}, architecture: {architecture:?}, code: include_bytes!({code:?}), \
             log: include_str!({log:?}) }},"
        ))?;
    }
    line(format_args!("];"))?;
    put(path, table.as_bytes())
}
