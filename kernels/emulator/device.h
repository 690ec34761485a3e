// The C interface: an emulated device with memory of its own, and launches on it. Functions that can fail return 0 for
// success; otherwise they write a sentence to `error`, which holds `size` bytes.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct EyekernDevice;

// A device with `capacity` bytes of memory.
EyekernDevice* eyekern_device_open(uint64_t capacity);
void eyekern_device_close(EyekernDevice*);

// Memory at a multiple of 256, filled with NaN; `*address` receives where.
int eyekern_device_alloc(EyekernDevice*, uint64_t bytes, uint64_t* address, char* error, size_t size);
// The same filled with zeros, in pages that exist once they are touched: for tests of offsets beyond 32 bits.
int eyekern_device_alloc_sparse(EyekernDevice*, uint64_t bytes, uint64_t* address, char* error, size_t size);
int eyekern_device_free(EyekernDevice*, uint64_t address, char* error, size_t size);
int eyekern_device_write(EyekernDevice*, uint64_t to, const void* from, uint64_t bytes, char* error, size_t size);
int eyekern_device_read(EyekernDevice*, void* to, uint64_t from, uint64_t bytes, char* error, size_t size);
int eyekern_device_fill(EyekernDevice*, uint64_t to, uint8_t value, uint64_t bytes, char* error, size_t size);
uint64_t eyekern_device_free_bytes(EyekernDevice*);

// Runs a kernel and waits for it. `arguments` is what cuLaunchKernel takes. `kinds` says for each of `count` arguments
// what the caller passed (p, i, f or s) and `sizes` its bytes: they are compared with the kernel's parameters, unless
// `kinds` is null. Of the columns of the grid, `count` blocks from `first` run: blocks = {first, count}; null for all.
// `seed` 0 is the order of threads as numbered, with asynchronous operations as late as possible; others shuffle.
// `threads` is the number of host threads.
int eyekern_device_launch(EyekernDevice*, const char* kernel, const uint32_t* grid, const uint32_t* block,
                          const uint32_t* blocks, uint32_t shared_bytes, void** arguments, const char* kinds,
                          const uint32_t* sizes, uint32_t count, uint64_t seed, uint32_t threads, char* error,
                          size_t size);

// Describes a row-major matrix in device memory to TMA, as cuTensorMapEncodeTiled does; `map` is 128 bytes.
int eyekern_device_tensor_map(EyekernDevice*, void* map, uint64_t base, uint64_t columns, uint64_t rows,
                              uint64_t row_bytes, uint32_t box_columns, uint32_t box_rows, uint32_t element,
                              uint32_t swizzle, char* error, size_t size);

// The kernels linked in, in alphabetical order; null past the last.
const char* eyekern_kernel_name(uint32_t index);
// Bytes of a kernel's parameter; 0 past the last, and for a kernel that is not linked in.
uint32_t eyekern_kernel_parameter(const char* kernel, uint32_t index);
}
