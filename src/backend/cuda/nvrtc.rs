//! NVRTC, NVIDIA's run-time compiler: CUDA C++ in, a cubin out. No GPU and no CUDA header takes part.
//!
//! Also part of the build script, so it uses the standard library and libloading only.
#![allow(unsafe_code)] // calls into the library

use super::libraries::{self, Opened};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

/// What every kernel is compiled with, the architecture aside. `-v` makes the assembler report registers and spills.
pub const OPTIONS: [&str; 2] = ["--std=c++17", "--ptxas-options=-v"];

/// A text and the name under which others include it, or errors quote it.
#[derive(Clone, Copy, Debug)]
pub struct KernelSource<'a> {
    /// `norm.cu`, `prim.cuh`.
    pub name: &'a str,
    /// CUDA C++.
    pub text: &'a str,
}

/// What came out.
pub struct Compiled {
    /// Machine code of one architecture, an ELF file.
    pub cubin: Vec<u8>,
    /// Warnings, and the assembler's report.
    pub log: String,
}

type Program = *mut c_void;
type Status = c_int;
type Strings = *const *const c_char;

/// The library's functions.
pub struct Nvrtc {
    /// Major and minor.
    pub version: (i32, i32),
    /// The library's file, as far as it is known.
    pub path: Option<PathBuf>,
    known_count: unsafe extern "C" fn(*mut c_int) -> Status,
    known: unsafe extern "C" fn(*mut c_int) -> Status,
    create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Strings, Strings) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, Strings) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut u8) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut u8) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

/// Destroys the program however its compilation ends.
struct Owned<'a>(&'a Nvrtc, Program);

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created by this library and is used nowhere else.
        unsafe { (self.0.destroy)(&mut self.1) };
    }
}

/// Names the compiler: its file, or a folder that has it; `off` for none.
pub const VARIABLE: &str = "EYEKERN_NVRTC";

impl Nvrtc {
    /// Opens the compiler for a build: what `EYEKERN_NVRTC` names, else that of the folder `own`, else the first in the
    /// search order of [`libraries`]. In each place CUDA 12's goes first, because more drivers accept its machine code.
    /// Fails with the reason.
    pub fn find(own: Option<&Path>) -> Result<Nvrtc, String> {
        let names: Vec<&str> = libraries::NVRTC.iter().rev().copied().collect();
        if let Some(named) = named(&names) {
            return named;
        }
        let own = own.map(|folder| vec![folder.to_path_buf()]).filter(|own| !libraries::files(&names, own).is_empty());
        Nvrtc::new(libraries::open(&names, &own.unwrap_or_else(libraries::folders))?)
    }

    /// Opens the compiler whose machine code a driver of this CUDA version accepts and that knows an architecture, if
    /// one is named: what `EYEKERN_NVRTC` names, else the first in the search order of [`libraries`]. Fails with the
    /// reason.
    pub fn serving(driver: i32, architecture: Option<&str>) -> Result<Nvrtc, String> {
        let names = libraries::served(libraries::NVRTC, driver);
        let fitting = |nvrtc: Nvrtc| match architecture {
            Some(architecture) if !nvrtc.knows(architecture) => {
                let (major, minor) = nvrtc.version;
                let place = libraries::place(nvrtc.path.as_deref());
                Err(format!("{place} of version {major}.{minor} does not know {architecture}"))
            }
            _ => Ok(nvrtc),
        };
        if let Some(named) = named(names) {
            return named.and_then(fitting);
        }
        let mut reason = None;
        for path in libraries::files(names, &libraries::folders()) {
            let opened = libraries::open_file(&path).map(|library| Opened { library, path: Some(path) });
            match opened.and_then(Nvrtc::new).and_then(fitting) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        let loader = libraries::open(names, &[]).and_then(Nvrtc::new).and_then(fitting);
        loader.map_err(|why| reason.unwrap_or(why))
    }

    /// The functions of an open library, which stays open for the rest of the process.
    pub fn new(Opened { library, path }: Opened) -> Result<Nvrtc, String> {
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of nvrtc.h, unchanged since CUDA 11.2; the library is never closed.
                *unsafe { library.get($name.to_bytes_with_nul()) }.map_err(|why| why.to_string())?
            };
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = function!(c"nvrtcVersion");
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two valid places for two numbers.
        check(unsafe { version(&mut major, &mut minor) })?;
        Ok(Nvrtc {
            version: (major, minor),
            path,
            known_count: function!(c"nvrtcGetNumSupportedArchs"),
            known: function!(c"nvrtcGetSupportedArchs"),
            create: function!(c"nvrtcCreateProgram"),
            compile: function!(c"nvrtcCompileProgram"),
            log_size: function!(c"nvrtcGetProgramLogSize"),
            log: function!(c"nvrtcGetProgramLog"),
            cubin_size: function!(c"nvrtcGetCUBINSize"),
            cubin: function!(c"nvrtcGetCUBIN"),
            destroy: function!(c"nvrtcDestroyProgram"),
        })
    }

