// The instructions that kernels use, for sm_80 and later, with a thin wrapper for each.
//
// This file and sm90.cuh are the only files with inline PTX, and the boundary to the emulator: compiled for the host
// (EYEKERN_EMULATED), the same names come from emulator/emulator.h, without any change to the kernels. Kernels include
// no NVIDIA header, so that NVRTC alone compiles them.
//
// Section names in brackets are those of the PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/#<anchor>.
#pragma once

#if defined(EYEKERN_EMULATED)
#include "emulator/emulator.h"
#else

#if defined(__CUDACC_RTC__) // NVRTC has no <stdint.h>
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif

#define DEVICE __device__ __forceinline__
#define DEVICE_MEMBER DEVICE

// The block's dynamic shared memory. Static arrays are not used, because they would escape the emulator's bounds
// checks.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

// Registers a kernel with the emulator under its name. A kernel is `extern "C" __global__`.
#define EXPORT_KERNEL(name)

// ---- numbers

struct bf16 {
    uint16_t bits;
};

DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
DEVICE uint32_t float_to_bits(float x) { return __float_as_uint(x); }
DEVICE float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

// Rounds to nearest, ties to even; NaN becomes 0x7fff. [data-movement-and-conversion-instructions-cvt]
DEVICE bf16 to_bf16(float x) {
    bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
}

// Two bf16 values in a register, `low` in the lower half as in mma's fragments.
DEVICE uint32_t pack_bf16x2(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

DEVICE float2 unpack_bf16x2(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// 2^x, subnormals flushed; relative error 2^-22. [floating-point-instructions-ex2]
DEVICE float ex2(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// log2 x, subnormals flushed. [floating-point-instructions-lg2]
DEVICE float lg2(float x) {
    float r;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// 1 / sqrt x, subnormals flushed; relative error 2^-22.9. [floating-point-instructions-rsqrt]
DEVICE float rsqrt(float x) {
    float r;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// ---- memory; the emulator checks bounds and alignment of every access through these

// One access of sizeof(T) = 2, 4, 8 or 16 bytes, aligned to its size, in global or shared memory.
template <class T> DEVICE T load(const T* p) { return *p; }
template <class T> DEVICE void store(T* p, T value) { *p = value; }
DEVICE uint4 load_128(const void* p) { return *(const uint4*)p; }
DEVICE void store_128(void* p, uint4 value) { *(uint4*)p = value; }

// Loads from global memory that no thread writes during the launch and that is read once.
// [data-movement-and-conversion-instructions-ld-global-nc]
DEVICE uint4 load_128_streaming(const void* p) {
    uint4 r;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
                 : "l"(__cvta_generic_to_global(p)));
    return r;
}

// A shared address in the form that the instructions below take.
DEVICE uint32_t smem_u32(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// ---- asynchronous copies

// Copies 16 bytes from global to shared memory; without `keep` it writes zeros and does not read `from`.
// [data-movement-and-conversion-instructions-cp-async]
DEVICE void cp_async16(uint32_t to, const void* from, bool keep = true) {
    int bytes = keep ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

// [data-movement-and-conversion-instructions-cp-async-commit-group]
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `Pending` of this thread's groups are in flight. Other threads see the bytes after a barrier.
// [data-movement-and-conversion-instructions-cp-async-wait-group]
template <int Pending> DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- between lanes; all 32 take part [data-movement-and-conversion-instructions-shfl-sync]

template <class T> DEVICE T shfl(T value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
template <class T> DEVICE T shfl_xor(T value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE uint32_t ballot(bool vote) { return __ballot_sync(0xffffffffu, vote); }

// Barrier 1 to 15 among `threads`, a multiple of 32. [parallel-synchronization-and-communication-instructions-bar]
DEVICE void named_barrier_sync(int id, int threads) {
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Arrives without waiting.
DEVICE void named_barrier_arrive(int id, int threads) {
    asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- tensor cores

// Four 8x8 matrices of 16-bit elements; lane 8 i + j names row j of matrix i, 16 bytes.
// [warp-level-matrix-instructions-ldmatrix]
DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

// d [16, 8] += a [16, 16] b [16, 8], sums in f32. With g = lane / 4 and t = 2 (lane % 4):
// a[0] = A[g][t..], a[1] = A[g + 8][t..], a[2] = A[g][t + 8..], a[3] = A[g + 8][t + 8..]; b0 = B[t..][g],
// b1 = B[t + 8..][g]; d[0..2] = D[g][t..], d[2..4] = D[g + 8][t..].
// [warp-level-matrix-fragment-mma-16816-float]
DEVICE void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
