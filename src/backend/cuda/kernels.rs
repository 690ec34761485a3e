//! The kernels as the build embedded them: sources always, machine code where it had a compiler (build/cubins.rs).

use super::nvrtc::KernelSource;

/// Machine code of one kernel file for one architecture.
#[derive(Debug)]
pub struct Cubin {
    /// `norm.cu`.
    pub source: &'static str,
    /// `sm_90a`.
    pub architecture: &'static str,
    /// An ELF file.
    pub code: &'static [u8],
    /// The compiler's messages: registers and spills of each kernel, and warnings.
    pub log: &'static str,
}

/// What the build wrote; named here, so that each item has its documentation.
mod embedded {
    use super::{Cubin, KernelSource};
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// Version of the compiler behind [`CUBINS`]; none if the build had none.
pub static COMPILER: Option<(i32, i32)> = embedded::COMPILER;
/// kernels/*.cu.
pub static SOURCES: &[KernelSource<'static>] = embedded::SOURCES;
/// kernels/*.cuh.
pub static HEADERS: &[KernelSource<'static>] = embedded::HEADERS;
/// By source, then by architecture, older first.
pub static CUBINS: &[Cubin] = embedded::CUBINS;

/// How to get compiled kernels into the binary.
pub const REMEDY: &str = "run `python3 scripts/fetch_nvrtc.py` and build again";
