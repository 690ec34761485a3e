//! The emulated device: the kernels' own source, run on the host. `docs/emulator.md` says what it checks.

#![allow(unsafe_code)] // the C interface of kernels/emulator/device.h

use super::{Arg, Geometry, TensorMap};
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

unsafe extern "C" {
    fn eyekern_device_open(capacity: u64) -> *mut c_void;
    fn eyekern_device_close(device: *mut c_void);
    fn eyekern_device_free_bytes(device: *mut c_void) -> u64;
    fn eyekern_device_alloc(device: *mut c_void, bytes: u64, address: *mut u64, e: *mut c_char, n: usize) -> c_int;
    fn eyekern_device_alloc_sparse(d: *mut c_void, bytes: u64, address: *mut u64, e: *mut c_char, n: usize) -> c_int;
    fn eyekern_device_free(device: *mut c_void, address: u64, e: *mut c_char, n: usize) -> c_int;
    fn eyekern_device_write(
        d: *mut c_void, to: u64, from: *const c_void, bytes: u64, e: *mut c_char, n: usize,
    ) -> c_int;
    fn eyekern_device_read(d: *mut c_void, to: *mut c_void, from: u64, bytes: u64, e: *mut c_char, n: usize) -> c_int;
    fn eyekern_device_fill(d: *mut c_void, to: u64, value: u8, bytes: u64, e: *mut c_char, n: usize) -> c_int;
    fn eyekern_device_launch(
        device: *mut c_void, kernel: *const c_char, grid: *const u32, block: *const u32, blocks: *const u32,
        shared: u32, arguments: *mut *mut c_void, kinds: *const u8, sizes: *const u32, count: u32, seed: u64,
        threads: u32, e: *mut c_char, n: usize,
    ) -> c_int;
    fn eyekern_device_tensor_map(
        device: *mut c_void, map: *mut TensorMap, base: u64, columns: u64, rows: u64, row_bytes: u64, box_columns: u32,
        box_rows: u32, element: u32, swizzle: u32, e: *mut c_char, n: usize,
    ) -> c_int;
    fn eyekern_kernel_name(index: u32) -> *const c_char;
}

/// In what order the threads of a block run, and on how many host threads its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// 0: threads as they are numbered, and asynchronous operations as late as possible. Others: random orders.
    pub seed: u64,
    /// Host threads, each with one block at a time.
    pub threads: u32,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { seed: 0, threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u32) }
    }
}

/// Which blocks of a grid run, along x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

struct Device(NonNull<c_void>);

// SAFETY: every function of the C interface takes the device's own lock.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the handle came from eyekern_device_open, and this is its only owner.
        unsafe { eyekern_device_close(self.0.as_ptr()) }
    }
}

