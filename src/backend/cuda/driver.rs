//! The driver: devices, their memory, kernels and launches. This file and `lt.rs` are the ones that use cudarc.
//!
//! cudarc panics where a library or a function of it is missing, so [`start`] looks first. Event tracking is off: one
//! stream orders all work, and events for every buffer and launch would only cost time.
//!
//! Everything here is asynchronous but [`Driver::read`] and [`Driver::synchronize`]; a kernel that goes wrong is seen
//! there.
#![allow(unsafe_code)] // calls into the driver

use super::architecture::{self, OLDEST, runs_on, wanted};
use super::arguments::{Arg, Geometry, TensorMap};
use super::cubin;
use super::failure::{self, Gpu, START};
use super::kernels::{CUBINS, HEADERS, SOURCES};
use super::libraries::{self, DRIVER, Opened};
use super::nvrtc::{KernelSource, Nvrtc};
use crate::error::{Error, Result};
use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

/// Functions of the driver that are called here; cudarc panics over a missing one.
const FUNCTIONS: [&str; 38] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncSetAttribute",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemPoolSetAttribute",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuTensorMapEncodeTiled",
];

/// Starts the driver; its CUDA version as 1000 x major + 10 x minor.
pub fn start() -> Result<i32> {
    let Opened { library, .. } = libraries::open(DRIVER, &[]).map_err(|why| failure::no_driver(&why))?;
    for name in FUNCTIONS {
        // SAFETY: the symbol is looked up and not used.
        if unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err() {
            return Err(failure::no_driver(&format!("{DRIVER} has no {name}")));
        }
    }
    // SAFETY: tries to open libraries, as above.
    if !unsafe { sys::is_culib_present() } {
        return Err(failure::no_driver("its library cannot be opened"));
    }
    let mut version = 0;
    // SAFETY: a valid place for a number; the function is there.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status.result().map_err(|why| failed(None, START, why))?;
    if version < failure::NEEDED.0 {
        return Err(failure::old_driver(version));
    }
    result::init().map_err(|why| failed(None, START, why))?;
    Ok(version)
}

