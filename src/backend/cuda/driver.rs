//! A GPU through the driver: its kernels, memory and launches.
//!
//! Everything here is asynchronous but [`Driver::read`] and [`Driver::synchronize`]; a kernel that goes wrong is seen
//! there.
#![allow(unsafe_code)] // calls into the driver

use super::api::{self, Failed, check};
use super::architecture::{self, OLDEST, runs_on, wanted};
use super::arguments::{Arg, Geometry, TensorMap};
pub use super::context::Block;
use super::context::{Context, Locked, Module};
use super::cubin;
use super::devices::{self, Properties};
use super::failure;
use super::kernels::{COMPILER, CUBINS, HEADERS, SOURCES};
use super::nvrtc::{KernelSource, Nvrtc};
use super::sys::{Handle, map, status};
use crate::error::{Error, Result};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

/// A loaded kernel.
struct Kernel {
    function: Handle,
    /// Bytes of each parameter.
    parameters: Vec<u32>,
    /// Bytes of static shared memory.
    shared: u32,
}

/// Bytes of page-locked memory that copies to the GPU go through.
const STAGED: usize = 8 << 20;

/// Page-locked memory: a copy out of it is not waited for, so its bytes must stay as they are until the GPU has caught
/// up.
struct Staging {
    memory: Locked,
    used: usize,
}

/// What became of a file of kernels.
enum Loaded {
    /// All of its kernels can be launched.
    All,
    /// The machine code is not for this GPU.
    OtherDevice,
    /// None of them, because one must not run, for this reason.
    Refused(String),
}

/// A GPU with its kernels.
pub struct Driver {
    properties: Properties,
    staging: RefCell<Staging>,
    kernels: HashMap<String, Kernel>,
    /// What the kernels are of.
    modules: Vec<Module>,
    refused: Option<String>,
    /// Opened where machine code is missing.
    compiler: OnceCell<Nvrtc>,
    context: Rc<Context>,
}

