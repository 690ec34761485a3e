//! What every use of a GPU needs: the driver's context on it, one stream that orders all work, and memory.
#![allow(unsafe_code)] // calls into the driver

use super::api::{Api, Attempt, check};
use super::sys::{self, Handle, attribute};
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::rc::Rc;

/// A device's primary context and a stream in it.
pub struct Context {
    api: &'static Api,
    device: sys::DeviceNumber,
    context: Handle,
    stream: Handle,
    /// Whether memory comes from the driver's pool.
    pools: bool,
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.bind();
        // SAFETY: both came from their constructors, and this is their only owner.
        unsafe {
            if !self.stream.is_null() {
                let _ = (self.api.cuda.cuStreamDestroy_v2)(self.stream);
            }
            let _ = (self.api.cuda.cuDevicePrimaryCtxRelease_v2)(self.device);
        }
    }
}

impl Context {
    /// Retains the context of a device of a started driver.
    pub fn open(api: &'static Api, device: sys::DeviceNumber) -> Attempt<Rc<Context>> {
        let cuda = &api.cuda;
        let pools = api.device_attribute(device, attribute::MEMORY_POOLS_SUPPORTED)? > 0;
        let mut context = ptr::null_mut();
        // SAFETY: a valid place for a handle.
        check(unsafe { (cuda.cuDevicePrimaryCtxRetain)(&mut context, device) })?;
        let mut context = Context { api, device, context, stream: ptr::null_mut(), pools };
        context.bind()?;
        // SAFETY: a bound context and a valid place for a handle.
        check(unsafe { (cuda.cuStreamCreate)(&mut context.stream, sys::STREAM_NON_BLOCKING) })?;
        if pools {
            context.keep_freed_memory()?;
        }
        Ok(Rc::new(context))
    }

    /// Lets the driver's memory pool keep what is freed: it is this process's arena, and later allocations are served
    /// from it without a call into the system.
    fn keep_freed_memory(&self) -> Attempt<()> {
        let (mut pool, mut most) = (ptr::null_mut(), u64::MAX);
        // SAFETY: valid places for a pool and for the attribute's 64 bits.
        unsafe {
            check((self.api.cuda.cuDeviceGetDefaultMemPool)(&mut pool, self.device))?;
            check((self.api.cuda.cuMemPoolSetAttribute)(pool, sys::POOL_RELEASE_THRESHOLD, (&raw mut most).cast()))
        }
    }

    /// The driver's functions, with this context bound to the thread: several GPUs may be open.
    pub fn bound(&self) -> Attempt<&'static sys::Cuda> {
        self.bind()?;
        Ok(&self.api.cuda)
    }

    fn bind(&self) -> Attempt<()> {
        // SAFETY: a live context.
        check(unsafe { (self.api.cuda.cuCtxSetCurrent)(self.context) })
    }

    /// The driver.
    pub fn api(&self) -> &'static Api {
        self.api
    }

    /// The stream that orders all work.
    pub fn stream(&self) -> Handle {
        self.stream
    }

    /// Waits until all work is done.
    pub fn synchronize(&self) -> Attempt<()> {
        // SAFETY: a live stream.
        check(unsafe { (self.bound()?.cuStreamSynchronize)(self.stream) })
    }

    /// Bytes of memory that are free, and of all.
    pub fn memory(&self) -> Attempt<(usize, usize)> {
        let (mut free, mut all) = (0, 0);
        // SAFETY: valid places for two numbers.
        check(unsafe { (self.bound()?.cuMemGetInfo_v2)(&mut free, &mut all) })?;
        Ok((free, all))
    }

    /// Milliseconds of the GPU for what `work` asks of the stream, which is waited for. The outer result is of the
    /// driver.
    pub fn time<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Attempt<Result<f32, E>> {
        let (start, end) = (Event::new(self)?, Event::new(self)?);
        start.record()?;
        if let Err(why) = work() {
            return Ok(Err(why));
        }
        end.record()?;
        self.synchronize()?;
        let mut milliseconds = 0.0;
        // SAFETY: two live events that were recorded and have passed.
        check(unsafe { (self.bound()?.cuEventElapsedTime)(&mut milliseconds, start.event, end.event) })?;
        Ok(Ok(milliseconds))
    }
}

/// A point in the stream's work.
struct Event<'a> {
    context: &'a Context,
    event: Handle,
}

impl Event<'_> {
    fn new(context: &Context) -> Attempt<Event<'_>> {
        let mut event = ptr::null_mut();
        // SAFETY: a valid place for a handle.
        check(unsafe { (context.bound()?.cuEventCreate)(&mut event, 0) })?;
        Ok(Event { context, event })
    }

    fn record(&self) -> Attempt<()> {
        // SAFETY: a live event and a live stream of one context.
        check(unsafe { (self.context.bound()?.cuEventRecord)(self.event, self.context.stream) })
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let Ok(cuda) = self.context.bound() else { return };
        // SAFETY: it came from its constructor, and this is its only owner.
        let _ = unsafe { (cuda.cuEventDestroy_v2)(self.event) };
    }
}

/// Memory of a GPU; freed when dropped.
pub struct Block {
    context: Rc<Context>,
    bytes: usize,
    address: u64,
}

impl Drop for Block {
    fn drop(&mut self) {
        let Ok(cuda) = self.context.bound() else { return };
        // SAFETY: the address came from the allocation of the same kind, and this is its only owner.
        let _ = unsafe {
            if self.context.pools {
                (cuda.cuMemFreeAsync)(self.address, self.context.stream)
            } else {
                // work that is under way may still use it
                let _ = (cuda.cuStreamSynchronize)(self.context.stream);
                (cuda.cuMemFree_v2)(self.address)
            }
        };
    }
}