/// How many GPUs a started driver shows.
fn count() -> Result<usize> {
    let count = result::device::get_count().map_err(|why| failed(None, "counting GPUs", why))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What every GPU is, in the driver's order. Empty if there is none.
pub fn devices() -> Result<Vec<Properties>> {
    start()?;
    (0..count()?).map(properties).collect()
}

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct Properties {
    /// Its number and name.
    pub gpu: Gpu,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: usize,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block can have.
    pub shared: u32,
}

fn properties(index: usize) -> Result<Properties> {
    let fail = |why| failed(None, "asking for a GPU", why);
    let device = result::device::get(index as i32).map_err(fail)?;
    let name = result::device::get_name(device).map_err(fail)?;
    let attribute = |attribute| {
        // SAFETY: a device that the driver has just named.
        let value = unsafe { result::device::get_attribute(device, attribute) }.map_err(fail)?;
        Ok::<u32, Error>(u32::try_from(value).unwrap_or(0))
    };
    Ok(Properties {
        gpu: Gpu { index, name },
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }.map_err(fail)?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

/// The driver's words for a failure.
fn failed(gpu: Option<&Gpu>, doing: &str, error: DriverError) -> Error {
    let words = error.error_string().map_or("unknown error".into(), |words| words.to_string_lossy());
    failure::other(gpu, doing, error.0 as u32, &words)
}

/// A loaded kernel.
struct Kernel {
    function: CudaFunction,
    /// Bytes of each parameter.
    parameters: Vec<u32>,
    /// Bytes of static shared memory.
    shared: u32,
}

/// Memory of a GPU; freed when dropped.
pub struct Block {
    memory: CudaSlice<u8>,
    bytes: usize,
    address: u64,
}

impl Block {
    /// Its address on the GPU, for [`Driver::launch`].
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes of page-locked memory that copies to the GPU go through.
const STAGED: usize = 8 << 20;

/// Page-locked memory: a copy out of it is not waited for, so its bytes must stay as they are until the GPU has caught
/// up. Freed when dropped.
struct Staging {
    memory: *mut u8,
    used: usize,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: it came from malloc_host, and this is its only owner.
        let _ = unsafe { result::free_host(self.memory.cast()) };
    }
}

/// A GPU with its kernels.
pub struct Driver {
    properties: Properties,
    staging: RefCell<Staging>,
    kernels: HashMap<String, Kernel>,
    compiled: bool,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Driver {
    /// Opens a GPU and loads every kernel for it: the embedded machine code, or what NVRTC makes of the embedded
    /// sources (some seconds).
    pub fn open(index: usize) -> Result<Driver> {
        start()?;
        let count = count()?;
        if index >= count {
            return Err(failure::no_such_device(index, count));
        }
        let properties = properties(index)?;
        if properties.capability < OLDEST {
            return Err(failure::old_device(&properties.gpu, properties.capability));
        }
        let fail = |why| failed(Some(&properties.gpu), "opening", why);
        let context = CudaContext::new(index).map_err(fail)?;
        // SAFETY: one stream does everything, so nothing has to wait for anything else.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fail)?;
        keep_freed_memory(index).map_err(fail)?;
        // SAFETY: a context is bound; what comes back is freed once, by Staging.
        let memory = unsafe { result::malloc_host(STAGED, 0) }.map_err(fail)?;
        let staging = RefCell::new(Staging { memory: memory.cast(), used: 0 });
        let kernels = HashMap::new();
        let mut driver = Driver { properties, staging, kernels, compiled: false, stream, context };
        for file in SOURCES {
            if let Some(code) = driver.machine_code(file)? {
                driver.load(file.name, &code)?;
            }
        }
        Ok(driver)
    }

    /// What the GPU is.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Whether kernels were compiled when the GPU was opened, for want of embedded machine code.
    pub fn compiled(&self) -> bool {
        self.compiled
    }

    /// The stream that orders all work, for libraries that launch on it themselves.
    pub fn stream(&self) -> *mut c_void {
        self.stream.cu_stream().cast()
    }

    /// Code of a kernel file for this GPU; none if the file is not for it.
    fn machine_code(&mut self, file: &KernelSource) -> Result<Option<Cow<'static, [u8]>>> {
        let architecture = architecture::of_device(self.properties.capability);
        if !wanted(file.name, &architecture) {
            return Ok(None);
        }
        if let Some(code) = embedded(file.name, self.properties.capability) {
            return Ok(Some(code.into()));
        }
        self.compile(file).map(|code| Some(code.into()))
    }

    fn compile(&mut self, file: &KernelSource) -> Result<Vec<u8>> {
        let architecture = architecture::of_device(self.properties.capability);
        let gpu = &self.properties.gpu;
        let nvrtc = Nvrtc::find(None).map_err(|why| failure::no_kernels(gpu, &architecture, &why))?;
        let made = nvrtc.compile(*file, HEADERS, &architecture);
        self.compiled = true;
        let made = made.map_err(|why| Error::Device(format!("{gpu}: {} for {architecture}: {why}", file.name)))?;
        Ok(made.cubin)
    }

    /// Loads the kernels of one more file, compiled for this GPU by NVRTC.
    pub fn add(&mut self, file: &KernelSource) -> Result {
        let code = self.compile(file)?;
        self.load(file.name, &code)
    }

    fn load(&mut self, file: &str, code: &[u8]) -> Result {
        let gpu = &self.properties.gpu;
        let fail = |why| failed(Some(gpu), &format!("loading {file}"), why);
        let contents = cubin::read(code).map_err(|why| Error::Device(format!("{gpu}: {file}: {why}")))?;
        let module = self.context.load_module(Ptx::from_binary(code.to_vec())).map_err(fail)?;
        for kernel in contents {
            let function = module.load_function(&kernel.name).map_err(fail)?;
            let dynamic = self.properties.shared.saturating_sub(kernel.shared);
            let dynamic = i32::try_from(dynamic).unwrap_or(i32::MAX);
            function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic).map_err(fail)?;
            let loaded = Kernel { function, parameters: kernel.parameters, shared: kernel.shared };
            self.kernels.insert(kernel.name, loaded);
        }
        Ok(())
    }

    /// Bytes of memory that are free, and of all.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.mem_get_info().map_err(|why| self.failed("asking for memory", why))
    }

    fn failed(&self, doing: &str, error: DriverError) -> Error {
        failed(Some(&self.properties.gpu), doing, error)
    }

    /// Memory of `bytes`, all zero.
    pub fn alloc(&self, bytes: usize) -> Result<Block> {
        // SAFETY: it is set to zero below, before anyone can read it; the driver gives no block of no bytes.
        let memory = unsafe { self.stream.alloc::<u8>(bytes.max(1)) };
        let mut memory = memory.map_err(|why| match why.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                failure::out_of_memory(&self.properties.gpu, bytes, self.memory().ok())
            }
            _ => self.failed("allocating memory", why),
        })?;
        self.stream.memset_zeros(&mut memory).map_err(|why| self.failed("clearing memory", why))?;
        let address = memory.device_ptr(&self.stream).0;
        Ok(Block { memory, bytes, address })
    }

    /// Copies `host` to `block[at..at + host.len()]`. What fits into page-locked memory is not waited for.
    pub fn write(&self, block: &mut Block, at: usize, host: &[u8]) -> Result {
        let range = self.range(block, at, host.len())?;
        if range.is_empty() {
            return Ok(());
        }
        let mut part = block.memory.slice_mut(range);
        let copied = if host.len() > STAGED {
            self.stream.memcpy_htod(host, &mut part)
        } else {
            if self.staging.borrow().used + host.len() > STAGED {
                self.synchronize()?;
            }
            let mut staging = self.staging.borrow_mut();
            // SAFETY: `used + host.len()` bytes are within the memory, and no copy that the GPU has still to make reads
            // these: `used` goes back to 0 only where it has been waited for.
            let staged = unsafe {
                let to = staging.memory.add(staging.used);
                ptr::copy_nonoverlapping(host.as_ptr(), to, host.len());
                std::slice::from_raw_parts(to, host.len())
            };
            staging.used += host.len().next_multiple_of(256);
            self.stream.memcpy_htod(staged, &mut part)
        };
        copied.map_err(|why| self.failed("a copy to the GPU", why))
    }

    /// Copies `block[at..at + host.len()]` to `host`, once all work before it is done.
    pub fn read(&self, block: &Block, at: usize, host: &mut [u8]) -> Result {
        let part = block.memory.slice(self.range(block, at, host.len())?);
        self.stream.memcpy_dtoh(&part, host).map_err(|why| self.failed("a copy from the GPU", why))?;
        self.synchronize()
    }

    /// Sets `block[at..at + bytes]` to zero.
    pub fn zero(&self, block: &mut Block, at: usize, bytes: usize) -> Result {
        let range = self.range(block, at, bytes)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut part = block.memory.slice_mut(range);
        self.stream.memset_zeros(&mut part).map_err(|why| self.failed("clearing memory", why))
    }

    fn range(&self, block: &Block, at: usize, bytes: usize) -> Result<std::ops::Range<usize>> {
        match at.checked_add(bytes) {
            Some(end) if end <= block.bytes => Ok(at..end),
            _ => Err(Error::Device(format!("{bytes} bytes from {at} on are not within a block of {}", block.bytes))),
        }
    }

    /// Launches a kernel. Number and sizes of the arguments are compared with its parameters, as the machine code has
    /// them.
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
        self.context.bind_to_thread().map_err(|why| self.failed("a launch", why))?;
        let [grid, block] = [geometry.grid, geometry.block].map(|[x, y, z]| (x, y, z));
        // SAFETY: a loaded function, and for each of its parameters a pointer to as many bytes as it has, which the
        // driver copies before it returns. On the GPU, kernels of ours work on blocks of ours.
        let launched = unsafe {
            let (function, stream) = (loaded.function.cu_function(), self.stream.cu_stream());
            result::launch_kernel(function, grid, block, geometry.shared, stream, &mut pointers)
        };
        launched.map_err(|why| self.failed(&format!("launching {kernel}"), why))
    }

    /// Describes a bf16 matrix `[rows, columns]` to TMA, in boxes of `[rows, columns]` with rows of 128 bytes,
    /// swizzled.
    pub fn tensor_map(&self, block: &Block, [rows, columns]: [usize; 2], boxes: [u32; 2]) -> Result<TensorMap> {
        self.range(block, 0, rows * columns * 2)?;
        let mut map = MaybeUninit::zeroed();
        let (sizes, strides, extent) = ([columns as u64, rows as u64], [2 * columns as u64], [boxes[1], boxes[0]]);
        // SAFETY: places for a map, two sizes, one stride, two extents and two steps, which the call reads or fills.
        let made = unsafe {
            sys::cuTensorMapEncodeTiled(
                map.as_mut_ptr(),
                sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                block.address as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                extent.as_ptr(),
                [1, 1].as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        made.result().map_err(|why| self.failed("describing a matrix", why))?;
        // SAFETY: zeroed, and filled by the call.
        Ok(TensorMap(unsafe { map.assume_init() }.opaque))
    }

    /// Milliseconds that the GPU takes for what `work` asks of it. Waits for it.
    pub fn time(&self, work: impl FnOnce() -> Result) -> Result<f32> {
        let fail = |why| self.failed("timing", why);
        let event = || self.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(fail);
        let (start, end) = (event()?, event()?);
        start.record(&self.stream).map_err(fail)?;
        work()?;
        end.record(&self.stream).map_err(fail)?;
        self.synchronize()?;
        start.elapsed_ms(&end).map_err(fail)
    }

    /// Waits until all work is done.
    pub fn synchronize(&self) -> Result {
        self.stream.synchronize().map_err(|why| self.failed("work on the GPU", why))?;
        self.staging.borrow_mut().used = 0;
        Ok(())
    }
}

/// Lets the driver's memory pool keep what is freed: it is this process's arena, and later allocations are served from
/// it without a call into the system.
fn keep_freed_memory(index: usize) -> std::result::Result<(), DriverError> {
    use sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as THRESHOLD;
    let device = result::device::get(index as i32)?;
    let mut pool = ptr::null_mut();
    let mut most = u64::MAX;
    // SAFETY: a device of the driver's, valid places for a pool and for the attribute's 64 bits; the functions are
    // there.
    unsafe {
        if result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? == 0 {
            return Ok(());
        }
        sys::cuDeviceGetDefaultMemPool(&mut pool, device).result()?;
        sys::cuMemPoolSetAttribute(pool, THRESHOLD, (&raw mut most).cast()).result()
    }
}

/// Embedded machine code of a kernel file that runs on a device: the latest architecture's.
pub fn embedded(file: &str, capability: (u32, u32)) -> Option<&'static [u8]> {
    let fits = |cubin: &&super::kernels::Cubin| cubin.source == file && runs_on(cubin.architecture, capability);
    CUBINS.iter().rfind(fits).map(|cubin| cubin.code)
}