/// Calls `f` with room for a message; a status other than 0 becomes an error with it.
fn call(f: impl FnOnce(*mut c_char, usize) -> c_int) -> Result {
    let mut text = [0u8; 2048];
    if f(text.as_mut_ptr().cast(), text.len()) == 0 {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    Err(Error::Device(text.to_string_lossy().into_owned()))
}

/// An emulated device. Clones share its memory.
#[derive(Clone)]
pub struct Emulator {
    device: Arc<Device>,
    schedule: Schedule,
}

impl Emulator {
    /// A device with `capacity` bytes of memory.
    pub fn new(capacity: u64, schedule: Schedule) -> Emulator {
        // SAFETY: no preconditions.
        let device = unsafe { eyekern_device_open(capacity) };
        Emulator { device: Arc::new(Device(NonNull::new(device).expect("never null"))), schedule }
    }

    /// The same device with another schedule.
    pub fn scheduled(&self, schedule: Schedule) -> Emulator {
        Emulator { device: self.device.clone(), schedule }
    }

    /// The names of all kernels, test kernels included.
    pub fn kernels() -> Vec<String> {
        // SAFETY: no preconditions; the names are static.
        let name = |i| unsafe { eyekern_kernel_name(i) };
        let names = (0..).map(name).take_while(|p| !p.is_null());
        // SAFETY: checked for null; the names are string literals.
        names.map(|p| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()).collect()
    }

    /// Bytes that can still be allocated.
    pub fn free_bytes(&self) -> u64 {
        // SAFETY: the device is open.
        unsafe { eyekern_device_free_bytes(self.device.0.as_ptr()) }
    }

    /// `len` elements of new memory, filled with NaN (all bits set). Fails when the device is full.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<Memory<T>> {
        let mut address = 0;
        let bytes = (len * size_of::<T>()) as u64;
        // SAFETY: the device is open, `address` and the message are written within their bounds.
        call(|e, n| unsafe { eyekern_device_alloc(self.device.0.as_ptr(), bytes, &mut address, e, n) })?;
        Ok(Memory { device: self.device.clone(), address, len, elements: PhantomData })
    }

    /// `bytes` zeros in pages that exist once they are touched, so that tests of large offsets need little memory.
    pub fn alloc_sparse(&self, bytes: usize) -> Result<Memory<u8>> {
        let mut address = 0;
        let device = self.device.0.as_ptr();
        // SAFETY: as in `alloc`.
        call(|e, n| unsafe { eyekern_device_alloc_sparse(device, bytes as u64, &mut address, e, n) })?;
        Ok(Memory { device: self.device.clone(), address, len: bytes, elements: PhantomData })
    }

    /// New memory with a copy of `values`.
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Memory<T>> {
        let mut memory = self.alloc(values.len())?;
        memory.write(values)?;
        Ok(memory)
    }

    /// Describes `rows` x `columns` elements at an address to TMA, in boxes of `box_rows` x `box_columns`; `swizzle` is
    /// 0 or 128. Fails where `cuTensorMapEncodeTiled` does, or where the matrix reaches beyond the memory.
    pub fn tensor_map<T: Pod>(
        &self, address: u64, [rows, columns]: [usize; 2], [box_rows, box_columns]: [u32; 2], swizzle: u32,
    ) -> Result<TensorMap> {
        let mut map = TensorMap([0; 16]);
        let element = size_of::<T>() as u32;
        let row_bytes = columns as u64 * u64::from(element);
        let (columns, rows) = (columns as u64, rows as u64);
        call(|e, n| {
            let device = self.device.0.as_ptr();
            // SAFETY: the device is open; `map` has the 128 bytes that are written.
            unsafe {
                eyekern_device_tensor_map(
                    device,
                    &mut map,
                    address,
                    columns,
                    rows,
                    row_bytes,
                    box_columns,
                    box_rows,
                    element,
                    swizzle,
                    e,
                    n,
                )
            }
        })?;
        Ok(map)
    }

    /// Runs a kernel and waits for it. What the emulator finds wrong is the error's text; the device stays usable.
    ///
    /// # Safety
    /// The emulator checks the number, kinds and sizes of `args`, that addresses lie in this device's memory, and every
    /// access that goes through a wrapper of prim.cuh. A kernel's plain accesses are ordinary C++: for these geometry
    /// and arguments they must stay inside the memory that the arguments name, and that memory must not be freed
    /// meanwhile.
    pub unsafe fn launch(&self, kernel: &str, geometry: Geometry, args: &[Arg]) -> Result {
        // SAFETY: the caller's promise
        unsafe { self.launch_blocks(kernel, geometry, args, Blocks { first: 0, count: geometry.grid[0] }) }
    }

    /// As [`Emulator::launch`], for some of the blocks along x: a look at the far end of a launch that would take
    /// hours.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn launch_blocks(&self, kernel: &str, geometry: Geometry, args: &[Arg], blocks: Blocks) -> Result {
        let name = CString::new(kernel).map_err(|_| Error::Device("a kernel's name has no NUL".into()))?;
        let mut pointers: Vec<_> = args.iter().map(Arg::pointer).collect();
        let (kinds, sizes): (Vec<u8>, Vec<u32>) = args.iter().map(Arg::kind).unzip();
        call(|e, n| {
            // SAFETY: pointers, kinds and sizes have `args.len()` entries, each pointer names a value of that size
            // which the kernel only reads; the rest is the caller's promise.
            unsafe {
                eyekern_device_launch(
                    self.device.0.as_ptr(),
                    name.as_ptr(),
                    geometry.grid.as_ptr(),
                    geometry.block.as_ptr(),
                    [blocks.first, blocks.count].as_ptr(),
                    geometry.shared,
                    pointers.as_mut_ptr(),
                    kinds.as_ptr(),
                    sizes.as_ptr(),
                    args.len() as u32,
                    self.schedule.seed,
                    self.schedule.threads,
                    e,
                    n,
                )
            }
        })
    }
}

/// Memory of an emulated device, freed when dropped.
pub struct Memory<T> {
    device: Arc<Device>,
    address: u64,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Pod> Memory<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: memory has at least one element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Where it begins, as a kernel's argument.
    pub fn arg(&self) -> Arg {
        Arg::Address(self.address)
    }

    /// The address of element `i`, as a kernel's argument.
    pub fn at(&self, i: usize) -> Arg {
        Arg::Address(self.address + (i * size_of::<T>()) as u64)
    }

    /// Copies `values` to the first elements. Fails if they are more than there are.
    pub fn write(&mut self, values: &[T]) -> Result {
        self.write_at(0, values)
    }

    /// Copies `values` to the elements from `first`. Fails if they are more than there are.
    pub fn write_at(&mut self, first: usize, values: &[T]) -> Result {
        let (to, bytes) = (self.address + (first * size_of::<T>()) as u64, size_of_val(values) as u64);
        let from = values.as_ptr().cast();
        // SAFETY: `values` has that many bytes; the device checks its own side.
        call(|e, n| unsafe { eyekern_device_write(self.device.0.as_ptr(), to, from, bytes, e, n) })
    }

    /// Sets every byte.
    pub fn fill(&mut self, value: u8) -> Result {
        let bytes = (self.len * size_of::<T>()) as u64;
        // SAFETY: the device is open and checks the range.
        call(|e, n| unsafe { eyekern_device_fill(self.device.0.as_ptr(), self.address, value, bytes, e, n) })
    }

    /// A copy of all elements.
    pub fn read(&self) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); self.len];
        self.read_at(0, &mut values)?;
        Ok(values)
    }

    /// Copies the elements from `first` to `values`. Fails if they are more than there are.
    pub fn read_at(&self, first: usize, values: &mut [T]) -> Result {
        let (from, bytes) = (self.address + (first * size_of::<T>()) as u64, size_of_val(values) as u64);
        let to = values.as_mut_ptr().cast();
        // SAFETY: `values` has that many bytes, of any pattern; the device checks its own side.
        call(|e, n| unsafe { eyekern_device_read(self.device.0.as_ptr(), to, from, bytes, e, n) })
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        let _freed = call(|e, n| {
            // SAFETY: the address came from this device and is freed once.
            unsafe { eyekern_device_free(self.device.0.as_ptr(), self.address, e, n) }
        });
        debug_assert!(_freed.is_ok());
    }
}