impl Block {
    /// Memory of `bytes`, all zero.
    pub fn new(context: &Rc<Context>, bytes: usize) -> Attempt<Block> {
        let (cuda, mut address) = (context.bound()?, 0);
        let all = bytes.max(1); // the driver gives no block of no bytes
        // SAFETY: a valid place for an address, and a live stream.
        check(unsafe {
            match context.pools {
                true => (cuda.cuMemAllocAsync)(&mut address, all, context.stream),
                false => (cuda.cuMemAlloc_v2)(&mut address, all),
            }
        })?;
        let block = Block { context: context.clone(), bytes, address };
        block.zero(0, all)?;
        Ok(block)
    }

    /// Its address on the GPU, for a launch.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets bytes that are within it to zero.
    pub(super) fn zero(&self, at: usize, bytes: usize) -> Attempt<()> {
        let context = &self.context;
        // SAFETY: memory of this block, as the caller has checked.
        check(unsafe { (context.bound()?.cuMemsetD8Async)(self.address + at as u64, 0, bytes, context.stream) })
    }

    /// Copies to bytes that are within it. Host memory that is page-locked must stay as it is until the GPU has caught
    /// up.
    pub(super) fn write(&self, at: usize, host: &[u8]) -> Attempt<()> {
        let (context, to) = (&self.context, self.address + at as u64);
        // SAFETY: memory of this block, as the caller has checked, and as many bytes of the host's.
        check(unsafe { (context.bound()?.cuMemcpyHtoDAsync_v2)(to, host.as_ptr().cast(), host.len(), context.stream) })
    }

    /// Starts a copy of bytes that are within it.
    pub(super) fn read(&self, at: usize, host: &mut [u8]) -> Attempt<()> {
        let (context, from) = (&self.context, self.address + at as u64);
        // SAFETY: as above.
        check(unsafe {
            (context.bound()?.cuMemcpyDtoHAsync_v2)(host.as_mut_ptr().cast(), from, host.len(), context.stream)
        })
    }
}

/// Page-locked memory of the host, which the GPU reads while the host goes on. Freed when dropped.
pub(super) struct Locked {
    context: Rc<Context>,
    memory: *mut u8,
    bytes: usize,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let Ok(cuda) = self.context.bound() else { return };
        // SAFETY: it came from cuMemHostAlloc, and this is its only owner.
        let _ = unsafe { (cuda.cuMemFreeHost)(self.memory.cast()) };
    }
}

impl Locked {
    pub fn new(context: &Rc<Context>, bytes: usize) -> Attempt<Locked> {
        let mut memory: *mut c_void = ptr::null_mut();
        // SAFETY: a valid place for a pointer.
        check(unsafe { (context.bound()?.cuMemHostAlloc)(&mut memory, bytes, 0) })?;
        Ok(Locked { context: context.clone(), memory: memory.cast(), bytes })
    }

    /// Fills `at..at + bytes.len()`, which the GPU must not be reading.
    pub fn fill(&mut self, at: usize, bytes: &[u8]) -> &[u8] {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes));
        // SAFETY: within the memory, as just asserted; the two do not overlap.
        unsafe {
            let to = self.memory.add(at);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            std::slice::from_raw_parts(to, bytes.len())
        }
    }
}

/// Machine code on a GPU; unloaded when dropped.
pub(super) struct Module {
    context: Rc<Context>,
    module: Handle,
}

impl Drop for Module {
    fn drop(&mut self) {
        let Ok(cuda) = self.context.bound() else { return };
        // SAFETY: it came from cuModuleLoadData, and this is its only owner.
        let _ = unsafe { (cuda.cuModuleUnload)(self.module) };
    }
}

impl Module {
    /// Loads a cubin, which `super::cubin` has read as whole.
    pub fn new(context: &Rc<Context>, code: &[u8]) -> Attempt<Module> {
        let mut module = ptr::null_mut();
        // SAFETY: a whole ELF file, whose size the driver reads from it.
        check(unsafe { (context.bound()?.cuModuleLoadData)(&mut module, code.as_ptr().cast()) })?;
        Ok(Module { context: context.clone(), module })
    }

    /// A kernel of it, which may have `dynamic` bytes of dynamic shared memory. Valid while the module lives.
    pub fn kernel(&self, name: &str, dynamic: c_int) -> Attempt<Handle> {
        let cuda = self.context.bound()?;
        let name = CString::new(name).unwrap_or_default();
        let mut function = ptr::null_mut();
        // SAFETY: a live module, a name that ends in NUL, and a valid place for a handle.
        unsafe {
            check((cuda.cuModuleGetFunction)(&mut function, self.module, name.as_ptr()))?;
            check((cuda.cuFuncSetAttribute)(function, sys::MAX_DYNAMIC_SHARED, dynamic))?;
        }
        Ok(function)
    }

    /// Bytes of each parameter of a kernel of it; none where the driver does not tell.
    pub fn parameters(&self, function: Handle) -> Attempt<Option<Vec<u32>>> {
        let Some(info) = self.context.bound()?.cuFuncGetParamInfo else { return Ok(None) };
        let mut sizes = Vec::new();
        // far more than a kernel can have: parameters are at most 32,764 bytes
        while sizes.len() < 1 << 15 {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: a live function, and valid places for two numbers.
            match unsafe { info(function, sizes.len(), &mut offset, &mut size) } {
                0 => sizes.push(u32::try_from(size).unwrap_or(u32::MAX)),
                // an index beyond the last
                1 => return Ok(Some(sizes)),
                _ => break,
            }
        }
        Ok(None)
    }
}
