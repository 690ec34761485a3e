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
    /// Opens the compiler: what `EYEKERN_NVRTC` names, else that of the folder `own`, else the first in the search
    /// order of [`libraries`]. Fails with the reason.
    pub fn find(own: Option<&Path>) -> Result<Nvrtc, String> {
        let opened = match std::env::var(VARIABLE).unwrap_or_default().as_str() {
            "" => {
                let own = own.filter(|folder| folder.join(libraries::NVRTC).is_file());
                let folders = own.map_or_else(libraries::folders, |folder| vec![folder.to_path_buf()]);
                libraries::open(libraries::NVRTC, &folders)?
            }
            "off" => return Err(format!("{VARIABLE}=off")),
            name => {
                let path = Path::new(name);
                let file = if path.is_dir() { path.join(libraries::NVRTC) } else { path.to_path_buf() };
                let library = libraries::open_file(&file).map_err(|why| format!("{VARIABLE}={name}: {why}"))?;
                Opened { library, path: Some(file) }
            }
        };
        Nvrtc::new(opened)
    }

    /// The functions of an open library, which stays open for the rest of the process.
    pub fn new(Opened { library, path }: Opened) -> Result<Nvrtc, String> {
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of nvrtc.h, unchanged since CUDA 11.1; the library is never closed.
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
            create: function!(c"nvrtcCreateProgram"),
            compile: function!(c"nvrtcCompileProgram"),
            log_size: function!(c"nvrtcGetProgramLogSize"),
            log: function!(c"nvrtcGetProgramLog"),
            cubin_size: function!(c"nvrtcGetCUBINSize"),
            cubin: function!(c"nvrtcGetCUBIN"),
            destroy: function!(c"nvrtcDestroyProgram"),
        })
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