impl Driver {
    /// Opens a GPU and loads every kernel for it: the embedded machine code, or what NVRTC makes of the embedded
    /// sources (some seconds).
    pub fn open(index: usize) -> Result<Driver> {
        let api = api::start()?;
        let count = devices::count()?;
        if count == 0 {
            return Err(failure::no_device(&api.place));
        }
        if index >= count {
            return Err(failure::no_such_device(index, count));
        }
        let properties = devices::properties(index)?;
        if properties.capability < OLDEST {
            return Err(failure::old_device(&properties.gpu, properties.capability));
        }
        let fail = |doing: &'static str| {
            let gpu = &properties.gpu;
            move |why: Failed| api.failed(Some(gpu), doing, why)
        };
        let context = Context::open(api, properties.number).map_err(fail(failure::OPEN))?;
        let memory = Locked::new(&context, STAGED).map_err(fail(failure::LOCK))?;
        let staging = RefCell::new(Staging { memory, used: 0 });
        let (kernels, modules, compiler) = (HashMap::new(), Vec::new(), OnceCell::new());
        let mut driver = Driver { properties, staging, kernels, modules, refused: None, compiler, context };
        let architecture = architecture::of_device(driver.properties.capability);
        for file in SOURCES.iter().filter(|file| wanted(file.name, &architecture)) {
            driver.load_file(file)?;
        }
        Ok(driver)
    }

    /// What the GPU is.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// CUDA version of the driver.
    pub fn version(&self) -> i32 {
        self.context.api().version
    }

    /// The compiler that made kernels when the GPU was opened, for want of embedded machine code.
    pub fn compiler(&self) -> Option<&Nvrtc> {
        self.compiler.get()
    }

    /// Why kernels were left out: a gate found that their machine code must not run. Only kernels of one architecture
    /// can have such a fault (`cubin::Kernel::fault`).
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The stream that orders all work, for libraries that launch on it themselves.
    pub fn stream(&self) -> *mut c_void {
        self.context.stream()
    }

    /// Loads a kernel file: its embedded machine code, else what NVRTC makes of it. A device may refuse code of an
    /// older device of its family, and then NVRTC gets its turn too.
    fn load_file(&mut self, file: &KernelSource) -> Result {
        let embedded = embedded(file.name, self.properties.capability, self.version());
        let mut loaded = embedded.map_or(Ok(Loaded::OtherDevice), |code| self.load(file.name, code))?;
        if let Loaded::OtherDevice = loaded {
            loaded = self.compile(file, embedded.is_some())?;
        }
        if let Loaded::Refused(why) = loaded {
            self.refused.get_or_insert(why);
        }
        Ok(())
    }

    /// Loads the kernels of one more file, compiled for this GPU by NVRTC.
    pub fn add(&mut self, file: &KernelSource) -> Result {
        match self.compile(file, false)? {
            Loaded::Refused(why) => Err(Error::Device(format!("{}: {why}", self.properties.gpu))),
            _ => Ok(()),
        }
    }

    /// Compiles a file by NVRTC and loads it; `refused` says that the device did not take the embedded code.
    fn compile(&mut self, file: &KernelSource, refused: bool) -> Result<Loaded> {
        let gpu = &self.properties.gpu;
        let architecture = architecture::of_device(self.properties.capability);
        if self.compiler.get().is_none() {
            let found = Nvrtc::serving(self.version(), Some(&architecture));
            let found = found.map_err(|why| failure::no_kernels(gpu, &architecture, self.version(), refused, &why))?;
            let _ = self.compiler.set(found);
        }
        let Some(nvrtc) = self.compiler.get() else { return Ok(Loaded::OtherDevice) };
        let made = nvrtc.compile(*file, HEADERS, &architecture);
        let made = made.map_err(|why| Error::Device(format!("{gpu}: {} for {architecture}: {why}", file.name)))?;
        match self.load(file.name, &made.cubin)? {
            Loaded::OtherDevice => {
                Err(self.failed(&format!("loading {}", file.name), Failed(status::NO_BINARY_FOR_GPU)))
            }
            loaded => Ok(loaded),
        }
    }

    /// Loads the kernels of a file.
    fn load(&mut self, file: &str, code: &[u8]) -> Result<Loaded> {
        let contents =
            cubin::read(code).map_err(|why| Error::Device(format!("{}: {file}: {why}", self.properties.gpu)))?;
        if let Some((name, why)) = contents.iter().find_map(|kernel| Some((&kernel.name, kernel.fault()?))) {
            return Ok(Loaded::Refused(format!("{file}: {name}: {why}")));
        }
        let fail = |why| self.failed(&format!("loading {file}"), why);
        let module = match Module::new(&self.context, code) {
            Err(Failed(status::NO_BINARY_FOR_GPU)) => return Ok(Loaded::OtherDevice),
            module => module.map_err(fail)?,
        };
        let mut loaded = Vec::new();
        for kernel in contents {
            let dynamic = self.properties.shared.saturating_sub(kernel.shared);
            let function = module.kernel(&kernel.name, i32::try_from(dynamic).unwrap_or(i32::MAX)).map_err(fail)?;
            // the driver knows best; before CUDA 12.4 it does not tell
            let parameters = module.parameters(function).map_err(fail)?.unwrap_or(kernel.parameters);
            loaded.push((kernel.name, Kernel { function, parameters, shared: kernel.shared }));
        }
        self.kernels.extend(loaded);
        self.modules.push(module);
        Ok(Loaded::All)
    }

    /// Bytes of memory that are free, and of all.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.memory().map_err(|why| self.failed("asking for memory", why))
    }

    fn failed(&self, doing: &str, why: Failed) -> Error {
        self.context.api().failed(Some(&self.properties.gpu), doing, why)
    }

    /// Memory of `bytes`, all zero.
    pub fn alloc(&self, bytes: usize) -> Result<Block> {
        Block::new(&self.context, bytes).map_err(|why| match why {
            Failed(status::OUT_OF_MEMORY) => failure::out_of_memory(&self.properties.gpu, bytes, self.memory().ok()),
            _ => self.failed("allocating memory", why),
        })
    }

    /// Copies `host` to `block[at..at + host.len()]`. What fits into page-locked memory is not waited for.
    pub fn write(&self, block: &mut Block, at: usize, host: &[u8]) -> Result {
        if range(block, at, host.len())? == 0 {
            return Ok(());
        }
        let fail = |why| self.failed("a copy to the GPU", why);
        if host.len() > STAGED {
            return block.write(at, host).map_err(fail);
        }
        if self.staging.borrow().used + host.len() > STAGED {
            self.synchronize()?;
        }
        // no copy that the GPU has still to make reads these bytes: `used` goes back to 0 only where it was waited for
        let mut staging = self.staging.borrow_mut();
        let used = staging.used;
        staging.used += host.len().next_multiple_of(256);
        block.write(at, staging.memory.fill(used, host)).map_err(fail)
    }

    /// Copies `block[at..at + host.len()]` to `host`, once all work before it is done.
    pub fn read(&self, block: &Block, at: usize, host: &mut [u8]) -> Result {
        if range(block, at, host.len())? > 0 {
            block.read(at, host).map_err(|why| self.failed("a copy from the GPU", why))?;
        }
        self.synchronize()
    }

    /// Sets `block[at..at + bytes]` to zero.
    pub fn zero(&self, block: &mut Block, at: usize, bytes: usize) -> Result {
        match range(block, at, bytes)? {
            0 => Ok(()),
            _ => block.zero(at, bytes).map_err(|why| self.failed("clearing memory", why)),
        }
    }

    /// Launches a kernel. Number and sizes of the arguments are compared with its parameters, as the driver has them,
    /// or the machine code where the driver does not tell.
    ///
    /// Whether addresses among them are right is for the caller to know, as it is whether the kernel stays within them.
    pub fn launch(&self, kernel: &str, geometry: Geometry, args: &[Arg]) -> Result {
        let refuse = |why: String| Error::Device(format!("{}: kernel {kernel}: {why}", self.properties.gpu));
        let loaded = self.kernels.get(kernel).ok_or_else(|| refuse("there is no such kernel".into()))?;
        let (most, asked) = (self.properties.shared, loaded.shared.saturating_add(geometry.shared));
        if asked > most {
            return Err(refuse(format!("{asked} bytes of shared memory, and the GPU has {most}")));
        }
        let given: Vec<u32> = args.iter().map(|arg| arg.kind().1).collect();
        if given != loaded.parameters {
            return Err(refuse(format!("arguments of {given:?} bytes, and it takes {:?}", loaded.parameters)));
        }
        let mut pointers: Vec<*mut c_void> = args.iter().map(Arg::pointer).collect();
        let launched = self.context.bound().and_then(|cuda| {
            let ([gx, gy, gz], [bx, by, bz]) = (geometry.grid, geometry.block);
            let (function, stream, values) = (loaded.function, self.context.stream(), pointers.as_mut_ptr());
            // SAFETY: a loaded function, and for each of its parameters a pointer to as many bytes as it has, which the
            // driver copies before it returns. On the GPU, kernels of ours work on blocks of ours.
            check(unsafe {
                let none = ptr::null_mut();
                (cuda.cuLaunchKernel)(function, gx, gy, gz, bx, by, bz, geometry.shared, stream, values, none)
            })
        });
        launched.map_err(|why| self.failed(&format!("launching {kernel}"), why))
    }

    /// Describes a bf16 matrix `[rows, columns]` to TMA, in boxes of `[rows, columns]` with rows of 128 bytes,
    /// swizzled.
    pub fn tensor_map(&self, block: &Block, [rows, columns]: [usize; 2], boxes: [u32; 2]) -> Result<TensorMap> {
        range(block, 0, rows * columns * 2)?;
        let mut made = TensorMap([0; 16]);
        let (sizes, strides, extent) = ([columns as u64, rows as u64], [2 * columns as u64], [boxes[1], boxes[0]]);
        let encoded = self.context.bound().and_then(|cuda| {
            // SAFETY: places for a map, two sizes, one stride, two extents and two steps, which the call reads or
            // fills.
            check(unsafe {
                (cuda.cuTensorMapEncodeTiled)(
                    made.0.as_mut_ptr().cast(),
                    map::BFLOAT16,
                    2,
                    block.address() as *mut c_void,
                    sizes.as_ptr(),
                    strides.as_ptr(),
                    extent.as_ptr(),
                    [1, 1].as_ptr(),
                    map::INTERLEAVE_NONE,
                    map::SWIZZLE_128B,
                    map::L2_PROMOTION_128B,
                    map::FILL_NONE,
                )
            })
        });
        encoded.map_err(|why| self.failed("describing a matrix", why))?;
        Ok(made)
    }

    /// Milliseconds that the GPU takes for what `work` asks of it. Waits for it.
    pub fn time(&self, work: impl FnOnce() -> Result) -> Result<f32> {
        let took = self.context.time(work).map_err(|why| self.failed("timing", why))?;
        if took.is_ok() {
            self.staging.borrow_mut().used = 0;
        }
        took
    }

    /// Waits until all work is done.
    pub fn synchronize(&self) -> Result {
        self.context.synchronize().map_err(|why| self.failed("work on the GPU", why))?;
        self.staging.borrow_mut().used = 0;
        Ok(())
    }
}