    /// Whether it compiles for an architecture (`sm_90a`).
    fn knows(&self, architecture: &str) -> bool {
        let mut count = 0;
        // SAFETY: a valid place for a number.
        let counted = check(unsafe { (self.known_count)(&mut count) });
        let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: room for as many numbers as the library has just said.
        let listed = counted.and_then(|()| check(unsafe { (self.known)(list.as_mut_ptr()) }));
        let number = architecture.trim_start_matches("sm_").trim_end_matches('a').parse::<c_int>();
        listed.is_ok() && number.is_ok_and(|number| list.contains(&number))
    }

    /// Compiles a kernel file for an architecture (`sm_90a`); `headers` is what it may include. Threads may compile at
    /// once. Fails with the compiler's messages.
    pub fn compile(
        &self, file: KernelSource, headers: &[KernelSource], architecture: &str,
    ) -> Result<Compiled, String> {
        let names = strings(headers.iter().map(|header| header.name))?;
        let texts = strings(headers.iter().map(|header| header.text))?;
        let target = format!("--gpu-architecture={architecture}");
        let options = strings(OPTIONS.into_iter().chain([target.as_str()]))?;
        let (name, text) = (string(file.name)?, string(file.text)?);

        let mut program = ptr::null_mut();
        let (texts, names) = (pointers(&texts), pointers(&names));
        let count = headers.len() as c_int;
        // SAFETY: all strings end in NUL and outlive the call, which copies them; both lists have `count` entries.
        check(unsafe {
            (self.create)(&mut program, text.as_ptr(), name.as_ptr(), count, texts.as_ptr(), names.as_ptr())
        })?;
        let program = Owned(self, program);
        let options = pointers(&options);
        // SAFETY: a live program, and as many options as said.
        let status = unsafe { (self.compile)(program.1, options.len() as c_int, options.as_ptr()) };
        let mut log = self.bytes(&program, self.log_size, self.log)?;
        log.retain(|&byte| byte != 0);
        let log = String::from_utf8_lossy(&log);
        // the one line that two runs do not share
        let log: String = log.split_inclusive('\n').filter(|line| !line.contains("Compile time")).collect();
        if status != 0 {
            return Err(format!("{}\n{}", log.trim_end(), check(status).err().unwrap_or_default()).trim().into());
        }
        Ok(Compiled { cubin: self.bytes(&program, self.cubin_size, self.cubin)?, log })
    }

    fn bytes(
        &self, program: &Owned, size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        fill: unsafe extern "C" fn(Program, *mut u8) -> Status,
    ) -> Result<Vec<u8>, String> {
        let mut count = 0;
        // SAFETY: a live program and a place for its size.
        check(unsafe { size(program.1, &mut count) })?;
        let mut bytes = vec![0; count];
        // SAFETY: the buffer has the size that the library has just named for it.
        check(unsafe { fill(program.1, bytes.as_mut_ptr()) })?;
        Ok(bytes)
    }
}

/// The compiler that [`VARIABLE`] names, if it is set.
fn named(names: &[&str]) -> Option<Result<Nvrtc, String>> {
    let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
    if name == "off" {
        return Some(Err(format!("{VARIABLE}=off")));
    }
    let path = PathBuf::from(&name);
    let file = match path.is_dir() {
        true => libraries::files(names, std::slice::from_ref(&path)).into_iter().next(),
        false => Some(path),
    };
    let file = file.ok_or_else(|| format!("{VARIABLE}={name}: {} not found there", names.join(" or ")));
    Some(file.and_then(|file| {
        let library = libraries::open_file(&file).map_err(|why| format!("{VARIABLE}={name}: {why}"))?;
        Nvrtc::new(Opened { library, path: Some(file) })
    }))
}

fn check(status: Status) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(format!("NVRTC failed with status {status}")) }
}

fn string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a source text contains a NUL byte".to_string())
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, String> {
    texts.map(string).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).collect()
}
