// What a .cu file sees when it is compiled for the host: the CUDA language as far as kernels use it, and the
// instructions of prim.cuh. One fiber per CUDA thread; docs/emulator.md says what is checked.
#pragma once
#include "sanitizer.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

// ---- the language

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static_assert(false, "no __constant__ memory: pass it as an argument");
#define __shared__ static_assert(false, "no static shared memory: use DYNAMIC_SHARED");
#define DEVICE_MEMBER inline __attribute__((always_inline, unused))
#define DEVICE static DEVICE_MEMBER

struct uint3 {
    unsigned x, y, z;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) int2 {
    int x, y;
};
struct __align__(16) int4 {
    int x, y, z, w;
};
struct bf16 {
    uint16_t bits;
};
DEVICE float2 make_float2(float x, float y) { return {x, y}; }
DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
DEVICE uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
DEVICE uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
DEVICE int2 make_int2(int x, int y) { return {x, y}; }
DEVICE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
template <class T> DEVICE T min(T a, T b) { return b < a ? b : a; }
template <class T> DEVICE T max(T a, T b) { return a < b ? b : a; }

// ---- the machine, as seen by one thread

namespace emulator {

// A place in a kernel's source.
struct Site {
    const char* file;
    int line;
};
// The last parameter of every wrapper: where the kernel calls it.
#define CALLER ::emulator::Site at = {__builtin_FILE(), __builtin_LINE()}

struct Thread {
    uint3 index;
    uint32_t linear, lane;
    const char* operation; // the last one, for messages
    Site site;
};

struct Block {
    uint3 index, size, grid;
    unsigned char* shared;
    uint32_t shared_bytes;
};

// __thread, not thread_local: these need no constructor, and access without a wrapper function that would look for one.
extern __thread Thread* current __attribute__((tls_model("initial-exec")));
extern __thread Block block __attribute__((tls_model("initial-exec")));

// Shared addresses do not begin at 0, so that an address that was never set is out of bounds.
constexpr uint32_t SHARED_BASE = 1024;

// Ends the launch with a message; the thread never comes back.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2), cold));
[[noreturn]] void fail_shared(uint32_t address, uint32_t bytes, uint32_t align) __attribute__((cold));

inline void enter(const char* operation, Site at) {
    current->operation = operation;
    current->site = at;
}

// Host address of `bytes` at a shared address.
inline unsigned char* shared(uint32_t address, uint32_t bytes, uint32_t align) {
    uint32_t offset = address - SHARED_BASE;
    if ((address & (align - 1)) || offset > block.shared_bytes || bytes > block.shared_bytes - offset)
        fail_shared(address, bytes, align);
    return block.shared + offset;
}

// Fails unless `bytes` at `p` lie in one allocation of the device (or, `anywhere`, in shared memory) and are aligned.
void check_global(const void* p, uint32_t bytes, uint32_t align);
void check_anywhere(const void* p, uint32_t bytes, uint32_t align);

// All lanes of the warp hand in their operands; the last one runs `execute` on all 32, then all go on.
typedef void (*WarpOperation)(void** operands);
void warp_collective(WarpOperation execute, void* operands);

// Barrier `id`; `threads` of 0 means all threads that have not returned.
void barrier(int id, uint32_t threads, bool wait);

void copy_async(uint32_t to, const void* from, bool keep);
void copy_async_commit();
void copy_async_wait(uint32_t pending);

void move_matrices(void** operands);
void move_matrices_transposed(void** operands);
void multiply_16816(void** operands);

struct MatrixRows {
    const uint16_t* row;
    uint32_t* r;
};
struct Multiply16816 {
    float* d;
    const uint32_t* a;
    uint32_t b0, b1;
};

// ---- kernels by name

struct Parameter {
    char kind; // p pointer, i integer, f floating point, s structure
    uint32_t bytes;
};
struct Kernel {
    const char* name;
    void (*call)(void** arguments); // as cuLaunchKernel takes them: a pointer to each value
    const Parameter* parameters;
    uint32_t count;
};
void enroll(const Kernel& kernel);

template <class T> constexpr Parameter parameter() {
    constexpr char kind = __is_class(T)                      ? 's'
                          : std::is_pointer<T>::value        ? 'p'
                          : std::is_floating_point<T>::value ? 'f'
                                                             : 'i';
    return {kind, sizeof(T)};
}
template <class... A, size_t... I> inline void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <auto kernel> struct Enrolled;
template <class... A, void (*kernel)(A...)> struct Enrolled<kernel> {
    static constexpr Parameter parameters[] = {parameter<A>()..., Parameter{}};
    static void run(void** arguments) { call(kernel, arguments, std::index_sequence_for<A...>{}); }
    explicit Enrolled(const char* name) { enroll({name, run, parameters, sizeof...(A)}); }
};

} // namespace emulator

#define threadIdx (::emulator::current->index)
#define blockIdx (::emulator::block.index)
#define blockDim (::emulator::block.size)
#define gridDim (::emulator::block.grid)
#define DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::block.shared
#define EXPORT_KERNEL(name)                                                                                            \
    namespace {                                                                                                        \
    const ::emulator::Enrolled<&name> enrolled_##name(#name);                                                          \
    }

#include "instructions.h"