/// The number of `bytes` from `at` on, which have to be within the block.
fn range(block: &Block, at: usize, bytes: usize) -> Result<usize> {
    match at.checked_add(bytes) {
        Some(end) if end <= block.bytes() => Ok(bytes),
        _ => Err(Error::Device(format!("{bytes} bytes from {at} on are not within a block of {}", block.bytes()))),
    }
}

/// Embedded machine code of a kernel file that runs on a device, by a driver of this CUDA version: the latest
/// architecture's.
pub fn embedded(file: &str, capability: (u32, u32), driver: i32) -> Option<&'static [u8]> {
    let major = COMPILER.map_or(0, |(major, _)| major);
    let fits = |cubin: &&super::kernels::Cubin| cubin.source == file && runs_on(cubin.architecture, capability);
    CUBINS.iter().rfind(fits).filter(|_| major <= driver / 1000).map(|cubin| cubin.code)
}

/// How many kernel files a GPU takes from the binary, and how many NVRTC compiles for it.
pub fn kernel_files(capability: (u32, u32), driver: i32) -> (usize, usize) {
    let architecture = architecture::of_device(capability);
    let wanted = || SOURCES.iter().filter(|source| wanted(source.name, &architecture));
    let embedded = wanted().filter(|source| embedded(source.name, capability, driver).is_some()).count();
    (embedded, wanted().count() - embedded)
}
